//! A vision tower and a head that answer for the weak views: LaFTer's teacher.

use candle_core::Result;

use super::Teacher;
use crate::classify::{Head, normalize};
use crate::clip::VisionTower;
use crate::tune::{Stateful, Targets, Views};

/// p = softmax( f(v(α_w(x))) / T ), ĉ(x) = argmax p: no prompts, unit features, no gradient. (eq. 3)
#[derive(Clone, Debug)]
pub struct TowerTeacher {
    /// v, [detached](VisionTower::detached); one that shares its norms with the student sees them learn.
    pub tower: VisionTower,
    /// f, frozen too.
    pub head: Head,
    /// T; 1 in LaFTer. It changes no pseudo-label, but each confidence.
    pub temperature: f64,
}

impl Teacher for TowerTeacher {
    fn targets(&self, views: &Views) -> Result<Targets> {
        let features = normalize(&self.tower.forward(&views.weak)?)?; // [b, d]
        let logits = self.head.forward(&features)?; // [b, C]
        Targets::of_logits(features, &logits, self.temperature)
    }
}

impl Stateful for TowerTeacher {
    fn kind(&self) -> &'static str {
        "tower"
    }
}
