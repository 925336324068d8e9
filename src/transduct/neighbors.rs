//! Answers smoothed over the nearest pictures.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::features::watched_nearest;
use super::{Features, Graph, Rounds};
use crate::error;
use crate::progress::Event;

/// p_i ← (1 − r) p_i + r Σ_j w_ij p_j over the k nearest others, w_ij ∝ max(cos, 0), Σ_j w_ij = 1; p starts as the texts' answer.
///
/// The plainest transduction, and it holds where classes are absent: nothing is fitted. A picture whose neighbors are all at an angle of
/// more than 90° keeps its answer.
///
/// # Sources
/// None: this project's own, to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Neighbors {
    /// k; default 10.
    #[serde(alias = "neighbours")] // as earlier versions wrote it
    pub neighbors: usize,
    /// r, 0 to 1; default 0.5.
    pub share: f64,
    /// How often, up to a million times; default once.
    pub rounds: usize,
}

impl Default for Neighbors {
    fn default() -> Self {
        Self { neighbors: 10, share: 0.5, rounds: 1 }
    }
}

impl Neighbors {
    /// p `[n, C]`, rows that sum to 1.
    ///
    /// # Errors
    /// [`Error::Interrupted`](error::Error::Interrupted) between two rounds; Candle's if the device has no memory left.
    pub fn probabilities(&self, features: &Features, events: &mut dyn FnMut(&Event)) -> error::Result<Tensor> {
        let found = watched_nearest(&features.images, &features.images, self.neighbors, false, events)?;
        let share = self.share.clamp(0.0, 1.0) as f32;
        let mut entries = Vec::with_capacity((found.k + 1) * features.pictures());
        for i in 0..features.pictures() {
            let (keys, cosines) = (&found.indices[i * found.k..][..found.k], &found.cosines[i * found.k..][..found.k]);
            let total: f32 = cosines.iter().map(|cosine| cosine.max(0.0)).sum();
            let share = if total > 0.0 { share } else { 0.0 };
            entries.push((i as u32, i as u32, 1.0 - share));
            if share > 0.0 {
                entries.extend(keys.iter().zip(cosines).map(|(key, cosine)| (i as u32, *key, share * cosine.max(0.0) / total)));
            }
        }
        let graph = Graph::new(features.pictures(), entries)?;
        let mut p = features.text_probabilities()?;
        let mut rounds = Rounds::new("smoothing", self.rounds, events);
        for _ in 0..self.rounds {
            p = graph.product(&p)?;
            rounds.done()?;
        }
        rounds.finish();
        Ok(p)
    }
}
