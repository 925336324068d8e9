//! Learning-rate schedules.

use serde::{Deserialize, Serialize};

/// The factor on the base learning rate, by step.
///
/// ```
/// use lafter::nn::Schedule;
/// assert_eq!(Schedule::Constant.factor(7, 10), 1.0);
/// let cosine = Schedule::Cosine { warmup: 2, floor: 0.0 };
/// assert_eq!(cosine.factor(0, 10), 0.5);
/// assert!(cosine.factor(9, 10) < 0.1);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// The same rate throughout: what the released code in effect uses.
    #[default]
    Constant,
    /// Linear rise over `warmup` steps, then constant.
    Warmup {
        /// Steps of the rise.
        warmup: usize,
    },
    /// Linear rise over `warmup` steps, then half a cosine down to `floor` at the last step
    /// (Loshchilov & Hutter 2017, eq. 5, one cycle).
    Cosine {
        /// Steps of the rise.
        warmup: usize,
        /// The last factor, 0 to 1.
        floor: f64,
    },
}

impl Schedule {
    /// True where the factor does not depend on the number of steps to come.
    pub fn is_constant(&self) -> bool {
        !matches!(self, Self::Cosine { .. })
    }

    /// The factor at `step` (from 0) of `total` steps.
    pub fn factor(&self, step: usize, total: usize) -> f64 {
        let rise = |warmup: usize| (step < warmup).then(|| (step + 1) as f64 / warmup as f64);
        match *self {
            Self::Constant => 1.0,
            Self::Warmup { warmup } => rise(warmup).unwrap_or(1.0),
            Self::Cosine { warmup, floor } => rise(warmup).unwrap_or_else(|| {
                let done = (step - warmup) as f64 / (total.saturating_sub(warmup)).max(1) as f64;
                floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos())
            }),
        }
    }
}
