//! One notebook's build folder: its cells are compiled there, against the library that all share.

use std::fs::{self, DirBuilder, File};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::layout::Layout;
use crate::seed;

/// The longest folder of a socket: the path of one holds 107 bytes on Linux.
const SOCKET_FOLDER: usize = 90;

/// How the names of those folders begin, with our number behind it; that of the folder in a user's cache.
const SOCKETS: &str = "lafter-kernel";
/// The file of a folder that its kernel holds locked.
const ALIVE: &str = "alive";
/// So long a folder may be without one.
const YOUNG: Duration = Duration::from_secs(60);

/// Removed when dropped.
pub struct Session {
    pub folder: PathBuf,
    pub layout: Layout,
    /// Locked while the session lives, whatever number its process has for others: they may live in another container.
    _alive: [File; 2],
    /// Holds the socket, and nobody else may enter it.
    sockets: PathBuf,
}

impl Session {
    pub fn new(layout: &Layout) -> Result<Self> {
        let (folder, alive) = build_folder(layout, user_cache)?;
        let (sockets, also) = private_folder()?;
        Ok(Self { folder, layout: layout.clone(), _alive: [alive, also], sockets })
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

/// A folder in the data folder, or in the user's cache where that may not be written in.
fn build_folder(layout: &Layout, cache: impl FnOnce() -> Result<PathBuf>) -> Result<(PathBuf, File)> {
    let below = |sessions: &Path| {
        fs::create_dir_all(sessions)?;
        remove_dead(sessions);
        own_folder(sessions, "")
    };
    match below(&layout.sessions()) {
        Err(e) if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => below(&in_cache(&cache()?)?),
        made => made,
    }
}

fn user_cache() -> Result<PathBuf> {
    let given = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    given.or_else(|| Some(std::env::home_dir()?.join(".cache"))).ok_or_else(|| Error::other("HOME is not set"))
}

/// Where sessions are in a user's cache, below Cargo's settings as in the data folder: nobody else may write there.
fn in_cache(cache: &Path) -> Result<PathBuf> {
    let ours = cache.join(SOCKETS);
    DirBuilder::new().recursive(true).mode(0o700).create(&ours)?;
    let made = fs::metadata(&ours)?;
    // SAFETY: a plain system call.
    if made.uid() != unsafe { libc::geteuid() } || made.mode() & 0o022 != 0 {
        return Err(Error::other(format!("others may write in {}: set XDG_CACHE_HOME to a folder of yours", ours.display())));
    }
    let config = ours.join(".cargo/config.toml");
    if !fs::read_to_string(&config).is_ok_and(|text| text == seed::CONFIG) {
        fs::create_dir_all(ours.join(".cargo"))?;
        fs::write(config, seed::CONFIG)?;
    }
    Ok(ours.join("sessions"))
}

/// A folder for the socket, in `XDG_RUNTIME_DIR` or the system's temporary folder.
fn private_folder() -> Result<(PathBuf, File)> {
    let mut failure = ErrorKind::NotFound.into();
    for base in bases() {
        match own_folder(&base, &format!("{SOCKETS}-")) {
            Ok(made) => return Ok(made),
            Err(e) => failure = e,
        }
    }
    Err(failure)
}

fn bases() -> Vec<PathBuf> {
    let short = |path: &PathBuf| path.is_dir() && path.as_os_str().as_bytes().len() < SOCKET_FOLDER - 40;
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(short);
    let mut bases: Vec<PathBuf> = runtime.into_iter().chain([std::env::temp_dir()].into_iter().filter(short)).collect();
    bases.push("/tmp".into());
    bases.dedup();
    bases
}

/// A folder that did not exist before, for us alone, named after our number, with its locked file.
fn own_folder(base: &Path, begin: &str) -> Result<(PathBuf, File)> {
    for attempt in 0..1000 {
        let folder = base.join(format!("{begin}{}-{attempt}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => {
                // under its name once it is locked: others take one that is not for that of a killed kernel
                let new = folder.join("new");
                let alive = File::create(&new)?;
                match alive.lock() {
                    // then nobody can tell that its kernel is gone, and it stays
                    Err(e) if e.kind() == ErrorKind::Unsupported || e.raw_os_error() == Some(libc::ENOLCK) => {}
                    locked => locked?,
                }
                fs::rename(new, folder.join(ALIVE))?;
                return Ok((folder, alive));
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// Removes the folders that killed kernels left, of sessions and of sockets: nobody holds their lock.
pub fn remove_dead(sessions: &Path) -> usize {
    // other programs have folders beside the sockets'
    let ours = |folder: &Path| {
        folder.file_name().is_some_and(|name| name.as_bytes().starts_with(SOCKETS.as_bytes())) && folder.join(ALIVE).is_file()
    };
    remove_dead_in(sessions, |_| true) + bases().iter().map(|base| remove_dead_in(base, ours)).sum::<usize>()
}

fn remove_dead_in(base: &Path, ours: impl Fn(&Path) -> bool) -> usize {
    let entries = fs::read_dir(base).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|folder| ours(folder) && is_dead(folder) && fs::remove_dir_all(folder).is_ok()).count()
}

/// A folder that is a moment old may be about to have its locked file.
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
        let (first, lock) = private_folder().unwrap();
        drop(UnixListener::bind(first.join("cell.sock")).unwrap()); // its file stays, as after a kill
        let (second, _lock) = private_folder().unwrap();
        assert_ne!(first, second);
        assert_eq!(fs::metadata(&second).unwrap().permissions().mode() & 0o777, 0o700);
        UnixListener::bind(second.join("cell.sock")).unwrap();
        let none = Path::new("/no/sessions");
        remove_dead(none);
        assert!(first.is_dir() && second.is_dir(), "their kernels live");
        drop(lock);
        remove_dead(none);
        assert!(!first.exists() && second.is_dir());
        fs::remove_dir_all(second).unwrap();
    }

    #[test]
    fn who_may_not_write_in_the_data_folder_has_sessions_of_their_own() {
        use std::os::unix::fs::PermissionsExt;
        let cache = std::env::temp_dir().join(format!("lafter-kernel-cache-{}", std::process::id()));
        let layout = Layout { data: "/sys/lafter-kernel".into() }; // nobody may write there
        let made = build_folder(&layout, || Ok(cache.clone())).unwrap().0;
        assert_eq!(made.parent(), Some(&*cache.join("lafter-kernel/sessions")));
        assert_eq!(fs::read_to_string(cache.join("lafter-kernel/.cargo/config.toml")).unwrap(), seed::CONFIG);
        fs::set_permissions(cache.join("lafter-kernel"), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(in_cache(&cache).unwrap_err().to_string().contains("XDG_CACHE_HOME"));
        fs::remove_dir_all(cache).unwrap();
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
        assert_eq!(remove_dead_in(&sessions, |_| true), 1, "ours is alive, that of before is young");
        fs::remove_dir(sessions.join("3-0")).unwrap();
        let socket = session.socket();
        assert!(socket.parent().unwrap().is_dir());
        drop(session);
        assert!(!socket.parent().unwrap().exists());
        assert_eq!(fs::read_dir(layout.sessions()).unwrap().count(), 0);
        fs::remove_dir_all(data).unwrap();
    }
}
