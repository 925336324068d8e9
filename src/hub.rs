//! The Hugging Face hub: where models and data sets come from, and its standard cache, where they stay.

use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use hf_hub::api::Progress;
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use crate::error::{Error, Result};
use crate::progress::{Event, check_interrupt, watched};

/// Bytes between two progress events.
const EVERY: usize = 1 << 20;

/// Where models and data sets come from and where they are kept.
#[derive(Clone)]
pub struct HubOptions {
    /// The hub's address, without a slash at the end.
    pub endpoint: String,
    /// The folder with `models--owner--name` and `datasets--owner--name` in it.
    pub cache: PathBuf,
    /// For what is private or gated.
    pub token: Option<String>,
    /// True: the cache only.
    pub offline: bool,
    /// How often a broken download is resumed.
    pub retries: usize,
}

impl HubOptions {
    /// As the hub's other tools read the environment: `HF_ENDPOINT`; `HF_HUB_CACHE`, else `HF_HOME`/hub, else
    /// `~/.cache/huggingface/hub`; `HF_TOKEN`, else the token file; `HF_HUB_OFFLINE`.
    ///
    /// # Errors
    /// [`Error::Hub`] where neither a cache folder nor a home directory is known.
    pub fn from_env() -> Result<Self> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let below = |folder: Option<PathBuf>, name: &str| folder.map(|folder| folder.join(name));
        let user_cache = set("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| below(std::env::home_dir(), ".cache"));
        let home = set("HF_HOME").map(PathBuf::from).or_else(|| below(user_cache, "huggingface"));
        let cache = set("HF_HUB_CACHE").or_else(|| set("HUGGINGFACE_HUB_CACHE")).map(PathBuf::from).or_else(|| below(home.clone(), "hub"));
        let cache = cache.ok_or_else(|| Error::Hub("no folder for the hub's cache (no home directory): set HF_HOME".into()))?;
        let token_file = set("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| below(home, "token"));
        let saved = || token_file.and_then(|path| std::fs::read_to_string(path).ok());
        let token = set("HF_TOKEN").or_else(saved).map(|token| token.trim().to_string()).filter(|token| !token.is_empty());
        let offline = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
            .iter()
            .any(|name| set(name).is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on")));
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        Ok(Self { endpoint: endpoint.trim_end_matches('/').into(), cache, token, offline, retries: 3 })
    }
}

impl std::fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = if self.token.is_some() { "with token" } else { "no token" }; // never the token itself
        write!(f, "HubOptions({}, {}, {token}, offline {})", self.endpoint, self.cache.display(), self.offline)
    }
}

/// True for `name` and `owner/name` that lead neither out of the cache folder nor to another address.
pub(crate) fn is_id(id: &str) -> bool {
    id.split('/').count() <= 2 && id.split('/').all(is_plain)
}

/// The same of a branch, a tag or a commit.
pub(crate) fn is_revision(revision: &str) -> bool {
    revision.split('/').all(is_plain)
}

fn is_plain(part: &str) -> bool {
    !part.is_empty() && !part.starts_with(['.', '-']) && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

/// One repository at one revision.
pub(crate) struct Repository<'a> {
    options: &'a HubOptions,
    repo: Repo,
    name: String,
    instead: &'a str,
}

impl<'a> Repository<'a> {
    /// Messages call it `name`, and where it cannot be had they tell the user what to do `instead`.
    pub(crate) fn new(options: &'a HubOptions, kind: RepoType, id: &str, revision: &str, name: &str, instead: &'a str) -> Self {
        Self { options, repo: Repo::with_revision(id.into(), kind, revision.into()), name: name.into(), instead }
    }

    /// The folder in the cache that the revision led to last; it may hold some of the files, or not be there.
    pub(crate) fn cached(&self) -> PathBuf {
        let root = self.root();
        let commit = std::fs::read_to_string(root.join("refs").join(self.repo.revision()));
        root.join("snapshots").join(commit.as_deref().unwrap_or(self.repo.revision()).trim())
    }

