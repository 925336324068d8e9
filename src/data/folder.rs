//! Pictures as files: one folder per class, or one flat folder without labels.

use std::path::{Path, PathBuf};

use image::RgbImage;

use crate::data::decode::decode_file;
use crate::data::source::ImageSource;
use crate::error::{Error, Result};

/// Endings of the formats that the decoder reads.
const ENDINGS: [&str; 13] = ["jpg", "jpeg", "png", "bmp", "gif", "webp", "tif", "tiff", "ppm", "pgm", "pbm", "pnm", "jfif"];

/// Folders in a class folder are followed this deep; a link that leads back to itself ends there.
const DEPTH: usize = 16;

/// Files with labels, decoded on access.
pub(crate) struct Files {
    pub(crate) origin: String,
    pub(crate) classes: Vec<String>,
    pub(crate) files: Vec<(PathBuf, Option<usize>)>,
}

impl ImageSource for Files {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, i: usize) -> Option<usize> {
        self.files.get(i).and_then(|(_, label)| *label)
    }

    fn name(&self, i: usize) -> String {
        self.files.get(i).map(|(path, _)| path.display().to_string()).unwrap_or_default()
    }

    fn image(&self, i: usize) -> Result<RgbImage> {
        match self.files.get(i) {
            Some((path, _)) => decode_file(path),
            None => Err(Error::Usage(format!("{}: picture {i} of {} was asked for", self.origin, self.files.len()))),
        }
    }

    fn origin(&self) -> String {
        self.origin.clone()
    }
}

/// What stands directly in a folder, sorted by name; hidden entries are left out.
pub(crate) struct Listing {
    pub(crate) folders: Vec<PathBuf>,
    pub(crate) pictures: Vec<PathBuf>,
    pub(crate) others: Vec<PathBuf>,
}

pub(crate) fn list(folder: &Path) -> Result<Listing> {
    let mut paths = std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>())
        .map_err(|e| Error::io(folder, e))?;
    paths.retain(|path| !file_name(path).starts_with('.') && file_name(path) != "__MACOSX");
    paths.sort();
    let (folders, files): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| path.is_dir());
    let (pictures, others) = files.into_iter().partition(|path| is_picture(path));
    Ok(Listing { folders, pictures, others })
}

pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn is_picture(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

/// One folder per class, in the order of their names; the class name is the folder's name as it is. Pictures may lie deeper.
pub(crate) fn class_folders(root: &Path, listing: Listing) -> Result<Files> {
    let mut source = Files { origin: root.display().to_string(), classes: Vec::new(), files: Vec::new() };
    if let Some(stray) = listing.pictures.first() {
        return Err(Error::Data(format!(
            "{}: holds {} pictures ({}, …) beside {} class folders: move each into the folder of its class",
            root.display(),
            listing.pictures.len(),
            file_name(stray),
            listing.folders.len()
        )));
    }
    for (label, folder) in listing.folders.iter().enumerate() {
        let mut pictures = Vec::new();
        collect(folder, DEPTH, &mut pictures)?;
        if pictures.is_empty() {
            let known = ENDINGS.join(", ");
            let text = format!("{}: this class folder holds no pictures ({known}): fill it or remove it", folder.display());
            return Err(Error::Data(text));
        }
        source.classes.push(file_name(folder));
        source.files.extend(pictures.into_iter().map(|path| (path, Some(label))));
    }
    Ok(source)
}

fn collect(folder: &Path, depth: usize, pictures: &mut Vec<PathBuf>) -> Result<()> {
    let listing = list(folder)?;
    pictures.extend(listing.pictures);
    if depth > 0 {
        listing.folders.iter().try_for_each(|folder| collect(folder, depth - 1, pictures))?;
    }
    Ok(())
}

/// Pictures side by side, without labels.
pub(crate) fn flat(root: &Path, pictures: Vec<PathBuf>) -> Files {
    let files = pictures.into_iter().map(|path| (path, None)).collect();
    Files { origin: root.display().to_string(), classes: Vec::new(), files }
}

/// True where pictures lie in a folder or anywhere below it.
pub(crate) fn holds_pictures(folder: &Path) -> bool {
    let mut pictures = Vec::new();
    collect(folder, DEPTH, &mut pictures).is_ok() && !pictures.is_empty()
}
