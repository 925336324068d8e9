//! From a name to a loaded CLIP: the demo's embedded files, a directory, or the hub.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::folder::{self, Folder, Images};
use super::summary::{self, ClipSummary};
use super::text_slot::{Source, TextSlot};
use super::{Clip, ClipConfig, EndOfText, TextTower, Tokenizer, VisionTower, Weights, demo, hub, layout, shapes, weights};
use crate::augment::Preprocess;
use crate::error::{Error, Result, cut};
use crate::hub::commit_of;
use crate::nn::{Activation, Precision};
use crate::progress::Event;
use candle_core::{DType, Device};

/// Loads a [`Clip`] to a device, in a given number type.
///
/// A folder holds `config.json` of transformers or `open_clip_config.json`, weights (`.safetensors`, or what `torch.save` wrote of a
/// `state_dict`, a training checkpoint or a whole module), a tokenizer and image settings; OpenAI's archives (`ViT-B-32.pt`)
/// need the tokenizer alone. What was unusual stands in [`Clip::notices`], what was understood in [`Clip::summary`].
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
    /// `demo`, an existing directory, a file with weights in such a directory, or a hub id `owner/name`.
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
    /// first if it is not in the cache.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that is neither a directory nor a hub id, or a revision of what is no hub id; [`Error::Hub`] if the
    /// download fails; [`Error::Config`], [`Error::Weights`], [`Error::Tokenizer`] or [`Error::Io`] for files that cannot be read or
    /// contradict each other.
    pub fn load(self, mut events: impl FnMut(&Event)) -> Result<Clip> {
        let path = &PathBuf::from(&self.name);
        if let (Some(revision), true) = (&self.revision, self.name == "demo" || path.exists()) {
            let name = &self.name;
            return Err(Error::Usage(format!(
                "{name}: the revision {revision} is for a model of the hub, which this is not: leave it out"
            )));
        }
        if self.name == "demo" {
            return self.demo();
        }
        if path.is_dir() {
            return self.directory(path, None);
        }
        if path.is_file() {
            return self.file(path);
        }
        if let Some(remedy) = other_name(&self.name) {
            return Err(Error::Usage(format!("{}: {remedy}", cut(&self.name))));
        }
        let local = path.is_absolute() || self.name.starts_with('.') || self.name.split('/').count() != 2;
        if local {
            let name = &self.name;
            return Err(Error::Usage(format!(
                "{name}: no such directory, and no hub id (owner/name) either; `demo` names the embedded CLIP"
            )));
        }
        let directory = hub::download(&self.name, self.revision.as_deref(), &mut events)?;
        self.directory(&directory, None)
    }

    fn demo(self) -> Result<Clip> {
        let files = demo::files();
        let json =
            serde_json::from_slice(files.config).map_err(|e| Error::Config(format!("the demo's config.json is not valid JSON: {e}")))?;
        let config = ClipConfig::from_transformers(&json)?;
        let weights = Weights::from_bytes(files.weights, "the demo's weights", self.dtype, &self.device)?;
        let tokenizer = Tokenizer::from_json(files.tokenizer, "embedded", config.text.context)?;
        let images = Images { settings: Preprocess::clip(config.vision.image_size), source: "embedded".into() };
        let folder = Folder { config, layout: "transformers".into(), images, notices: Vec::new() };
        self.assemble(folder, weights, tokenizer, "embedded".into(), &[])
    }

    /// A file with weights and the other files of its folder.
    fn file(self, path: &Path) -> Result<Clip> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let is_weights = path.file_name().and_then(|name| name.to_str()).is_some_and(weights::is_weight_file);
        let files = vec![path.to_path_buf()];
        if !is_weights || !(folder::is_configured(parent) || weights::is_openai_archive(&files)) {
            let (shown, needed) = (path.display(), "with config.json or open_clip_config.json, weights and a tokenizer in it");
            return Err(Error::Usage(format!("{shown} is a file: give the folder of a CLIP, {needed}")));
        }
        self.directory(parent, Some(files))
    }

    /// A folder's CLIP; `named` are its weights where the user named them.
    fn directory(self, path: &Path, named: Option<Vec<PathBuf>>) -> Result<Clip> {
        // before the weights: another kind of model is refused by its configuration
        let folder = folder::read(path)?;
        let files = named.map_or_else(|| weights::find(path), Ok);
        let (mut folder, files) = match (folder, files) {
            (Some(folder), files) => (Some(folder), files?),
            (None, Ok(files)) if weights::is_openai_archive(&files) => (None, files),
            (None, _) => return Err(folder::not_configured(path)),
        };
        if let Some(Folder { config, layout, .. }) = &folder {
            let activations = [config.vision.activation, config.text.activation];
            if activations != [Activation::QuickGelu; 2] && weights::is_openai_archive(&files) {
                return Err(Error::Config(format!(
                    "{} holds OpenAI's archive, whose activation is QuickGELU, and {layout} says GELU: set \"quick_gelu\": true in model_cfg, \
                     or \"hidden_act\": \"quick_gelu\" in both parts of config.json",
                    path.display()
                )));
            }
        }
        if let (Some(folder), [file]) = (&mut folder, files.as_slice()) {
            let others = weights::other_usual_files(path, file);
            if !others.is_empty() {
                let shown = file.file_name().unwrap_or_default().to_string_lossy();
                folder.notices.push(format!("{shown} is read; {} in the same folder is not", others.join(", ")));
            }
        }
        let weights = Weights::from_files(&files, self.dtype, &self.device)?;
        let folder = folder.map_or_else(|| openai(&weights), Ok)?;
        let tokenizer = Tokenizer::from_dir(path, folder.config.text.context)?;
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().to_string();
        let first = files.first().map(|file| name(file)).unwrap_or_default();
        let shown = if files.len() > 1 { format!("{first} and {} more", files.len() - 1) } else { first };
        self.assemble(folder, weights, tokenizer, shown, &files)
    }

    /// Checks the parts against each other and puts them together; `files` names the weights' files, which lie at `paths`.
    fn assemble(self, folder: Folder, weights: Weights, tokenizer: Tokenizer, files: String, paths: &[PathBuf]) -> Result<Clip> {
        let Folder { mut config, layout, images, mut notices } = folder;
        let side = config.vision.image_size;
        if images.settings.side() != side {
            let (source, crop) = (images.source, images.settings.side());
            return Err(Error::Config(format!("{source} crops to {crop} pixels, the vision tower expects {side}: they must agree")));
        }
        tokenizer.check_vocabulary(config.text.vocabulary)?;
        weights.check(&config)?;
        let end = (tokenizer.end_name(), tokenizer.end());
        notices.extend(odd_tokenizer(&tokenizer, config.text.vocabulary)?);
        if config.text.end_of_text == EndOfText::First(tokenizer.start()) {
            return Err(Error::Tokenizer(format!(
                "the configuration reads texts at id {}, which is this tokenizer's start of text: bos_token and eos_token are exchanged in \
                 tokenizer_config.json, or eos_token_id is wrong in config.json: correct the one that is",
                tokenizer.start()
            )));
        }
        notices.extend(end_of_text(&mut config.text.end_of_text, end, tokenizer.highest()));
        let origin = weights.origin();
        let prefix = if origin.prefix.is_empty() { String::new() } else { format!(" below {}", origin.prefix.trim_end_matches('.')) };
        notices.extend(origin.passed_over.iter().map(|average| layout::passed_over(&files, &origin.prefix, average)));
        let summary = ClipSummary {
            layout,
            weights: format!("{files}{prefix}"),
            commit: paths.first().and_then(|path| commit_of(path)),
            image_settings: summary::image_settings(&images.settings, &images.source),
            tokenizer: Path::new(tokenizer.source()).file_name().unwrap_or_default().to_string_lossy().into(),
            end_of_text: summary::end_of_text(config.text.end_of_text, end),
        };
        let vb = weights.var_builder();
        let vision = VisionTower::load(&config.vision, config.projection, vb.clone())?.packed(self.precision)?;
        let text = TextTower::load(&config.text, config.projection, vb)?.packed(self.precision)?;
        let config = Arc::new(config);
        let source = (!paths.is_empty()).then(|| Source::new(paths, &config, self.dtype, &self.device, self.precision));
        Ok(Clip {
            log_scale: weights.log_scale()?,
            parameters: weights.parameter_count(),
            weights_hash: weights.hash()?.into(),
            config,
            vision,
            text: TextSlot::new(text, source),
            tokenizer,
            preprocess: images.settings,
            id: self.name.into(),
            notices: notices.into(),
            summary: summary.into(),
            device: self.device,
            dtype: self.dtype,
            precision: self.precision,
        })
    }
}

