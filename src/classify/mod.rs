//! From texts to a classifier: zero-shot (eq. 1) and trained on noisy text features (eq. 2).

mod fused_texts;
mod head;
mod mean;
mod noisy_texts;
mod text_config;
mod trainer;
mod zero_shot;

pub use head::{Head, TextClassifier};
pub use noisy_texts::NoisyTexts;
pub(crate) use text_config::{MOST_EPOCHS, optimizer_fault};
pub use text_config::{TextClassifierConfig, TextEpoch, TextStart};
pub use trainer::{HeldOut, TextTrainer};
pub use zero_shot::ZeroShotClassifier;

pub use crate::nn::{normalize, smoothed_cross_entropy, smoothed_cross_entropy_rows};

use crate::clip::Clip;
use crate::describe::Templates;
use crate::error::Result;
use crate::progress::silent;
use crate::ranks::{Alone, Ranks};

impl ZeroShotClassifier {
    /// Embeds every class name in every template.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) without a class, [`Error::Tokenizer`](crate::Error::Tokenizer) for a text that
    /// cannot be tokenized, [`Error::Interrupted`](crate::Error::Interrupted).
    pub fn fit(clip: &Clip, classes: &[impl AsRef<str>], templates: &Templates) -> Result<Self> {
        Self::fit_among(&Alone, clip, classes, templates)
    }

    /// [`fit`](Self::fit) shared among ranks: each embeds some of the texts, and all get the classifier of one process.
    ///
    /// # Errors
    /// As [`fit`](Self::fit); if a rank is gone.
    pub fn fit_among(ranks: &dyn Ranks, clip: &Clip, classes: &[impl AsRef<str>], templates: &Templates) -> Result<Self> {
        let texts: Vec<String> = classes.iter().flat_map(|class| templates.fill(class.as_ref())).collect();
        let labels: Vec<usize> = (0..classes.len()).flat_map(|class| std::iter::repeat_n(class, templates.len())).collect();
        Ok(Self::from_features(&clip.encode_text_among(ranks, &texts, silent)?, &labels, clip.logit_scale())?)
    }
}
