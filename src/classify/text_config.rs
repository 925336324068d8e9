//! The settings of stage one, and what an epoch did.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nn::LrSchedule;

/// Beyond these a number is a mistake: it would take all memory, years, or end in values that are not finite.
pub(crate) const MOST_EPOCHS: usize = 10_000_000;
const MOST_HIDDEN: usize = 1_000_000;
const MOST_NOISE: f32 = 1e6;
const MOST_RATE: f64 = 100.0;

/// What the text classifier starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextStart {
    /// Random weights, as the released code of LaFTer.
    #[default]
    Random,
    /// W_c = unit(mean over the texts of class c of unit(u)): with 0 epochs the classifier itself (NoLA, DPA, MUST).
    ClassMeans,
}

/// How the text classifier is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextClassifierConfig {
    /// What it starts from: `random` weights, or `class_means`, the mean text feature of each class; default random.
    #[serde(default)]
    pub start: TextStart,
    /// Passes over the texts, 1 to 10 million; 0 only with `class_means`, which it leaves as they are. Default 400.
    pub epochs: usize,
    /// Texts per step; `None` (default) takes all of them at once, as the released code does.
    pub batch_size: Option<usize>,
    /// σ of the Gaussian noise on the unit features, 0 to a million; default 0.1.
    pub noise: f32,
    /// ε of the smoothed cross entropy, 0 ≤ ε < 1; default 0.1.
    #[serde(alias = "smoothing")] // as earlier versions wrote it
    pub label_smoothing: f64,
    /// η, the base learning rate of AdamW, above 0 and up to 100; default 5e-4.
    pub learning_rate: f64,
    /// λ, the weight decay of AdamW, at least 0 with η λ ≤ 1, on weights only; biases are exempt. Default 0.01.
    pub weight_decay: f64,
    /// The factor on the learning rate, step by step: `constant`, `{"warmup": {"warmup": 10}}` (steps) or
    /// `{"cosine": {"warmup": 10, "floor": 0}}`, floor 0 to 2; default constant.
    pub schedule: LrSchedule,
    /// Width of the hidden layer of an MLP, up to a million; `None` (default) is the linear classifier.
    pub hidden: Option<usize>,
    /// Share of each class's texts that is kept out of training, 0 to 0.5, always fewer than all: [signals](crate::eval::Signals)
    /// tell how many of them the head still names right. Default 0, none.
    #[serde(default)]
    pub hold_out: f64,
}

impl TextClassifierConfig {
    /// The released code: one full-batch step per epoch, 400 epochs (500 for ImageNet-sized sets), σ = 0.1.
    pub fn official() -> Self {
        Self {
            start: TextStart::Random,
            epochs: 400,
            batch_size: None,
            noise: 0.1,
            label_smoothing: 0.1,
            learning_rate: 5e-4,
            weight_decay: 0.01,
            schedule: LrSchedule::Constant,
            hidden: None,
            hold_out: 0.0,
        }
    }

    /// The paper's text: n ~ N(0, I) and 3,000 epochs; what it leaves open is as in [`official`](Self::official).
    pub fn paper() -> Self {
        Self { epochs: 3000, noise: 1.0, ..Self::official() }
    }

    /// Refuses values that cannot work.
    ///
    /// # Errors
    /// [`Error::Usage`] for the first setting that is out of its range.
    pub fn validate(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::Usage(format!("text classifier: {what}")));
        if self.start == TextStart::ClassMeans && self.hidden.is_some() {
            return wrong("class means are a linear classifier: leave hidden null, or start at random".into());
        }
        if self.epochs == 0 && self.start == TextStart::Random {
            return wrong("epochs must be at least 1; 0 needs text.start=class_means, which it leaves as they are".into());
        }
        if self.batch_size == Some(0) || self.hidden == Some(0) {
            return wrong("batch size and hidden width must be at least 1, or null".into());
        }
        if self.epochs > MOST_EPOCHS {
            return wrong(format!("at most {MOST_EPOCHS} epochs, got {}", self.epochs));
        }
        if let Some(hidden) = self.hidden.filter(|hidden| *hidden > MOST_HIDDEN) {
            return wrong(format!("the hidden layer is at most {MOST_HIDDEN} wide, got {hidden}"));
        }
        if !(0.0..=MOST_NOISE).contains(&self.noise) {
            return wrong(format!("noise σ must be at least 0 and up to {MOST_NOISE}, got {}", self.noise));
        }
        if !(0.0..=0.5).contains(&self.hold_out) {
            return wrong(format!("the share of texts kept out must lie in [0, 0.5], got {}", self.hold_out));
        }
        match optimizer_fault(self.learning_rate, self.weight_decay, self.label_smoothing, &self.schedule) {
            Some(fault) => wrong(fault),
            None => Ok(()),
        }
    }
}

/// What cannot work about the settings that both stages have.
pub(crate) fn optimizer_fault(learning_rate: f64, weight_decay: f64, smoothing: f64, schedule: &LrSchedule) -> Option<String> {
    if !(learning_rate > 0.0 && learning_rate <= MOST_RATE) {
        return Some(format!("learning rate must be above 0 and up to {MOST_RATE}, got {learning_rate}"));
    }
    // a step multiplies weights by 1 − η λ
    if !(weight_decay >= 0.0 && weight_decay * learning_rate <= 1.0) {
        return Some(format!("weight decay must lie in [0, 1 / learning rate], got {weight_decay}"));
    }
    if !(0.0..1.0).contains(&smoothing) {
        return Some(format!("label smoothing must lie in [0, 1), got {smoothing}"));
    }
    schedule.fault()
}

impl Default for TextClassifierConfig {
    fn default() -> Self {
        Self::official()
    }
}

/// Loss and training accuracy of one epoch, both on the noisy features.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextEpoch {
    /// Number of the epoch, from 1.
    pub epoch: usize,
    /// Mean loss of eq. 2 over the texts.
    pub loss: f32,
    /// Texts whose noisy feature is classified right, percent.
    pub accuracy: f32,
}
