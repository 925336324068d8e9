//! Pictures as files: one folder per class, or one flat folder without labels.

use std::path::{Path, PathBuf};

use image::RgbImage;

use super::class_folders::{self, ClassFolders, Kind, is_hidden, kind};
pub(crate) use super::class_folders::{Listing, ending, file_name, is_picture};
use crate::data::decode::decode_file;
use crate::data::findings::Findings;
use crate::data::paths::Paths;
use crate::data::slow::Slow;
use crate::data::source::ImageSource;
use crate::error::{Error, Result, path_text};
use crate::files::{fnv, version};
use crate::progress::Event;

/// Endings of pictures that the decoder does not read.
const OTHER_PICTURES: [&str; 22] = [
    "heic", "heif", "avif", "jxl", "jp2", "j2k", "jpx", "svg", "psd", "xcf", "eps", "pdf", "raw", "dng", "cr2", "cr3", "nef", "arw", "orf",
    "rw2", "tga", "exr",
];

/// The folder of the program's own results.
const OUTPUT: &str = "lafter-out";

/// Files with labels, decoded on access.
pub(crate) struct Files {
    pub(crate) origin: String,
    /// The folder that all of them lie in.
    pub(crate) root: PathBuf,
    pub(crate) classes: Vec<String>,
    pub(crate) files: Paths,
}

impl ImageSource for Files {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, i: usize) -> Option<usize> {
        self.files.label(i)
    }

    fn name(&self, i: usize) -> String {
        self.files.path(i).map(|path| path_text(&path)).unwrap_or_default()
    }

    fn file(&self, i: usize) -> Option<PathBuf> {
        self.files.path(i)
    }

    fn image(&self, i: usize) -> Result<RgbImage> {
        match self.files.path(i) {
            Some(path) => decode_file(&path),
            None => Err(Error::Usage(format!("{}: picture {i} of {} was asked for", self.origin, self.files.len()))),
        }
    }

    fn origin(&self) -> String {
        self.origin.clone()
    }

    /// The file's name below the root and its size.
    fn stamp(&self, i: usize) -> u64 {
        let Some(path) = self.files.path(i) else { return 0 };
        let size = std::fs::metadata(&path).map_or(0, |file| file.len());
        let name = path.strip_prefix(&self.root).unwrap_or(&path).to_string_lossy();
        fnv(name.as_bytes()) ^ size.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn version(&self, i: usize) -> u64 {
        self.files.path(i).map_or(0, |path| version(&path).max(1)) // that of a file that is not there is known, too
    }
}

/// What stands directly in a folder.
pub(crate) fn list(folder: &Path) -> Result<Listing> {
    class_folders::list(folder).map_err(|e| Error::io(folder, e))
}

/// Lies in a folder whose pictures are links and copies that answers were sorted by.
pub(crate) const SORTED: &str = ".lafter-sorted";

/// Takes the folder out that commands write to where no other is named, and those that pictures were sorted into, and says so.
pub(crate) fn without_output(mut listing: Listing, found: &mut Findings) -> Listing {
    listing.folders.retain(|folder| {
        let own = file_name(folder) == OUTPUT || folder.join(SORTED).exists();
        if own {
            found.notices.push(format!("{}: holds what this program wrote: left out", folder.display()));
        }
        !own
    });
    listing
}

/// What a folder holds, as far as a look into it tells: it ends at the first picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// Pictures, directly.
    Pictures,
    /// Pictures in folders below.
    Below,
    /// Parquet files, directly or below.
    Parquet,
    Nothing,
}

pub(crate) fn holds(folder: &Path) -> Holds {
    look(folder, true)
}

/// The same without regard to Parquet files.
pub(crate) fn holds_pictures(folder: &Path) -> Holds {
    look(folder, false)
}

fn look(folder: &Path, parquet: bool) -> Holds {
    let Ok(entries) = std::fs::read_dir(folder) else { return Holds::Nothing };
    let (mut folders, mut found) = (Vec::new(), Holds::Nothing);
    for entry in entries.flatten() {
        let path = entry.path();
        match kind(&entry, folder) {
            _ if is_hidden(&path) => {}
            Kind::Folder => folders.push(path),
            Kind::File if is_picture(&path) => return Holds::Pictures,
            Kind::File if parquet && ending(&path) == "parquet" => found = Holds::Parquet,
            Kind::File | Kind::Neither => {}
        }
    }
    if found != Holds::Nothing {
        return found;
    }
    for folder in &folders {
        match look(folder, parquet) {
            Holds::Pictures | Holds::Below => return Holds::Below,
            Holds::Parquet => found = Holds::Parquet,
            Holds::Nothing => {}
        }
    }
    found
}

