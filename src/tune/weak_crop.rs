//! Where the weak view of training is cut from the resized picture.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::augment::Preprocess;
use crate::data::Dataset;
use crate::error::Result;
use crate::rng::Rng;

/// Which part of the resized picture the teacher sees in a step. Signals, evaluation and the pass before training have the middle in any
/// case, and so has the student if [`augment`](super::FinetuneConfig::augment) is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeakCrop {
    /// The middle, as at inference: LaFTer's. A data set that keeps views makes each once.
    #[default]
    Center,
    /// Anywhere, every place equally likely and anew in each epoch: DPA's `RandomCrop` after the resize. Square pictures have one place.
    Random,
}

impl WeakCrop {
    /// The weak view of picture `index`, which is `picture`; `rng` is the picture's own stream in this epoch. It does not move, so that the
    /// strong view draws what it draws without.
    pub(crate) fn view(self, weak: &Preprocess, pictures: &Dataset, index: usize, picture: &RgbImage, rng: &Rng) -> Result<RgbImage> {
        match self {
            Self::Center => pictures.view(index, weak.geometry_key(), Some(picture), &|picture| weak.image(picture)),
            Self::Random => {
                let mut rng = rng.fork(0x7765_616b);
                Ok(weak.image_at(picture, |places| rng.below(places as usize) as u32))
            }
        }
    }
}
