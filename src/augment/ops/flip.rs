//! Mirroring left to right.

use image::RgbImage;

/// The image as in a mirror.
pub fn flip_horizontal(image: &RgbImage) -> RgbImage {
    let mut out = image.clone();
    let stride = (image.width() as usize * 3).max(1);
    for (row, target) in image.chunks_exact(stride).zip(out.chunks_exact_mut(stride)) {
        let (row, target) = (row.as_chunks::<3>().0, target.as_chunks_mut::<3>().0);
        for (pixel, mirrored) in row.iter().rev().zip(target) {
            *mirrored = *pixel;
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
