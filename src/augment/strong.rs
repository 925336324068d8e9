//! The strong view α_h (eq. 4): SimSiam's augmentation, every parameter open.

use image::RgbImage;
use rand::{Rng, RngCore};

use super::color;
use super::geometry::{self, CLIP_MEAN, CLIP_STD, Region, Resample};
use super::more; // more::

/// Random resized crop → flip → color jitter → gray → blur → normalize.
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
#[derive(Clone, Debug, PartialEq)]
#[derive(serde::Serialize, serde::Deserialize)]
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
    /// Probability of color jitter; the next four are its strengths.
    pub jitter_p: f32,
    /// Factor in 1 ± this.
    pub brightness: f32,
    /// Factor in 1 ± this.
    pub contrast: f32,
    /// Factor in 1 ± this.
    pub saturation: f32,
    /// Turn of the hue circle in ± this, at most 0.5.
    pub hue: f32,
    /// Probability of a gray view.
    pub gray_p: f32,
    /// Probability of a blurred view.
    pub blur_p: f32,
    /// Least and greatest standard deviation of the blur, in pixels of the view.
    pub blur_sigma: (f32, f32),
    /// What 8-bit values are multiplied by, as in the weak view: see [`normalized_like`](Self::normalized_like).
    pub rescale: f32,
    /// Subtracted from the rescaled values, per channel (R, G, B).
    pub mean: [f32; 3],
    /// Divided by after that, per channel.
    pub std: [f32; 3],
    /// What the views of other methods have next to these steps; SimSiam's has nothing of [`more::More`].
    #[serde(flatten)]
    pub more: more::More,
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
            gray_p: 0.2,
            blur_p: 1.0,
            blur_sigma: (0.1, 2.0),
            rescale: 1.0 / 255.0,
            mean: CLIP_MEAN,
            std: CLIP_STD,
            more: more::More::default(),
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
        Self { scale, ratio, blur_p, resample: Resample::Bicubic, flip_p: 0.0, jitter_p: 0.0, gray_p: 0.0, ..Self::simsiam(size) }
    }

    /// The first field that cannot work, its value and what it may be, in one line.
    pub fn fault(&self) -> Option<String> {
        let rule = |holds: bool, field: &str, value: &dyn std::fmt::Debug, may: &str| {
            (!holds).then(|| format!("the strong view's {field} is {value:?}; it must be {may}"))
        };
        let ordered = |(low, high): (f32, f32), most: f32| low > 0.0 && low <= high && high <= most;
        let p = |field: &str, p: f32| rule((0.0..=1.0).contains(&p), field, &p, "a probability, 0 to 1");
        let strength = |field: &str, strength: f32| rule((0.0..=100.0).contains(&strength), field, &strength, "0 to 100");
        let three = |finite: [f32; 3]| finite.iter().all(|value| value.is_finite());
        let scaled = three(self.std) && self.std.iter().all(|std| *std > 0.0);
        let faults = [
            rule((1..=16_384).contains(&self.size), "size", &self.size, "1 to 16384 pixels"),
            rule(ordered(self.scale, 1.0), "scale", &self.scale, "two shares of the area above 0 and up to 1, the smaller first"),
            rule(ordered(self.ratio, f32::MAX), "ratio", &self.ratio, "two numbers above 0, the smaller first"),
            rule(ordered(self.blur_sigma, 1e3), "blur_sigma", &self.blur_sigma, "two numbers above 0 and up to 1000, the smaller first"),
            p("flip_p", self.flip_p),
            p("jitter_p", self.jitter_p),
            p("gray_p", self.gray_p),
            p("blur_p", self.blur_p),
            strength("brightness", self.brightness),
            strength("contrast", self.contrast),
            strength("saturation", self.saturation),
            rule((0.0..=0.5).contains(&self.hue), "hue", &self.hue, "0 to 0.5"),
            rule(three(self.mean), "mean", &self.mean, "three numbers"),
            rule(scaled, "std", &self.std, "three numbers above 0"),
            rule(self.rescale.is_finite() && self.rescale > 0.0, "rescale", &self.rescale, "a number above 0"),
        ];
        let faults = faults.into_iter();
        let faults = faults.chain([more::More::fault(&self.more)]);
        faults.flatten().next()
    }

    /// Draws the parameters of one view of an image of this size.
    pub fn sample(&self, width: u32, height: u32, rng: &mut impl RngCore) -> StrongParams {
        StrongParams {
            crop: self.sample_crop(width, height, rng),
            jitter: if chance(rng, self.jitter_p) { self.sample_jitter(rng) } else { Vec::new() },
            gray: chance(rng, self.gray_p),
            blur: chance(rng, self.blur_p).then(|| range(rng, self.blur_sigma.0, self.blur_sigma.1)),
            flip: chance(rng, self.flip_p),
            more: more::More::sample(self, rng), // after the others: a view without it draws what it always drew
        }
    }

    /// The view's side as pictures count it.
    pub(super) fn side(&self) -> u32 {
        u32::try_from(self.size).unwrap_or(u32::MAX)
    }

    /// A random area and shape, ten tries to fit it into the image, else the largest middle of a permitted shape.
    ///
    /// The area is uniform, the shape (width/height) uniform in its logarithm, as `torchvision.transforms.RandomResizedCrop`.
    fn sample_crop(&self, width: u32, height: u32, rng: &mut impl RngCore) -> Region {
        let (w, h) = (f64::from(width), f64::from(height));
        let (low, high) = (self.ratio.0.ln(), self.ratio.1.ln());
        for _ in 0..10 {
            let area = w * h * f64::from(range(rng, self.scale.0, self.scale.1));
            let ratio = f64::from(range(rng, low, high).exp());
            let (crop_w, crop_h) = ((area * ratio).sqrt().round_ties_even() as u32, (area / ratio).sqrt().round_ties_even() as u32);
            if (1..=width).contains(&crop_w) && (1..=height).contains(&crop_h) {
                let top = below(rng, (height - crop_h) as usize + 1) as u32;
                let left = below(rng, (width - crop_w) as usize + 1) as u32;
                return Region { left, top, width: crop_w, height: crop_h };
            }
        }
        let (low, high) = (f64::from(self.ratio.0), f64::from(self.ratio.1));
        let (crop_w, crop_h) = if w < h * low {
            (width, ((w / low).round_ties_even() as u32).min(height))
        } else if w > h * high {
            (((h * high).round_ties_even() as u32).min(width), height)
        } else {
            (width, height)
        };
        Region { left: (width - crop_w) / 2, top: (height - crop_h) / 2, width: crop_w, height: crop_h }
    }

    /// The four steps in random order; a strength of 0 leaves its step out.
    pub(super) fn sample_jitter(&self, rng: &mut impl RngCore) -> Vec<JitterStep> {
        let mut order = [0, 1, 2, 3];
        for i in (1..order.len()).rev() {
            order.swap(i, below(rng, i + 1)); // Fisher–Yates
        }
        let mut factor = |strength: f32| range(rng, (1.0 - strength).max(0.0), 1.0 + strength);
        let (brightness, contrast, saturation) = (factor(self.brightness), factor(self.contrast), factor(self.saturation));
        let hue = range(rng, -self.hue, self.hue);
        let steps = [
            (self.brightness, JitterStep::Brightness(brightness)),
            (self.contrast, JitterStep::Contrast(contrast)),
            (self.saturation, JitterStep::Saturation(saturation)),
            (self.hue, JitterStep::Hue(hue)),
        ];
        order.iter().map(|i| steps[*i]).filter(|(strength, _)| *strength > 0.0).map(|(_, step)| step).collect()
    }

    /// The view with given parameters, before normalization: size × size.
    pub fn apply_with(&self, image: &RgbImage, params: &StrongParams) -> RgbImage {
        let mut view = geometry::crop_resize(image, params.crop, self.side(), self.side(), self.resample);
        if params.flip {
            view = geometry::flip_horizontal(&view);
        }
        view = more::Drawn::rand_augment(params, self, view);
        view = params.jitter.iter().fold(view, |view, step| step.apply(&view));
        if params.gray {
            view = color::gray(&view);
        }
        view = more::Drawn::after_gray(params, view);
        match params.blur {
            Some(sigma) => color::gaussian_blur(&view, sigma),
            None => view,
        }
    }

    /// One random view before normalization, for figures: size × size.
    pub fn image(&self, image: &RgbImage, rng: &mut impl RngCore) -> RgbImage {
        self.apply_with(image, &self.sample(image.width(), image.height(), rng))
    }

    /// One random view as the tower's input: planes `[3, size, size]` f32, row by row.
    pub fn apply(&self, image: &RgbImage, rng: &mut impl RngCore) -> Vec<f32> {
        geometry::normalize(&self.image(image, rng), self.mean, self.std, self.rescale)
    }
}

