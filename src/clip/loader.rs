//! From a name to a loaded CLIP: the demo's embedded files, a directory, or the hub.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device};
use serde_json::Value;

use super::summary::{self, ClipSummary};
use super::{Clip, ClipConfig, TextTower, Tokenizer, VisionTower, Weights, demo, hub, weights};
use crate::augment::Preprocess;
use crate::error::{Error, Result};
use crate::nn::Precision;
use crate::progress::Event;

/// Loads a [`Clip`] to a device, in a given number type.
///
/// ```
/// use lafter::{clip::ClipLoader, progress};
/// use candle_core::Device;
/// let clip = ClipLoader::new("demo").device(&Device::Cpu).load(progress::silent)?;
/// println!("{clip:?}");
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ClipLoader {
    name: String,
    revision: Option<String>,
    device: Device,
    dtype: DType,
    precision: Precision,
}

impl ClipLoader {
    /// `demo`, an existing directory, or a hub id `owner/name`.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_string(), revision: None, device: Device::Cpu, dtype: DType::F32, precision: Precision::F32 }
    }

    /// A directory, also where its name looks like a hub id.
    pub fn from_dir(directory: impl AsRef<Path>) -> Self {
        let path = directory.as_ref();
        Self::new(&if path.is_absolute() { path.to_path_buf() } else { Path::new(".").join(path) }.to_string_lossy())
    }

    /// Where the weights go; the CPU by default.
    pub fn device(mut self, device: &Device) -> Self {
        self.device = device.clone();
        self
    }

    /// The number type of the frozen weights, f32 by default; training needs f32.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// The number format in which frozen layers multiply, f32 by default; a tuner can choose its own
    /// ([`FinetuneConfig::precision`](crate::tune::FinetuneConfig::precision)).
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// A branch, tag or commit of the hub id; "main" otherwise.
    pub fn revision(mut self, revision: &str) -> Self {
        self.revision = Some(revision.to_string());
        self
    }

    /// Reads configuration, preprocessing, weights and tokenizer, and checks them against each other; a hub id is downloaded
    /// first where it is not in the cache.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that is neither a directory nor a hub id; [`Error::Hub`] where the download fails;
    /// [`Error::Config`], [`Error::Weights`], [`Error::Tokenizer`] or [`Error::Io`] for files that cannot be read or contradict
    /// each other.
    pub fn load(self, mut events: impl FnMut(&Event)) -> Result<Clip> {
        if self.name == "demo" {
            return self.demo();
        }
        let path = &PathBuf::from(&self.name);
        if path.is_dir() {
            return self.directory(path);
        }
        let local = path.is_absolute() || self.name.starts_with('.') || self.name.split('/').count() != 2;
        if local {
            let name = &self.name;
            return Err(Error::Usage(format!(
                "--model {name}: no such directory, and no hub id (owner/name) either; `demo` names the embedded CLIP"
            )));
        }
        let directory = hub::download(&self.name, self.revision.as_deref(), &mut events)?;
        self.directory(&directory)
    }

    fn demo(self) -> Result<Clip> {
        let files = demo::files();
        let config = ClipConfig::from_transformers(&parse(files.config, "the demo's config.json")?)?;
        let weights = Weights::from_bytes(files.weights, "the demo's weights", self.dtype, &self.device)?;
        let tokenizer = Tokenizer::from_json(files.tokenizer, "the demo's tokenizer", config.text.context)?;
        let preprocess = Preprocess::clip(config.vision.image_size);
        let embedded = "embedded".to_string();
        let summary = ClipSummary {
            layout: "transformers".into(),
            weights: embedded.clone(),
            image_settings: summary::image_settings(&preprocess, "embedded"),
            tokenizer: embedded,
            end_of_text: String::new(),
        };
        self.assemble(config, weights, tokenizer, preprocess, summary)
    }

    fn directory(self, path: &Path) -> Result<Clip> {
        let (transformers, open_clip) = (path.join("config.json"), path.join("open_clip_config.json"));
        let (config, cfg, layout) = match (read_json(&transformers)?, read_json(&open_clip)?) {
            // a directory may hold both: transformers' config counts where it describes a CLIP
            (Some(json), None) => (ClipConfig::from_transformers(&json)?, None, "transformers (config.json)"),
            (Some(json), Some(_)) if json.get("vision_config").is_some() => {
                (ClipConfig::from_transformers(&json)?, None, "transformers (config.json)")
            }
            (_, Some(json)) => {
                let cfg = json.get("preprocess_cfg").cloned().unwrap_or_default();
                (ClipConfig::from_open_clip(&json)?, Some(cfg), "open_clip (open_clip_config.json)")
            }
            (None, None) => {
                let shown = path.display();
                return Err(Error::Config(format!("{shown} holds neither config.json nor open_clip_config.json: is it a CLIP directory?")));
            }
        };
        let side = config.vision.image_size;
        let (preprocess, settings) = match (read_json(&path.join("preprocessor_config.json"))?, cfg) {
            (Some(json), _) => (Preprocess::from_json(&json, side)?, "preprocessor_config.json"),
            (None, Some(Value::Null)) => (Preprocess::clip(side), "OpenAI's: no file says otherwise"),
            (None, Some(cfg)) => (Preprocess::from_open_clip(&cfg, side)?, "open_clip_config.json"),
            (None, None) => (Preprocess::transformers(side), "OpenAI's: no file says otherwise"),
        };
        let loaded = Weights::load(path, self.dtype, &self.device)?;
        let tokenizer = Tokenizer::from_dir(path, config.text.context)?;
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().to_string();
        let files = weights::find(path)?;
        let shards = if files.len() > 1 { format!(" and {} more", files.len() - 1) } else { String::new() };
        let summary = ClipSummary {
            layout: layout.into(),
            weights: format!("{}{shards}", files.first().map(|file| name(file)).unwrap_or_default()),
            image_settings: summary::image_settings(&preprocess, settings),
            tokenizer: name(Path::new(tokenizer.source())),
            end_of_text: String::new(),
        };
        self.assemble(config, loaded, tokenizer, preprocess, summary)
    }

    fn assemble(
        self,
        config: ClipConfig,
        weights: Weights,
        tokenizer: Tokenizer,
        preprocess: Preprocess,
        mut summary: ClipSummary,
    ) -> Result<Clip> {
        summary.end_of_text = summary::end_of_text(config.text.end_of_text, (tokenizer.end_name(), tokenizer.end()));
        let side = config.vision.image_size;
        if preprocess.side() != side {
            let crop = preprocess.side();
            return Err(Error::Config(format!(
                "preprocessor_config.json crops to {crop} pixels, the vision tower expects {side}: they must agree"
            )));
        }
        tokenizer.check_vocabulary(config.text.vocabulary)?;
        weights.check(&config)?;
        let vb = weights.var_builder();
        let vision = VisionTower::load(&config.vision, config.projection, vb.clone())?.packed(self.precision)?;
        let text = TextTower::load(&config.text, config.projection, vb)?.packed(self.precision)?;
        Ok(Clip {
            log_scale: weights.log_scale()?,
            parameters: weights.parameter_count(),
            weights_hash: weights.hash()?.into(),
            config: Arc::new(config),
            vision,
            text,
            tokenizer,
            preprocess,
            id: self.name.into(),
            notices: [].into(),
            summary: summary.into(),
            device: self.device,
            dtype: self.dtype,
            precision: self.precision,
        })
    }
}

fn parse(json: &[u8], name: &str) -> Result<Value> {
    serde_json::from_slice(json).map_err(|e| Error::Config(format!("{name} is no valid JSON: {e}")))
}

/// The file's JSON; `None` where there is no such file.
fn read_json(path: &Path) -> Result<Option<Value>> {
    if !path.exists() {
        return Ok(None);
    }
    parse(&std::fs::read(path).map_err(|e| Error::io(path, e))?, &path.display().to_string()).map(Some)
}
