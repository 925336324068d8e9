//! One notebook's build folder: a copy of the seed whose large files are hard links.

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
        let session = Self { folder };
        copy(&layout.seed(), &session.folder)?;
        Ok(session)
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

/// Compiled dependencies are never written again, only replaced: a link to them is safe. All else Cargo may write in place.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, target) = (entry.file_name(), to.join(entry.file_name()));
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            if name != "incremental" && !name.starts_with("ctx-") {
                copy(&entry.path(), &target)?;
            }
        } else if is_final(&name) && fs::hard_link(entry.path(), &target).is_ok() {
        } else if !name.starts_with("libctx") && !name.starts_with("libcode_") {
            copy_file(&entry.path(), &target)?;
        }
    }
    Ok(())
}

fn is_final(name: &str) -> bool {
    let ours = name.starts_with("libctx") || name.starts_with("libcode_");
    !ours && [".rlib", ".rmeta", ".so", ".dylib", ".a", ".o"].iter().any(|ending| name.ends_with(ending))
}

/// Cargo compares times: the copy keeps the original's.
fn copy_file(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)?;
    fs::File::options().write(true).open(to)?.set_modified(fs::metadata(from)?.modified()?)
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
    fn large_files_are_shared_small_ones_copied_cells_left_out() {
        let data = std::env::temp_dir().join(format!("lafter-kernel-test-{}", std::process::id()));
        let layout = Layout { data: data.clone() };
        let seed = layout.seed().join("target/debug");
        fs::create_dir_all(seed.join("deps")).unwrap();
        fs::create_dir_all(seed.join(".fingerprint/ctx-12")).unwrap();
        fs::write(seed.join("deps/libfoo-1.rlib"), "compiled").unwrap();
        fs::write(seed.join("deps/libctx.so"), "cell").unwrap();
        fs::write(seed.join("deps/foo-1.d"), "list").unwrap();
        fs::create_dir_all(layout.sessions().join("999999999")).unwrap();
        let session = Session::new(&layout).unwrap();
        let copied = session.folder.join("target/debug");
        fs::write(copied.join("deps/foo-1.d"), "changed").unwrap();
        assert_eq!(fs::read_to_string(seed.join("deps/foo-1.d")).unwrap(), "list");
        assert!(copied.join("deps/libfoo-1.rlib").is_file() && !copied.join("deps/libctx.so").exists());
        assert!(!copied.join(".fingerprint/ctx-12").exists() && !layout.sessions().join("999999999").exists());
        use std::os::unix::fs::MetadataExt;
        assert_eq!(fs::metadata(seed.join("deps/libfoo-1.rlib")).unwrap().nlink(), 2);
        drop(session);
        assert_eq!(fs::read_dir(layout.sessions()).unwrap().count(), 0);
        fs::remove_dir_all(data).unwrap();
    }
}
