//! Tent: each batch makes the tower surer for the next (Wang, Shelhamer, Liu, Olshausen, Darrell, ICLR 2021).

use candle_core::{D, Tensor};

use super::Adapt;
use super::base::Base;
use super::norms::TunedNorms;
use crate::ZeroShotClassifier;
use crate::clip::Clip;
use crate::error::Result;
use crate::tune::Tuned;

/// Settings of [`Tent`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TentConfig {
    /// Adam's learning rate; default 1e-3.
    pub learning_rate: f64,
}

impl Default for TentConfig {
    fn default() -> Self {
        Self { learning_rate: 1e-3 }
    }
}

/// One step of Adam a batch on L = (1/n) Σ_i H(softmax(z_i)), by scale and shift of the vision tower's layer norms; the answer is z from
/// before the step.
///
/// **So an answer depends on the batches before it**: the first is that of the classifier as it came. A long stream can collapse to few
/// classes, because one class for all pictures has the least entropy.
pub struct Tent {
    norms: TunedNorms,
    base: Base,
}

impl Tent {
    /// On the classes of a zero-shot classifier, before its first step.
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    pub fn new(clip: &Clip, zero_shot: &ZeroShotClassifier, config: TentConfig) -> Result<Self> {
        Self::over(Base::zero_shot(clip, zero_shot), config)
    }

    /// Over a tuned tower, its visual prompts and its head: the first batch is answered as it answers.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn over_tuned(clip: &Clip, tuned: &Tuned, config: TentConfig) -> Result<Self> {
        Self::over(Base::tuned(clip, tuned), config)
    }

    fn over(base: Base, config: TentConfig) -> Result<Self> {
        Ok(Self { norms: base.norms(config.learning_rate)?, base })
    }
}

impl Adapt for Tent {
    fn name(&self) -> &'static str {
        "tent"
    }

    fn remembers(&self) -> bool {
        true
    }

    fn answer(&mut self, pixels: &Tensor) -> Result<Tensor> {
        let logits = self.base.logits_with(&self.norms, pixels)?;
        self.norms.step(&entropy(&logits)?)?;
        Ok(logits.detach())
    }
}

/// The mean over rows of H(softmax(z)), differentiable: logits `[n, C]` → a scalar.
pub(super) fn entropy(logits: &Tensor) -> candle_core::Result<Tensor> {
    let log_p = candle_nn::ops::log_softmax(logits, D::Minus1)?;
    (log_p.exp()? * log_p)?.sum(D::Minus1)?.mean_all()?.neg()
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::entropy;

    #[test]
    fn the_entropy_and_its_gradient() {
        let z = Var::new(&[[0f32, 0.0], [2.0, 0.0]], &Device::Cpu).unwrap();
        let loss = entropy(&z).unwrap();
        let p = 1.0 / (1.0 + (-2f32).exp());
        let second = -(p * p.ln() + (1.0 - p) * (1.0 - p).ln());
        assert!((loss.to_scalar::<f32>().unwrap() - (2f32.ln() + second) / 2.0).abs() < 1e-6);
        // dH/dz_k = −p_k (log p_k + H), halved by the mean
        let gradient = loss.backward().unwrap().get(&z).unwrap().to_vec2::<f32>().unwrap();
        assert!(gradient[0][0].abs() < 1e-6 && (gradient[1][0] + 0.5 * p * (p.ln() + second)).abs() < 1e-6, "{gradient:?}");
    }
}
