//! One notebook's build folder: its cells are compiled there, against the library that all share.

use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Result};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::layout::Layout;

/// The longest folder of a socket: the path of one holds 107 bytes on Linux.
const SOCKET_FOLDER: usize = 90;

/// The file of a session that its kernel holds locked.
const ALIVE: &str = "alive";
/// So long a folder may be without one.
const YOUNG: Duration = Duration::from_secs(60);

/// Removed when dropped.
pub struct Session {
    pub folder: PathBuf,
    pub layout: Layout,
    /// Locked while the session lives, whatever number its process has for others: they may live in another container.
    _alive: File,
    /// Holds the socket, and nobody else may enter it.
    sockets: PathBuf,
}

impl Session {
    pub fn new(layout: &Layout) -> Result<Self> {
        let sessions = layout.sessions();
        fs::create_dir_all(&sessions)?;
        remove_dead(&sessions);
        let (folder, alive) = own_folder(&sessions)?;
        Ok(Self { folder, layout: layout.clone(), _alive: alive, sockets: private_folder()? })
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

/// A folder that did not exist before, named after our number, with its locked file.
fn own_folder(sessions: &Path) -> Result<(PathBuf, File)> {
    for attempt in 0..1000 {
        let folder = sessions.join(format!("{}-{attempt}", std::process::id()));
        match fs::create_dir(&folder) {
            Ok(()) => {
                let alive = File::create(folder.join(ALIVE))?;
                alive.lock()?;
                return Ok((folder, alive));
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// Folders that killed kernels left: nobody holds their lock. A folder that is a moment old may be about to be locked.
pub fn remove_dead(sessions: &Path) -> usize {
    let entries = fs::read_dir(sessions).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|folder| is_dead(folder) && fs::remove_dir_all(folder).is_ok()).count()
}

fn is_dead(folder: &Path) -> bool {
    let young = || folder.metadata().and_then(|made| made.modified()).is_ok_and(|at| at.elapsed().is_ok_and(|age| age < YOUNG));
    match File::open(folder.join(ALIVE)) {
        Ok(alive) => alive.try_lock().is_ok(),
        Err(_) => folder.is_dir() && !young(),
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
        let sessions = layout.sessions();
        let left = |name: &str| {
            fs::create_dir_all(sessions.join(name)).unwrap();
            File::create(sessions.join(name).join(ALIVE)).unwrap()
        };
        drop(left("1-0")); // of a kernel that was killed; its number lives on as another program
        let other = left("2-0"); // in a container of its own
        other.lock().unwrap();
        fs::create_dir_all(sessions.join("3-0")).unwrap(); // about to be locked
        let session = Session::new(&layout).unwrap();
        assert!(session.folder.is_dir() && !sessions.join("1-0").exists());
        assert!(sessions.join("2-0").is_dir() && sessions.join("3-0").is_dir());
        drop(other);
        assert_eq!(remove_dead(&sessions), 1, "ours is alive, that of before is young");
        fs::remove_dir(sessions.join("3-0")).unwrap();
        let socket = session.socket();
        assert!(socket.parent().unwrap().is_dir());
        drop(session);
        assert!(!socket.parent().unwrap().exists());
        assert_eq!(fs::read_dir(layout.sessions()).unwrap().count(), 0);
        fs::remove_dir_all(data).unwrap();
    }
}
