//! LaFTer weights (lafter.safetensors): prompts, norms and head over the user's own CLIP, with what is needed to use them correctly.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use super::prompts::VisualPrompts;
use super::sets::{ParameterSet, REMEDY, known};
use super::tuned::Tuned;
use crate::augment::Preprocess;
use crate::checkpoint::all;
use crate::classify::Head;
use crate::clip::{Clip, VisionConfig, read_tensors, save_tensors};
use crate::error::{Error, Result};
use crate::nn::{Block, Precision};
use crate::sealed::checksum;

/// What LaFTer weights say about themselves; stored as JSON under the key `lafter` of the safetensors metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeightsInfo {
    /// The base model as the user named it.
    pub base_model: String,
    /// The commit of a base model of the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_commit: Option<String>,
    /// Hash of the base model's weights; a file is refused on any other.
    pub weights_hash: String,
    /// Class names, in the order of the logits.
    pub classes: Vec<String>,
    /// "official", "paper", "demo", …
    pub preset: String,
    /// The run's seed ([`LafterConfig::seed`](crate::LafterConfig::seed)).
    pub seed: u64,
    /// Whether features are unit-normalized before the head.
    #[serde(alias = "normalise")] // as earlier versions wrote it
    pub normalize: bool,
    /// The scale of a cosine head; `None` for one whose logits are W v.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// The number format in which the tower's frozen layers multiplied; `None` in files of versions that did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Sizes and activation of the vision tower; `None` in files of versions that did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vision: Option<VisionConfig>,
    /// How pictures were prepared; `None` in files of versions that did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<Preprocess>,
    /// Version of this crate.
    pub version: String,
}

const KEY: &str = "lafter";
/// How many tensors there are, so that a file that lost some is noticed.
const COUNT: &str = "tensors";
/// A hash of the tensors' names, shapes and values.
const CHECKSUM: &str = "checksum";

