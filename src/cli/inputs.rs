//! The pictures that `predict` was given.

use std::path::PathBuf;

use lafter::data::{Findings, pictures_in};
use lafter::progress::Event;
use lafter::{Error, Result};

use super::bars::Bars;

/// Files as they are, and of folders all pictures in them and below, in the order of their names.
pub fn pictures(arguments: &[PathBuf], bars: &mut Bars) -> Result<Vec<PathBuf>> {
    let mut pictures = Vec::new();
    for path in arguments {
        let shown = path.display();
        if shown.to_string().contains("://") {
            return Err(Error::Usage(format!("{shown}: is a web address: download the picture and give the file")));
        }
        if !path.is_dir() {
            pictures.push(path.clone());
            continue;
        }
        let (files, Findings { notices, .. }) = pictures_in(path)?;
        notices.into_iter().for_each(|notice| bars.show(&Event::Notice(notice)));
        pictures.extend(files);
    }
    match arguments {
        [only] if !only.exists() => Err(Error::Usage(format!("{}: no such file or folder: check the path", only.display()))),
        _ => Ok(pictures),
    }
}
