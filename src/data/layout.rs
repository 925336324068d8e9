//! How a folder is laid out: splits, classes, an archive's outer folder, pictures side by side.

mod files;
mod parts;
mod unrecognized;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use self::files::{has_pictures, open_parquet_split, open_shards, parquet_below, parquet_files, pass_over, shards_below, without_pictures};
use self::parts::{Part, cut, inner_folder, split_folder};
use self::unrecognized::nothing_recognized;
use crate::data::dataset::Dataset;
use crate::data::findings::Findings;
use crate::data::folder::{self, Holds, Listing, file_name};
use crate::data::options::OpenOptions;
use crate::data::split::{canonical, is_split_name};
use crate::data::{cifar, metadata};
use crate::error::{Error, Result};
use crate::progress::Event;

pub(crate) use self::files::open_parquet;
pub(crate) use self::unrecognized::{arrow, is_archive};

/// Opens a folder; `found` takes which part of it was opened, and why.
pub(crate) fn open_folder(
    path: &Path,
    split: Option<&str>,
    options: &OpenOptions,
    found: &mut Findings,
    events: &mut dyn FnMut(&Event),
) -> Result<Dataset> {
    if cifar::is_cifar(path) {
        return Ok(Dataset::new(cifar::open(path, split)?));
    }
    let listing = folder::without_output(folder::list(path)?, found);
    let files = parquet_files(&listing.others, found);
    if !files.is_empty() {
        match open_parquet_split(&files, path, split, options, events) {
            Err(e) if without_pictures(&e) && has_pictures(&listing) => pass_over(&e, found),
            opened => {
                note_beside_parquet(path, &listing, found);
                return opened;
            }
        }
    }
    if let Some(files) = metadata::open(path, &listing, split, options, found)? {
        return Ok(Dataset::new(files));
    }
    let mut parts: Vec<Part> = listing.folders.iter().map(|folder| Part::look(folder)).collect();
    if parts.iter().any(|part| part.holds == Holds::Parquet) {
        let beside: Vec<Part> = parts.iter().map(Part::beside_parquet).collect();
        let pictures: Vec<&str> = beside.iter().filter(|part| part.holds != Holds::Nothing).map(|part| part.name.as_str()).collect();
        let files = parquet_below(path, &listing.folders, found)?;
        let opened = (!files.is_empty()).then(|| open_parquet_split(&files, path, split, options, events));
        match opened {
            None => {}
            Some(Err(e)) if without_pictures(&e) && !(pictures.is_empty() && listing.pictures.is_empty()) => pass_over(&e, found),
            Some(opened) => {
                if !pictures.is_empty() {
                    found.notices.push(format!(
                        "{}: the Parquet files are opened; pictures in {} only where a row names them",
                        path.display(),
                        pictures.join(", ")
                    ));
                }
                return opened;
            }
        }
        // a class folder may have its features next to folders of its pictures
        let both = parts.into_iter().zip(beside).filter(|(part, beside)| (part.holds, beside.holds) != (Holds::Parquet, Holds::Nothing));
        parts = both.map(|(_, beside)| beside).collect();
    }
    let holders: Vec<&Part> = parts.iter().filter(|part| part.holds != Holds::Nothing).collect();
    if let [only] = parts.as_slice()
        && cifar::is_cifar(&only.path)
    {
        return Ok(Dataset::new(cifar::open(&only.path, split)?));
    }
    if listing.pictures.is_empty() && holders.is_empty() {
        let files = shards_below(&listing)?;
        if !files.is_empty() {
            return open_shards(&files, path, split, options, events);
        }
    }
    if listing.pictures.is_empty() {
        if let Some(inner) = split_folder(path, &holders, split, found)? {
            return open_folder(inner, split, options, found, events);
        }
        if let Some(inner) = inner_folder(&parts, &holders) {
            found.add_rule(&format!("inner folder {}", inner.name));
            let others: Vec<&str> = holders.iter().map(|part| part.name.as_str()).filter(|name| *name != inner.name).collect();
            if !others.is_empty() {
                found.notices.push(format!(
                    "{}: pictures in {} are left out, those in {} are opened",
                    path.display(),
                    others.join(", "),
                    inner.name
                ));
            }
            return open_folder(&inner.path, split, options, found, events);
        }
    }
    open_classes(path, listing, &parts, options, found, events)
}

