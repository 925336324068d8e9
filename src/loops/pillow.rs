//! Pillow's operations that RandAugment and the tilt need next to those of [`color`](super::color): on the levels of 8-bit RGB as
//! `ImageOps` and `ImageEnhance.Sharpness` have them, and warps as `Image.transform` has them, bit for bit.
//!
//! A warp says for each pixel of the result where in the picture it comes from. What comes from outside has the color `fill`.

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

/// How a warp reads between pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    /// The pixel that the place lies in, by affine warps in fixed point of 16 bits: torchvision's default.
    Nearest,
    /// A cubic through four pixels each way (a = −1), without its fraction: timm's and NoLA's.
    #[default]
    Bicubic,
}

/// The pixel (x, y) comes from (a x + b y + c, d x + e y + f), in coordinates in which pixel 0 reaches from 0 to 1.
pub fn affine(image: &RgbImage, [a, b, c, d, e, f]: [f64; 6], sampling: Sampling, fill: [u8; 3]) -> RgbImage {
    if sampling == Sampling::Bicubic {
        return bicubic(image, fill, |x, y| (a * x + b * y + c, d * x + e * y + f));
    }
    let [x_by_x, x_by_y, x_0, y_by_x, y_by_y, y_0] = fixed([a, b, c, d, e, f]);
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let (x, y) = (i64::from(x), i64::from(y));
        let from = (x_0 + x * x_by_x + y * x_by_y, y_0 + x * y_by_x + y * y_by_y);
        let inside = |at: i64, size: u32| u32::try_from(at >> 16).ok().filter(|at| *at < size);
        match (inside(from.0, image.width()), inside(from.1, image.height())) {
            (Some(x), Some(y)) => *image.get_pixel(x, y),
            _ => image::Rgb(fill),
        }
    })
}

/// The same in units of 2⁻¹⁶, from the middle of each pixel.
#[doc(hidden)]
pub fn fixed([a, b, c, d, e, f]: [f64; 6]) -> [i64; 6] {
    [a, b, c + a * 0.5 + b * 0.5, d, e, f + d * 0.5 + e * 0.5].map(|value| (value * 65_536.0 + 0.5).floor() as i64)
}

/// Turned counter-clockwise by this angle around the middle, the corners cut off: Pillow's `Image.rotate`.
pub fn rotate(image: &RgbImage, degrees: f64, sampling: Sampling, fill: [u8; 3]) -> RgbImage {
    match rotation(image.dimensions(), degrees) {
        Some(matrix) => affine(image, matrix, sampling, fill),
        None => image.clone(),
    }
}

/// The [affine] matrix of a turn; `None` for none.
pub fn rotation((width, height): (u32, u32), degrees: f64) -> Option<[f64; 6]> {
    let degrees = degrees.rem_euclid(360.0);
    if degrees == 0.0 {
        return None;
    }
    let angle = -degrees.to_radians();
    let (cos, sin) = (digits(angle.cos()), digits(angle.sin()));
    let (x, y) = (f64::from(width) / 2.0, f64::from(height) / 2.0);
    Some([cos, sin, (cos * -x + sin * -y) + x, -sin, cos, (-sin * -x + cos * -y) + y])
}

/// Rounded to 15 decimal digits, as Pillow does with sines and cosines.
fn digits(value: f64) -> f64 {
    format!("{value:.15}").parse().unwrap_or(value)
}

/// The picture tilted so that its corners (upper left, upper right, lower right, lower left) come to these pixels, by
/// [`Sampling::Bicubic`]: torchvision's `perspective`. Corners of which three lie on a line leave it as it is.
pub fn perspective(image: &RgbImage, corners: [(u32, u32); 4], fill: [u8; 3]) -> RgbImage {
    let Some([a, b, c, d, e, f, g, h]) = coefficients(image.dimensions(), corners) else { return image.clone() };
    bicubic(image, fill, |x, y| {
        let depth = g * x + h * y + 1.0;
        ((a * x + b * y + c) / depth, (d * x + e * y + f) / depth)
    })
}

