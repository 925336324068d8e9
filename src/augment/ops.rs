//! The operations the views are made of: each a function of an image and explicit numbers, nothing random.
//!
//! All work on 8-bit RGB, as torchvision's transforms do on Pillow images, and round where Pillow rounds.
//!
//! ```
//! use image::RgbImage;
//! use lafter::augment::ops::{self, Region, Resample};
//!
//! let image = RgbImage::from_pixel(40, 30, image::Rgb([200, 100, 50]));
//! let crop = ops::crop_resize(&image, Region { left: 4, top: 2, width: 20, height: 25 }, 16, 16, Resample::Bilinear);
//! let jittered = ops::hue(&ops::brightness(&crop, 1.3), 0.05);
//! let blurred = ops::gaussian_blur(&ops::gray(&jittered), 1.5);
//! assert_eq!(blurred.dimensions(), (16, 16));
//! ```

#[doc(inline)]
pub use super::color::{brightness, contrast, gaussian_blur, gray, hue, luma, saturation};
#[doc(inline)]
pub use super::geometry::{
    Region, Resample, crop, crop_resize, flip_horizontal, normalize, picture, resize, resize_shortest, shortest_edge_size,
};
#[doc(inline)]
pub use super::pillow::{affine, autocontrast, equalize, invert, perspective, posterize, rotate, sharpness, solarize, solarize_add};
pub use super::preprocess::{CropRule, center_crop};
pub use super::rand_augment::{timm_step, torchvision_step};
