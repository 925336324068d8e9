//! What the strong views of other methods have next to SimSiam's steps: RandAugment, a tilt, a second jitter.
//!
//! A copy of `strong.rs` leaves it out.

use image::RgbImage;
use rand::RngCore;

use super::geometry::Resample;
use super::pillow;
use super::rand_augment::{AugmentStep, RandAugment};
use super::strong::{JitterStep, StrongAugment, StrongParams, below, chance};

/// Steps between those of [`StrongAugment`]: RandAugment after the flip; a tilt, then a second jitter after gray. Without them by
/// default.
#[derive(Clone, Debug, PartialEq)]
#[derive(serde::Serialize, serde::Deserialize)]
pub struct More {
    /// RandAugment; `None` leaves it out.
    pub rand_augment: Option<RandAugment>,
    /// Probability of a view tilted in space, as torchvision's `RandomPerspective` does it.
    pub perspective_p: f32,
    /// How far a tilt moves each corner at most, as a share of half the view.
    pub perspective: f32,
    /// Probability of a second color jitter, with the strengths of the first.
    pub second_jitter_p: f32,
}

impl Default for More {
    fn default() -> Self {
        Self { rand_augment: None, perspective_p: 0.0, perspective: 0.2, second_jitter_p: 0.0 }
    }
}

/// What is random in these steps for one view.
#[derive(Clone, Debug, Default, PartialEq)]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Drawn {
    /// RandAugment's operations, in their order.
    pub rand_augment: Vec<AugmentStep>,
    /// Where a tilt moves the corners, from the upper left clockwise; `None` for no tilt.
    pub perspective: Option<[(u32, u32); 4]>,
    /// The second jitter's steps; empty for none.
    pub second_jitter: Vec<JitterStep>,
}

impl StrongAugment {
    /// DPA's (`utils/build_dataset.py` there): crop of 0.3 to 1, bicubic, flip, timm's RandAugment; no jitter, gray or blur.
    pub fn dpa(size: usize) -> Self {
        let (scale, resample) = ((0.3, 1.0), Resample::Bicubic);
        let more = More { rand_augment: Some(RandAugment::default()), ..More::default() };
        Self { scale, resample, more, jitter_p: 0.0, gray_p: 0.0, blur_p: 0.0, ..Self::simsiam(size) }
    }

    /// NoLA's (`utils/model_utils.py` there): no gray, every second view tilted by up to 0.2, then a second jitter on every view.
    pub fn nola(size: usize) -> Self {
        let more = More { perspective_p: 0.5, perspective: 0.2, second_jitter_p: 1.0, ..More::default() };
        Self { gray_p: 0.0, more, ..Self::simsiam(size) }
    }
}

impl More {
    /// The first field that cannot work, in one line.
    pub(super) fn fault(&self) -> Option<String> {
        let share = |field: &str, value: f32, may: &str| {
            (!(0.0..=1.0).contains(&value)).then(|| format!("the strong view's {field} is {value:?}; it must be {may}"))
        };
        let policy = self.rand_augment.as_ref().and_then(RandAugment::fault);
        share("perspective_p", self.perspective_p, "a probability, 0 to 1")
            .or_else(|| share("perspective", self.perspective, "0 to 1"))
            .or_else(|| share("second_jitter_p", self.second_jitter_p, "a probability, 0 to 1"))
            .or_else(|| policy.map(|fault| format!("the strong view's rand_augment: {fault}")))
    }

    /// Draws these steps for one view; nothing for those that are not asked for.
    pub(super) fn sample(view: &StrongAugment, rng: &mut impl RngCore) -> Drawn {
        let more = &view.more;
        Drawn {
            rand_augment: more.rand_augment.map_or_else(Vec::new, |policy| policy.sample(view.side(), rng)),
            perspective: (more.perspective_p > 0.0 && chance(rng, more.perspective_p)).then(|| corners(view, rng)),
            second_jitter: match more.second_jitter_p {
                p if p > 0.0 && chance(rng, p) => view.sample_jitter(rng),
                _ => Vec::new(),
            },
        }
    }
}

/// The corners of a tilted view, each moved inwards by a uniform number of columns and of rows.
fn corners(view: &StrongAugment, rng: &mut impl RngCore) -> [(u32, u32); 4] {
    let (last, most) = (view.side().saturating_sub(1), (view.more.perspective * (view.size / 2) as f32) as usize);
    let mut moved = || below(rng, most + 1) as u32;
    let mut inwards = |right: bool, bottom: bool| {
        let (x, y) = (moved(), moved());
        (if right { last.saturating_sub(x) } else { x }, if bottom { last.saturating_sub(y) } else { y })
    };
    [inwards(false, false), inwards(true, false), inwards(true, true), inwards(false, true)]
}

/// The color that the tower reads as 0.
pub(super) fn mean_color(of: &StrongAugment) -> [u8; 3] {
    of.mean.map(|mean| (f64::from(mean) / f64::from(of.rescale)).round_ties_even() as u8)
}

impl Drawn {
    /// RandAugment's part.
    pub(super) fn rand_augment(params: &StrongParams, of: &StrongAugment, view: RgbImage) -> RgbImage {
        let Some(policy) = &of.more.rand_augment else { return view };
        let fill = policy.fill(mean_color(of));
        params.more.rand_augment.iter().fold(view, |view, step| step.apply(&view, policy.sampling(), fill))
    }

    /// The tilt and the second jitter.
    pub(super) fn after_gray(params: &StrongParams, view: RgbImage) -> RgbImage {
        let view = match params.more.perspective {
            Some(corners) => pillow::perspective(&view, corners, [0; 3]),
            None => view,
        };
        params.more.second_jitter.iter().fold(view, |view, step| step.apply(&view))
    }
}
