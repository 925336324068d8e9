//! The tuning step: pseudo-labels from weak views (eq. 3), learning on strong views (eq. 4). Files, events and epochs: [`Run`](super::Run).

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use lafter_fast as fast;

use super::config::FinetuneConfig;
use super::objective::Objective;
use super::parts::Batch;
use super::prompts::VisualPrompts;
use super::records::{OnDevice, StepRecord};
use super::refine::Refine;
use super::sets::ParameterSet;
use super::setup::Setup;
use super::targets::{Stateful, Targets, Views};
use super::teacher::Teacher;
use super::trainable::Trainable;
use super::tuned::Tuned;
use crate::checkpoint::fingerprint;
use crate::classify::TextClassifier;
use crate::clip::Clip;
use crate::error::{Error, Result};
use crate::nn::{AdamW, AdamWConfig, ParamGroup, Precision};
use crate::ranks::{self, Alone, Ranks};
use crate::rng::Rng;

/// Tunes visual prompts, layer-norm affines and the head on unlabeled images, a step at a time; a [`Run`](super::Run) leads it
/// through a data set.
///
/// ```
/// use lafter::{classify::Head, classify::TextClassifier, clip::Clip, rng::Rng};
/// use lafter::tune::{FinetuneConfig, Finetuner, Views};
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
///
/// // the step in your own hands: change what you like between the lines
/// let views = Views::new(view.clone(), view);
/// let targets = tuner.targets(&views)?; // eq. 3: the teacher's answer, refined
/// let (loss, _logits) = tuner.loss(&views, &targets)?; // eq. 4
/// tuner.apply(&loss)?;
/// # Ok::<(), lafter::Error>(())
/// ```
pub struct Finetuner {
    pub(super) config: FinetuneConfig,
    pub(super) clip: Clip,
    /// A hash of the text classifier that the run started from.
    pub(super) classifier: String,
    pub(super) student: Tuned,
    /// Who gives the pseudo-labels (eq. 3).
    pub teacher: Box<dyn Teacher>,
    /// What happens to them before the loss, in this order; nothing in LaFTer.
    pub refine: Vec<Box<dyn Refine>>,
    /// What the student learns from (eq. 4).
    pub objective: Objective,
    pub(super) trainable: Trainable,
    pub(super) optimizer: AdamW,
    /// The stream that orders and augments; forked by epoch and image, so it never moves.
    pub(super) rng: Rng,
    /// The processes that share the run.
    pub(super) ranks: Arc<dyn Ranks>,
}

impl Finetuner {
    /// Sets up student, teacher and optimizer; `rng` draws the prompts and seeds order and augmentation.
    ///
    /// # Errors
    /// [`Error::Usage`] for settings that cannot work, [`Error::Shape`] if the classifier expects features of another width.
    pub fn new(clip: &Clip, classifier: &TextClassifier, config: FinetuneConfig, rng: &mut Rng) -> Result<Self> {
        let sets = config.sets();
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
        config.check_device(clip.device())?;
        let (width, blocks) = (clip.config().vision.width, clip.config().vision.layers);
        let expected = clip.config().projection;
        if classifier.head.inputs() != expected {
            let inputs = classifier.head.inputs();
            return Err(Error::Shape(format!(
                "this CLIP's features have width {expected}, the text classifier expects {inputs}: train it on this CLIP"
            )));
        }
        let prompts = VisualPrompts::deep(config.prompts, width, if config.deep_prompts { blocks } else { 1 }, rng, clip.device())?;
        let mut vision = clip.vision().detached();
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
        let head = config.head_form.of(&classifier.head)?;
        let mut student = Tuned { vision, prompts, head: head.clone(), normalize: config.normalize_student };
        if let Some(low_rank) = &config.low_rank {
            low_rank.begin(&mut student.vision, rng)?;
        }
        let (mut params, mut total) = (Vec::new(), clip.parameter_count());
        for set in &sets {
            let learns = set.trainable(&mut student)?;
            total += if set.adds() { learns.iter().map(|param| param.var.elem_count()).sum() } else { 0 };
            params.extend(learns);
        }
        let adamw = AdamWConfig { learning_rate: config.learning_rate, ..AdamWConfig::default() };
        let optimizer = AdamW::new(ParamGroup::decay_weights(&params, config.weight_decay), adamw)?;
        let setup = Setup { clip, head: &head, student: &student, config: &config, sets: &sets, params: &params, rng };
        let teacher = config.teacher.block(&setup)?;
        let refine = config.refine.iter().map(|kind| kind.block(&setup)).collect::<candle_core::Result<_>>()?;
        let objective = Objective::new(&config.objective, &setup)?;
        Ok(Self {
            clip: clip.clone(),
            classifier: fingerprint(classifier.head.tensors().iter().map(|(_, tensor)| tensor))?,
            student,
            teacher,
            refine,
            objective,
            trainable: Trainable { params, total },
            optimizer,
            rng: rng.fork(0x7475_6e65),
            ranks: Arc::new(Alone),
            config,
        })
    }

