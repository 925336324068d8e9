//! CLIP weights under one set of names, whatever file and layout they came from.

mod check;
mod file;
mod find;
mod layout;
mod save;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use sha2::{Digest, Sha256};

use crate::clip::ClipConfig;
use crate::error::{Error, Result};
pub use file::read_tensors;
pub(super) use find::{choose, find, is_foreign, shard_names};
pub use save::save_tensors;

/// The tensors of a CLIP checkpoint under transformers' names (`vision_model.…`, `text_projection.weight`, …).
///
/// open_clip's and OpenAI's layout is translated: packed query, key and value are split, projections transposed.
/// Cloning shares everything.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use lafter::clip::Weights;
/// let proj = Tensor::zeros((32, 24), DType::F32, &Device::Cpu)?; // open_clip: [width, d]
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
}

impl Weights {
    /// Reads the weights of a model directory: `model.safetensors`, a sharded `model.safetensors.index.json`,
    /// `open_clip_model.safetensors`, `pytorch_model.bin` or `open_clip_pytorch_model.bin`, the first that is there.
    /// `.bin` files go through Candle's reader, which takes tensors out of a pickle and never runs it.
    ///
    /// # Errors
    /// [`Error::Weights`] where no such file is there, or one is truncated or unreadable.
    pub fn load(directory: impl AsRef<Path>, dtype: DType, device: &Device) -> Result<Self> {
        let directory = directory.as_ref();
        let mut builder = Builder::new(dtype, device);
        for path in find(directory)? {
            file::read(&path, layout::is_wanted, &mut |name, tensor| builder.add(&name, tensor))?;
        }
        builder.finish(&directory.display().to_string())
    }

    /// The same from the bytes of one safetensors file, for weights that are part of a binary.
    ///
    /// # Errors
    /// [`Error::Weights`] for bytes that are truncated, no safetensors file, or without a tensor of a CLIP.
    pub fn from_bytes(bytes: &[u8], source: &str, dtype: DType, device: &Device) -> Result<Self> {
        let mut builder = Builder::new(dtype, device);
        let mut reader = std::io::Cursor::new(bytes);
        file::read_safetensors(&mut reader, bytes.len() as u64, source, layout::is_wanted, &mut |name, tensor| builder.add(&name, tensor))?;
        builder.finish(source)
    }

    /// The same from tensors in any of the layouts; names that are no part of CLIP's towers are left out.
    ///
    /// # Errors
    /// [`Error::Weights`] where no tensor belongs to a CLIP.
    pub fn from_tensors(tensors: impl IntoIterator<Item = (String, Tensor)>, source: &str, dtype: DType, device: &Device) -> Result<Self> {
        let mut builder = Builder::new(dtype, device);
        for (name, tensor) in tensors {
            if layout::is_wanted(&name) {
                builder.add(&name, tensor)?;
            }
        }
        builder.finish(source)
    }

    /// Checks names and shapes against a configuration.
    ///
    /// # Errors
    /// [`Error::Weights`] that lists the first missing tensors; [`Error::Config`] where a shape or the number of layers
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
    /// [`Error::Weights`] where there is no `logit_scale`.
    pub fn log_scale(&self) -> Result<f64> {
        let missing = || Error::Weights(format!("{} has no logit_scale: it is no CLIP checkpoint, or an incomplete one", self.source));
        let scale = self.get("logit_scale").ok_or_else(missing)?;
        Ok(scale.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.get(0)?.to_scalar::<f64>()?)
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
    /// [`Error::Candle`] where the values cannot be copied to the host.
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
    dtype: DType,
    device: Device,
}

impl Builder {
    fn new(dtype: DType, device: &Device) -> Self {
        Self { tensors: BTreeMap::new(), exact: BTreeMap::new(), dtype, device: device.clone() }
    }

    fn add(&mut self, name: &str, tensor: Tensor) -> Result<()> {
        for (name, tensor) in layout::translate(name, tensor)? {
            let tensor = if name == "logit_scale" { tensor.flatten_all()?.get(0)? } else { tensor };
            if self.dtype != DType::F32 {
                self.exact.insert(name.clone(), tensor.clone());
            }
            self.tensors.insert(name, tensor.to_dtype(self.dtype)?.to_device(&self.device)?);
        }
        Ok(())
    }

    fn finish(self, source: &str) -> Result<Weights> {
        if self.tensors.is_empty() {
            return Err(Error::Weights(format!("{source} holds no tensor of a CLIP: expected the layout of transformers or of open_clip")));
        }
        let known = OnceLock::new();
        if !self.exact.is_empty() {
            let _ = known.set(hash(&self.exact)?);
        }
        let (tensors, hash) = (Arc::new(self.tensors), Arc::new(known));
        Ok(Weights { tensors, source: source.into(), dtype: self.dtype, device: self.device, hash })
    }
}