/// What to write for a name that other tools take.
fn other_name(name: &str) -> Option<String> {
    let plain = name.trim_end_matches('/');
    let hub =
        ["hf-hub:", "hf://", "hf:", "https://huggingface.co/", "http://huggingface.co/"].iter().find_map(|start| plain.strip_prefix(start));
    if let Some(id) = hub {
        return Some(format!("write the hub id alone, {}", cut(id)));
    }
    if let Some((id, revision)) = plain.split_once('@').filter(|(id, _)| id.split('/').count() == 2) {
        return Some(format!("write {} and, as the revision, {}", cut(id), cut(revision)));
    }
    if plain.starts_with("~/") {
        return Some("~ is not opened by this program: write the whole path, or leave the quotes out".into());
    }
    let id = match plain.to_ascii_uppercase().replace('/', "-").as_str() {
        "VIT-B-32" => "openai/clip-vit-base-patch32",
        "VIT-B-16" => "openai/clip-vit-base-patch16",
        "VIT-L-14" => "openai/clip-vit-large-patch14",
        "VIT-L-14@336PX" | "VIT-L-14-336" => "openai/clip-vit-large-patch14-336",
        _ => return None,
    };
    Some(format!("OpenAI's name for {id}: write that"))
}

/// What stands in for the small files that OpenAI's archives come without.
fn openai(weights: &Weights) -> Result<Folder> {
    let config = shapes::config(weights)?;
    let images = Images { settings: Preprocess::clip(config.vision.image_size), source: "OpenAI's".into() };
    let notice =
        "no configuration next to OpenAI's archive: sizes are taken from its tensors, heads and activation are those of all its models";
    Ok(Folder { config, layout: "OpenAI's archive".into(), images, notices: vec![notice.into()] })
}

