//! Low-rank updates of the vision tower's attention projections (LoRA, Hu et al. 2022) as a set of parameters.

use std::collections::HashMap;

use candle_core::{DType, Result, Tensor, Var};
use serde::{Deserialize, Serialize};

use super::sets::{ParameterSet, REMEDY};
use super::tuned::Tuned;
use crate::clip::VisionTower;
use crate::error::{self, Error};
use crate::nn::{Attention, Linear, LowRank, Param};
use crate::rng::Rng;

/// One projection of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Projection {
    /// q
    Query,
    /// k
    Key,
    /// v
    Value,
    /// The output projection.
    Output,
}

impl Projection {
    const ALL: [Self; 4] = [Self::Query, Self::Key, Self::Value, Self::Output];

    /// Its name in checkpoints.
    fn name(self) -> &'static str {
        match self {
            Self::Query => "q_proj",
            Self::Key => "k_proj",
            Self::Value => "v_proj",
            Self::Output => "out_proj",
        }
    }
}

/// W + (α / rank) B A in place of W in every block: A `[rank, in]` starts uniform in ±1/√in, B `[out, rank]` at zero, so that the
/// first answer is the untuned tower's. Both decay. A saved one is folded into the weights where it is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LowRankConfig {
    /// The rank, from 1 up to the tower's width; default 4.
    pub rank: usize,
    /// α, above 0; default 8.
    pub alpha: f64,
    /// Which projections; default q and v.
    pub of: Vec<Projection>,
}

impl Default for LowRankConfig {
    fn default() -> Self {
        Self { rank: 4, alpha: 8.0, of: vec![Projection::Query, Projection::Value] }
    }
}

/// s of all updates of a file.
const SCALE: &str = "low_rank.scale";

impl LowRankConfig {
    /// What cannot work, in one line.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        if self.rank == 0 || self.rank > 4096 {
            return Err(format!("low_rank: rank must be 1 to 4096, got {}", self.rank));
        }
        if !(self.alpha > 0.0 && self.alpha <= 1e4) {
            return Err(format!("low_rank: alpha must be above 0 and up to 10000, got {}", self.alpha));
        }
        if self.of.is_empty() || self.of.iter().enumerate().any(|(i, one)| self.of[..i].contains(one)) {
            return Err(format!("low_rank: of must name query, key, value or output, each at most once, got {:?}", self.of));
        }
        Ok(())
    }

    /// Gives each of the projections an update that changes nothing yet.
    ///
    /// # Errors
    /// [`Error::Usage`] for a rank above the tower's width; Candle's if the device has no memory left.
    pub fn begin(&self, tower: &mut VisionTower, rng: &mut Rng) -> error::Result<()> {
        let (rank, width) = (self.rank, tower.config().width);
        if rank > width {
            return Err(Error::Usage(format!("tuning: low_rank: rank must be 1 to {width}, the tower's width, got {rank}")));
        }
        for (_, layer) in layers(tower, &self.of) {
            let ((outputs, inputs), device) = (layer.weight.dims2()?, layer.weight.device().clone());
            let bound = (inputs.max(1) as f32).powf(-0.5);
            let down = rng.uniform_tensor((self.rank, inputs), -bound, bound, &device)?;
            let up = Tensor::zeros((outputs, self.rank), DType::F32, &device)?;
            layer.tuning.low_rank = Some(LowRank { down, up, scale: self.alpha / self.rank as f64, folded: false });
        }
        Ok(())
    }
}

/// Every projection of these kinds with its checkpoint name.
fn layers<'a>(tower: &'a mut VisionTower, of: &[Projection]) -> Vec<(String, &'a mut Linear)> {
    let mut found = Vec::new();
    for (i, block) in tower.blocks.iter_mut().enumerate() {
        let Attention { query, key, value, output, .. } = &mut block.attention;
        let each = Projection::ALL.into_iter().zip([query, key, value, output]).filter(|(one, _)| of.contains(one));
        found.extend(each.map(|(one, layer)| (format!("vision_model.encoder.layers.{i}.self_attn.{}", one.name()), layer)));
    }
    found
}

