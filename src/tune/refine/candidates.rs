//! Candidate classes: a picture that is not sure keeps a few classes instead of one (CPL, Zhang et al. 2024).

use std::collections::HashMap;

use candle_core::{DType, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::{PassFn, Refine};
use crate::tune::role::{Flow, What};
use crate::tune::{Pass, Setup, Stateful, Targets, Views, rows};

/// Of all weak views' posteriors p (CPL divides LaFTer's logits by [`temperature`](crate::tune::FinetuneConfig::temperature) 0.25):
///
/// - within a picture, classes from the most probable on, as long as the sum of those *before* it is at most τ, the α-quantile of
///   all pictures' greatest probabilities;
/// - across pictures, p_ic must reach the (1 − γ/C)-quantile of class c.
///
/// Both must hold. A picture without a class left is not trained on until the sets are made anew: before training and every few
/// epochs. The term `candidates` learns from them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Candidates {
    /// α, 0 to 1; default 0.6.
    pub alpha: f64,
    /// γ, above 0: the share of pictures that may have a class is γ/C, a larger γ than C counts as C; default 0.75.
    pub gamma: f64,
    /// Epochs after which the sets are made anew, at least 1; default 10.
    pub every: usize,
}

impl Default for Candidates {
    fn default() -> Self {
        Self { alpha: 0.6, gamma: 0.75, every: 10 }
    }
}

impl Flow for Candidates {
    fn gives(&self) -> &'static [What] {
        &[What::Candidates]
    }

    fn chooses(&self) -> bool {
        true
    }
}

impl Candidates {
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        match ((0.0..=1.0).contains(&self.alpha), self.gamma > 0.0 && self.gamma.is_finite(), self.every) {
            (false, ..) => Err(format!("candidates: alpha must lie in [0, 1], got {}", self.alpha)),
            (_, false, _) => Err(format!("candidates: gamma must be above 0 and finite, got {}", self.gamma)),
            (.., 0) => Err("candidates: every must be at least 1".into()),
            _ => Ok(()),
        }
    }

    pub(super) fn block(&self, setup: &Setup) -> Result<Box<dyn Refine>> {
        Ok(Box::new(Sets { settings: *self, classes: setup.head.classes(), known: None, notice: None }))
    }
}

/// Sets of candidate classes `[n, C]`, 1 for a class that belongs, of probabilities `[n, C]` in row order.
pub fn candidates(probabilities: &[f32], classes: usize, alpha: f64, gamma: f64) -> Vec<u8> {
    let rows = || probabilities.chunks_exact(classes.max(1));
    let within = quantile(rows().map(|row| row.iter().copied().fold(0.0, f32::max)).collect(), alpha);
    let column = |class: usize| quantile(rows().map(|row| row[class]).collect(), (1.0 - gamma / classes as f64).max(0.0));
    let across: Vec<f64> = (0..classes).map(column).collect();
    let mut sets = vec![0u8; probabilities.len()];
    for (row, set) in rows().zip(sets.chunks_exact_mut(classes.max(1))) {
        let mut order: Vec<usize> = (0..classes).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
        let mut before = 0.0;
        for class in order {
            if before > within {
                break;
            }
            set[class] = u8::from(f64::from(row[class]) >= across[class]);
            before += f64::from(row[class]);
        }
    }
    sets
}

/// The q-quantile of values, linear between two of them.
fn quantile(mut values: Vec<f32>, q: f64) -> f64 {
    let Some(last) = values.len().checked_sub(1) else { return 0.0 };
    values.sort_unstable_by(f32::total_cmp);
    let at = q.clamp(0.0, 1.0) * last as f64;
    let (low, high) = (f64::from(values[at as usize]), f64::from(values[(at as usize + 1).min(last)]));
    low + (high - low) * at.fract()
}

struct Sets {
    settings: Candidates,
    classes: usize,
    known: Option<Known>,
    notice: Option<String>,
}

