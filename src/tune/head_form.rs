//! What the text classifier becomes as the head that is tuned.

use serde::{Deserialize, Serialize};

use crate::classify::Head;
use crate::error::{Error, Result};

/// The form of the head, of the student and of its teacher.
///
/// A plain head answers W v; at nearly all right its probabilities are still close to 1/C (see
/// [`temperature`](super::FinetuneConfig::temperature)). A cosine head answers as CLIP does, and is as sure (MUST, DPA, UEO).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HeadForm {
    /// z = W v, as LaFTer has it.
    #[default]
    Plain,
    /// z = s · unit(v) · unit(W)ᵀ.
    Cosine {
        /// s, above 0; 100 is CLIP's own.
        scale: f64,
    },
}

impl HeadForm {
    /// The head in this form; it shares the weights.
    ///
    /// # Errors
    /// [`Error::Usage`] for a cosine head of an MLP.
    pub fn of(self, head: &Head) -> Result<Head> {
        match self {
            Self::Plain => Ok(head.clone()),
            Self::Cosine { scale } => head.clone().cosine(scale).map_err(|_| {
                Error::Usage("a cosine head is one layer without bias: leave text.hidden null, or tune.head_form plain".into())
            }),
        }
    }

    /// s of a cosine head.
    pub fn scale(self) -> Option<f64> {
        match self {
            Self::Plain => None,
            Self::Cosine { scale } => Some(scale),
        }
    }
}
