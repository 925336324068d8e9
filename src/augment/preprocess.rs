//! The weak view α_w (eq. 3): resize, center crop, normalize, as this CLIP was trained with.

use std::hash::{DefaultHasher, Hash, Hasher};

use image::RgbImage;

use super::geometry::{self, Region, Resample, paste};

/// How far apart two values of the tower's input are where one comes of numbers with four digits: an eighth of a level of 255.
const ROUNDING: f32 = 2e-3;

/// What the resize before the center crop aims at, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResizeTo {
    /// The shorter edge gets this length, the shape is kept: CLIP's.
    ShortestEdge(u32),
    /// The longer edge gets this length, the shape is kept; the crop then pads with black.
    LongestEdge(u32),
    /// Both edges, whatever the shape was.
    Exact {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// No resize: the crop cuts or pads the picture as it is.
    Keep,
}

/// The weak view: what turns a picture into a vision tower's input, the same at training and inference.
///
/// ```
/// use lafter::augment::Preprocess;
/// let json = serde_json::json!({"size": {"shortest_edge": 40}, "crop_size": 32, "resample": 3});
/// let weak = Preprocess::from_json(&json, 224)?;
/// assert_eq!(weak.side(), 32);
/// assert_eq!(weak.image(&image::RgbImage::new(60, 50)).dimensions(), (32, 32));
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Preprocess {
    /// What the resize before the crop aims at.
    pub resize: ResizeTo,
    /// Filter of that resize: bicubic for CLIP.
    pub resample: Resample,
    /// Side of the center crop, and so of the view, in pixels.
    pub crop: u32,
    /// Whose center crop that is: transformers' and torchvision's differ where a margin is odd.
    #[serde(default)]
    pub crop_rule: CropRule,
    /// What 8-bit values are multiplied by before `mean` and `std`: 1/255.
    pub rescale: f32,
    /// Subtracted from the rescaled values, per channel (R, G, B).
    pub mean: [f32; 3],
    /// Divided by after that, per channel.
    pub std: [f32; 3],
}

impl Preprocess {
    /// OpenAI CLIP's: shorter edge to `size` (bicubic), center crop as torchvision cuts it, CLIP's mean and std.
    pub fn clip(size: usize) -> Self {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        Self {
            resize: ResizeTo::ShortestEdge(size),
            resample: Resample::Bicubic,
            crop: size,
            crop_rule: CropRule::Torchvision,
            rescale: 1.0 / 255.0,
            mean: geometry::CLIP_MEAN,
            std: geometry::CLIP_STD,
        }
    }

    /// The same as transformers' `CLIPImageProcessor` does it with an RGB picture: what a model in transformers' layout gets. A picture
    /// with alpha loses it before, as in open_clip; transformers' version 5 lays it on white.
    pub fn transformers(size: usize) -> Self {
        Self { crop_rule: CropRule::Transformers, ..Self::clip(size) }
    }

    /// Side of the view in pixels.
    pub fn side(&self) -> usize {
        self.crop as usize
    }

    /// The picture the tower sees, before normalization: side × side. An image without pixels gives a black one.
    pub fn image(&self, image: &RgbImage) -> RgbImage {
        let (width, height) = self.target_size(image.dimensions());
        let axis = |size| CenterAxis::new(size, self.crop, self.crop_rule);
        self.cut(image, (width, height), axis(width), axis(height))
    }

    /// [`image`](Self::image) with the crop elsewhere: `pick` is told how many places there are along an axis, first downwards, then to the
    /// right, and says which, from 0. It is asked only if there is more than one. With random places this is torchvision's `RandomCrop`
    /// after the resize; an edge that is shorter than the crop is padded as in `image`.
    pub fn image_at(&self, image: &RgbImage, mut pick: impl FnMut(u32) -> u32) -> RgbImage {
        let (width, height) = self.target_size(image.dimensions());
        let mut axis = |size: u32| {
            let center = CenterAxis::new(size, self.crop, self.crop_rule);
            let margin = size.saturating_sub(self.crop);
            if margin > 0 { CenterAxis { start: pick(margin.saturating_add(1)).min(margin), ..center } } else { center }
        };
        let y = axis(height);
        let x = axis(width);
        self.cut(image, (width, height), x, y)
    }

