//! What to do about a folder that is no data set.

use std::path::{Path, PathBuf};

use super::files::is_parquet;
use crate::data::folder::{self, Listing, ending, file_name};
use crate::data::parquet::{instead_of_predictions, is_predictions};
use crate::error::Error;

pub(super) fn nothing_recognized(path: &Path, listing: &Listing) -> Error {
    let Listing { folders, others, .. } = listing;
    let below = folders.iter().filter_map(|folder| folder::list(folder).ok()).flat_map(|listing| listing.others);
    let files: Vec<PathBuf> = others.iter().cloned().chain(below).collect();
    if let Some(file) = files.iter().find(|file| ending(file) == "arrow") {
        return Error::Data(arrow(file));
    }
    if let Some(table) = files.iter().find(|file| is_parquet(file) && is_predictions(file)) {
        return Error::Data(instead_of_predictions(table));
    }
    let shown: Vec<String> = folders.iter().map(|folder| format!("{}/", file_name(folder))).collect();
    let shown: Vec<String> = shown.into_iter().chain(others.iter().map(|file| file_name(file))).collect();
    let hint = if shown.iter().any(|name| name == "data_batch_1") {
        " (this is CIFAR for Python: fetch its binary version)"
    } else if others.iter().any(|file| is_archive(file)) {
        " (unpack archives)"
    } else {
        ""
    };
    let found = match shown.as_slice() {
        [] => "it is empty".to_string(),
        [first @ .., _] if first.len() >= 5 => format!("found {}, … ({} entries)", first[..5].join(", "), shown.len()),
        all => format!("found {}", all.join(", ")),
    };
    Error::Data(format!(
        "{}: no data set recognized: {found}{hint}; looked for class folders with pictures, pictures, *.parquet, *.tar, CIFAR's *.bin",
        path.display()
    ))
}

/// What to do about the Arrow files of datasets' `save_to_disk` and of its cache.
pub(crate) fn arrow(file: &Path) -> String {
    let remedy = "write it as Parquet, as in load_from_disk(…).to_parquet(\"test.parquet\"), and open that";
    format!("{}: is an Arrow file of datasets' save_to_disk or cache, which is not read: {remedy}", file.display())
}

pub(crate) fn is_archive(path: &Path) -> bool {
    matches!(ending(path).as_str(), "zip" | "tar" | "gz" | "tgz" | "bz2" | "xz" | "zst" | "7z" | "rar")
}