/// One step of the color jitter, with its factor.
#[derive(Clone, Copy, Debug, PartialEq)]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JitterStep {
    /// Blend with black: 0 is black, 1 the image.
    Brightness(f32),
    /// Blend with the image's mean gray: 0 is gray, 1 the image.
    Contrast(f32),
    /// Blend with the gray image: 0 is gray, 1 the image.
    Saturation(f32),
    /// Turn of the hue circle, −0.5..=0.5.
    Hue(f32),
}

impl JitterStep {
    /// The image after this step.
    pub fn apply(self, image: &RgbImage) -> RgbImage {
        match self {
            Self::Brightness(factor) => color::brightness(image, factor),
            Self::Contrast(factor) => color::contrast(image, factor),
            Self::Saturation(factor) => color::saturation(image, factor),
            Self::Hue(turn) => color::hue(image, turn),
        }
    }
}

/// All that is random in one strong view: drawn by [`StrongAugment::sample`], used by
/// [`StrongAugment::apply_with`].
#[derive(Clone, Debug, PartialEq)]
#[derive(serde::Serialize, serde::Deserialize)]
pub struct StrongParams {
    /// What is cut out of the image and resized to the view.
    pub crop: Region,
    /// Whether the view is mirrored left to right.
    pub flip: bool,
    /// In the order they are applied; empty for no jitter.
    pub jitter: Vec<JitterStep>,
    /// Whether the view is turned to gray.
    #[serde(alias = "grey")] // as earlier versions wrote it
    pub gray: bool,
    /// Standard deviation of the blur in pixels of the view; `None` for no blur.
    pub blur: Option<f32>,
    /// What [`more::More`] drew.
    #[serde(flatten)]
    pub more: more::Drawn,
}

