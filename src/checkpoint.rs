//! A training loop's whole state on disk: parameters, optimiser moments and, as JSON, everything else.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor, Var};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::clip::{read_tensors, save_tensors};
use crate::error::{Error, Result};
use crate::nn::{AdamW, with_f32};

/// Where and how often a training loop saves its state by itself, between two steps.
///
/// ```
/// use lafter::checkpoint::Autosave;
/// use std::time::Duration;
/// let mut every_minute = Autosave::new("run/checkpoint.safetensors", Duration::from_secs(60));
/// assert!(every_minute.due().is_none()); // not yet
/// let mut every_step = Autosave::new("run/checkpoint.safetensors", Duration::ZERO);
/// assert!(every_step.due().is_some());
/// ```
#[derive(Clone, Debug)]
pub struct Autosave {
    path: PathBuf,
    every: Duration,
    last: Instant,
}

impl Autosave {
    /// Saves to `path` whenever `every` has passed; zero saves after each step.
    pub fn new(path: impl Into<PathBuf>, every: Duration) -> Self {
        Self { path: path.into(), every, last: Instant::now() }
    }

    /// The path, if it is time to save; the clock then starts anew.
    pub fn due(&mut self) -> Option<PathBuf> {
        (self.last.elapsed() >= self.every).then(|| {
            self.last = Instant::now();
            self.path.clone()
        })
    }
}

/// A hash of tensors, to tie a checkpoint to what it was trained from.
pub(crate) fn fingerprint<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<String> {
    let mut hash = Sha256::new();
    for tensor in tensors {
        with_f32(&tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?, |values| {
            for values in values.chunks(1024) {
                hash.update(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
            }
        })?;
    }
    Ok(format!("{:x}", hash.finalize()))
}

/// The part that is not a tensor; `state` is the loop's own.
#[derive(Serialize, Deserialize)]
struct Header<S> {
    optimiser_steps: usize,
    state: S,
}

/// Writes parameters, optimiser moments and `state` under the name of the loop, `kind` (atomically).
pub(crate) fn save(path: &Path, kind: &str, state: impl Serialize, params: &[(String, Var)], optimiser: &AdamW) -> Result<()> {
    let header = Header { optimiser_steps: optimiser.steps(), state };
    let json = serde_json::to_string(&header).map_err(|e| Error::Checkpoint(format!("{}: {e}", path.display())))?;
    let params = params.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor()));
    let tensors: Vec<(String, Tensor)> = params.chain(optimiser.state()).collect();
    save_tensors(path, &tensors, HashMap::from([(kind.to_string(), json)]))
}

/// A checkpoint that was read, not yet applied: the loop compares its state with its own settings first.
pub(crate) struct Saved<S> {
    pub state: S,
    optimiser_steps: usize,
    tensors: HashMap<String, Tensor>,
    path: PathBuf,
}

impl<S: DeserializeOwned> Saved<S> {
    pub fn read(path: &Path, kind: &str, device: &Device) -> Result<Self> {
        let shown = path.display();
        let (tensors, metadata) = read_tensors(path, device)?;
        let header = metadata
            .get(kind)
            .ok_or_else(|| Error::Checkpoint(format!("{shown} is no checkpoint of this stage ({kind}): start without --resume")))?;
        let unreadable = |e| Error::Checkpoint(format!("{shown}: unreadable state ({e}): start without --resume"));
        let header: Header<S> = serde_json::from_str(header).map_err(unreadable)?;
        Ok(Self { state: header.state, optimiser_steps: header.optimiser_steps, tensors, path: path.into() })
    }

    /// Puts the saved values into the parameters and the optimiser, and gives the loop its state back.
    pub fn restore(self, params: &[(String, Var)], optimiser: &mut AdamW) -> Result<S> {
        for (name, var) in params {
            match self.tensors.get(name) {
                Some(saved) if saved.dims() == var.dims() => var.set(saved)?,
                _ => {
                    let (shown, dims) = (self.path.display(), var.dims());
                    return Err(Error::Checkpoint(format!("{shown} lacks {name} in shape {dims:?}: start without --resume")));
                }
            }
        }
        optimiser.restore(self.optimiser_steps, &self.tensors)?;
        Ok(self.state)
    }

    /// The error for a checkpoint of another run.
    pub fn foreign(&self) -> Error {
        let shown = self.path.display();
        Error::Usage(format!(
            "{shown} belongs to a run with other settings, texts, seed or model: repeat that run's options, or start without --resume"
        ))
    }
}