/// One folder per class, in the order of [`list`]; the class name is the folder's name as it is. Pictures may lie deeper.
///
/// If labels are not needed, an empty class folder is left out with a notice; else it is an error.
pub(crate) fn class_folders(
    root: &Path,
    folders: &[PathBuf],
    labeled: bool,
    found: &mut Findings,
    events: &mut dyn FnMut(&Event),
) -> Result<Files> {
    let (mut set, mut files, mut slow) =
        (ClassFolders::default(), Paths::default(), Slow::new(events, "listing pictures", folders.len(), "folders"));
    for (done, folder) in folders.iter().enumerate() {
        // one at a time: a million paths as they are listed would take much memory
        let one = ClassFolders::of(std::slice::from_ref(folder)).map_err(|e| Error::io(root, e))?;
        files.extend(one.files.into_iter().map(|(path, _)| (path, Some(set.classes.len()))));
        set.classes.extend(one.classes);
        set.empty.extend(one.empty);
        set.others.extend(one.others);
        slow.done(done + 1)?;
    }
    if let (true, Some(empty)) = (labeled, set.empty.first()) {
        let mut others = Findings::default();
        count(&set.others.iter().filter(|file| file.starts_with(empty)).cloned().collect::<Vec<_>>(), &mut others);
        let others = others.left_out_by_ending();
        let others = others.map_or(String::new(), |others| format!(", but {others} (convert pictures to PNG or JPEG)"));
        let text = format!("{}: this class folder holds no pictures{others}: fill it or remove it", empty.display());
        return Err(Error::Data(text));
    }
    found.notices.extend(set.empty.iter().map(|folder| format!("{}: holds no pictures: left out", folder.display())));
    count(&set.others, found);
    note_other_pictures(found);
    Ok(Files { origin: root.display().to_string(), root: root.to_path_buf(), classes: set.classes, files })
}

/// The pictures in a folder and below it, folder after folder; other files are counted.
fn collect(folder: &Path, pictures: &mut Vec<PathBuf>, found: &mut Findings) -> Result<()> {
    let mut others = Vec::new();
    class_folders::below(folder, pictures, &mut others).map_err(|e| Error::io(folder, e))?;
    count(&others, found);
    Ok(())
}

/// The pictures in folders and below them.
pub(crate) fn below(folders: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let (mut pictures, mut found) = (Vec::new(), Findings::default());
    folders.iter().try_for_each(|folder| collect(folder, &mut pictures, &mut found))?;
    Ok(pictures)
}

/// Counts files that are left out, by ending.
pub(crate) fn count(others: &[PathBuf], found: &mut Findings) {
    others.iter().for_each(|file| *found.left_out.entry(ending(file)).or_insert(0) += 1);
}

/// Says what to do about pictures of other formats.
fn note_other_pictures(found: &mut Findings) {
    let endings: Vec<(&String, &usize)> = found.left_out.iter().filter(|(ending, _)| OTHER_PICTURES.contains(&ending.as_str())).collect();
    let number: usize = endings.iter().map(|(_, number)| **number).sum();
    if number > 0 {
        let endings: Vec<String> = endings.iter().map(|(ending, _)| format!(".{ending}")).collect();
        let text =
            format!("{number} pictures of kinds that are not read ({}) are left out: convert them to PNG or JPEG", endings.join(", "));
        found.notices.push(text);
    }
}

/// Pictures without labels: those in the folder and, where `deep`, below it.
pub(crate) fn unlabeled(root: &Path, listing: Listing, deep: bool, found: &mut Findings) -> Result<Files> {
    let mut pictures = listing.pictures;
    count(&listing.others, found);
    if deep {
        listing.folders.iter().try_for_each(|folder| collect(folder, &mut pictures, found))?;
    }
    note_other_pictures(found);
    let files = pictures.into_iter().map(|path| (path, None)).collect();
    Ok(Files { origin: root.display().to_string(), root: root.to_path_buf(), classes: Vec::new(), files })
}

/// All pictures in a folder and below it, in the order of their names, and what was left out.
///
/// # Errors
/// [`Error::Io`] if a folder cannot be read; [`Error::Data`] if there are no pictures in it.
pub fn pictures_in(folder: impl AsRef<Path>) -> Result<(Vec<PathBuf>, Findings)> {
    let (folder, mut found) = (folder.as_ref(), Findings::default());
    let listing = without_output(list(folder)?, &mut found);
    let files = unlabeled(folder, listing, true, &mut found)?;
    let pictures: Vec<PathBuf> = (0..files.files.len()).filter_map(|i| files.files.path(i)).collect();
    if pictures.is_empty() {
        let others = found.left_out_by_ending().map_or(String::new(), |others| format!(", but {others}"));
        return Err(Error::Data(format!("{}: this folder holds no pictures{others}: name another", folder.display())));
    }
    Ok((pictures, found))
}
