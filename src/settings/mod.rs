//! The settings of a run: presets, one field by its path, what a user asks for, and the list of all with their defaults.

mod changes;
mod list;
mod path;

use serde::{Deserialize, Serialize};

use crate::classify::TextClassifierConfig;
use crate::error::Result;
use crate::rng::Rng;
use crate::tune::{FinetuneConfig, StrongConfig};

pub use changes::Changes;
pub use list::{Setting, list};
pub use path::full_path;

/// A named set of settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// The released code, which produced the published numbers.
    #[default]
    Official,
    /// The paper's text where it differs from the released code.
    Paper,
    /// Official, shortened for the demo CLIP and its rendered scenes.
    Demo,
}

impl Preset {
    /// As it is written in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Official => "official",
            Self::Paper => "paper",
            Self::Demo => "demo",
        }
    }

    /// The preset of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Official, Self::Paper, Self::Demo].into_iter().find(|preset| preset.name() == name)
    }
}

/// The settings of both stages; every field may be changed after a preset has filled them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LafterConfig {
    /// The preset that the settings started from: `official`, `paper` or `demo`.
    pub preset: Preset,
    /// Stage one (eq. 2).
    pub text: TextClassifierConfig,
    /// Stage two (eq. 3 and 4).
    #[serde(alias = "image")] // as earlier versions wrote it
    pub tune: FinetuneConfig,
    /// Seeds everything random: noise, initial weights, order, augmentation. Default 7777.
    pub seed: u64,
}

impl LafterConfig {
    /// The settings of a preset, with the seed 7777.
    pub fn new(preset: Preset) -> Self {
        let (text, tune) = match preset {
            Preset::Official => (TextClassifierConfig::official(), FinetuneConfig::official()),
            Preset::Paper => (TextClassifierConfig::paper(), FinetuneConfig::paper()),
            Preset::Demo => (
                // features 64 wide need larger steps, and more noise for the same distance, than CLIP's 512; more epochs, so that
                // the head forgets the seed of its first weights
                TextClassifierConfig { epochs: 1000, learning_rate: 5e-3, noise: 0.3, ..TextClassifierConfig::official() },
                // views of 40 pixels hold 25 patches: two prompts, mild crops, no blur
                FinetuneConfig {
                    epochs: 16,
                    learning_rate: 1e-3,
                    prompts: 2,
                    strong: StrongConfig { scale: (0.85, 1.0), blur_p: 0.0, ..StrongConfig::simsiam() },
                    normalise_student: true,
                    ..FinetuneConfig::official()
                },
            ),
        };
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
