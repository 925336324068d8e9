//! [`open`]: one name for any data set, and what it looks for.

use std::path::{Path, PathBuf};

use crate::data::dataset::Dataset;
use crate::data::split::{Split, canonical, choose, is_split_name};
use crate::data::{cifar, folder, hub, parquet, split_file};
use crate::error::{Error, Result};

/// How to open a data set; the defaults suit most.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Which split to open where a data set has several; `None` opens the only one.
    pub split: Option<Split>,
    /// CoOp's JSON file that says which picture belongs to which split; the data set is then the folder its paths start from.
    pub split_file: Option<PathBuf>,
    /// The label column of a Parquet file, where it is not `label`, `fine_label`, `labels` or `coarse_label`.
    pub label_column: Option<String>,
    /// Encoded pictures of Parquet files that are kept in memory, in bytes; the rest goes to a temporary file.
    pub memory_limit: usize,
    /// The hub's cache folder; `None`: `HF_HOME/hub`, or `~/.cache/huggingface/hub`.
    pub hub_cache: Option<PathBuf>,
    /// The hub's address; `None`: as `HF_ENDPOINT` says, or huggingface.co.
    pub hub_endpoint: Option<String>,
    /// Use only what the hub's cache holds; `None`: as `HF_HUB_OFFLINE` says.
    pub offline: Option<bool>,
    /// Show a bar while downloading.
    pub progress: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            split: None,
            split_file: None,
            label_column: None,
            memory_limit: 1 << 30,
            hub_cache: None,
            hub_endpoint: None,
            offline: None,
            progress: false,
        }
    }
}

impl OpenOptions {
    /// The defaults, with this split where there are several.
    pub fn split(split: Split) -> Self {
        Self { split: Some(split), ..Self::default() }
    }
}

/// Opens a data set, whatever its form:
///
/// | `spec` | is |
/// |---|---|
/// | a folder of folders | one class a folder, named as the folder; or one split a folder (train, val, test), each in any form |
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
/// pictures or is cut off, or the split is not there; [`Error::Hub`] where the hub cannot be reached.
pub fn open(spec: &str, options: &OpenOptions) -> Result<Dataset> {
    let split = options.split.map(Split::as_str);
    if let Some(name) = spec.strip_prefix("hf:") {
        return hub::open(name, split, options);
    }
    // A path may hold colons itself, so it is taken as it stands first.
    match spec.rsplit_once(':') {
        Some((path, name)) if !Path::new(spec).exists() && Path::new(path).exists() => open_path(Path::new(path), Some(name), options),
        _ => open_path(Path::new(spec), split, options),
    }
}

fn open_path(path: &Path, split: Option<&str>, options: &OpenOptions) -> Result<Dataset> {
    if !path.exists() {
        return Err(Error::Data(format!("{}: no such file or folder: check the path (hub data sets begin with hf:)", path.display())));
    }
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    match (&options.split_file, ending.as_str()) {
        (Some(file), _) => Ok(Dataset::new(split_file::open(file, path, split)?)),
        (None, _) if path.is_dir() => open_folder(path, split, options),
        (None, "json") => Ok(Dataset::new(split_file::open(path, path.parent().unwrap_or(Path::new("")), split)?)),
        (None, "parquet") => open_parquet(&[path.to_path_buf()], &path.display().to_string(), options),
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
pub(crate) fn open_parquet_split(files: &[PathBuf], root: &Path, split: Option<&str>, options: &OpenOptions) -> Result<Dataset> {
    let shown = root.display().to_string();
    let relative = |file: &PathBuf| file.strip_prefix(root).unwrap_or(file).to_string_lossy().into_owned();
    let names: Vec<String> = files.iter().map(relative).collect();
    let (chosen, split) = choose_files(&names, split, &shown)?;
    let chosen: Vec<PathBuf> = chosen.into_iter().filter_map(|i| files.get(i).cloned()).collect();
    let origin = split.map_or_else(|| shown.clone(), |split| format!("{shown}:{split}"));
    open_parquet(&chosen, &origin, options)
}

pub(crate) fn open_parquet(files: &[PathBuf], origin: &str, options: &OpenOptions) -> Result<Dataset> {
    Ok(Dataset::new(parquet::open(files, origin, options.label_column.as_deref(), options.memory_limit)?))
}

/// Which of the files (paths below the data set's root) make the wanted split, and the split's name, if files have splits.
pub(crate) fn choose_files(names: &[String], wanted: Option<&str>, origin: &str) -> Result<(Vec<usize>, Option<String>)> {
    let splits: Vec<Option<String>> = names.iter().map(|name| split_of(name)).collect();
    let mut found: Vec<&str> = splits.iter().flatten().map(String::as_str).collect();
    found.sort_unstable();
    found.dedup();
    if found.is_empty() {
        return Ok(((0..names.len()).collect(), None));
    }
    let chosen = choose(&found, wanted, origin)?;
    let of_split = |split: &Option<String>| split.as_deref() == Some(chosen);
    let positions = splits.iter().enumerate().filter(|(_, split)| of_split(split)).map(|(i, _)| i).collect();
    Ok((positions, Some(chosen.to_string())))
}

/// The split that a file's path tells: `data/train-00000-of-00001.parquet`, `train.parquet`, `default/train/0000.parquet`.
fn split_of(name: &str) -> Option<String> {
    let (folders, file) = name.rsplit_once('/').unwrap_or(("", name));
    let stem = file.strip_suffix(".parquet").unwrap_or(file);
    // A sharded file says so, whatever the split is called.
    if let Some((before, _)) = stem.rsplit_once("-of-")
        && let Some((split, _)) = before.rsplit_once('-')
    {
        return Some(canonical(split));
    }
    let leading = stem.split(['-', '_', '.']).next().unwrap_or(stem);
    let folder = folders.rsplit('/').next().unwrap_or("");
    [stem, leading, folder].into_iter().find(|name| is_split_name(name)).map(canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_its_split() {
        let split = |name: &str| split_of(name);
        assert_eq!(split("data/train-00000-of-00002.parquet").as_deref(), Some("train"));
        assert_eq!(split("cropped/extra-00001-of-00002.parquet").as_deref(), Some("extra"));
        assert_eq!(split("default/validation/0000.parquet").as_deref(), Some("val"));
        assert_eq!(split("test.parquet").as_deref(), Some("test"));
        assert_eq!(split("train_1.parquet").as_deref(), Some("train"));
        assert_eq!(split("pictures.parquet"), None);
    }

    #[test]
    fn files_without_splits_belong_together() {
        let names = ["a.parquet".to_string(), "b.parquet".to_string()];
        assert_eq!(choose_files(&names, Some("train"), "x").unwrap(), (vec![0, 1], None));
    }
}
