//! Resizing with antialiasing, as Pillow does it: a separable filter that widens with the scale, rows first.

use fast_image_resize::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ImageView, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::crop::Region;

/// The filter of a resize. Widened by the scale when shrinking (antialiasing).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    fn filter(self) -> FilterType {
        match self {
            Self::Bilinear => FilterType::Bilinear,
            Self::Bicubic => FilterType::CatmullRom,
            Self::Lanczos => FilterType::Lanczos3,
        }
    }

    /// How far the filter reaches to each side, in pixels of the smaller picture.
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }
}

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
    // source pixels to one target pixel
    let (scale_x, scale_y) = (f64::from(region.width) / f64::from(size.0), f64::from(region.height) / f64::from(size.1));
    let reach = (filter.support() * scale_y.max(1.0)).ceil() + 1.0;
    let first = (f64::from(window.top) * scale_y - reach).max(0.0) as u32;
    let last = ((f64::from(window.top + window.height) * scale_y + reach) as u32).min(region.height);
    let rows = last - first;

    let mut narrow = RgbImage::new(window.width, rows);
    let source = TypedImageRef::from_buffer(image.width(), image.height(), image)
        .ok()
        .and_then(|view| TypedCroppedImage::new(view, region.left, region.top + first, region.width, rows).ok());
    let across = Region { left: window.left, top: 0, width: window.width, height: rows };
    let done = source.is_some_and(|source| convolve(&source, across, (scale_x, 1.0), 0.0, filter, &mut narrow))
        && TypedImageRef::from_buffer(narrow.width(), rows, &narrow).is_ok_and(|source| {
            let down = Region { left: 0, ..window };
            convolve(&source, down, (1.0, scale_y), f64::from(first), filter, &mut out)
        });
    debug_assert!(done, "{region:?} to {size:?}, {window:?}");
    out
}

/// One direction of the filter. Pillow rounds to 8 bits between the two; doing them apart keeps its order and rounding.
fn convolve(
    source: &impl ImageView<Pixel = U8x3>,
    window: Region,
    (scale_x, scale_y): (f64, f64),
    skipped_rows: f64,
    filter: Resample,
    out: &mut RgbImage,
) -> bool {
    let (left, top) = (f64::from(window.left) * scale_x, f64::from(window.top) * scale_y - skipped_rows);
    // the products can pass the edge by one part in 2⁵³
    let width = (f64::from(window.width) * scale_x).min(f64::from(source.width()) - left);
    let height = (f64::from(window.height) * scale_y).min(f64::from(source.height()) - top);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter.filter())).crop(left, top, width, height);
    let (out_width, out_height) = out.dimensions();
    let Ok(mut target) = TypedImage::<U8x3>::from_buffer(out_width, out_height, out) else { return false };
    Resizer::new().resize_typed(source, &mut target, &options).is_ok()
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
                let crop = super::super::crop(&whole, window);
                // the weights are rounded by the largest of the window's, so a level may fall the other way
                let farthest = part.iter().zip(crop.iter()).map(|(a, b)| a.abs_diff(*b)).max();
                assert!(part.dimensions() == crop.dimensions() && farthest <= Some(1), "{w}x{h} -> {to_w}x{to_h} {filter:?}: {farthest:?}");
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
