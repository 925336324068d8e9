//! RandAugment (Cubuk et al. 2020): a few operations drawn from a list, at one strength; with timm's numbers or torchvision's.
//!
//! The lists and ranges are facts from `timm/data/auto_augment.py` (its "increasing" list) and
//! `torchvision/transforms/autoaugment.py`. DPA's strong view is timm's `rand-m9-mstd0.5-inc1`: [`RandAugment::default`].

use image::RgbImage;
use rand::{Rng, RngCore};

use super::color;
use super::pillow::{self, Sampling};

/// Whose list and ranges, and how much of them. In the settings: `{"timm": {}}`, `{"torchvision": {"magnitude": 5}}`.
///
/// ```
/// use lafter::augment::{RandAugment, RgbImage};
/// use lafter::rng::Rng;
/// let steps = RandAugment::default().sample(224, &mut Rng::new(7));
/// let mut view = RgbImage::from_fn(224, 224, |x, y| image::Rgb([x as u8, y as u8, 128]));
/// for step in &steps {
///     view = step.apply(&view, RandAugment::default().sampling(), [123, 117, 104]);
/// }
/// assert!(steps.len() <= 2 && view.dimensions() == (224, 224));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RandAugment {
    /// timm's, stronger with the magnitude in every operation.
    Timm(TimmPolicy),
    /// torchvision's.
    Torchvision(TorchvisionPolicy),
}

/// timm's `rand-m<magnitude>-n<ops>-p<p>-mstd<std>-inc1`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimmPolicy {
    /// Operations drawn for a view, with repetition; default 2.
    pub ops: usize,
    /// How strong they are, 0 to 10; default 9.
    pub magnitude: f64,
    /// Standard deviation of the magnitude, drawn anew for each and cut to 0 to 10; default 0.5.
    pub std: f64,
    /// Probability that a drawn operation is applied; default 0.5, as timm has it.
    pub p: f32,
}

/// torchvision's `RandAugment(num_ops, magnitude)` of 31 bins.
#[derive(Clone, Copy, Debug, PartialEq)]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TorchvisionPolicy {
    /// Operations drawn for a view, with repetition; default 2.
    pub ops: usize,
    /// How strong they are, 0 to 30; default 9.
    pub magnitude: u32,
}

impl Default for TimmPolicy {
    fn default() -> Self {
        Self { ops: 2, magnitude: 9.0, std: 0.5, p: 0.5 }
    }
}

impl Default for TorchvisionPolicy {
    fn default() -> Self {
        Self { ops: 2, magnitude: 9 }
    }
}

impl Default for RandAugment {
    fn default() -> Self {
        Self::Timm(TimmPolicy::default())
    }
}

/// One operation with its strength.
#[derive(Clone, Copy, Debug, PartialEq)]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AugmentStep {
    /// The levels spread to 0..=255.
    AutoContrast,
    /// All levels about equally frequent.
    Equalize,
    /// The negative.
    Invert,
    /// Degrees, counter-clockwise.
    Rotate(f64),
    /// Bits kept of each level.
    Posterize(u8),
    /// Levels from here on are inverted.
    Solarize(f64),
    /// Added to the levels below 128.
    SolarizeAdd(u8),
    /// Factor of the saturation.
    Color(f32),
    /// Factor of the contrast.
    Contrast(f32),
    /// Factor of the brightness.
    Brightness(f32),
    /// Factor of the sharpness.
    Sharpness(f32),
    /// Columns that a row comes from further right, per row.
    ShearX(f64),
    /// Rows that a column comes from further down, per column.
    ShearY(f64),
    /// Columns that the picture comes from further right.
    TranslateX(f64),
    /// Rows that the picture comes from further down.
    TranslateY(f64),
}

/// Operations of timm's list.
const TIMM: usize = 15;
/// Operations of torchvision's list; one does nothing.
const TORCHVISION: usize = 14;
/// The greatest magnitude that timm has, and torchvision.
const MOST: (f64, u32) = (10.0, 30);

impl RandAugment {
    /// The first field that cannot work, in one line.
    pub fn fault(&self) -> Option<String> {
        let (ops, magnitude, most) = match self {
            Self::Timm(TimmPolicy { ops, magnitude, std, p }) => {
                if !(0.0..=1.0).contains(p) {
                    return Some(format!("p is {p:?}; it must be a probability, 0 to 1"));
                }
                if !(0.0..=100.0).contains(std) {
                    return Some(format!("std is {std:?}; it must be 0 to 100"));
                }
                (*ops, *magnitude, MOST.0)
            }
            Self::Torchvision(TorchvisionPolicy { ops, magnitude }) => (*ops, f64::from(*magnitude), f64::from(MOST.1)),
        };
        if ops > 100 {
            return Some(format!("ops is {ops}; it must be 0 to 100"));
        }
        (!(0.0..=most).contains(&magnitude)).then(|| format!("magnitude is {magnitude}; it must be 0 to {most}"))
    }

