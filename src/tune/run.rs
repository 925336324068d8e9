//! The finetuner on a data set: views made ahead, epochs, progress, unreadable pictures, history, checkpoints.

use std::collections::BTreeMap;
use std::time::Instant;

use candle_core::{DType, Tensor};

use super::finetuner::Finetuner;
use super::parts::Batch;
use super::records::{EpochRecord, EpochSums, OnDevice, StepRecord};
use super::targets::Views;
use super::weak_crop::WeakCrop;
use crate::augment::{Form, Preprocess, StrongAugment, Transfer, View};
use crate::checkpoint::Autosave;
use crate::data::meeting::{self, Meeting};
use crate::data::{Dataset, Prefetch, Skipped, epoch_batches, prefetch_with};
use crate::embed;
use crate::error::{Error, Result};
use crate::eval::{Evaluation, Signals};
use crate::progress::{self, Event, Stage};
use crate::ranks;
use crate::rng::Rng;

/// Steps on a GPU between two reads of their results.
const READ_EVERY: usize = 16;

/// Leads a [`Finetuner`] through the pictures of a data set, epoch by epoch. All that is not the method stands here: pictures
/// that are read ahead or cannot be read, progress, history, checkpoints.
///
/// ```
/// use lafter::{classify::Head, classify::TextClassifier, clip::Clip, data::scenes::{Domain, Scenes}, data::Dataset, rng::Rng};
/// use lafter::tune::{FinetuneConfig, Finetuner, Run};
/// let clip = Clip::demo()?;
/// let pictures = Dataset::new(Scenes::new(Domain::Target, 8, 1));
/// let head = Head::linear(clip.config().projection, pictures.classes().len(), &mut Rng::new(1), clip.device())?;
/// let config = FinetuneConfig { epochs: 2, batch_size: 4, prompts: 2, ..FinetuneConfig::official() };
/// let mut run = Run::new(Finetuner::new(&clip, &TextClassifier { head }, config, &mut Rng::new(7777))?);
/// let history = run.fit(&pictures, |_| {})?;
/// assert_eq!((history.len(), history[0].steps), (2, 2));
/// println!("{:.1} % right", run.evaluate(&pictures)?.top1);
/// # Ok::<(), lafter::Error>(())
/// ```
pub struct Run {
    /// The method; what it has learned so far is [`tuned`](Finetuner::tuned).
    pub tuner: Finetuner,
    pub(super) weak: Preprocess,
    /// `None` if the student sees the weak view.
    strong: Option<StrongAugment>,
    pub(super) sums: EpochSums,
    pub(super) history: Vec<EpochRecord>,
    /// Training images that could not be read; one log for all epochs.
    pub(super) skipped: Option<Skipped>,
    autosave: Option<Autosave>,
    /// Whether the rules have looked at the pictures: they do so once, before the first step.
    pub(super) prepared: bool,
    /// Whether teacher and terms know the pictures.
    pub(super) opened: bool,
    /// Hashes of the stored answers that a resumed run must find, by the place of the block that reads them.
    pub(super) stored: BTreeMap<usize, String>,
}

impl Run {
    /// Before the first epoch.
    pub fn new(tuner: Finetuner) -> Self {
        let weak = tuner.clip.preprocess().clone();
        let strong = tuner.config.augment.then(|| tuner.config.strong_view(&weak));
        let (sums, history) = (EpochSums::default(), Vec::new());
        Self { tuner, weak, strong, sums, history, skipped: None, autosave: None, prepared: false, opened: false, stored: BTreeMap::new() }
    }

    /// The epochs done so far.
    pub fn history(&self) -> &[EpochRecord] {
        &self.history
    }

    /// Training images that could not be read, name and reason.
    pub fn skipped(&self) -> Vec<(String, String)> {
        self.skipped.as_ref().map(Skipped::entries).unwrap_or_default()
    }

    /// From now on, it saves checkpoints by itself while it trains.
    pub fn autosave(&mut self, autosave: Autosave) {
        self.autosave = Some(autosave);
    }

    /// Trains the epochs that are left (all of them, unless the run was resumed) and returns the history.
    ///
    /// # Errors
    /// As [`fit_epoch`](Self::fit_epoch).
    pub fn fit(&mut self, unlabeled: &Dataset, mut events: impl FnMut(&Event)) -> Result<Vec<EpochRecord>> {
        while self.history.len() < self.tuner.config.epochs {
            self.fit_epoch(unlabeled, &mut events)?;
        }
        Ok(self.history.clone())
    }

