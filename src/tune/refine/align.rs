//! Running distribution alignment: classes that are named too often are named less (DPA, Ali et al. 2025; ReMixMatch, Berthelot
//! et al. 2020).

use std::collections::{HashMap, VecDeque};

use candle_core::{D, DType, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::Refine;
use crate::tune::role::{Flow, What};
use crate::tune::rows;
use crate::tune::{Setup, Stateful, Targets, Views};

/// Neither a window's mean nor an average is taken to be smaller.
const LEAST: f64 = 1e-6;

/// q_ic ∝ p_ic t_c / m_c, with rows that sum to 1; m is the mean answer of the last steps, the present one among them.
///
/// m is the mean over a window of batches, or, with a `momentum` μ, an average m ← μ m + (1 − μ) p̄ (the first p̄ as it is; then
/// q ∝ p (t + 1e-6) / (m + 1e-6)). It runs on through the epochs. t is the wanted frequency of the classes; without one, all are
/// taken to be equally frequent, which is a claim about your pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Align {
    /// Batches in the window, at least 1; default 32.
    pub window: usize,
    /// μ, 0 to 1, for the average in the window's place; default none.
    pub momentum: Option<f64>,
    /// t, a frequency per class, each above 0 and at least 1e-37 of their sum; default all alike.
    pub target: Option<Vec<f64>>,
    /// Steps before answers are changed; default 0.
    pub start_after: usize,
}

impl Default for Align {
    fn default() -> Self {
        Self { window: 32, momentum: None, target: None, start_after: 0 }
    }
}

impl Flow for Align {
    fn needs(&self) -> &'static [What] {
        &[What::Answers]
    }

    fn gives(&self) -> &'static [What] {
        &[What::Answers, What::Labels]
    }
}

impl Align {
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        let positive = |target: &Vec<f64>| {
            let sum: f64 = target.iter().sum();
            target.iter().all(|t| *t > 0.0 && ((t / sum) as f32).is_normal()) // what f32 holds of each
        };
        if self.window == 0 || self.window > 10_000 {
            return Err(format!("align: window must lie in [1, 10000], got {}", self.window));
        }
        if let Some(momentum) = self.momentum.filter(|momentum| !(0.0..=1.0).contains(momentum)) {
            return Err(format!("align: momentum must lie in [0, 1], got {momentum}"));
        }
        match self.target.as_ref().is_none_or(positive) {
            true => Ok(()),
            false => Err("align: each frequency in target must be above 0, finite, and at least 1e-37 of their sum".into()),
        }
    }

    pub(super) fn block(&self, setup: &Setup) -> Result<Box<dyn Refine>> {
        let classes = setup.head.classes();
        let target = self.target.clone().unwrap_or_else(|| vec![1.0; classes]);
        if target.len() != classes {
            candle_core::bail!("align: target has {} frequencies for {classes} classes", target.len());
        }
        let sum: f64 = target.iter().sum();
        let target: Vec<f32> = target.into_iter().map(|t| (t / sum) as f32).collect();
        let target = Tensor::new(target, setup.clip.device())?;
        Ok(Box::new(Aligned { settings: self.clone(), target, means: VecDeque::new() }))
    }
}

/// Rows ∝ p_ic t_c / m_c, which sum to 1: p `[b, C]`, t and m `[C]`.
fn align(p: &Tensor, target: &Tensor, mean: &Tensor) -> Result<Tensor> {
    let q = p.broadcast_mul(&(target / mean)?)?;
    q.broadcast_div(&q.sum_keepdim(D::Minus1)?)
}

struct Aligned {
    settings: Align,
    /// t `[C]`, sum 1.
    target: Tensor,
    /// Mean answers `[C]`, the oldest first: of the window, or the average alone.
    means: VecDeque<Tensor>,
}

impl Aligned {
    /// Takes the mean answer of a batch up, and gives t and m.
    fn follow(&mut self, now: Tensor) -> Result<(Tensor, Tensor)> {
        let Some(momentum) = self.settings.momentum else {
            self.means.push_back(now);
            if self.means.len() > self.settings.window {
                self.means.pop_front();
            }
            let mean = Tensor::stack(self.means.make_contiguous(), 0)?.mean(0)?.maximum(LEAST)?;
            return Ok((self.target.clone(), mean));
        };
        let mean = match self.means.pop_front() {
            Some(before) => ((before * momentum)? + (now * (1.0 - momentum))?)?,
            None => now,
        };
        self.means.push_back(mean.clone());
        Ok(((&self.target + LEAST)?, (mean + LEAST)?))
    }
}

impl Refine for Aligned {
    fn refine(&mut self, views: &Views, targets: Targets) -> Result<Targets> {
        let (target, mean) = self.follow(targets.probabilities.mean(0)?)?;
        if views.step < self.settings.start_after {
            return Ok(targets);
        }
        let aligned = align(&targets.probabilities, &target, &mean)?;
        targets.with_probabilities(aligned)
    }
}

