//! A tuner's whole state on disk: parameters, optimiser moments, position, history.

use std::collections::HashMap;
use std::path::Path;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::config::FinetuneConfig;
use super::finetuner::{EpochRecord, EpochSums, Finetuner};
use crate::clip::{read_tensors, save_tensors};
use crate::error::{Error, Result};
use crate::rng::Rng;

/// What is not a tensor; stored as JSON under the key `checkpoint` of the safetensors metadata.
#[derive(Serialize, Deserialize)]
struct State {
    config: FinetuneConfig,
    weights_hash: String,
    optimiser_steps: usize,
    rng: Rng,
    sums: EpochSums,
    history: Vec<EpochRecord>,
}

const KEY: &str = "checkpoint";

pub(super) fn save(tuner: &Finetuner, path: &Path) -> Result<()> {
    let state = State {
        config: tuner.config.clone(),
        weights_hash: tuner.clip.weights_hash().to_string(),
        optimiser_steps: tuner.optimiser.steps(),
        rng: tuner.rng.clone(),
        sums: tuner.sums.clone(),
        history: tuner.history.clone(),
    };
    let json = serde_json::to_string(&state).map_err(|e| Error::Adapter(format!("{}: {e}", path.display())))?;
    let params = tuner.trainable.params.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor()));
    let tensors: Vec<(String, Tensor)> = params.chain(tuner.optimiser.state()).collect();
    save_tensors(path, &tensors, HashMap::from([(KEY.to_string(), json)]))
}

pub(super) fn load(tuner: &mut Finetuner, path: &Path) -> Result<()> {
    let shown = path.display();
    let (tensors, metadata) = read_tensors(path, tuner.clip.device())?;
    let state =
        metadata.get(KEY).ok_or_else(|| Error::Adapter(format!("{shown} is no checkpoint of a tuning run: start without --resume")))?;
    let state: State = serde_json::from_str(state).map_err(|e| Error::Adapter(format!("{shown}: unreadable state: {e}")))?;
    // a longer run may go on from a shorter one; everything else has to be as it was
    let comparable = FinetuneConfig { epochs: tuner.config.epochs, eval_every: tuner.config.eval_every, ..state.config };
    if comparable != tuner.config || state.rng != tuner.rng || state.weights_hash != tuner.clip.weights_hash() {
        return Err(Error::Usage(format!(
            "{shown} belongs to a run with other settings, seed or model: repeat that run's options, or start anew without --resume"
        )));
    }
    for (name, var) in &tuner.trainable.params {
        match tensors.get(name) {
            Some(saved) if saved.dims() == var.dims() => var.set(saved)?,
            _ => return Err(Error::Adapter(format!("{shown} lacks {name} in shape {:?}: start anew without --resume", var.dims()))),
        }
    }
    tuner.optimiser.restore(state.optimiser_steps, &tensors)?;
    tuner.sums = state.sums;
    tuner.history = state.history;
    Ok(())
}
