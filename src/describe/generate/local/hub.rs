//! GGUF files of the hub, through its standard cache.

use std::path::PathBuf;

use hf_hub::RepoType;

use crate::error::{Error, Result};
use crate::hub::{HubOptions, Repository, is_id, names_below};
use crate::progress::Event;

/// What is taken if the user names no quantization.
const DEFAULT: &str = "q4_k_m";

/// The local path of `owner/name[:part of a file name]`; what is in the cache already is used without asking the network.
pub(super) fn download(spec: &str, events: &mut dyn FnMut(&Event)) -> Result<PathBuf> {
    download_with(&HubOptions::from_env()?, spec, events)
}

/// [`download`] with explicit options.
pub(super) fn download_with(options: &HubOptions, spec: &str, events: &mut dyn FnMut(&Event)) -> Result<PathBuf> {
    let (id, part) = spec.split_once(':').map_or((spec, None), |(id, part)| (id, Some(part)));
    if id.split('/').count() != 2 || !is_id(id) {
        return Err(Error::Usage(format!(
            "--llm {spec} is neither a file nor a hub id: expected model.gguf, owner/name or owner/name:q4_k_m"
        )));
    }
    let model = Repository::new(options, RepoType::Model, id, "main", spec, "pass a file with --llm model.gguf");
    let cached = model.cached();
    let names = names_below(&cached);
    // the cache may hold another quantization alone: one that was named before
    if let Ok(name) = choose(&names, Some(part.unwrap_or(DEFAULT)), id) {
        return Ok(cached.join(name));
    }
    let files = match (model.list(events), choose(&names, part, id)) {
        (Err(error), Ok(name)) if !matches!(error, Error::Interrupted(_)) => {
            events(&Event::Notice(format!("{error}; {name} of the cache is taken")));
            return Ok(cached.join(name));
        }
        (files, _) => files?,
    };
    let name = choose(&files.names, part, id)?;
    // the tokenizer first: it is small, and a model without it may be useless
    if files.has("tokenizer.json") && !name.contains('/') {
        files.get("tokenizer.json", events)?;
    }
    let path = files.get(&name, events)?;
    files.keep();
    Ok(path)
}

/// The file of a repository that `part` names: exactly one, not split into several.
fn choose(names: &[String], part: Option<&str>, id: &str) -> Result<String> {
    let models: Vec<&String> = names.iter().filter(|name| name.ends_with(".gguf") && !name.contains("mmproj")).collect();
    let wanted = part.unwrap_or(DEFAULT).to_lowercase();
    let found: Vec<&String> = models.iter().copied().filter(|name| name.to_lowercase().contains(&wanted)).collect();
    match (found.as_slice(), models.as_slice(), part) {
        ([one], _, _) | ([], [one], None) if !one.contains("-of-") => Ok(one.to_string()),
        (_, [], _) => Err(Error::Hub(format!("{id} holds no GGUF file: choose a repository whose name ends in -GGUF"))),
        _ => {
            let list = crate::describe::names::listed(&models);
            Err(Error::Hub(format!("{id} holds no single file for \"{wanted}\": name one of {list}, as {id}:part-of-its-name")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str], part: Option<&str>) -> Result<String> {
        choose(&names.iter().map(ToString::to_string).collect::<Vec<_>>(), part, "owner/name")
    }

    #[test]
    fn one_file_is_chosen_or_the_list_is_shown() {
        let names = ["README.md", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-m-Q8_0.gguf"];
        assert_eq!(chosen(&names, None).unwrap(), "m-Q4_K_M.gguf");
        assert_eq!(chosen(&names, Some("q8_0")).unwrap(), "m-Q8_0.gguf");
        assert!(chosen(&names, Some("q2")).unwrap_err().to_string().contains("m-Q4_K_M.gguf"));
        assert_eq!(chosen(&["only.gguf"], None).unwrap(), "only.gguf");
        assert!(chosen(&["a.safetensors"], None).unwrap_err().to_string().contains("no GGUF"));
        assert!(chosen(&["m-q4_k_m-00001-of-00002.gguf"], None).is_err());
    }
}