    /// Shares its steps among several processes, of which each made the same tuner: a [`Run`](super::Run) then works on this
    /// process's rows of every batch, and [`step`](Self::step) takes them.
    pub fn share_among(&mut self, ranks: Arc<dyn Ranks>) {
        self.ranks = ranks;
    }

    /// What learns.
    pub fn trainable(&self) -> &Trainable {
        &self.trainable
    }

    /// The tower, prompts and head as they stand, without a graph; later steps change them, too.
    pub fn tuned(&self) -> Tuned {
        self.student.detached()
    }

    /// ĉ(x) = argmax_c f(v(α_w(x))): no prompts, current norms, unit features, no gradient; before any refinement. (eq. 3)
    ///
    /// # Shapes
    /// weak views `[batch, 3, side, side]` → class indices `[batch]` u32, and the softmax confidences `[batch]`.
    ///
    /// # Errors
    /// [`Error::Candle`] if the pixels do not fit the tower.
    pub fn pseudo_labels(&self, weak: &Tensor) -> Result<(Tensor, Tensor)> {
        let targets = self.teacher.targets(&Views::new(weak.clone(), weak.clone()))?;
        Ok((targets.labels, targets.confidence))
    }

    /// The teacher's answer, and what the refinements make of it. (eq. 3)
    ///
    /// # Errors
    /// [`Error::Candle`] if the pixels do not fit the tower, or the views lack what a block needs.
    pub fn targets(&mut self, views: &Views) -> Result<Targets> {
        let views = &self.placed(views);
        let answer = self.teacher.targets(views)?;
        self.refined(views, answer)
    }

    /// What the refinements make of the teacher's answer.
    pub(super) fn refined(&mut self, views: &Views, answer: Targets) -> Result<Targets> {
        Ok(self.refine.iter_mut().try_fold(answer, |targets, rule| rule.refine(views, targets))?)
    }

    /// min_{θ,η} L_SCE( f_θ( v^p_η(α_h(x)) ), ĉ(x) ) and the other terms of the objective: the loss of one batch, with its
    /// graph. (eq. 4)
    ///
    /// # Shapes
    /// strong views `[batch, 3, side, side]` → scalar, and the logits `[batch, C]`.
    ///
    /// # Errors
    /// [`Error::Candle`] if the pixels do not fit the tower, or there is not one pseudo-label per view.
    pub fn loss(&mut self, views: &Views, targets: &Targets) -> Result<(Tensor, Tensor)> {
        let (loss, _, logits) = self.losses(&self.placed(views), targets)?;
        Ok((loss, logits))
    }

    /// Views with the number of the step that they are for, which a loop of one's own need not count.
    fn placed(&self, views: &Views) -> Views {
        Views { step: views.step.max(self.optimizer.steps()), ..views.clone() }
    }

