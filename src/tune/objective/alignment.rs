//! Alignment: the head's rows learn to name the image prototypes (DPA, Ali et al. 2025).

use candle_core::{DType, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::Term;
use crate::classify::{normalize, smoothed_cross_entropy};
use crate::tune::config::LARGEST;
use crate::tune::role::{Flow, What};
use crate::tune::{Setup, Stateful, Targets, Tuned, Views};

/// L = (1/C) Σ_c CE( w P_c unit(W)ᵀ, c ): prototype c should be nearest to row c of the head. P has no gradient, so the head alone
/// learns from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alignment {
    /// w, by which cosines are multiplied, above 0; default 100.
    pub scale: f64,
}

impl Default for Alignment {
    fn default() -> Self {
        Self { scale: 100.0 }
    }
}

impl Flow for Alignment {
    fn needs(&self) -> &'static [What] {
        &[What::Prototypes]
    }
}

impl Alignment {
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        match self.scale > 0.0 && self.scale <= LARGEST {
            true => Ok(()),
            false => Err(format!("alignment: scale must be above 0 and at most 1e6, got {}", self.scale)),
        }
    }

    pub(super) fn block(&self, setup: &Setup) -> Result<Box<dyn Term>> {
        let classes = Tensor::arange(0u32, setup.head.classes() as u32, setup.clip.device())?;
        Ok(Box::new(AlignmentTerm { scale: self.scale, classes }))
    }
}

/// The loss of prototypes `[C, d]` and the head's weights `[C, d]`; `classes` are 0 to C − 1.
fn alignment(prototypes: &Tensor, weights: &Tensor, classes: &Tensor, scale: f64) -> Result<Tensor> {
    let logits = (prototypes.matmul(&normalize(&weights.to_dtype(DType::F32)?)?.t()?)? * scale)?; // [C, C]
    smoothed_cross_entropy(&logits, classes, 0.0)
}

struct AlignmentTerm {
    scale: f64,
    classes: Tensor,
}

impl Term for AlignmentTerm {
    fn loss(&mut self, _: &Views, student: &Tuned, _: &Tensor, targets: &Targets) -> Result<Tensor> {
        match (&targets.prototypes, &student.head.layers[..]) {
            (Some(prototypes), [layer]) => alignment(prototypes, &layer.weight.tensor(), &self.classes, self.scale),
            (None, _) => candle_core::bail!("alignment needs image prototypes: put the rule that makes them into refine"),
            _ => candle_core::bail!("alignment needs a head of one layer"),
        }
    }
}

impl Stateful for AlignmentTerm {
    fn kind(&self) -> &'static str {
        "alignment"
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    /// Numbers of a reference in f64.
    #[test]
    fn values_are_the_reference_s_and_only_the_head_learns() {
        let rows = [[0.948527f32, 0.218081, 0.229645], [0.509547, 0.843771, 0.168561], [0., 0., 1.]];
        let prototypes = Var::new(&rows, &Device::Cpu).unwrap();
        let weights = Var::new(&[[2f32, 0., 0.], [0., 1., 0.], [0., 0., 1.]], &Device::Cpu).unwrap(); // of any length
        let classes = Tensor::new(&[0u32, 1, 2], &Device::Cpu).unwrap();
        for (scale, expected) in [(1.0, 0.676232f32), (5.0, 0.088695)] {
            let loss = alignment(&prototypes.detach(), &weights, &classes, scale).unwrap();
            assert!((loss.to_scalar::<f32>().unwrap() - expected).abs() < 2e-6, "{loss}");
            let gradients = loss.backward().unwrap();
            assert!(gradients.get(&prototypes).is_none());
            let learned = gradients.get(&weights).unwrap().abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(learned > 1e-3, "{learned}");
        }
    }
}
