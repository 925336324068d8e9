//! CLIPs of the hub: downloaded once, then from the hub's standard cache.

use std::path::{Path, PathBuf};

use hf_hub::RepoType;

use super::{folder, weights};
use crate::error::{Error, Result};
use crate::hub::{HubOptions, Listing, Repository, is_id, is_revision};
use crate::progress::Event;

/// Optional files, with the tokenizer's downloaded before the weights: a snapshot that has weights has everything.
const SMALL: [&str; 4] = [folder::CONFIG, folder::OPEN_CLIP, folder::IMAGES, folder::PROCESSOR];

/// The local folder of a hub model ("openai/clip-vit-base-patch32", revision "main" if `None`): configuration, weights
/// (safetensors before pickles, in open_clip's layout its own names first), tokenizer and preprocessing. What is in the
/// cache already is used without a request to the network, unless another program left the tokenizer or the image settings out.
///
/// # Errors
/// [`Error::Usage`] for an impossible id; [`Error::Hub`] if the model does not exist, is gated or private, holds no CLIP
/// weights, or the network cannot be reached.
pub fn download(id: &str, revision: Option<&str>, mut events: impl FnMut(&Event)) -> Result<PathBuf> {
    download_with(&HubOptions::from_env()?, id, revision, &mut events)
}

/// [`download`] with explicit options.
///
/// # Errors
/// As [`download`].
pub fn download_with(options: &HubOptions, id: &str, revision: Option<&str>, events: &mut dyn FnMut(&Event)) -> Result<PathBuf> {
    let revision = revision.unwrap_or("main");
    if !is_id(id) {
        return Err(Error::Usage(format!("{id:?} is neither a directory nor a hub id: expected a folder, owner/name, or demo")));
    }
    if !is_revision(revision) {
        return Err(Error::Usage(format!("{revision:?} is not a revision: expected a branch, a tag or a commit")));
    }
    let name = if revision == "main" { id.to_string() } else { format!("{id} at revision {revision}") };
    let model = Repository::new(options, RepoType::Model, id, revision, &name, "pass a folder with --model DIR");
    let cached = Some(model.cached()).filter(|folder| holds_clip(folder));
    let (commit, names) = model.known();
    if let Some(folder) = cached.as_ref().filter(|folder| is_complete(folder, names.as_deref())) {
        return Ok(folder.clone());
    }
    let listed = model.list(events);
    match (listed.and_then(|files| fetch(&files, &name, events)), cached) {
        // better than nothing, unless the hub has image settings, which change every number
        (Err(error), Some(folder)) if names.is_none() && !matches!(error, Error::Interrupted(_)) => {
            let lacks = [(has_tokenizer(&folder), "a tokenizer"), (folder::has_images(&folder), "image settings")];
            let lacks = lacks.iter().filter(|(has, _)| !has).map(|(_, what)| *what).collect::<Vec<_>>().join(" and ");
            let why = if options.offline { format!("{name}: offline mode is on") } else { error.to_string() };
            events(&Event::Notice(format!("{why}; commit {commit} is in the cache without {lacks}, which the hub may have")));
            Ok(folder)
        }
        (folder, _) => folder,
    }
}

/// True for a snapshot that lacks none of the repository's small files, or, where these are not known, neither tokenizer nor image settings.
fn is_complete(folder: &Path, names: Option<&[String]>) -> bool {
    match names {
        Some(names) => names.iter().filter(|name| is_small(name)).all(|name| folder.join(name).is_file()),
        None => has_tokenizer(folder) && folder::has_images(folder),
    }
}

fn is_small(name: &str) -> bool {
    SMALL.iter().chain(&folder::TOKENIZER).any(|small| *small == name)
}

/// Downloads what is missing and returns the snapshot's folder.
fn fetch(files: &Listing, name: &str, events: &mut dyn FnMut(&Event)) -> Result<PathBuf> {
    for name in files.names.iter().filter(|name| is_small(name)) {
        files.get(name, events)?;
    }
    // before the weights: another kind of model is refused by its configuration
    let configured = folder::read(&files.folder).map_err(|error| Error::Hub(format!("{name}: {error}")))?;
    let own = files.names.iter().map(String::as_str).filter(|file| !file.contains('/'));
    let chosen = weights::choose(folder::weight_names(&files.folder), own).map_err(|several| {
        let (count, shown) = (several.len(), several.iter().take(3).copied().collect::<Vec<_>>().join(", "));
        Error::Hub(format!("{name} holds {count} files with weights ({shown}): download one and give its folder with --model DIR"))
    })?;
    let Some(chosen) = chosen.filter(|_| configured.is_some()) else {
        let remedy = "choose a CLIP in the layout of transformers or of open_clip";
        return Err(Error::Hub(format!("{name} holds no CLIP weights and configuration: {remedy}")));
    };
    let path = files.get(chosen, events)?;
    if chosen.ends_with(".index.json") {
        let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, e))?;
        for shard in weights::shard_names(&bytes, chosen)? {
            files.get(&shard, events)?;
        }
    }
    files.keep();
    Ok(files.folder.clone())
}

/// True for a folder with configuration and weights, all shards included.
fn holds_clip(directory: &Path) -> bool {
    folder::is_configured(directory) && weights::find(directory).is_ok()
}

fn has_tokenizer(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    has("tokenizer.json") || (has("vocab.json") && has("merges.txt")) || has("bpe_simple_vocab_16e6.txt.gz")
}
