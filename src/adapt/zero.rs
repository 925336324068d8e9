//! ZERO: the surest of many views vote (Farina, Franchi, Iacca, Mancini, Ricci, NeurIPS 2024).

use candle_core::{Device, Tensor};

use super::Adapt;
use super::base::Base;
use crate::ZeroShotClassifier;
use crate::clip::Clip;
use crate::error::{Error, Result};
use crate::eval::argmax_rows;
use crate::nn::softmax;
use crate::tune::Tuned;

/// Settings of [`Zero`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ZeroConfig {
    /// Views of each picture; default 64, the weak one and 63 random crops.
    pub views: usize,
    /// The share of the views that votes, those of least entropy; default 0.3.
    pub keep: f64,
}

impl Default for ZeroConfig {
    fn default() -> Self {
        Self { views: 64, keep: 0.3 }
    }
}

/// The answer is the class that most of the surest views name, as if the temperature were zero: no gradient, no memory.
///
/// It takes as many passes through the tower as there are views.
#[derive(Clone, Debug)]
pub struct Zero {
    base: Base,
    config: ZeroConfig,
}

impl Zero {
    /// On the classes of a zero-shot classifier.
    pub fn new(clip: &Clip, zero_shot: &ZeroShotClassifier, config: ZeroConfig) -> Self {
        Self::over(Base::zero_shot(clip, zero_shot), config)
    }

    /// Over a tuned tower, its visual prompts and its head.
    pub fn over_tuned(clip: &Clip, tuned: &Tuned, config: ZeroConfig) -> Self {
        Self::over(Base::tuned(clip, tuned), config)
    }

    fn over(base: Base, config: ZeroConfig) -> Self {
        Self { base, config: ZeroConfig { views: config.views.max(1), ..config } }
    }
}

impl Adapt for Zero {
    fn name(&self) -> &'static str {
        "zero"
    }

    fn views(&self) -> usize {
        self.config.views
    }

    fn answer(&mut self, pixels: &Tensor) -> Result<Tensor> {
        let (views, rows) = (self.config.views, pixels.dim(0)?);
        if !rows.is_multiple_of(views) {
            return Err(Error::Shape(format!("{rows} views are not {views} of each picture: give all views of each")));
        }
        let logits = self.base.logits(&self.base.features(pixels)?)?; // [n · views, C]
        let (n, classes) = (rows / views, logits.dim(1)?);
        let p: Vec<f32> = softmax(&logits)?.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?;
        let votes: Vec<f32> = p.chunks(views * classes).flat_map(|p| vote(p, classes, self.config.keep)).collect();
        // the shares of the votes as probabilities: a class without a vote is as good as impossible
        Ok((Tensor::from_vec(votes, (n, classes), logits.device())? + 1e-6)?.log()?)
    }
}

/// The share of the votes that each class has: p `[views, C]` → C numbers that sum to 1.
///
/// The ⌊keep · views⌋ rows of least entropy vote, at least one. Of classes with equally many votes the one that the next surest view names
/// gets one more; if none of the views names any of them, the one that is most probable in the surest of these views.
pub(super) fn vote(p: &[f32], classes: usize, keep: f64) -> Vec<f32> {
    let entropy = |row: &[f32]| -row.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f32>();
    let mut rows: Vec<(f32, &[f32])> = p.chunks(classes).map(|row| (entropy(row), row)).collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0)); // stable: of equally sure views the first
    let names = |row: &[f32]| argmax_rows(row, classes).first().copied().unwrap_or(0);
    let kept = ((keep * rows.len() as f64) as usize).clamp(1, rows.len().max(1));
    let (voters, rest) = rows.split_at(kept.min(rows.len()));
    let mut votes = vec![0f32; classes];
    voters.iter().for_each(|(_, row)| votes[names(row)] += 1.0);
    let most = votes.iter().fold(0f32, |most, votes| most.max(*votes));
    let tied: Vec<usize> = (0..classes).filter(|class| votes[*class] == most).collect();
    if tied.len() > 1 {
        let next = rest.iter().map(|(_, row)| names(row)).find(|class| tied.contains(class));
        let likeliest = |row: &[f32]| tied.iter().copied().reduce(|best, class| if row[class] > row[best] { class } else { best });
        let judge = rest.first().or(voters.first());
        if let Some(class) = next.or_else(|| judge.and_then(|(_, row)| likeliest(row))) {
            votes[class] += 1.0;
        }
    }
    let total: f32 = votes.iter().sum();
    votes.iter().map(|votes| votes / total.max(1.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::vote;

    #[test]
    fn the_surest_vote_and_the_next_breaks_a_tie() {
        let views = [
            [0.9, 0.05, 0.05], // sure of 0
            [0.1, 0.8, 0.1],   // of 1
            [0.4, 0.3, 0.3],   // hardly
            [0.2, 0.7, 0.1],   // 1, the third surest
            [0.35, 0.3, 0.35],
        ];
        let p = views.concat();
        assert_eq!(vote(&p, 3, 0.2), [1.0, 0.0, 0.0]);
        assert_eq!(vote(&p, 3, 0.4), [1.0 / 3.0, 2.0 / 3.0, 0.0]); // one vote each, then the third
        assert_eq!(vote(&p, 3, 0.01), [1.0, 0.0, 0.0]); // one votes at least
        // nobody else names a tied class: the next view's probabilities decide
        let p = [[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.2, 0.3, 0.5]].concat();
        assert_eq!(vote(&p, 3, 0.67), [1.0 / 3.0, 2.0 / 3.0, 0.0]);
        // all vote
        assert_eq!(vote(&[0.6, 0.4, 0.4, 0.6], 2, 1.0), [2.0 / 3.0, 1.0 / 3.0]);
    }
}
