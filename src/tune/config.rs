//! The settings of stage two.

use serde::{Deserialize, Serialize};

use crate::augment::{Preprocess, StrongAugment};
use crate::error::{Error, Result};
use crate::nn::{Precision, Schedule};

/// Whose head gives the pseudo-labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TeacherHead {
    /// A frozen copy of the text classifier: the released code.
    Frozen,
    /// The head that is being tuned: the paper's f_θ in eq. 3.
    Shared,
}

/// How the vision tower is tuned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinetuneConfig {
    pub epochs: usize,
    /// Images a step; a last, smaller batch of an epoch is dropped.
    pub batch_size: usize,
    pub learning_rate: f64,
    /// On visual prompts, norm scales and head weights; biases and norm shifts are exempt.
    pub weight_decay: f64,
    pub schedule: Schedule,
    /// ε of the smoothed cross entropy.
    pub smoothing: f64,
    /// Number of visual prompts; 0 tunes without any.
    pub prompts: usize,
    /// New prompts at every block (VPT-deep) instead of at the first only.
    pub deep_prompts: bool,
    /// Whether scale and shift of the vision tower's layer norms learn.
    pub tune_norms: bool,
    pub teacher_head: TeacherHead,
    /// Whether the student's features are unit-normalised before the head.
    pub normalise_student: bool,
    /// Whether the student sees strong views (the weak view otherwise: an ablation).
    pub augment: bool,
    /// Share of the image's area that a strong view's crop takes, drawn uniformly.
    pub crop_scale: (f32, f32),
    /// How often the strong view is blurred: always in the released code, half the time in SimSiam, the paper's reference.
    pub blur_probability: f32,
    /// Radius of that blur in pixels, drawn uniformly; meant for views of 224 pixels.
    pub blur_sigma: (f32, f32),
    /// Evaluate on the test set every so many epochs; 0 only after the last.
    pub eval_every: usize,
    /// Share of unreadable images above which the run fails.
    pub max_unreadable: f64,
    /// The numbers in which the tower's frozen layers multiply.
    #[serde(default)]
    pub precision: Precision,
}

impl FinetuneConfig {
    /// The released code, which produced the published numbers.
    pub fn official() -> Self {
        Self {
            epochs: 50,
            batch_size: 50,
            learning_rate: 5e-4,
            weight_decay: 0.01,
            schedule: Schedule::Constant,
            smoothing: 0.1,
            prompts: 50,
            deep_prompts: false,
            tune_norms: true,
            teacher_head: TeacherHead::Frozen,
            normalise_student: false,
            augment: true,
            crop_scale: (0.2, 1.0),
            blur_probability: 1.0,
            blur_sigma: (0.1, 2.0),
            eval_every: 1,
            max_unreadable: 0.05,
            precision: Precision::F32,
        }
    }

    /// The paper's text: the head of eq. 3 is the head of eq. 4, SimSiam's blur; what it leaves open is as in
    /// [`official`](Self::official).
    pub fn paper() -> Self {
        Self { teacher_head: TeacherHead::Shared, blur_probability: 0.5, ..Self::official() }
    }

    /// α_h: SimSiam's strong view at the side, mean and standard deviation of the weak view; the weak view itself where
    /// [`augment`](Self::augment) is off.
    pub fn strong_view(&self, weak: &Preprocess) -> StrongAugment {
        let (scale, blur_p, blur_sigma) = (self.crop_scale, self.blur_probability, self.blur_sigma);
        let view = match self.augment {
            true => StrongAugment { scale, blur_p, blur_sigma, ..StrongAugment::simsiam(weak.side()) },
            false => StrongAugment::none(weak.side()),
        };
        view.normalised_like(weak)
    }

    /// Refuses values that cannot work.
    pub fn validate(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::Usage(format!("tuning: {what}")));
        if self.batch_size == 0 {
            return wrong("batch size must be at least 1".into());
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return wrong(format!("learning rate must be above 0, got {}", self.learning_rate));
        }
        if !(0.0..1.0).contains(&self.smoothing) {
            return wrong(format!("smoothing must lie in [0, 1), got {}", self.smoothing));
        }
        self.strong_view(&Preprocess::clip(224)).validate()?;
        if !(0.0..=1.0).contains(&self.max_unreadable) {
            return wrong(format!("the tolerated share of unreadable images must lie in [0, 1], got {}", self.max_unreadable));
        }
        Ok(())
    }
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        Self::official()
    }
}
