//! Cutting, resizing, mirroring, and the numbers a vision tower reads: on 8-bit RGB, bit for bit as Pillow and torchvision do it.

use std::f64::consts::PI;

use image::RgbImage;
use lafter_fast as fast; // fast::

/// A rectangle in pixels, from the upper left corner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Region {
    /// First column.
    pub left: u32,
    /// First row.
    pub top: u32,
    /// Number of columns.
    pub width: u32,
    /// Number of rows.
    pub height: u32,
}

impl Region {
    /// All of an image of this size.
    pub fn whole((width, height): (u32, u32)) -> Self {
        Self { left: 0, top: 0, width, height }
    }

    /// The part of this region that lies inside an image of this size.
    pub fn within(self, (width, height): (u32, u32)) -> Self {
        let (left, top) = (self.left.min(width), self.top.min(height));
        Self { left, top, width: self.width.min(width - left), height: self.height.min(height - top) }
    }

    /// True if it holds no pixel.
    pub fn is_empty(self) -> bool {
        self.width == 0 || self.height == 0
    }
}

/// The pixels of `region`; what lies outside the image is left out.
pub fn crop(image: &RgbImage, region: Region) -> RgbImage {
    let region = region.within(image.dimensions());
    let mut out = RgbImage::new(region.width, region.height);
    paste(image, region, &mut out, (0, 0));
    out
}

/// Copies `region` of one image to a place in another; what fits in neither is left out.
pub fn paste(from: &RgbImage, region: Region, to: &mut RgbImage, (x, y): (u32, u32)) {
    let region = region.within(from.dimensions());
    let room = Region { left: x, top: y, ..region }.within(to.dimensions());
    if room.is_empty() {
        return;
    }
    let (from_stride, to_stride, length) = (from.width() as usize * 3, to.width() as usize * 3, room.width as usize * 3);
    let rows = from.chunks_exact(from_stride).skip(region.top as usize);
    let targets = to.chunks_exact_mut(to_stride).skip(room.top as usize).take(room.height as usize);
    let (from_left, to_left) = (region.left as usize * 3, room.left as usize * 3);
    for (row, target) in rows.zip(targets) {
        target[to_left..to_left + length].copy_from_slice(&row[from_left..from_left + length]);
    }
}

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

/// The filter of a resize. Widened by the scale when shrinking (antialiasing).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resample {
    /// Triangle, support 1: torchvision's default, used by the strong view's crop.
    Bilinear,
    /// Keys' cubic with a = −1/2, support 2: CLIP's.
    #[default]
    Bicubic,
    /// Windowed sinc, support 3.
    Lanczos,
}

impl Resample {
    /// How far the filter reaches to each side, in pixels of the smaller picture.
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    /// The filter at `x` pixels from its center.
    fn value(self, x: f64) -> f64 {
        let x = x.abs();
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) };
        match self {
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5,
            Self::Lanczos if x < 3.0 => sinc(x) * sinc(x / 3.0),
            _ => 0.0,
        }
    }
}

/// The image at exactly this size, with antialiasing: a separable filter that widens with the scale.
pub fn resize(image: &RgbImage, width: u32, height: u32, filter: Resample) -> RgbImage {
    crop_resize(image, Region::whole(image.dimensions()), width, height, filter)
}

/// The image with its shorter edge at `size` and its shape kept: see [`shortest_edge_size`].
pub fn resize_shortest(image: &RgbImage, size: u32, filter: Resample) -> RgbImage {
    let (width, height) = shortest_edge_size(image.dimensions(), size);
    resize(image, width, height, filter)
}

/// Width and height with the shorter edge at `size`; the longer one is size·long/short without its fraction,
/// as `torchvision.transforms.Resize` has it.
pub fn shortest_edge_size((width, height): (u32, u32), size: u32) -> (u32, u32) {
    let (short, long) = (width.min(height), width.max(height));
    let longer = (u64::from(size) * u64::from(long)).checked_div(u64::from(short)).unwrap_or(0);
    let longer = u32::try_from(longer).unwrap_or(u32::MAX);
    if width <= height { (size, longer) } else { (longer, size) }
}

