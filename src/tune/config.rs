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
    /// Passes over the images; default 50.
    pub epochs: usize,
    /// Images per step, at least 1; an epoch's last, smaller batch is dropped. Default 50.
    pub batch_size: usize,
    /// η, the base learning rate of AdamW, above 0; default 5e-4.
    pub learning_rate: f64,
    /// λ, the weight decay of AdamW, on visual prompts, norm scales and head weights; biases and norm shifts are exempt.
    /// Default 0.01.
    pub weight_decay: f64,
    /// The factor on the learning rate, step by step; default constant.
    pub schedule: Schedule,
    /// ε of the smoothed cross entropy, 0 ≤ ε < 1; default 0.1.
    pub smoothing: f64,
    /// N_P, the number of visual prompts; 0 tunes without any. Default 50.
    pub prompts: usize,
    /// Whether every block gets new prompts (VPT-deep), instead of the first only; default false.
    pub deep_prompts: bool,
    /// Whether scale and shift of the vision tower's layer norms learn; default true.
    pub tune_norms: bool,
    /// Which head gives the pseudo-labels ĉ(x) of eq. 3; default the frozen one.
    pub teacher_head: TeacherHead,
    /// Whether the student's features are unit-normalised before the head; default false.
    pub normalise_student: bool,
    /// Whether the student sees strong views (the weak view otherwise: an ablation); default true.
    pub augment: bool,
    /// Share of the image's area that a strong view's crop takes, 0 to 1, drawn uniformly; default (0.2, 1).
    pub crop_scale: (f32, f32),
    /// Probability that a strong view is blurred, 0 to 1: 1 in the released code (default), 0.5 in SimSiam, the paper's
    /// reference.
    pub blur_probability: f32,
    /// Standard deviation of that blur in pixels, drawn uniformly; meant for views of 224 pixels. Default (0.1, 2).
    pub blur_sigma: (f32, f32),
    /// Epochs between two evaluations on the test set, default 1; 0 evaluates only after the last.
    pub eval_every: usize,
    /// Share of unreadable images above which the run fails, 0 to 1; default 0.05.
    pub max_unreadable: f64,
    /// The number format in which the tower's frozen layers multiply; default f32.
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
    ///
    /// # Errors
    /// [`Error::Usage`] for the first setting that is out of its range.
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
