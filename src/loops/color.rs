//! Brightness, contrast, saturation, gray, hue and blur of 8-bit RGB, bit for bit as Pillow and torchvision do it.
//!
//! Brightness, contrast, saturation and gray are blends of an image with a simpler one, as Pillow's `ImageEnhance`: each is
//! simple + factor·(image − simple) in f32, cut to 0..255 and without its fraction. Factor 1 is the image, 0 the simple one, above 1
//! goes beyond the image.

use image::RgbImage;
use lafter_fast as fast; // fast::

/// The gray value of a pixel, ITU-R 601-2 in 16-bit fixed point: (19595 R + 38470 G + 7471 B + 2¹⁵) / 2¹⁶.
#[inline(always)]
pub fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((19_595 * u32::from(r) + 38_470 * u32::from(g) + 7_471 * u32::from(b) + 0x8000) >> 16) as u8
}

/// Blends with black.
pub fn brightness(image: &RgbImage, factor: f32) -> RgbImage {
    blend_with_constant(image, 0, factor)
}

/// Blends with the mean gray value of the image, rounded.
pub fn contrast(image: &RgbImage, factor: f32) -> RgbImage {
    let sum: u64 = image.pixels().map(|pixel| u64::from(luma(pixel.0))).sum();
    let count = f64::from(image.width()) * f64::from(image.height());
    let mean = if count > 0.0 { (sum as f64 / count + 0.5) as u8 } else { 0 };
    blend_with_constant(image, mean, factor)
}

/// Blends with the gray image.
pub fn saturation(image: &RgbImage, factor: f32) -> RgbImage {
    let mut out = image.clone();
    saturate(&mut out, factor);
    out
}

fast::wide! { // fast::
    fn saturate(values: &mut [u8], factor: f32) {
        for_each_block(values, |r, g, b| {
            for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
                let gray = luma([*r, *g, *b]);
                [*r, *g, *b] = [*r, *g, *b].map(|value| blend(gray, value, factor));
            }
        });
    }
} // fast::

/// The gray image, in three equal channels.
pub fn gray(image: &RgbImage) -> RgbImage {
    let mut out = image.clone();
    for pixel in out.chunks_exact_mut(3) {
        let gray = luma([pixel[0], pixel[1], pixel[2]]);
        pixel.fill(gray);
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
#[doc(hidden)]
pub fn blend(simple: u8, value: u8, factor: f32) -> u8 {
    let (simple, value) = (f32::from(simple), f32::from(value));
    let blended = (simple + factor * (value - simple)).max(0.0).min(255.0); // not a number becomes 0
    // SAFETY: the value lies in 0..=255
    unsafe { blended.to_int_unchecked::<i32>() as u8 } // without its fraction
}

/// Turns every pixel's hue by `turn` of the circle, −0.5..=0.5; value and saturation stay.
///
/// Hue, saturation and value are whole numbers of 0..=255 in between, as in torchvision on Pillow images, so a turn
/// below 1/255 does nothing but that rounding.
pub fn hue(image: &RgbImage, turn: f32) -> RgbImage {
    let mut out = image.clone();
    turn_all(&mut out, hue_shift(turn));
    out
}

/// Toward zero, then around the circle.
#[doc(hidden)]
pub fn hue_shift(turn: f32) -> u8 {
    (f64::from(turn) * 255.0) as i32 as u8
}

fast::wide! { // fast::
    /// Pixels in blocks, channel by channel, without a branch: so the compiler can put many into one register.
    fn turn_all(values: &mut [u8], shift: u8) {
        for_each_block(values, |r, g, b| {
            for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
                let [h, s, v] = to_hsv([*r, *g, *b]);
                [*r, *g, *b] = to_rgb([h.wrapping_add(shift), s, v]);
            }
        });
    }
} // fast::

/// Without its fraction; for values that a byte can hold.
#[inline(always)]
fn whole(value: f64) -> u8 {
    debug_assert!((0.0..256.0).contains(&value));
    // SAFETY: every caller's value is a finite number of 0..256
    unsafe { value.to_int_unchecked::<i32>() as u8 }
}

#[inline(always)]
fn to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    let range = f32::from((high - low).max(1)); // grays: 1 in place of 0 gives hue 0 as well
    let saturation = f32::from(high - low) / f32::from(high.max(1));
    // how far each channel lies below the highest, as a share of the range
    let [rc, gc, bc] = [r, g, b].map(|channel| f32::from(high - channel) / range);
    let (of_r, of_g, of_b) = (bc - gc, (2.0 + f64::from(rc) - f64::from(bc)) as f32, (4.0 + f64::from(gc) - f64::from(rc)) as f32);
    let sextant = if r == high { of_r } else { of_b };
    let sextant = if r != high && g == high { of_g } else { sextant };
    let turned = f64::from(sextant) / 6.0 + 1.0; // in 5/6..2
    let hue = (if turned >= 1.0 { turned - 1.0 } else { turned }) as f32;
    [whole(f64::from(hue) * 255.0), whole(f64::from(saturation) * 255.0), high]
}

