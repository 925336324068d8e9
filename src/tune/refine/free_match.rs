//! A threshold that follows the model, class by class (FreeMatch, Wang et al. 2023).

use std::collections::HashMap;

use candle_core::{D, DType, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::Refine;
use crate::tune::role::{Flow, What};
use crate::tune::rows;
use crate::tune::{Setup, Stateful, Targets, Views};

/// τ ← m τ + (1 − m) mean_i max p_i, π ← m π + (1 − m) p̄, both from 1/C; w_i = \[max p_i ≥ τ π_ŷ / max_c π_c\], after the update.
///
/// A method of semi-supervised learning, with some labels; no released code uses it to tune CLIP without any.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FreeMatch {
    /// m, 0 to 1; default 0.999.
    pub momentum: f64,
}

impl Default for FreeMatch {
    fn default() -> Self {
        Self { momentum: 0.999 }
    }
}

impl Flow for FreeMatch {
    fn needs(&self) -> &'static [What] {
        &[What::Answers, What::Labels, What::Weights]
    }

    fn gives(&self) -> &'static [What] {
        &[What::Weights]
    }
}

impl FreeMatch {
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        match (0.0..=1.0).contains(&self.momentum) {
            true => Ok(()),
            false => Err(format!("free_match: momentum must lie in [0, 1], got {}", self.momentum)),
        }
    }

    pub(super) fn block(&self, setup: &Setup) -> Result<Box<dyn Refine>> {
        let start = |n: usize| Tensor::full(1.0 / setup.head.classes() as f32, n, setup.clip.device())?.contiguous();
        Ok(Box::new(Following { momentum: self.momentum, threshold: start(1)?, classes: start(setup.head.classes())? }))
    }
}

struct Following {
    momentum: f64,
    /// τ `[1]`.
    threshold: Tensor,
    /// π `[C]`.
    classes: Tensor,
}

impl Refine for Following {
    fn refine(&mut self, _: &Views, targets: Targets) -> Result<Targets> {
        let follow = |old: &Tensor, new: Tensor| (old * self.momentum)? + (new * (1.0 - self.momentum))?;
        self.threshold = follow(&self.threshold, targets.confidence.mean_keepdim(0)?)?;
        self.classes = follow(&self.classes, targets.probabilities.mean(0)?)?;
        let each = self.classes.broadcast_div(&self.classes.max_keepdim(D::Minus1)?)?.broadcast_mul(&self.threshold)?; // [C]
        let wanted = each.index_select(&targets.labels, 0)?; // [b]
        let weights = targets.confidence.ge(&wanted)?.to_dtype(DType::F32)?;
        targets.weighted(&weights)
    }
}

impl Stateful for Following {
    fn kind(&self) -> &'static str {
        "free_match"
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        vec![("threshold".into(), self.threshold.clone()), ("classes".into(), self.classes.clone())]
    }

    fn restore(&mut self, saved: &HashMap<String, Tensor>) -> Result<()> {
        self.threshold = rows::saved(saved, "threshold", &[1])?;
        self.classes = rows::saved(saved, "classes", self.classes.dims())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::tune::refine::tests::{batch, close};

    /// Numbers of a reference in f64.
    #[test]
    fn thresholds_are_the_reference_s() {
        let start = |n: usize| Tensor::full(1f32 / 3.0, n, &Device::Cpu).unwrap().contiguous().unwrap();
        let mut rule = Following { momentum: 0.9, threshold: start(1), classes: start(3) };
        let (views, targets) = batch(&[[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.5, 0.1, 0.4]]);
        close(&rule.refine(&views, targets).unwrap().weights.unwrap(), &[1.0; 3]);
        close(&rule.threshold, &[0.36]);
        close(&rule.classes, &[0.36, 0.32, 0.32]);
        // a class that is named often must be surer: τ .366, π (.364, .324, .312): .366 for class 0, .326 for class 1
        let (views, targets) = batch(&[[0.36, 0.32, 0.32], [0.30, 0.36, 0.34], [0.54, 0.4, 0.06]]);
        close(&rule.refine(&views, targets).unwrap().weights.unwrap(), &[0.0, 1.0, 1.0]);
        let mut other = Following { momentum: 0.9, threshold: start(1), classes: start(3) };
        other.restore(&rule.state().into_iter().collect()).unwrap();
        close(&other.classes, &rule.classes.to_vec1::<f32>().unwrap());
    }
}
