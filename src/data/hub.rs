//! Data sets of the hub, by their Parquet files or tar shards, through the hub's standard cache.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hf_hub::RepoType;

use crate::data::card_files::CardConfig;
use crate::data::folder::ending;
use crate::data::shards::NAMES;
use crate::data::split_files::{Chosen, choose_files, choose_named};
use crate::error::{Error, Result};
use crate::hub::{HubOptions, Repository, is_id, is_revision, names_below, offline_by};
use crate::progress::{Event, silent};

/// Where class names, and the files of configurations and splits, may stand.
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
/// which files there are; cached files are not downloaded again, and are used alone, with a notice, if the hub cannot be asked.
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
    let files = match repository.list(events) {
        Ok(files) => files,
        Err(error @ Error::Interrupted(_)) => return Err(error),
        Err(error) => {
            return match from_cache(&repository, &spec, wanted, &origin, events) {
                Ok(Some(found)) => {
                    if !options.offline {
                        let commit = repository.known().0;
                        events(&Event::Notice(format!("{error}; the cache's files are used, which are of commit {commit}")));
                    }
                    Ok(found)
                }
                Err(fault) if options.offline => Err(fault),
                _ => Err(error),
            };
        }
    };
    let card = match files.has(CARD).then(|| files.get(CARD, &mut silent).and_then(|path| read_card(&path))) {
        Some(Err(error @ Error::Interrupted(_))) => return Err(error),
        Some(Err(error)) => {
            events(&Event::Notice(format!("{error}; names of classes and files that stand there alone are not known")));
            String::new()
        }
        card => card.transpose()?.unwrap_or_default(),
    };
    let (names, chosen) = select(&files.names, &card, &spec, wanted, &origin)?;
    let paths: Vec<PathBuf> = names.iter().map(|name| files.get(name, events)).collect::<Result<_>>()?;
    if files.has(NAMES) && paths.first().is_some_and(|path| ending(path) == "tar") {
        files.get(NAMES, &mut silent)?;
    }
    files.keep();
    Ok((paths, chosen))
}

fn read_card(path: &Path) -> Result<String> {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).map_err(|e| Error::io(path, e))
}

/// The Parquet files, or else the tar shards, of the wanted configuration and split: as the card names them, else as their own names tell.
fn select(names: &[String], card: &str, spec: &Spec, wanted: Option<&str>, origin: &str) -> Result<(Vec<String>, Chosen)> {
    let several = |list: &[&str]| {
        let (shown, id, first) = (list.join(", "), &spec.id, list.first().copied().unwrap_or_default());
        Err(Error::Data(format!("{origin}: holds several configurations, {shown}: name one, as hf:{id}/{first}")))
    };
    let of_card = CardConfig::all(card);
    let config = match &spec.configuration {
        Some(name) => of_card.iter().find(|config| config.name == *name),
        None => CardConfig::unnamed(&of_card),
    };
    let config_names: Vec<&str> = of_card.iter().map(|config| config.name.as_str()).collect();
    if config.is_none() && spec.configuration.is_none() && !of_card.is_empty() {
        return several(&config_names);
    }
    let is_data = |i: &usize| names[*i].ends_with(".parquet") || names[*i].ends_with(".tar");
    let by_card = config.and_then(|config| config.files(names, &spec.id));
    // a card of other files tells nothing about these
    let foreign = by_card.as_ref().is_some_and(|splits| !splits.iter().any(|(_, files)| files.iter().any(is_data)));
    let by_card = by_card.filter(|_| !foreign);
    let prefix = match config {
        Some(config) => config.folder.clone(),
        None => spec.configuration.as_ref().map(|name| format!("{name}/")).unwrap_or_default(),
    };
    let data = |ending: &str| -> Vec<String> {
        let is_of = |i: usize, name: &str| match &by_card {
            Some(splits) => splits.iter().any(|(_, files)| files.contains(&i)),
            None => name.starts_with(&prefix),
        };
        names.iter().enumerate().filter(|(i, name)| name.ends_with(ending) && is_of(*i, name)).map(|(_, name)| name.clone()).collect()
    };
    let mut files = Some(data(".parquet")).filter(|files| !files.is_empty()).unwrap_or_else(|| data(".tar"));
    files.sort();
    if files.is_empty() {
        let remedy = match (&spec.configuration, config_names.as_slice()) {
            (Some(_), [_, ..]) => format!("its card names {}", config_names.join(", ")),
            _ => "try the converted copy, @refs/convert/parquet after the name".to_string(),
        };
        return Err(Error::Hub(format!(
            "{origin}: has no Parquet files or tar shards{} at revision {}: {remedy}",
            spec.inside(),
            spec.revision
        )));
    }
    if let Some(splits) = by_card {
        let of_split = |split: &str| {
            let places = splits.iter().filter(|(name, _)| *name == split).flat_map(|(_, places)| places);
            let mut places: Vec<usize> = places.filter_map(|i| files.binary_search(&names[*i]).ok()).collect();
            places.sort_unstable();
            places.dedup();
            places
        };
        let splits: Vec<(String, Vec<usize>)> = splits.iter().map(|(name, _)| (name.to_string(), of_split(name))).collect();
        let chosen = choose_named(&files, &splits, wanted, origin)?;
        return Ok((chosen.files.iter().filter_map(|i| files.get(*i).cloned()).collect(), chosen));
    }
    let mut chosen = choose_files(&files, wanted, origin)?;
    if foreign {
        chosen.notices.push("the files that the card names are no Parquet files or tar shards: files are chosen by their names".into());
    }
    let names: Vec<String> = chosen.files.iter().filter_map(|i| files.get(*i).cloned()).collect();
    let folders: BTreeSet<&str> = names.iter().map(|name| name.split_once('/').map_or("", |(first, _)| first)).collect();
    match (config, &spec.configuration) {
        (None, None) if folders.len() > 1 => several(&folders.into_iter().collect::<Vec<_>>()),
        _ => Ok((names, chosen)),
    }
}

