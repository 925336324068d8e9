//! The pictures that `predict` was given.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use lafter::data::{self, Dataset, Findings, OpenOptions, pictures_in};
use lafter::progress::Event;
use lafter::{Error, Result};

use super::args::SplitArgs;
use super::bars::Bars;

/// One data set in any form, or files as they are and of folders all pictures in them and below, in the order of their names; `-` stands
/// for paths on standard input, one a line.
pub fn data(arguments: &[PathBuf], split: &SplitArgs, bars: &mut Bars) -> Result<Dataset> {
    if let ([only], true) = (arguments, split.split.is_some() || split.label_column.is_some()) {
        return open(only, split, bars);
    }
    let mut files = Vec::new();
    for path in arguments {
        let shown = path.display().to_string();
        if shown.contains("://") {
            return Err(Error::Usage(format!("{shown}: is a web address: download the picture and give the file")));
        }
        if shown == "-" {
            for line in std::io::stdin().lock().lines() {
                let line = line.map_err(|e| Error::Usage(format!("standard input: {e}: give one path a line, in UTF-8")))?;
                let line = line.strip_suffix('\r').unwrap_or(&line);
                files.extend((!line.is_empty()).then(|| PathBuf::from(line)));
            }
        } else if path.is_dir() {
            match (pictures_in(path), arguments) {
                (Ok((found, Findings { notices, .. })), _) => {
                    notices.into_iter().for_each(|notice| bars.show(&Event::Notice(notice)));
                    files.extend(found);
                }
                (Err(_), [only]) => return open(only, split, bars), // Parquet files, CIFAR's
                (Err(error), _) => return Err(error),
            }
        } else if let ([only], true) = (arguments, is_data_set(path)) {
            return open(only, split, bars);
        } else {
            files.push(path.clone());
        }
    }
    match (arguments, files.as_slice()) {
        (_, []) => Err(Error::Usage("no picture was given: name files or folders, or paths on standard input with -".into())),
        ([only], _) if only.as_os_str() != "-" && !only.exists() => {
            Err(Error::Usage(format!("{}: no such file or folder: check the path", only.display())))
        }
        _ => Ok(Dataset::from_files(files)),
    }
}

/// Whether it is the name of a data set, not of a picture or a folder.
fn is_data_set(path: &Path) -> bool {
    let shown = path.to_string_lossy();
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    let split = shown.rsplit_once(':').is_some_and(|(folder, _)| !path.exists() && Path::new(folder).exists());
    let pattern = shown.contains('{') && ending == "tar" && !path.exists();
    shown.starts_with("hf:") || split || pattern || ["parquet", "tar", "json", "arrow"].contains(&ending.as_str())
}

fn open(path: &Path, split: &SplitArgs, bars: &mut Bars) -> Result<Dataset> {
    let options = OpenOptions { labeled: false, ..split.options(None) };
    Ok(data::open_with(&path.to_string_lossy(), &options, |event| bars.show(event))?.unlabeled())
}
