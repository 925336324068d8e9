//! CLIPs of the Hugging Face hub: downloaded once, then from the hub's standard cache.

use std::path::{Path, PathBuf};
use std::time::Instant;

use hf_hub::api::Progress;
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use super::weights;
use crate::error::{Error, Result};
use crate::progress::{Event, check_interrupt, watched};

/// Files beside the weights, as far as a repository has them. They come first and the weights last, so that a snapshot
/// with weights is complete.
const SMALL: [&str; 9] = [
    "config.json",
    "open_clip_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "bpe_simple_vocab_16e6.txt.gz",
];

/// Bytes between two progress events.
const EVERY: usize = 1 << 20;

/// Where models come from and where they are kept.
#[derive(Clone)]
pub struct HubOptions {
    /// The hub's address, without a slash at the end.
    pub endpoint: String,
    /// The folder with `models--owner--name` in it.
    pub cache: PathBuf,
    /// For private and gated models.
    pub token: Option<String>,
    /// True: the cache only.
    pub offline: bool,
    /// How often a broken download is taken up again.
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

/// The local folder of a hub model ("openai/clip-vit-base-patch32", revision "main" if `None`): configuration, weights
/// (safetensors before pickles, transformers' layout before open_clip's), tokenizer and preprocessing. What is in the
/// cache already is used without asking the network.
///
/// # Errors
/// [`Error::Usage`] for an impossible id; [`Error::Hub`] where the model does not exist, is gated or private, holds no CLIP
/// weights, or the network cannot be reached.
pub fn download(id: &str, revision: Option<&str>, mut events: impl FnMut(&Event)) -> Result<PathBuf> {
    download_with(&HubOptions::from_env()?, id, revision, &mut events)
}

/// [`download`] with explicit options.
pub fn download_with(options: &HubOptions, id: &str, revision: Option<&str>, events: &mut dyn FnMut(&Event)) -> Result<PathBuf> {
    let revision = revision.unwrap_or("main");
    check_names(id, revision)?;
    let repo = Repo::with_revision(id.to_string(), RepoType::Model, revision.to_string());
    let cached = cached_snapshot(&options.cache.join(repo.folder_name()), revision);
    if let Some(folder) = cached.as_ref().filter(|folder| has_tokenizer(folder)) {
        return Ok(folder.clone());
    }
    let events = &mut watched(events);
    let model = Model { id, revision, cache: Cache::new(options.cache.clone()).repo(repo.clone()) };
    if options.offline {
        let shown = options.cache.display();
        let remedy = "unset HF_HUB_OFFLINE to download it once, or pass a folder with --model DIR";
        return cached
            .ok_or_else(|| Error::Hub(format!("{} is not in the hub's cache {shown} and offline mode is on: {remedy}", model.name())));
    }
    let builder = ApiBuilder::from_cache(Cache::new(options.cache.clone())).with_endpoint(options.endpoint.clone());
    let api = builder.with_token(options.token.clone()).with_retries(options.retries).with_progress(false).build();
    let api = api.map_err(|e| model.fault("its list of files", &e))?.repo(repo);
    match model.fetch(&api, options, events) {
        // incomplete in the cache (no tokenizer), but better than nothing without network
        Err(error) => cached.ok_or(error),
        folder => folder,
    }
}

/// One repository at one revision.
struct Model<'a> {
    id: &'a str,
    revision: &'a str,
    cache: CacheRepo,
}