    /// One pass over the images. Interrupted, it stops between two steps: the run can be saved and goes on from there.
    ///
    /// # Errors
    /// [`Error::Data`] without images or with too many unreadable ones; [`Error::Usage`] if stored answers are others than those
    /// of the checkpoint; [`Error::Diverged`] if a loss is not finite;
    /// [`Error::Interrupted`] between two steps; [`Error::Io`] if an autosave cannot be written.
    pub fn fit_epoch(&mut self, unlabeled: &Dataset, mut events: impl FnMut(&Event)) -> Result<EpochRecord> {
        let mut events = progress::watched(&mut events);
        let epoch = self.history.len();
        if unlabeled.is_empty() {
            return Err(Error::Data("there are no images to tune on: check --train".into()));
        }
        self.open(unlabeled, &mut events)?;
        self.prepare(unlabeled, &mut events)?;
        let rng = self.tuner.rng.fork(epoch as u64);
        let images = self.images(unlabeled)?;
        let size = self.tuner.config.batch_size.min(images.len());
        let mut batches = epoch_batches(images.len(), size, !self.tuner.config.keep_last, Some(&mut rng.fork(u64::MAX)));
        batches.iter_mut().flatten().for_each(|index| *index = images[*index]);
        let per_epoch = batches.len();
        let stage = Stage::part("tuning", epoch + 1, self.tuner.config.epochs.max(epoch + 1));
        events(&Event::Started { stage: stage.clone(), total: per_epoch, unit: "steps".into() });
        let skipped = self.skipped.get_or_insert_with(|| Skipped::new(unlabeled.len())).clone();
        let known = skipped.count();
        let todo = &batches[self.sums.steps.min(per_epoch)..];
        let own: Vec<Vec<usize>> = todo.iter().map(|batch| batch[ranks::own(batch.len(), &*self.tuner.ranks)].to_vec()).collect();
        let mut asked = own.clone().into_iter();
        let mut views = self.views(unlabeled, own, rng).log(&skipped);
        let device = self.tuner.clip.device().clone();
        let mut pixels = Transfer::new(&self.weak, &device)?;
        let mut pending = Vec::new();
        loop {
            let started = Instant::now(); // waiting for the views counts
            let Some(batch) = views.next() else { break };
            let read = batch.as_ref().map_or(&[][..], |batch| &batch.indices);
            let met = Meeting::held(&*self.tuner.ranks, &asked.next().unwrap_or_default(), read, &skipped)?;
            if met.stop {
                self.read_steps(&mut pending, unlabeled)?;
                return Err(Error::Interrupted("interrupted: tuning stopped between two steps".into()));
            }
            let batch = batch?;
            meeting::check_share(unlabeled, &skipped, self.tuner.config.max_unreadable)?;
            let (step, total) = self.place(per_epoch);
            let rate = self.tuner.config.schedule.factor(step, total);
            self.sums.steps += 1;
            if met.indices.is_empty() {
                continue; // not one picture of the batch could be read
            }
            let (weak, strong): (Vec<_>, Vec<_>) = batch.items.into_iter().unzip();
            let indices = met.indices.iter().map(|index| *index as u32).collect();
            let views = match weak.is_empty() {
                false => Views::new(pixels.batch(weak)?, pixels.batch(strong)?),
                true => Tensor::zeros((0, 3, self.weak.side(), self.weak.side()), DType::F32, &device)
                    .map(|none| Views::new(none.clone(), none))?,
            };
            let (step, features) = (self.tuner.optimizer.steps(), !self.tuner.refine.is_empty());
            let views = Views { indices, step, epoch, features, ..views };
            pending.push((met.indices, self.tuner.step_at(&Batch { views, own: met.own }, rate)?));
            let save = self.autosave.as_ref().and_then(Autosave::due);
            if device.is_cpu() || save.is_some() || pending.len() == READ_EVERY || self.sums.steps == per_epoch {
                let loss = Some(self.read_steps(&mut pending, unlabeled)?);
                events(&Event::Advanced { stage: stage.clone(), done: self.sums.steps, total: per_epoch, loss, accuracy: None });
            }
            self.sums.seconds += started.elapsed().as_secs_f64();
            if let Some(path) = save {
                self.checkpoint(path)?;
                self.autosave.iter_mut().for_each(Autosave::saved);
            }
        }
        self.read_steps(&mut pending, unlabeled)?;
        if let (true, Some(notice)) = (skipped.count() > known, skipped.summary()) {
            events(&Event::Notice(notice));
        }
        self.after_epoch(epoch, unlabeled, &mut events)?;
        let sums = std::mem::take(&mut self.sums);
        let quantiles = sums.quantiles();
        let record = sums.record(epoch + 1, self.tuner.objective.names());
        if record.kept == Some(0.0) {
            events(&Event::Notice(format!(
                "epoch {}: no pseudo-label counted; {quantiles}: lower the threshold, or set a temperature below {}",
                record.epoch, self.tuner.config.temperature
            )));
        }
        events(&Event::Finished { stage, seconds: record.seconds });
        self.history.push(record.clone());
        Ok(record)
    }

