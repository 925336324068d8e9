//! The Hugging Face hub: where models and data sets come from, and its standard cache, where they stay.
//!
//! The cache's layout is hf-hub's. The downloads of its version 0.4 are not used: they know nothing of `NO_PROXY`, give up after
//! five seconds if another process downloads the same file, and follow no mirror to another host.

mod client;
mod download;

use std::path::{Component, Path, PathBuf};

use hf_hub::{Repo, RepoType};
use serde::Deserialize;

use self::client::{Client, Fault, encoded};
use self::download::Download;
use crate::error::{Error, Result};
use crate::files::save_atomically;
use crate::progress::{Event, check_interrupt};

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
    /// `~/.cache/huggingface/hub`; `HF_TOKEN`, else `HUGGING_FACE_HUB_TOKEN`, else the token file, and none of them with
    /// `HF_HUB_DISABLE_IMPLICIT_TOKEN`; `HF_HUB_OFFLINE` and `TRANSFORMERS_OFFLINE`, for data sets also `HF_DATASETS_OFFLINE`.
    ///
    /// # Errors
    /// [`Error::Hub`] if neither a cache folder nor a home directory is known.
    pub fn from_env() -> Result<Self> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let path = |name: &str| set(name).map(|value| expanded(&value, set));
        let below = |folder: Option<PathBuf>, name: &str| folder.map(|folder| folder.join(name));
        let user_cache = path("XDG_CACHE_HOME").or_else(|| below(std::env::home_dir(), ".cache"));
        let home = path("HF_HOME").or_else(|| below(user_cache, "huggingface"));
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE")).or_else(|| below(home.clone(), "hub"));
        let cache = cache.ok_or_else(|| Error::Hub("no folder for the hub's cache (no home directory): set HF_HOME".into()))?;
        let token_file = path("HF_TOKEN_PATH").or_else(|| below(home, "token"));
        let saved = || token_file.and_then(|path| std::fs::read_to_string(path).ok());
        let token = set("HF_TOKEN").or_else(|| set("HUGGING_FACE_HUB_TOKEN")).or_else(saved).map(|token| token.trim().to_string());
        let token = token.filter(|token| !token.is_empty() && !on("HF_HUB_DISABLE_IMPLICIT_TOKEN"));
        let offline = OFFLINE.into_iter().any(on);
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        Ok(Self { endpoint: endpoint.trim_end_matches('/').into(), cache, token, offline, retries: 3 })
    }

    /// The same for data sets.
    pub(crate) fn for_data() -> Result<Self> {
        let options = Self::from_env()?;
        Ok(Self { offline: options.offline || on(OFFLINE_DATA), ..options })
    }
}

/// The variables that switch the network off, the last for data sets only.
const OFFLINE: [&str; 2] = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"];
const OFFLINE_DATA: &str = "HF_DATASETS_OFFLINE";

/// Whether a variable of the environment is set to something like yes.
fn on(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on"))
}

/// The variable to unset for the network.
pub(crate) fn offline_by() -> &'static str {
    OFFLINE.into_iter().chain([OFFLINE_DATA]).find(|name| on(name)).unwrap_or(OFFLINE[0])
}

/// A path as a shell has it: `~` in front is the home directory, `$NAME` and `${NAME}` in front are variables.
fn expanded(path: &str, set: impl Fn(&str) -> Option<String>) -> PathBuf {
    let (first, rest) = path.split_at(path.find('/').unwrap_or(path.len()));
    let variable = first.strip_prefix('$').map(|name| name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap_or(name));
    let value = if first == "~" { std::env::home_dir() } else { variable.and_then(set).map(PathBuf::from) };
    match value {
        Some(value) if rest.is_empty() => value,
        Some(value) => value.join(rest.trim_start_matches('/')),
        None => path.into(),
    }
}

impl std::fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = if self.token.is_some() { "with token" } else { "no token" }; // never the token itself
        let endpoint = crate::proxy::host_name(&self.endpoint); // nor a password in the address
        write!(f, "HubOptions({endpoint}, {}, {token}, offline {})", self.cache.display(), self.offline)
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