    /// The resized picture's part at these axes.
    fn cut(&self, image: &RgbImage, (width, height): (u32, u32), x: CenterAxis, y: CenterAxis) -> RgbImage {
        let window = Region { left: x.start, top: y.start, width: x.length, height: y.length };
        let middle = geometry::resample(image, Region::whole(image.dimensions()), (width, height), window, self.resample);
        if middle.dimensions() == (self.crop, self.crop) {
            return middle;
        }
        let mut padded = RgbImage::new(self.crop, self.crop);
        paste(&middle, Region::whole(middle.dimensions()), &mut padded, (x.offset, y.offset));
        padded
    }

    /// The tower's input for one image: planes `[3, side, side]` f32, row by row.
    pub fn apply(&self, image: &RgbImage) -> Vec<f32> {
        self.planes(&self.image(image))
    }

    /// The tower's input from the picture that the tower sees, which [`image`](Self::image) gives.
    pub fn planes(&self, view: &RgbImage) -> Vec<f32> {
        geometry::normalize(view, self.mean, self.std, self.rescale)
    }

    /// [`planes`](Self::planes) into a slice of that length.
    pub(crate) fn planes_into(&self, view: &RgbImage, planes: &mut [f32]) {
        geometry::normalize_into(view, self.mean, self.std, self.rescale, planes);
    }

    /// Names what [`image`](Self::image) depends on: equal for equal geometry, in this process.
    pub fn geometry_key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        format!("{:?} {:?} {} {:?}", self.resize, self.resample, self.crop, self.crop_rule).hash(&mut hasher);
        hasher.finish()
    }

    /// True if two prepare pictures alike, up to the rounding of printed numbers and a pixel of an odd margin: black and white reach
    /// the tower with the same values, whichever of `rescale`, `mean` and `std` makes them so.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let same = (self.resize, self.resample, self.crop) == (other.resize, other.resample, other.crop);
        let near = |level, c| (self.value(level, c) - other.value(level, c)).abs() < ROUNDING;
        same && (0..3).all(|c| near(0.0, c) && near(255.0, c))
    }

    /// The values that black and white have in the tower's input, each of its farthest channel: about −1.8 and 2.1 for CLIP.
    pub fn range(&self) -> (f32, f32) {
        let over = |level, pick: fn(f32, f32) -> f32| (1..3).map(|c| self.value(level, c)).fold(self.value(level, 0), pick);
        (over(0.0, f32::min), over(255.0, f32::max))
    }

    /// What a level of 0 to 255 of channel `c` is in the tower's input.
    fn value(&self, level: f32, c: usize) -> f32 {
        (level * self.rescale - self.mean[c]) / self.std[c]
    }

    /// The picture behind one view's planes `[3, side, side]`, for figures.
    pub fn picture(&self, pixels: &[f32]) -> RgbImage {
        geometry::picture(pixels, self.crop, self.crop, self.mean, self.std, self.rescale)
    }

    /// Width and height after the resize, before the crop.
    fn target_size(&self, (width, height): (u32, u32)) -> (u32, u32) {
        match self.resize {
            ResizeTo::ShortestEdge(size) => geometry::shortest_edge_size((width, height), size),
            ResizeTo::LongestEdge(size) => {
                // in open_clip's order of operations (ResizeKeepRatio), so that halves round alike
                let ratio = f64::from(width.max(height).max(1)) / f64::from(size);
                let edge = |edge: u32| ((f64::from(edge) / ratio).round_ties_even() as u32).max(1); // a hair is not a black picture
                (edge(width), edge(height))
            }
            ResizeTo::Exact { width, height } => (width, height),
            ResizeTo::Keep => (width, height),
        }
    }
}

/// Whose center crop: where a margin is odd, two libraries cut (or pad) a pixel apart.
///
/// | | first row kept of a picture that is `margin` rows taller | rows of black above one that lacks `margin` rows |
/// |---|---|---|
/// | torchvision | margin / 2, half to even: 15 → 8, 5 → 2 | ⌊margin / 2⌋ |
/// | transformers | ⌊margin / 2⌋: 15 → 7, 5 → 2 | ⌈margin / 2⌉ |
///
/// transformers has two image processors. This is the one on Pillow and NumPy (`CLIPImageProcessor` in version 4,
/// `CLIPImageProcessorPil` in version 5): CLIP was trained with Pillow's resize, which [`resize`](super::ops::resize) follows bit for bit.
/// The one on torchvision's tensors (`CLIPImageProcessorFast`, version 5's default) cuts at the same rows, pads as torchvision
/// does, and resizes with another rounding, so that no rule here would give its bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CropRule {
    /// `torchvision.transforms.CenterCrop`: OpenAI's and open_clip's.
    #[default]
    Torchvision,
    /// transformers' `CLIPImageProcessor`.
    Transformers,
}

