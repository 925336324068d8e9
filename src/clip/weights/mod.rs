//! CLIP weights under one set of names, whatever file and layout they came from.

mod check;
mod file;
mod find;
mod finite;
pub(crate) mod layout;
mod pickle;
mod pytorch;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use sha2::{Digest, Sha256};

use crate::clip::ClipConfig;
use crate::clip::folder::is_configured;
use crate::error::{Error, Result, cut};
pub(crate) use file::Opened;
pub use file::read_checkpoint;
pub(super) use find::{choose, find, is_weight_file, other_usual_files, shard_names};

/// CLIP holds ln(100) = 4.6; the logarithm of a million is 14.
const LARGEST_LOG_SCALE: f64 = 14.0;

/// The tensors of a CLIP checkpoint under transformers' names (`vision_model.…`, `text_projection.weight`, …).
///
/// open_clip's and OpenAI's layout is translated: fused query, key and value are split, projections transposed.
/// Cloning shares everything.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use lafter::clip::Weights;
/// let proj = Tensor::ones((32, 24), DType::F32, &Device::Cpu)?; // open_clip: [width, d]
/// let weights = Weights::from_tensors([("visual.proj".to_string(), proj)], "memory", DType::F32, &Device::Cpu)?;
/// assert_eq!(weights.get("visual_projection.weight").map(Tensor::dims), Some(&[24, 32][..]));
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone)]
pub struct Weights {
    tensors: Arc<BTreeMap<String, Tensor>>,
    source: Arc<str>,
    dtype: DType,
    device: Device,
    hash: Arc<OnceLock<String>>,
    origin: Arc<Origin>,
}

/// True for one of OpenAI's released archives: TorchScript, with its sizes as tensors.
pub(super) fn is_openai_archive(files: &[PathBuf]) -> bool {
    let [path] = files else { return false };
    let opened = file::Opened::open(path).ok().filter(file::Opened::is_script);
    opened.is_some_and(|file| file.names().iter().any(|name| name == "input_resolution"))
}

/// Which part of which files weights are.
#[derive(Debug, Default)]
pub(super) struct Origin {
    /// What stood before every name and was left off: `state_dict.module.`.
    pub(super) prefix: String,
    /// The names' beginning of a second copy that was passed over.
    pub(super) passed_over: Option<String>,
}

impl Weights {
    /// Reads the weights of a model directory: `model.safetensors`, a sharded `model.safetensors.index.json`,
    /// `open_clip_model.safetensors`, `pytorch_model.bin` or `open_clip_pytorch_model.bin`, the first that is there (open_clip's names
    /// before the others where `open_clip_config.json` stands without a CLIP's `config.json`); else the only file that ends in
    /// `.safetensors`, `.pt`, `.pth`, `.bin` or `.ckpt`. Tensors are taken out of PyTorch's files, nothing in them is run; what training
    /// put around the model is left off (`state_dict`, `module.`, `_orig_mod.`).
    ///
    /// # Errors
    /// [`Error::Weights`] if no such file is there, one is truncated or unreadable, or a value is not finite.
    pub fn load(directory: impl AsRef<Path>, dtype: DType, device: &Device) -> Result<Self> {
        Self::from_files(&find(directory.as_ref())?, dtype, device)
    }

    /// The files that [`Clip::from_dir`](crate::Clip::from_dir) reads as the weights of a folder: one, or all shards; none of a folder
    /// that is no CLIP's.
    pub fn files(directory: impl AsRef<Path>) -> Vec<PathBuf> {
        let directory = directory.as_ref();
        Some(directory).filter(|directory| is_configured(directory)).and_then(|directory| find(directory).ok()).unwrap_or_default()
    }

