//! A tuner's state on disk and back.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::config::FinetuneConfig;
use super::finetuner::{EpochRecord, EpochSums, Finetuner};
use crate::checkpoint::{self, Saved};
use crate::data::{Skipped, SkippedRecord};
use crate::error::Result;
use crate::rng::Rng;

/// What a checkpoint keeps beside the tensors.
#[derive(Serialize, Deserialize)]
struct State {
    config: FinetuneConfig,
    weights_hash: String,
    /// A hash of the text classifier that the run started from.
    classifier: String,
    rng: Rng,
    sums: EpochSums,
    history: Vec<EpochRecord>,
    /// Pictures that could not be read: a resumed run reports them, too.
    #[serde(default)]
    skipped: Option<SkippedRecord>,
}

const KIND: &str = "tuning";

pub(super) fn save(tuner: &Finetuner, path: &Path) -> Result<()> {
    let state = State {
        config: tuner.config.clone(),
        weights_hash: tuner.clip.weights_hash().to_string(),
        classifier: tuner.classifier.clone(),
        rng: tuner.rng.clone(),
        sums: tuner.sums.clone(),
        history: tuner.history.clone(),
        skipped: tuner.skipped.as_ref().map(Skipped::record),
    };
    checkpoint::save(path, KIND, state, &tuner.trainable.params, &tuner.optimiser)
}

pub(super) fn load(tuner: &mut Finetuner, path: &Path) -> Result<()> {
    let saved = Saved::<State>::read(path, KIND, tuner.clip.device())?;
    let State { config, rng, weights_hash, classifier, .. } = &saved.state;
    // how often to evaluate changes nothing that is learned; a constant schedule may go on for longer
    let same = FinetuneConfig { eval_every: tuner.config.eval_every, ..config.clone() };
    let longer = FinetuneConfig { epochs: tuner.config.epochs, ..same.clone() } == tuner.config && tuner.config.schedule.is_constant();
    let model = weights_hash == tuner.clip.weights_hash() && *classifier == tuner.classifier;
    if !(same == tuner.config || longer) || *rng != tuner.rng || !model {
        return Err(saved.foreign());
    }
    let state = saved.restore(&tuner.trainable.params, &mut tuner.optimiser)?;
    tuner.sums = state.sums;
    tuner.history = state.history;
    tuner.skipped = state.skipped.map(Skipped::from_record);
    Ok(())
}