/// Uniform in [low, high), in steps of 2⁻²⁴ of the way.
fn range(rng: &mut impl RngCore, low: f32, high: f32) -> f32 {
    low + (high - low) * rng.random::<f32>()
}

/// True with probability `p`.
pub(super) fn chance(rng: &mut impl RngCore, p: f32) -> bool {
    rng.random::<f32>() < p
}

/// Uniform in 0..n.
pub(super) fn below(rng: &mut impl RngCore, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::super::more::More;
    use super::super::rand_augment::{RandAugment, TimmPolicy};
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn presets_are_valid_and_bad_values_are_named() {
        for good in
            [StrongAugment::simsiam(224), StrongAugment::paper(32), StrongAugment::none(1), StrongAugment::dpa(224), StrongAugment::nola(1)]
        {
            assert_eq!(good.fault(), None);
        }
        let base = StrongAugment::simsiam(32);
        let with = |more| StrongAugment { more, ..base.clone() };
        let unlike_a_number = TimmPolicy { magnitude: f64::NAN, ..TimmPolicy::default() };
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
            ("perspective", with(More { perspective: 1.5, ..More::default() })),
            ("second_jitter_p", with(More { second_jitter_p: -1.0, ..More::default() })),
            ("rand_augment", with(More { rand_augment: Some(RandAugment::Timm(unlike_a_number)), ..More::default() })),
        ];
        for (field, value) in bad {
            let fault = value.fault().unwrap();
            assert!(fault.contains(field), "{fault}");
        }
    }

    #[test]
    fn images_without_pixels_give_black_views() {
        let strong = StrongAugment::simsiam(8);
        assert_eq!(strong.apply(&RgbImage::new(0, 5), &mut Rng::new(1)).len(), 3 * 8 * 8);
        assert_eq!(strong.apply(&RgbImage::new(1, 1), &mut Rng::new(1)).len(), 3 * 8 * 8);
    }

    #[test]
    fn crops_lie_inside_and_have_the_asked_areas_and_shapes() {
        let strong = StrongAugment::simsiam(32);
        let mut rng = Rng::new(1);
        let mut areas = Vec::new();
        for _ in 0..2000 {
            let crop = strong.sample(120, 90, &mut rng).crop;
            assert_eq!(crop, crop.within((120, 90)));
            let (w, h) = (f64::from(crop.width), f64::from(crop.height));
            areas.push(w * h / (120.0 * 90.0));
            assert!((0.73..1.37).contains(&(w / h)), "{crop:?}");
        }
        assert!(areas.iter().all(|area| (0.19..=1.0).contains(area)));
        let mean = areas.iter().sum::<f64>() / 2000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}"); // below 0.6: large areas fit in fewer shapes
    }

    #[test]
    fn long_pictures_fall_back_to_the_middle() {
        let strong = StrongAugment { scale: (1.0, 1.0), ..StrongAugment::simsiam(32) };
        let crop = |w, h| strong.sample(w, h, &mut Rng::new(2)).crop;
        assert_eq!(crop(900, 30), Region { left: 430, top: 0, width: 40, height: 30 });
        assert_eq!(crop(30, 900), Region { left: 0, top: 430, width: 30, height: 40 });
        assert!(crop(0, 0).is_empty());
    }

    #[test]
    fn every_step_has_its_probability_and_range() {
        let strong = StrongAugment::paper(32);
        let root = Rng::new(3);
        let drawn: Vec<StrongParams> = (0..4000).map(|i| strong.sample(40, 40, &mut root.fork(i))).collect();
        let share = |f: &dyn Fn(&StrongParams) -> bool| drawn.iter().filter(|p| f(p)).count() as f64 / 4000.0;
        assert!((share(&|p| p.flip) - 0.5).abs() < 0.03);
        assert!((share(&|p| p.gray) - 0.2).abs() < 0.03);
        assert!((share(&|p| p.blur.is_some()) - 0.5).abs() < 0.03);
        assert!((share(&|p| !p.jitter.is_empty()) - 0.8).abs() < 0.03);
        assert!((share(&|p| matches!(p.jitter.first(), Some(JitterStep::Hue(_)))) - 0.2).abs() < 0.03);
        for params in &drawn {
            assert!(params.jitter.is_empty() || params.jitter.len() == 4);
            assert!(params.blur.is_none_or(|sigma| (0.1..2.0).contains(&sigma)));
            for step in &params.jitter {
                match step {
                    JitterStep::Brightness(f) | JitterStep::Contrast(f) | JitterStep::Saturation(f) => assert!((0.6..1.4).contains(f)),
                    JitterStep::Hue(turn) => assert!((-0.1..0.1).contains(turn)),
                }
            }
        }
        let json = serde_json::to_string(&drawn[0]).unwrap();
        assert_eq!(serde_json::from_str::<StrongParams>(&json).unwrap(), drawn[0]);
    }
}
