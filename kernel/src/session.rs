//! One notebook's build folder: its cells are compiled there, against the library that all share.

use std::fs::{self, DirBuilder};
use std::io::{ErrorKind, Result};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::layout::Layout;

/// The longest folder of a socket: the path of one holds 107 bytes on Linux.
const SOCKET_FOLDER: usize = 90;

/// Removed when dropped.
pub struct Session {
    pub folder: PathBuf,
    /// Holds the socket, and nobody else may enter it.
    sockets: PathBuf,
}

impl Session {
    pub fn new(layout: &Layout) -> Result<Self> {
        let sessions = layout.sessions();
        fs::create_dir_all(&sessions)?;
        remove_dead(&sessions);
        let folder = sessions.join(std::process::id().to_string());
        let _ = fs::remove_dir_all(&folder); // of a process with our number, long gone
        fs::create_dir(&folder)?;
        Ok(Self { folder, sockets: private_folder()? })
    }

    /// The cell's process connects here.
    pub fn socket(&self) -> PathBuf {
        self.sockets.join("cell.sock")
    }

    pub fn remove(&self) {
        let _ = fs::remove_dir_all(&self.folder);
        let _ = fs::remove_dir_all(&self.sockets);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A folder that did not exist before, for us alone, in `XDG_RUNTIME_DIR` or the system's temporary folder. What a killed
/// kernel left there stays: in a container our number may be its number, and it may live in another container.
fn private_folder() -> Result<PathBuf> {
    let short = |path: &PathBuf| path.is_dir() && path.as_os_str().as_bytes().len() < SOCKET_FOLDER - 40;
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(short);
    let mut bases: Vec<PathBuf> = runtime.into_iter().chain([std::env::temp_dir()].into_iter().filter(short)).collect();
    bases.push("/tmp".into());
    let mut failure = None;
    for base in bases {
        for attempt in 0..1000 {
            let folder = base.join(format!("lafter-kernel-{}-{attempt}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => return Ok(folder),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => {
                    failure = Some(e);
                    break;
                }
            }
        }
    }
    Err(failure.unwrap_or_else(|| ErrorKind::AlreadyExists.into()))
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
    fn a_socket_in_a_folder_of_its_own_whatever_was_left_there() {
        use std::os::unix::fs::PermissionsExt;
        use std::os::unix::net::UnixListener;
        let first = private_folder().unwrap();
        drop(UnixListener::bind(first.join("cell.sock")).unwrap()); // its file stays, as after a kill
        let second = private_folder().unwrap();
        assert_ne!(first, second);
        assert_eq!(fs::metadata(&second).unwrap().permissions().mode() & 0o777, 0o700);
        UnixListener::bind(second.join("cell.sock")).unwrap();
        fs::remove_dir_all(first).unwrap();
        fs::remove_dir_all(second).unwrap();
    }

    #[test]
    fn a_folder_of_its_own_that_goes_with_it_and_takes_the_dead_along() {
        let data = std::env::temp_dir().join(format!("lafter-kernel-test-{}", std::process::id()));
        let layout = Layout { data: data.clone() };
        fs::create_dir_all(layout.sessions().join("999999999")).unwrap();
        let session = Session::new(&layout).unwrap();
        assert!(session.folder.is_dir() && !layout.sessions().join("999999999").exists());
        let socket = session.socket();
        assert!(socket.parent().unwrap().is_dir());
        drop(session);
        assert!(!socket.parent().unwrap().exists());
        assert_eq!(fs::read_dir(layout.sessions()).unwrap().count(), 0);
        fs::remove_dir_all(data).unwrap();
    }
}
