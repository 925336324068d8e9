//! The loops over numbers that a program waits for and that need no tensor: they are optimized in every profile.
//!
//! Operations on 8-bit RGB pictures, bit for bit as Pillow and torchvision have them, are what the views of `lafter` are made of. Each is
//! a function of a picture and explicit numbers, nothing random: [`geometry`] cuts, resizes and mirrors, [`color`] changes colors and
//! blurs, [`pillow`] has what RandAugment needs beside them. [`tsne`] is the descent of t-SNE.
//!
//! ```
//! use image::RgbImage;
//! use lafter_loops::{color, geometry};
//!
//! let picture = RgbImage::from_pixel(40, 30, image::Rgb([200, 100, 50]));
//! let small = geometry::resize(&picture, 16, 16, geometry::Resample::Bicubic);
//! assert_eq!(color::gray(&small).get_pixel(0, 0).0, [124; 3]);
//! ```

#![warn(missing_docs)]

pub mod color;
pub mod geometry;
pub mod pillow;
pub mod tsne;
