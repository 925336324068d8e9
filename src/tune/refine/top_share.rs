//! Keeps the surest share of each batch: a threshold that needs no calibration.

use candle_core::{DType, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::Refine;
use crate::tune::role::{Flow, What};
use crate::tune::{Setup, Stateful, Targets, Views};

/// w_i = \[fewer than round(r b) pictures of the batch are surer\], at least one picture; r is the share, b the batch. Pictures that
/// are equally sure stay or go together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopShare {
    /// r, above 0 and up to 1; default 0.5.
    pub share: f64,
}

impl Default for TopShare {
    fn default() -> Self {
        Self { share: 0.5 }
    }
}

impl Flow for TopShare {
    fn needs(&self) -> &'static [What] {
        &[What::Answers, What::Weights]
    }

    fn gives(&self) -> &'static [What] {
        &[What::Weights]
    }
}

impl TopShare {
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        match self.share > 0.0 && self.share <= 1.0 {
            true => Ok(()),
            false => Err(format!("top_share: share must lie in (0, 1], got {}", self.share)),
        }
    }

    pub(super) fn block(&self, _: &Setup) -> Result<Box<dyn Refine>> {
        Ok(Box::new(*self))
    }

    /// Confidences `[b]` → weights `[b]`.
    fn weights(self, confidence: &Tensor) -> Result<Tensor> {
        let surer = confidence.unsqueeze(0)?.broadcast_gt(&confidence.unsqueeze(1)?)?; // [b, b]: is j surer than i?
        let rank = surer.to_dtype(DType::F32)?.sum(1)?; // [b]
        rank.lt((self.share * confidence.elem_count() as f64).round().max(1.0))?.to_dtype(DType::F32)
    }
}

impl Refine for TopShare {
    fn refine(&mut self, _: &Views, targets: Targets) -> Result<Targets> {
        let weights = self.weights(&targets.confidence)?;
        targets.weighted(&weights)
    }
}

impl Stateful for TopShare {
    fn kind(&self) -> &'static str {
        "top_share"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::refine::tests::batch;

    #[test]
    fn the_surest_stay() {
        let (views, targets) = batch(&[[0.7, 0.3], [0.1, 0.9], [0.55, 0.45], [0.7, 0.3]]);
        for (share, expected) in [(0.25, [0.0, 1.0, 0.0, 0.0]), (0.5, [1.0, 1.0, 0.0, 1.0]), (0.01, [0.0, 1.0, 0.0, 0.0]), (1.0, [1.0; 4])]
        {
            let refined = TopShare { share }.refine(&views, targets.clone()).unwrap();
            assert_eq!(refined.weights.unwrap().to_vec1::<f32>().unwrap(), expected, "{share}");
        }
        assert!(TopShare { share: 0.0 }.check().is_err() && TopShare { share: f64::NAN }.check().is_err());
    }
}
