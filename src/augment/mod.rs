//! Views of an image: the weak view α_w that CLIP was trained on and the strong view α_h of SimSiam (eq. 3 and 4).
//!
//! [`Preprocess`] is the weak view: resize, centre crop, normalise. [`StrongAugment`] is the strong view: random resized
//! crop, colour jitter, grey, blur, flip, normalise. Both are built from the functions of [`ops`], each of which stands
//! alone on a [`RgbImage`] with explicit parameters and follows torchvision on Pillow images.
//!
//! ```
//! use lafter::augment::{Preprocess, RgbImage, StrongAugment};
//! use lafter::rng::Rng;
//!
//! let photograph = RgbImage::from_fn(50, 37, |x, y| image::Rgb([5 * x as u8, 6 * y as u8, 90]));
//! let weak = Preprocess::clip(32);
//! let strong = StrongAugment::simsiam(32).normalised_like(&weak);
//! assert_eq!(weak.apply(&photograph).len(), 3 * 32 * 32);
//! assert_eq!(strong.apply(&photograph, &mut Rng::new(7777)).len(), 3 * 32 * 32);
//! ```

pub mod ops;
mod preprocess;
mod preprocessor_config;
mod strong;
mod strong_params;
mod strong_sample;

pub use image::RgbImage;
pub use ops::{CropRule, Region, Resample};
pub use preprocess::{CLIP_MEAN, CLIP_STD, Preprocess, ResizeTo};
pub use strong::StrongAugment;
pub use strong_params::{JitterStep, StrongParams};

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::error::{Error, Result};

/// Makes one view of every image in parallel and stacks them: `[batch, 3, side, side]` f32.
fn stack(images: &[RgbImage], side: usize, device: &Device, view: impl Fn(usize, &RgbImage) -> Vec<f32> + Sync) -> Result<Tensor> {
    if images.is_empty() {
        return Err(Error::Usage("a batch of views needs at least one image, got none".into()));
    }
    let views: Vec<Vec<f32>> = images.par_iter().enumerate().map(|(index, image)| view(index, image)).collect();
    Ok(Tensor::from_vec(views.concat(), (images.len(), 3, side, side), device)?)
}
