//! GGUF files of the Hugging Face hub, through its standard cache.

use std::path::{Path, PathBuf};

use hf_hub::api::sync::{ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use crate::clip::hub::HubOptions;
use crate::error::{Error, Result};
use crate::progress::Event;

/// What is taken where the user names no quantisation.
const DEFAULT: &str = "q4_k_m";

/// The local path of `owner/name[:part of a file name]`; what is in the cache already is used without asking the network.
pub(super) fn download(spec: &str, events: &mut dyn FnMut(&Event)) -> Result<PathBuf> {
    download_with(&HubOptions::from_env()?, spec, events)
}

/// [`download`] with explicit options.
pub(super) fn download_with(options: &HubOptions, spec: &str, events: &mut dyn FnMut(&Event)) -> Result<PathBuf> {
    let (id, part) = spec.split_once(':').map_or((spec, None), |(id, part)| (id, Some(part)));
    let plain = |part: &str| {
        !part.is_empty() && !part.starts_with(['.', '-']) && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    if id.split('/').count() != 2 || !id.split('/').all(plain) {
        return Err(Error::Usage(format!(
            "--llm {spec} is neither a file nor a hub id: expected model.gguf, owner/name or owner/name:q4_k_m"
        )));
    }
    let repo = Repo::new(id.to_string(), RepoType::Model);
    let cache = Cache::new(options.cache.clone());
    let root = options.cache.join(repo.folder_name());
    let commit = std::fs::read_to_string(root.join("refs/main")).unwrap_or_default();
    let snapshot = root.join("snapshots").join(commit.trim());
    if !commit.trim().is_empty()
        && let Ok(name) = choose(&names_in(&snapshot), part, id)
    {
        return Ok(snapshot.join(name));
    }
    if options.offline {
        return Err(Error::Hub(format!(
            "{spec} is not in the hub's cache and offline mode is on: unset HF_HUB_OFFLINE to download it once"
        )));
    }
    let fault = |e: ApiError| {
        let line = e.to_string().lines().next().unwrap_or("no answer").trim().to_string();
        let remedy = "check the name, the network and, for a gated model, HF_TOKEN; or name a .gguf file";
        Error::Hub(format!("{id} cannot be had from the hub ({line}): {remedy}"))
    };
    let builder = ApiBuilder::from_cache(cache.clone()).with_endpoint(options.endpoint.clone()).with_token(options.token.clone());
    let api = builder.with_retries(options.retries).with_progress(false).build().map_err(fault)?.repo(repo.clone());
    let names: Vec<String> = api.info().map_err(fault)?.siblings.into_iter().map(|file| file.rfilename).collect();
    let name = choose(&names, part, id)?;
    events(&Event::Notice(format!("downloading {name} of {id}")));
    // the tokenizer first: it is small, and a model without it may be useless
    if names.iter().any(|name| name == "tokenizer.json") && !name.contains('/') {
        api.get("tokenizer.json").map_err(fault)?;
    }
    api.get(&name).map_err(fault)
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

/// The files of a snapshot, at most one folder down.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten().collect::<Vec<_>>();
    let mut names = Vec::new();
    for entry in entries(folder) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            names.extend(entries(&entry.path()).iter().map(|inner| format!("{name}/{}", inner.file_name().to_string_lossy())));
        } else {
            names.push(name);
        }
    }
    names
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
