//! A tuning run's state on disk and back.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::config::FinetuneConfig;
use super::records::{EpochRecord, EpochSums};
use super::run::Run;
use super::state;
use crate::checkpoint::{self, Saved, is_loss};
use crate::data::{Skipped, SkippedRecord};
use crate::error::Result;
use crate::rng::Rng;

/// What a checkpoint keeps in addition to the tensors.
#[derive(Serialize, Deserialize)]
struct State {
    config: FinetuneConfig,
    weights_hash: String,
    /// [`Clip::settings_hash`](crate::Clip::settings_hash); checkpoints of earlier versions lack it.
    #[serde(default)]
    settings_hash: Option<String>,
    /// A hash of the text classifier that the run started from.
    classifier: String,
    rng: Rng,
    sums: EpochSums,
    history: Vec<EpochRecord>,
    /// Pictures that could not be read: a resumed run reports them, too.
    #[serde(default)]
    skipped: Option<SkippedRecord>,
    /// Whether the rules have looked at the pictures.
    #[serde(default)]
    prepared: bool,
    /// Hashes of the stored answers that blocks read, by their places.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    stored: BTreeMap<usize, String>,
}

const KIND: &str = "tuning";

impl Run {
    /// Writes everything that a later [`resume`](Self::resume) needs to go on bit for bit (atomically).
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the file cannot be written.
    pub fn checkpoint(&self, path: impl AsRef<Path>) -> Result<()> {
        let state = State {
            config: self.tuner.config.clone(),
            weights_hash: self.tuner.clip.weights_hash().to_string(),
            settings_hash: Some(self.tuner.clip.settings_hash()),
            classifier: self.tuner.classifier.clone(),
            rng: self.tuner.rng.clone(),
            sums: self.sums.clone(),
            history: self.history.clone(),
            skipped: self.skipped.as_ref().map(Skipped::record),
            prepared: self.prepared,
            stored: if self.opened { self.tuner.stored() } else { self.stored.clone() },
        };
        let blocks = state::save(&self.tuner.blocks());
        checkpoint::save(path.as_ref(), KIND, state, &self.tuner.trainable.params, &self.tuner.optimizer, blocks)
    }

    /// Goes on where [`checkpoint`](Self::checkpoint) stopped; the run must have been made with the same settings. Stored answers that
    /// the run reads are compared with those of the checkpoint when the next epoch begins.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) for a checkpoint of another run, [`Error::Checkpoint`](crate::Error::Checkpoint) for
    /// one of another stage or without its parameters, [`Error::Io`](crate::Error::Io) or
    /// [`Error::Weights`](crate::Error::Weights) for a file that cannot be read.
    pub fn resume(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let saved = Saved::<State>::read(path.as_ref(), KIND, self.tuner.clip.device())?;
        let State { config, rng, weights_hash, classifier, sums, history, .. } = &saved.state;
        // how often to evaluate, how many pictures may be unreadable, and where views are made changes nothing that is learned, in how many
        // parts a step is taken only its rounding; the number of epochs neither where the schedule is constant, unless more were begun
        let FinetuneConfig { epochs, eval_every, max_unreadable, micro_batch, views_on_gpu, .. } = self.tuner.config;
        let same = FinetuneConfig { eval_every, max_unreadable, micro_batch, views_on_gpu, ..config.clone() };
        let begun = history.len() + usize::from(sums.steps > 0);
        let other_length =
            FinetuneConfig { epochs, ..same.clone() } == self.tuner.config && !self.tuner.config.schedule.depends_on_length();
        let settings = saved.state.settings_hash.as_ref().is_none_or(|hash| *hash == self.tuner.clip.settings_hash());
        let model = weights_hash == self.tuner.clip.weights_hash() && settings && *classifier == self.tuner.classifier;
        if !(same == self.tuner.config || other_length) || *rng != self.tuner.rng || !model {
            return Err(saved.foreign());
        }
        if epochs < begun {
            return Err(saved.longer(begun, "--epochs"));
        }
        let terms = self.tuner.objective.terms.len();
        let own = terms != config.objective.len(); // terms of the user's own, whose losses may be anything
        let signed = own || config.objective.iter().any(|(_, term)| term.flow().signed());
        if let Some(what) = impossible(sums, history, config.batch_size, (terms, signed)) {
            return Err(saved.broken(what));
        }
        saved.check(&self.tuner.trainable.params, &self.tuner.optimizer)?;
        state::restore(&mut self.tuner.blocks_mut(), &saved.tensors).map_err(|what| saved.broken(what))?;
        let state = saved.restore(&self.tuner.trainable.params, &mut self.tuner.optimizer)?;
        self.sums = state.sums;
        self.history = state.history;
        self.skipped = state.skipped.map(Skipped::from_record);
        self.prepared = state.prepared;
        (self.stored, self.opened) = (state.stored, false); // the files are read again, and compared
        Ok(())
    }
}

/// What no tuning can have left behind: with batches of this size, and so many terms, whose losses may be below 0 or not.
fn impossible(sums: &EpochSums, history: &[EpochRecord], batch_size: usize, (count, signed): (usize, bool)) -> Option<String> {
    let is_loss = |loss: f64| is_loss(if signed { loss.abs() } else { loss });
    let percent = |value: f64| (0.0..=100.001).contains(&value); // a mean of f32 values may lie a little above 1
    for (i, record) in history.iter().enumerate() {
        let percents = [
            record.agreement,
            record.confidence,
            record.kept.unwrap_or(0.0),
            record.pseudo_label_accuracy.unwrap_or(0.0),
            record.test_top1.unwrap_or(0.0),
        ];
        let terms = record.terms.values().all(|loss| is_loss(loss.abs())) && record.mean_weight.is_none_or(is_weight);
        let numbers = is_loss(record.loss) && terms && percents.into_iter().all(percent);
        if record.epoch != i + 1 || !numbers || !is_duration(record.seconds) {
            return Some(format!("entry {} of its history cannot be: {record:?}", i + 1));
        }
    }
    let EpochSums { steps, loss, agreed, confidence, right, labeled, images, seconds, kept, weights, .. } = *sums;
    let EpochSums { confidences, named, terms, .. } = sums;
    let counts = right <= labeled && labeled <= images && agreed <= images && images <= steps.saturating_mul(batch_size);
    let kept = kept.is_none_or(|kept| (0.0..=images as f64 + 0.5).contains(&kept)); // a sum of shares in f32
    let kept = kept && confidences.iter().try_fold(0usize, |sum, count| sum.checked_add(*count)).is_some_and(|sum| sum <= images);
    let blocks = weights.is_none_or(is_weight) && named.as_ref().is_none_or(|named| named.len() <= images);
    let blocks = blocks && terms.iter().all(|loss| is_loss(loss.abs())) && [0, count].contains(&terms.len());
    let means = kept && blocks && is_loss(loss) && percent(100.0 * confidence / images.max(1) as f64) && is_duration(seconds);
    (!counts || !means).then(|| format!("its sums cannot be: {sums:?}"))
}

/// Whether a number can be a mean weight, or a sum of some.
fn is_weight(value: f64) -> bool {
    value >= 0.0 && is_loss(value)
}

fn is_duration(seconds: f64) -> bool {
    seconds.is_finite() && seconds >= 0.0
}
