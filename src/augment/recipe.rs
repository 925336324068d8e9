//! The strong view as numbers for a GPU: crop, taps and steps chosen here, pixels made there, with the same levels.

use candle_core::{Device, Tensor};
use image::RgbImage;
use lafter_fast::{ViewRecipe, ViewStep, ViewTaps};

use super::color::{self, BoxKernel};
use super::geometry::{self, Region, Resample, Taps};
use super::more;
use super::pillow::{self, Sampling};
use super::rand_augment::AugmentStep;
use super::strong::{JitterStep, StrongAugment, StrongParams};
use super::transfer::upload;
use crate::error::{Error, Result};

impl StrongAugment {
    /// [`apply_with`](Self::apply_with) in numbers, of which a GPU makes the view: of the picture only what the crop reads. A crop of more
    /// than 16 times the view's pixels is resized here, which costs less than to keep and send it.
    pub fn recipe(&self, image: &RgbImage, params: &StrongParams) -> ViewRecipe {
        let mut recipe = resized(image, params.crop, self.size, self.resample);
        if params.flip {
            recipe.columns = recipe.columns.mirrored();
        }
        let (side, steps) = (self.side(), &mut recipe.steps);
        if let Some(policy) = &self.more.rand_augment {
            let fill = policy.fill(more::mean_color(self));
            steps.extend(params.more.rand_augment.iter().filter_map(|step| augment(step, side, policy.sampling(), fill)));
        }
        steps.extend(params.jitter.iter().map(jitter));
        if params.gray {
            steps.push(ViewStep::Gray);
        }
        if let Some(corners) = params.more.perspective {
            steps.extend(pillow::coefficients((side, side), corners).map(|matrix| ViewStep::Cubic(matrix, [0; 3])));
        }
        steps.extend(params.more.second_jitter.iter().map(jitter));
        if let Some(BoxKernel { radius, inner, outer }) = params.blur.and_then(BoxKernel::of_blur) {
            let pass = |down| ViewStep::Box { down, radius: radius as u32, inner, outer };
            steps.extend([false, true].into_iter().flat_map(|down| (0..color::PASSES).map(move |_| pass(down))));
        }
        recipe
    }

    /// The views with these parameters, one of each image, made on a GPU: `[batch, 3, size, size]` f32, with the bits of
    /// [`apply_with`](Self::apply_with) and [`normalize`](super::ops::normalize).
    ///
    /// # Errors
    /// [`Error::Usage`] for another device, an empty batch, or if images and parameters differ in number.
    pub fn batch_on_gpu(&self, images: &[RgbImage], params: &[StrongParams], device: &Device) -> Result<Tensor> {
        let (n, given) = (images.len(), params.len());
        if n == 0 || n != given {
            return Err(Error::Usage(format!("a batch of views needs images and as many parameters, got {n} and {given}")));
        }
        let Some(mut upload) = upload(device, self.mean, self.std, self.rescale)? else {
            return Err(Error::Usage(format!("views are made on a GPU, the device is {device:?}")));
        };
        let recipes: Vec<_> = images.iter().zip(params).map(|(image, params)| self.recipe(image, params)).collect();
        Ok(upload.views(&recipes, self.size)?)
    }
}

/// Pixels of a crop for each of the view, at most.
const MOST: usize = 16;

