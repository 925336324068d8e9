//! The tuning step: pseudo-labels from weak views (eq. 3), learning on strong views (eq. 4). Files, events and epochs: [`Run`](super::Run).

use candle_core::{D, Tensor};

use super::config::{FinetuneConfig, TeacherHead};
use super::prompts::VisualPrompts;
use super::records::{OnDevice, StepRecord};
use super::sets::{ParameterSet, standard};
use super::trainable::Trainable;
use super::tuned::Tuned;
use crate::checkpoint::fingerprint;
use crate::classify::{Head, TextClassifier, normalise, smoothed_cross_entropy};
use crate::clip::{Clip, VisionTower};
use crate::error::{Error, Result};
use crate::nn::{AdamW, AdamWConfig, ParamGroup, Precision};
use crate::rng::Rng;

/// Tunes visual prompts, layer-norm affines and the head on unlabeled images, a step at a time; a [`Run`](super::Run) leads it
/// through a data set.
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
        Ok(Self {
            clip: clip.clone(),
            classifier: fingerprint(classifier.head.tensors().iter().map(|(_, tensor)| tensor))?,
            teacher: student.vision.frozen(),
            student,
            teacher_head,
            trainable: Trainable { params, total },
            optimiser,
            rng: rng.fork(0x7475_6e65),
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

    pub(super) fn step_at(&mut self, weak: &Tensor, strong: &Tensor, rate: f64) -> Result<OnDevice> {
        let (pseudo_labels, confidence) = self.pseudo_labels(weak)?;
        let (loss, logits) = self.loss(strong, &pseudo_labels)?;
        self.optimiser.step(&loss.backward()?, rate)?;
        let (loss, predictions) = (loss.detach(), logits.detach().argmax(D::Minus1)?);
        Ok(OnDevice { loss, pseudo_labels, predictions, confidence: confidence.mean_all()? })
    }
}

impl std::fmt::Debug for Finetuner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Finetuner({})", self.trainable.summary())
    }
}