    /// The loss, its terms and the logits.
    fn losses(&mut self, views: &Views, targets: &Targets) -> Result<(Tensor, Vec<Tensor>, Tensor)> {
        let logits = self.student.logits(&views.strong)?;
        let terms = self.objective.each(views, &self.student, &logits, targets)?;
        Ok((self.objective.sum(&terms)?, terms, logits))
    }

    /// One update of all that learns, at the base learning rate; the teacher follows.
    ///
    /// # Errors
    /// [`Error::Candle`] if a parameter has no part in the loss.
    pub fn apply(&mut self, loss: &Tensor) -> Result<()> {
        self.apply_at(loss, 1.0)
    }

    /// [`apply`](Self::apply) with a factor on the learning rate.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn apply_at(&mut self, loss: &Tensor, factor: f64) -> Result<()> {
        self.update(&fast::backward(loss)?, factor)
    }

    /// One update with the gradients of a loss; the teacher follows.
    pub(super) fn update(&mut self, gradients: &GradStore, factor: f64) -> Result<()> {
        let step = self.optimizer.steps();
        self.optimizer.step(gradients, factor)?;
        Ok(self.teacher.after_step(&self.student, step)?)
    }

    /// One step on a batch of weak and strong views of the same images at the base learning rate.
    ///
    /// # Errors
    /// [`Error::Candle`] if the pixels do not fit the tower, or weak and strong views differ in number.
    pub fn step(&mut self, weak: &Tensor, strong: &Tensor) -> Result<StepRecord> {
        let (step, features) = (self.optimizer.steps(), !self.refine.is_empty());
        let views = Views { step, features, ..Views::new(weak.clone(), strong.clone()) };
        let mut batch = Batch::whole(views)?;
        if self.ranks.size() > 1 {
            let before: usize = ranks::told(&*self.ranks, &batch.own.len())?[..self.ranks.rank()].iter().sum();
            batch.own = before..before + batch.own.len();
        }
        self.step_at(&batch, 1.0)?.read()
    }

    /// The method, on the whole batch at once if it may be.
    pub(super) fn step_at(&mut self, batch: &Batch, factor: f64) -> Result<OnDevice> {
        let (views, at_once) = (&batch.views, self.config.micro_batch.unwrap_or(usize::MAX));
        if self.ranks.size() > 1 || batch.own.len() > at_once {
            return self.step_in_parts(batch, at_once, factor);
        }
        let targets = self.targets(views)?;
        let (loss, terms, logits) = self.losses(views, &targets)?;
        self.apply_at(&loss, factor)?;
        OnDevice::of(&targets, &loss, &terms, &logits)
    }

    /// Hashes of the stored answers that blocks read, by their places among [`blocks`](Self::blocks).
    pub(super) fn stored(&self) -> BTreeMap<usize, String> {
        self.blocks().iter().enumerate().filter_map(|(place, block)| Some((place, block.reads()?))).collect()
    }

    /// Its blocks, in the order in which their memory is saved.
    pub(super) fn blocks(&self) -> Vec<&dyn Stateful> {
        let rules = self.refine.iter().map(|rule| &**rule as &dyn Stateful);
        let terms = self.objective.terms.iter().map(|(_, term)| &**term as &dyn Stateful);
        std::iter::once(&*self.teacher as &dyn Stateful).chain(rules).chain(terms).collect()
    }

    pub(super) fn blocks_mut(&mut self) -> Vec<&mut dyn Stateful> {
        let rules = self.refine.iter_mut().map(|rule| &mut **rule as &mut dyn Stateful);
        let terms = self.objective.terms.iter_mut().map(|(_, term)| &mut **term as &mut dyn Stateful);
        std::iter::once(&mut *self.teacher as &mut dyn Stateful).chain(rules).chain(terms).collect()
    }
}

impl std::fmt::Debug for Finetuner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Finetuner({})", self.trainable.summary())
    }
}