/// The name of a folder on this machine, told from a hub's `owner/name` by `./` before it.
pub(crate) fn folder_name(folder: &str) -> String {
    if folder.contains('/') && is_id(folder) { format!("./{folder}") } else { folder.into() }
}

fn is_plain(part: &str) -> bool {
    !part.is_empty() && !part.starts_with(['.', '-']) && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

/// One repository at one revision.
pub(crate) struct Repository<'a> {
    options: &'a HubOptions,
    /// Names its folder in the cache, as the hub's other tools do.
    repo: Repo,
    /// Its part of a web address: `models/owner/name`.
    address: String,
    name: String,
    instead: &'a str,
}

impl<'a> Repository<'a> {
    /// Messages call it `name`, and if it cannot be had they tell the user what to do `instead`.
    pub(crate) fn new(options: &'a HubOptions, kind: RepoType, id: &str, revision: &str, name: &str, instead: &'a str) -> Self {
        let address = format!("{}/{id}", if matches!(kind, RepoType::Dataset) { "datasets" } else { "models" });
        Self { options, repo: Repo::with_revision(id.into(), kind, revision.into()), address, name: name.into(), instead }
    }

    /// The folder in the cache that the revision led to last; it may hold some of the files, or not be there.
    pub(crate) fn cached(&self) -> PathBuf {
        let root = self.root();
        let commit = std::fs::read_to_string(root.join("refs").join(self.repo.revision()));
        root.join("snapshots").join(commit.as_deref().unwrap_or(self.repo.revision()).trim())
    }

    /// The commit of [`cached`](Self::cached), and the files that the repository has in it, where that is known.
    pub(crate) fn known(&self) -> (String, Option<Vec<String>>) {
        let commit = self.cached().file_name().unwrap_or_default().to_string_lossy().to_string();
        let list = std::fs::read(self.list_file(&commit)).ok().and_then(|list| serde_json::from_slice(&list).ok());
        (commit, list)
    }

    /// Where the names of a commit's files are kept, beside the folders that the hub's other tools read.
    fn list_file(&self, commit: &str) -> PathBuf {
        self.root().join("lists").join(format!("{commit}.json"))
    }

