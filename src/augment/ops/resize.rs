//! Resizing with antialiasing, as Pillow does it: a separable filter that widens with the scale, bit for bit.

use image::RgbImage;

use super::convolve::{Taps, across, down};
use super::crop::{Region, paste};
use super::filter::Resample;

/// The image at exactly this size.
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
/// Only the window is computed, so a centre crop of a very long picture costs no more than the crop. An empty region
/// gives a black window.
pub(crate) fn resample(image: &RgbImage, region: Region, size: (u32, u32), window: Region, filter: Resample) -> RgbImage {
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
fn rows_first(region: Region, size: (u32, u32)) -> bool {
    let removed = |from: u32, to: u32| i64::from(from) - i64::from(to);
    removed(region.height, size.1) > (2 * removed(region.width, size.0)).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

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
                assert!(part == super::super::crop(&whole, window), "{w}x{h} -> {to_w}x{to_h} {filter:?}");
            }
        }
    }

    #[test]
    fn a_region_is_the_same_as_cropping_first() {
        let image = texture(57, 43);
        let region = Region { left: 11, top: 5, width: 31, height: 29 };
        let cropped = super::super::crop(&image, region);
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
}