    /// How its warps read between pixels: timm's as DPA has them, bicubic; torchvision's by default, nearest.
    pub fn sampling(&self) -> Sampling {
        match self {
            Self::Timm(_) => Sampling::Bicubic,
            Self::Torchvision(_) => Sampling::Nearest,
        }
    }

    /// The color of what a warp brings in from outside: timm's is the mean color, torchvision's black.
    pub fn fill(&self, mean: [u8; 3]) -> [u8; 3] {
        match self {
            Self::Timm(_) => mean,
            Self::Torchvision(_) => [0; 3],
        }
    }

    /// Draws the operations of one view of `side` × `side` pixels, in their order.
    pub fn sample(&self, side: u32, rng: &mut impl RngCore) -> Vec<AugmentStep> {
        match *self {
            Self::Timm(TimmPolicy { ops, magnitude, std, p }) => (0..ops)
                .filter_map(|_| {
                    let (which, applied) = (one_of(rng, TIMM), rng.random::<f32>() < p);
                    let magnitude = magnitude + std * normal(rng);
                    let negated = rng.random::<f32>() < 0.5;
                    applied.then(|| timm_step(which, magnitude, negated, side))
                })
                .collect(),
            Self::Torchvision(TorchvisionPolicy { ops, magnitude }) => (0..ops)
                .filter_map(|_| {
                    let (which, negated) = (one_of(rng, TORCHVISION), rng.random::<f32>() < 0.5);
                    torchvision_step(which, magnitude, negated, side)
                })
                .collect(),
        }
    }
}

/// Operation `which` of timm's increasing list at a magnitude.
pub fn timm_step(which: usize, magnitude: f64, negated: bool, side: u32) -> AugmentStep {
    let level = magnitude.clamp(0.0, MOST.0) / MOST.0;
    let signed = |value: f64| if negated { -value } else { value };
    let factor = || (1.0 + signed(level * 0.9)).max(0.1) as f32;
    match which % TIMM {
        0 => AugmentStep::AutoContrast,
        1 => AugmentStep::Equalize,
        2 => AugmentStep::Invert,
        3 => AugmentStep::Rotate(signed(level * 30.0)),
        4 => AugmentStep::Posterize(4 - (level * 4.0) as u8),
        5 => AugmentStep::Solarize(f64::from(256 - ((level * 256.0) as u16).min(256))),
        6 => AugmentStep::SolarizeAdd(((level * 110.0) as u8).min(128)),
        7 => AugmentStep::Color(factor()),
        8 => AugmentStep::Contrast(factor()),
        9 => AugmentStep::Brightness(factor()),
        10 => AugmentStep::Sharpness(factor()),
        11 => AugmentStep::ShearX(signed(level * 0.3)),
        12 => AugmentStep::ShearY(signed(level * 0.3)),
        13 => AugmentStep::TranslateX(signed(level * 0.45) * f64::from(side)),
        _ => AugmentStep::TranslateY(signed(level * 0.45) * f64::from(side)),
    }
}

/// Operation `which` of torchvision's list at a magnitude; none for the one that does nothing.
pub fn torchvision_step(which: usize, magnitude: u32, negated: bool, side: u32) -> Option<AugmentStep> {
    let magnitude = magnitude.min(MOST.1);
    // value `magnitude` of 31 from 0 to `most`, counted in f32 from the nearer end
    let ranged = |most: f32| {
        let step = most / MOST.1 as f32;
        if magnitude <= MOST.1 / 2 { step * magnitude as f32 } else { most - step * (MOST.1 - magnitude) as f32 }
    };
    let signed = |most: f32| f64::from(if negated { -ranged(most) } else { ranged(most) });
    let factor = || (1.0 + signed(0.9)) as f32;
    let pixels = || signed((150.0 / 331.0 * f64::from(side)) as f32).trunc();
    Some(match which % TORCHVISION {
        0 => return None,
        1 => AugmentStep::ShearX(signed(0.3)),
        2 => AugmentStep::ShearY(signed(0.3)),
        3 => AugmentStep::TranslateX(-pixels()),
        4 => AugmentStep::TranslateY(-pixels()),
        5 => AugmentStep::Rotate(signed(30.0)),
        6 => AugmentStep::Brightness(factor()),
        7 => AugmentStep::Color(factor()),
        8 => AugmentStep::Contrast(factor()),
        9 => AugmentStep::Sharpness(factor()),
        10 => AugmentStep::Posterize(8 - (magnitude as f32 / 7.5).round_ties_even() as u8),
        11 => AugmentStep::Solarize(255.0 - 8.5 * f64::from(magnitude)),
        12 => AugmentStep::AutoContrast,
        _ => AugmentStep::Equalize,
    })
}