#[inline(always)]
fn to_rgb([h, s, v]: [u8; 3]) -> [u8; 3] {
    let position = f64::from(h) * 6.0 / 255.0;
    let sextant = whole(position);
    let rest = f64::from((position - f64::from(sextant)) as f32);
    let saturation = f64::from((f64::from(s) / 255.0) as f32);
    let level = |share: f64| whole(f64::from(v) * (1.0 - share) + 0.5);
    let (p, q, t) = (level(saturation), level(saturation * rest), level(saturation * (1.0 - rest)));
    let pick = |of: [u8; 6]| {
        let mut picked = of[0]; // sextant 6 is 0 again
        for (i, value) in of.into_iter().enumerate().skip(1) {
            picked = if usize::from(sextant) == i { value } else { picked };
        }
        picked
    };
    [pick([v, q, p, p, t, v]), pick([t, v, v, q, p, p]), pick([p, p, t, v, v, q])]
}

/// Pixels of a block: RGB is taken apart channel by channel, so that a loop over pixels becomes a loop over wide registers.
const BLOCK: usize = 128;

/// Gives `f` the red, green and blue values of the pixels, a block at a time, and puts back what it made of them.
#[inline(always)]
fn for_each_block(values: &mut [u8], mut f: impl FnMut(&mut [u8; BLOCK], &mut [u8; BLOCK], &mut [u8; BLOCK])) {
    let (mut r, mut g, mut b) = ([0; BLOCK], [0; BLOCK], [0; BLOCK]);
    let mut block = |pixels: &mut [u8; 3 * BLOCK]| {
        for i in 0..BLOCK {
            (r[i], g[i], b[i]) = (pixels[3 * i], pixels[3 * i + 1], pixels[3 * i + 2]);
        }
        f(&mut r, &mut g, &mut b);
        for i in 0..BLOCK {
            (pixels[3 * i], pixels[3 * i + 1], pixels[3 * i + 2]) = (r[i], g[i], b[i]);
        }
    };
    let (blocks, rest) = values.as_chunks_mut::<{ 3 * BLOCK }>();
    blocks.iter_mut().for_each(&mut block);
    let mut last = [0; 3 * BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    block(&mut last);
    rest.copy_from_slice(&last[..rest.len()]);
}

#[doc(hidden)]
pub const PASSES: usize = 3;
/// Above this the weights of the box run out of bits.
const WIDEST: f32 = 1000.0;

/// Blurs with a Gaussian of standard deviation `sigma` pixels, at most 1,000; 0 and below is a copy. At the edges the outermost pixel
/// goes on.
///
/// As Pillow's `ImageFilter.GaussianBlur`: three box blurs of fractional width each way. SimSiam's code, and LaFTer's after it, blurs
/// with that filter, so the approximation is part of the strong view. Source of the box width: Gwosdek et al., "Theoretical
/// foundations of Gaussian convolution by extended box filtering" (SSVM 2011).
pub fn gaussian_blur(image: &RgbImage, sigma: f32) -> RgbImage {
    let (width, height) = (image.width() as usize * 3, image.height() as usize);
    let Some(kernel) = BoxKernel::of_blur(sigma).filter(|_| width > 0 && height > 0) else { return image.clone() };
    let mut out = RgbImage::new(image.width(), image.height());
    let mut sums = vec![0u32; width];

    // across: one row at a time, all passes while it is in cache
    let edge = (kernel.radius + 1) * 3;
    let mut padded = vec![0u8; width + 2 * edge];
    for (row, target) in image.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        target.copy_from_slice(row);
        for _ in 0..PASSES {
            pad(target, &mut padded, edge);
            kernel.apply(|tap| &padded[tap * 3..tap * 3 + width], &mut sums, target);
        }
    }

    // down: whole rows are the taps
    let mut before = vec![0u8; out.len()];
    for _ in 0..PASSES {
        before.copy_from_slice(&out);
        for (y, target) in out.chunks_exact_mut(width).enumerate() {
            let row = |tap: usize| (y + tap).saturating_sub(kernel.radius + 1).min(height - 1) * width;
            kernel.apply(|tap| &before[row(tap)..row(tap) + width], &mut sums, target);
        }
    }
    out
}

