//! Text and image features as a figure takes them: checked, thinned, of unit length.

use crate::error::{Error, Result};
use crate::rng::Rng;

/// More points of one modality than this are thinned: they would hide each other.
const MOST: usize = 1500;

/// Unit features of both modalities with their labels.
pub(super) struct Features {
    pub texts: Vec<Vec<f64>>,
    pub text_labels: Vec<usize>,
    pub images: Vec<Vec<f64>>,
    pub image_labels: Vec<usize>,
}

impl Features {
    /// Refuses what has no place on paper.
    pub(super) fn new(
        texts: &[Vec<f32>],
        text_labels: &[usize],
        images: &[Vec<f32>],
        image_labels: &[usize],
        classes: usize,
    ) -> Result<Self> {
        let d = texts.iter().chain(images).map(Vec::len).next().unwrap_or(0);
        if d < 2 || texts.iter().chain(images).any(|row| row.len() != d) {
            return Err(Error::Usage(format!(
                "scatter of {} text and {} image features: all must have one width of at least 2; do they come from the same CLIP?",
                texts.len(),
                images.len()
            )));
        }
        for (what, features, labels) in [("text", texts, text_labels), ("image", images, image_labels)] {
            if features.len() != labels.len() {
                return Err(Error::Usage(format!(
                    "scatter: {} {what} features with {} labels; give one per feature",
                    features.len(),
                    labels.len()
                )));
            }
            if let Some(label) = labels.iter().find(|label| **label >= classes) {
                return Err(Error::Usage(format!("scatter: a {what} has label {label}, but there are {classes} classes")));
            }
            if features.iter().flatten().any(|v| !v.is_finite()) {
                return Err(Error::Usage(format!("scatter: a {what} feature is not finite; look for it before drawing")));
            }
        }
        let (texts, text_labels) = thinned(texts, text_labels);
        let (images, image_labels) = thinned(images, image_labels);
        Ok(Self { texts, text_labels, images, image_labels })
    }

    /// Texts, then images.
    pub(super) fn all(&self) -> Vec<Vec<f64>> {
        self.texts.iter().chain(&self.images).cloned().collect()
    }

    /// The means of both modalities, if both are there.
    pub(super) fn means(&self) -> Option<(Vec<f64>, Vec<f64>)> {
        mean(&self.texts).zip(mean(&self.images))
    }
}

/// At most `most` of the indices below `n`, in order. The choice is always the same one; it is drawn, because even distances would fall
/// in step with what takes turns: classes, or the templates of each class.
pub(crate) fn drawn(n: usize, most: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    if n > most {
        Rng::new(0).shuffle(&mut order);
        order.truncate(most);
        order.sort_unstable();
    }
    order
}

/// At most [`MOST`] features, in 64 bits and of unit length (a feature of zeros stays one), with their labels.
fn thinned(features: &[Vec<f32>], labels: &[usize]) -> (Vec<Vec<f64>>, Vec<usize>) {
    let chosen = drawn(features.len(), MOST).into_iter().filter_map(|at| features.get(at).zip(labels.get(at)));
    chosen
        .map(|(feature, &label)| {
            let length = feature.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
            let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
            (feature.iter().map(|&v| f64::from(v) * scale).collect(), label)
        })
        .unzip()
}

fn mean(features: &[Vec<f64>]) -> Option<Vec<f64>> {
    let mut sum = vec![0.0; features.first()?.len()];
    for feature in features {
        sum.iter_mut().zip(feature).for_each(|(s, v)| *s += v / features.len() as f64);
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_drawn_falls_in_step_with_nothing() {
        let drawn = super::drawn(7000, 1000);
        let of_template = |template: usize| drawn.iter().filter(|at| *at % 7 == template).count();
        assert_eq!(drawn.len(), 1000);
        assert!((0..7).all(|template| of_template(template) > 100));
        assert!(drawn.is_sorted() && drawn == super::drawn(7000, 1000));
        assert_eq!(super::drawn(3, 1000), [0, 1, 2]);
    }
}