impl AugmentStep {
    /// The image after this operation, at its size.
    pub fn apply(&self, image: &RgbImage, sampling: Sampling, fill: [u8; 3]) -> RgbImage {
        let affine = |matrix| pillow::affine(image, matrix, sampling, fill);
        match *self {
            Self::AutoContrast => pillow::autocontrast(image),
            Self::Equalize => pillow::equalize(image),
            Self::Invert => pillow::invert(image),
            Self::Rotate(degrees) => pillow::rotate(image, degrees, sampling, fill),
            Self::Posterize(bits) => pillow::posterize(image, bits),
            Self::Solarize(threshold) => pillow::solarize(image, threshold),
            Self::SolarizeAdd(add) => pillow::solarize_add(image, add),
            Self::Color(factor) => color::saturation(image, factor),
            Self::Contrast(factor) => color::contrast(image, factor),
            Self::Brightness(factor) => color::brightness(image, factor),
            Self::Sharpness(factor) => pillow::sharpness(image, factor),
            Self::ShearX(shear) => affine([1.0, shear, 0.0, 0.0, 1.0, 0.0]),
            Self::ShearY(shear) => affine([1.0, 0.0, 0.0, shear, 1.0, 0.0]),
            Self::TranslateX(columns) => affine([1.0, 0.0, columns, 0.0, 1.0, 0.0]),
            Self::TranslateY(rows) => affine([1.0, 0.0, 0.0, 0.0, 1.0, rows]),
        }
    }
}

/// Uniform in 0..n.
fn one_of(rng: &mut impl RngCore, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// Standard normal (Box and Muller 1958).
fn normal(rng: &mut impl RngCore) -> f64 {
    let (radius, turn) = (1.0 - f64::from(rng.random::<f32>()), f64::from(rng.random::<f32>()));
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * turn).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn views_draw_what_the_policy_says() {
        let timm = RandAugment::Timm(TimmPolicy { ops: 3, p: 0.25, ..TimmPolicy::default() });
        let root = Rng::new(5);
        let drawn: Vec<AugmentStep> = (0..4000).flat_map(|i| timm.sample(100, &mut root.fork(i))).collect();
        assert!((drawn.len() as f64 / 12_000.0 - 0.25).abs() < 0.02);
        let of = |name: &str| drawn.iter().filter(|step| format!("{step:?}").starts_with(name)).count() as f64 / drawn.len() as f64;
        for name in ["AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize(", "SolarizeAdd", "Color", "TranslateY"] {
            assert!((of(name) - 1.0 / 15.0).abs() < 0.02, "{name} {}", of(name));
        }
        let degrees: Vec<f64> =
            drawn.iter().filter_map(|step| if let AugmentStep::Rotate(turn) = step { Some(*turn) } else { None }).collect();
        let mean = degrees.iter().map(|turn| turn.abs()).sum::<f64>() / degrees.len() as f64;
        assert!((mean - 27.0).abs() < 0.3 && degrees.iter().all(|turn| turn.abs() <= 30.0), "{mean}");
        let left = degrees.iter().filter(|turn| **turn < 0.0).count() as f64 / degrees.len() as f64;
        assert!((left - 0.5).abs() < 0.1, "{left}");

        let torchvision = RandAugment::Torchvision(TorchvisionPolicy::default());
        let drawn: usize = (0..2000).map(|i| torchvision.sample(100, &mut root.fork(i)).len()).sum();
        assert!((drawn as f64 / 4000.0 - 13.0 / 14.0).abs() < 0.02);
    }

    #[test]
    fn settings_are_written_and_bad_ones_named() {
        let read = |text: &str| serde_json::from_str::<RandAugment>(text);
        assert_eq!(read(r#"{"timm": {}}"#).unwrap(), RandAugment::default());
        assert_eq!(
            read(r#"{"torchvision": {"magnitude": 5}}"#).unwrap(),
            RandAugment::Torchvision(TorchvisionPolicy { ops: 2, magnitude: 5 })
        );
        assert!(read(r#"{"timm": {"magnitud": 5}}"#).is_err());
        for (bad, word) in [
            (r#"{"timm": {"magnitude": 11}}"#, "magnitude"),
            (r#"{"timm": {"p": 1.5}}"#, "p is"),
            (r#"{"timm": {"std": -1}}"#, "std"),
            (r#"{"torchvision": {"magnitude": 31}}"#, "magnitude"),
            (r#"{"torchvision": {"ops": 1000}}"#, "ops"),
        ] {
            assert!(read(bad).unwrap().fault().is_some_and(|fault| fault.contains(word)), "{bad}");
        }
        assert_eq!(RandAugment::default().fault(), None);
    }
}
