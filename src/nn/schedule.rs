//! Learning-rate schedules.

/// The factor on the base learning rate, by step.
///
/// ```
/// use lafter::nn::LrSchedule;
/// assert_eq!(LrSchedule::Constant.factor(7, 10), 1.0);
/// let cosine = LrSchedule::Cosine { warmup: 2, floor: 0.0 };
/// assert_eq!(cosine.factor(0, 10), 0.5);
/// assert_eq!(cosine.factor(9, 10), 0.0); // the last step
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LrSchedule {
    /// The same rate throughout: what the released code in effect uses.
    #[default]
    Constant,
    /// Linear rise over `warmup` steps, then constant.
    Warmup {
        /// Steps of the rise.
        warmup: usize,
    },
    /// Linear rise over `warmup` steps, then half a cosine down to `floor` at the last step
    /// (Loshchilov & Hutter 2017, eq. 5, one cycle). A single step after the rise has the factor 1.
    Cosine {
        /// Steps of the rise.
        warmup: usize,
        /// The last factor, 0 to 2; above 1 the rate rises.
        floor: f64,
    },
}

impl LrSchedule {
    /// True if the factor depends on the number of steps to come.
    pub fn depends_on_length(&self) -> bool {
        matches!(self, Self::Cosine { .. })
    }

    /// What cannot work about it, with the remedy.
    pub(crate) fn fault(&self) -> Option<String> {
        match self {
            Self::Cosine { floor, .. } if !(0.0..=2.0).contains(floor) => {
                Some(format!("the schedule's floor is a share of the learning rate, 0 to 2, got {floor}"))
            }
            _ => None,
        }
    }

    /// The factor at `step` (from 0) of `total` steps.
    pub fn factor(&self, step: usize, total: usize) -> f64 {
        let rise = |warmup: usize| (step < warmup).then(|| (step + 1) as f64 / warmup as f64);
        match *self {
            Self::Constant => 1.0,
            Self::Warmup { warmup } => rise(warmup).unwrap_or(1.0),
            Self::Cosine { warmup, floor } => rise(warmup).unwrap_or_else(|| {
                let last = total.saturating_sub(warmup + 1); // counted from the first step after the rise
                let done = (step - warmup) as f64 / last.max(1) as f64;
                floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos())
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosine_begins_at_one_and_ends_at_its_floor() {
        for (warmup, floor, total) in [(0, 0.0, 10), (3, 0.1, 10), (0, 0.5, 2), (9, 0.2, 11)] {
            let factors: Vec<f64> = (0..total).map(|step| LrSchedule::Cosine { warmup, floor }.factor(step, total)).collect();
            assert_eq!((factors[warmup], factors[total - 1]), (1.0, floor), "{factors:?}");
            assert!(factors[warmup..].windows(2).all(|pair| pair[0] > pair[1]), "{factors:?}");
        }
        let cosine = LrSchedule::Cosine { warmup: 2, floor: 0.0 };
        assert_eq!((cosine.factor(0, 1), cosine.factor(2, 3), cosine.factor(50, 10)), (0.5, 1.0, 0.0));
        for floor in [-0.1, 7.0, f64::NAN] {
            assert!(LrSchedule::Cosine { warmup: 0, floor }.fault().is_some(), "{floor}");
        }
    }
}
