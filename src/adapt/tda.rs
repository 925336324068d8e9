//! TDA: a cache of the surest features of each class, and one of classes that a picture is not (Karmanov et al., CVPR 2024).

use candle_core::{Device, Tensor};

use super::Adapt;
use super::base::Base;
use crate::ZeroShotClassifier;
use crate::classify::normalize;
use crate::clip::Clip;
use crate::error::Result;
use crate::eval::argmax_rows;
use crate::tune::Tuned;

/// Settings of [`Tda`]; the defaults are those of the released code (github.com/kdiAAA/TDA) for all data sets but ImageNet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TdaConfig {
    /// Features kept a class; default 3.
    pub positive: usize,
    /// Features kept a class of pictures that are neither sure nor unsure; default 2.
    pub negative: usize,
    /// α and β of the positive cache; default 2, 5.
    pub toward: (f32, f32),
    /// α and β of the negative cache; default 0.117, 1.
    pub away: (f32, f32),
    /// Entropies, in nats over log₂ C as the released code has it, between which a picture enters the negative cache; default 0.2, 0.5.
    pub unsure: (f32, f32),
    /// A picture of the negative cache speaks against the classes that it gives a probability above this; default 0.03.
    pub least: f32,
}

impl Default for TdaConfig {
    fn default() -> Self {
        Self { positive: 3, negative: 2, toward: (2.0, 5.0), away: (0.117, 1.0), unsure: (0.2, 0.5), least: 0.03 }
    }
}

/// A picture in a cache.
#[derive(Clone, Debug)]
struct Kept {
    entropy: f32,
    feature: Vec<f32>,
    probabilities: Vec<f32>,
}

/// logits = scale · x Wᵀ + α Σ_k e^{−β(1 − x·x_k)} \[k's class\] − α' Σ_k e^{−β'(1 − x·x_k)} \[k's probabilities > 0.03\].
///
/// Pictures are taken one by one in their order: each enters a cache of the class that zero-shot names, if it is surer than the
/// least sure there, and is answered from what the caches then hold. **So an answer depends on the pictures before it**, and on nothing
/// that follows.
#[derive(Clone, Debug)]
pub struct Tda {
    base: Base,
    config: TdaConfig,
    positive: Vec<Vec<Kept>>,
    negative: Vec<Vec<Kept>>,
}

impl Tda {
    /// With empty caches, on the classes of a zero-shot classifier.
    pub fn new(clip: &Clip, zero_shot: &ZeroShotClassifier, config: TdaConfig) -> Self {
        Self::over(Base::zero_shot(clip, zero_shot), config)
    }

    /// With empty caches, over a tuned tower, its visual prompts and its head. α is made for logits of 100 times a cosine: next to those of a
    /// plain head, which are flatter, the caches count more.
    pub fn over_tuned(clip: &Clip, tuned: &Tuned, config: TdaConfig) -> Self {
        Self::over(Base::tuned(clip, tuned), config)
    }

    fn over(base: Base, config: TdaConfig) -> Self {
        let caches = vec![Vec::new(); base.classes()];
        Self { base, config, positive: caches.clone(), negative: caches }
    }

    /// How many features both caches hold.
    pub fn kept(&self) -> (usize, usize) {
        let count = |caches: &[Vec<Kept>]| caches.iter().map(Vec::len).sum();
        (count(&self.positive), count(&self.negative))
    }

    /// What one picture is answered: its unit feature and the text logits, to which the caches' are added.
    fn one(&mut self, feature: &[f32], logits: &mut [f32]) {
        let classes = logits.len();
        let probabilities = softmax(logits);
        let entropy = -probabilities.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f32>();
        let class = argmax_rows(logits, classes).first().copied().unwrap_or(0);
        let kept = Kept { entropy, feature: feature.to_vec(), probabilities };
        let relative = entropy / (classes as f32).log2();
        if self.config.unsure.0 < relative && relative < self.config.unsure.1 {
            keep(&mut self.negative[class], kept.clone(), self.config.negative);
        }
        keep(&mut self.positive[class], kept, self.config.positive);
        let weight = |kept: &Kept, (alpha, beta): (f32, f32)| {
            let cosine: f32 = kept.feature.iter().zip(feature).map(|(a, b)| a * b).sum();
            alpha * (-beta * (1.0 - cosine)).exp()
        };
        for (class, cache) in self.positive.iter().enumerate() {
            cache.iter().for_each(|kept| logits[class] += weight(kept, self.config.toward));
        }
        for kept in self.negative.iter().flatten() {
            let weight = weight(kept, self.config.away);
            // certainty speaks against nothing: p < 1
            let against = logits.iter_mut().zip(&kept.probabilities).filter(|(_, p)| **p > self.config.least && **p < 1.0);
            against.for_each(|(logit, _)| *logit -= weight);
        }
    }
}

