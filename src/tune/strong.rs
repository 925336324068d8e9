//! The settings of the strong view: all that the CLIP does not decide.

use serde::{Deserialize, Serialize};

use crate::augment::{More, Preprocess, RandAugment, Resample, StrongAugment};

/// The strong view α_h in the settings: [`StrongAugment`] without side, mean, standard deviation and rescale, which are
/// those of the weak view.
///
/// ```
/// use lafter::{augment::Preprocess, tune::StrongConfig};
/// let mild = StrongConfig { scale: (0.85, 1.0), blur_p: 0.0, ..StrongConfig::simsiam() };
/// assert_eq!(mild.view(&Preprocess::clip(40)).size, 40);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StrongConfig {
    /// Least and greatest share of the image's area that the crop covers, drawn uniformly; default (0.2, 1).
    pub scale: (f32, f32),
    /// Least and greatest width/height of the crop; default (3/4, 4/3).
    pub ratio: (f32, f32),
    /// Filter of the crop's resize: `bilinear`, `bicubic` or `lanczos`; default bilinear.
    pub resample: Resample,
    /// Probability of a mirrored view, 0 to 1; default 0.5.
    pub flip_p: f32,
    /// Probability of color jitter, 0 to 1; the next four are its strengths. Default 0.8.
    pub jitter_p: f32,
    /// The jitter's brightness is multiplied by a factor in 1 ± this number, 0 to 100; default 0.4.
    pub brightness: f32,
    /// The jitter's contrast is multiplied by a factor in 1 ± this number, 0 to 100; default 0.4.
    pub contrast: f32,
    /// The jitter's saturation is multiplied by a factor in 1 ± this number, 0 to 100; default 0.4.
    pub saturation: f32,
    /// The jitter turns the hue circle by ± this number, 0 to 0.5; default 0.1.
    pub hue: f32,
    /// Probability of a gray view, 0 to 1; default 0.2.
    #[serde(alias = "grey_p")] // as earlier versions wrote it
    pub gray_p: f32,
    /// Probability of a blurred view, 0 to 1: 1 in the released code, 0.5 in SimSiam, the paper's reference; default 1.
    pub blur_p: f32,
    /// Least and greatest standard deviation of the blur in pixels, above 0 and up to 1000, meant for views of 224 pixels; default
    /// (0.1, 2).
    pub blur_sigma: (f32, f32),
    /// RandAugment after crop and flip, as JSON: {"timm": {"ops": 2, "magnitude": 9, "std": 0.5, "p": 0.5}} or
    /// {"torchvision": {"ops": 2, "magnitude": 9}}, each number optional; default null, none.
    pub rand_augment: Option<RandAugment>,
    /// Probability of a view that is tilted in space after jitter and gray, 0 to 1; default 0.
    pub perspective_p: f32,
    /// How far a tilt moves each corner at most, as a share of half the view, 0 to 1; default 0.2.
    pub perspective: f32,
    /// Probability of a second color jitter of the same strengths, after the tilt, 0 to 1; default 0.
    pub second_jitter_p: f32,
}

impl StrongConfig {
    /// As in the released code: [`StrongAugment::simsiam`].
    pub fn simsiam() -> Self {
        Self::of(&StrongAugment::simsiam(224))
    }

    /// As SimSiam's paper, which LaFTer's paper refers to: [`StrongAugment::paper`].
    pub fn paper() -> Self {
        Self::of(&StrongAugment::paper(224))
    }

    /// DPA's: [`StrongAugment::dpa`].
    pub fn dpa() -> Self {
        Self::of(&StrongAugment::dpa(224))
    }

    /// NoLA's: [`StrongAugment::nola`].
    pub fn nola() -> Self {
        Self::of(&StrongAugment::nola(224))
    }

    /// The settings of a view.
    pub fn of(view: &StrongAugment) -> Self {
        #[rustfmt::skip] // all fields and no `..`: one more is an error here
        let StrongAugment {
            size: _, rescale: _, mean: _, std: _,
            scale, ratio, resample, flip_p, jitter_p, brightness, contrast, saturation, hue, gray_p, blur_p, blur_sigma,
            more: More { rand_augment, perspective_p, perspective, second_jitter_p },
        } = *view;
        #[rustfmt::skip]
        let settings = Self {
            scale, ratio, resample, flip_p, jitter_p, brightness, contrast, saturation, hue, gray_p, blur_p, blur_sigma,
            rand_augment, perspective_p, perspective, second_jitter_p,
        };
        settings
    }

    /// The view itself, at the side, mean, standard deviation and rescale of the weak view.
    pub fn view(&self, weak: &Preprocess) -> StrongAugment {
        #[rustfmt::skip]
        let Self {
            scale, ratio, resample, flip_p, jitter_p, brightness, contrast, saturation, hue, gray_p, blur_p, blur_sigma,
            rand_augment, perspective_p, perspective, second_jitter_p,
        } = *self;
        StrongAugment {
            size: weak.side(),
            scale,
            ratio,
            resample,
            flip_p,
            jitter_p,
            brightness,
            contrast,
            saturation,
            hue,
            gray_p,
            blur_p,
            blur_sigma,
            rescale: weak.rescale,
            mean: weak.mean,
            std: weak.std,
            more: More { rand_augment, perspective_p, perspective, second_jitter_p },
        }
    }
}

impl Default for StrongConfig {
    fn default() -> Self {
        Self::simsiam()
    }
}
