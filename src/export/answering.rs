//! Whose answers leave the crate.

use crate::classify::{TextClassifier, ZeroShotClassifier};
use crate::error::{Error, Result};
use crate::lafter::LaFTer;
use crate::tune::Tuned;

/// The classifier of an exported file.
#[derive(Clone, Debug)]
pub enum Answering {
    /// LaFTer's result: tuned tower, prompts, head (eq. 4).
    Tuned(Box<Tuned>),
    /// The text classifier over the untouched tower (eq. 2).
    Text(TextClassifier),
    /// Class names in templates, nothing trained (eq. 1).
    ZeroShot(ZeroShotClassifier),
}

impl Answering {
    /// The result of a [`LaFTer`]: of stage two if it was run, else of stage one.
    ///
    /// # Errors
    /// [`Error::Usage`] before stage one.
    pub fn of(lafter: &LaFTer) -> Result<Self> {
        lafter.tuned().map_or_else(|| Ok(Self::Text(lafter.answering_classifier()?)), |tuned| Ok(Self::Tuned(Box::new(tuned.clone()))))
    }

    /// LaFTer, text classifier or zero-shot.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tuned(_) => "LaFTer",
            Self::Text(_) => "text classifier",
            Self::ZeroShot(_) => "zero-shot",
        }
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        match self {
            Self::Tuned(tuned) => tuned.head.classes(),
            Self::Text(classifier) => classifier.head.classes(),
            Self::ZeroShot(classifier) => classifier.weights.dims().first().copied().unwrap_or(0),
        }
    }

    /// The tuned weights.
    ///
    /// # Errors
    /// [`Error::Usage`] for a classifier over the untouched tower.
    pub fn tuned(&self) -> Result<&Tuned> {
        match self {
            Self::Tuned(tuned) => Ok(tuned),
            other => {
                Err(Error::Usage(format!("{} has no tuned weights: give --weights FILE, the lafter.safetensors of a run", other.name())))
            }
        }
    }
}
