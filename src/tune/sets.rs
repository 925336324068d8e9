//! What learns, as a list: each set of parameters makes itself trainable, is saved and read back by the same few methods.

use std::collections::HashMap;
use std::fmt::Debug;

use candle_core::{Result, Tensor};

use super::biases::Biases;
use super::low_rank::LowRankUpdates;
use super::prompts::VisualPrompts;
use super::tuned::Tuned;
use crate::classify::Head;
use crate::error::Error;
use crate::nn::{LayerNorm, Param};

/// A set of parameters of a prompted tower. The tuner, its checkpoints and the LaFTer weights walk a list of them and know no
/// more than this: another set is another value in the list
/// ([`Finetuner::with_sets`](super::Finetuner::with_sets)).
pub trait ParameterSet: Debug + Send + Sync {
    /// Puts fresh variables with the same values in the place of its tensors, and gives them. No variables where there is
    /// nothing to learn.
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    fn trainable(&self, model: &mut Tuned) -> Result<Vec<Param>>;

    /// Its tensors by name, as files keep them.
    fn tensors(&self, model: &Tuned) -> Vec<(String, Tensor)>;

    /// Takes its tensors out of those of a file and puts them into the model, which has the CLIP's values until then.
    ///
    /// # Errors
    /// What is wrong with the file, in one line, if a tensor is missing or does not fit.
    fn load(&self, model: &mut Tuned, saved: &mut HashMap<String, Tensor>) -> std::result::Result<(), String>;

    /// Whether its parameters come on top of the CLIP's; false where they take the place of some.
    fn adds(&self) -> bool;
}

/// The sets that LaFTer tunes.
pub fn standard() -> Vec<Box<dyn ParameterSet>> {
    vec![Box::new(Prompts), Box::new(Norms), Box::new(HeadWeights)]
}

/// All that the library has: what files are written and read with. A set that was not tuned has no tensors in them.
pub fn known() -> Vec<Box<dyn ParameterSet>> {
    let mut sets = standard();
    sets.push(Box::new(Biases));
    sets.push(Box::new(LowRankUpdates));
    sets
}

/// What to do about a file that lacks something.
pub(super) const REMEDY: &str = "copy the file again, or train again";

/// The visual prompts, `prompts.0`, …
#[derive(Clone, Copy, Debug)]
pub struct Prompts;

impl ParameterSet for Prompts {
    fn trainable(&self, model: &mut Tuned) -> Result<Vec<Param>> {
        let (prompts, params) = model.prompts.trainable()?;
        model.prompts = prompts;
        Ok(params)
    }

    fn tensors(&self, model: &Tuned) -> Vec<(String, Tensor)> {
        model.prompts.tensors()
    }

    fn load(&self, model: &mut Tuned, saved: &mut HashMap<String, Tensor>) -> std::result::Result<(), String> {
        let prompts = VisualPrompts::from_tensors(saved);
        let (width, blocks) = (model.vision.config().width, model.vision.blocks.len());
        if ![0, 1, blocks].contains(&prompts.layers.len()) {
            let layers = prompts.layers.len();
            return Err(format!("visual prompts of {layers} blocks, expected those of 1 or of all {blocks}: {REMEDY}"));
        }
        for (i, layer) in prompts.layers.iter().enumerate() {
            if layer.dims() != [prompts.count(), width] || prompts.count() == 0 {
                let (dims, count) = (layer.dims(), prompts.count());
                return Err(format!("prompts.{i} has shape {dims:?}, the tower expects [{count}, {width}]"));
            }
        }
        take_all(saved, &prompts.tensors());
        model.prompts = prompts;
        Ok(())
    }

    fn adds(&self) -> bool {
        true
    }
}

/// Scale and shift of the vision tower's layer norms, under the names of the CLIP's own checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Norms;

impl ParameterSet for Norms {
    fn trainable(&self, model: &mut Tuned) -> Result<Vec<Param>> {
        model.vision.free_norms()
    }

    fn tensors(&self, model: &Tuned) -> Vec<(String, Tensor)> {
        let mut vision = model.vision.clone(); // shares the weights
        let both = |(name, norm): (String, &mut LayerNorm)| {
            [(format!("{name}.weight"), norm.weight.detach()), (format!("{name}.bias"), norm.bias.detach())]
        };
        vision.norms_mut().into_iter().flat_map(both).collect()
    }

    fn load(&self, model: &mut Tuned, saved: &mut HashMap<String, Tensor>) -> std::result::Result<(), String> {
        for (name, norm) in model.vision.norms_mut() {
            let mut take = |kind: &str, like: &Tensor| {
                let name = format!("{name}.{kind}");
                match saved.remove(&name) {
                    Some(tensor) if tensor.dims() == like.dims() => Ok(tensor),
                    Some(tensor) => Err(format!("{name} has shape {:?}, the tower expects {:?}", tensor.dims(), like.dims())),
                    None => Err(format!("{name} is missing: {REMEDY}")),
                }
            };
            *norm = LayerNorm::new(take("weight", &norm.weight)?, take("bias", &norm.bias)?, norm.eps);
        }
        Ok(())
    }

    fn adds(&self) -> bool {
        false
    }
}

/// The head's layers, `head.0.weight`, …
#[derive(Clone, Copy, Debug)]
pub struct HeadWeights;

impl ParameterSet for HeadWeights {
    fn trainable(&self, model: &mut Tuned) -> Result<Vec<Param>> {
        let (head, params) = model.head.trainable()?;
        model.head = head;
        Ok(params)
    }

    fn tensors(&self, model: &Tuned) -> Vec<(String, Tensor)> {
        model.head.tensors()
    }

    fn load(&self, model: &mut Tuned, saved: &mut HashMap<String, Tensor>) -> std::result::Result<(), String> {
        let head = Head::from_tensors(saved).map_err(|e| format!("{}: {REMEDY}", Error::from(e)))?;
        take_all(saved, &head.tensors());
        model.head = match model.head.scale {
            Some(scale) => head.cosine(scale).map_err(|e| format!("{}: {REMEDY}", Error::from(e)))?,
            None => head,
        };
        Ok(())
    }

    fn adds(&self) -> bool {
        true
    }
}

/// Removes what was read.
fn take_all(saved: &mut HashMap<String, Tensor>, read: &[(String, Tensor)]) {
    for (name, _) in read {
        saved.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::TextClassifier;
    use crate::clip::Clip;
    use crate::rng::Rng;
    use crate::tune::{FinetuneConfig, Finetuner};

    /// A parameter that a later set cuts off has no gradient, which ends the first step.
    #[test]
    fn sets_learn_in_any_order() {
        let clip = Clip::demo().unwrap();
        let side = clip.config().vision.image_size;
        let head = Head::linear(clip.config().projection, 3, &mut Rng::new(1), clip.device()).unwrap();
        let sets: Vec<Box<dyn ParameterSet>> = vec![Box::new(Biases), Box::new(HeadWeights), Box::new(Norms)];
        let config = FinetuneConfig { prompts: 0, ..FinetuneConfig::official() };
        let mut tuner = Finetuner::with_sets(&clip, &TextClassifier { head }, config, sets, &mut Rng::new(2)).unwrap();
        let view = Rng::new(3).normal_tensor((2, 3, side, side), 1.0, clip.device()).unwrap();
        tuner.step(&view, &view).unwrap();
    }
}