/// Copies a row of RGB pixels into the middle of `padded` and repeats its first and last pixel over the edges.
fn pad(row: &[u8], padded: &mut [u8], edge: usize) {
    padded[edge..edge + row.len()].copy_from_slice(row);
    for i in (0..edge).rev() {
        padded[i] = padded[i + 3];
    }
    for i in edge + row.len()..padded.len() {
        padded[i] = padded[i - 3];
    }
}

/// A box of 2·radius + 1 pixels of weight `inner` and one more at each end of weight `outer`, in units of 2⁻²⁴.
#[derive(Clone, Copy, Debug)]
#[doc(hidden)]
pub struct BoxKernel {
    pub radius: usize,
    pub inner: u32,
    pub outer: u32,
}

impl BoxKernel {
    /// The box of [`gaussian_blur`]; `None` for a copy.
    pub fn of_blur(sigma: f32) -> Option<Self> {
        (sigma > 0.0).then(|| Self::for_gaussian(sigma.min(WIDEST)))
    }

    /// The box whose [`PASSES`]-fold repetition has the variance of the Gaussian.
    fn for_gaussian(sigma: f32) -> Self {
        let variance = f64::from(sigma * sigma / PASSES as f32) as f32;
        let length = (12.0 * f64::from(variance) + 1.0).sqrt() as f32;
        let whole = ((f64::from(length) - 1.0) / 2.0).floor() as f32;
        let part = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * variance) / (6.0 * (variance - (whole + 1.0) * (whole + 1.0)));
        let radius = whole + part;
        let inner = ((1u32 << 24) as f32 / (radius * 2.0 + 1.0)) as u32;
        let radius = radius as usize;
        Self { radius, inner, outer: ((1u32 << 24) - (2 * radius as u32 + 1) * inner) / 2 }
    }

    /// `tap(i)` is the row of bytes that lies i − radius − 1 pixels from the target.
    fn apply<'a>(&self, tap: impl Fn(usize) -> &'a [u8], sums: &mut [u32], out: &mut [u8]) {
        let Self { radius, inner, outer } = *self;
        match radius {
            // up to σ = 2.4 the box is one or three pixels wide and two of less weight
            0 => weigh_3(tap(0), tap(1), tap(2), inner, outer, out),
            1 => weigh_5(tap(0), [tap(1), tap(2), tap(3)], tap(4), inner, outer, out),
            _ => {
                sums.fill(0);
                for i in 1..2 * radius + 2 {
                    add(tap(i), sums);
                }
                weigh(sums, tap(0), tap(2 * radius + 2), inner, outer, out);
            }
        }
    }
}