    /// The steps before the next one, and those of the whole run if the epochs to come have as many as this one: rules may choose other
    /// pictures after an epoch.
    fn place(&self, per_epoch: usize) -> (usize, usize) {
        let before: usize = self.history.iter().map(|epoch| epoch.steps).sum();
        let left = self.tuner.config.epochs.saturating_sub(self.history.len());
        (before + self.sums.steps, before + left * per_epoch)
    }

    /// α_w(x) and α_h(x) of the pictures of each batch, made ahead in the background. A strong view draws
    /// from the epoch's stream forked by its picture, so that nothing depends on the order of the work.
    fn views(&self, unlabeled: &Dataset, batches: Vec<Vec<usize>>, rng: Rng) -> Prefetch<(View, View)> {
        let (weak, strong, crop) = (self.weak.clone(), self.strong.clone(), self.tuner.config.weak_crop);
        // both are normalized alike
        let form = Form::new(self.tuner.clip.device()).strong_on_gpu(self.tuner.config.views_on_gpu);
        let views = prefetch_with(unlabeled, batches, 2, move |pictures, index| {
            let picture = pictures.image(index)?;
            let mut rng = rng.fork(index as u64);
            let view = crop.view(&weak, pictures, index, &picture, &rng)?;
            let student = match &strong {
                Some(strong) => form.strong(strong, &picture, &mut rng),
                None => form.view(WeakCrop::Center.view(&weak, pictures, index, &picture, &rng)?),
            };
            Ok((form.view(view), student))
        });
        views.max_unreadable(self.tuner.config.max_unreadable)
    }

    /// Adds the results of finished steps to the epoch's sums; returns the loss of the last.
    fn read_steps(&mut self, pending: &mut Vec<(Vec<usize>, OnDevice)>, unlabeled: &Dataset) -> Result<f32> {
        let (mut last, epoch, sums) = (f32::NAN, self.history.len() + 1, &mut self.sums);
        for (indices, step) in pending.drain(..) {
            if let Some(confidences) = &step.confidences {
                sums.count(&confidences.to_vec1::<f32>()?);
            }
            let step = step.read()?;
            let StepRecord { loss, confidence, kept, .. } = step;
            for (value, what) in [(loss, "loss"), (confidence, "confidence of the pseudo-labels")] {
                if !value.is_finite() {
                    let rate = self.tuner.config.learning_rate;
                    return Err(Error::Diverged(format!("the {what} is {value} in epoch {epoch}: lower the learning rate, now {rate}")));
                }
            }
            let n = indices.len();
            sums.blocks(n, &step);
            sums.images += n;
            sums.loss += f64::from(loss) * n as f64;
            sums.confidence += f64::from(confidence) * n as f64;
            if let Some(kept) = kept {
                *sums.kept.get_or_insert(0.0) += f64::from(kept) * n as f64;
            }
            sums.agreed += step.predictions.iter().zip(&step.pseudo_labels).filter(|(a, b)| a == b).count();
            for (index, pseudo) in indices.iter().zip(&step.pseudo_labels) {
                if let Some(label) = unlabeled.label(*index) {
                    sums.labeled += 1; // analysis only: nothing above has seen a label
                    sums.right += usize::from(label == *pseudo as usize);
                }
            }
            last = loss;
        }
        Ok(last)
    }

    /// Notes the test accuracy, percent, with the latest epoch in the history.
    pub fn note_test_accuracy(&mut self, top1: f64) {
        if let Some(record) = self.history.last_mut() {
            record.test_top1 = Some(top1);
        }
    }

    /// Notes the signals of a sample of pictures with the latest epoch in the history.
    pub fn note_signals(&mut self, signals: Signals) {
        if let Some(record) = self.history.last_mut() {
            record.signals = Some(signals);
        }
    }

