//! The zero-shot classifier: class names in templates, no training (eq. 1).

use candle_core::{D, DType, Result, Tensor};

use crate::nn::normalize;

/// p(c|x) = softmax_c( cos(u_c, v(x)) / τ ), u_c the unit mean of the unit features of the class's texts. (eq. 1)
///
/// ```
/// use lafter::{classify::ZeroShotClassifier, clip::Clip, describe::Templates};
/// let clip = Clip::demo()?;
/// let classifier = ZeroShotClassifier::fit(&clip, &["house", "fish"], &Templates::single())?;
/// assert_eq!(classifier.weights.dims(), [2, clip.config().projection]);
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ZeroShotClassifier {
    /// `[C, d]`, rows of unit length.
    pub weights: Tensor,
    /// 1/τ, CLIP's learned logit scale.
    pub scale: f64,
}

impl ZeroShotClassifier {
    /// From text features `[n, d]` and the class index of each.
    ///
    /// # Errors
    /// If there is no text, not one label per text, or a class index below the highest has no text.
    pub fn from_features(features: &Tensor, labels: &[usize], scale: f64) -> Result<Self> {
        let n = features.dim(0)?;
        if n != labels.len() || n == 0 {
            candle_core::bail!("{n} text features but {} labels: one label per text, and at least one text", labels.len());
        }
        let unit = normalize(&features.to_dtype(DType::F32)?)?;
        let classes = labels.iter().max().map_or(0, |max| max.saturating_add(1));
        if classes > n {
            candle_core::bail!("class {} of {n} texts: give each class below it at least one", classes - 1);
        }
        let mut members = vec![Vec::new(); classes];
        labels.iter().zip(0u32..).for_each(|(class, text)| members[*class].push(text));
        let mut rows = Vec::with_capacity(classes);
        for (class, members) in members.into_iter().enumerate() {
            if members.is_empty() {
                candle_core::bail!("class {class} has no text: give each class at least one");
            }
            let members = Tensor::new(members, unit.device())?;
            rows.push(unit.index_select(&members, 0)?.mean_keepdim(0)?); // [1, d]
        }
        Ok(Self { weights: normalize(&Tensor::cat(&rows, 0)?)?, scale })
    }

    /// Image features `[n, d]` of any device → logits `[n, C]` on the classifier's; their softmax is eq. 1.
    ///
    /// # Errors
    /// If the features have another width than the classifier's.
    pub fn logits(&self, features: &Tensor) -> Result<Tensor> {
        let (width, expected) = (features.dim(D::Minus1)?, self.weights.dim(1)?);
        if width != expected {
            candle_core::bail!("expected features [n, {expected}], got [n, {width}]: encode images and texts with the same CLIP");
        }
        let features = features.to_device(self.weights.device())?.to_dtype(DType::F32)?;
        normalize(&features)?.matmul(&self.weights.t()?)? * self.scale
    }
}