/// The middle of an image as torchvision cuts it; if the image is smaller than the crop, black is added around it.
pub fn center_crop(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    let axis = |image, crop| CenterAxis::new(image, crop, CropRule::Torchvision);
    let (x, y) = (axis(image.width(), width), axis(image.height(), height));
    let mut out = RgbImage::new(width, height);
    paste(image, Region { left: x.start, top: y.start, width: x.length, height: y.length }, &mut out, (x.offset, y.offset));
    out
}

/// A center crop along one axis: `length` pixels from `start` of the image go to `offset` of the crop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CenterAxis {
    start: u32,
    length: u32,
    offset: u32,
}

impl CenterAxis {
    fn new(image: u32, crop: u32, rule: CropRule) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn texture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 7 + y) as u8, (x * y) as u8, (x ^ y) as u8]))
    }

    #[test]
    fn the_window_is_the_same_as_resize_then_crop() {
        for (w, h) in [(50, 37), (37, 50), (33, 33), (32, 32), (20, 10), (31, 200)] {
            let image = texture(w, h);
            let steps = center_crop(&geometry::resize_shortest(&image, 32, Resample::Bicubic), 32, 32);
            assert!(Preprocess::clip(32).image(&image) == steps, "{w}x{h}");
        }
    }

    #[test]
    fn a_crop_elsewhere_is_a_part_of_the_same_resized_picture() {
        let weak = Preprocess::clip(32);
        for (w, h) in [(50, 37), (37, 80), (90, 31)] {
            let (image, mut asked) = (texture(w, h), Vec::new());
            let resized = geometry::resize_shortest(&image, 32, Resample::Bicubic);
            let margin = resized.width().max(resized.height()) - 32;
            for place in [0, margin / 3, margin] {
                let (left, top) = if w > h { (place, 0) } else { (0, place) };
                let view = weak.image_at(&image, |places| {
                    asked.push(places);
                    place
                });
                assert!(view == image::imageops::crop_imm(&resized, left, top, 32, 32).to_image(), "{w}x{h} at {place}");
            }
            assert_eq!(asked, [margin + 1; 3]); // along the longer edge only
            assert!(
                weak.image_at(&image, |places| places) == weak.image_at(&image, |places| places - 1),
                "a place beyond the last is the last"
            );
        }
        let square = texture(40, 40);
        assert!(weak.image_at(&square, |_| panic!("a square has one place")) == weak.image(&square));
    }

    #[test]
    fn crops_larger_than_the_resize_are_padded() {
        let weak = Preprocess { resize: ResizeTo::LongestEdge(16), ..Preprocess::clip(16) };
        let image = weak.image(&RgbImage::from_pixel(40, 20, image::Rgb([9, 9, 9])));
        assert_eq!(image.dimensions(), (16, 16));
        let middle: Vec<u8> = (0..16).map(|y| image.get_pixel(8, y).0[0]).collect();
        assert_eq!(middle, [0, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9, 0, 0, 0, 0]);
        let hair = weak.image(&RgbImage::from_pixel(4000, 1, image::Rgb([9, 9, 9])));
        assert_eq!(hair.pixels().filter(|pixel| pixel.0 == [9; 3]).count(), 16);
    }

    #[test]
    fn odd_shapes_neither_panic_nor_take_much_memory() {
        for (w, h) in [(0, 0), (1, 1), (1, 40_000), (40_000, 1)] {
            assert_eq!(Preprocess::clip(24).apply(&RgbImage::new(w, h)).len(), 3 * 24 * 24);
        }
    }

    fn numbered(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 1]))
    }

    #[test]
    fn the_middle_of_an_odd_margin_is_the_even_one_or_the_first() {
        let starts = |rule| (4..12).map(|n| CenterAxis::new(n, 4, rule).start).collect::<Vec<u32>>();
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
        assert_eq!(center_crop(&RgbImage::new(0, 0), 4, 4), RgbImage::new(4, 4));
    }

    #[test]
    fn it_can_be_saved() {
        let weak = Preprocess { resize: ResizeTo::Exact { width: 9, height: 8 }, ..Preprocess::clip(8) };
        let json = serde_json::to_string(&weak).unwrap();
        assert_eq!(serde_json::from_str::<Preprocess>(&json).unwrap(), weak);
    }
}