    /// LaFTer's inference on labeled images: weak view, prompted tower, tuned head.
    ///
    /// # Errors
    /// [`Error::Data`] if the images have no labels or too many cannot be read, [`Error::Usage`] if the head has
    /// another number of classes, [`Error::Interrupted`].
    pub fn evaluate(&self, test: &Dataset) -> Result<Evaluation> {
        self.evaluate_with(test, progress::silent)
    }

    /// [`evaluate`](Self::evaluate) with progress events.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn evaluate_with(&self, test: &Dataset, events: impl FnMut(&Event)) -> Result<Evaluation> {
        let tuned = self.tuner.tuned();
        let outputs = embed::images(test, &self.weak, self.tuner.clip.device(), embed::BATCH, "evaluating", events, |pixels| {
            Ok(tuned.logits(pixels)?)
        })?;
        outputs.evaluate(test)
    }
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Run(epoch {}/{}, {:?})", self.history.len(), self.tuner.config.epochs, self.tuner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Clip;
    use crate::augment::ResizeTo;
    use crate::classify::{Head, TextClassifier};
    use crate::data::ImageSource;
    use crate::data::scenes::{Domain, Scenes};
    use crate::tune::FinetuneConfig;

    fn run(config: FinetuneConfig) -> Run {
        let clip = Clip::demo().unwrap();
        let head = Head::linear(clip.config().projection, 12, &mut Rng::new(5), clip.device()).unwrap();
        Run::new(Finetuner::new(&clip, &TextClassifier { head }, config, &mut Rng::new(7)).unwrap())
    }

    /// Three pictures of a size.
    struct OfSize(Scenes, u32, u32);

    impl ImageSource for OfSize {
        fn len(&self) -> usize {
            3
        }
        fn classes(&self) -> &[String] {
            self.0.classes()
        }
        fn label(&self, _: usize) -> Option<usize> {
            None
        }
        fn name(&self, index: usize) -> String {
            self.0.name(index)
        }
        fn image(&self, index: usize) -> Result<image::RgbImage> {
            Ok(crate::augment::ops::resize(&self.0.image(index)?, self.1, self.2, crate::augment::Resample::Bicubic))
        }
    }

    #[test]
    fn without_strong_views_the_student_sees_the_weak_view() {
        let mut run = run(FinetuneConfig { augment: false, prompts: 2, ..FinetuneConfig::official() });
        let plain = run.weak.clone();
        let squash = Preprocess { resize: ResizeTo::Exact { width: plain.crop, height: plain.crop }, ..plain.clone() };
        let larger = Preprocess { resize: ResizeTo::ShortestEdge(plain.crop + 6), ..plain.clone() };
        for (weak, width, height) in [(&plain, 50, 50), (&plain, 51, 50), (&plain, 70, 40), (&squash, 70, 40), (&larger, 50, 50)] {
            run.weak = weak.clone();
            let pictures = Dataset::new(OfSize(Scenes::new(Domain::Target, 3, 3), width, height));
            for batch in run.views(&pictures, vec![vec![0, 1, 2]], Rng::new(9)) {
                let batch = batch.unwrap();
                for (index, views) in batch.indices.iter().zip(batch.items) {
                    let picture = pictures.image(*index).unwrap();
                    let (View::Bytes(teacher), View::Bytes(student)) = views else { panic!("a recipe on the CPU") };
                    assert!(student == teacher && student == weak.image(&picture), "{weak:?} {width}x{height}");
                    if (weak, width) == (&plain, height) {
                        let before = StrongAugment::none(plain.side()).image(&picture, &mut Rng::new(1));
                        assert!(student == before, "squares that CLIP's own preprocessing prepares keep their bits");
                    }
                }
            }
        }
    }

    /// Rules may leave more or fewer pictures after an epoch: the place in the schedule goes on by one a step all the same.
    #[test]
    fn the_schedule_counts_the_steps_that_were_taken() {
        let mut run = run(FinetuneConfig { epochs: 5, prompts: 2, ..FinetuneConfig::official() });
        assert_eq!(run.place(10), (0, 50));
        run.sums.steps = 10;
        let epoch = std::mem::take(&mut run.sums).record(1, Vec::new());
        run.history.push(epoch);
        assert_eq!(run.place(10), (10, 50));
        run.sums.steps = 2;
        assert_eq!(run.place(4), (12, 26));
    }
}
