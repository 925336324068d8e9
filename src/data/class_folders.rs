//! A folder with a folder for each class: class names, and files with their labels.

use std::ffi::OsStr;
use std::fs::DirEntry;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Endings of the formats that `image` reads.
const ENDINGS: [&str; 18] =
    ["jpg", "jpeg", "jpe", "jfif", "pjpeg", "pjp", "png", "apng", "bmp", "dib", "gif", "webp", "tif", "tiff", "ppm", "pgm", "pbm", "pnm"];

/// Folders that systems make; those that begin with a dot are left out, too.
const SYSTEM: [&str; 7] = ["__MACOSX", "lost+found", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "__pycache__"];

/// A class-per-folder data set: the class name is the folder's name as it is, pictures may lie deeper.
///
/// ```
/// use lafter::data::ClassFolders;
/// # let root = tempfile::tempdir()?;
/// # for class in ["river", "forest"] {
/// #     std::fs::create_dir(root.path().join(class))?;
/// #     image::RgbImage::new(4, 4).save(root.path().join(class).join("a.png"))?;
/// # }
/// let set = ClassFolders::read(root.path())?;
/// assert_eq!(set.classes, ["forest", "river"]);
/// let (path, label) = &set.files[1];
/// assert_eq!((*label, image::open(path)?.into_rgb8().dimensions()), (1, (4, 4)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassFolders {
    /// Class names, in label order: sorted by name, or by number if all are numbers.
    pub classes: Vec<String>,
    /// Pictures with their labels, class after class.
    pub files: Vec<(PathBuf, usize)>,
    /// Folders without a picture: they are not classes.
    pub empty: Vec<PathBuf>,
    /// Files in the class folders that are not pictures, by their endings.
    pub others: Vec<PathBuf>,
}

impl ClassFolders {
    /// Lists the folders in `root`; no picture is opened.
    ///
    /// # Errors
    /// If a folder cannot be read; the message names it.
    pub fn read(root: impl AsRef<Path>) -> io::Result<Self> {
        let root = root.as_ref();
        Self::of(&list(root).map_err(|error| at(root, error))?.folders)
    }

    /// Lists these class folders.
    pub(crate) fn of(folders: &[PathBuf]) -> io::Result<Self> {
        let mut set = Self::default();
        for folder in folders {
            let mut pictures = Vec::new();
            below(folder, &mut pictures, &mut set.others)?;
            if pictures.is_empty() {
                set.empty.push(folder.clone());
                continue;
            }
            let label = set.classes.len();
            set.classes.push(file_name(folder));
            set.files.extend(pictures.into_iter().map(|path| (path, label)));
        }
        Ok(set)
    }
}

/// The pictures in a folder and below it, folder after folder, and the other files.
pub(crate) fn below(folder: &Path, pictures: &mut Vec<PathBuf>, others: &mut Vec<PathBuf>) -> io::Result<()> {
    let listing = list(folder).map_err(|error| at(folder, error))?;
    pictures.extend(listing.pictures);
    others.extend(listing.others);
    listing.folders.iter().try_for_each(|folder| below(folder, pictures, others))
}

fn at(folder: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", folder.display()))
}

/// What stands directly in a folder, sorted by name, folders that are all numbers by number; hidden entries are left out.
#[derive(Default)]
pub(crate) struct Listing {
    pub(crate) folders: Vec<PathBuf>,
    pub(crate) pictures: Vec<PathBuf>,
    pub(crate) others: Vec<PathBuf>,
}

pub(crate) fn list(folder: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if is_hidden(&path) {
            continue;
        }
        match kind(&entry, folder) {
            Kind::Folder => listing.folders.push(path),
            Kind::File if is_picture(&path) => listing.pictures.push(path),
            Kind::File => listing.others.push(path),
            Kind::Neither => {}
        }
    }
    let Listing { folders, pictures, others } = &mut listing;
    [&mut *folders, pictures, others].into_iter().for_each(|paths| paths.sort());
    if folders.iter().all(|folder| number(folder).is_some()) {
        folders.sort_by_key(|folder| number(folder));
    }
    Ok(listing)
}

/// The number that a folder is called, of at most six digits.
fn number(folder: &Path) -> Option<usize> {
    let name = file_name(folder);
    let digits = (1..=6).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| name.parse().ok()).flatten()
}

pub(crate) enum Kind {
    Folder,
    File,
    /// A pipe, a socket, a device, a link to a folder that holds it.
    Neither,
}

/// Without asking the file system again, but for links that are not called as pictures: they are followed.
pub(crate) fn kind(entry: &DirEntry, folder: &Path) -> Kind {
    match entry.file_type() {
        Ok(kind) if kind.is_dir() => Kind::Folder,
        // a link that is called as a picture is one, or is told when it is read
        Ok(kind) if kind.is_symlink() && is_picture_ending(&ending(&entry.path())) => Kind::File,
        Ok(kind) if kind.is_symlink() => match std::fs::metadata(entry.path()) {
            Ok(at) if at.is_dir() && leads_back(&entry.path(), folder) => Kind::Neither,
            Ok(at) if at.is_dir() => Kind::Folder,
            Ok(at) if !at.is_file() => Kind::Neither,
            _ => Kind::File,
        },
        Ok(kind) if !kind.is_file() => Kind::Neither,
        _ => Kind::File,
    }
}

/// True for a link in a folder that leads to that folder or to one above it: its pictures would be taken again and again.
fn leads_back(link: &Path, folder: &Path) -> bool {
    let Ok(target) = link.canonicalize() else { return false };
    folder.ancestors().filter_map(|above| above.canonicalize().ok()).any(|above| above == target)
        || folder.canonicalize().is_ok_and(|folder| folder.starts_with(&target))
}

pub(crate) fn is_hidden(path: &Path) -> bool {
    let name = file_name(path);
    name.starts_with('.') || SYSTEM.contains(&name.as_str())
}

pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The ending in lower case, without the dot; empty if there is none.
pub(crate) fn ending(path: &Path) -> String {
    path.extension().map(OsStr::to_string_lossy).map(|ending| ending.to_lowercase()).unwrap_or_default()
}

/// By its ending; a file without one by its first bytes.
pub(crate) fn is_picture(path: &Path) -> bool {
    match ending(path).as_str() {
        "" => {
            let mut first = [0; 32];
            let read = std::fs::File::open(path).and_then(|mut file| file.read(&mut first)).unwrap_or(0);
            image::guess_format(&first[..read]).is_ok_and(|format| format.reading_enabled())
        }
        ending => is_picture_ending(ending),
    }
}

/// True for the endings, in lower case, of the formats that are read.
pub(crate) fn is_picture_ending(ending: &str) -> bool {
    ENDINGS.contains(&ending)
}
