//! [`open`]: one name for any data set, and what it looks for.

use std::path::{Path, PathBuf};

use crate::data::dataset::Dataset;
use crate::data::options::OpenOptions;
use crate::data::split::{Split, choose, is_split_name};
use crate::data::split_files::{Chosen, choose_files};
use crate::data::{cifar, folder, hub, parquet, split_file};
use crate::error::{Error, Result};
use crate::hub::HubOptions;
use crate::progress::{Event, silent};

/// Opens a data set, whatever its form:
///
/// | `spec` | is |
/// |---|---|
/// | a folder of folders | one folder per class, named after it; or one folder per split (train, val, test), each in any form |
/// | a folder of pictures | pictures without labels |
/// | a Parquet file, or a folder with some | the hub's image layout |
/// | a folder with `data_batch_1.bin`, … | CIFAR-10, or CIFAR-100 with its fine labels |
/// | `hf:owner/name`, with `@revision` | the hub's data set of that name, by its Parquet files (`hf:owner/name/configuration` where it has several) |
/// | a `.json` file, or [`OpenOptions::split_file`] | CoOp's split file, with paths that start from its folder, or from `spec` |
///
/// `spec:NAME` opens split NAME; it goes before [`OpenOptions::split`]. A test split that is asked for and missing is served by
/// the validation split. A data set without splits is opened whole. See the [module](crate::data) for an example.
///
/// # Errors
/// [`Error::Data`] where nothing is recognised (saying what was looked for), a class folder is empty, a Parquet file holds no
/// pictures or is cut off, or the split is not there; [`Error::Hub`] where the hub cannot be reached; [`Error::Usage`] for a
/// split file of a hub data set.
pub fn open(spec: &str, options: &OpenOptions) -> Result<Dataset> {
    open_with(spec, options, silent)
}

/// [`open`], with the progress of downloads from the hub. An interrupt stops it between two files.
///
/// # Errors
/// As [`open`]; [`Error::Interrupted`] after an interrupt.
pub fn open_with(spec: &str, options: &OpenOptions, mut events: impl FnMut(&Event)) -> Result<Dataset> {
    let split = options.split.map(Split::as_str);
    if let Some(name) = spec.strip_prefix("hf:") {
        if let Some(file) = &options.split_file {
            let file = file.display();
            return Err(Error::Usage(format!("{spec}: a split file ({file}) names files of a folder: open that folder with it")));
        }
        let hub = options.hub.clone().map_or_else(HubOptions::from_env, Ok)?;
        let (files, chosen) = hub::parquet_files(&hub, name, split, &mut events)?;
        return open_parquet(&files, spec, options, &chosen);
    }
    // A path may hold colons itself, so it is taken as it stands first.
    match spec.rsplit_once(':') {
        Some((path, name)) if !Path::new(spec).exists() && Path::new(path).exists() => open_path(Path::new(path), Some(name), options),
        _ => open_path(Path::new(spec), split, options),
    }
}

impl Dataset {
    /// Opens a folder, a file or `hf:owner/name` as it stands: [`open`](crate::data::open) with the defaults.
    ///
    /// # Errors
    /// As [`open`](crate::data::open).
    ///
    /// ```
    /// let error = lafter::data::Dataset::open("/no/such/folder").unwrap_err();
    /// assert!(error.to_string().contains("/no/such/folder"));
    /// ```
    pub fn open(spec: impl AsRef<std::path::Path>) -> Result<Self> {
        crate::data::open(&spec.as_ref().to_string_lossy(), &crate::data::OpenOptions::default())
    }
}

fn open_path(path: &Path, split: Option<&str>, options: &OpenOptions) -> Result<Dataset> {
    if !path.exists() {
        return Err(Error::Data(format!("{}: no such file or folder: check the path (hub data sets begin with hf:)", path.display())));
    }
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    match (&options.split_file, ending.as_str()) {
        (Some(file), _) => Ok(Dataset::new(split_file::open(file, path, path, split)?)),
        (None, _) if path.is_dir() => open_folder(path, split, options),
        (None, "json") => Ok(Dataset::new(split_file::open(path, path.parent().unwrap_or(Path::new("")), path, split)?)),
        (None, "parquet") => open_parquet(&[path.to_path_buf()], &path.display().to_string(), options, &Chosen::default()),
        _ => Err(Error::Data(format!("{}: is neither a folder nor a .parquet or .json file: give one of these", path.display()))),
    }
}

