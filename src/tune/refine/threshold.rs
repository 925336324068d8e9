//! Leaves out pseudo-labels that are not sure (FixMatch, Sohn et al. 2020, eq. 4; MUST, Li et al. 2022).

use candle_core::{DType, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::Refine;
use crate::tune::role::{Flow, What};
use crate::tune::{Setup, Stateful, Targets, Views};

/// w_i = \[max_c p_ic > τ\].
///
/// Confidence depends on the temperature: at LaFTer's own, T = 1, a head of 10 classes is hardly ever surer than 0.2, and a τ of
/// 0.4 keeps nothing. [`EpochRecord::kept`](crate::tune::EpochRecord::kept) says how much is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// τ, 0 ≤ τ < 1: a pseudo-label counts if its confidence is greater.
    pub above: f64,
    /// What the loss is a mean over; default the batch.
    #[serde(default)]
    pub over: Over,
}

/// What the loss is a mean over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// The whole batch: few sure pictures make a small step (FixMatch).
    #[default]
    Batch,
    /// The pictures kept, or 1 if there is none: w_i b / max(Σ w, 1) (MUST).
    Kept,
}

impl Flow for Threshold {
    fn needs(&self) -> &'static [What] {
        &[What::Answers, What::Weights]
    }

    fn gives(&self) -> &'static [What] {
        &[What::Weights]
    }
}

impl Threshold {
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        match (0.0..1.0).contains(&self.above) {
            true => Ok(()),
            false => Err(format!("threshold: above must lie in [0, 1), got {}", self.above)),
        }
    }

    pub(super) fn block(&self, _: &Setup) -> Result<Box<dyn Refine>> {
        Ok(Box::new(self.clone()))
    }

    /// Confidences `[b]` → weights `[b]`.
    fn weights(&self, confidence: &Tensor) -> Result<Tensor> {
        let kept = confidence.gt(self.above)?.to_dtype(DType::F32)?;
        match self.over {
            Over::Batch => Ok(kept),
            Over::Kept => {
                let each = (kept.sum_all()?.maximum(1.0)?.recip()? * confidence.elem_count() as f64)?;
                kept.broadcast_mul(&each)
            }
        }
    }
}

impl Refine for Threshold {
    fn refine(&mut self, _: &Views, targets: Targets) -> Result<Targets> {
        let weights = self.weights(&targets.confidence)?;
        targets.weighted(&weights)
    }
}

impl Stateful for Threshold {
    fn kind(&self) -> &'static str {
        "threshold"
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn what_is_not_surer_is_left_out() {
        let probabilities = Tensor::new(&[[0.7f32, 0.2, 0.1], [0.6, 0.3, 0.1], [0.5, 0.1, 0.4]], &Device::Cpu).unwrap();
        let targets = Targets::new(Tensor::zeros((3, 2), DType::F32, &Device::Cpu).unwrap(), probabilities).unwrap();
        let views = Views::new(targets.features.clone(), targets.features.clone());
        for (above, over, expected) in [
            (0.6, Over::Batch, [1.0, 0.0, 0.0]),
            (0.6, Over::Kept, [3.0, 0.0, 0.0]),
            (0.55, Over::Batch, [1.0, 1.0, 0.0]),
            (0.55, Over::Kept, [1.5, 1.5, 0.0]),
            (0.9, Over::Batch, [0.0; 3]),
            (0.9, Over::Kept, [0.0; 3]),
        ] {
            let mut rule = Threshold { above, over };
            let refined = rule.refine(&views, targets.clone()).unwrap();
            assert_eq!(refined.weights.unwrap().to_vec1::<f32>().unwrap(), expected, "{rule:?}");
            assert_eq!(refined.labels.to_vec1::<u32>().unwrap(), [0, 0, 0]);
        }
        // after a rule that gave weights of its own
        let half = Tensor::new(&[0.5f32, 0.5, 0.5], &Device::Cpu).unwrap();
        let refined = Threshold { above: 0.55, over: Over::Batch }.refine(&views, targets.weighted(&half).unwrap()).unwrap();
        assert_eq!(refined.weights.unwrap().to_vec1::<f32>().unwrap(), [0.5, 0.5, 0.0]);
    }
}