/// The pixels of `region` at the size `width` × `height`; nothing outside the region is read.
pub fn crop_resize(image: &RgbImage, region: Region, width: u32, height: u32, filter: Resample) -> RgbImage {
    resample(image, region, (width, height), Region::whole((width, height)), filter)
}

/// `window` of the picture that `region` of `image` gives when resized to `size`.
///
/// Only the window is computed, so a center crop of a very long picture costs no more than the crop. An empty region
/// gives a black window.
pub fn resample(image: &RgbImage, region: Region, size: (u32, u32), window: Region, filter: Resample) -> RgbImage {
    let (region, window) = (region.within(image.dimensions()), window.within(size));
    let mut out = RgbImage::new(window.width, window.height);
    if region.is_empty() || window.is_empty() {
        return out;
    }
    if (region.width, region.height) == size {
        paste(image, Region { left: region.left + window.left, top: region.top + window.top, ..window }, &mut out, (0, 0));
        return out;
    }
    let columns = Taps::new(region.width, size.0, window.left, window.width, filter);
    let rows = Taps::new(region.height, size.1, window.top, window.height, filter);
    let ((left, right), (top, bottom)) = (columns.span(), rows.span());
    let (stride, narrow, wide) = (image.width() as usize * 3, window.width as usize * 3, (right - left) * 3);
    // the rows that are read, each from the first pixel that is read
    let source = &image.as_raw()[(region.top as usize + top) * stride + (region.left as usize + left) * 3..];

    if rows_first(region, size) {
        let mut short = vec![0; wide * window.height as usize];
        down(source, stride, top, &rows, &mut short, wide); // [height, wide] -> [window height, wide]
        across(&short, wide, wide, left, &columns, &mut out, narrow); // [wide] -> [window width]
    } else {
        let mut slim = vec![0; narrow * (bottom - top)];
        across(source, stride, wide, left, &columns, &mut slim, narrow); // [height, wide] -> [height, window width]
        down(&slim, narrow, top, &rows, &mut out, narrow); // [height] -> [window height]
    }
    out
}

/// The order of the two passes matters, because the picture between them has 8 bits: up to ten levels on noise, one or two on
/// photographs. Pillow 13 and later resize vertically first if `height removed > 2 × width removed`; earlier versions always
/// resize horizontally first.
#[doc(hidden)]
pub fn rows_first(region: Region, size: (u32, u32)) -> bool {
    let removed = |from: u32, to: u32| i64::from(from) - i64::from(to);
    removed(region.height, size.1) > (2 * removed(region.width, size.0)).max(0)
}

/// Weights are in units of 2⁻²²: 8 bits for the result and 2 for filters that overshoot leave 22 of 32.
const BITS: u32 = 22;

/// What every output pixel of a line reads: a run of source pixels and their weights, which sum to 1. Weights, order of sums and
/// rounding are Pillow's, in whole numbers.
#[doc(hidden)]
pub struct Taps {
    /// Where each run begins.
    pub starts: Vec<usize>,
    /// `width` weights for each output pixel; those past the end of a run are 0.
    pub weights: Vec<i32>,
    pub lengths: Vec<usize>,
    pub width: usize,
}

impl Taps {
    /// The taps for `count` output pixels from `first` on, of a line of `source` pixels resized to `target` pixels.
    ///
    /// The filter is centered on the output pixel and widened by the scale when shrinking.
    pub fn new(source: u32, target: u32, first: u32, count: u32, filter: Resample) -> Self {
        let scale = f64::from(source) / f64::from(target);
        let widen = scale.max(1.0);
        let reach = filter.support() * widen;
        let width = (reach.ceil() as usize * 2 + 1).min(source as usize);
        let (mut starts, mut lengths, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        let mut run = Vec::with_capacity(width);
        for pixel in first..first + count {
            let center = (f64::from(pixel) + 0.5) * scale;
            let start = (center - reach + 0.5) as u32; // `as` stops at 0
            let end = ((center + reach + 0.5) as u32).min(source);
            let value = |x| filter.value((f64::from(x) - center + 0.5) * (1.0 / widen));
            run.clear();
            run.extend((start..end).map(value));
            let total: f64 = run.iter().sum();
            starts.push(start as usize);
            lengths.push(run.len());
            weights.extend(run.iter().map(|weight| {
                let scaled = (if total == 0.0 { *weight } else { weight / total }) * f64::from(1 << BITS);
                (scaled + 0.5f64.copysign(scaled)) as i32
            }));
            weights.resize(starts.len() * width, 0);
        }
        Self { starts, weights, lengths, width }
    }

    /// The first source pixel that is read, and the one after the last.
    fn span(&self) -> (usize, usize) {
        let last = self.starts.last().zip(self.lengths.last()).map_or(0, |(start, length)| start + length);
        (self.starts.first().copied().unwrap_or(0), last)
    }

    /// Runs and weights, one of each for every output pixel.
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let weights = self.weights.chunks_exact(self.width.max(1)).zip(&self.lengths).map(|(weights, length)| &weights[..*length]);
        self.starts.iter().copied().zip(weights)
    }
}

