//! The settings of a run: presets, one field by its path, what a user asks for, and the list of all with their defaults.

mod changes;
mod list;
mod path;
mod presets;

use serde::{Deserialize, Serialize};

use crate::classify::TextClassifierConfig;
use crate::error::Result;
use crate::rng::Rng;
use crate::tune::FinetuneConfig;

pub use changes::Changes;
pub use list::{Setting, list};
pub use path::full_path;
pub use presets::{Preset, TableSet};

/// The settings of both stages; every field may be changed after a preset has filled them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LafterConfig {
    /// The preset that the settings started from: `official`, `paper` or `demo`; of later methods `dpa`, `must_lite`, `cpl`, `ueo` or
    /// `nola`, also with the values of a published table, as `dpa:eurosat`.
    pub preset: Preset,
    /// Stage one (eq. 2).
    pub text: TextClassifierConfig,
    /// Stage two (eq. 3 and 4).
    #[serde(alias = "image")] // as earlier versions wrote it
    pub tune: FinetuneConfig,
    /// Seeds everything random: noise, initial weights, order, augmentation. The command line takes it as --seed, not in --set and
    /// --vary. Default 7777.
    pub seed: u64,
}

impl LafterConfig {
    /// The settings of a preset, with the seed 7777.
    pub fn new(preset: Preset) -> Self {
        let (text, tune) = preset.stages();
        Self { preset, text, tune, seed: 7777 }
    }

    /// Refuses values that cannot work.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) for the first setting of either stage that is out of its range.
    pub fn validate(&self) -> Result<()> {
        self.text.validate()?;
        self.tune.validate()
    }

    /// The stream of the text stage.
    pub fn text_rng(&self) -> Rng {
        Rng::new(self.seed).fork(1)
    }

    /// The stream of the tuning.
    pub fn tune_rng(&self) -> Rng {
        Rng::new(self.seed).fork(2)
    }
}

impl Default for LafterConfig {
    fn default() -> Self {
        Self::new(Preset::Official)
    }
}