#[inline(always)]
fn weighed(sum: u32, ends: u32, inner: u32, outer: u32) -> u8 {
    ((sum * inner + ends * outer + (1 << 23)) >> 24) as u8
}

fast::wide! { // fast::
    fn weigh_3(before: &[u8], at: &[u8], after: &[u8], inner: u32, outer: u32, out: &mut [u8]) {
        let n = out.len();
        let (before, at, after) = (&before[..n], &at[..n], &after[..n]);
        for i in 0..n {
            out[i] = weighed(at[i].into(), u32::from(before[i]) + u32::from(after[i]), inner, outer);
        }
    }
} // fast::

fast::wide! { // fast::
    fn weigh_5(before: &[u8], taps: [&[u8]; 3], after: &[u8], inner: u32, outer: u32, out: &mut [u8]) {
        let n = out.len();
        let (before, [a, b, c], after) = (&before[..n], taps.map(|tap| &tap[..n]), &after[..n]);
        for i in 0..n {
            let sum = u32::from(a[i]) + u32::from(b[i]) + u32::from(c[i]);
            out[i] = weighed(sum, u32::from(before[i]) + u32::from(after[i]), inner, outer);
        }
    }
} // fast::

fast::wide! { // fast::
    fn add(tap: &[u8], sums: &mut [u32]) {
        for (sum, value) in sums.iter_mut().zip(tap) {
            *sum += u32::from(*value);
        }
    }
} // fast::

fast::wide! { // fast::
    fn weigh(sums: &[u32], before: &[u8], after: &[u8], inner: u32, outer: u32, out: &mut [u8]) {
        for (((target, sum), before), after) in out.iter_mut().zip(sums).zip(before).zip(after) {
            *target = weighed(*sum, u32::from(*before) + u32::from(*after), inner, outer);
        }
    }
} // fast::

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
        assert_eq!(saturation(&image(), 0.0), gray(&image()));
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

    #[test]
    fn grays_have_no_hue_and_a_third_turn_moves_red_to_green() {
        assert_eq!(to_hsv([77, 77, 77]), [0, 0, 77]);
        assert_eq!(to_rgb([9, 0, 77]), [77, 77, 77]);
        let red = RgbImage::from_pixel(2, 2, image::Rgb([250, 0, 0]));
        assert_eq!(hue(&red, 1.0 / 3.0).get_pixel(1, 1).0, [0, 250, 0]);
        assert_eq!(hue(&red, 0.0), red);
    }

    #[test]
    fn the_kernel_has_weight_one_and_the_variance_of_the_gaussian() {
        for sigma in [0.1f32, 0.5, 1.0, 1.7, 2.0, 5.0, 30.0] {
            let kernel = BoxKernel::for_gaussian(sigma);
            let taps = 2 * kernel.radius as u64 + 1;
            let total = taps * u64::from(kernel.inner) + 2 * u64::from(kernel.outer);
            assert!(total <= 1 << 24 && total > (1 << 24) - 2 - taps, "{sigma} {kernel:?}");
            let square = |d: usize| (d * d) as f64;
            let inside: f64 = (1..=kernel.radius).map(|d| 2.0 * square(d) * f64::from(kernel.inner)).sum();
            let variance = (inside + 2.0 * square(kernel.radius + 1) * f64::from(kernel.outer)) / f64::from(1 << 24);
            assert!((3.0 * variance / f64::from(sigma * sigma) - 1.0).abs() < 1e-3, "{sigma} {variance}");
        }
    }

    #[test]
    fn flat_images_stay_flat_and_tiny_ones_do_not_panic() {
        for (w, h) in [(1, 1), (1, 7), (2, 3), (20, 5)] {
            let flat = RgbImage::from_pixel(w, h, image::Rgb([255, 17, 0]));
            for sigma in [0.1, 1.0, 2.0, 12.0] {
                assert_eq!(gaussian_blur(&flat, sigma), flat, "{w}x{h} {sigma}");
            }
        }
        assert_eq!(gaussian_blur(&RgbImage::new(0, 0), 1.0).dimensions(), (0, 0));
    }
}
