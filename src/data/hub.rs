//! Data sets of the Hugging Face hub, by their Parquet files, through the hub's standard cache.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use crate::data::options::OpenOptions;
use crate::data::split::choose_files;
use crate::error::{Error, Result};

/// `owner/name[/configuration][@revision][:split]`, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Spec {
    id: String,
    configuration: Option<String>,
    revision: String,
    split: Option<String>,
}

impl Spec {
    fn parse(text: &str) -> Result<Self> {
        let (rest, split) = text.split_once(':').map_or((text, None), |(rest, split)| (rest, Some(split.to_string())));
        let (path, revision) = rest.split_once('@').unwrap_or((rest, "main"));
        let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', ' ']);
        let parts: Vec<&str> = path.split('/').collect();
        let whole = parts.iter().all(|part| plain(part)) && revision.split('/').all(plain) && split.as_deref().is_none_or(plain);
        let (id, configuration) = match parts.as_slice() {
            [name] => (name.to_string(), None),
            [owner, name] => (format!("{owner}/{name}"), None),
            [owner, name, more @ ..] => (format!("{owner}/{name}"), Some(more.join("/"))),
            [] => (String::new(), None),
        };
        if !whole {
            return Err(Error::Usage(format!("hf:{text}: expected hf:owner/name, with @revision and :split if need be")));
        }
        Ok(Self { id, configuration, revision: revision.to_string(), split })
    }
}

/// The Parquet files of `name` (what stands after `hf:`) on this disk. What was downloaded once is found again without network.
pub(crate) fn parquet_files(name: &str, split: Option<&str>, options: &OpenOptions) -> Result<Vec<PathBuf>> {
    let spec = Spec::parse(name)?;
    let origin = format!("hf:{name}");
    let wanted = spec.split.as_deref().or(split);
    let cache = match &options.hub_cache {
        Some(path) => Cache::new(path.clone()),
        None => Cache::from_env(),
    };
    let repo = Repo::with_revision(spec.id.clone(), RepoType::Dataset, spec.revision.clone());
    let cached = || from_cache(&cache, &repo, &spec, wanted, &origin);
    let offline =
        options.offline.unwrap_or_else(|| std::env::var("HF_HUB_OFFLINE").is_ok_and(|v| !matches!(v.as_str(), "" | "0" | "false")));
    if offline {
        return cached()?.ok_or_else(|| {
            let shown = cache.path().display();
            Error::Hub(format!(
                "{origin}: not in the hub's cache {shown}, and offline mode is on: unset HF_HUB_OFFLINE to download it once"
            ))
        });
    }
    let api = connect(&cache, &repo, options).map_err(|e| fault(&origin, &e))?;
    match api.info() {
        Ok(info) => {
            let names: Vec<String> = info.siblings.into_iter().map(|file| file.rfilename).collect();
            let chosen = select(&names, &spec, wanted, &origin)?;
            chosen.iter().map(|name| api.get(name).map_err(|e| fault(&origin, &e))).collect()
        }
        // Downloaded once, then usable without network.
        Err(e) if !answered(&e) => cached().ok().flatten().ok_or_else(|| fault(&origin, &e)),
        Err(e) => Err(fault(&origin, &e)),
    }
}

fn connect(cache: &Cache, repo: &Repo, options: &OpenOptions) -> std::result::Result<ApiRepo, ApiError> {
    let mut builder = ApiBuilder::from_cache(cache.clone()).with_progress(options.progress);
    if let Some(endpoint) = options.hub_endpoint.clone().or_else(|| std::env::var("HF_ENDPOINT").ok()) {
        builder = builder.with_endpoint(endpoint);
    }
    if let Ok(token) = std::env::var("HF_TOKEN") {
        builder = builder.with_token(Some(token));
    }
    Ok(builder.build()?.repo(repo.clone()))
}

/// True where the hub answered, if only to refuse.
fn answered(error: &ApiError) -> bool {
    matches!(error, ApiError::RequestError(_)) && error.to_string().contains("status code")
}

fn fault(origin: &str, error: &ApiError) -> Error {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or("no answer").trim();
    let remedy = if answered(error) {
        "check the name and the revision; a private data set needs HF_TOKEN"
    } else {
        "check the network, or use a local copy of the Parquet files"
    };
    Error::Hub(format!("{origin}: cannot be had from the hub: {line}: {remedy}"))
}

/// The Parquet files of the wanted configuration and split.
fn select(names: &[String], spec: &Spec, wanted: Option<&str>, origin: &str) -> Result<Vec<String>> {
    let prefix = spec.configuration.as_ref().map(|name| format!("{name}/")).unwrap_or_default();
    let inside = |name: &&String| name.ends_with(".parquet") && name.starts_with(&prefix);
    let mut files: Vec<String> = names.iter().filter(inside).cloned().collect();
    files.sort();
    if files.is_empty() {
        let remedy = "try the converted copy, @refs/convert/parquet after the name";
        return Err(Error::Hub(format!("{origin}: has no Parquet files in \"{prefix}\" at revision {}: {remedy}", spec.revision)));
    }
    let (chosen, _) = choose_files(&files, wanted, origin)?;
    let chosen: Vec<String> = chosen.into_iter().filter_map(|i| files.get(i).cloned()).collect();
    let configurations: BTreeSet<&str> = chosen.iter().map(|name| name.split_once('/').map_or("", |(first, _)| first)).collect();
    let names: Vec<&str> = configurations.into_iter().collect();
    match (names.as_slice(), &spec.configuration) {
        ([first, _, ..], None) => {
            let (list, id) = (names.join(", "), &spec.id);
            Err(Error::Data(format!("{origin}: holds several configurations, {list}: name one, as hf:{id}/{first}")))
        }
        _ => Ok(chosen),
    }
}

/// The same from the cache alone; `None` where it does not hold all shards.
fn from_cache(cache: &Cache, repo: &Repo, spec: &Spec, wanted: Option<&str>, origin: &str) -> Result<Option<Vec<PathBuf>>> {
    let root = cache.path().join(repo.folder_name());
    let commit = std::fs::read_to_string(root.join("refs").join(&spec.revision)).unwrap_or_else(|_| spec.revision.clone());
    let snapshot = root.join("snapshots").join(commit.trim());
    let mut names = Vec::new();
    walk(&snapshot, "", &mut names);
    if names.is_empty() {
        return Ok(None);
    }
    let chosen = select(&names, spec, wanted, origin)?;
    // `train-00000-of-00003` alone is not the train split.
    let shards = |name: &str| name.rsplit_once("-of-").and_then(|(_, count)| count.trim_end_matches(".parquet").parse::<usize>().ok());
    let whole = chosen.first().and_then(|name| shards(name)).is_none_or(|count| count == chosen.len());
    Ok(whole.then(|| chosen.iter().map(|name| snapshot.join(name)).collect()))
}

fn walk(folder: &Path, prefix: &str, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            walk(&entry.path(), &format!("{name}/"), names);
        } else {
            names.push(name);
        }
    }
}
