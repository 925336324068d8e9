//! A tuned tower without prompts as an ordinary CLIP: the norms take the place of the base model's.

use std::io::ErrorKind::NotFound;
use std::path::Path;

use tempfile::TempDir;

use crate::clip::SavedClip;
use crate::error::{Error, Result};
use crate::hub::folder_name;
use crate::lafter::LaFTer;
use crate::nn::Linear;
use crate::tune::WeightsInfo;

/// The head in a merged folder: LaFTer weights over its CLIP.
const HEAD: &str = "lafter.safetensors";
/// How the folder of files that are not all there yet is called.
const UNFINISHED: &str = ".unfinished-";

/// Writes a new or empty folder that transformers and open_clip load as a CLIP: the base model with the tuned scale and shift of its vision
/// tower's layer norms. Its zero-shot answers change with them. `lafter.safetensors` next to it holds the tuned head over this CLIP, so
/// that `lafter predict --model DIR --weights DIR/lafter.safetensors` answers as the run did.
///
/// # Errors
/// [`Error::Usage`] before stage two, for a run with visual prompts, which no CLIP has a place for, or with low-rank updates or biases,
/// and for a folder that is not empty; [`Error::Config`] for a CLIP that neither library's layout has a place for; [`Error::Io`] with the
/// path.
pub fn merge(lafter: &LaFTer, directory: impl AsRef<Path>) -> Result<SavedClip> {
    let directory = directory.as_ref();
    let missing = || Error::Usage("there is nothing to merge: only a tuned tower changes a CLIP (--weights)".into());
    let tuned = lafter.tuned().ok_or_else(missing)?;
    let prompts = tuned.prompts.count();
    if prompts > 0 {
        let remedy = "tune with --prompts 0, or export an ONNX file (--out)";
        return Err(Error::Usage(format!("the weights hold {prompts} visual prompts, for which an ordinary CLIP has no place: {remedy}")));
    }
    let more = |layer: &Linear| layer.tuning.low_rank.is_some() || layer.tuning.bias;
    if tuned.vision.blocks.iter().flat_map(|block| block.layers()).any(more) {
        let remedy = "export an ONNX file (--out), which holds them";
        return Err(Error::Usage(format!("the weights hold low-rank updates or biases, which are not merged: {remedy}")));
    }
    let held = match std::fs::read_dir(directory) {
        // what a killed merge left is none of the user's
        Ok(entries) => entries.flatten().any(|entry| !entry.file_name().to_string_lossy().starts_with(UNFINISHED)),
        Err(e) if e.kind() == NotFound => false,
        Err(e) => return Err(Error::io(directory, e)),
    };
    if held {
        let shown = directory.display();
        return Err(Error::Usage(format!("{shown} is not empty, and files in it would be overwritten: name a new or an empty folder")));
    }
    // whole or not at all: a name of its own until all files are there
    let place = std::path::absolute(directory).map_err(|e| Error::io(directory, e))?;
    let exists = place.is_dir();
    let unfinished = folder_in(if exists { &place } else { place.parent().unwrap_or(&place) })?;
    let mut saved = lafter.clip().save_with(&tuned.vision, &unfinished)?;
    let (base_model, weights_hash) = (folder_name(&directory.display().to_string()), saved.weights_hash.clone());
    tuned.save(unfinished.path().join(HEAD), &WeightsInfo { base_model, base_commit: None, weights_hash, ..lafter.info() })?;
    saved.files.push(HEAD.into());
    if saved.weights_hash == lafter.clip().weights_hash() {
        saved.notices.push("the run tuned no layer norm: the CLIP in the folder is the base model as it was".into());
    }
    let moved = if exists {
        // the folder stays: a shell may stand in it, a disk may be mounted on it
        std::fs::read_dir(&unfinished).and_then(|mut files| {
            files.try_for_each(|file| file.and_then(|file| std::fs::rename(file.path(), place.join(file.file_name()))))
        })
    } else {
        std::fs::rename(&unfinished, &place)
    };
    moved.map_err(|e| Error::io(directory, e))?;
    Ok(saved)
}

/// A folder for files until all are complete, which is removed if they are not.
fn folder_in(above: &Path) -> Result<TempDir> {
    std::fs::create_dir_all(above).map_err(|e| Error::io(above, e))?;
    let mut folder = tempfile::Builder::new();
    folder.prefix(UNFINISHED);
    #[cfg(unix)]
    folder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777)); // less what the user's umask takes
    folder.tempdir_in(above).map_err(|e| Error::io(above, e))
}
