//! Fairness: a batch should name all classes about equally often (MUST, Li et al. 2022, eq. 5; DPA, Ali et al. 2025).

use std::collections::HashMap;

use candle_core::{D, Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::Term;
use crate::tune::role::Flow;
use crate::tune::{Setup, Stateful, Targets, Tuned, Views};

/// L = −(1/C) Σ_c log p̄_c, p̄ = mean_i softmax(z_i) over all pictures of the batch, whatever their weights; at least log C.
///
/// It takes the classes to be about equally frequent, and a batch that is much larger than their number: with few pictures
/// p̄ is noise. `averaged` is the form for many classes: p̃ ← ½ (p̃ + p̄) with no gradient through the old p̃, p̃ = p̄ at the
/// first step of each epoch, L = −(1/C) Σ_c log p̃_c / ½.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fairness {
    /// Whether p̄ is averaged over steps; default false.
    pub averaged: bool,
}

impl Flow for Fairness {}

impl Fairness {
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        Ok(())
    }

    pub(super) fn block(&self, setup: &Setup) -> Result<Box<dyn Term>> {
        Ok(Box::new(FairnessTerm { averaged: self.averaged, classes: setup.head.classes(), mean: None }))
    }
}

struct FairnessTerm {
    averaged: bool,
    classes: usize,
    /// log p̃ `[C]` after the last step, and that step's epoch.
    mean: Option<(Tensor, usize)>,
}

impl Term for FairnessTerm {
    fn loss(&mut self, views: &Views, _: &Tuned, logits: &Tensor, _: &Targets) -> Result<Tensor> {
        let log_p = candle_nn::ops::log_softmax(logits, D::Minus1)?; // [b, C]
        let now = log_mean(&log_p)?; // [C]
        if !self.averaged {
            return now.mean_all()?.neg();
        }
        let mean = match &self.mean {
            Some((before, epoch)) if *epoch == views.epoch => log_mean(&Tensor::stack(&[before, &now], 0)?)?,
            _ => now,
        };
        self.mean = Some((mean.detach(), views.epoch));
        mean.mean_all()? * -2.0
    }
}

/// The logarithm of the mean over rows whose logarithms are given: `[n, C]` → `[C]`, logsumexp − log n.
fn log_mean(logs: &Tensor) -> Result<Tensor> {
    let largest = logs.detach().max_keepdim(0)?; // [1, C]
    let sum = logs.broadcast_sub(&largest)?.exp()?.sum(0)?; // [C]
    (sum.log()? + largest.squeeze(0)?)? - (logs.dim(0)? as f64).ln()
}

impl Stateful for FairnessTerm {
    fn kind(&self) -> &'static str {
        "fairness"
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let Some((mean, epoch)) = &self.mean else { return Vec::new() };
        let epoch = Tensor::from_iter([*epoch as u32], &Device::Cpu);
        [Some(("mean".into(), mean.clone())), epoch.ok().map(|epoch| ("epoch".into(), epoch))].into_iter().flatten().collect()
    }

    fn restore(&mut self, saved: &HashMap<String, Tensor>) -> Result<()> {
        self.mean = match (saved.get("mean"), saved.get("epoch")) {
            (Some(mean), Some(epoch)) if mean.dims() == [self.classes] && epoch.elem_count() == 1 => {
                Some((mean.clone(), epoch.to_vec1::<u32>()?[0] as usize))
            }
            (None, None) => None,
            _ => candle_core::bail!("expected a mean of {} classes and its epoch", self.classes),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;

    fn close(ours: &[f32], expected: &[f32]) {
        assert!(ours.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-6), "{ours:?}, expected {expected:?}");
    }

    fn term(averaged: bool) -> FairnessTerm {
        FairnessTerm { averaged, classes: 3, mean: None }
    }

    /// Numbers of a reference in f64.
    #[test]
    fn values_and_gradients_are_the_reference_s() {
        let (clip, z) = (crate::Clip::demo().unwrap(), Var::new(&[[2f32, 0., 0.], [0., 1., 0.]], &Device::Cpu).unwrap());
        let head = crate::classify::Head::new(Vec::new());
        let student = Tuned { vision: clip.vision().clone(), prompts: crate::tune::VisualPrompts::none(), head, normalize: false };
        let mut views = Views::new(z.as_tensor().clone(), z.as_tensor().clone());
        let targets = Targets::new(z.as_tensor().clone(), z.as_tensor().clone()).unwrap();
        let mut of = |term: &mut FairnessTerm, z: &Tensor, epoch| {
            views.epoch = epoch;
            term.loss(&views, &student, z, &targets).unwrap()
        };
        let loss = of(&mut term(false), &z, 0);
        close(&[loss.to_scalar().unwrap()], &[1.202207]);
        let gradient = loss.backward().unwrap().get(&z).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        close(&gradient, &[0.072728, -0.006626, -0.066102, 0.050909, 0.049306, -0.100216]);

        let doubled = Tensor::new(&[[0f32, 2., 0.], [4., 0., 0.]], &Device::Cpu).unwrap();
        let mut averaged = term(true);
        close(&[of(&mut averaged, &z, 0).to_scalar().unwrap()], &[2.404413]);
        let mut resumed = term(true);
        let saved = averaged.state().into_iter().collect();
        resumed.restore(&saved).unwrap();
        for term in [&mut averaged, &mut resumed] {
            close(&[of(term, &doubled, 0).to_scalar().unwrap()], &[2.566249]);
            close(&[of(term, &z, 1).to_scalar().unwrap()], &[2.404413]); // a new epoch begins anew
        }
        assert!(term(true).restore(&HashMap::from([("mean".into(), doubled)])).is_err());
    }

    #[test]
    fn the_least_value_is_that_of_equal_classes_and_nothing_overflows() {
        let equal = Tensor::zeros((4, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let of = |z: &Tensor| log_mean(&candle_nn::ops::log_softmax(z, D::Minus1).unwrap()).unwrap().mean_all().unwrap().neg().unwrap();
        close(&[of(&equal).to_scalar().unwrap()], &[3f32.ln()]);
        let far = Tensor::new(&[[900f32, 0., 0.], [900., 0., 0.]], &Device::Cpu).unwrap();
        close(&[of(&far).to_scalar::<f32>().unwrap() / 600.0], &[1.0]); // a plain mean of probabilities would be 0
    }
}