    /// The same from these files: one, or all shards.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_files(files: &[PathBuf], dtype: DType, device: &Device) -> Result<Self> {
        let mut opened = files.iter().map(|path| file::Opened::open(path)).collect::<Result<Vec<_>>>()?;
        let source = files.first().map(|path| path.display().to_string()).unwrap_or_default();
        let names: Vec<String> = opened.iter().flat_map(file::Opened::names).collect();
        let unwrapped: Vec<String> = names.iter().map(|name| layout::unwrapped(name)).collect();
        let (prefix, passed_over) = layout::prefix(unwrapped.iter().map(String::as_str), "logit_scale").map_err(|prefixes| {
            let remedy = "save one of them under names of its own";
            Error::Weights(format!("{source} holds several CLIPs, with names that begin with {}: {remedy}", prefixes.join(", ")))
        })?;
        let mut builder = Builder::new(&source, dtype, device);
        for file in &mut opened {
            let wanted = |name: &str| layout::unwrapped(name).strip_prefix(&prefix).is_some_and(layout::is_wanted);
            file.read(wanted, &mut |name, tensor| {
                let plain = layout::unwrapped(&name);
                builder.add(&name, plain.strip_prefix(&prefix).unwrap_or(&plain), tensor)
            })?;
        }
        builder.finish(Origin { prefix, passed_over }).map_err(|error| match (error, names.first()) {
            (Error::Weights(why), Some(first)) => Error::Weights(format!("{why} (its first tensor is {})", cut(first))),
            (error, _) => error,
        })
    }

    /// The same from the bytes of one safetensors file, for weights that are part of a binary.
    ///
    /// # Errors
    /// [`Error::Weights`] for bytes that are truncated, no safetensors file, or without a tensor of a CLIP.
    pub fn from_bytes(bytes: &[u8], source: &str, dtype: DType, device: &Device) -> Result<Self> {
        let mut builder = Builder::new(source, dtype, device);
        let mut file = crate::files::Safetensors::open(std::io::Cursor::new(bytes), bytes.len() as u64, source)?;
        file.read(layout::is_wanted, &mut |name, tensor| builder.add(&name, &name, tensor))?;
        builder.finish(Origin::default())
    }

    /// The same from tensors in any of the layouts; names that are not part of CLIP's towers are left out.
    ///
    /// # Errors
    /// [`Error::Weights`] if no tensor belongs to a CLIP, or a value is not finite.
    pub fn from_tensors(tensors: impl IntoIterator<Item = (String, Tensor)>, source: &str, dtype: DType, device: &Device) -> Result<Self> {
        let mut builder = Builder::new(source, dtype, device);
        for (name, tensor) in tensors {
            if layout::is_wanted(&name) {
                builder.add(&name, &name, tensor)?;
            }
        }
        builder.finish(Origin::default())
    }

    /// Checks names and shapes against a configuration.
    ///
    /// # Errors
    /// [`Error::Weights`] that lists the first missing tensors; [`Error::Config`] if a shape or the number of layers
    /// contradicts the configuration.
    pub fn check(&self, config: &ClipConfig) -> Result<()> {
        check::check(&self.tensors, config, &self.source)
    }

    /// One tensor by its transformers name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Number of scalars.
    pub fn parameter_count(&self) -> usize {
        self.tensors.values().map(Tensor::elem_count).sum()
    }

    /// `logit_scale`, ln(1/τ) of eq. 1, as the checkpoint holds it.
    ///
    /// # Errors
    /// [`Error::Weights`] if there is no `logit_scale`, or one that is not a logarithm.
    pub fn log_scale(&self) -> Result<f64> {
        let missing = || Error::Weights(format!("{} has no logit_scale: it is not a CLIP checkpoint, or an incomplete one", self.source));
        let scale = self.get("logit_scale").ok_or_else(missing)?;
        let scale = scale.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.get(0)?.to_scalar::<f64>()?;
        if scale.abs() <= LARGEST_LOG_SCALE {
            return Ok(scale);
        }
        let remedy = "save the logarithm, about 4.6";
        Err(Error::Weights(format!("{}: logit_scale is {scale}, which is not a logarithm of a usual factor: {remedy}", self.source)))
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Where the weights came from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The tensors as the towers' `load` reads them.
    pub fn var_builder(&self) -> VarBuilder<'static> {
        let tensors: HashMap<String, Tensor> = self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        VarBuilder::from_tensors(tensors, self.dtype, &self.device)
    }

    /// Identifies the values: the SHA-256, in hex, over each tensor in the order of names: name, a zero byte, rank and sizes
    /// as little-endian u64, values as little-endian f32. Equal values give an equal hash from either layout, any kind
    /// of file and any requested dtype. Computed once, at the first call (at loading, where the dtype is not f32).
    ///
    /// # Errors
    /// [`Error::Candle`] if the values cannot be copied to the host.
    pub fn hash(&self) -> Result<&str> {
        if let Some(hash) = self.hash.get() {
            return Ok(hash);
        }
        let hash = hash(&self.tensors)?;
        Ok(self.hash.get_or_init(|| hash))
    }
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millions = self.parameter_count() as f64 / 1e6;
        write!(f, "Weights({}: {} tensors, {millions:.1} M parameters, {:?})", self.source, self.tensors.len(), self.dtype)
    }
}

