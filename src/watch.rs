//! A run's fixed sample of pictures, on which signals are taken after each epoch, and the weights that they chose so far.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Tensor};

use crate::classify::{HeldOut, TextClassifier, ZeroShotClassifier};
use crate::clip::Clip;
use crate::data::Dataset;
use crate::embed::{Encoded, Pass};
use crate::error::{Error, Result};
use crate::eval::signals::agreement::{answers, equal, with_class_means};
use crate::eval::{Fits, LargestShares, Signals};
use crate::experiment::Experiment;
use crate::progress::{Event, silent};
use crate::ranks::Ranks;
use crate::sealed;
use crate::tune::{Finetuner, Tuned, known};

/// Pictures of the sample at most: enough for a percent or two.
const MOST: usize = 2000;
/// One picture in so many. A step passes each picture through the teacher, through the student and back, about four passes; the
/// signals take one, and one in [`TAUGHT`] of the teacher. With reading the pictures that stays below 5 % of an epoch.
const ONE_IN: usize = 10;
/// Fewer pictures than this say little. They are a larger share of an epoch on a set of less than 640, where an epoch is short.
const FEWEST: usize = 64;
/// The teacher answers one picture in so many, of each batch of the sample.
const TAUGHT: usize = 4;
/// In the place of the teacher's answer where it was not asked.
const UNASKED: f32 = -1.0;
/// The fit is taken of one picture in so many for each epoch of the run: two passes in all, less than 5 % of a run of any length.
const FIT_ONE_IN: usize = 12;
/// What a file of kept weights says next to them.
const EPOCH: &str = "epoch";

/// An evenly spread sample of the training images.
pub(crate) fn sample_of(train: &Dataset) -> Dataset {
    let size = (train.len() / ONE_IN).clamp(FEWEST, MOST).min(train.len());
    train.spread(size).unlabeled()
}

/// An evenly spread sample, larger than that of the epochs, for what is done once a run: the fit of the candidates.
pub(crate) fn fit_sample_of(train: &Dataset, epochs: usize) -> Dataset {
    let sample = sample_of(train).len();
    let size = (train.len() / FIT_ONE_IN).saturating_mul(epochs).clamp(sample, MOST).min(train.len());
    train.spread(size).unlabeled()
}

/// How often zero-shot, the text classifier and their mean answer as the class means of the untouched tower's `features` `[n, d]`; and
/// that mean, if there is one.
pub(crate) fn fits_before(
    features: &Tensor,
    text_classifier: &TextClassifier,
    zero_shot: &ZeroShotClassifier,
) -> Result<(Fits, Option<TextClassifier>)> {
    let rows = features.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    let both = text_classifier.mean_with(zero_shot, features)?;
    let mean = both.as_ref().map(|both| fit(&rows, &both.logits(features)?)).transpose()?;
    let (zero_shot, text) = (fit(&rows, &zero_shot.logits(features)?)?, fit(&rows, &text_classifier.logits(features)?)?);
    let mean_largest = mean.map_or(0.0, |(_, largest)| largest);
    let largest = LargestShares { zero_shot: zero_shot.1, text_classifier: text.1, mean: mean_largest, tuned: 0.0 };
    let (pictures, mean) = (features.dim(0)?, mean.map(|(share, _)| share));
    Ok((Fits { pictures, zero_shot: zero_shot.0, text_classifier: text.0, mean, largest, ..Fits::default() }, both))
}

/// How often the answers of logits `[n, C]` are those of the class means of the features `[n, d]` that they come from, and the share of
/// the most frequent answer.
fn fit(features: &[f32], logits: &Tensor) -> Result<(f64, f64)> {
    let (classes, logits) = (logits.dim(1)?, logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?);
    let answers = answers(&logits, classes);
    let mut counts = vec![0usize; classes];
    answers.iter().for_each(|answer| counts[*answer] += 1);
    let largest = counts.into_iter().max().unwrap_or(0) as f64 / answers.len().max(1) as f64;
    Ok((with_class_means(features, &answers, classes), largest))
}

/// Features of the sample from the untouched tower. Few pictures say little about the share that cannot be read, so none of the passes
/// over a sample fails for it: an epoch looks at the whole set.
pub(crate) fn signal_features(run: &Experiment, sample: &Dataset, events: &mut dyn FnMut(&Event)) -> Result<Encoded> {
    let pass = Pass { max_unreadable: 1.0, ..Pass::new(sample, &run.clip, "signals") };
    pass.run_among(&*run.ranks, events, |pixels| run.clip.encode_image(pixels))
}

