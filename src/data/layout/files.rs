//! Data in few files below a folder: Parquet and tar shards, those of one split among them.

use std::path::{Path, PathBuf};

use crate::data::dataset::Dataset;
use crate::data::findings::Findings;
use crate::data::folder::{self, Holds, Listing, ending};
use crate::data::options::OpenOptions;
use crate::data::split_files::{Chosen, choose_files};
use crate::data::{parquet, shards};
use crate::error::{Error, Result};
use crate::progress::Event;

pub(super) fn is_parquet(path: &Path) -> bool {
    ending(path) == "parquet"
}

/// The Parquet files among these, without tables of predictions.
pub(super) fn parquet_files(files: &[PathBuf], found: &mut Findings) -> Vec<PathBuf> {
    let files = files.iter().filter(|file| is_parquet(file)).cloned();
    let (tables, files): (Vec<PathBuf>, Vec<PathBuf>) = files.partition(|file| parquet::is_predictions(file));
    for table in tables {
        let notice = format!("{}: is a table of predictions: left out", table.display());
        // a folder within another is looked at twice
        if !found.notices.contains(&notice) {
            found.notices.push(notice);
        }
    }
    files
}

/// The Parquet files one or two levels below folders of a folder that has none itself (`data/`, `default/train/`); none where there are
/// tables of predictions alone.
pub(super) fn parquet_below(path: &Path, folders: &[PathBuf], found: &mut Findings) -> Result<Vec<PathBuf>> {
    let mut level = folders.to_vec();
    for _ in 0..3 {
        let (mut files, mut below) = (Vec::new(), Vec::new());
        for folder in level.iter().filter(|folder| folder::holds(folder) == Holds::Parquet) {
            let listing = folder::list(folder)?;
            files.extend(parquet_files(&listing.others, found));
            below.extend(listing.folders);
        }
        if !files.is_empty() || below.is_empty() {
            return Ok(files);
        }
        level = below;
    }
    Err(Error::Data(format!("{}: its Parquet files lie too deep: open the folder that they are in", path.display())))
}

/// The tar shards in a folder that holds nothing else, or in the folders of its splits.
pub(super) fn shards_below(listing: &Listing) -> Result<Vec<PathBuf>> {
    let is_shard = |file: &PathBuf| ending(file) == "tar";
    let mut files: Vec<PathBuf> = listing.others.iter().filter(|file| is_shard(file)).cloned().collect();
    let mut level = if files.is_empty() { listing.folders.clone() } else { Vec::new() };
    for _ in 0..2 {
        let mut below = Vec::new();
        for folder in &level {
            let listing = folder::list(folder)?;
            files.extend(listing.others.into_iter().filter(is_shard));
            below.extend(listing.folders);
        }
        if !files.is_empty() {
            break;
        }
        level = below;
    }
    Ok(files)
}

/// Opens the shards of one split among those below `root`.
pub(super) fn open_shards(
    files: &[PathBuf],
    root: &Path,
    split: Option<&str>,
    options: &OpenOptions,
    events: &mut dyn FnMut(&Event),
) -> Result<Dataset> {
    let (files, origin, chosen) = of_split(files, root, split)?;
    Ok(Dataset::new(shards::open(&files, &origin, options, &chosen, events)?))
}

/// True for the error of a Parquet file without a column of pictures: embeddings, attributes, a list.
pub(super) fn without_pictures(error: &Error) -> bool {
    matches!(error, Error::Data(text) if text.contains("columns found: "))
}

pub(super) fn has_pictures(listing: &Listing) -> bool {
    !listing.pictures.is_empty() || listing.folders.iter().any(|folder| folder::holds_pictures(folder) != Holds::Nothing)
}

pub(super) fn pass_over(error: &Error, found: &mut Findings) {
    found.notices.push(format!("{error} (ignored: the pictures next to it are opened)"));
}

/// Opens the files of one split among Parquet files below `root`.
pub(super) fn open_parquet_split(
    files: &[PathBuf],
    root: &Path,
    split: Option<&str>,
    options: &OpenOptions,
    events: &mut dyn FnMut(&Event),
) -> Result<Dataset> {
    let (files, origin, chosen) = of_split(files, root, split)?;
    open_parquet(&files, &origin, options, &chosen, events)
}

/// The files of one split, how a message names them, and how they were chosen.
fn of_split(files: &[PathBuf], root: &Path, split: Option<&str>) -> Result<(Vec<PathBuf>, String, Chosen)> {
    let shown = root.display().to_string();
    let relative = |file: &PathBuf| file.strip_prefix(root).unwrap_or(file).to_string_lossy().into_owned();
    let names: Vec<String> = files.iter().map(relative).collect();
    let mut chosen = choose_files(&names, split, &shown)?;
    // A part of a set is worth a try, but not without a word.
    chosen.notices.extend(chosen.missing.as_ref().map(|missing| format!("only {missing} are here")));
    let files: Vec<PathBuf> = chosen.files.iter().filter_map(|i| files.get(*i).cloned()).collect();
    let origin = chosen.split.as_ref().map_or_else(|| shown.clone(), |split| format!("{shown}:{split}"));
    Ok((files, origin, chosen))
}

pub(crate) fn open_parquet(
    files: &[PathBuf],
    origin: &str,
    options: &OpenOptions,
    chosen: &Chosen,
    events: &mut dyn FnMut(&Event),
) -> Result<Dataset> {
    let (source, rows) = parquet::open(files, origin, options, chosen, events)?;
    let all = Dataset::new(source);
    rows.map_or_else(|| Ok(all.clone()), |rows| all.subset(&rows))
}