/// The same from the cache alone; `None` if it holds nothing.
///
/// # Errors
/// [`Error::Hub`] if files are missing; as [`select`].
fn from_cache(
    repository: &Repository,
    spec: &Spec,
    wanted: Option<&str>,
    origin: &str,
    events: &mut dyn FnMut(&Event),
) -> Result<Option<(Vec<PathBuf>, Chosen)>> {
    let snapshot = repository.cached();
    let cached = names_below(&snapshot);
    if cached.is_empty() {
        return Ok(None);
    }
    // which files there are was kept when some were downloaded, but not by other programs
    let (commit, known) = repository.known();
    let listed = known.is_some();
    let names = known.unwrap_or_else(|| cached.clone());
    let missing = |what: &str| {
        let remedy = format!("unset {} to download the rest, or pass a folder with its Parquet files", offline_by());
        Err(Error::Hub(format!("{origin} is not in the hub's cache as a whole, {what} at revision {}: {remedy}", spec.revision)))
    };
    let card = match snapshot.join(CARD) {
        path if path.is_file() => read_card(&path)?,
        _ if names.iter().any(|name| name == CARD) => return missing("without its README.md"),
        _ => String::new(),
    };
    let (names, chosen) = match select(&names, &card, spec, wanted, origin) {
        // what the cache lacks, the hub may have
        Err(Error::Hub(_)) if !listed => {
            let (inside, revision) = (spec.inside(), &spec.revision);
            let remedy = format!("unset {} to download them, or give @<commit> of a revision that the cache holds", offline_by());
            return Err(Error::Hub(format!(
                "{origin}: the hub's cache holds no Parquet files or tar shards{inside} at revision {revision}: {remedy}"
            )));
        }
        selected => selected?,
    };
    // `train-00000-of-00003` alone is not the train split.
    if let Some(part) = &chosen.missing {
        return missing(&format!("only {part}"));
    }
    let here = names.iter().filter(|name| snapshot.join(name).is_file()).count();
    if here < names.len() {
        return missing(&format!("only {here} of {} files", names.len()));
    }
    if !listed {
        let text =
            format!("{origin}: the cache does not tell which files the set has at commit {commit}; the {here} that it holds are read");
        events(&Event::Notice(text));
    }
    Ok(Some((names.iter().map(|name| snapshot.join(name)).collect(), chosen)))
}
