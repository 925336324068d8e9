//! Entropy and diversity: each answer should be sure, all together should name every class (SHOT, Liang et al. 2020; POUF, Tanwisuth
//! et al. 2023; UEO, Liang et al. 2024).

use candle_core::{D, Result, Tensor};
use candle_nn::ops::softmax;
use serde::{Deserialize, Serialize};

use super::Term;
use crate::tune::config::LARGEST;
use crate::tune::role::Flow;
use crate::tune::{Setup, Stateful, Targets, Tuned, Views};

/// L = mean_i H(p_i) − λ H(p̄), p = softmax(z): SHOT's information maximization, which needs no pseudo-label.
///
/// With `weighted`, UEO: Σ_i w_i H(p_i) / Σ_i w_i − λ H(p̃), p̃ = Σ_i (p_i / w_i) / Σ_i (1 / w_i), where w_i is the teacher's own
/// confidence (UEO's is the untuned CLIP): what it does not know counts less as an answer and more as a class.
///
/// H(p̄) takes the classes to be about equally frequent, and a batch that is much larger than their number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Information {
    /// λ, at least 0; default 1.
    pub diversity: f64,
    /// Whether pictures are weighed by the teacher's confidence; default false.
    pub weighted: bool,
}

impl Default for Information {
    fn default() -> Self {
        Self { diversity: 1.0, weighted: false }
    }
}

impl Flow for Information {
    fn signed(&self) -> bool {
        true
    }
}

impl Information {
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        match (0.0..=LARGEST).contains(&self.diversity) {
            true => Ok(()),
            false => Err(format!("information: diversity must lie in [0, 1e6], got {}", self.diversity)),
        }
    }

    pub(super) fn block(&self, _: &Setup) -> Result<Box<dyn Term>> {
        Ok(Box::new(*self))
    }
}

/// H(p) = −Σ_c p_c log(p_c + 1e-5) over the last dimension.
fn entropy(p: &Tensor) -> Result<Tensor> {
    (p * (p + 1e-5)?.log()?)?.sum(D::Minus1)?.neg()
}

/// Logits `[b, C]` and weights `[b]`, each above 0 → scalar.
fn information(logits: &Tensor, weights: Option<&Tensor>, diversity: f64) -> Result<Tensor> {
    let p = softmax(logits, D::Minus1)?; // [b, C]
    let (sure, mean) = match weights {
        None => (entropy(&p)?.mean_all()?, p.mean(0)?),
        Some(weights) => {
            let inverse = weights.recip()?;
            let sure = ((entropy(&p)? * weights)?.sum_all()? / weights.sum_all()?)?;
            (sure, p.broadcast_mul(&inverse.unsqueeze(1)?)?.sum(0)?.broadcast_div(&inverse.sum_all()?)?)
        }
    };
    sure - (entropy(&mean)? * diversity)?
}

impl Term for Information {
    fn loss(&mut self, _: &Views, _: &Tuned, logits: &Tensor, targets: &Targets) -> Result<Tensor> {
        let weights = match (self.weighted, targets.sources.first()) {
            (true, Some(teacher)) => Some(teacher.max(D::Minus1)?),
            _ => None,
        };
        information(logits, weights.as_ref(), self.diversity)
    }
}

impl Stateful for Information {
    fn kind(&self) -> &'static str {
        "information"
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    /// Numbers of a reference in f64.
    #[test]
    fn values_are_the_reference_s() {
        let z = Var::new(&[[2f32, 0., 0.], [0., 1., 0.]], &Device::Cpu).unwrap();
        let weights = |w: [f32; 2]| Tensor::new(&w, &Device::Cpu).unwrap();
        for (weights, expected) in [(None, -0.185749f32), (Some(weights([0.9, 0.5])), -0.258712), (Some(weights([0.3, 0.3])), -0.185749)] {
            let loss = information(&z, weights.as_ref(), 1.0).unwrap();
            assert!((loss.to_scalar::<f32>().unwrap() - expected).abs() < 2e-6, "{loss}");
            assert!(loss.backward().unwrap().get(&z).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() > 0.01);
        }
    }
}
