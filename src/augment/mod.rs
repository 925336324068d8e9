//! Views of an image: the weak view α_w that CLIP was trained on and the strong view α_h of SimSiam (eq. 3 and 4).
//!
//! [`Preprocess`] is the weak view: resize, center crop, normalize. [`StrongAugment`] is the strong view: random resized
//! crop, flip, color jitter, gray, blur, normalize; DPA's and NoLA's have [`RandAugment`], a tilt, a second jitter. Both are built from the
//! functions of [`ops`], each of which stands alone on a [`RgbImage`] with explicit parameters and follows torchvision on Pillow images.
//!
//! ```
//! use lafter::augment::{Preprocess, RgbImage, StrongAugment};
//! use lafter::rng::Rng;
//!
//! let photograph = RgbImage::from_fn(50, 37, |x, y| image::Rgb([5 * x as u8, 6 * y as u8, 90]));
//! let weak = Preprocess::clip(32);
//! let strong = StrongAugment::simsiam(32).normalized_like(&weak);
//! assert_eq!(weak.apply(&photograph).len(), 3 * 32 * 32);
//! assert_eq!(strong.apply(&photograph, &mut Rng::new(7777)).len(), 3 * 32 * 32);
//! ```

mod batch;
mod more;
pub mod ops;
mod preprocess;
mod preprocessor_config;
mod rand_augment;
mod recipe;
mod strong;
mod transfer;

pub use image::RgbImage;
#[doc(inline)]
pub use lafter_loops::geometry::{CLIP_MEAN, CLIP_STD, Region, Resample};
#[doc(inline)]
pub use lafter_loops::pillow::Sampling;
pub use more::{Drawn, More};
pub use preprocess::{CropRule, Preprocess, ResizeTo};
pub use rand_augment::{AugmentStep, RandAugment, TimmPolicy, TorchvisionPolicy};
pub use strong::{JitterStep, StrongAugment, StrongParams};
pub(crate) use transfer::{Form, Transfer, View};

use lafter_loops::{color, geometry, pillow};
