//! The strong view α_h (eq. 4): SimSiam's augmentation, every parameter open.

use candle_core::{Device, Tensor};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::ops::{self, Resample};
use super::preprocess::{CLIP_MEAN, CLIP_STD, Preprocess};
use super::strong_params::{JitterStep, StrongParams};
use crate::error::{Error, Result};
use crate::rng::Rng;

/// Random resized crop → colour jitter → grey → blur → flip → normalise.
///
/// ```
/// use lafter::augment::{RgbImage, StrongAugment};
/// use lafter::rng::Rng;
///
/// let image = RgbImage::from_fn(64, 48, |x, y| image::Rgb([4 * x as u8, 5 * y as u8, 128]));
/// let strong = StrongAugment { flip_p: 0.0, ..StrongAugment::simsiam(32) };
/// let params = strong.sample(64, 48, &mut Rng::new(7777));
/// println!("{params:?}");
/// assert_eq!(strong.apply_with(&image, &params).dimensions(), (32, 32));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StrongAugment {
    /// Side of the view in pixels.
    pub size: usize,
    /// Least and greatest share of the image's area that the crop covers.
    pub scale: (f32, f32),
    /// Least and greatest width/height of the crop.
    pub ratio: (f32, f32),
    /// Filter of the crop's resize.
    pub resample: Resample,
    /// Probability of a mirrored view.
    pub flip_p: f32,
    /// Probability of colour jitter; the next four are its strengths.
    pub jitter_p: f32,
    /// Factor in 1 ± this.
    pub brightness: f32,
    /// Factor in 1 ± this.
    pub contrast: f32,
    /// Factor in 1 ± this.
    pub saturation: f32,
    /// Turn of the hue circle in ± this, at most 0.5.
    pub hue: f32,
    /// Probability of a grey view.
    pub grey_p: f32,
    /// Probability of a blurred view.
    pub blur_p: f32,
    /// Least and greatest standard deviation of the blur, in pixels of the view.
    pub blur_sigma: (f32, f32),
    /// What 8-bit values are multiplied by, as in the weak view: see [`normalised_like`](Self::normalised_like).
    pub rescale: f32,
    /// Subtracted from the rescaled values, per channel (R, G, B).
    pub mean: [f32; 3],
    /// Divided by after that, per channel.
    pub std: [f32; 3],
}

impl StrongAugment {
    /// As in the released code: SimSiam's augmentation with the blur on every view, and CLIP's mean and std.
    pub fn simsiam(size: usize) -> Self {
        Self {
            size,
            scale: (0.2, 1.0),
            ratio: (3.0 / 4.0, 4.0 / 3.0),
            resample: Resample::Bilinear,
            flip_p: 0.5,
            jitter_p: 0.8,
            brightness: 0.4,
            contrast: 0.4,
            saturation: 0.4,
            hue: 0.1,
            grey_p: 0.2,
            blur_p: 1.0,
            blur_sigma: (0.1, 2.0),
            rescale: 1.0 / 255.0,
            mean: CLIP_MEAN,
            std: CLIP_STD,
        }
    }

    /// As SimSiam's paper, which LaFTer's paper refers to: the blur on every second view only.
    pub fn paper(size: usize) -> Self {
        Self { blur_p: 0.5, ..Self::simsiam(size) }
    }

    /// Nothing random, for ablations: the largest square of the image's middle, resized as the weak view is.
    ///
    /// Equal to the weak view on square images; on others the two differ at the outermost pixels, which the weak view
    /// takes from a slightly larger picture.
    pub fn none(size: usize) -> Self {
        let (scale, ratio, blur_p) = ((1.0, 1.0), (1.0, 1.0), 0.0);
        Self { scale, ratio, blur_p, resample: Resample::Bicubic, flip_p: 0.0, jitter_p: 0.0, grey_p: 0.0, ..Self::simsiam(size) }
    }

