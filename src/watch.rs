//! A run's fixed sample of pictures, on which signals are taken after each epoch, and the weights that they chose so far.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use candle_core::Tensor;

use crate::classify::TextClassifier;
use crate::clip::Clip;
use crate::data::Dataset;
use crate::embed::Pass;
use crate::error::{Error, Result};
use crate::eval::Signals;
use crate::progress::{Event, silent};
use crate::sealed;
use crate::tune::{Tuned, standard};

/// Pictures of the sample at most: enough for a percent or two.
const MOST: usize = 2000;
/// One picture in so many: a pass over them then takes less than 5 % of an epoch, whose steps pass each picture forward twice and
/// backward once.
const ONE_IN: usize = 5;
/// Fewer pictures than this say nothing.
const FEWEST: usize = 50;
/// What a file of kept weights says next to them.
const EPOCH: &str = "epoch";

/// The sample, and the signals of the text classifier on it, before tuning.
pub(crate) struct Watch {
    sample: Dataset,
    max_unreadable: f64,
    /// Before tuning.
    pub start: Signals,
    kept: RefCell<Option<Kept>>,
}

struct Kept {
    epoch: usize,
    tensors: Vec<(String, Tensor)>,
}

impl Watch {
    /// An evenly spread sample of the training images, as the untouched tower and the text classifier answer them.
    pub fn new(
        clip: &Clip,
        classifier: &TextClassifier,
        train: &Dataset,
        max_unreadable: f64,
        events: &mut dyn FnMut(&Event),
    ) -> Result<Self> {
        let size = (train.len() / ONE_IN).clamp(FEWEST.min(train.len()), MOST);
        let sample = train.spread(size).unlabeled();
        let start = signals(&sample, clip, max_unreadable, events, |pixels| Ok(classifier.logits(&clip.encode_image(pixels)?)?))?;
        Ok(Self { sample, max_unreadable, start, kept: RefCell::default() })
    }

    /// The signals of a classifier on the sample.
    pub fn signals(&self, clip: &Clip, logits: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Signals> {
        signals(&self.sample, clip, self.max_unreadable, &mut silent, logits)
    }

    /// Keeps the weights of an epoch in the place of those kept before, also in a file, so that a resumed run has them.
    pub fn keep(&self, tuned: &Tuned, epoch: usize, path: Option<&Path>) -> Result<()> {
        let tensors: Vec<(String, Tensor)> = standard().iter().flat_map(|set| set.tensors(tuned)).collect();
        let copy = |(name, tensor): (String, Tensor)| Ok((name, tensor.copy()?.detach()));
        let tensors = tensors.into_iter().map(copy).collect::<Result<Vec<_>>>()?;
        if let Some(path) = path {
            sealed::save(path, &tensors, HashMap::from([(EPOCH.to_string(), epoch.to_string())]))?;
        }
        *self.kept.borrow_mut() = Some(Kept { epoch, tensors });
        Ok(())
    }

    /// The tower, prompts and head of `epoch`, which were kept; `like` has everything else.
    pub fn kept(&self, like: &Tuned, epoch: usize, path: Option<&Path>) -> Result<Tuned> {
        let lost =
            || Error::Checkpoint(format!("the weights of epoch {epoch}, which the signals chose, are not in the folder: run it anew"));
        let tensors = match self.kept.borrow_mut().take().filter(|kept| kept.epoch == epoch) {
            Some(kept) => kept.tensors.into_iter().collect(),
            None => {
                let (tensors, metadata) = sealed::read(path.ok_or_else(lost)?)?;
                let fits = metadata.get(EPOCH).is_some_and(|found| *found == epoch.to_string());
                if fits { tensors } else { return Err(lost()) }
            }
        };
        let (mut tuned, mut tensors) = (like.clone(), tensors);
        for tensor in tensors.values_mut() {
            *tensor = tensor.to_device(like.vision.class_embedding.device())?;
        }
        for set in standard() {
            set.load(&mut tuned, &mut tensors).map_err(Error::Checkpoint)?;
        }
        Ok(tuned)
    }
}

fn signals(
    sample: &Dataset,
    clip: &Clip,
    max_unreadable: f64,
    events: &mut dyn FnMut(&Event),
    logits: impl FnMut(&Tensor) -> Result<Tensor>,
) -> Result<Signals> {
    let rows = Pass { max_unreadable, ..Pass::new(sample, clip, "signals") }.run(events, logits)?.rows;
    Signals::of(&rows.flatten_all()?.to_vec1::<f32>()?, rows.dim(1)?)
}
