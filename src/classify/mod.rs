//! From texts to a classifier: zero-shot (eq. 1) and trained on noisy text features (eq. 2).

mod fused_texts;
mod head;
mod loss;
mod noisy_texts;
mod text_classifier;
mod trainer;
mod zero_shot;

pub use head::Head;
pub use loss::{smoothed_cross_entropy, smoothed_cross_entropy_rows};
pub use noisy_texts::NoisyTexts;
pub(crate) use text_classifier::{MOST_EPOCHS, optimiser_fault};
pub use text_classifier::{TextClassifier, TextClassifierConfig, TextEpoch};
pub use trainer::TextTrainer;
pub use zero_shot::ZeroShotClassifier;

use candle_core::{D, Result, Tensor};

/// x / ‖x‖ over the last dimension: features `[n, d]` of unit length.
///
/// # Errors
/// If `features` is a scalar (Candle's).
///
/// ```
/// use candle_core::{Device, Tensor};
/// let unit = lafter::classify::normalise(&Tensor::new(&[[3f32, 4.]], &Device::Cpu)?)?;
/// assert_eq!(unit.to_vec2::<f32>()?, [[0.6, 0.8]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn normalise(features: &Tensor) -> Result<Tensor> {
    features.broadcast_div(&features.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?)
}