impl Stateful for Aligned {
    fn kind(&self) -> &'static str {
        "align"
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let means: Vec<&Tensor> = self.means.iter().collect();
        if means.is_empty() {
            return Vec::new();
        }
        Tensor::stack(&means, 0).map(|means| ("means".to_string(), means)).into_iter().collect()
    }

    fn restore(&mut self, saved: &HashMap<String, Tensor>) -> Result<()> {
        if saved.is_empty() {
            self.means.clear();
            return Ok(());
        }
        let means = rows::saved(saved, "means", &[0, self.target.dim(0)?])?.to_dtype(DType::F32)?;
        let most = if self.settings.momentum.is_some() { 1 } else { self.settings.window };
        if !(1..=most).contains(&means.dim(0)?) {
            candle_core::bail!("means of {} batches, expected 1 to {most}", means.dim(0)?);
        }
        self.means = (0..means.dim(0)?).map(|i| means.get(i)?.copy()).collect::<Result<_>>()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::tune::refine::tests::{batch, close};

    fn rule(settings: Align, target: &[f32]) -> Aligned {
        Aligned { settings, target: Tensor::new(target, &Device::Cpu).unwrap(), means: VecDeque::new() }
    }

    /// Numbers of a reference in f64; a rule that was saved and restored goes on the same.
    #[test]
    fn answers_are_the_reference_s() {
        let (views, first) = batch(&[[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.5, 0.1, 0.4]]);
        let (_, second) = batch(&[[0.1, 0.1, 0.8]]);
        let mut window = rule(Align::default(), &[1.0 / 3.0; 3]);
        let refined = window.refine(&views, first.clone()).unwrap();
        close(&refined.probabilities, &[0.4375, 0.375, 0.1875, 0.333333, 0.5, 0.166667, 0.25, 0.15, 0.6]);
        assert_eq!(refined.labels.to_vec1::<u32>().unwrap(), [0, 1, 2]);
        close(&refined.sources[0], &[0.7, 0.2, 0.1, 0.6, 0.3, 0.1, 0.5, 0.1, 0.4]); // as the teacher gave it
        let mut resumed = rule(Align::default(), &[1.0 / 3.0; 3]);
        resumed.restore(&window.state().into_iter().collect()).unwrap();
        for rule in [&mut window, &mut resumed] {
            close(&rule.refine(&views, second.clone()).unwrap().probabilities, &[0.111940, 0.261194, 0.626866]);
        }
    }

    #[test]
    fn a_target_is_what_f32_holds() {
        let checked = |target: &[f64]| Align { target: Some(target.to_vec()), ..Align::default() }.check().is_ok();
        assert!(checked(&[1.0, 2.0, 1e-30]) && checked(&[1e300, 1e299]));
        for target in [[1.0, 0.0], [1.0, 1e-45], [1e308, 1e308], [1.0, f64::NAN]] {
            assert!(!checked(&target), "{target:?}");
        }
    }

    #[test]
    fn the_window_ends_and_a_prior_and_a_start_are_kept_to() {
        let (mut views, first) = batch(&[[0.7, 0.2, 0.1], [0.5, 0.2, 0.3]]);
        let (_, second) = batch(&[[0.1, 0.1, 0.8]]);
        let mut short = rule(Align { window: 1, ..Align::default() }, &[1.0 / 3.0; 3]);
        short.refine(&views, first.clone()).unwrap();
        close(&short.refine(&views, second.clone()).unwrap().probabilities, &[1.0 / 3.0; 3]); // the first batch is forgotten
        // a batch whose mean is the prior stays as it is
        let mut prior = rule(Align::default(), &[0.1, 0.1, 0.8]);
        close(&prior.refine(&views, second.clone()).unwrap().probabilities, &[0.1, 0.1, 0.8]);
        // m = .9 (.6, .2, .2) + .1 (.1, .1, .8)
        let mut average = rule(Align { momentum: Some(0.9), start_after: 1, ..Align::default() }, &[1.0 / 3.0; 3]);
        close(&average.refine(&views, first).unwrap().probabilities, &[0.7, 0.2, 0.1, 0.5, 0.2, 0.3]);
        views.step = 1;
        let q = [0.1f32 / 0.55, 0.1 / 0.19, 0.8 / 0.26];
        let refined = average.refine(&views, second).unwrap().probabilities;
        let sum: f32 = q.iter().sum();
        assert!(refined.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().zip(q).all(|(a, q)| (a - q / sum).abs() < 1e-5));
        assert!(average.restore(&HashMap::from([("means".into(), Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap())])).is_err());
    }
}
