//! The tuning loop: pseudo-labels from weak views (eq. 3), learning on strong views (eq. 4).

use std::time::Instant;

use candle_core::{D, Tensor};

use super::config::{FinetuneConfig, TeacherHead};
use super::prompts::VisualPrompts;
use super::records::{EpochRecord, EpochSums, OnDevice, StepRecord};
use super::sets::{ParameterSet, standard};
use super::trainable::Trainable;
use super::tuned::Tuned;
use crate::augment::{Preprocess, StrongAugment};
use crate::checkpoint::{Autosave, fingerprint};
use crate::classify::{Head, TextClassifier, normalise, smoothed_cross_entropy};
use crate::clip::{Clip, VisionTower};
use crate::data::{Dataset, Prefetch, Skipped, epoch_batches, prefetch_with};
use crate::embed;
use crate::error::{Error, Result};
use crate::eval::Evaluation;
use crate::nn::{AdamW, AdamWConfig, ParamGroup, Precision};
use crate::progress::{self, Event, Stage};
use crate::rng::Rng;

/// Steps on a GPU between two reads of their results.
const READ_EVERY: usize = 16;

/// Tunes visual prompts, layer-norm affines and the head on unlabeled images.
///
/// ```
/// use lafter::{classify::Head, classify::TextClassifier, clip::Clip, rng::Rng};
/// use lafter::tune::{FinetuneConfig, Finetuner};
/// use candle_core::{DType, Device, Tensor};
/// let clip = Clip::demo()?;
/// let head = Head::linear(clip.config().projection, 3, &mut Rng::new(1), &Device::Cpu)?;
/// let config = FinetuneConfig { prompts: 4, ..FinetuneConfig::official() };
/// let mut tuner = Finetuner::new(&clip, &TextClassifier { head }, config, &mut Rng::new(7777))?;
/// println!("{}", tuner.trainable().summary());
/// let side = clip.config().vision.image_size;
/// let view = Rng::new(2).normal_tensor((2, 3, side, side), 1.0, &Device::Cpu)?;
/// let first = tuner.step(&view, &view)?;
/// assert!(tuner.step(&view, &view)?.loss < first.loss);
/// # Ok::<(), lafter::Error>(())
/// ```
pub struct Finetuner {
    pub(super) config: FinetuneConfig,
    pub(super) clip: Clip,
    /// A hash of the text classifier that the run started from.
    pub(super) classifier: String,
    student: Tuned,
    /// The student's tower without prompts and without a graph; it shares the tuned norms.
    teacher: VisionTower,
    teacher_head: Head,
    pub(super) trainable: Trainable,
    pub(super) optimiser: AdamW,
    /// The stream that orders and augments; forked by epoch and image, so it never moves.
    pub(super) rng: Rng,
    weak: Preprocess,
    strong: StrongAugment,
    pub(super) sums: EpochSums,
    pub(super) history: Vec<EpochRecord>,
    /// Training images that could not be read; one log for all epochs.
    pub(super) skipped: Option<Skipped>,
    pub(super) autosave: Option<Autosave>,
}

impl Finetuner {
    /// Sets up student, teacher and optimiser; `rng` draws the prompts and seeds order and augmentation.
    ///
    /// # Errors
    /// [`Error::Usage`] for settings that cannot work, [`Error::Shape`] where the classifier expects features of another width.
    pub fn new(clip: &Clip, classifier: &TextClassifier, config: FinetuneConfig, rng: &mut Rng) -> Result<Self> {
        let mut sets = standard();
        if !config.tune_norms {
            sets.remove(1);
        }
        Self::with_sets(clip, classifier, config, sets, rng)
    }

