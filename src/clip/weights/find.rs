//! Which files of a model directory hold its weights.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::clip::folder::{WeightNames, weight_names};
use crate::error::{Error, Result};

/// Every name that is looked for, safetensors before pickles, transformers' layout before open_clip's (in a folder of open_clip's
/// layout behind it).
const NAMES: [&str; 6] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
];

/// Endings of files with weights under other names.
const ENDINGS: [&str; 6] = [".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".pth.tar"];

/// What training writes next to the weights: optimizer, schedule, loss scale, random generators, arguments.
const BESIDE: [&str; 6] = ["optimizer", "scheduler", "scaler", "rng_state", "random_states", "training_args"];

/// True for a name that a file with weights may have.
pub(in crate::clip) fn is_weight_file(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    ENDINGS.iter().any(|ending| lower.ends_with(ending)) && !BESIDE.iter().any(|other| lower.starts_with(other))
}

/// The file to read: the first of the usual names in the order of the folder's layout, else the only file that may hold weights. `Err`
/// lists them if there are several.
pub(in crate::clip) fn choose<'a>(
    layout: WeightNames,
    names: impl Iterator<Item = &'a str> + Clone,
) -> std::result::Result<Option<&'a str>, Vec<&'a str>> {
    let of_open_clip = |name: &str| name.starts_with("open_clip");
    let plain = |name: &str| NAMES.contains(&name) && !of_open_clip(name);
    let names = names.filter(|name| !(layout == WeightNames::OpenClipAlone && plain(name)));
    let (first, then): (Vec<&str>, Vec<&str>) = NAMES.into_iter().partition(|name| layout == WeightNames::OpenClip && of_open_clip(name));
    if let Some(usual) = first.iter().chain(&then).find_map(|usual| names.clone().find(|name| name == usual)) {
        return Ok(Some(usual));
    }
    let mut others: Vec<&str> = names.filter(|name| is_weight_file(name)).collect();
    others.sort_unstable();
    if others.len() > 1 { Err(others) } else { Ok(others.pop()) }
}

/// The weight files of a directory: one, or all shards.
pub(in crate::clip) fn find(directory: &Path) -> Result<Vec<PathBuf>> {
    let shown = directory.display();
    if !directory.is_dir() {
        return Err(Error::Weights(format!("{shown} is not a directory: expected a model's, with {} or the like in it", NAMES[0])));
    }
    let entries = std::fs::read_dir(directory).map_err(|e| Error::io(directory, e))?.flatten().filter(|entry| entry.path().is_file());
    let names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let name = choose(weight_names(directory), names.iter().map(String::as_str)).map_err(|several| {
        let (first, count) = (several.iter().take(3).copied().collect::<Vec<_>>().join(", "), several.len());
        Error::Weights(format!("{shown} holds {count} files with weights ({first}): give one of them with --model FILE"))
    })?;
    let Some(name) = name else {
        let endings = ENDINGS.join(", ");
        return Err(Error::Weights(format!("no weights in {shown}: looked for {}, and one file of {endings}: add one", NAMES.join(", "))));
    };
    let path = directory.join(name);
    if name.ends_with(".index.json") { shards(&path) } else { Ok(vec![path]) }
}

/// Files of the other usual names next to the one that is read: they may be of another training of the model.
pub(in crate::clip) fn other_usual_files(directory: &Path, read: &Path) -> Vec<&'static str> {
    NAMES.into_iter().filter(|name| !name.ends_with(".json") && directory.join(name).is_file() && !read.ends_with(name)).collect()
}

/// The shards that an index names, in order, all of them present.
fn shards(index: &Path) -> Result<Vec<PathBuf>> {
    let bytes = std::fs::read(index).map_err(|e| Error::io(index, e))?;
    let directory = index.parent().unwrap_or(Path::new("."));
    let mut paths = Vec::new();
    for name in shard_names(&bytes, &index.display().to_string())? {
        let path = directory.join(&name);
        if !path.is_file() {
            return Err(Error::Weights(format!("{} names the shard {name}, which is not there: download it again", index.display())));
        }
        paths.push(path);
    }
    Ok(paths)
}

/// The file names in an index, sorted.
pub(in crate::clip) fn shard_names(index: &[u8], shown: &str) -> Result<BTreeSet<String>> {
    let unreadable = |why: &str| Error::Weights(format!("{shown} is not an index of shards ({why}): download it again"));
    let json: Value = serde_json::from_slice(index).map_err(|e| unreadable(&e.to_string()))?;
    let map = json.get("weight_map").and_then(Value::as_object).ok_or_else(|| unreadable("weight_map is missing"))?;
    // plain names only: an index must not lead out of its directory
    let plain = |name: &&str| Path::new(name).file_name().is_some_and(|file| file == *name);
    map.values()
        .map(|name| name.as_str().filter(plain).map(str::to_string).ok_or_else(|| unreadable("a shard's name is not a file name")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::WeightNames::{OpenClip, OpenClipAlone, Transformers};
    use super::*;

    #[test]
    fn usual_names_come_first_and_foreign_files_are_passed_over() {
        let all = ["open_clip_model.safetensors", "pytorch_model.bin", "model.safetensors", "epoch_3.pt"];
        let of = |layout, names: &[&'static str]| choose(layout, names.iter().copied());
        assert_eq!(of(Transformers, &all), Ok(Some("model.safetensors")));
        assert_eq!(of(OpenClip, &all), Ok(Some("open_clip_model.safetensors")));
        assert_eq!(of(OpenClip, &["model.safetensors", "open_clip_pytorch_model.bin"]), Ok(Some("open_clip_pytorch_model.bin")));
        assert_eq!(of(OpenClip, &["model.safetensors", "epoch_3.pt"]), Ok(Some("model.safetensors")));
        assert_eq!(of(OpenClipAlone, &all), Ok(Some("open_clip_model.safetensors")));
        assert_eq!(of(Transformers, &["a.txt", "pytorch_model.bin", "open_clip_pytorch_model.bin"]), Ok(Some("pytorch_model.bin")));
        assert_eq!(of(Transformers, &["config.json", "optimizer.pt", "training_args.bin", "epoch_3.pt"]), Ok(Some("epoch_3.pt")));
        assert_eq!(of(Transformers, &["epoch_4.pt", "epoch_3.pt"]), Err(vec!["epoch_3.pt", "epoch_4.pt"]));
        assert_eq!(of(OpenClipAlone, &["model.safetensors"]), Ok(None));
        assert!(!is_weight_file("config.json") && is_weight_file("ViT-B-32.PT"));
    }

    #[test]
    fn an_index_cannot_lead_out_of_its_directory() {
        let error = shard_names(br#"{"weight_map": {"a": "../b.safetensors"}}"#, "index").unwrap_err();
        assert!(error.to_string().contains("not a file name"), "{error}");
        let names = shard_names(br#"{"weight_map": {"a": "2.safetensors", "b": "1.safetensors", "c": "2.safetensors"}}"#, "index").unwrap();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["1.safetensors", "2.safetensors"]);
    }
}
