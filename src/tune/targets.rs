//! What a step passes from hand to hand: both views of a batch, and what is known about its pictures before the loss.

use std::collections::HashMap;

use candle_core::{D, Result, Tensor};

use crate::nn::argmax;

/// Both views of one batch, and where it stands in the run. Rules and terms that read the pixels find those of this process's rows
/// alone if [several](crate::ranks) share the run; all built-in ones read answers and logits, which are those of the whole batch.
#[derive(Clone, Debug)]
pub struct Views {
    /// α_w(x), pixels `[b, 3, side, side]`: what the teacher sees.
    pub weak: Tensor,
    /// α_h(x) of the same pictures, in the same shape: what the student sees.
    pub strong: Tensor,
    /// Which pictures of the data set they are, for blocks that remember pictures; empty without a data set.
    pub indices: Vec<u32>,
    /// Steps taken before this one, in all epochs together; the [`Finetuner`](crate::tune::Finetuner) puts its own count in the place
    /// of a lower number.
    pub step: usize,
    /// Epochs finished before this one.
    pub epoch: usize,
    /// Whether rules read the features of the answer: a teacher that answers without a tower leaves them out otherwise.
    pub features: bool,
}

impl Views {
    /// The first step's, without a data set; the answer has features.
    pub fn new(weak: Tensor, strong: Tensor) -> Self {
        Self { weak, strong, indices: Vec::new(), step: 0, epoch: 0, features: true }
    }
}

const FEATURES: &str = "features";
const PROBABILITIES: &str = "probabilities";
const LABELS: &str = "labels";
const CONFIDENCE: &str = "confidence";
const WEIGHTS: &str = "weights";
const CANDIDATES: &str = "candidates";
const SOURCE: &str = "sources.";

/// What is known about a batch: the teacher's answer, and what the refinements made of it. It carries no graph.
#[derive(Clone, Debug)]
pub struct Targets {
    /// Unit features of the weak views `[b, d]`, which may be left out where [no rule](Views::features) reads them.
    pub features: Tensor,
    /// p, the probabilities of the classes `[b, C]`.
    pub probabilities: Tensor,
    /// ĉ = argmax p, the pseudo-labels `[b]`, u32.
    pub labels: Tensor,
    /// max p, how sure they are `[b]`, 0 to 1.
    pub confidence: Tensor,
    /// How much each picture counts in the loss `[b]`, 0 for one that is left out; `None` if all count alike.
    pub weights: Option<Tensor>,
    /// Posteriors `[b, C]` as each source gave them, before any other rule: the teacher's, then those that rules add.
    pub sources: Vec<Tensor>,
    /// The classes that each picture may have `[b, C]`, 0 or 1; `None` where no rule gives any.
    pub candidates: Option<Tensor>,
    /// P, image prototypes `[C, d]` of unit length, which the alignment term reads; `None` where no rule gives any.
    pub prototypes: Option<Tensor>,
}

impl Targets {
    /// Pseudo-labels and confidence of probabilities `[b, C]`; all pictures count alike.
    ///
    /// # Errors
    /// If the probabilities are not a matrix (Candle's).
    pub fn new(features: Tensor, probabilities: Tensor) -> Result<Self> {
        let (features, probabilities) = (features.detach(), probabilities.detach());
        let (labels, confidence) = (argmax(&probabilities)?, probabilities.max(D::Minus1)?);
        let sources = vec![probabilities.clone()];
        Ok(Self { features, probabilities, labels, confidence, weights: None, sources, candidates: None, prototypes: None })
    }

    /// p = softmax(ℓ / T) of logits ℓ `[b, C]`. A temperature changes no pseudo-label, also where f32 cannot tell the probabilities apart.
    ///
    /// # Errors
    /// If the logits are not a matrix (Candle's).
    pub fn of_logits(features: Tensor, logits: &Tensor, temperature: f64) -> Result<Self> {
        if temperature == 1.0 {
            return Self::new(features, candle_nn::ops::softmax(logits, D::Minus1)?);
        }
        let targets = Self::new(features, candle_nn::ops::softmax(&(logits / temperature)?, D::Minus1)?)?;
        Ok(Self { labels: argmax(&logits.detach())?, ..targets })
    }

