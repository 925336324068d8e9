//! The text classifier: trained on noisy text features, applied to image features (eq. 2).

use candle_core::{D, DType, Result, Tensor};

use super::head::Head;
use crate::nn::normalize;

/// A head trained on text features that classifies image features of the same CLIP: cross-modal transfer.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use lafter::{classify::{TextClassifier, TextClassifierConfig}, rng::Rng};
/// let features = Tensor::new(&[[1f32, 0.], [0.9, 0.1], [0., 1.]], &Device::Cpu)?;
/// let config = TextClassifierConfig { epochs: 50, learning_rate: 0.05, ..TextClassifierConfig::official() };
/// let (classifier, history) = TextClassifier::fit(&features, &[0, 0, 1], &config, &mut Rng::new(1))?;
/// assert!(history[49].loss < history[0].loss);
/// assert_eq!(classifier.predict(&features)?, [0, 0, 1]);
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TextClassifier {
    /// f_θ: text or image features of unit length in, logits out.
    pub head: Head,
}

impl TextClassifier {
    /// Logits of image features of any device, on the head's: unit-normalized first, since the head saw unit text features.
    ///
    /// # Shapes
    /// `[n, d]` → `[n, C]`.
    ///
    /// # Errors
    /// If the features have another width than the head's.
    pub fn logits(&self, features: &Tensor) -> Result<Tensor> {
        let width = features.dim(D::Minus1)?;
        if width != self.head.inputs() {
            let expected = self.head.inputs();
            candle_core::bail!("expected features [n, {expected}], got [n, {width}]: was this classifier trained on another tower?");
        }
        let features = match self.head.layers.first() {
            Some(layer) => features.to_device(layer.weight.device())?,
            None => features.clone(),
        };
        self.head.forward(&normalize(&features.to_dtype(DType::F32)?)?)
    }

    /// The class index of each feature.
    ///
    /// # Errors
    /// As [`logits`](Self::logits).
    pub fn predict(&self, features: &Tensor) -> Result<Vec<usize>> {
        let indices = self.logits(features)?.argmax(D::Minus1)?.to_vec1::<u32>()?;
        Ok(indices.into_iter().map(|index| index as usize).collect())
    }
}