/// The sample, and the signals of the text classifier on it, before tuning.
pub(crate) struct Watch {
    sample: Dataset,
    held_out: Option<HeldOut>,
    /// What the sample was answered before tuning.
    before: Vec<usize>,
    /// The signals before tuning.
    pub start: Signals,
    /// The signals of the zero-shot classifier on the same pictures.
    pub zero_shot: Signals,
    /// The processes that share the sample.
    ranks: Arc<dyn Ranks>,
    /// Time that the signals of the epochs took, in seconds.
    pub seconds: Cell<f64>,
    kept: RefCell<Option<Kept>>,
}

struct Kept {
    epoch: usize,
    tensors: Vec<(String, Tensor)>,
}

impl Watch {
    /// The signals before tuning: `features` are those of the [`sample`](sample_of) from the untouched tower, as
    /// [`signal_features`] gives them.
    pub fn new(
        run: &Experiment,
        sample: Dataset,
        features: &Tensor,
        classifier: &TextClassifier,
        zero_shot: &ZeroShotClassifier,
        held_out: Option<HeldOut>,
    ) -> Result<Self> {
        let ranks = run.ranks.clone();
        let rows = features.flatten_all()?.to_vec1::<f32>()?;
        let of = |logits: Tensor| seen(&rows, &logits.flatten_all()?.to_vec1::<f32>()?, logits.dim(1)?);
        let (mut start, before) = of(classifier.logits(features)?)?;
        start.as_before = Some(1.0);
        start.texts_right = held_out.as_ref().map(|texts| texts.right(&classifier.head)).transpose()?;
        let (mut zero_shot, first) = of(zero_shot.logits(features)?)?;
        zero_shot.as_before = Some(equal(&first, &before));
        Ok(Self { sample, held_out, before, start, zero_shot, ranks, seconds: Cell::new(0.0), kept: RefCell::default() })
    }

    /// The signals of the student on the sample, next to its teacher.
    pub fn signals(&self, clip: &Clip, tuner: &Finetuner) -> Result<Signals> {
        let (tuned, started) = (tuner.tuned(), Instant::now());
        // features, logits and the teacher's answer in one row, so that a picture that cannot be read is missing in all
        let row = |pixels: &Tensor| {
            let features = tuned.features(pixels)?;
            let logits = tuned.head.forward(&features)?;
            let mut answers = vec![UNASKED; pixels.dim(0)?];
            // spread over the batch: class folders come one after another
            let taught: Vec<u32> = (0..answers.len() as u32).step_by(TAUGHT).collect();
            let asked = pixels.index_select(&Tensor::new(taught.as_slice(), pixels.device())?, 0)?;
            // one that knows pictures by their place in the training set answers for no others
            if let Ok((labels, _)) = tuner.pseudo_labels(&asked) {
                let labels = labels.to_dtype(DType::F32)?.to_vec1()?;
                taught.iter().zip(labels).for_each(|(row, label)| answers[*row as usize] = label);
            }
            let answers = Tensor::from_vec(answers, (pixels.dim(0)?, 1), pixels.device())?;
            Ok(Tensor::cat(&[features.to_dtype(DType::F32)?, logits.to_dtype(DType::F32)?, answers], 1)?)
        };
        let pass = Pass { max_unreadable: 1.0, ..Pass::new(&self.sample, clip, "signals") };
        let rows = pass.run_among(&*self.ranks, &mut silent, row)?.rows;
        let classes = tuned.head.classes();
        let width = rows.dim(1)? - classes - 1;
        let part = |from: usize, len: usize| rows.narrow(1, from, len)?.flatten_all()?.to_vec1::<f32>();
        let (features, logits, taught) = (part(0, width)?, part(width, classes)?, part(width + classes, 1)?);
        let (signals, now) = seen(&features, &logits, classes)?;
        let (taught, student): (Vec<usize>, Vec<usize>) =
            taught.into_iter().zip(&now).filter(|(class, _)| *class != UNASKED).map(|(class, now)| (class as usize, *now)).unzip();
        let signals = Signals {
            as_before: (now.len() == self.before.len()).then(|| equal(&now, &self.before)),
            as_teacher: (!taught.is_empty()).then(|| equal(&student, &taught)),
            texts_right: self.held_out.as_ref().map(|texts| texts.right(&tuned.head)).transpose()?,
            ..signals
        };
        self.seconds.set(self.seconds.get() + started.elapsed().as_secs_f64());
        Ok(signals)
    }

