//! Mirroring left to right.

use image::RgbImage;

/// The image as in a mirror.
pub fn flip_horizontal(image: &RgbImage) -> RgbImage {
    let mut out = RgbImage::new(image.width(), image.height());
    let stride = (image.width() as usize * 3).max(1);
    for (row, target) in image.chunks_exact(stride).zip(out.chunks_exact_mut(stride)) {
        for (pixel, mirrored) in row.chunks_exact(3).rev().zip(target.chunks_exact_mut(3)) {
            mirrored.copy_from_slice(pixel);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_is_the_image_and_once_reverses_each_row() {
        let image = RgbImage::from_fn(5, 3, |x, y| image::Rgb([x as u8, y as u8, 9]));
        assert_eq!(flip_horizontal(&image).get_pixel(0, 2).0, [4, 2, 9]);
        assert_eq!(flip_horizontal(&flip_horizontal(&image)), image);
        assert_eq!(flip_horizontal(&RgbImage::new(0, 4)).dimensions(), (0, 4));
    }
}
