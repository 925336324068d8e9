//! Cutting a rectangle out of an image, at a given place or from the middle.

use image::RgbImage;
use serde::{Deserialize, Serialize};

/// A rectangle in pixels, from the upper left corner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

    /// True where it holds no pixel.
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

/// Whose centre crop: where a margin is odd, two libraries cut (or pad) a pixel apart.
///
/// | | first row kept of a picture that is `margin` rows taller | rows of black above one that lacks `margin` rows |
/// |---|---|---|
/// | torchvision | margin / 2, half to even: 15 → 8, 5 → 2 | ⌊margin / 2⌋ |
/// | transformers | ⌊margin / 2⌋: 15 → 7, 5 → 2 | ⌈margin / 2⌉ |
///
/// transformers has two image processors. This is the one on Pillow and NumPy (`CLIPImageProcessor` in version 4,
/// `CLIPImageProcessorPil` in version 5): CLIP was trained with Pillow's resize, which [`resize`](super::resize) follows bit for bit.
/// The one on torchvision's tensors (`CLIPImageProcessorFast`, version 5's default) cuts at the same rows, pads as torchvision
/// does, and resizes with another rounding, so that no rule here would give its bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CropRule {
    /// `torchvision.transforms.CenterCrop`: OpenAI's and open_clip's.
    #[default]
    Torchvision,
    /// transformers' `CLIPImageProcessor`.
    Transformers,
}

/// The middle of an image as torchvision cuts it; where the image is smaller than the crop, black is added around it.
pub fn center_crop(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    let axis = |image, crop| CentreAxis::new(image, crop, CropRule::Torchvision);
    let (x, y) = (axis(image.width(), width), axis(image.height(), height));
    let mut out = RgbImage::new(width, height);
    paste(image, Region { left: x.start, top: y.start, width: x.length, height: y.length }, &mut out, (x.offset, y.offset));
    out
}

/// A centre crop along one axis: `length` pixels from `start` of the image go to `offset` of the crop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CentreAxis {
    pub start: u32,
    pub length: u32,
    pub offset: u32,
}

impl CentreAxis {
    pub fn new(image: u32, crop: u32, rule: CropRule) -> Self {
        let margin = image.abs_diff(crop);
        match (rule, image < crop) {
            (CropRule::Torchvision, true) => Self { start: 0, length: image, offset: margin / 2 },
            (CropRule::Transformers, true) => Self { start: 0, length: image, offset: margin.div_ceil(2) },
            // half to even: of an odd margin's two middles the even one
            (CropRule::Torchvision, false) => Self { start: margin / 2 + u32::from(margin % 4 == 3), length: crop, offset: 0 },
            (CropRule::Transformers, false) => Self { start: margin / 2, length: crop, offset: 0 },
        }
    }
}

/// Copies `region` of one image to a place in another; what fits in neither is left out.
pub(crate) fn paste(from: &RgbImage, region: Region, to: &mut RgbImage, (x, y): (u32, u32)) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 1]))
    }

    #[test]
    fn the_middle_of_an_odd_margin_is_the_even_one_or_the_first() {
        let starts = |rule| (4..12).map(|n| CentreAxis::new(n, 4, rule).start).collect::<Vec<u32>>();
        assert_eq!(starts(CropRule::Torchvision), [0, 0, 1, 2, 2, 2, 3, 4]);
        assert_eq!(starts(CropRule::Transformers), [0, 0, 1, 1, 2, 2, 3, 3]);
        assert_eq!(center_crop(&numbered(7, 9), 4, 4).get_pixel(0, 0).0, [2, 2, 1]);
    }

    #[test]
    fn small_images_are_padded_with_black() {
        let padded = center_crop(&numbered(3, 6), 6, 4);
        assert_eq!(padded.dimensions(), (6, 4));
        assert_eq!(padded.get_pixel(0, 0).0, [0, 0, 0]);
        assert_eq!(padded.get_pixel(1, 0).0, [0, 1, 1]);
        assert_eq!(padded.get_pixel(3, 3).0, [2, 4, 1]);
        assert_eq!(padded.get_pixel(4, 3).0, [0, 0, 0]);
    }

    #[test]
    fn regions_outside_the_image_are_cut_never_a_panic() {
        let far = Region { left: 90, top: 90, width: 5, height: 5 };
        assert_eq!(crop(&numbered(8, 8), far).dimensions(), (0, 0));
        let over = Region { left: 6, top: 5, width: u32::MAX, height: 2 };
        assert_eq!(crop(&numbered(8, 8), over).dimensions(), (2, 2));
        assert_eq!(center_crop(&RgbImage::new(0, 0), 4, 4), RgbImage::new(4, 4));
    }
}