/// Says what stands beside Parquet files that are opened: it may be what was meant.
fn note_beside_parquet(path: &Path, listing: &Listing, found: &mut Findings) {
    let folders = listing.folders.iter().map(|folder| Part::look(folder).beside_parquet()).filter(|part| part.holds != Holds::Nothing);
    let shards = listing.others.iter().filter(|file| folder::ending(file) == "tar").count();
    let beside = [(listing.pictures.len(), "pictures"), (folders.count(), "folders of pictures"), (shards, "tar shards")];
    let beside: Vec<String> = beside.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if !beside.is_empty() {
        found.notices.push(format!(
            "{}: its Parquet files are opened; what stands beside them ({}) only where a row names it: move one of the two if that is meant",
            path.display(),
            beside.join(", ")
        ));
    }
}

/// Class folders, or pictures without labels.
fn open_classes(
    path: &Path,
    listing: Listing,
    parts: &[Part],
    options: &OpenOptions,
    found: &mut Findings,
    events: &mut dyn FnMut(&Event),
) -> Result<Dataset> {
    let holding = parts.iter().filter(|part| part.holds != Holds::Nothing).count();
    match listing.pictures.first() {
        None if holding == 0 => return Err(nothing_recognized(path, &folder::list(path)?)),
        None => {}
        Some(_) if holding == 0 => return Ok(Dataset::new(folder::unlabeled(path, listing, false, found)?)),
        Some(_) if !options.labeled => {
            found.notices.push(format!("{}: holds pictures and folders of pictures: all are taken, without labels", path.display()));
            return Ok(Dataset::new(folder::unlabeled(path, listing, true, found)?));
        }
        Some(stray) => {
            return Err(Error::Data(format!(
                "{}: holds {} pictures ({}, …) next to {} class folders: move each into the folder of its class",
                path.display(),
                listing.pictures.len(),
                file_name(stray),
                listing.folders.len()
            )));
        }
    }
    folder::count(&listing.others, found);
    // Annotations and the like are not a class; another folder without pictures may be one that somebody forgot to fill.
    let (aside, classes): (Vec<&Part>, Vec<&Part>) = parts.iter().partition(|part| part.holds == Holds::Nothing && part.is_aside());
    aside.iter().for_each(|part| found.notices.push(format!("{}: holds no pictures: left out", part.path.display())));
    check_nested(path, &classes, found)?;
    let folders: Vec<PathBuf> = classes.iter().map(|part| part.path.clone()).collect();
    Ok(Dataset::new(folder::class_folders(path, &folders, options.labeled, found, events)?))
}

/// Class folders that hold folders: pictures of a train and a test split are not mixed, and what looks like several data sets
/// is told.
fn check_nested(path: &Path, classes: &[&Part], found: &mut Findings) -> Result<()> {
    let mut nested = Vec::new();
    for part in classes.iter().filter(|part| part.holds == Holds::Below) {
        let names: Vec<String> = folder::list(&part.path)?.folders.iter().map(|folder| file_name(folder)).collect();
        let splits: BTreeSet<String> = names.iter().filter(|name| is_split_name(name)).map(|name| canonical(name)).collect();
        if splits.len() > 1 {
            return Err(Error::Data(format!(
                "{}: holds the splits {}: lay the folders out as split/class, or open one split's folders alone",
                part.path.display(),
                splits.into_iter().collect::<Vec<_>>().join(", ")
            )));
        }
        nested.push(names);
    }
    if let ([first, second, ..], true) = (nested.as_slice(), nested.len() == classes.len()) {
        let common: Vec<&str> = first.iter().filter(|name| second.contains(name)).map(String::as_str).collect();
        if common.len() > 1 {
            let names: Vec<&str> = classes.iter().map(|part| part.name.as_str()).collect();
            found.notices.push(format!(
                "{}: the classes are {}, and each holds the folders {}: are those the classes? Then open {}/{}",
                path.display(),
                cut(&names),
                cut(&common),
                path.display(),
                names.first().unwrap_or(&"…")
            ));
        }
    }
    Ok(())
}
