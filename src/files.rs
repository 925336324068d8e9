//! Files: written whole or not at all; text read as UTF-8; tensors as safetensors.

mod safetensors;
mod save_tensors;
mod signed;
mod version;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// How names of files begin that are not yet whole.
const HALF_WRITTEN: &str = ".lafter-";
pub use safetensors::read_tensors;
pub(crate) use safetensors::{Safetensors, Sink};
pub use save_tensors::save_tensors;
pub(crate) use signed::{is_unedited, signed};
pub(crate) use version::{fnv, version};

/// Writes a file through a temporary one in the same directory, which takes its place only when it is complete: on a
/// full disk, or any other failure, the old file stays as it was and nothing half-written is left. Folders above `path`
/// are made. Where `path` is a link, the file is written that it leads to.
///
/// # Errors
/// [`Error::Io`] with the path; [`Error::Usage`] if it is a device or a pipe.
pub fn replace_file(path: impl AsRef<Path>, write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> Result<()> {
    let new = NewFile::begin(path.as_ref())?;
    let mut writer = BufWriter::new(new.file());
    write(&mut writer).and_then(|()| writer.flush()).map_err(|e| Error::io(&new.path, e))?;
    drop(writer);
    new.finish()
}

/// A temporary file that takes the place of another when it is whole; dropped before, it is gone.
pub(crate) struct NewFile {
    path: PathBuf,
    temporary: NamedTempFile,
}

impl NewFile {
    /// In the folder of `path`, which is created if it is missing, or of what that leads to.
    pub(crate) fn begin(path: &Path) -> Result<Self> {
        let path = target(path)?;
        Ok(Self { temporary: temporary_next_to(&path)?, path })
    }

    pub(crate) fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// Gives the file its name, once the disk has all of it.
    pub(crate) fn finish(self) -> Result<()> {
        let Self { path, temporary } = self;
        temporary.as_file().sync_all().map_err(|e| Error::io(&path, e))?;
        temporary.persist(&path).map_err(|e| Error::io(&path, e.error))?;
        Ok(())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temporary.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.flush()
    }
}

/// The file that is to be written where a path is given: what a link leads to. A device or a pipe is not replaced by a file.
fn target(path: &Path) -> Result<PathBuf> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() && !found.is_dir() => {
            Err(Error::Usage(format!("{} is a device or a pipe, and a file is written: name a file", path.display())))
        }
        Ok(_) if path.is_symlink() => path.canonicalize().map_err(|e| Error::io(path, e)),
        _ => Ok(path.to_path_buf()),
    }
}

/// SHA-256 of a file's content, which may be larger than the memory.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn sha256_of(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let mut sha = Sha256::new();
    File::open(path).and_then(|mut file| io::copy(&mut file, &mut sha)).map_err(|e| Error::io(path, e))?;
    Ok(format!("{:x}", sha.finalize()))
}

/// A temporary file in the folder of `path`, which is created if it is missing; `persist` gives it that path.
fn temporary_next_to(path: &Path) -> Result<NamedTempFile> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).map_err(|e| Error::io(directory, e))?;
    let prefix = half_written_prefix(path);
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666)); // less the umask, as for any other file
    }
    builder.tempfile_in(directory).map_err(|e| Error::io(path, e))
}

/// How the name begins of a file that is being written and will be called `path`: another for each name.
fn half_written_prefix(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!("{HALF_WRITTEN}{:.8}-", format!("{:x}", Sha256::digest(name.as_bytes())))
}

/// True for the name of a file that is being written, or was when its process was killed.
pub(crate) fn is_half_written(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(HALF_WRITTEN) && name.ends_with(".tmp"))
}