    /// Asks the hub which files there are.
    ///
    /// # Errors
    /// [`Error::Hub`] offline, without network, and if the hub refuses.
    pub(crate) fn list(&self, events: &mut dyn FnMut(&Event)) -> Result<Listing<'_>> {
        let HubOptions { endpoint, cache, token, offline, retries } = self.options;
        if *offline {
            let (name, cache, instead) = (&self.name, cache.display(), self.instead);
            let remedy = format!("unset {} to download it once, or {instead}", offline_by());
            return Err(Error::Hub(format!("{name} is not in the hub's cache {cache} and offline mode is on: {remedy}")));
        }
        if token.as_ref().is_some_and(|token| token.chars().any(|c| !c.is_ascii_graphic())) {
            let remedy = "set it anew, or unset it and remove the token file for what is public";
            return Err(Error::Hub(format!("HF_TOKEN, or the token file, holds no token (blanks or other characters in it): {remedy}")));
        }
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            let host = crate::proxy::host_name(endpoint);
            return Err(Error::Hub(format!("HF_ENDPOINT ({host}) is no address: begin it with https:// or http://")));
        }
        let client = Client::new(endpoint, token.as_deref(), *retries);
        let read = client.json(&format!("/api/{}/revision/{}", self.address, self.revision()), events);
        let read = read.and_then(|bytes| serde_json::from_slice::<Info>(&bytes).map_err(|e| Fault::Nonsense(e.to_string())));
        let Info { sha, siblings } = read.map_err(|fault| self.fault("its list of files", fault))?;
        if !is_plain(&sha) {
            return Err(self.fault("its list of files", Fault::Nonsense("its commit is none".to_string())));
        }
        let names: Vec<String> = siblings.into_iter().map(|file| file.rfilename).collect();
        // before any file: a part of them is then known to be one
        self.note(&self.list_file(&sha), &serde_json::to_vec(&names).unwrap_or_default());
        Ok(Listing { repository: self, client, folder: self.root().join("snapshots").join(&sha), commit: sha, names })
    }

    /// Writes a file of the cache, as far as that can be written.
    fn note(&self, path: &Path, content: &[u8]) {
        let is_new = !std::fs::read(path).is_ok_and(|old| old == content);
        if is_new && path.parent().is_some_and(|folder| std::fs::create_dir_all(folder).is_ok()) {
            let _ = save_atomically(path, content); // a cache that cannot be written is still one
        }
    }

    /// The repository's folder in the cache.
    fn root(&self) -> PathBuf {
        self.options.cache.join(self.repo.folder_name())
    }

    /// The revision inside an address.
    fn revision(&self) -> String {
        self.repo.revision().replace('/', "%2F")
    }

    /// One line: what was wanted, what happened, what to do.
    fn fault(&self, wanted: &str, fault: Fault) -> Error {
        let instead = self.instead;
        let line = |text: &str| text.lines().next().unwrap_or("no answer").trim().to_string();
        let quoted = |said: &str| if said.is_empty() { String::new() } else { format!(" (it says: {said})") };
        let why = match fault {
            Fault::Here(error) => return error,
            Fault::Status(401 | 403, said) => {
                let remedy = match self.options.token {
                    Some(_) => "accept its terms on the hub, or set another HF_TOKEN (one was sent, of the environment or the token file)",
                    None => "accept its terms on the hub and set HF_TOKEN",
                };
                format!("does not exist, or is private or gated{}: check the name, {remedy}", quoted(&said))
            }
            Fault::Status(404, said) => format!("was not found on the hub{}: check the name and the revision", quoted(&said)),
            Fault::Status(429, said) => {
                format!("was refused by the hub, too many requests (status 429){}: try again later, or set HF_TOKEN", quoted(&said))
            }
            Fault::Status(code, said) => format!("was refused by the hub with status {code}{}: try again later", quoted(&said)),
            Fault::Cut(text) => format!("was cut off while downloading ({}): run again, it goes on where it stopped", line(&text)),
            Fault::Network(text) => {
                format!("could not be had, the network cannot be reached ({}): {instead}, or a filled cache with HF_HOME", line(&text))
            }
            Fault::Nonsense(text) => {
                format!("could not be had, the hub's answer makes no sense ({}): check HF_ENDPOINT, or {instead}", line(&text))
            }
        };
        Error::Hub(format!("{} ({wanted}) {why}", self.name))
    }
}

/// The part of the hub's answer that is read.
#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// The files of a repository, as the hub lists them.
pub(crate) struct Listing<'a> {
    repository: &'a Repository<'a>,
    client: Client,
    commit: String,
    pub(crate) names: Vec<String>,
    /// Where the files lie once they are downloaded.
    pub(crate) folder: PathBuf,
}

impl Listing<'_> {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.iter().any(|other| other == name)
    }

    /// The local path of one file, downloaded if it is missing. An interrupt stops before it.
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
        let repository = self.repository;
        let address = repository.address.strip_prefix("models/").unwrap_or(&repository.address);
        let download = Download {
            client: &self.client,
            path: format!("/{address}/resolve/{}/{}", self.commit, encoded(name)),
            name,
            root: repository.root(),
            link: path.clone(),
            locks: repository.options.cache.join(".locks").join(repository.repo.folder_name()),
            retries: repository.options.retries,
        };
        let described = self.client.describe(&download.path, events).map_err(|fault| repository.fault(name, fault))?;
        download.run(&described, events).map_err(|fault| repository.fault(name, fault))?;
        Ok(path)
    }

    /// From now on the revision leads to these files without network.
    pub(crate) fn keep(&self) {
        let (repository, revision) = (self.repository, self.repository.repo.revision());
        if revision != self.commit {
            repository.note(&repository.root().join("refs").join(revision), self.commit.as_bytes());
        }
    }
}

/// The commit of a file or a folder in the hub's cache.
pub(crate) fn commit_of(path: &Path) -> Option<String> {
    let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
    let at = parts.iter().rposition(|part| *part == "snapshots")?;
    let of_hub = parts[..at].last().is_some_and(|root| root.starts_with("models--") || root.starts_with("datasets--"));
    parts.get(at + 1).filter(|_| of_hub).map(ToString::to_string)
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