/// Rounds and cuts to 0..=255; the half is already in the sum.
#[inline(always)]
fn level(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (BITS - 1);

/// Rows that are resized side by side, and the lanes they fill: three channels and one unused.
const ROWS: usize = 8;
const LANES: usize = 4 * ROWS;

/// Resizes rows of RGB pixels that begin `stride` bytes apart, the first pixel of which is pixel `first` of the source's
/// rows, to rows of `narrow` bytes. `wide` bytes of each row are read.
///
/// Neighbors in a row share a weight only with pixels of other rows, so eight rows are turned into columns first.
fn across(rows: &[u8], stride: usize, wide: usize, first: usize, taps: &Taps, out: &mut [u8], narrow: usize) {
    let mut columns = vec![[0u8; LANES]; wide / 3];
    for (rows, out) in rows.chunks(ROWS * stride).zip(out.chunks_mut(ROWS * narrow)) {
        for (lane, row) in rows.chunks(stride).enumerate() {
            // four bytes at once: a next pixel's first one falls on the unused lane
            let (last, columns) = match columns.split_last_mut() {
                Some(split) => split,
                None => return,
            };
            for (pixel, column) in row[..wide].windows(4).step_by(3).zip(columns) {
                column[4 * lane..4 * lane + 4].copy_from_slice(pixel);
            }
            last[4 * lane..4 * lane + 3].copy_from_slice(&row[wide - 3..wide]);
        }
        across_columns(&columns, first, taps, out, narrow);
    }
}

fast::wide! { // fast::
    fn across_columns(columns: &[[u8; LANES]], first: usize, taps: &Taps, out: &mut [u8], narrow: usize) {
        for ((start, weights), x) in taps.iter().zip((0..narrow).step_by(3)) {
            let mut sums = [HALF; LANES];
            for (column, weight) in columns[start - first..].iter().zip(weights) {
                for (sum, value) in sums.iter_mut().zip(column) {
                    *sum += i32::from(*value) * weight;
                }
            }
            let levels = sums.map(level);
            for (row, levels) in out.chunks_exact_mut(narrow).zip(levels.chunks_exact(4)) {
                row[x..x + 3].copy_from_slice(&levels[..3]);
            }
        }
    }
} // fast::

fast::wide! { // fast::
    /// Resizes rows that begin `stride` bytes apart, the first of which is row `first` of the source, to rows of `length` bytes.
    fn down(rows: &[u8], stride: usize, first: usize, taps: &Taps, out: &mut [u8], length: usize) {
        const BLOCK: usize = 64; // sums that stay in registers
        for ((start, weights), target) in taps.iter().zip(out.chunks_exact_mut(length)) {
            let rows = &rows[(start - first) * stride..];
            let (blocks, rest) = target.as_chunks_mut::<BLOCK>();
            let at_rest = blocks.len() * BLOCK;
            for (block, target) in blocks.iter_mut().enumerate() {
                let mut sums = [HALF; BLOCK];
                for (i, weight) in weights.iter().enumerate() {
                    let row = &rows[i * stride + block * BLOCK..][..BLOCK];
                    for (sum, value) in sums.iter_mut().zip(row) {
                        *sum += i32::from(*value) * weight;
                    }
                }
                *target = sums.map(level);
            }
            let mut sums = [HALF; BLOCK];
            for (i, weight) in weights.iter().enumerate() {
                for (sum, value) in sums.iter_mut().zip(&rows[i * stride + at_rest..][..rest.len()]) {
                    *sum += i32::from(*value) * weight;
                }
            }
            rest.iter_mut().zip(sums).for_each(|(value, sum)| *value = level(sum));
        }
    }
} // fast::

/// Channel means of OpenAI's CLIP, for values of 0..1.
#[allow(clippy::excessive_precision)] // the published digits
pub const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// Channel standard deviations of OpenAI's CLIP, for values of 0..1.
#[allow(clippy::excessive_precision)] // the published digits
pub const CLIP_STD: [f32; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];

/// (rescale·value − mean)/std by channel, as planes: `[3, height, width]` f32, row by row.
///
/// A `rescale` of 1/255 is torchvision's `ToTensor`.
pub fn normalize(image: &RgbImage, mean: [f32; 3], std: [f32; 3], rescale: f32) -> Vec<f32> {
    let mut out = vec![0f32; 3 * image.width() as usize * image.height() as usize];
    normalize_into(image, mean, std, rescale, &mut out);
    out
}

/// [`normalize`] into a slice of that length.
pub fn normalize_into(image: &RgbImage, mean: [f32; 3], std: [f32; 3], rescale: f32, out: &mut [f32]) {
    let plane = image.width() as usize * image.height() as usize;
    for (channel, out) in out.chunks_exact_mut(plane.max(1)).enumerate() {
        // 256 values are all a channel can take
        let table: [f32; 256] = std::array::from_fn(|value| (scaled(value as f32, rescale) - mean[channel]) / std[channel]);
        for (target, pixel) in out.iter_mut().zip(image.chunks_exact(3)) {
            *target = table[usize::from(pixel[channel])]; // [h, w, 3] -> [3, h, w]
        }
    }
}

/// 1/255 has no exact f32: dividing gives the bits PyTorch gives.
fn scaled(value: f32, rescale: f32) -> f32 {
    if rescale == 1.0 / 255.0 { value / 255.0 } else { value * rescale }
}

/// The picture that planes `[3, height, width]` were made from, for figures: the inverse of [`normalize`], rounded and cut
/// to 0..=255. Missing values are black.
pub fn picture(pixels: &[f32], width: u32, height: u32, mean: [f32; 3], std: [f32; 3], rescale: f32) -> RgbImage {
    let plane = width as usize * height as usize;
    let mut out = RgbImage::new(width, height);
    for (index, pixel) in out.chunks_exact_mut(3).enumerate() {
        for (channel, value) in pixel.iter_mut().enumerate() {
            let normalized = pixels.get(channel * plane + index).copied().unwrap_or(f32::NAN);
            *value = ((normalized * std[channel] + mean[channel]) / rescale).round() as u8; // NaN is 0
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 1]))
    }

    #[test]
    fn regions_outside_the_image_are_cut_never_a_panic() {
        let far = Region { left: 90, top: 90, width: 5, height: 5 };
        assert_eq!(crop(&numbered(8, 8), far).dimensions(), (0, 0));
        let over = Region { left: 6, top: 5, width: u32::MAX, height: 2 };
        assert_eq!(crop(&numbered(8, 8), over).dimensions(), (2, 2));
    }

    #[test]
    fn twice_is_the_image_and_once_reverses_each_row() {
        let image = RgbImage::from_fn(5, 3, |x, y| image::Rgb([x as u8, y as u8, 9]));
        assert_eq!(flip_horizontal(&image).get_pixel(0, 2).0, [4, 2, 9]);
        assert_eq!(flip_horizontal(&flip_horizontal(&image)), image);
        assert_eq!(flip_horizontal(&RgbImage::new(0, 4)).dimensions(), (0, 4));
    }

    fn texture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let v = x.wrapping_mul(2_654_435_761).wrapping_add(y.wrapping_mul(40_503)) >> 7;
            image::Rgb([v as u8, (v >> 8) as u8, (x * 3 + y) as u8])
        })
    }

    #[test]
    fn sizes_round_down_as_torchvision_does() {
        assert_eq!(shortest_edge_size((500, 375), 224), (298, 224));
        assert_eq!(shortest_edge_size((375, 500), 224), (224, 298));
        assert_eq!(shortest_edge_size((224, 224), 224), (224, 224));
        assert_eq!(shortest_edge_size((0, 7), 224), (224, 0));
    }

    #[test]
    fn a_window_is_the_same_as_a_crop_of_the_whole() {
        for ((w, h), (to_w, to_h)) in [((61, 47), (29, 23)), ((20, 90), (33, 149)), ((49, 49), (49, 20)), ((7, 5), (64, 46))] {
            let image = texture(w, h);
            for filter in [Resample::Bilinear, Resample::Bicubic, Resample::Lanczos] {
                let whole = resize(&image, to_w, to_h, filter);
                let window = Region { left: to_w / 3, top: to_h / 3, width: to_w / 2, height: to_h / 2 };
                let part = resample(&image, Region::whole((w, h)), (to_w, to_h), window, filter);
                assert!(part == crop(&whole, window), "{w}x{h} -> {to_w}x{to_h} {filter:?}");
            }
        }
    }

    #[test]
    fn a_region_is_the_same_as_cropping_first() {
        let image = texture(57, 43);
        let region = Region { left: 11, top: 5, width: 31, height: 29 };
        let cropped = crop(&image, region);
        assert_eq!(crop_resize(&image, region, 16, 24, Resample::Bicubic), resize(&cropped, 16, 24, Resample::Bicubic));
    }

    #[test]
    fn nothing_to_read_is_black_and_the_same_size_is_a_copy() {
        assert_eq!(resize(&RgbImage::new(0, 9), 4, 4, Resample::Bicubic), RgbImage::new(4, 4));
        let image = texture(9, 8);
        assert_eq!(resize(&image, 9, 8, Resample::Bicubic), image);
        assert_eq!(resize(&image, 0, 8, Resample::Bicubic).dimensions(), (0, 8));
    }

    #[test]
    fn a_very_long_picture_costs_only_its_window() {
        let image = texture(60_000, 1);
        let window = Region { left: 6_000_000, top: 0, width: 224, height: 224 };
        let size = shortest_edge_size(image.dimensions(), 224);
        assert_eq!(resample(&image, Region::whole((60_000, 1)), size, window, Resample::Bicubic).dimensions(), (224, 224));
    }

    #[test]
    fn weights_sum_to_one_and_runs_lie_inside() {
        for filter in [Resample::Bilinear, Resample::Bicubic, Resample::Lanczos] {
            for (source, target) in [(1, 1), (1, 9), (9, 1), (17, 224), (500, 224), (224, 224), (3, 2)] {
                let taps = Taps::new(source, target, 0, target, filter);
                assert_eq!(taps.span(), (0, source as usize), "{filter:?} {source} -> {target}");
                for (start, weights) in taps.iter() {
                    assert!(!weights.is_empty() && start + weights.len() <= source as usize);
                    let total: i64 = weights.iter().map(|w| i64::from(*w)).sum();
                    assert!((total - (1 << BITS)).unsigned_abs() <= weights.len() as u64, "{total}");
                }
            }
        }
    }

    #[test]
    fn a_picture_comes_back_from_its_planes() {
        let image = RgbImage::from_fn(16, 16, |x, y| image::Rgb([(16 * y + x) as u8, (x * 15) as u8, (y * 15) as u8]));
        let (mean, std) = ([0.48, 0.45, 0.40], [0.26, 0.27, 0.28]);
        let planes = normalize(&image, mean, std, 1.0 / 255.0);
        assert_eq!(planes[1], (1.0 / 255.0 - 0.48) / 0.26);
        assert_eq!(planes[256 + 1], (15.0 / 255.0 - 0.45) / 0.27);
        assert_eq!(picture(&planes, 16, 16, mean, std, 1.0 / 255.0), image);
        assert_eq!(picture(&[], 2, 2, mean, std, 1.0 / 255.0), RgbImage::new(2, 2));
    }
}