    /// [`new`](Self::new) with a list of what learns.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_sets(
        clip: &Clip,
        classifier: &TextClassifier,
        config: FinetuneConfig,
        sets: Vec<Box<dyn ParameterSet>>,
        rng: &mut Rng,
    ) -> Result<Self> {
        config.validate()?;
        let (width, blocks) = (clip.config().vision.width, clip.config().vision.layers);
        let expected = clip.config().projection;
        if classifier.head.inputs() != expected {
            let inputs = classifier.head.inputs();
            return Err(Error::Shape(format!(
                "this CLIP's features have width {expected}, the text classifier expects {inputs}: train it on this CLIP"
            )));
        }
        let prompts = VisualPrompts::deep(config.prompts, width, if config.deep_prompts { blocks } else { 1 }, rng, clip.device())?;
        let mut vision = clip.vision().frozen();
        if config.precision != clip.precision() {
            vision = vision.packed(config.precision)?;
        }
        if config.precision == Precision::F32 && vision.precision() != Some(Precision::F32) {
            return Err(Error::Usage(format!(
                "tuning: precision is f32, but this CLIP was loaded with rounded weights (type {:?}, precision {:?}): load it in f32",
                clip.dtype(),
                clip.precision()
            )));
        }
        let mut student = Tuned { vision, prompts, head: classifier.head.clone(), normalise: config.normalise_student };
        let (mut params, mut total) = (Vec::new(), clip.parameter_count());
        for set in &sets {
            let learns = set.trainable(&mut student)?;
            total += if set.adds() { learns.iter().map(|param| param.var.elem_count()).sum() } else { 0 };
            params.extend(learns);
        }
        let adamw = AdamWConfig { learning_rate: config.learning_rate, ..AdamWConfig::default() };
        let optimiser = AdamW::new(ParamGroup::decay_weights(&params, config.weight_decay), adamw)?;
        let teacher_head = match config.teacher_head {
            TeacherHead::Frozen => classifier.head.copy()?,
            TeacherHead::Shared => student.head.frozen(),
        };
        let weak = clip.preprocess().clone();
        let strong = config.strong_view(&weak);
        Ok(Self {
            clip: clip.clone(),
            classifier: fingerprint(classifier.head.tensors().iter().map(|(_, tensor)| tensor))?,
            teacher: student.vision.frozen(),
            student,
            teacher_head,
            trainable: Trainable { params, total },
            optimiser,
            rng: rng.fork(0x7475_6e65),
            weak,
            strong,
            sums: EpochSums::default(),
            history: Vec::new(),
            skipped: None,
            autosave: None,
            config,
        })
    }

    /// What learns.
    pub fn trainable(&self) -> &Trainable {
        &self.trainable
    }

    /// The tower, prompts and head as they stand, without a graph; later steps change them, too.
    pub fn tuned(&self) -> Tuned {
        self.student.frozen()
    }

    /// The epochs done so far.
    pub fn history(&self) -> &[EpochRecord] {
        &self.history
    }

    /// Training images that could not be read, name and reason.
    pub fn skipped(&self) -> Vec<(String, String)> {
        self.skipped.as_ref().map(Skipped::entries).unwrap_or_default()
    }

    /// ĉ(x) = argmax_c f(v(α_w(x))): no prompts, current norms, unit features, no gradient. (eq. 3)
    ///
    /// # Shapes
    /// weak views `[batch, 3, side, side]` → class indices `[batch]` u32, and the softmax confidences `[batch]`.
    ///
    /// # Errors
    /// [`Error::Candle`] where the pixels do not fit the tower.
    pub fn pseudo_labels(&self, weak: &Tensor) -> Result<(Tensor, Tensor)> {
        let features = normalise(&self.teacher.forward(weak)?)?;
        let probabilities = candle_nn::ops::softmax(&self.teacher_head.forward(&features)?, D::Minus1)?;
        Ok((probabilities.argmax(D::Minus1)?, probabilities.max(D::Minus1)?))
    }

    /// min_{θ,η} L_SCE( f_θ( v^p_η(α_h(x)) ), ĉ(x) ): the loss of one batch, with its graph. (eq. 4)
    ///
    /// # Shapes
    /// strong views `[batch, 3, side, side]`, pseudo-labels `[batch]` → scalar, and the logits `[batch, C]`.
    ///
    /// # Errors
    /// [`Error::Candle`] where the pixels do not fit the tower, or there is not one pseudo-label per view.
    pub fn loss(&self, strong: &Tensor, pseudo_labels: &Tensor) -> Result<(Tensor, Tensor)> {
        let logits = self.student.logits(strong)?;
        Ok((smoothed_cross_entropy(&logits, pseudo_labels, self.config.smoothing)?, logits))
    }

    /// One step on a batch of weak and strong views of the same images at the base learning rate.
    ///
    /// # Errors
    /// [`Error::Candle`] where the pixels do not fit the tower, or weak and strong views differ in number.
    pub fn step(&mut self, weak: &Tensor, strong: &Tensor) -> Result<StepRecord> {
        self.step_at(weak, strong, 1.0)?.read()
    }

    fn step_at(&mut self, weak: &Tensor, strong: &Tensor, rate: f64) -> Result<OnDevice> {
        let (pseudo_labels, confidence) = self.pseudo_labels(weak)?;
        let (loss, logits) = self.loss(strong, &pseudo_labels)?;
        self.optimiser.step(&loss.backward()?, rate)?;
        let (loss, predictions) = (loss.detach(), logits.detach().argmax(D::Minus1)?);
        Ok(OnDevice { loss, pseudo_labels, predictions, confidence: confidence.mean_all()? })
    }

    /// Trains the epochs that are left (all of them, unless the tuner was resumed) and returns the history.
    ///
    /// # Errors
    /// As [`fit_epoch`](Self::fit_epoch).
    pub fn fit(&mut self, unlabeled: &Dataset, mut events: impl FnMut(&Event)) -> Result<Vec<EpochRecord>> {
        while self.history.len() < self.config.epochs {
            self.fit_epoch(unlabeled, &mut events)?;
        }
        Ok(self.history.clone())
    }

    /// One pass over the images. Interrupted, it stops between two steps: the tuner can be saved and goes on from there.
    ///
    /// # Errors
    /// [`Error::Data`] without images or with too many unreadable ones; [`Error::Diverged`] where a loss is not finite;
    /// [`Error::Interrupted`] between two steps; [`Error::Io`] where an autosave cannot be written.
    pub fn fit_epoch(&mut self, unlabeled: &Dataset, mut events: impl FnMut(&Event)) -> Result<EpochRecord> {
        let mut events = progress::watched(&mut events);
        let epoch = self.history.len();
        let rng = self.rng.fork(epoch as u64);
        let size = self.config.batch_size.min(unlabeled.len());
        let batches = epoch_batches(unlabeled.len(), size, true, Some(&mut rng.fork(u64::MAX)));
        let per_epoch = batches.len();
        if per_epoch == 0 {
            return Err(Error::Data("there are no images to tune on: check --train".into()));
        }
        let stage = Stage::part("tuning", epoch + 1, self.config.epochs.max(epoch + 1));
        events(&Event::Started { stage: stage.clone(), total: per_epoch, unit: "steps".into() });
        let skipped = self.skipped.get_or_insert_with(|| Skipped::new(unlabeled.len())).clone();
        let known = skipped.count();
        let mut views = self.views(unlabeled, batches[self.sums.steps.min(per_epoch)..].to_vec(), rng).log(&skipped);
        let (device, side) = (self.clip.device().clone(), self.clip.config().vision.image_size);
        let mut pending = Vec::new();
        loop {
            let started = Instant::now(); // waiting for the views counts
            let Some(batch) = views.next() else { break };
            if let Err(stopped) = progress::check_interrupt("tuning stopped between two steps") {
                self.read_steps(&mut pending, unlabeled)?;
                return Err(stopped);
            }
            let batch = batch?;
            let rate = self.config.schedule.factor(epoch * per_epoch + self.sums.steps, self.config.epochs * per_epoch);
            let n = batch.items.len();
            self.sums.steps += 1;
            if n == 0 {
                continue; // not one picture of the batch could be read
            }
            let (weak, strong): (Vec<_>, Vec<_>) = batch.items.into_iter().unzip();
            let pixels = |views: Vec<Vec<f32>>| Tensor::from_vec(views.concat(), (n, 3, side, side), &device);
            pending.push((batch.indices, self.step_at(&pixels(weak)?, &pixels(strong)?, rate)?));
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
        let record = std::mem::take(&mut self.sums).record(epoch + 1);
        events(&Event::Finished { stage, seconds: record.seconds });
        self.history.push(record.clone());
        Ok(record)
    }

    /// α_w(x) and α_h(x) of the pictures of each batch, made ahead in the background: planes `3 · side²`. A strong view draws
    /// from the epoch's stream forked by its picture, so that nothing depends on the order of the work.
    fn views(&self, unlabeled: &Dataset, batches: Vec<Vec<usize>>, rng: Rng) -> Prefetch<(Vec<f32>, Vec<f32>)> {
        let (weak, strong) = (self.weak.clone(), self.strong.clone());
        let views = prefetch_with(unlabeled, batches, 2, move |pictures, index| {
            let picture = pictures.image(index)?;
            let view = pictures.view(index, weak.kind(), Some(&picture), &|picture| weak.image(picture))?;
            Ok((weak.planes(&view), strong.apply(&picture, &mut rng.fork(index as u64))))
        });
        views.max_unreadable(self.config.max_unreadable)
    }

    /// Adds the results of finished steps to the epoch's sums; returns the loss of the last.
    fn read_steps(&mut self, pending: &mut Vec<(Vec<usize>, OnDevice)>, unlabeled: &Dataset) -> Result<f32> {
        let (mut last, epoch, sums) = (f32::NAN, self.history.len() + 1, &mut self.sums);
        for (indices, step) in pending.drain(..) {
            let StepRecord { loss, pseudo_labels, predictions, confidence } = step.read()?;
            if !loss.is_finite() {
                let rate = self.config.learning_rate;
                return Err(Error::Diverged(format!("the loss is {loss} in epoch {epoch}: lower the learning rate, now {rate}")));
            }
            let n = indices.len();
            sums.images += n;
            sums.loss += f64::from(loss) * n as f64;
            sums.confidence += f64::from(confidence) * n as f64;
            sums.agreed += predictions.iter().zip(&pseudo_labels).filter(|(a, b)| a == b).count();
            for (index, pseudo) in indices.iter().zip(&pseudo_labels) {
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

    /// LaFTer's inference on labeled images: weak view, prompted tower, tuned head.
    ///
    /// # Errors
    /// [`Error::Data`] where the images have no labels or too many cannot be read, [`Error::Usage`] where the head has
    /// another number of classes, [`Error::Interrupted`].
    pub fn evaluate(&self, test: &Dataset) -> Result<Evaluation> {
        self.evaluate_with(test, progress::silent)
    }

    /// [`evaluate`](Self::evaluate) with progress events.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn evaluate_with(&self, test: &Dataset, events: impl FnMut(&Event)) -> Result<Evaluation> {
        let tuned = self.tuned();
        let outputs =
            embed::images(test, &self.weak, self.clip.device(), embed::BATCH, "evaluating", events, |pixels| Ok(tuned.logits(pixels)?))?;
        outputs.evaluate(test)
    }
}

impl std::fmt::Debug for Finetuner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Finetuner(epoch {}/{}, {})", self.history.len(), self.config.epochs, self.trainable.summary())
    }
}