/// Removes what killed processes left that wrote `path`. Nobody else may be writing it.
pub(crate) fn remove_half_written(path: &Path) {
    let Ok(path) = target(path) else { return };
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let prefix = half_written_prefix(&path);
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if is_half_written(&name) && name.to_str().is_some_and(|name| name.starts_with(&prefix)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Whether an open file is the one that stands at the path.
#[cfg(unix)]
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let same = |file: std::fs::Metadata, at: std::fs::Metadata| (file.dev(), file.ino()) == (at.dev(), at.ino());
    file.metadata().ok().zip(std::fs::metadata(path).ok()).is_some_and(|(file, at)| same(file, at))
}

#[cfg(not(unix))]
pub(crate) fn is_at(_: &File, _: &Path) -> bool {
    true // a file that is open stays there
}

/// A UTF-8 file without its byte-order mark. Lines may end as on any system: also with a carriage return alone.
///
/// # Errors
/// [`Error::Io`] with the path; [`Error::Text`] if it is not UTF-8, with the place.
pub fn read_text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        Error::Text(format!("{}: byte {} is not UTF-8: save the file as UTF-8", path.display(), e.utf8_error().valid_up_to()))
    })?;
    let text = text.strip_prefix('\u{feff}').map(str::to_string).unwrap_or(text);
    Ok(if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text })
}

/// [`replace_file`] with bytes that are in memory.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn save_atomically(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    replace_file(path, |file| file.write_all(bytes))
}

/// [`save_atomically`] for a name that is to be new; `false` if something stands there, which is left as it is.
///
/// # Errors
/// [`Error::Io`] with the path.
pub(crate) fn save_new(path: &Path, bytes: &[u8]) -> Result<bool> {
    let is_taken = |e: &io::Error| e.kind() == io::ErrorKind::AlreadyExists;
    let mut temporary = temporary_next_to(path)?;
    temporary.write_all(bytes).and_then(|()| temporary.as_file().sync_all()).map_err(|e| Error::io(path, e))?;
    match temporary.persist_noclobber(path) {
        Ok(_) => Ok(true),
        Err(e) if is_taken(&e.error) => Ok(false),
        // a file system on which no name can be taken in one step with its content
        Err(_) => match File::create_new(path) {
            Ok(mut file) => file.write_all(bytes).and_then(|()| file.sync_all()).map(|()| true).map_err(|e| {
                let _ = std::fs::remove_file(path);
                Error::io(path, e)
            }),
            Err(e) if is_taken(&e) => Ok(false),
            Err(e) => Err(Error::io(path, e)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn what_killed_processes_left_of_one_file_goes() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one.json"), folder.path().join("other.json"));
        for path in [&one, &other] {
            temporary_next_to(path).unwrap().keep().unwrap();
        }
        remove_half_written(&one);
        let left = names(folder.path());
        assert!(left.len() == 1 && is_half_written(OsStr::new(&left[0])), "{left:?}");
        remove_half_written(&other);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("saved");
        save_atomically(&path, b"older").unwrap();
        save_atomically(&path, b"old").unwrap();
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let error = replace_file(&path, |file| file.write_all(b"half").and_then(|()| Err(full()))).unwrap_err();
        assert_eq!(error.to_string().lines().count(), 1);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["saved"]);
    }

    #[test]
    #[cfg(unix)]
    fn what_a_link_leads_to_is_written_and_no_device_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("deep/file"), folder.path().join("latest"));
        save_atomically(&file, b"old").unwrap();
        std::os::unix::fs::symlink("deep/file", &link).unwrap();
        save_atomically(&link, b"new").unwrap();
        assert_eq!((std::fs::read(&file).unwrap(), link.is_symlink()), (b"new".to_vec(), true));
        let error = save_atomically("/dev/null", b"x").unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("device"), "{error}");
    }

    #[test]
    fn lines_end_as_on_any_system() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("names.txt");
        for ends in ["\u{feff}house\r\nfish\r\n", "house\rfish\r", "house\nfish\n"] {
            std::fs::write(&path, ends).unwrap();
            assert_eq!(read_text(&path).unwrap(), "house\nfish\n");
        }
    }

    #[test]
    fn folders_are_made_and_one_in_the_way_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        save_atomically(folder.path().join("new/deep/report.json"), b"x").unwrap();
        assert_eq!(names(&folder.path().join("new/deep")), ["report.json"]);
        // the rename fails after everything was written
        let error = save_atomically(folder.path().join("new"), b"x").unwrap_err();
        assert!(error.to_string().contains("new") && error.to_string().lines().count() == 1);
        assert_eq!(names(folder.path()), ["new"], "nothing else is left");
        save_atomically(folder.path().join("file"), b"x").unwrap();
        assert!(save_atomically(folder.path().join("file/below"), b"x").is_err());
    }
}