/// [`geometry::crop_resize`] to side × side, without steps.
fn resized(image: &RgbImage, region: Region, side: usize, filter: Resample) -> ViewRecipe {
    let size = side as u32;
    let region = region.within(image.dimensions());
    let large = region.width as usize * region.height as usize > MOST * side * side;
    let cut = if large { geometry::crop_resize(image, region, size, size, filter) } else { geometry::crop(image, region) };
    let pixels = cut.dimensions();
    let whole = Region::whole(pixels);
    let taps = |source| {
        let Taps { starts, lengths, weights, width } = Taps::new(source, size, 0, size, filter);
        let u32s = |values: Vec<usize>| values.into_iter().map(|value| value as u32).collect();
        ViewTaps { starts: u32s(starts), lengths: u32s(lengths), weights, width }
    };
    if whole.is_empty() {
        // no pixel gives a black view
        let black = ViewTaps { starts: vec![0; side], ..ViewTaps::copy(side) };
        let (columns, rows) = (black.clone(), black);
        return ViewRecipe { pixels: vec![0; 3], width: 1, height: 1, rows_first: false, columns, rows, steps: Vec::new() };
    }
    let same = pixels == (size, size); // a copy, where the filter would round
    let (columns, rows) = if same { (ViewTaps::copy(side), ViewTaps::copy(side)) } else { (taps(pixels.0), taps(pixels.1)) };
    let rows_first = geometry::rows_first(whole, (size, size));
    let (width, height) = (pixels.0 as usize, pixels.1 as usize);
    ViewRecipe { pixels: cut.into_raw(), width, height, rows_first, columns, rows, steps: Vec::new() }
}

/// [`JitterStep::apply`].
fn jitter(step: &JitterStep) -> ViewStep {
    match *step {
        JitterStep::Brightness(factor) => brightness(factor),
        JitterStep::Contrast(factor) => ViewStep::Contrast(factor),
        JitterStep::Saturation(factor) => ViewStep::Saturation(factor),
        JitterStep::Hue(turn) => ViewStep::Hue(color::hue_shift(turn)),
    }
}

/// What a function of a picture that changes each level by itself makes of the 256 levels.
fn levels(change: impl Fn(&RgbImage) -> RgbImage) -> ViewStep {
    let all = RgbImage::from_fn(256, 1, |level, _| image::Rgb([level as u8; 3]));
    let changed = change(&all);
    ViewStep::Levels(Box::new(std::array::from_fn(|level| changed.as_raw()[3 * level])))
}

fn brightness(factor: f32) -> ViewStep {
    levels(|all| color::brightness(all, factor))
}