impl Model<'_> {
    fn name(&self) -> String {
        if self.revision == "main" { self.id.to_string() } else { format!("{} at revision {}", self.id, self.revision) }
    }

    /// Downloads what is missing and returns the snapshot's folder.
    fn fetch(&self, api: &ApiRepo, options: &HubOptions, events: &mut dyn FnMut(&Event)) -> Result<PathBuf> {
        let info = api.info().map_err(|e| self.fault("its list of files", &e))?;
        let has = |name: &str| info.siblings.iter().any(|file| file.rfilename == name);
        let folder = options.cache.join(Repo::model(self.id.to_string()).folder_name()).join("snapshots").join(&info.sha);
        let mut get = |name: &str| -> Result<PathBuf> {
            check_interrupt("downloading")?;
            let path = folder.join(name);
            if path.is_file() {
                return Ok(path);
            }
            api.download_with_progress(name, Report::new(name, events)).map_err(|e| self.fault(name, &e))
        };
        for name in SMALL.into_iter().filter(|name| has(name)) {
            get(name)?;
        }
        let foreign = weights::is_foreign(&folder.join("config.json")) && has("open_clip_config.json");
        let chosen = weights::choose(!foreign, has);
        let Some(name) = chosen.filter(|_| has("config.json") || has("open_clip_config.json")) else {
            let remedy = "choose a CLIP in the layout of transformers or of open_clip";
            return Err(Error::Hub(format!("{} holds no CLIP weights and configuration: {remedy}", self.name())));
        };
        if name.ends_with(".index.json") {
            let index = get(name)?;
            let bytes = std::fs::read(&index).map_err(|e| Error::io(&index, e))?;
            for shard in weights::shard_names(&bytes, name)? {
                get(&shard)?;
            }
        } else {
            get(name)?;
        }
        // a model without a branch of this name was asked for by its commit
        self.cache.create_ref(&info.sha).map_err(|e| Error::io(&options.cache, e))?;
        Ok(folder)
    }

    /// One line: what was wanted, what happened, what to do.
    fn fault(&self, wanted: &str, error: &ApiError) -> Error {
        let text = error.to_string();
        let text = text.lines().next().unwrap_or("no answer").trim();
        let status = text.split_once("status code ").map(|(_, code)| code.trim());
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
                format!(
                    "could not be had, the network cannot be reached ({text}): pass a folder with --model DIR, or a filled cache with HF_HOME"
                )
            }
            _ => {
                format!("could not be had, the hub's answer makes no sense ({text}): check HF_ENDPOINT, or pass a folder with --model DIR")
            }
        };
        Error::Hub(format!("{} ({wanted}) {why}", self.name()))
    }
}

/// Refuses what would lead out of the cache folder or into another address.
fn check_names(id: &str, revision: &str) -> Result<()> {
    let plain = |part: &str| {
        !part.is_empty() && !part.starts_with(['.', '-']) && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
    };
    if id.split('/').count() > 2 || !id.split('/').all(plain) {
        return Err(Error::Usage(format!("{id:?} is neither a directory nor a hub id: expected a folder, owner/name, or demo")));
    }
    if !revision.split('/').all(plain) {
        return Err(Error::Usage(format!("{revision:?} is no revision: expected a branch, a tag or a commit")));
    }
    Ok(())
}

/// The folder of a revision in the cache, where it has configuration and weights, all shards included.
fn cached_snapshot(model: &Path, revision: &str) -> Option<PathBuf> {
    let commit = std::fs::read_to_string(model.join("refs").join(revision)).unwrap_or_else(|_| revision.to_string());
    let folder = model.join("snapshots").join(commit.trim());
    let configured = ["config.json", "open_clip_config.json"].iter().any(|name| folder.join(name).is_file());
    (configured && weights::find(&folder).is_ok()).then_some(folder)
}

fn has_tokenizer(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    has("tokenizer.json") || (has("vocab.json") && has("merges.txt")) || has("bpe_simple_vocab_16e6.txt.gz")
}

/// One file's download as progress events; sizes in bytes.
struct Report<'a> {
    stage: String,
    events: &'a mut dyn FnMut(&Event),
    total: usize,
    done: usize,
    said: usize,
    started: Option<Instant>,
}

impl<'a> Report<'a> {
    fn new(name: &str, events: &'a mut dyn FnMut(&Event)) -> Self {
        Self { stage: format!("downloading {name}"), events, total: 0, done: 0, said: 0, started: None }
    }

    fn advance(&mut self) {
        self.said = self.done;
        (self.events)(&Event::Advanced { stage: self.stage.clone(), done: self.done, total: self.total, loss: None, accuracy: None });
    }
}

impl Progress for Report<'_> {
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
