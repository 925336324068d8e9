//! The loss on candidate classes: one of them is right, whichever (CPL, Zhang et al. 2024).

use candle_core::{D, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::Term;
use crate::tune::role::{Flow, What};
use crate::tune::{Setup, Stateful, Targets, Tuned, Views};

/// L_i = −log Σ_{c∈S_i} p_c(z_i), the mean of w_i L_i over the batch, not smoothed; a picture without candidates counts 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CandidateClasses {}

impl Flow for CandidateClasses {
    fn needs(&self) -> &'static [What] {
        &[What::Candidates, What::Weights]
    }
}

impl CandidateClasses {
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        Ok(())
    }

    pub(super) fn block(&self, _: &Setup) -> Result<Box<dyn Term>> {
        Ok(Box::new(*self))
    }
}

/// Added to the logarithm of what is not a candidate: its exponential is 0.
const NEVER: f64 = -1e4;

/// Logits `[b, C]`, sets `[b, C]` of 0 and 1 → losses `[b]`: logsumexp over all less logsumexp over the set.
fn rows(logits: &Tensor, sets: &Tensor) -> Result<Tensor> {
    let log_p = candle_nn::ops::log_softmax(logits, D::Minus1)?; // [b, C]
    let members = (log_p + ((1.0 - sets)? * NEVER)?)?;
    let largest = members.detach().max_keepdim(D::Minus1)?; // [b, 1]
    let sum = members.broadcast_sub(&largest)?.exp()?.sum(D::Minus1)?; // [b]
    (sum.log()? + largest.squeeze(1)?)?.neg()? * sets.max(D::Minus1)?
}

impl Term for CandidateClasses {
    fn by_picture(&self) -> bool {
        true
    }

    fn loss(&mut self, _: &Views, _: &Tuned, logits: &Tensor, targets: &Targets) -> Result<Tensor> {
        let Some(sets) = &targets.candidates else {
            candle_core::bail!("there are no candidate classes: put the rule that makes them into refine")
        };
        let losses = rows(logits, sets)?;
        match &targets.weights {
            None => losses.mean_all(),
            Some(weights) => (losses * weights)?.mean_all(),
        }
    }
}

impl Stateful for CandidateClasses {
    fn kind(&self) -> &'static str {
        "candidates"
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    /// Numbers of a reference in f64.
    #[test]
    fn losses_are_the_reference_s() {
        let p = Tensor::new(&[[0.5f32, 0.3, 0.15, 0.05], [0.9, 0.05, 0.03, 0.02], [0.1, 0.2, 0.6, 0.1]], &Device::Cpu).unwrap();
        let sets = Tensor::new(&[[0f32, 1., 0., 0.], [1., 0., 0., 0.], [0., 0., 1., 0.]], &Device::Cpu).unwrap();
        let z = Var::from_tensor(&p.log().unwrap()).unwrap();
        let loss = rows(&z, &sets).unwrap().mean_all().unwrap();
        assert!((loss.to_scalar::<f32>().unwrap() - 0.606720).abs() < 2e-6, "{loss}");
        // −(p_c [c ∈ S]/Σ_S p − p_c), a third for each picture
        let gradient = loss.backward().unwrap().get(&z).unwrap().get(0).unwrap().to_vec1::<f32>().unwrap();
        assert!(gradient.iter().zip([0.5, -0.7, 0.15, 0.05]).all(|(g, e)| (g * 3.0 - e).abs() < 2e-6), "{gradient:?}");
        // several classes, and none
        let sets = Tensor::new(&[[1f32, 1., 0., 0.], [0., 0., 0., 0.], [1., 1., 1., 1.]], &Device::Cpu).unwrap();
        let losses = rows(&z, &sets).unwrap().to_vec1::<f32>().unwrap();
        assert!(losses.iter().zip([-(0.8f32.ln()), 0.0, 0.0]).all(|(l, e)| (l - e).abs() < 2e-6), "{losses:?}");
    }
}
