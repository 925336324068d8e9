//! Which files of a model directory hold its weights.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};

/// Every name that is looked for, safetensors before pickles, transformers' layout before open_clip's.
const NAMES: [&str; 6] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
];

/// The file to read among those that `has` knows. Where `config.json` does not describe a transformers CLIP (timm's
/// repositories keep one beside open_clip's files) the plain names belong to another model: `transformers` is false.
pub(in crate::clip) fn choose(transformers: bool, has: impl Fn(&str) -> bool) -> Option<&'static str> {
    NAMES.into_iter().find(|name| (transformers || name.starts_with("open_clip")) && has(name))
}

/// The weight files of a directory: one, or all shards.
pub(in crate::clip) fn find(directory: &Path) -> Result<Vec<PathBuf>> {
    let shown = directory.display();
    if !directory.is_dir() {
        return Err(Error::Weights(format!("{shown} is not a directory: expected a model's, with {} or the like in it", NAMES[0])));
    }
    let foreign = is_foreign(&directory.join("config.json")) && directory.join("open_clip_config.json").is_file();
    let Some(name) = choose(!foreign, |name| directory.join(name).is_file()) else {
        return Err(Error::Weights(format!("no weights in {shown}: looked for {}: add one of them", NAMES.join(", "))));
    };
    let path = directory.join(name);
    if name.ends_with(".index.json") { shards(&path) } else { Ok(vec![path]) }
}

/// True for a `config.json` of something other than transformers' CLIP.
pub(in crate::clip) fn is_foreign(path: &Path) -> bool {
    let json = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    json.is_some_and(|json| json.get("model_type").and_then(Value::as_str) != Some("clip"))
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
    let unreadable = |why: &str| Error::Weights(format!("{shown} is no index of shards ({why}): download it again"));
    let json: Value = serde_json::from_slice(index).map_err(|e| unreadable(&e.to_string()))?;
    let map = json.get("weight_map").and_then(Value::as_object).ok_or_else(|| unreadable("weight_map is missing"))?;
    // plain names only: an index must not lead out of its directory
    let plain = |name: &&str| Path::new(name).file_name().is_some_and(|file| file == *name);
    map.values()
        .map(|name| name.as_str().filter(plain).map(str::to_string).ok_or_else(|| unreadable("a shard's name is no file name")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safetensors_come_first_and_foreign_files_are_passed_over() {
        let has = |name: &str| name.contains("model.");
        assert_eq!(choose(true, has), Some("model.safetensors"));
        assert_eq!(choose(false, has), Some("open_clip_model.safetensors"));
        assert_eq!(choose(true, |name| name.ends_with(".bin")), Some("pytorch_model.bin"));
        assert_eq!(choose(true, |_| false), None);
    }

    #[test]
    fn an_index_cannot_lead_out_of_its_directory() {
        let error = shard_names(br#"{"weight_map": {"a": "../b.safetensors"}}"#, "index").unwrap_err();
        assert!(error.to_string().contains("no file name"), "{error}");
        let names = shard_names(br#"{"weight_map": {"a": "2.safetensors", "b": "1.safetensors", "c": "2.safetensors"}}"#, "index").unwrap();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["1.safetensors", "2.safetensors"]);
    }
}