/// a to h of x' = (a x + b y + c) / (g x + h y + 1), y' = (d x + e y + f) / (g x + h y + 1), which takes the corners back to those
/// of the picture: eight equations in eight unknowns, solved in f64 and rounded to f32.
pub fn coefficients((width, height): (u32, u32), corners: [(u32, u32); 4]) -> Option<[f64; 8]> {
    let (right, bottom) = (width.saturating_sub(1), height.saturating_sub(1));
    let mut rows = [[0f64; 9]; 8];
    for (i, ((x, y), (u, v))) in corners.into_iter().zip([(0, 0), (right, 0), (right, bottom), (0, bottom)]).enumerate() {
        let [x, y, u, v] = [x, y, u, v].map(f64::from);
        rows[2 * i] = [x, y, 1.0, 0.0, 0.0, 0.0, -u * x, -u * y, u];
        rows[2 * i + 1] = [0.0, 0.0, 0.0, x, y, 1.0, -v * x, -v * y, v];
    }
    for column in 0..8 {
        let pivot = (column..8).max_by(|i, j| rows[*i][column].abs().total_cmp(&rows[*j][column].abs()))?;
        if rows[pivot][column].abs() < 1e-9 {
            return None;
        }
        rows.swap(column, pivot);
        let eliminating = rows[column];
        for (_, row) in rows.iter_mut().enumerate().filter(|(i, _)| *i != column) {
            let share = row[column] / eliminating[column];
            row.iter_mut().zip(eliminating).for_each(|(value, by)| *value -= share * by);
        }
    }
    Some(std::array::from_fn(|i| f64::from((rows[i][8] / rows[i][i]) as f32)))
}

/// `from` gives the place that the middle of a pixel comes from.
fn bicubic(image: &RgbImage, fill: [u8; 3], from: impl Fn(f64, f64) -> (f64, f64)) -> RgbImage {
    let (width, height) = image.dimensions();
    let stride = width as usize * 3;
    RgbImage::from_fn(width, height, |x, y| {
        let (x, y) = from(f64::from(x) + 0.5, f64::from(y) + 0.5);
        let inside = x >= 0.0 && x < f64::from(width) && y >= 0.0 && y < f64::from(height);
        if !inside {
            return image::Rgb(fill);
        }
        let (x, y) = (x - 0.5, y - 0.5);
        let (left, top) = (x.floor(), y.floor());
        // beyond the edge the outermost pixel goes on
        let at = |first: f64, i: i64, size: u32| (first as i64 - 1 + i).clamp(0, i64::from(size) - 1) as usize;
        let columns: [usize; 4] = std::array::from_fn(|i| 3 * at(left, i as i64, width));
        let rows: [&[u8]; 4] = std::array::from_fn(|i| &image.as_raw()[stride * at(top, i as i64, height)..][..stride]);
        image::Rgb(std::array::from_fn(|channel| {
            let across = rows.map(|row| cubic(columns.map(|column| f64::from(row[column + channel])), x - left));
            cubic(across, y - top) as u8 // `as` stops at 0 and 255
        }))
    })
}

/// The cubic through the middle two of four values in a row, whose slopes there are those of their neighbors, at 0 to 1 between them.
#[inline(always)]
fn cubic([a, b, c, d]: [f64; 4], at: f64) -> f64 {
    let (p2, p3, p4) = (-a + c, 2.0 * (a - b) + c - d, -a + b - c + d);
    b + at * (p2 + at * (p3 + at * p4))
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

    fn texture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 7 + y) as u8, (x * y) as u8, (x ^ y) as u8]))
    }

    #[test]
    fn nothing_moves_by_the_identity() {
        let image = texture(13, 9);
        let corners = [(0, 0), (12, 0), (12, 8), (0, 8)];
        assert_eq!(perspective(&image, corners, [1, 2, 3]), image);
        for sampling in [Sampling::Nearest, Sampling::Bicubic] {
            assert_eq!(affine(&image, [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], sampling, [0; 3]), image);
            assert_eq!(rotate(&image, -360.0, sampling, [0; 3]), image);
        }
    }

    #[test]
    fn a_shift_by_whole_pixels_copies_and_fills() {
        let image = texture(6, 5);
        for sampling in [Sampling::Nearest, Sampling::Bicubic] {
            let shifted = affine(&image, [1.0, 0.0, 2.0, 0.0, 1.0, -1.0], sampling, [9, 8, 7]);
            assert_eq!(shifted.get_pixel(1, 3), image.get_pixel(3, 2));
            assert_eq!((shifted.get_pixel(5, 3).0, shifted.get_pixel(1, 0).0), ([9, 8, 7], [9, 8, 7]));
        }
    }

    #[test]
    fn pictures_too_small_to_tilt_stay() {
        for (width, height) in [(0, 0), (0, 4), (1, 1), (1, 5), (2, 2)] {
            let image = texture(width, height);
            assert_eq!(perspective(&image, [(0, 0); 4], [0; 3]), image);
            for sampling in [Sampling::Nearest, Sampling::Bicubic] {
                assert_eq!(rotate(&image, 12.0, sampling, [0; 3]).dimensions(), (width, height));
            }
        }
    }
}
