//! A stage of the work by its name, and which part of how many it is: the third of 16 epochs of tuning.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is being done. A stage that comes in parts (the epochs of a tuning) has one name for all of them.
///
/// ```
/// use lafter::progress::Stage;
/// let third = Stage::part("tuning", 3, 16);
/// assert_eq!((third.name.as_str(), third.part, third.of), ("tuning", 3, 16));
/// assert_eq!((third.to_string(), Stage::from("evaluating").to_string()), ("tuning 3/16".into(), "evaluating".into()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stage {
    /// "tuning", "text classifier", "downloading model.safetensors", …
    pub name: String,
    /// Which part this is, from 1.
    pub part: usize,
    /// How many parts there are; 1 if the stage is done in one go.
    pub of: usize,
}

impl Stage {
    /// Part `part` of `of`, counted from 1.
    pub fn part(name: impl Into<String>, part: usize, of: usize) -> Self {
        Self { name: name.into(), part, of }
    }

    /// How much of all parts is done after `done` of this part's `total` units, 0 to 1.
    ///
    /// ```
    /// assert_eq!(lafter::progress::Stage::part("tuning", 3, 4).share(5, 10), 0.625);
    /// ```
    pub fn share(&self, done: usize, total: usize) -> f64 {
        let of = self.of.max(1);
        let before = self.part.clamp(1, of) - 1;
        (before as f64 + (done as f64 / total.max(1) as f64).min(1.0)) / of as f64
    }
}

/// A stage of one part.
impl<T: Into<String>> From<T> for Stage {
    fn from(name: T) -> Self {
        Self::part(name, 1, 1)
    }
}

/// "tuning 3/16", or the name alone if there is one part; padded as strings are.
impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.of {
            0 | 1 => f.pad(&self.name),
            of => f.pad(&format!("{} {}/{of}", self.name, self.part)),
        }
    }
}