    /// How often the answers of `tuned` are those of the class means of its features, on the pictures of `sample`; and the share of its
    /// most frequent answer.
    pub fn fit_of(&self, clip: &Clip, tuned: &Tuned, sample: &Dataset) -> Result<(f64, f64)> {
        let started = Instant::now();
        let row = |pixels: &Tensor| {
            let features = tuned.features(pixels)?;
            let logits = tuned.head.forward(&features)?;
            Ok(Tensor::cat(&[features.to_dtype(DType::F32)?, logits.to_dtype(DType::F32)?], 1)?)
        };
        let pass = Pass { max_unreadable: 1.0, ..Pass::new(sample, clip, "signals") };
        let rows = pass.run_among(&*self.ranks, &mut silent, row)?.rows;
        let classes = tuned.head.classes();
        let width = rows.dim(1)? - classes;
        let features = rows.narrow(1, 0, width)?.flatten_all()?.to_vec1::<f32>()?;
        let fit = fit(&features, &rows.narrow(1, width, classes)?)?;
        self.seconds.set(self.seconds.get() + started.elapsed().as_secs_f64());
        Ok(fit)
    }

    /// Keeps the weights of an epoch in the place of those kept before, also in a file, so that a resumed run has them.
    pub fn keep(&self, tuned: &Tuned, epoch: usize, path: Option<&Path>) -> Result<()> {
        let tensors: Vec<(String, Tensor)> = known().iter().flat_map(|set| set.tensors(tuned)).collect();
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
                let (tensors, metadata) = sealed::read(path.filter(|path| path.exists()).ok_or_else(lost)?)?;
                let fits = metadata.get(EPOCH).is_some_and(|found| *found == epoch.to_string());
                if fits { tensors } else { return Err(lost()) }
            }
        };
        let (mut tuned, mut tensors) = (like.clone(), tensors);
        for tensor in tensors.values_mut() {
            *tensor = tensor.to_device(like.vision.class_embedding.device())?;
        }
        tuned.take(&known(), &mut tensors, Error::Checkpoint)?;
        Ok(tuned)
    }
}

/// The signals of logits `[n, C]` with the features `[n, d]` that they come from, and the answers.
fn seen(features: &[f32], logits: &[f32], classes: usize) -> Result<(Signals, Vec<usize>)> {
    let answers = answers(logits, classes);
    let as_class_means = Some(with_class_means(features, &answers, classes));
    Ok((Signals { as_class_means, ..Signals::of(logits, classes)? }, answers))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::classify::Head;
    use crate::data::scenes::{Domain, Scenes, text_set};
    use crate::describe::Templates;
    use crate::rng::Rng;
    use crate::tune::VisualPrompts;

    /// Also by a run that was stopped in between, whose memory is gone.
    #[test]
    fn the_weights_that_come_back_are_those_of_the_epoch_that_was_kept() -> Result<()> {
        let (clip, texts) = (Clip::demo()?, text_set()?);
        let train = Dataset::new(Scenes::new(Domain::Target, 12, 3)).unlabeled();
        let run = Experiment::new(clip.clone(), texts.clone(), train.clone(), None);
        let features = signal_features(&run, &train, &mut silent)?.rows;
        let head = |seed| Head::linear(clip.config().projection, 12, &mut Rng::new(seed), &Device::Cpu);
        let zero_shot = ZeroShotClassifier::fit(&clip, texts.classes(), &Templates::single())?;
        let classifier = TextClassifier { head: head(1)? };
        let watch = || Watch::new(&run, train.clone(), &features, &classifier, &zero_shot, None);
        let tuned = |seed| {
            let prompts = VisualPrompts::shallow(2, clip.config().vision.width, &mut Rng::new(seed), &Device::Cpu)?;
            Ok::<_, Error>(Tuned { vision: clip.vision().clone(), prompts, head: head(seed)?, normalize: true })
        };
        let numbers = |tuned: &Tuned| -> Vec<Vec<f32>> {
            let all = known().into_iter().flat_map(|set| set.tensors(tuned));
            all.map(|(_, tensor)| tensor.flatten_all().unwrap().to_vec1().unwrap()).collect()
        };
        let (chosen, last, folder) = (tuned(5)?, tuned(6)?, tempfile::tempdir().unwrap());
        let file = folder.path().join("selected.safetensors");
        let (first, other) = (watch()?, watch()?);
        first.keep(&chosen, 3, Some(&file))?;
        for watch in [&first, &other] {
            assert_eq!(numbers(&watch.kept(&last, 3, Some(&file))?), numbers(&chosen));
        }
        assert_ne!(numbers(&chosen), numbers(&last));
        assert!(other.kept(&last, 4, Some(&file)).unwrap_err().to_string().contains("epoch 4"));
        Ok(())
    }
}