/// [`AugmentStep::apply`] on side × side pixels; `None` for what leaves them as they are.
fn augment(step: &AugmentStep, side: u32, sampling: Sampling, fill: [u8; 3]) -> Option<ViewStep> {
    let affine = |matrix: [f64; 6]| match (sampling, matrix) {
        (Sampling::Nearest, matrix) => ViewStep::Nearest(pillow::fixed(matrix), fill),
        (Sampling::Bicubic, [a, b, c, d, e, f]) => ViewStep::Cubic([a, b, c, d, e, f, 0.0, 0.0], fill),
    };
    Some(match *step {
        AugmentStep::AutoContrast => ViewStep::AutoContrast,
        AugmentStep::Equalize => ViewStep::Equalize,
        AugmentStep::Invert => levels(pillow::invert),
        AugmentStep::Posterize(bits) => levels(|all| pillow::posterize(all, bits)),
        AugmentStep::Solarize(threshold) => levels(|all| pillow::solarize(all, threshold)),
        AugmentStep::SolarizeAdd(add) => levels(|all| pillow::solarize_add(all, add)),
        AugmentStep::Color(factor) => ViewStep::Saturation(factor),
        AugmentStep::Contrast(factor) => ViewStep::Contrast(factor),
        AugmentStep::Brightness(factor) => brightness(factor),
        AugmentStep::Sharpness(factor) => ViewStep::Sharpness(factor),
        AugmentStep::Rotate(degrees) => affine(pillow::rotation((side, side), degrees)?),
        AugmentStep::ShearX(shear) => affine([1.0, shear, 0.0, 0.0, 1.0, 0.0]),
        AugmentStep::ShearY(shear) => affine([1.0, 0.0, 0.0, shear, 1.0, 0.0]),
        AugmentStep::TranslateX(columns) => affine([1.0, 0.0, columns, 0.0, 1.0, 0.0]),
        AugmentStep::TranslateY(rows) => affine([1.0, 0.0, 0.0, 0.0, 1.0, rows]),
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Drawn, More, RandAugment};
    use super::*;
    use crate::rng::Rng;

    /// One way of a resize, as the kernel does it: lines of `length` values that lie `apart` from each other, each `run` long.
    fn way(from: &[u8], taps: &ViewTaps, down: bool, width: usize) -> Vec<u8> {
        let side = taps.starts.len();
        let (wide, high) = if down { (width, side) } else { (side, from.len() / 3 / width) };
        let value = |y: usize, x: usize, c: usize| {
            let target = if down { y } else { x };
            let (start, weights) = (taps.starts[target] as usize, &taps.weights[target * taps.width..]);
            let at = |k: usize| usize::from(from[if down { 3 * ((start + k) * width + x) + c } else { 3 * (y * width + start + k) + c }]);
            let sum = (0..taps.lengths[target] as usize).fold(1 << 21, |sum, k| sum + at(k) as i32 * weights[k]);
            (sum >> 22).clamp(0, 255) as u8
        };
        (0..high * wide * 3).map(|i| value(i / 3 / wide, i / 3 % wide, i % 3)).collect()
    }

    fn texture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 7 + y) as u8, (x * y) as u8, (x ^ y) as u8]))
    }

    #[test]
    fn taps_and_pixels_give_the_view_of_a_crop() {
        for resample in [Resample::Bilinear, Resample::Bicubic] {
            let strong = StrongAugment { resample, flip_p: 0.5, scale: (0.1, 1.0), ..StrongAugment::none(19) };
            for (i, (w, h)) in [(40, 31), (31, 90), (19, 19), (5, 7), (200, 23), (200, 190), (0, 3)].into_iter().enumerate() {
                let (image, mut rng) = (texture(w, h), Rng::new(i as u64));
                let params = strong.sample(w, h, &mut rng);
                let ViewRecipe { pixels, width, height, rows_first, columns, rows, steps } = strong.recipe(&image, &params);
                assert!(pixels.len() == 3 * width * height && steps.is_empty() && pixels.len() <= 3 * MOST * 19 * 19);
                let view = if rows_first {
                    way(&way(&pixels, &rows, true, width), &columns, false, width)
                } else {
                    way(&way(&pixels, &columns, false, width), &rows, true, 19)
                };
                assert!(view == strong.apply_with(&image, &params).into_raw(), "{w}x{h} {resample:?} {params:?}");
            }
        }
    }

    #[test]
    fn steps_stand_in_their_order_and_those_that_do_nothing_are_left_out() {
        let more = More { rand_augment: Some(RandAugment::default()), ..More::default() };
        let strong = StrongAugment { more, ..StrongAugment::simsiam(16) };
        let params = StrongParams {
            jitter: vec![JitterStep::Hue(0.1), JitterStep::Brightness(2.0)],
            gray: true,
            blur: Some(0.0),
            more: Drawn {
                rand_augment: vec![AugmentStep::Rotate(720.0), AugmentStep::Invert],
                perspective: Some([(3, 3); 4]),
                second_jitter: vec![JitterStep::Contrast(0.5)],
            },
            ..strong.sample(16, 16, &mut Rng::new(1))
        };
        let steps = strong.recipe(&texture(16, 16), &params).steps;
        let [ViewStep::Levels(negative), ViewStep::Hue(25), ViewStep::Levels(twice), ViewStep::Gray, ViewStep::Contrast(0.5)] = &steps[..]
        else {
            panic!("{steps:?}")
        };
        assert_eq!((negative[3], twice[3], twice[200]), (252, 6, 255));
        let blurred = strong.recipe(&texture(16, 16), &StrongParams { blur: Some(1.0), ..params }).steps;
        let down: Vec<bool> =
            blurred.iter().filter_map(|step| if let ViewStep::Box { down, .. } = step { Some(*down) } else { None }).collect();
        assert_eq!(down, [false, false, false, true, true, true]);
    }

    #[test]
    fn only_a_gpu_makes_views_itself() {
        let (strong, image) = (StrongAugment::simsiam(8), texture(9, 9));
        let params = strong.sample(9, 9, &mut Rng::new(1));
        let error = strong.batch_on_gpu(&[image], &[params], &Device::Cpu).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("GPU"), "{error}");
    }
}
