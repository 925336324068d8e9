//! Data sets of the hub, by their Parquet files or tar shards, through the hub's standard cache.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hf_hub::RepoType;

use crate::data::folder::ending;
use crate::data::parquet::names_its_classes;
use crate::data::shards::NAMES;
use crate::data::split_files::{Chosen, choose_files};
use crate::error::{Error, Result};
use crate::hub::{HubOptions, Repository, is_id, is_revision, names_below};
use crate::progress::{Event, silent};

/// Where class names may stand.
const CARD: &str = "README.md";

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
        let bare = text.strip_prefix("//").unwrap_or(text); // as in hf://datasets/owner/name
        let bare = bare.strip_prefix("datasets/").unwrap_or(bare);
        let (rest, split) = bare.split_once(':').map_or((bare, None), |(rest, split)| (rest, Some(split.to_string())));
        let (path, revision) = rest.split_once('@').unwrap_or((rest, "main"));
        let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', ' ']);
        let parts: Vec<&str> = path.split('/').collect();
        let (id, configuration) = match parts.as_slice() {
            [name] => (name.to_string(), None),
            [owner, name] => (format!("{owner}/{name}"), None),
            [owner, name, more @ ..] => (format!("{owner}/{name}"), Some(more.join("/"))),
            [] => (String::new(), None),
        };
        let whole = is_id(&id) && is_revision(revision) && parts.iter().all(|part| plain(part)) && split.as_deref().is_none_or(plain);
        if !whole {
            return Err(Error::Usage(format!("hf:{text}: expected hf:owner/name, with @revision and :split if need be")));
        }
        Ok(Self { id, configuration, revision: revision.to_string(), split })
    }

    /// ` in "configuration"`, for messages.
    fn inside(&self) -> String {
        self.configuration.as_ref().map_or(String::new(), |name| format!(" in \"{name}\""))
    }
}

/// The Parquet files, or else the tar shards, of `name` (what stands after `hf:`) on this disk, and how they were chosen. The hub is asked
/// which files there are; cached files are not downloaded again, and are used alone if the hub cannot be asked.
pub(crate) fn data_files(
    options: &HubOptions,
    name: &str,
    split: Option<&str>,
    events: &mut dyn FnMut(&Event),
) -> Result<(Vec<PathBuf>, Chosen)> {
    let spec = Spec::parse(name)?;
    let origin = format!("hf:{name}");
    let wanted = spec.split.as_deref().or(split);
    let instead = "pass a folder with its Parquet files";
    let repository = Repository::new(options, RepoType::Dataset, &spec.id, &spec.revision, &origin, instead);
    let files = match repository.list() {
        Ok(files) => files,
        Err(error) => {
            return match from_cache(&repository.cached(), &spec, wanted, &origin) {
                Ok(Some(found)) => Ok(found),
                Err(fault) if options.offline => Err(fault),
                _ => Err(error),
            };
        }
    };
    let (names, chosen) = select(&files.names, &spec, wanted, &origin)?;
    let paths: Vec<PathBuf> = names.iter().map(|name| files.get(name, events)).collect::<Result<_>>()?;
    // The names of the classes may stand in the card alone. It is small, and the set can be read without it.
    if files.has(CARD) && !paths.first().is_some_and(|path| names_its_classes(path)) {
        let _ = files.get(CARD, &mut silent);
    }
    if files.has(NAMES) && paths.first().is_some_and(|path| ending(path) == "tar") {
        let _ = files.get(NAMES, &mut silent);
    }
    files.keep()?;
    Ok((paths, chosen))
}

/// The Parquet files, or else the tar shards, of the wanted configuration and split.
fn select(names: &[String], spec: &Spec, wanted: Option<&str>, origin: &str) -> Result<(Vec<String>, Chosen)> {
    let prefix = spec.configuration.as_ref().map(|name| format!("{name}/")).unwrap_or_default();
    let files = |ending: &str| -> Vec<String> {
        names.iter().filter(|name| name.ends_with(ending) && name.starts_with(&prefix)).cloned().collect()
    };
    let mut files = Some(files(".parquet")).filter(|files| !files.is_empty()).unwrap_or_else(|| files(".tar"));
    files.sort();
    if files.is_empty() {
        let remedy = "try the converted copy, @refs/convert/parquet after the name";
        return Err(Error::Hub(format!(
            "{origin}: has no Parquet files or tar shards{} at revision {}: {remedy}",
            spec.inside(),
            spec.revision
        )));
    }
    let chosen = choose_files(&files, wanted, origin)?;
    let names: Vec<String> = chosen.files.iter().filter_map(|i| files.get(*i).cloned()).collect();
    let configurations: BTreeSet<&str> = names.iter().map(|name| name.split_once('/').map_or("", |(first, _)| first)).collect();
    let configurations: Vec<&str> = configurations.into_iter().collect();
    match (configurations.as_slice(), &spec.configuration) {
        ([first, _, ..], None) => {
            let (list, id) = (configurations.join(", "), &spec.id);
            Err(Error::Data(format!("{origin}: holds several configurations, {list}: name one, as hf:{id}/{first}")))
        }
        _ => Ok((names, chosen)),
    }
}

/// The same from the cache alone; `None` if it holds nothing.
///
/// # Errors
/// [`Error::Hub`] if shards are missing; as [`select`].
fn from_cache(snapshot: &Path, spec: &Spec, wanted: Option<&str>, origin: &str) -> Result<Option<(Vec<PathBuf>, Chosen)>> {
    let names = names_below(snapshot);
    if names.is_empty() {
        return Ok(None);
    }
    let prefix = spec.configuration.as_ref().map(|name| format!("{name}/")).unwrap_or_default();
    let is_data = |name: &&String| (name.ends_with(".parquet") || name.ends_with(".tar")) && name.starts_with(&prefix);
    if !names.iter().any(|name| is_data(&name)) {
        let (inside, revision) = (spec.inside(), &spec.revision);
        let remedy = "unset HF_HUB_OFFLINE to download them, or give @<commit> of a revision that the cache holds";
        return Err(Error::Hub(format!(
            "{origin}: the hub's cache holds no Parquet files or tar shards{inside} at revision {revision}: {remedy}"
        )));
    }
    let (names, chosen) = select(&names, spec, wanted, origin)?;
    // `train-00000-of-00003` alone is not the train split.
    if let Some(missing) = &chosen.missing {
        let remedy = "unset HF_HUB_OFFLINE to download the rest, or pass a folder with its Parquet files";
        return Err(Error::Hub(format!("{origin} is not in the hub's cache as a whole, only {missing}: {remedy}")));
    }
    Ok(Some((names.iter().map(|name| snapshot.join(name)).collect(), chosen)))
}