fn hash(tensors: &BTreeMap<String, Tensor>) -> Result<String> {
    let mut sha = Sha256::new();
    let mut bytes = Vec::new();
    for (name, tensor) in tensors {
        sha.update(name.as_bytes());
        sha.update([0]);
        sha.update((tensor.rank() as u64).to_le_bytes());
        tensor.dims().iter().for_each(|size| sha.update((*size as u64).to_le_bytes()));
        let values = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        bytes.clear();
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        sha.update(&bytes);
    }
    Ok(sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Collects tensors in any layout.
struct Builder {
    tensors: BTreeMap<String, Tensor>,
    /// What the hash is taken of where the requested dtype would round the file's values.
    exact: BTreeMap<String, Tensor>,
    source: String,
    dtype: DType,
    device: Device,
}

impl Builder {
    fn new(source: &str, dtype: DType, device: &Device) -> Self {
        Self { tensors: BTreeMap::new(), exact: BTreeMap::new(), source: source.into(), dtype, device: device.clone() }
    }

    /// `shown` is the tensor's name in its file, `name` the same without what stands before every name.
    fn add(&mut self, shown: &str, name: &str, tensor: Tensor) -> Result<()> {
        let fault = |why: &str| Error::Weights(format!("{}: {shown} {why}", self.source));
        if !tensor.dtype().is_float() {
            let why = format!("holds {:?}, as in a quantized checkpoint: use the weights in f32, f16 or bf16", tensor.dtype());
            return Err(fault(&why));
        }
        if !finite::is_finite(&tensor)? {
            return Err(fault("holds values that are not finite (NaN or infinity): the training that wrote it failed, use an earlier one"));
        }
        if tensor.rank() > 1 && finite::is_zero(&tensor)? {
            return Err(fault("holds zeros alone: its file was never filled or its download was cut, get it again"));
        }
        if name == "logit_scale" && tensor.elem_count() != 1 {
            return Err(fault(&format!("has the shape {:?}: expected one number", tensor.dims())));
        }
        let parts = layout::translate(name, tensor).map_err(|e| fault(&format!("has an impossible shape ({})", Error::from(e))))?;
        for (name, tensor) in parts {
            let tensor = if name == "logit_scale" { tensor.flatten_all()?.get(0)? } else { tensor };
            if self.tensors.contains_key(&name) {
                return Err(fault("stands there twice, under two names: save the model once"));
            }
            if self.dtype != DType::F32 {
                self.exact.insert(name.clone(), tensor.clone());
            }
            self.tensors.insert(name, tensor.to_dtype(self.dtype)?.to_device(&self.device)?);
        }
        Ok(())
    }

    fn finish(self, origin: Origin) -> Result<Weights> {
        if self.tensors.is_empty() {
            let expected = "expected the layout of transformers or of open_clip";
            return Err(Error::Weights(format!("{} holds no tensor of a CLIP: {expected}", self.source)));
        }
        let known = OnceLock::new();
        if !self.exact.is_empty() {
            let _ = known.set(hash(&self.exact)?);
        }
        let (tensors, hash) = (Arc::new(self.tensors), Arc::new(known));
        Ok(Weights { tensors, source: self.source.into(), dtype: self.dtype, device: self.device, hash, origin: origin.into() })
    }
}
