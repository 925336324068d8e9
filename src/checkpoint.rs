//! A training loop's whole state on disk: parameters, optimizer moments and, as JSON, everything else.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use lafter_fast::with_f32;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::device::kind;
use crate::error::{Error, Result};
use crate::files::read_tensors;
use crate::nn::{AdamW, Param};
use crate::sealed;

/// Where and how often a training loop saves its state by itself, between two steps.
///
/// ```
/// use lafter::checkpoint::Autosave;
/// use std::time::Duration;
/// let every_minute = Autosave::new("run/checkpoint.safetensors", Duration::from_secs(60));
/// assert!(every_minute.due().is_none()); // not yet
/// let mut every_step = Autosave::new("run/checkpoint.safetensors", Duration::ZERO);
/// assert!(every_step.due().is_some());
/// every_step.saved(); // the clock starts anew
/// ```
#[derive(Clone, Debug)]
pub struct Autosave {
    path: PathBuf,
    every: Duration,
    last: Instant,
}

impl Autosave {
    /// Saves to `path` whenever `every` has passed; zero saves after each step.
    pub fn new(path: impl Into<PathBuf>, every: Duration) -> Self {
        Self { path: path.into(), every, last: Instant::now() }
    }

    /// The path, if it is time to save; [`saved`](Self::saved) says when that is done.
    pub fn due(&self) -> Option<PathBuf> {
        (self.last.elapsed() >= self.every).then(|| self.path.clone())
    }

    /// Starts the clock anew. After the save, not before it: a disk that needs longer than the interval would otherwise be
    /// written to after every step.
    pub fn saved(&mut self) {
        self.last = Instant::now();
    }
}

