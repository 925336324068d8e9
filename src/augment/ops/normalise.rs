//! Between 8-bit pictures and the numbers a vision tower reads.

use image::RgbImage;

/// (rescale·value − mean)/std by channel, as planes: `[3, height, width]` f32, row by row.
///
/// A `rescale` of 1/255 is torchvision's `ToTensor`.
pub fn normalise(image: &RgbImage, mean: [f32; 3], std: [f32; 3], rescale: f32) -> Vec<f32> {
    let plane = image.width() as usize * image.height() as usize;
    let mut out = vec![0f32; 3 * plane];
    for (channel, out) in out.chunks_exact_mut(plane.max(1)).enumerate() {
        // 256 values are all a channel can take
        let table: [f32; 256] = std::array::from_fn(|value| (scaled(value as f32, rescale) - mean[channel]) / std[channel]);
        for (target, pixel) in out.iter_mut().zip(image.chunks_exact(3)) {
            *target = table[usize::from(pixel[channel])]; // [h, w, 3] -> [3, h, w]
        }
    }
    out
}

/// 1/255 has no exact f32: dividing gives the bits PyTorch gives.
fn scaled(value: f32, rescale: f32) -> f32 {
    if rescale == 1.0 / 255.0 { value / 255.0 } else { value * rescale }
}

/// The picture that planes `[3, height, width]` were made from, for figures: the inverse of [`normalise`], rounded and cut
/// to 0..=255. Missing values are black.
pub fn picture(pixels: &[f32], width: u32, height: u32, mean: [f32; 3], std: [f32; 3], rescale: f32) -> RgbImage {
    let plane = width as usize * height as usize;
    let mut out = RgbImage::new(width, height);
    for (index, pixel) in out.chunks_exact_mut(3).enumerate() {
        for (channel, value) in pixel.iter_mut().enumerate() {
            let normalised = pixels.get(channel * plane + index).copied().unwrap_or(f32::NAN);
            *value = ((normalised * std[channel] + mean[channel]) / rescale).round() as u8; // NaN is 0
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_comes_back_from_its_planes() {
        let image = RgbImage::from_fn(16, 16, |x, y| image::Rgb([(16 * y + x) as u8, (x * 15) as u8, (y * 15) as u8]));
        let (mean, std) = ([0.48, 0.45, 0.40], [0.26, 0.27, 0.28]);
        let planes = normalise(&image, mean, std, 1.0 / 255.0);
        assert_eq!(planes[1], (1.0 / 255.0 - 0.48) / 0.26);
        assert_eq!(planes[256 + 1], (15.0 / 255.0 - 0.45) / 0.27);
        assert_eq!(picture(&planes, 16, 16, mean, std, 1.0 / 255.0), image);
        assert_eq!(picture(&[], 2, 2, mean, std, 1.0 / 255.0), RgbImage::new(2, 2));
    }
}