impl Tuned {
    /// Writes prompts, norms and head, biases and changes of low rank (atomically): a few hundred kB on top of the user's own CLIP. What a
    /// [set](ParameterSet) of your own tuned is not among them: [`save_with`](Self::save_with) writes it.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>, info: &WeightsInfo) -> Result<()> {
        self.save_with(path, info, &known())
    }

    /// [`save`](Self::save) for other [sets](ParameterSet) of parameters; [`load_with`](Self::load_with) the same reads the file.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn save_with(&self, path: impl AsRef<Path>, info: &WeightsInfo, sets: &[Box<dyn ParameterSet>]) -> Result<()> {
        let path = path.as_ref();
        let tensors: Vec<(String, Tensor)> = sets.iter().flat_map(|set| set.tensors(self)).collect();
        // `self.normalize` wins: the settings may have been edited since
        let info = WeightsInfo { normalize: self.normalize, scale: self.head.scale, precision: self.vision.precision(), ..info.clone() };
        let json = serde_json::to_string(&info).map_err(|e| Error::LafterWeights(format!("{}: {e}", path.display())))?;
        let sum = checksum(tensors.iter().map(|(name, tensor)| (name, tensor)), &HashMap::new())?;
        let count = tensors.len().to_string();
        let metadata = [(KEY, json), (COUNT, count), (CHECKSUM, sum)].map(|(key, value)| (key.to_string(), value));
        save_tensors(path, &tensors, HashMap::from(metadata))
    }

    /// Reads LaFTer weights and applies them to the CLIP that they were trained on. What was tuned in bf16 multiplies in bf16, so
    /// that it answers as it did; tensors of another floating-point type become f32.
    ///
    /// # Errors
    /// [`Error::LafterWeights`] for a file that holds no LaFTer weights, was trained on another CLIP, does not fit this one, lacks a
    /// tensor or holds a value that is not finite, or others than were saved; [`Error::Io`] or [`Error::Weights`] for one that cannot be read.
    pub fn load(path: impl AsRef<Path>, clip: &Clip) -> Result<(Self, WeightsInfo)> {
        Self::load_with(path, clip, &known())
    }

    /// [`load`](Self::load) for the sets of parameters that the file was [saved with](Self::save_with).
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_with(path: impl AsRef<Path>, clip: &Clip, sets: &[Box<dyn ParameterSet>]) -> Result<(Self, WeightsInfo)> {
        let path = path.as_ref();
        let shown = path.display();
        let wrong = |what: String| Error::LafterWeights(format!("{shown}: {what}"));
        let (tensors, metadata) = read_tensors(path, clip.device())?;
        let info = metadata.get(KEY).ok_or_else(|| {
            Error::LafterWeights(format!(
                "{shown} holds no LaFTer weights (its metadata lack \"{KEY}\"): expected what `lafter run` writes as lafter.safetensors"
            ))
        })?;
        let info: WeightsInfo = serde_json::from_str(info).map_err(|e| wrong(format!("unreadable metadata: {e}")))?;
        if info.weights_hash != clip.weights_hash() {
            return Err(Error::LafterWeights(format!(
                "{shown} was trained over {} (weights {:.12}), not over {} (weights {:.12}): use the base model it names",
                info.base_model,
                info.weights_hash,
                clip.id(),
                clip.weights_hash(),
            )));
        }
        if info.vision.as_ref().is_some_and(|vision| *vision != clip.config().vision) {
            return Err(wrong(
                "was trained over these weights in another vision tower (sizes, activation or ε): use its configuration".into(),
            ));
        }
        if info.preprocess.as_ref().is_some_and(|preprocess| !preprocess.agrees_with(clip.preprocess())) {
            return Err(wrong(
                "was trained on pictures prepared in another way (size, resize, mean or std): use that image processor".into(),
            ));
        }
        let held = tensors.len();
        let spoiled = spoiled(&tensors, metadata.get(CHECKSUM))?;
        let mut tensors: HashMap<String, Tensor> =
            tensors.into_iter().map(|(name, tensor)| Ok((name.clone(), checked(&name, tensor).map_err(&wrong)?))).collect::<Result<_>>()?;

        let vision = match (info.precision, clip.precision()) {
            (Some(Precision::Bf16), Precision::F32) => clip.vision().detached().packed(Precision::Bf16)?,
            _ => clip.vision().detached(),
        };
        let blocks = vision.blocks.len();
        if let Some(scale) = info.scale.filter(|scale| !(*scale > 0.0 && scale.is_finite())) {
            return Err(wrong(format!("the scale of its head is {scale}, not a number above 0: {REMEDY}")));
        }
        let head = Head { layers: Vec::new(), scale: info.scale };
        let mut tuned = Self { vision, prompts: VisualPrompts::none(), head, normalize: info.normalize };
        tuned.take(sets, &mut tensors, wrong)?;
        let head = &tuned.head;
        if head.inputs() != clip.config().projection {
            let (inputs, shared) = (head.inputs(), clip.config().projection);
            return Err(wrong(format!("the head expects features of width {inputs}, this CLIP's have {shared}")));
        }
        if head.classes() != info.classes.len() {
            let (outputs, names) = (head.classes(), info.classes.len());
            return Err(wrong(format!("the head has {outputs} outputs, the metadata name {names} classes")));
        }
        if let Some(name) = tensors.keys().min() {
            return Err(wrong(format!("{name} has no place in a tower of {blocks} blocks with this head: {REMEDY}")));
        }
        if let Some(count) = metadata.get(COUNT).filter(|count| **count != held.to_string()) {
            return Err(wrong(format!("holds {held} of {count} tensors: {REMEDY}")));
        }
        if spoiled {
            let by_hand = format!("or remove \"{CHECKSUM}\" from its metadata if they were changed on purpose");
            return Err(wrong(format!("its values are not those that were saved: {REMEDY}, {by_hand}")));
        }
        Ok((tuned, info))
    }

    /// Takes the tensors of the sets out of those of a file; the frozen layers multiply in the number format of before.
    ///
    /// # Errors
    /// What `wrong` makes of the fault if a tensor is missing or does not fit.
    pub(crate) fn take(
        &mut self,
        sets: &[Box<dyn ParameterSet>],
        saved: &mut HashMap<String, Tensor>,
        wrong: impl Fn(String) -> Error,
    ) -> Result<()> {
        let packed = self.vision.precision();
        for set in sets {
            set.load(self, saved).map_err(&wrong)?;
        }
        // folded weights are others than those that were packed
        let folded = |block: &Block| block.layers().iter().any(|layer| layer.tuning.low_rank.as_ref().is_some_and(|change| change.folded));
        if let (true, Some(precision)) = (self.vision.blocks.iter().any(folded), packed) {
            self.vision = self.vision.packed(precision)?;
        }
        Ok(())
    }
}

