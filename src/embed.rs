//! Features of whole data sets and text sets: passes over pictures, the cache of text features.

mod cache;
mod kept;
mod once;
mod pass;
mod texts;

use candle_core::{Device, Tensor};
use lafter_fast::with_f32;

use crate::augment::Preprocess;
use crate::clip::Clip;
use crate::data::Dataset;
use crate::describe::TextSet;
use crate::error::{Error, Result};
use crate::eval::Evaluation;
use crate::progress::{Event, silent};

pub use cache::FeatureCache;
pub use kept::{Keep, Kept};
pub(crate) use once::{Lasting, Stored};
pub use pass::Pass;
pub use texts::{texts, texts_among};

/// Images per batch unless stated otherwise; the released code evaluates in batches of 50.
pub const BATCH: usize = 50;

/// Rows for the images of a data set that could be read, in input order.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// `[n, width]` f32: features or logits.
    pub rows: Tensor,
    /// Which image of the data set each row belongs to.
    pub indices: Vec<usize>,
    /// Images left out because they could not be read, with the reason.
    pub skipped: Vec<(String, String)>,
    /// Time that it took, decoding included, in seconds.
    pub seconds: f64,
}

impl Encoded {
    /// Other rows for the same images: features become logits.
    ///
    /// # Shapes
    /// `f`: rows `[n, width]` → `[n, any width]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `f` does not keep the number of rows, and the errors of `f`.
    ///
    /// ```
    /// use lafter::prelude::*;
    /// use lafter::data::scenes::{self, Domain, Scenes};
    /// let (clip, pictures) = (Clip::demo()?, Dataset::new(Scenes::new(Domain::Source, 24, 1)));
    /// let zero_shot = ZeroShotClassifier::fit(&clip, pictures.classes(), &Templates::single())?;
    /// let features = pictures.embed(&clip)?;
    /// let evaluation = features.map(|features| zero_shot.logits(features))?.evaluate(&pictures)?;
    /// assert!(evaluation.top1 > 50.0);
    /// # Ok::<(), lafter::Error>(())
    /// ```
    pub fn map<E>(&self, f: impl FnOnce(&Tensor) -> Result<Tensor, E>) -> Result<Self>
    where
        Error: From<E>,
    {
        let rows = f(&self.rows)?;
        if rows.dim(0)? != self.indices.len() {
            let (images, dims) = (self.indices.len(), rows.dims().to_vec());
            return Err(Error::Shape(format!("expected a row for each of {images} images, got {dims:?}: do not drop or add rows")));
        }
        Ok(Self { rows, ..self.clone() })
    }

    /// Reads the rows as logits and compares them with the data set's labels.
    ///
    /// # Errors
    /// [`Error::Data`] if the images have no labels, [`Error::Usage`] if there is not one logit per class, [`Error::Shape`]
    /// for logits that are not finite.
    pub fn evaluate(&self, dataset: &Dataset) -> Result<Evaluation> {
        let labels = self.labels(dataset)?;
        with_f32(&self.rows.to_device(&Device::Cpu)?, |logits| Evaluation::from_logits(logits, &labels, dataset.classes()))?
    }

    fn labels(&self, dataset: &Dataset) -> Result<Vec<usize>> {
        let label = |index: &usize| dataset.label(*index);
        self.indices.iter().map(label).collect::<Option<_>>().ok_or_else(|| {
            Error::Data(
                "these images have no labels, so there is nothing to evaluate against: use `lafter predict`, or a labeled --test".into(),
            )
        })
    }

    /// Images per second.
    pub fn rate(&self) -> f64 {
        self.indices.len() as f64 / self.seconds.max(1e-9)
    }
}

/// Applies `f` to the weak views of a data set, batch by batch, in input order; decoding runs ahead in the background.
/// [`Pass`] is the same with all its settings as fields.
///
/// # Shapes
/// `f`: pixels `[batch, 3, side, side]` → `[batch, width]`.
///
/// # Errors
/// As [`Pass::run`].
pub fn images(
    dataset: &Dataset,
    preprocess: &Preprocess,
    device: &Device,
    batch_size: usize,
    stage: &str,
    events: impl FnMut(&Event),
    f: impl FnMut(&Tensor) -> Result<Tensor>,
) -> Result<Encoded> {
    Pass { dataset, preprocess, device, batch_size, stage, max_unreadable: 0.05, keep: None }.run(events, f)
}

impl Dataset {
    /// Features of every picture's weak view, not normalized: `[n, d]` f32 in input order. [`images`] also takes
    /// progress events, another batch size or another function.
    ///
    /// # Errors
    /// As [`images`].
    pub fn embed(&self, clip: &Clip) -> Result<Encoded> {
        Pass::new(self, clip, "embedding pictures").run(silent, |pixels| clip.encode_image(pixels))
    }
}

impl TextSet {
    /// Features of every sentence, `[n, d]` f32, not normalized, in the order of [`labels`](TextSet::labels).
    ///
    /// # Errors
    /// As [`texts`].
    pub fn embed(&self, clip: &Clip) -> Result<Tensor> {
        texts(clip, self.sentences(), None, |_| {})
    }
}

#[cfg(test)]
mod tests;
