//! The filters of a resize, as Pillow has them.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

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
    /// How far the filter reaches to each side, in pixels of the smaller picture.
    pub(super) fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    /// The filter at `x` pixels from its centre.
    pub(super) fn value(self, x: f64) -> f64 {
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