/// Whether the values differ from those that were saved. What was converted since (f16) has others on purpose.
fn spoiled(tensors: &HashMap<String, Tensor>, sum: Option<&String>) -> Result<bool> {
    let Some(sum) = sum.filter(|_| tensors.values().all(|tensor| tensor.dtype() == DType::F32)) else { return Ok(false) };
    Ok(*sum != checksum(tensors, &HashMap::new())?)
}

/// A tensor of any floating-point type as f32, if all its values are finite.
fn checked(name: &str, tensor: Tensor) -> std::result::Result<Tensor, String> {
    let dtype = tensor.dtype();
    if ![DType::F32, DType::F64, DType::F16, DType::BF16].contains(&dtype) {
        return Err(format!("{name} has dtype {dtype:?}, expected f32: {REMEDY}"));
    }
    let tensor = tensor.to_dtype(DType::F32).map_err(|e| format!("{name}: {}", Error::from(e)))?;
    match all(&tensor, f32::is_finite) {
        Ok(true) => Ok(tensor),
        Ok(false) => Err(format!("{name} holds a value that is not finite: {REMEDY}")),
        Err(error) => Err(format!("{name}: {error}")),
    }
}

impl WeightsInfo {
    /// What LaFTer weights say about themselves, without the CLIP that they belong to.
    ///
    /// # Errors
    /// [`Error::LafterWeights`] for a file that holds no LaFTer weights; [`Error::Io`] or [`Error::Weights`] for one that cannot be read.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (_, metadata) = read_tensors(path, &candle_core::Device::Cpu)?;
        let info = metadata.get(KEY).and_then(|info| serde_json::from_str(info).ok());
        info.ok_or_else(|| {
            Error::LafterWeights(format!("{} holds no LaFTer weights: give the lafter.safetensors of a run", path.display()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::TextClassifier;
    use crate::rng::Rng;
    use crate::tune::{FinetuneConfig, Finetuner, LowRankConfig};

    /// Over a tower whose updates are not folded yet, as a run has it that chooses an epoch.
    #[test]
    fn layers_into_which_an_update_is_folded_are_packed_again() {
        let clip = Clip::demo().unwrap();
        let head = Head::linear(clip.config().projection, 3, &mut Rng::new(1), clip.device()).unwrap();
        let low_rank = Some(LowRankConfig::default());
        let config = FinetuneConfig { prompts: 0, precision: Precision::Bf16, low_rank, ..FinetuneConfig::official() };
        let mut tuned = Finetuner::new(&clip, &TextClassifier { head }, config, &mut Rng::new(2)).unwrap().tuned();
        let precision = tuned.vision.precision();
        let mut saved = known().iter().flat_map(|set| set.tensors(&tuned)).collect();
        tuned.take(&known(), &mut saved, Error::Checkpoint).unwrap();
        assert!(precision.is_some() && tuned.vision.precision() == precision);
        assert!(tuned.vision.blocks.iter().flat_map(Block::layers).all(|layer| layer.weight.plain().is_none()), "not packed");
    }
}