    /// Asks the hub which files there are.
    ///
    /// # Errors
    /// [`Error::Hub`] offline, without network, and where the hub refuses.
    pub(crate) fn list(&self) -> Result<Listing<'_>> {
        let HubOptions { endpoint, cache, token, offline, retries } = self.options;
        if *offline {
            let (name, cache, instead) = (&self.name, cache.display(), self.instead);
            let remedy = format!("unset HF_HUB_OFFLINE to download it once, or {instead}");
            return Err(Error::Hub(format!("{name} is not in the hub's cache {cache} and offline mode is on: {remedy}")));
        }
        let fault = |error| self.fault("its list of files", &error);
        let builder = ApiBuilder::from_cache(Cache::new(cache.clone())).with_endpoint(endpoint.clone()).with_token(token.clone());
        let api = builder.with_retries(*retries).with_progress(false).build().map_err(fault)?.repo(self.repo.clone());
        let info = api.info().map_err(fault)?;
        let names = info.siblings.into_iter().map(|file| file.rfilename).collect();
        Ok(Listing { repository: self, api, folder: self.root().join("snapshots").join(&info.sha), commit: info.sha, names })
    }

    fn root(&self) -> PathBuf {
        self.options.cache.join(self.repo.folder_name())
    }

    /// One line: what was wanted, what happened, what to do.
    fn fault(&self, wanted: &str, error: &ApiError) -> Error {
        let text = error.to_string();
        let text = text.lines().next().unwrap_or("no answer").trim();
        let status = text.split_once("status code ").map(|(_, code)| code.trim());
        let instead = self.instead;
        let why = match (status, error) {
            (Some("401" | "403"), _) => {
                "does not exist, or is private or gated: check the name, accept its terms on the hub and set HF_TOKEN".to_string()
            }
            (Some("404"), _) => "was not found on the hub: check the name and the revision".to_string(),
            (Some("416"), _) | (None, ApiError::InvalidResume) => {
                "left a broken partial download: delete the .part files in its cache folder and try again".to_string()
            }
            (Some(code), _) => format!("was refused by the hub with status {code}: try again later"),
            (None, ApiError::LockAcquisition(_)) => "is being downloaded by another process: wait for it".to_string(),
            (None, ApiError::IoError(_) | ApiError::TooManyRetries(_)) => {
                format!("was cut off while downloading ({text}): run again, it goes on where it stopped")
            }
            (None, ApiError::RequestError(_)) => {
                format!("could not be had, the network cannot be reached ({text}): {instead}, or a filled cache with HF_HOME")
            }
            _ => format!("could not be had, the hub's answer makes no sense ({text}): check HF_ENDPOINT, or {instead}"),
        };
        Error::Hub(format!("{} ({wanted}) {why}", self.name))
    }
}

/// The files of a repository, as the hub lists them.
pub(crate) struct Listing<'a> {
    repository: &'a Repository<'a>,
    api: ApiRepo,
    commit: String,
    pub(crate) names: Vec<String>,
    /// Where the files lie once they are downloaded.
    pub(crate) folder: PathBuf,
}

impl Listing<'_> {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.iter().any(|other| other == name)
    }

    /// The local path of one file, downloaded where it is missing. An interrupt stops before it.
    pub(crate) fn get(&self, name: &str, events: &mut dyn FnMut(&Event)) -> Result<PathBuf> {
        check_interrupt("downloading")?;
        if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
            let repository = &self.repository.name;
            return Err(Error::Hub(format!("{repository}: file {name:?} would lie outside the cache: choose another repository")));
        }
        let path = self.folder.join(name);
        if path.is_file() {
            return Ok(path);
        }
        let progress = DownloadProgress::new(name, watched(events));
        self.api.download_with_progress(name, progress).map_err(|error| self.repository.fault(name, &error))
    }

    /// From now on the revision leads to these files without network, also where none of them had to be downloaded.
    pub(crate) fn keep(&self) -> Result<()> {
        let HubOptions { cache, .. } = self.repository.options;
        Cache::new(cache.clone()).repo(self.repository.repo.clone()).create_ref(&self.commit).map_err(|e| Error::io(cache, e))
    }
}

/// The files below a folder, by their paths in it, sorted.
pub(crate) fn names_below(folder: &Path) -> Vec<String> {
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
    let mut names = Vec::new();
    walk(folder, "", &mut names);
    names.sort();
    names
}

/// One file's download as progress events; sizes in bytes.
struct DownloadProgress<F> {
    stage: String,
    events: F,
    total: usize,
    done: usize,
    said: usize,
    started: Option<Instant>,
}

impl<F: FnMut(&Event)> DownloadProgress<F> {
    fn new(name: &str, events: F) -> Self {
        Self { stage: format!("downloading {name}"), events, total: 0, done: 0, said: 0, started: None }
    }

    fn advance(&mut self) {
        self.said = self.done;
        (self.events)(&Event::Advanced { stage: self.stage.clone(), done: self.done, total: self.total, loss: None, accuracy: None });
    }
}

impl<F: FnMut(&Event)> Progress for DownloadProgress<F> {
    /// Called again at every retry, which counts from 0.
    fn init(&mut self, size: usize, _: &str) {
        (self.total, self.done, self.said) = (size, 0, 0);
        if self.started.is_none() {
            self.started = Some(Instant::now());
            (self.events)(&Event::Started { stage: self.stage.clone(), total: size, unit: "bytes".into() });
        }
    }

    fn update(&mut self, size: usize) {
        self.done += size;
        if self.done >= self.said + EVERY {
            self.advance();
        }
    }

    fn finish(&mut self) {
        self.advance();
        let seconds = self.started.map_or(0.0, |started| started.elapsed().as_secs_f64());
        (self.events)(&Event::Finished { stage: self.stage.clone(), seconds });
    }
}