/// Puts a picture into a cache of at most `most`, sorted by entropy: while there is room, or in the place of the least sure.
fn keep(cache: &mut Vec<Kept>, kept: Kept, most: usize) {
    if cache.len() < most {
        cache.push(kept);
    } else if let Some(last) = cache.last_mut().filter(|last| kept.entropy < last.entropy) {
        *last = kept;
    }
    cache.sort_by(|a, b| a.entropy.total_cmp(&b.entropy)); // stable: of equally sure ones the earlier
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let most = logits.iter().fold(f32::NEG_INFINITY, |most, logit| most.max(*logit));
    let powers: Vec<f32> = logits.iter().map(|logit| (logit - most).exp()).collect();
    let total: f32 = powers.iter().sum();
    powers.into_iter().map(|power| power / total).collect()
}

impl Adapt for Tda {
    fn name(&self) -> &'static str {
        "tda"
    }

    fn remembers(&self) -> bool {
        true
    }

    fn answer(&mut self, pixels: &Tensor) -> Result<Tensor> {
        let features = self.base.features(pixels)?;
        let logits = self.base.logits(&features)?.to_dtype(candle_core::DType::F32)?;
        let (shape, device) = (logits.dims2()?, logits.device().clone());
        let unit = normalize(&features.to_dtype(candle_core::DType::F32)?)?.to_device(&Device::Cpu)?.to_vec2::<f32>()?;
        let mut rows = logits.to_device(&Device::Cpu)?.to_vec2::<f32>()?;
        unit.iter().zip(&mut rows).for_each(|(feature, logits)| self.one(feature, logits));
        Ok(Tensor::from_vec(rows.concat(), shape, &device)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tda(config: TdaConfig) -> Tda {
        let clip = Clip::demo().unwrap();
        let weights = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu).unwrap();
        Tda::new(&clip, &ZeroShotClassifier { weights, scale: 1.0 }, config)
    }

    /// Numbers by hand: the caches of one class, then of two.
    #[test]
    fn caches_add_what_the_formula_says() {
        let mut tda = tda(TdaConfig { away: (0.0, 1.0), ..TdaConfig::default() });
        let (first, second) = ([1.0, 0.0], [0.6, 0.8]);
        let mut logits = [3.0, 0.0];
        tda.one(&first, &mut logits);
        assert!((logits[0] - 5.0).abs() < 1e-6 && logits[1] == 0.0, "{logits:?}"); // itself at a cosine of 1: α
        let mut logits = [0.0, 1.0];
        tda.one(&second, &mut logits);
        let from_first = 2.0 * (-5.0f32 * 0.4).exp();
        assert!((logits[0] - from_first).abs() < 1e-6 && (logits[1] - 3.0).abs() < 1e-6, "{logits:?}");
    }

    #[test]
    fn the_surest_stay_and_the_unsure_speak_against() {
        let mut tda = tda(TdaConfig { positive: 1, ..TdaConfig::default() });
        let mut at = |logit: f32| {
            let mut logits = [logit, 0.0];
            tda.one(&[1.0, 0.0], &mut logits);
            (tda.positive[0][0].entropy, tda.kept())
        };
        let (unsure, kept) = at(2.5); // entropy .27: in both
        assert_eq!(kept, (1, 1));
        let (sure, kept) = at(9.0); // takes the place; too sure to speak against
        assert!(sure < unsure && kept == (1, 1));
        assert_eq!(at(2.0).0, sure); // less sure: it stays out
        let mut logits = [0.0, 9.0];
        tda.one(&[1.0, 0.0], &mut logits);
        // the unsure ones, two at most, at a cosine of 1, speak against both classes; each class has one feature that speaks for it
        assert!((logits[0] - (2.0 - 2.0 * 0.117)).abs() < 1e-5, "{logits:?} {:?}", tda.kept());
        assert!((logits[1] - (9.0 + 2.0 - 2.0 * 0.117)).abs() < 1e-5, "{logits:?}");
    }
}
