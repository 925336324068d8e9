//! Relative confidence: a pseudo-label counts as far as each source agrees with it (DPA, Ali et al. 2025).

use candle_core::{D, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::Refine;
use crate::tune::role::{Flow, What};
use crate::tune::{Setup, Stateful, Targets, Views};

/// w_i = Π_s p_s\[i, ŷ_i\] / (max_c p_s\[i, c\] + 1e-7) over the sources s: the teacher's posterior as it gave it, and that of the
/// prototypes; ŷ is the pseudo-label so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relative {}

impl Flow for Relative {
    fn needs(&self) -> &'static [What] {
        &[What::SecondSource, What::Labels, What::Weights]
    }

    fn gives(&self) -> &'static [What] {
        &[What::Weights]
    }
}

impl Relative {
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        Ok(())
    }

    pub(super) fn block(&self, _: &Setup) -> Result<Box<dyn Refine>> {
        Ok(Box::new(*self))
    }
}

/// Posteriors `[b, C]`, labels `[b]` → weights `[b]`.
///
/// # Errors
/// If there is no source, or not one label a row (Candle's).
pub fn relative(sources: &[Tensor], labels: &Tensor) -> Result<Tensor> {
    let labels = labels.unsqueeze(1)?; // [b, 1]
    let of = |p: &Tensor| p.gather(&labels, 1)?.squeeze(1)? / (p.max(D::Minus1)? + 1e-7)?; // [b]
    let mut weights = sources.iter().map(of);
    let first = weights.next().ok_or_else(|| candle_core::Error::msg("relative weights need a source of answers"))??;
    weights.try_fold(first, |product, weights| product * weights?)
}

impl Refine for Relative {
    fn refine(&mut self, _: &Views, targets: Targets) -> Result<Targets> {
        let weights = relative(&targets.sources, &targets.labels)?;
        targets.weighted(&weights)
    }
}

impl Stateful for Relative {
    fn kind(&self) -> &'static str {
        "relative"
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use candle_nn::ops::softmax;

    use super::*;
    use crate::classify::normalize;
    use crate::tune::refine::prototypes;
    use crate::tune::refine::tests::{batch, close};

    /// Numbers of a reference in f64.
    #[test]
    fn weights_are_the_reference_s() {
        let (_, text) = batch(&[[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.5, 0.1, 0.4]]);
        let (_, own) = batch(&[[0.2, 0.6, 0.2], [0.8, 0.1, 0.1], [0.3, 0.3, 0.4]]);
        let labels = Tensor::new(&[1u32, 0, 2], &Device::Cpu).unwrap();
        let weights = relative(&[text.probabilities.clone(), own.probabilities], &labels).unwrap();
        close(&weights, &[0.285714, 1.0, 0.8]);
        let rows = crate::classify::smoothed_cross_entropy_rows(&text.probabilities.log().unwrap(), &labels, 0.0).unwrap();
        close(&(rows * weights).unwrap().mean_all().unwrap(), &[0.567899]);
    }

    /// DPA's pseudo-labels and weights on four pictures, alignment, prototypes and weights after one another; a reference in f64.
    #[test]
    fn the_rules_of_dpa_in_a_row_are_the_reference_s() {
        let points = Tensor::new(&[[0.9f32, 0.3, 0.1], [0.7, 0.6, 0.1], [0.2, 0.9, 0.2], [0.8, 0.1, 0.3]], &Device::Cpu).unwrap();
        let features = normalize(&points).unwrap();
        let (labels, text) = (Tensor::new(&[0u32, 1, 1, 0], &Device::Cpu).unwrap(), Tensor::eye(3, DType::F32, &Device::Cpu).unwrap());
        let (made, _) = prototypes(&features, &labels, &text).unwrap();
        let of = |rows: &Tensor| softmax(&(features.matmul(&rows.t().unwrap()).unwrap() * 5.0).unwrap(), 1).unwrap();
        let (by_text, by_prototypes) = (of(&text), of(&made));
        let mean = by_text.mean(0).unwrap();
        let q = by_text.broadcast_div(&mean).unwrap();
        let q = q.broadcast_div(&q.sum_keepdim(1).unwrap()).unwrap();
        let mixed = ((&by_prototypes * 0.5).unwrap() + (q * 0.5).unwrap()).unwrap();
        let labels = mixed.argmax(1).unwrap();
        assert_eq!(labels.to_vec1::<u32>().unwrap(), [0, 1, 1, 0]);
        close(&relative(&[by_text, by_prototypes], &labels).unwrap(), &[1.0, 0.583236, 1.0, 1.0]);
    }
}