/// The low-rank updates of a tower, `….q_proj.lora_a` and `….lora_b`.
#[derive(Clone, Copy, Debug)]
pub struct LowRankUpdates;

impl ParameterSet for LowRankUpdates {
    fn trainable(&self, model: &mut Tuned) -> Result<Vec<Param>> {
        let mut params = Vec::new();
        for (name, layer) in layers(&mut model.vision, &Projection::ALL) {
            let Some(change) = &mut layer.tuning.low_rank else { continue };
            for (tensor, kind) in [(&mut change.down, "lora_a"), (&mut change.up, "lora_b")] {
                let var = Var::from_tensor(&tensor.copy()?)?;
                *tensor = var.as_tensor().clone();
                params.push(Param { name: format!("{name}.{kind}"), var, decay: true });
            }
        }
        Ok(params)
    }

    fn tensors(&self, model: &Tuned) -> Vec<(String, Tensor)> {
        let mut tensors = Vec::new();
        for (name, layer) in layers(&mut model.vision.clone(), &Projection::ALL) {
            let Some(LowRank { down, up, scale, .. }) = &layer.tuning.low_rank else { continue };
            if let (true, Ok(scale)) = (tensors.is_empty(), Tensor::new(&[*scale as f32], down.device())) {
                tensors.push((SCALE.to_string(), scale));
            }
            tensors.push((format!("{name}.lora_a"), down.detach()));
            tensors.push((format!("{name}.lora_b"), up.detach()));
        }
        tensors
    }

    /// Folds them into the weights.
    fn load(&self, model: &mut Tuned, saved: &mut HashMap<String, Tensor>) -> std::result::Result<(), String> {
        let Some(scale) = saved.remove(SCALE) else { return Ok(()) };
        let scale = scale.flatten_all().and_then(|scale| scale.to_vec1::<f32>()).unwrap_or_default();
        let [scale] = scale[..] else { return Err(format!("{SCALE} is not one number: {REMEDY}")) };
        for (name, layer) in layers(&mut model.vision, &Projection::ALL) {
            let (down, up) = match (saved.remove(&format!("{name}.lora_a")), saved.remove(&format!("{name}.lora_b"))) {
                (Some(down), Some(up)) => (down, up),
                (None, None) => continue,
                _ => return Err(format!("{name} has one of lora_a and lora_b: {REMEDY}")),
            };
            if layer.tuning.low_rank.as_ref().is_some_and(|before| before.folded) {
                return Err(format!("{name} has an update in its weight already: read it over the CLIP itself"));
            }
            let (outputs, inputs) = layer.weight.dims2().map_err(|e| format!("{name}: {e}"))?;
            let rank = down.dims().first().copied().unwrap_or(0);
            if rank == 0 || down.dims() != [rank, inputs] || up.dims() != [outputs, rank] {
                let (down, up) = (down.dims(), up.dims());
                return Err(format!(
                    "{name} has lora_a {down:?} and lora_b {up:?}, the tower expects [rank, {inputs}] and [{outputs}, rank]"
                ));
            }
            layer.tuning.low_rank = Some(LowRank { down, up, scale: f64::from(scale), folded: false });
            *layer = layer.folded().map_err(|e| format!("{name}: {e}"))?;
        }
        Ok(())
    }

    fn adds(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::Clip;

    #[test]
    fn a_rank_above_the_width_is_refused() {
        let mut tower = Clip::demo().unwrap().vision().clone();
        let mut begin = |rank| LowRankConfig { rank, ..LowRankConfig::default() }.begin(&mut tower, &mut Rng::new(1));
        let width = Clip::demo().unwrap().config().vision.width;
        begin(width).unwrap();
        let error = begin(width + 1).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("the tower's width"), "{error}");
    }
}
