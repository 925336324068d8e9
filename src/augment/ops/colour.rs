//! Brightness, contrast, saturation and grey: blends of an image with a simpler one, as Pillow's `ImageEnhance`.
//!
//! Each is simple + factor·(image − simple) in f32, cut to 0..255 and without its fraction. Factor 1 is the image,
//! 0 the simple one, above 1 goes beyond the image.

use image::RgbImage;

use super::planar::for_each_block;
use lafter_fast as fast; // fast::

/// The grey value of a pixel, ITU-R 601-2 in 16-bit fixed point: (19595 R + 38470 G + 7471 B + 2¹⁵) / 2¹⁶.
#[inline(always)]
pub fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((19_595 * u32::from(r) + 38_470 * u32::from(g) + 7_471 * u32::from(b) + 0x8000) >> 16) as u8
}

/// Blends with black.
pub fn brightness(image: &RgbImage, factor: f32) -> RgbImage {
    blend_with_constant(image, 0, factor)
}

/// Blends with the mean grey value of the image, rounded.
pub fn contrast(image: &RgbImage, factor: f32) -> RgbImage {
    let sum: u64 = image.pixels().map(|pixel| u64::from(luma(pixel.0))).sum();
    let count = f64::from(image.width()) * f64::from(image.height());
    let mean = if count > 0.0 { (sum as f64 / count + 0.5) as u8 } else { 0 };
    blend_with_constant(image, mean, factor)
}

/// Blends with the grey image.
pub fn saturation(image: &RgbImage, factor: f32) -> RgbImage {
    let mut out = image.clone();
    saturate(&mut out, factor);
    out
}

fast::wide! { // fast::
    fn saturate(values: &mut [u8], factor: f32) {
        for_each_block(values, |r, g, b| {
            for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
                let grey = luma([*r, *g, *b]);
                [*r, *g, *b] = [*r, *g, *b].map(|value| blend(grey, value, factor));
            }
        });
    }
} // fast::

/// The grey image, in three equal channels.
pub fn grey(image: &RgbImage) -> RgbImage {
    let mut out = image.clone();
    for pixel in out.chunks_exact_mut(3) {
        let grey = luma([pixel[0], pixel[1], pixel[2]]);
        pixel.fill(grey);
    }
    out
}

fn blend_with_constant(image: &RgbImage, simple: u8, factor: f32) -> RgbImage {
    let table: [u8; 256] = std::array::from_fn(|value| blend(simple, value as u8, factor));
    let mut out = image.clone();
    for value in out.iter_mut() {
        *value = table[usize::from(*value)];
    }
    out
}

#[inline(always)]
#[allow(clippy::manual_clamp)] // clamp would keep what is not a number
fn blend(simple: u8, value: u8, factor: f32) -> u8 {
    let (simple, value) = (f32::from(simple), f32::from(value));
    let blended = (simple + factor * (value - simple)).max(0.0).min(255.0); // not a number becomes 0
    // SAFETY: the value lies in 0..=255
    unsafe { blended.to_int_unchecked::<i32>() as u8 } // without its fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> RgbImage {
        RgbImage::from_fn(16, 16, |x, y| image::Rgb([(x * 17) as u8, (y * 17) as u8, ((x ^ y) * 16) as u8]))
    }

    #[test]
    fn factor_one_is_the_image_and_zero_the_simple_one() {
        for op in [brightness, contrast, saturation] {
            assert_eq!(op(&image(), 1.0), image());
        }
        assert_eq!(saturation(&image(), 0.0), grey(&image()));
        assert_eq!(brightness(&image(), 0.0), RgbImage::new(16, 16));
        let flat = contrast(&image(), 0.0);
        assert!(flat.iter().all(|value| *value == flat.as_raw()[0]));
    }

    #[test]
    fn empty_images_stay_empty() {
        for op in [brightness, contrast, saturation] {
            assert_eq!(op(&RgbImage::new(0, 3), 1.4).dimensions(), (0, 3));
        }
    }
}