/// A hash of tensors, to tie a checkpoint to what it was trained from.
pub(crate) fn fingerprint<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<String> {
    let mut hash = Sha256::new();
    for tensor in tensors {
        with_f32(&tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?, |values| {
            for values in values.chunks(1024) {
                hash.update(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
            }
        })?;
    }
    Ok(format!("{:x}", hash.finalize()))
}

/// Whether a number can be a cross entropy of f32 values, or a sum of some: rounding may lead a little below 0.
pub(crate) fn is_loss(value: f64) -> bool {
    value > -1.0 && value < 1e50
}

/// Whether every value of a tensor of floating-point numbers is as asked.
pub(crate) fn all(tensor: &Tensor, valid: impl Fn(f32) -> bool) -> Result<bool> {
    let values = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
    Ok(with_f32(&values, |values| values.iter().all(|value| valid(*value)))?)
}

/// The part that is not a tensor; `state` is the loop's own.
#[derive(Serialize, Deserialize)]
struct Header<S> {
    /// The kind of device that it was made on; earlier versions wrote none.
    #[serde(default)]
    device: Option<String>,
    #[serde(alias = "optimiser_steps")] // as earlier versions wrote it
    optimizer_steps: usize,
    state: S,
}

/// Writes parameters, optimizer moments, `more` tensors and `state` under the name of the loop, `stage` (atomically).
pub(crate) fn save(
    path: &Path,
    stage: &str,
    state: impl Serialize,
    params: &[Param],
    optimizer: &AdamW,
    more: Vec<(String, Tensor)>,
) -> Result<()> {
    let device = params.first().map(|param| kind(param.var.device()).to_string());
    let header = Header { device, optimizer_steps: optimizer.steps(), state };
    let json = serde_json::to_string(&header).map_err(|e| Error::Checkpoint(format!("{}: {e}", path.display())))?;
    let params = params.iter().map(|param| (param.name.clone(), param.var.as_detached_tensor()));
    let tensors: Vec<(String, Tensor)> = params.chain(optimizer.state()).chain(more).collect();
    sealed::save(path, &tensors, HashMap::from([(stage.to_string(), json)]))
}

/// A checkpoint that was read, not yet applied: the loop compares its state with its own settings first.
pub(crate) struct Saved<S> {
    pub state: S,
    optimizer_steps: usize,
    pub tensors: HashMap<String, Tensor>,
    path: PathBuf,
    /// The kinds of device that it was made on, if it says so, and that it was read for.
    devices: (Option<String>, &'static str),
}

impl<S: DeserializeOwned> Saved<S> {
    pub fn read(path: &Path, stage: &str, device: &Device) -> Result<Self> {
        let shown = path.display();
        let (tensors, metadata) = read_tensors(path, device).map_err(|error| match error {
            // a copy of this file is nowhere: only its reader's remedy is wrong here
            Error::Weights(what) => {
                let fault = what.rsplit_once(": ").map_or(what.as_str(), |(fault, _)| fault);
                Error::Checkpoint(format!("{fault}: start without --resume"))
            }
            other => other,
        })?;
        let header = metadata
            .get(stage)
            .ok_or_else(|| Error::Checkpoint(format!("{shown} is not a checkpoint of this stage ({stage}): start without --resume")))?;
        if !sealed::fits(&tensors, &metadata)? {
            return Err(Error::Checkpoint(format!("{shown} is damaged: its checksum does not fit: start without --resume")));
        }
        let unreadable = |e| Error::Checkpoint(format!("{shown}: unreadable state ({e}): start without --resume"));
        let header: Header<S> = serde_json::from_str(header).map_err(unreadable)?;
        let Header { device: made, optimizer_steps, state } = header;
        let saved = Self { state, optimizer_steps, tensors, path: path.into(), devices: (made, kind(device)) };
        match i32::try_from(saved.optimizer_steps) {
            Ok(_) => Ok(saved),
            Err(_) => Err(saved.broken(format!("{} optimizer steps cannot be", saved.optimizer_steps))),
        }
    }

    /// Refuses a file that lacks a value of the parameters or the optimizer, or holds one that is not finite.
    pub fn check(&self, params: &[Param], optimizer: &AdamW) -> Result<()> {
        let moments = optimizer.state();
        let wanted =
            params.iter().map(|param| (&param.name, param.var.as_tensor())).chain(moments.iter().map(|(name, moment)| (name, moment)));
        for (name, like) in wanted {
            match self.tensors.get(name) {
                Some(saved) if saved.dims() == like.dims() && saved.dtype() == like.dtype() => {
                    let squares = name.starts_with("second.");
                    if !all(saved, |value| value.is_finite() && (value >= 0.0 || !squares))? {
                        let why = "the run diverged, or the file is damaged";
                        return Err(self.broken(format!("{name} holds a value that is not finite, or cannot be ({why})")));
                    }
                }
                _ => return Err(self.broken(format!("lacks {name} in shape {:?}, {:?}", like.dims(), like.dtype()))),
            }
        }
        Ok(())
    }

    /// Puts the saved values into the parameters and the optimizer, and gives the loop its state back. Nothing is changed by a
    /// file that [`check`](Self::check) refuses.
    pub fn restore(self, params: &[Param], optimizer: &mut AdamW) -> Result<S> {
        self.check(params, optimizer)?;
        for Param { name, var, .. } in params {
            if let Some(saved) = self.tensors.get(name) {
                var.set(saved)?;
            }
        }
        optimizer.restore(self.optimizer_steps, &self.tensors)?;
        Ok(self.state)
    }

    /// Optimizer steps up to the checkpoint.
    pub fn optimizer_steps(&self) -> usize {
        self.optimizer_steps
    }

    /// The error for a checkpoint that no run has written so.
    pub fn broken(&self, what: impl std::fmt::Display) -> Error {
        Error::Checkpoint(format!("{}: {what}: start without --resume", self.path.display()))
    }

    /// The error for a checkpoint of the same run that holds more epochs than are asked for, by this option.
    pub fn longer(&self, epochs: usize, option: &str) -> Error {
        let are = if epochs == 1 { "1 epoch is" } else { &format!("{epochs} epochs are") };
        Error::Usage(format!("{}: {are} done or begun: give {option} {epochs} or more, or start without --resume", self.path.display()))
    }

    /// The error for a checkpoint of another run.
    pub fn foreign(&self) -> Error {
        let shown = self.path.display();
        if let (Some(made), here) = &self.devices
            && made != here
        {
            return Error::Usage(format!(
                "{shown} was made on {made}, and {here} rounds otherwise: go on with that run's device and TF32, or start without --resume"
            ));
        }
        Error::Usage(format!(
            "{shown} belongs to a run with other settings, texts, seed or model: repeat that run's options, or start without --resume"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_of_another_device_names_both() {
        let saved = |made: Option<&str>| Saved {
            state: (),
            optimizer_steps: 0,
            tensors: HashMap::new(),
            path: "checkpoint".into(),
            devices: (made.map(String::from), "cpu"),
        };
        let said = |made| saved(made).foreign().to_string();
        assert!(said(Some("cuda with TF32")).contains("was made on cuda with TF32, and cpu rounds otherwise"));
        assert!([None, Some("cpu")].iter().all(|made| said(*made).contains("other settings")));
    }

    #[test]
    fn the_clock_starts_after_the_save() {
        let mut autosave = Autosave::new("never-written", Duration::from_millis(40));
        std::thread::sleep(Duration::from_millis(45));
        assert!(autosave.due().is_some());
        std::thread::sleep(Duration::from_millis(45)); // a slow disk
        autosave.saved();
        assert!(autosave.due().is_none(), "saved a moment ago");
    }
}