fn open_folder(path: &Path, split: Option<&str>, options: &OpenOptions) -> Result<Dataset> {
    if cifar::is_cifar(path) {
        return Ok(Dataset::new(cifar::open(path, split)?));
    }
    let files = parquet_files(path)?;
    if !files.is_empty() {
        return open_parquet_split(&files, path, split, options);
    }
    let listing = folder::list(path)?;
    let names: Vec<String> = listing.folders.iter().map(|folder| folder::file_name(folder)).collect();
    if !names.is_empty() && names.iter().all(|name| is_split_name(name)) && listing.pictures.is_empty() {
        let found: Vec<&str> = names.iter().map(String::as_str).collect();
        let chosen = choose(&found, split, &path.display().to_string())?;
        return open_folder(&path.join(chosen), split, options);
    }
    match listing.folders.as_slice() {
        [only] if cifar::is_cifar(only) => Ok(Dataset::new(cifar::open(only, split)?)),
        folders if folders.iter().any(|folder| folder::holds_pictures(folder)) => Ok(Dataset::new(folder::class_folders(path, listing)?)),
        _ if !listing.pictures.is_empty() => Ok(Dataset::new(folder::flat(path, listing.pictures))),
        folders => Err(nothing_recognised(path, folders, &listing.others)),
    }
}

fn nothing_recognised(path: &Path, folders: &[PathBuf], files: &[PathBuf]) -> Error {
    let shown: Vec<String> = folders.iter().map(|folder| format!("{}/", folder::file_name(folder))).collect();
    let shown: Vec<String> = shown.into_iter().chain(files.iter().map(|file| folder::file_name(file))).collect();
    let hint = if shown.iter().any(|name| name == "data_batch_1") { " (this is CIFAR for Python: fetch its binary version)" } else { "" };
    let found = match shown.as_slice() {
        [] => "it is empty".to_string(),
        [first @ .., _] if first.len() >= 5 => format!("found {}, … ({} entries)", first[..5].join(", "), shown.len()),
        all => format!("found {}", all.join(", ")),
    };
    Error::Data(format!(
        "{}: no data set recognised: {found}{hint}; looked for class folders with pictures, pictures, *.parquet, CIFAR's *.bin",
        path.display()
    ))
}

/// The Parquet files in a folder and, where there are none, one or two levels below it (`data/`, `train/`).
fn parquet_files(path: &Path) -> Result<Vec<PathBuf>> {
    let mut level = vec![path.to_path_buf()];
    for _ in 0..3 {
        let (mut files, mut below) = (Vec::new(), Vec::new());
        for folder in &level {
            let listing = folder::list(folder)?;
            files.extend(listing.others.into_iter().filter(|file| file.extension().is_some_and(|ending| ending == "parquet")));
            below.extend(listing.folders);
        }
        // Many folders are classes, not shards: their pictures are not listed in search of Parquet.
        if !files.is_empty() || below.len() > 16 {
            return Ok(files);
        }
        level = below;
    }
    Ok(Vec::new())
}

/// Opens the files of one split among Parquet files below `root`.
fn open_parquet_split(files: &[PathBuf], root: &Path, split: Option<&str>, options: &OpenOptions) -> Result<Dataset> {
    let shown = root.display().to_string();
    let relative = |file: &PathBuf| file.strip_prefix(root).unwrap_or(file).to_string_lossy().into_owned();
    let names: Vec<String> = files.iter().map(relative).collect();
    let mut chosen = choose_files(&names, split, &shown)?;
    // A part of a set is worth a try, but not without a word.
    chosen.notices.extend(chosen.missing.as_ref().map(|missing| format!("only {missing} are here")));
    let files: Vec<PathBuf> = chosen.files.iter().filter_map(|i| files.get(*i).cloned()).collect();
    let origin = chosen.split.as_ref().map_or_else(|| shown.clone(), |split| format!("{shown}:{split}"));
    open_parquet(&files, &origin, options, &chosen)
}

fn open_parquet(files: &[PathBuf], origin: &str, options: &OpenOptions, chosen: &Chosen) -> Result<Dataset> {
    Ok(Dataset::new(parquet::open(files, origin, options, chosen)?))
}
