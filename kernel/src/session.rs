//! One notebook's build folder: its cells are compiled there, against the library that all share.

use std::fs;
use std::io::Result;
use std::path::{Path, PathBuf};

use crate::layout::Layout;

/// Removed when dropped.
pub struct Session {
    pub folder: PathBuf,
}

impl Session {
    pub fn new(layout: &Layout) -> Result<Self> {
        let sessions = layout.sessions();
        fs::create_dir_all(&sessions)?;
        remove_dead(&sessions);
        let folder = sessions.join(std::process::id().to_string());
        let _ = fs::remove_dir_all(&folder); // of a process with our number, long gone
        fs::create_dir(&folder)?;
        Ok(Self { folder })
    }

    /// The cell's process connects here.
    pub fn socket(&self) -> PathBuf {
        // a socket's path must be short: about 100 bytes
        std::env::temp_dir().join(format!("lafter-kernel-{}.sock", std::process::id()))
    }

    pub fn remove(&self) {
        let _ = fs::remove_dir_all(&self.folder);
        let _ = fs::remove_file(self.socket());
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A kernel that was killed left its folder behind.
fn remove_dead(sessions: &Path) {
    for entry in fs::read_dir(sessions).into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // SAFETY: signal 0 only asks whether the process is there.
        if unsafe { libc::kill(pid, 0) } != 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_its_own_that_goes_with_it_and_takes_the_dead_along() {
        let data = std::env::temp_dir().join(format!("lafter-kernel-test-{}", std::process::id()));
        let layout = Layout { data: data.clone() };
        fs::create_dir_all(layout.sessions().join("999999999")).unwrap();
        let session = Session::new(&layout).unwrap();
        assert!(session.folder.is_dir() && !layout.sessions().join("999999999").exists());
        drop(session);
        assert_eq!(fs::read_dir(layout.sessions()).unwrap().count(), 0);
        fs::remove_dir_all(data).unwrap();
    }
}