    /// What has a row for each picture, by name.
    pub(super) fn rows(&self) -> Vec<(String, Tensor)> {
        let always =
            [(FEATURES, &self.features), (PROBABILITIES, &self.probabilities), (LABELS, &self.labels), (CONFIDENCE, &self.confidence)];
        let given =
            [(WEIGHTS, &self.weights), (CANDIDATES, &self.candidates)].into_iter().filter_map(|(name, rows)| Some((name, rows.as_ref()?)));
        let rows = always.into_iter().chain(given).map(|(name, rows)| (name.to_string(), rows.clone()));
        rows.chain(self.sources.iter().enumerate().map(|(i, source)| (format!("{SOURCE}{i}"), source.clone()))).collect()
    }

    /// The targets of some of the pictures, in their order.
    ///
    /// # Errors
    /// If there are not so many (Candle's).
    pub(super) fn narrow(&self, start: usize, len: usize) -> Result<Self> {
        let rows = self.rows().into_iter().map(|(name, rows)| Ok((name, rows.narrow(0, start, len)?)));
        Self::from_rows(rows.collect::<Result<_>>()?, self.prototypes.clone())
    }

    /// Puts together what [`rows`](Self::rows) gave, with the prototypes.
    ///
    /// # Errors
    /// If there is nothing of the sort.
    pub(super) fn from_rows(mut rows: HashMap<String, Tensor>, prototypes: Option<Tensor>) -> Result<Self> {
        let mut take = |name: &str| rows.remove(name);
        let sources = (0..).map_while(|i| take(&format!("{SOURCE}{i}"))).collect();
        let (weights, candidates) = (take(WEIGHTS), take(CANDIDATES));
        match (take(FEATURES), take(PROBABILITIES), take(LABELS), take(CONFIDENCE)) {
            (Some(features), Some(probabilities), Some(labels), Some(confidence)) => {
                Ok(Self { features, probabilities, labels, confidence, weights, sources, candidates, prototypes })
            }
            _ => candle_core::bail!("there is no answer to this batch: not one of its pictures could be read"),
        }
    }

    /// Other probabilities for the same pictures, with the pseudo-labels and the confidence that follow from them.
    ///
    /// # Errors
    /// If the probabilities are not a matrix (Candle's).
    pub fn with_probabilities(self, probabilities: Tensor) -> Result<Self> {
        let probabilities = probabilities.detach();
        let (labels, confidence) = (argmax(&probabilities)?, probabilities.max(D::Minus1)?);
        Ok(Self { probabilities, labels, confidence, ..self })
    }

    /// Multiplies the weights of the pictures by these `[b]`.
    ///
    /// # Errors
    /// If there is not one weight per picture (Candle's).
    pub fn weighted(self, by: &Tensor) -> Result<Self> {
        let weights = match &self.weights {
            Some(weights) => (weights * by)?,
            None => by.clone(),
        };
        Ok(Self { weights: Some(weights), ..self })
    }
}

/// What a block remembers from step to step. It is saved with the run, so that one that was stopped ends as one that was not.
pub trait Stateful: Send + Sync {
    /// Its name in the settings and in checkpoints.
    fn kind(&self) -> &'static str;

    /// Its memory, by name; by default none.
    fn state(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }

    /// A hash of the stored answers that it reads, once it knows the pictures: a run that goes on must find the same. By default none.
    fn reads(&self) -> Option<String> {
        None
    }

    /// Puts back what [`state`](Self::state) gave; a map that lacks part of it is refused.
    ///
    /// # Errors
    /// If a tensor is missing or has a shape that it cannot have.
    fn restore(&mut self, saved: &HashMap<String, Tensor>) -> Result<()> {
        let _ = saved;
        Ok(())
    }
}
