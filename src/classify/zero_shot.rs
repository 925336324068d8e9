//! The zero-shot classifier: class names in templates, no training (eq. 1).

use candle_core::{D, DType, Tensor};

use super::normalise;
use crate::clip::Clip;
use crate::describe::Templates;
use crate::error::{Error, Result};

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
    /// Embeds every class name in every template.
    ///
    /// # Errors
    /// [`Error::Shape`] without a class, [`Error::Tokenizer`] for a text that cannot be tokenized, [`Error::Interrupted`].
    pub fn fit(clip: &Clip, classes: &[impl AsRef<str>], templates: &Templates) -> Result<Self> {
        let texts: Vec<String> = classes.iter().flat_map(|class| templates.fill(class.as_ref())).collect();
        let labels: Vec<usize> = (0..classes.len()).flat_map(|class| std::iter::repeat_n(class, templates.len())).collect();
        Self::from_features(&clip.encode_text(&texts)?, &labels, clip.logit_scale())
    }

    /// From text features `[n, d]` and the class index of each.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is no text or not one label per text, [`Error::Text`] for a class index below the highest
    /// that has no text.
    pub fn from_features(features: &Tensor, labels: &[usize], scale: f64) -> Result<Self> {
        let n = features.dim(0)?;
        if n != labels.len() || n == 0 {
            return Err(Error::Shape(format!("{n} text features but {} labels: one label per text, and at least one text", labels.len())));
        }
        let unit = normalise(&features.to_dtype(DType::F32)?)?;
        let classes = labels.iter().max().map_or(0, |max| max + 1);
        let mut members = vec![Vec::new(); classes];
        labels.iter().zip(0u32..).for_each(|(class, text)| members[*class].push(text));
        let mut rows = Vec::with_capacity(classes);
        for (class, members) in members.into_iter().enumerate() {
            if members.is_empty() {
                return Err(Error::Text(format!("class {class} has no text: give each class at least one")));
            }
            let members = Tensor::new(members, unit.device())?;
            rows.push(unit.index_select(&members, 0)?.mean_keepdim(0)?); // [1, d]
        }
        Ok(Self { weights: normalise(&Tensor::cat(&rows, 0)?)?, scale })
    }

    /// Image features `[n, d]` → logits `[n, C]`; their softmax is eq. 1.
    ///
    /// # Errors
    /// [`Error::Shape`] for features of another width than the classifier's.
    pub fn logits(&self, features: &Tensor) -> Result<Tensor> {
        let (width, expected) = (features.dim(D::Minus1)?, self.weights.dim(1)?);
        if width != expected {
            return Err(Error::Shape(format!(
                "expected features [n, {expected}], got [n, {width}]: encode images and texts with the same CLIP"
            )));
        }
        Ok((normalise(&features.to_dtype(DType::F32)?)?.matmul(&self.weights.t()?)? * self.scale)?)
    }
}
