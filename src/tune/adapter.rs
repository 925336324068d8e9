//! The LaFTer file: prompts, norms and head over the user's own CLIP, with what is needed to use them correctly.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use super::prompts::VisualPrompts;
use super::tuned::Tuned;
use crate::classify::Head;
use crate::clip::{Clip, read_tensors, save_tensors};
use crate::error::{Error, Result};
use crate::nn::LayerNorm;

/// What a LaFTer file says about itself; stored as JSON under the key `lafter` of the safetensors metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdapterInfo {
    /// The base model as the user named it.
    pub base_model: String,
    /// Hash of the base model's weights; a file is refused on any other.
    pub weights_hash: String,
    /// Class names, in the order of the logits.
    pub classes: Vec<String>,
    /// "official", "paper", "demo", …
    pub preset: String,
    /// The run's seed ([`LafterConfig::seed`](crate::LafterConfig::seed)).
    pub seed: u64,
    /// Whether features are unit-normalised before the head.
    pub normalise: bool,
    /// Version of this crate.
    pub version: String,
}

const KEY: &str = "lafter";

impl Tuned {
    /// Writes prompts, norms and head (atomically): a few hundred kB on top of the user's own CLIP.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>, info: &AdapterInfo) -> Result<()> {
        let path = path.as_ref();
        let mut tensors = self.prompts.tensors();
        for (name, norm) in self.vision.clone().norms_mut() {
            tensors.push((format!("{name}.weight"), norm.weight.detach()));
            tensors.push((format!("{name}.bias"), norm.bias.detach()));
        }
        tensors.extend(self.head.tensors());
        // what the tower does, whatever the settings say by now
        let info = AdapterInfo { normalise: self.normalise, ..info.clone() };
        let json = serde_json::to_string(&info).map_err(|e| Error::Adapter(format!("{}: {e}", path.display())))?;
        save_tensors(path, &tensors, HashMap::from([(KEY.to_string(), json)]))
    }

    /// Reads a LaFTer file and applies it to the CLIP that it was trained on.
    ///
    /// # Errors
    /// [`Error::Adapter`] for a file that is no LaFTer file, was trained on another CLIP or does not fit this one; [`Error::Io`]
    /// or [`Error::Weights`] for one that cannot be read.
    pub fn load(path: impl AsRef<Path>, clip: &Clip) -> Result<(Self, AdapterInfo)> {
        let path = path.as_ref();
        let shown = path.display();
        let (mut tensors, metadata) = read_tensors(path, clip.device())?;
        let info = metadata.get(KEY).ok_or_else(|| {
            Error::Adapter(format!(
                "{shown} is no LaFTer file (its metadata lack \"{KEY}\"): expected what `lafter run` writes as lafter.safetensors"
            ))
        })?;
        let info: AdapterInfo = serde_json::from_str(info).map_err(|e| Error::Adapter(format!("{shown}: unreadable metadata: {e}")))?;
        if info.weights_hash != clip.weights_hash() {
            return Err(Error::Adapter(format!(
                "{shown} was trained over {} (weights {:.12}), not over {} (weights {:.12}): use the base model it names",
                info.base_model,
                info.weights_hash,
                clip.id(),
                clip.weights_hash(),
            )));
        }
        let fits = |name: &str, tensor: &Tensor, like: &Tensor| {
            if tensor.dims() == like.dims() {
                return Ok(());
            }
            Err(Error::Adapter(format!("{shown}: {name} has shape {:?}, the tower expects {:?}", tensor.dims(), like.dims())))
        };
        let mut vision = clip.vision().frozen();
        for (name, norm) in vision.norms_mut() {
            let (weight, bias) = (tensors.remove(&format!("{name}.weight")), tensors.remove(&format!("{name}.bias")));
            if let (Some(weight), Some(bias)) = (weight, bias) {
                fits(&name, &weight, &norm.weight)?;
                fits(&name, &bias, &norm.bias)?;
                *norm = LayerNorm::new(weight, bias, norm.eps);
            }
        }
        let prompts = VisualPrompts::from_tensors(&tensors);
        let head = Head::from_tensors(&tensors).map_err(|e| Error::Adapter(format!("{shown}: {e}")))?;
        let (width, shared) = (clip.config().vision.width, clip.config().projection);
        if prompts.layers.iter().any(|layer| layer.dims().get(1) != Some(&width)) || head.inputs() != shared {
            return Err(Error::Adapter(format!(
                "{shown}: prompts or head do not fit a tower of width {width} and features of width {shared}"
            )));
        }
        if head.classes() != info.classes.len() {
            let (outputs, names) = (head.classes(), info.classes.len());
            return Err(Error::Adapter(format!("{shown}: the head has {outputs} outputs, the metadata name {names} classes")));
        }
        debug_assert!(tensors.values().all(|tensor| tensor.dtype() == DType::F32));
        Ok((Self { vision, prompts, head, normalise: info.normalise }, info))
    }
}
