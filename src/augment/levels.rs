//! Operations on the levels of 8-bit RGB that RandAugment knows next to those of [`color`](super::ops), bit for bit as
//! Pillow's `ImageOps` and `ImageEnhance.Sharpness` do them.

use image::RgbImage;

use super::color::blend;

/// Each level by its channel's table.
fn mapped(image: &RgbImage, tables: [[u8; 256]; 3]) -> RgbImage {
    let mut out = image.clone();
    for pixel in out.as_chunks_mut::<3>().0 {
        for (value, table) in pixel.iter_mut().zip(&tables) {
            *value = table[usize::from(*value)];
        }
    }
    out
}

fn each(image: &RgbImage, f: impl Fn(u8) -> u8) -> RgbImage {
    mapped(image, [std::array::from_fn(|level| f(level as u8)); 3])
}

/// How often each level occurs, by channel.
fn histograms(image: &RgbImage) -> [[u64; 256]; 3] {
    let mut counts = [[0; 256]; 3];
    for pixel in image.as_chunks::<3>().0 {
        for (value, counts) in pixel.iter().zip(&mut counts) {
            counts[usize::from(*value)] += 1;
        }
    }
    counts
}

const UNCHANGED: fn(usize) -> u8 = |level| level as u8;

/// Spreads each channel's levels so that the least is 0 and the greatest 255; a channel of one level stays.
pub fn autocontrast(image: &RgbImage) -> RgbImage {
    mapped(
        image,
        histograms(image).map(|counts| {
            let found = |level: &usize| counts[*level] > 0;
            let (least, greatest) = ((0..256).find(found).unwrap_or(0), (0..256).rev().find(found).unwrap_or(0));
            if greatest <= least {
                return std::array::from_fn(UNCHANGED);
            }
            let scale = 255.0 / (greatest - least) as f64;
            let offset = -(least as f64) * scale;
            std::array::from_fn(|level| (level as f64 * scale + offset) as u8) // without its fraction; `as` stops at 0 and 255
        }),
    )
}

/// Maps each channel's levels so that all become about equally frequent.
pub fn equalize(image: &RgbImage) -> RgbImage {
    mapped(
        image,
        histograms(image).map(|counts| {
            let last = counts.iter().rev().find(|count| **count > 0).copied().unwrap_or(0);
            let step = (counts.iter().sum::<u64>() - last) / 255; // 0 for a single level, too
            if step == 0 {
                return std::array::from_fn(UNCHANGED);
            }
            let mut below = step / 2;
            counts.map(|count| {
                let level = (below / step).min(255) as u8;
                below += count;
                level
            })
        }),
    )
}

/// The negative: 255 − level.
pub fn invert(image: &RgbImage) -> RgbImage {
    each(image, |level| 255 - level)
}

/// Keeps the highest `bits` bits of each level; 0 is black, 8 and above the image.
pub fn posterize(image: &RgbImage, bits: u8) -> RgbImage {
    let kept = (0xff00u16 >> bits.min(8)) as u8;
    each(image, |level| level & kept)
}

/// Inverts the levels that are not below `threshold`.
pub fn solarize(image: &RgbImage, threshold: f64) -> RgbImage {
    each(image, |level| if f64::from(level) < threshold { level } else { 255 - level })
}

/// Adds to the levels below 128, up to 255.
pub fn solarize_add(image: &RgbImage, add: u8) -> RgbImage {
    each(image, |level| if level < 128 { level.saturating_add(add) } else { level })
}

/// Blends with a smoothed image: 0 is smooth, 1 the image, above 1 sharper. Smooth is a pixel's mean with its eight neighbors, in
/// which it counts fivefold; the outermost pixels stay.
pub fn sharpness(image: &RgbImage, factor: f32) -> RgbImage {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let mut out = image.clone();
    if width < 3 || height < 3 {
        return out;
    }
    let (from, to, stride) = (image.as_raw(), &mut *out, 3 * width);
    for y in 1..height - 1 {
        for i in y * stride + 3..(y + 1) * stride - 3 {
            let three = |middle: usize| u32::from(from[middle - 3]) + u32::from(from[middle]) + u32::from(from[middle + 3]);
            let sum = three(i - stride) + three(i) + three(i + stride) + 4 * u32::from(from[i]);
            to[i] = blend(((2 * sum + 13) / 26) as u8, from[i], factor); // sum/13, rounded
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_on_pictures_of_one_level_or_none() {
        let (flat, empty) = (RgbImage::from_pixel(5, 4, image::Rgb([7, 0, 255])), RgbImage::new(0, 3));
        for image in [&flat, &empty] {
            assert_eq!((&autocontrast(image), &equalize(image), &sharpness(image, 1.9)), (image, image, image));
            assert_eq!(&invert(&invert(image)), image);
        }
    }

    #[test]
    fn bits_from_none_to_all() {
        let image = RgbImage::from_pixel(1, 1, image::Rgb([255, 130, 64]));
        let level = |bits| posterize(&image, bits).get_pixel(0, 0).0;
        assert_eq!((level(0), level(1), level(2), level(8)), ([0; 3], [128, 128, 0], [192, 128, 64], [255, 130, 64]));
        assert_eq!(level(200), level(8));
    }
}