/// Says so where the tokenizer knows far fewer ids than the text tower, or cuts common words into letters.
fn odd_tokenizer(tokenizer: &Tokenizer, vocabulary: usize) -> Result<Vec<String>> {
    let known = tokenizer.highest() as usize + 1;
    let few = (known + 128 < vocabulary && known * 10 < vocabulary * 9)
        .then(|| format!("the tokenizer has {known} ids and the text tower {vocabulary}: does it belong to this model?"));
    let sample = "a photo of a dog";
    let tokens = tokenizer.encode(&[sample])?.ids.first().map_or(0, Vec::len);
    let most = if sample.split(' ').all(|word| tokenizer.knows(&format!("{word}</w>"))) { 7 } else { 12 };
    let letters = (tokens > most && tokenizer.context() > most)
        .then(|| format!("the tokenizer needs {tokens} tokens for \"{sample}\", CLIP's 7: are its merges whole?"));
    Ok(few.into_iter().chain(letters).collect())
}

/// Compares where the configuration reads texts with what the tokenizer writes: `end` is its end-of-text, `highest` its highest
/// id. An id that stands at no text's end would give every text the feature of its start, so the tokenizer's own counts;
/// the notice says so.
fn end_of_text(rule: &mut EndOfText, end: (&str, u32), highest: u32) -> Option<String> {
    let (name, id) = end;
    match *rule {
        EndOfText::First(configured) if configured != id => {
            *rule = EndOfText::First(id);
            Some(format!(
                "the configuration reads texts at id {configured} (eos_token_id, or eos_id), which is not this tokenizer's end of text: \
                 they are read at {name} ({id})"
            ))
        }
        EndOfText::HighestId if highest != id => Some(format!(
            "the configuration reads texts at their highest id, and this tokenizer's end of text {name} ({id}) is not its highest ({highest}): \
             a text with a higher id is read there"
        )),
        _ => None,
    }
}
