//! WATT-S: weights tuned on one batch for each of several templates, and averaged (Osowiechi, Noori et al., NeurIPS 2024).

use candle_core::{D, DType, Tensor};

use super::Adapt;
use super::norms::TunedNorms;
use crate::ZeroShotClassifier;
use crate::classify::normalize;
use crate::clip::Clip;
use crate::describe::Templates;
use crate::error::Result;
use crate::nn::argmax;
use crate::progress::check_interrupt;

/// The eight templates of the paper (table 1).
pub const TEMPLATES: [&str; 8] = [
    "a photo of a {}",
    "itap of a {}",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
];

/// Settings of [`Watt`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WattConfig {
    /// Rounds over the templates, each ended by the mean of their weights; default 5.
    pub rounds: usize,
    /// Steps for each template; default 2.
    pub steps: usize,
    /// Adam's learning rate; default 1e-3.
    pub learning_rate: f64,
}

impl Default for WattConfig {
    fn default() -> Self {
        Self { rounds: 5, steps: 2, learning_rate: 1e-3 }
    }
}

/// For each batch, from the untuned tower: rounds over the templates, steps of Adam on its loss for each, going on from the weights of the
/// template before; at the end of a round the mean of the templates' weights. The answer is zero-shot's with the mean of all
/// templates' texts. Only scale and shift of the vision tower's layer norms learn.
///
/// Nothing is remembered from batch to batch, but pictures of one batch depend on each other: a batch of one changes nothing, since
/// its loss is 0. The paper has batches of 128.
#[derive(Clone, Debug)]
pub struct Watt {
    clip: Clip,
    /// `[C, d]` of each template, rows of unit length.
    texts: Vec<Tensor>,
    answers: ZeroShotClassifier,
    config: WattConfig,
}

impl Watt {
    /// With the eight templates filled with these names.
    ///
    /// # Errors
    /// [`Error::Tokenizer`](crate::Error::Tokenizer) for a name that cannot be tokenized.
    pub fn fit(clip: &Clip, classes: &[impl AsRef<str>], config: WattConfig) -> Result<Self> {
        let (mut all, mut labels, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        for template in TEMPLATES {
            let one = Templates::new([template])?;
            let filled: Vec<String> = classes.iter().flat_map(|class| one.fill(class.as_ref())).collect();
            let features = clip.encode_text(&filled)?.to_dtype(DType::F32)?;
            labels.extend(0..classes.len());
            texts.push(normalize(&features)?);
            all.push(features);
        }
        let answers = ZeroShotClassifier::from_features(&Tensor::cat(&all, 0)?, &labels, clip.logit_scale())?;
        Ok(Self { clip: clip.clone(), texts, answers, config })
    }
}

impl Adapt for Watt {
    fn name(&self) -> &'static str {
        "watt"
    }

    fn answer(&mut self, pixels: &Tensor) -> Result<Tensor> {
        let pixels = pixels.to_device(self.clip.device())?.to_dtype(self.clip.dtype())?;
        let scale = self.answers.scale;
        let mut norms = TunedNorms::new(self.clip.vision(), self.config.learning_rate)?;
        for _ in 0..self.config.rounds {
            let mut snapshots = Vec::with_capacity(self.texts.len());
            for texts in &self.texts {
                for _ in 0..self.config.steps {
                    check_interrupt("adapting")?;
                    let x = norms.features(&pixels)?;
                    let own = texts.index_select(&argmax(&x.detach().matmul(&texts.t()?)?)?, 0)?; // [n, d]
                    norms.step(&loss(&x, &own, scale)?)?;
                }
                snapshots.push(norms.snapshot()?);
            }
            norms.set_mean(&snapshots)?;
        }
        Ok(self.answers.logits(&norms.features(&pixels)?.detach())?)
    }
}

/// What WATT and CLIPArTT minimize: pictures and their own texts should be as near each other as both are among themselves.
///
/// Q = softmax over rows of (X Xᵀ + U Uᵀ)/(2 · 0.01), L = −(1/n) Σ_ij Q_ji log softmax_j(scale · x_i·u_j). As in the released code the
/// gradient goes through Q, too.
///
/// # Shapes
/// unit features X `[n, d]` of pictures and U `[n, d]`, the text of each one's pseudo-label → a scalar.
///
/// # Errors
/// If the shapes differ (Candle's).
pub fn loss(x: &Tensor, own: &Tensor, scale: f64) -> candle_core::Result<Tensor> {
    let alike = ((x.matmul(&x.t()?)? + own.matmul(&own.t()?)?)? / 0.02)?;
    let q = candle_nn::ops::softmax(&alike, D::Minus1)?; // [n, n]
    let log_p = candle_nn::ops::log_softmax(&(x.matmul(&own.t()?)? * scale)?, D::Minus1)?;
    (q.t()? * log_p)?.sum(D::Minus1)?.mean_all()?.neg()
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn unit(rows: &[[f32; 2]]) -> Tensor {
        normalize(&Tensor::from_slice(rows.as_flattened(), (rows.len(), 2), &Device::Cpu).unwrap()).unwrap()
    }

    /// The formula entry by entry, in f64.
    #[test]
    fn the_loss_is_the_formula_s() {
        let (x, u) = ([[1.0, 0.0], [0.6, 0.8], [0.98, 0.2]], [[0.9, 0.1], [0.2, 1.0], [0.9, 0.1]]);
        let (a, b) = (unit(&x), unit(&u));
        let (rows, texts) = (a.to_vec2::<f32>().unwrap(), b.to_vec2::<f32>().unwrap());
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let softmax = |row: Vec<f64>| {
            let total: f64 = row.iter().map(|v| v.exp()).sum();
            row.into_iter().map(|v| v.exp() / total).collect::<Vec<_>>()
        };
        let q: Vec<Vec<f64>> =
            (0..3).map(|i| softmax((0..3).map(|j| (dot(&rows[i], &rows[j]) + dot(&texts[i], &texts[j])) / 0.02).collect())).collect();
        let p: Vec<Vec<f64>> = (0..3).map(|i| softmax((0..3).map(|j| 10.0 * dot(&rows[i], &texts[j])).collect())).collect();
        let expected = -(0..9).map(|at| q[at % 3][at / 3] * p[at / 3][at % 3].ln()).sum::<f64>() / 3.0;
        let found = f64::from(loss(&a, &b, 10.0).unwrap().to_scalar::<f32>().unwrap());
        assert!((found - expected).abs() < 1e-4, "{found} {expected}");
    }

    #[test]
    fn one_picture_has_no_loss_and_no_gradient() {
        let x = Var::from_tensor(&unit(&[[0.3, 0.7]])).unwrap();
        let loss = loss(&x, &unit(&[[1.0, 0.2]]), 100.0).unwrap();
        assert_eq!(loss.to_scalar::<f32>().unwrap(), 0.0);
        let gradient = loss.backward().unwrap().get(&x).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(gradient, [0.0, 0.0]);
    }
}