struct Known {
    /// `[n, C]` u8.
    sets: Tensor,
    /// Pictures with at least one class, ascending.
    kept: Vec<u32>,
}

impl Known {
    fn new(sets: Tensor) -> Result<Self> {
        let any = sets.max(1)?.to_vec1::<u8>()?;
        Ok(Self { sets, kept: (0..).zip(any).filter(|(_, any)| *any > 0).map(|(index, _)| index).collect() })
    }
}

impl Sets {
    fn make(&mut self, images: usize, pass: &Pass) -> Result<()> {
        let Candidates { alpha, gamma, .. } = self.settings;
        let of_seen = candidates(&pass.probabilities.flatten_all()?.to_vec1::<f32>()?, self.classes, alpha, gamma);
        let mut sets = vec![0u8; images * self.classes];
        for (index, row) in pass.indices.iter().zip(of_seen.chunks_exact(self.classes)) {
            sets[*index as usize * self.classes..][..self.classes].copy_from_slice(row);
        }
        let members = sets.iter().map(|member| usize::from(*member)).sum::<usize>();
        let known = Known::new(Tensor::from_vec(sets, (images, self.classes), pass.features.device())?)?;
        let (kept, each) = (known.kept.len(), members as f64 / known.kept.len().max(1) as f64);
        self.notice = Some(format!("candidates: {kept} of {images} pictures have any, {each:.1} classes each"));
        self.known = Some(known);
        Ok(())
    }
}

impl Refine for Sets {
    fn refine(&mut self, views: &Views, targets: Targets) -> Result<Targets> {
        let Some(Known { sets, .. }) = &self.known else {
            candle_core::bail!("candidates come from all pictures: let a Run lead the tuner, or call prepare")
        };
        let sets = sets.index_select(&rows::indices(views, &targets.labels)?, 0)?.to_dtype(DType::F32)?;
        Ok(Targets { candidates: Some(sets), ..targets })
    }

    fn prepare(&mut self, images: usize, pass: &mut PassFn) -> crate::error::Result<()> {
        Ok(self.make(images, &pass()?)?)
    }

    fn after_epoch(&mut self, epoch: usize, pass: &mut PassFn) -> crate::error::Result<()> {
        match &self.known {
            Some(known) if (epoch + 1).is_multiple_of(self.settings.every) => Ok(self.make(known.sets.dim(0)?, &pass()?)?),
            _ => Ok(()),
        }
    }

    fn images(&self) -> Option<&[u32]> {
        self.known.as_ref().map(|known| &known.kept[..])
    }

    fn notices(&mut self) -> Vec<String> {
        self.notice.take().into_iter().collect()
    }
}

impl Stateful for Sets {
    fn kind(&self) -> &'static str {
        "candidates"
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.known.iter().map(|known| ("sets".to_string(), known.sets.clone())).collect()
    }

    fn restore(&mut self, saved: &HashMap<String, Tensor>) -> Result<()> {
        self.known = match saved.is_empty() {
            true => None,
            false => Some(Known::new(rows::saved(saved, "sets", &[0, self.classes])?)?),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of a reference in f64.
    #[test]
    fn sets_are_the_reference_s() {
        let p = [[0.5f32, 0.3, 0.15, 0.05], [0.9, 0.05, 0.03, 0.02], [0.3, 0.28, 0.22, 0.2], [0.1, 0.2, 0.6, 0.1]].concat();
        let sets = candidates(&p, 4, 0.6, 1.0);
        assert_eq!(sets, [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]].concat());
        assert!((quantile(vec![0.5, 0.9, 0.3, 0.6], 0.6) - 0.58).abs() < 1e-7);
        // with room for all, a sure picture still has one class and an unsure one several
        let sets = candidates(&p, 4, 0.5, 4.0);
        assert_eq!(sets, [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]].concat());
        assert_eq!(candidates(&[], 4, 0.5, 1.0), [0u8; 0]);
    }
}
