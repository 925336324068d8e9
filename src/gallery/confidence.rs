//! How sure the teacher is of its pseudo-labels.

use candle_core::{D, DType, Device, Tensor};

use crate::classify::normalise;
use crate::embed;
use crate::error::{Error, Result};
use crate::experiment::Experiment;
use crate::lafter::LaFTer;
use crate::plot::{self, Figure};
use crate::progress::silent;
use crate::tune::TeacherHead;

/// More training images than this are not looked at again for the picture.
const MOST: usize = 300;

/// The softmax confidences of eq. 3, max_c softmax f(v(α_w(x))), on up to 300 training images: with the untouched tower,
/// and with the tuned one as the teacher of the last step had it (no prompts, tuned norms).
///
/// # Errors
/// [`Error::Usage`] before stage two.
pub fn teacher_confidences(experiment: &Experiment, lafter: &LaFTer) -> Result<(Vec<f64>, Vec<f64>)> {
    let (classifier, clip) = (lafter.text_classifier()?, lafter.clip());
    let tuned = lafter.tuned().ok_or_else(|| Error::Usage("there is no tuned tower yet: call fit_images first".into()))?;
    let head = match lafter.config.image.teacher_head {
        TeacherHead::Frozen => &classifier.head,
        TeacherHead::Shared => &tuned.head,
    };
    let images = experiment.train.take(MOST);
    let of = |f: &dyn Fn(&Tensor) -> Result<Tensor>| -> Result<Vec<f64>> {
        let logits = embed::images(&images, clip.preprocess(), clip.device(), embed::BATCH, "confidence", silent, f)?.rows;
        let probabilities = candle_nn::ops::softmax(&logits.to_dtype(DType::F32)?, D::Minus1)?.max(D::Minus1)?;
        Ok(probabilities.to_device(&Device::Cpu)?.to_vec1::<f32>()?.into_iter().map(f64::from).collect())
    };
    let before = of(&|pixels| classifier.logits(&clip.encode_image(pixels)?))?;
    let after = of(&|pixels| Ok(head.forward(&normalise(&tuned.vision.forward(pixels)?)?)?))?;
    Ok((before, after))
}

/// Both as histograms over one axis.
///
/// # Errors
/// [`Error::Usage`] where there is no value, or one is not finite.
///
/// ```
/// let figure = lafter::gallery::confidence(&[0.3, 0.35, 0.5], &[0.6, 0.8, 0.9])?;
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn confidence(before: &[f64], after: &[f64]) -> Result<Figure> {
    let percent = |values: &[f64]| values.iter().map(|v| 100.0 * v).collect::<Vec<f64>>();
    let samples = [("before tuning".to_string(), percent(before)), ("after tuning".to_string(), percent(after))];
    plot::histogram("Confidence of the pseudo-labels", "confidence, %", 25, &samples)
}
