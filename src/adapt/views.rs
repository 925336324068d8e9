//! Many views of one picture, by its number: the same whatever other pictures there are.

use image::RgbImage;

use crate::augment::{Preprocess, StrongAugment};
use crate::rng::Rng;

/// The weak view and random resized crops, each mirrored with probability ½ (TPT's augmentation: 8 to 100 % of the area, bilinear).
#[derive(Clone, Debug)]
pub struct ManyViews {
    /// How many in all, with the weak view.
    pub count: usize,
    /// The random views.
    pub augment: StrongAugment,
    /// Where their crops come from.
    pub seed: u64,
}

impl ManyViews {
    /// `count` views as the tower of this weak view reads them.
    pub fn new(count: usize, weak: &Preprocess, seed: u64) -> Self {
        let crops = StrongAugment { scale: (0.08, 1.0), jitter_p: 0.0, gray_p: 0.0, blur_p: 0.0, ..StrongAugment::simsiam(weak.side()) };
        Self { count, augment: crops.normalized_like(weak), seed }
    }

    /// The views after the weak one of picture `index`: `count − 1` pictures, side × side.
    pub fn further(&self, picture: &RgbImage, index: usize) -> Vec<RgbImage> {
        let mut rng = Rng::new(self.seed).fork(index as u64);
        (1..self.count).map(|_| self.augment.image(picture, &mut rng)).collect()
    }
}
