//! Gaussian blur as Pillow's `ImageFilter.GaussianBlur`: three box blurs of fractional width each way.
//!
//! SimSiam's code, and LaFTer's after it, blurs with Pillow's filter, so the approximation is part of the strong view.
//! Source of the box width: Gwosdek et al., "Theoretical foundations of Gaussian convolution by extended box filtering"
//! (SSVM 2011).

use image::RgbImage;

use lafter_fast as fast; // fast::

const PASSES: usize = 3;
/// Above this the weights of the box run out of bits.
const WIDEST: f32 = 1000.0;

/// Blurs with a Gaussian of standard deviation `sigma` pixels, at most 1,000; 0 and below is a copy. At the edges the outermost pixel goes on.
pub fn gaussian_blur(image: &RgbImage, sigma: f32) -> RgbImage {
    let (width, height) = (image.width() as usize * 3, image.height() as usize);
    if sigma.is_nan() || sigma <= 0.0 || width == 0 || height == 0 {
        return image.clone();
    }
    let kernel = BoxKernel::for_gaussian(sigma.min(WIDEST));
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
struct BoxKernel {
    radius: usize,
    inner: u32,
    outer: u32,
}

impl BoxKernel {
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