    /// The same with the mean, std and rescale of the weak view, so that both views reach the tower alike.
    pub fn normalised_like(self, weak: &Preprocess) -> Self {
        Self { rescale: weak.rescale, mean: weak.mean, std: weak.std, ..self }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Usage`], naming the field, its value and what it may be.
    pub fn validate(&self) -> Result<()> {
        let refuse = |field: &str, value: &dyn std::fmt::Debug, may: &str| -> Result<()> {
            Err(Error::Usage(format!("the strong view's {field} is {value:?}; it must be {may}")))
        };
        let ordered = |(low, high): (f32, f32)| low > 0.0 && low <= high && high.is_finite();
        if self.size == 0 || self.size > 16_384 {
            return refuse("size", &self.size, "1 to 16384 pixels");
        }
        if !ordered(self.scale) || self.scale.1 > 1.0 {
            return refuse("scale", &self.scale, "two shares of the area above 0 and up to 1, the smaller first");
        }
        if !ordered(self.ratio) {
            return refuse("ratio", &self.ratio, "two numbers above 0, the smaller first");
        }
        if !ordered(self.blur_sigma) || self.blur_sigma.1 > 1000.0 {
            return refuse("blur_sigma", &self.blur_sigma, "two numbers above 0 and up to 1000, the smaller first");
        }
        let probabilities = [("flip_p", self.flip_p), ("jitter_p", self.jitter_p), ("grey_p", self.grey_p), ("blur_p", self.blur_p)];
        for (field, p) in probabilities {
            if !(0.0..=1.0).contains(&p) {
                return refuse(field, &p, "a probability, 0 to 1");
            }
        }
        for (field, strength) in [("brightness", self.brightness), ("contrast", self.contrast), ("saturation", self.saturation)] {
            if !(0.0..=100.0).contains(&strength) {
                return refuse(field, &strength, "0 to 100");
            }
        }
        if !(0.0..=0.5).contains(&self.hue) {
            return refuse("hue", &self.hue, "0 to 0.5");
        }
        if !self.mean.iter().all(|mean| mean.is_finite()) {
            return refuse("mean", &self.mean, "three numbers");
        }
        if !self.std.iter().all(|std| std.is_finite() && *std > 0.0) {
            return refuse("std", &self.std, "three numbers above 0");
        }
        if !(self.rescale.is_finite() && self.rescale > 0.0) {
            return refuse("rescale", &self.rescale, "a number above 0");
        }
        Ok(())
    }

    /// The view with given parameters, before normalisation: size × size.
    pub fn apply_with(&self, image: &RgbImage, params: &StrongParams) -> RgbImage {
        let side = u32::try_from(self.size).unwrap_or(u32::MAX);
        let mut view = ops::crop_resize(image, params.crop, side, side, self.resample);
        for step in &params.jitter {
            view = match *step {
                JitterStep::Brightness(factor) => ops::brightness(&view, factor),
                JitterStep::Contrast(factor) => ops::contrast(&view, factor),
                JitterStep::Saturation(factor) => ops::saturation(&view, factor),
                JitterStep::Hue(turn) => ops::hue(&view, turn),
            };
        }
        if params.grey {
            view = ops::grey(&view);
        }
        if let Some(sigma) = params.blur {
            view = ops::gaussian_blur(&view, sigma);
        }
        if params.flip {
            view = ops::flip_horizontal(&view);
        }
        view
    }

    /// One random view before normalisation, for figures: size × size.
    pub fn image(&self, image: &RgbImage, rng: &mut Rng) -> RgbImage {
        self.apply_with(image, &self.sample(image.width(), image.height(), rng))
    }

    /// One random view as the tower's input: planes `[3, size, size]` f32, row by row.
    pub fn apply(&self, image: &RgbImage, rng: &mut Rng) -> Vec<f32> {
        ops::normalise(&self.image(image, rng), self.mean, self.std, self.rescale)
    }

    /// One random view of every image: `[batch, 3, size, size]` f32.
    ///
    /// Each image draws from a stream of its own, so the bits do not depend on the number of threads; `rng` moves by
    /// one draw, so the next batch differs.
    ///
    /// # Errors
    /// [`Error::Usage`] for an empty batch.
    pub fn batch(&self, images: &[RgbImage], rng: &mut Rng, device: &Device) -> Result<Tensor> {
        let streams = Rng::new(rng.next_u64());
        super::stack(images, self.size, device, |index, image| self.apply(image, &mut streams.fork(index as u64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 7 + y) as u8, (x * y) as u8, (x ^ y) as u8]))
    }

    #[test]
    fn the_same_seed_gives_the_same_bits_on_any_number_of_threads() {
        let images: Vec<RgbImage> = (0..12).map(|i| texture(40 + i, 33)).collect();
        let strong = StrongAugment::simsiam(24);
        let views = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut rng = Rng::new(7777);
            let batch = pool.install(|| strong.batch(&images, &mut rng, &Device::Cpu)).unwrap();
            assert_eq!(batch.dims(), [12, 3, 24, 24]);
            (batch.flatten_all().unwrap().to_vec1::<f32>().unwrap(), rng)
        };
        let (one, mut rng) = views(1);
        assert_eq!(one, views(3).0);
        let next = strong.batch(&images, &mut rng, &Device::Cpu).unwrap();
        assert_ne!(one, next.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    }

    #[test]
    fn none_is_the_weak_view_of_a_square() {
        let weak = Preprocess { mean: [0.1; 3], std: [0.7; 3], ..Preprocess::clip(24) };
        let none = StrongAugment::none(24).normalised_like(&weak);
        for side in [24, 31, 80] {
            assert_eq!(none.apply(&texture(side, side), &mut Rng::new(1)), weak.apply(&texture(side, side)));
        }
        let params = none.sample(50, 30, &mut Rng::new(1));
        assert_eq!(params.crop, ops::Region { left: 10, top: 0, width: 30, height: 30 });
    }

    #[test]
    fn presets_are_valid_and_bad_values_are_named() {
        for good in [StrongAugment::simsiam(224), StrongAugment::paper(32), StrongAugment::none(1)] {
            good.validate().unwrap();
        }
        let base = StrongAugment::simsiam(32);
        let bad = [
            ("size", StrongAugment { size: 0, ..base.clone() }),
            ("scale", StrongAugment { scale: (0.5, 0.2), ..base.clone() }),
            ("scale", StrongAugment { scale: (0.0, 1.0), ..base.clone() }),
            ("ratio", StrongAugment { ratio: (f32::NAN, 1.0), ..base.clone() }),
            ("flip_p", StrongAugment { flip_p: 1.5, ..base.clone() }),
            ("brightness", StrongAugment { brightness: -0.1, ..base.clone() }),
            ("hue", StrongAugment { hue: 0.6, ..base.clone() }),
            ("blur_sigma", StrongAugment { blur_sigma: (0.0, 2.0), ..base.clone() }),
            ("std", StrongAugment { std: [0.0; 3], ..base.clone() }),
        ];
        for (field, value) in bad {
            let error = value.validate().unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(field), "{error}");
        }
    }

    #[test]
    fn images_without_pixels_give_black_views() {
        let strong = StrongAugment::simsiam(8);
        assert_eq!(strong.apply(&RgbImage::new(0, 5), &mut Rng::new(1)).len(), 3 * 8 * 8);
        assert_eq!(strong.apply(&RgbImage::new(1, 1), &mut Rng::new(1)).len(), 3 * 8 * 8);
    }
}
