//! [`open`]: one name for any data set, and what it looks for.

use std::path::{Path, PathBuf};

use crate::data::dataset::Dataset;
use crate::data::findings::Findings;
use crate::data::layout::{arrow, is_archive, open_folder, open_parquet};
use crate::data::options::OpenOptions;
use crate::data::split::Split;
use crate::data::split_files::Chosen;
use crate::data::{folder, hub, shards, split_file};
use crate::error::{Error, Result};
use crate::hub::{HubOptions, commit_of};
use crate::progress::{Event, silent};

/// Opens a data set, whatever its form:
///
/// | `spec` | is |
/// |---|---|
/// | a folder of folders | one folder per class, named after it; or one folder per split (`train`, `Testing`, `seg_test`), each in any form |
/// | a folder around such a folder | an archive's outer folder, or `images` next to `annotations`: the inner one is opened |
/// | a folder of pictures | pictures without labels |
/// | a folder with `metadata.jsonl` or `metadata.csv` | the pictures that it lists, with its labels |
/// | a Parquet file, or a folder with some | the hub's image layout |
/// | a `.tar` file, a folder with some, or a pattern as `shards/{00000..01281}.tar` | WebDataset's shards: `KEY.jpg` with `KEY.cls` or `KEY.json` |
/// | a folder with `data_batch_1.bin`, … | CIFAR-10, or CIFAR-100 with its fine labels |
/// | `hf:owner/name`, with `@revision` | the hub's data set of that name, by its Parquet files or else its tar shards (`hf:owner/name/configuration` if it has several) |
/// | a `.json` file, or [`OpenOptions::split_file`] | CoOp's split file, with paths that start from its folder, or from `spec` |
///
/// [`Dataset::findings`] tells which part was opened, what was left out, and what is unusual.
///
/// `spec:NAME` opens split NAME; it goes before [`OpenOptions::split`]. If there is no test split, the validation split is used. A data
/// set without splits is opened whole; one whose rows are all of another split is opened whole with a notice, or refused where the
/// name gave the split. See the [module](crate::data) for an example.
///
/// # Errors
/// [`Error::Data`] if nothing is recognized (saying what was looked for), a class folder is empty, a Parquet file holds no
/// pictures or is cut off, or the split is not there; [`Error::Hub`] if the hub cannot be reached; [`Error::Usage`] for a
/// split file of a hub data set.
pub fn open(spec: &str, options: &OpenOptions) -> Result<Dataset> {
    open_with(spec, options, silent)
}

/// [`open`], with the progress of downloads from the hub, and of a listing that takes long. An interrupt stops it between two files.
///
/// # Errors
/// As [`open`]; [`Error::Interrupted`] after an interrupt.
pub fn open_with(spec: &str, options: &OpenOptions, mut events: impl FnMut(&Event)) -> Result<Dataset> {
    let split = options.split.map(Split::as_str);
    // a split that the name itself gives has to be there; that of the options is for sets that have several
    let named = OpenOptions { split: None, ..options.clone() };
    if let Some(name) = spec.strip_prefix("hf:") {
        if let Some(file) = &options.split_file {
            let file = file.display();
            return Err(Error::Usage(format!("{spec}: a split file ({file}) names files of a folder: open that folder with it")));
        }
        let hub = options.hub.clone().map_or_else(HubOptions::for_data, Ok)?;
        let (files, chosen) = hub::data_files(&hub, name, split, &mut events)?;
        let options = if name.contains(':') { &named } else { options };
        let found = Findings { commit: files.first().and_then(|file| commit_of(file)), ..Findings::default() };
        let set = match files.first().is_some_and(|file| folder::ending(file) == "tar") {
            true => Dataset::new(shards::open(&files, spec, options, &chosen, &mut events)?),
            false => open_parquet(&files, spec, options, &chosen, &mut events)?,
        };
        return Ok(set.with_findings(found));
    }
    // A path may hold colons itself, so it is taken as it stands first.
    match spec.rsplit_once(':') {
        Some((path, name)) if !Path::new(spec).exists() && Path::new(path).exists() => {
            open_path(Path::new(path), Some(name), &named, &mut events)
        }
        _ => open_path(Path::new(spec), split, options, &mut events),
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

impl Dataset {
    /// Pictures by their paths, in this order, without labels. A file that is not there is found out when it is read.
    pub fn from_files(paths: Vec<std::path::PathBuf>) -> Self {
        let files = paths.into_iter().map(|path| (path, None)).collect();
        let (origin, root) = ("the given pictures".into(), std::path::PathBuf::new());
        Self::new(folder::Files { origin, root, classes: Vec::new(), files })
    }
}

fn open_path(path: &Path, split: Option<&str>, options: &OpenOptions, events: &mut dyn FnMut(&Event)) -> Result<Dataset> {
    let shown = path.display();
    if shown.to_string().contains("://") {
        return Err(Error::Data(format!(
            "{shown}: is a web address: download the data and give its folder, or name a data set of the hub (hf:owner/name)"
        )));
    }
    if let (false, Some(files)) = (path.exists(), shards::expand(&shown.to_string())) {
        return open_pattern(&files, &shown.to_string(), options, events);
    }
    if !path.exists() {
        return Err(Error::Data(format!("{shown}: no such file or folder: check the path (hub data sets begin with hf:)")));
    }
    let mut found = Findings::default();
    let dataset = match (&options.split_file, folder::ending(path).as_str()) {
        (Some(file), _) => Dataset::new(split_file::open(file, path, path, split, &mut found)?),
        (None, _) if path.is_dir() => open_folder(path, split, options, &mut found, events)?,
        (None, "json") => Dataset::new(split_file::open(path, path.parent().unwrap_or(Path::new("")), path, split, &mut found)?),
        (None, "parquet") => {
            let chosen = Chosen { wanted: split.map(str::to_string), ..Chosen::default() };
            open_parquet(&[path.to_path_buf()], &shown.to_string(), options, &chosen, events)?
        }
        (None, "tar") => Dataset::new(shards::open(&[path.to_path_buf()], &shown.to_string(), options, &Chosen::default(), events)?),
        (None, "arrow") => return Err(Error::Data(arrow(path))),
        _ if is_archive(path) => return Err(Error::Data(format!("{shown}: is an archive: unpack it and give the folder"))),
        _ if folder::is_picture(path) => return Err(Error::Data(format!("{shown}: is one picture: give the folder that it is in"))),
        _ => return Err(Error::Data(format!("{shown}: is neither a folder nor a .parquet, .tar or .json file: give one of these"))),
    };
    Ok(dataset.with_findings(found))
}

/// Shards by a pattern in braces, which all have to be there.
fn open_pattern(files: &[PathBuf], pattern: &str, options: &OpenOptions, events: &mut dyn FnMut(&Event)) -> Result<Dataset> {
    if files.iter().any(|file| folder::ending(file) != "tar") {
        return Err(Error::Data(format!("{pattern}: a pattern in braces names tar shards, as in shards/{{00000..01281}}.tar")));
    }
    let missing: Vec<&PathBuf> = files.iter().filter(|file| !file.is_file()).collect();
    if let [first, ..] = missing.as_slice() {
        let (count, all, first) = (missing.len(), files.len(), first.display());
        return Err(Error::Data(format!("{pattern}: {count} of {all} shards are not there ({first}): correct the pattern, or fetch them")));
    }
    Ok(Dataset::new(shards::open(files, pattern, options, &Chosen::default(), events)?))
}
