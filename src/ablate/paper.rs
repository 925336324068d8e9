//! The paper's own questions as a ready grid: where the texts come from × what learns × how much noise.

use std::fmt;

use super::grid::Ablation;
use crate::describe::generate::random_words;
use crate::describe::{Source, TextSet};
use crate::error::{Error, Result};
use crate::experiment::Experiment;
use crate::rng::Rng;
use crate::settings::LafterConfig;

/// Which of the base's texts the text classifier is trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextSource {
    /// The class names alone.
    Names,
    /// The templates, filled with the class names.
    Templates,
    /// The descriptions.
    Descriptions,
    /// All the base's texts.
    All,
    /// As many sentences as the base has descriptions, with random words in them (WaffleCLIP): the control.
    RandomWords,
}

impl TextSource {
    /// All five, in the order of the grid.
    pub const ALL: [Self; 5] = [Self::Names, Self::Templates, Self::Descriptions, Self::All, Self::RandomWords];

    /// Leaves only these texts in a run.
    ///
    /// # Errors
    /// [`Error::Text`] if the base has none of them.
    pub fn apply(self, experiment: &mut Experiment) -> Result<()> {
        let texts = match self {
            Self::Names => TextSet::new(experiment.texts.classes())?.with_class_names(),
            Self::Templates => experiment.texts.only(Source::Template),
            Self::Descriptions => experiment.texts.only(Source::Description),
            Self::All => experiment.texts.clone(),
            Self::RandomWords => {
                let classes = experiment.texts.classes();
                let each = experiment.texts.counts().descriptions.div_ceil(classes.len()).max(1);
                // the same words for every seed of the training
                let control = random_words(classes, each, &mut Rng::new(0))?;
                TextSet::new(classes)?.with_descriptions(&control)?
            }
        };
        if texts.is_empty() {
            return Err(Error::Text(format!("the base has no {self} to compare: give --{self}, or leave it out (--only texts=names,…)")));
        }
        experiment.texts = texts;
        Ok(())
    }
}

impl fmt::Display for TextSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Names => "names",
            Self::Templates => "templates",
            Self::Descriptions => "descriptions",
            Self::All => "all",
            Self::RandomWords => "random words",
        })
    }
}

/// What the image stage tunes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageStage {
    /// No image stage: the text classifier alone.
    None,
    /// Visual prompts and the head.
    PromptsOnly,
    /// Layer-norm affines and the head.
    NormsOnly,
    /// Prompts, affines and the head: the method.
    Both,
    /// The method on weak views on both sides.
    NoAugmentation,
}

impl ImageStage {
    /// All five, in the order of the grid.
    pub const ALL: [Self; 5] = [Self::None, Self::PromptsOnly, Self::NormsOnly, Self::Both, Self::NoAugmentation];

    /// Refuses settings without prompts or norms to tune: the stages would not be what they are called.
    ///
    /// # Errors
    /// [`Error::Usage`] with the field.
    pub fn check(config: &LafterConfig) -> Result<()> {
        let needed = match (config.tune.prompts, config.tune.tune_norms) {
            (0, _) => "tune.prompts of at least 1",
            (_, false) => "tune.tune_norms true",
            _ => return Ok(()),
        };
        Err(Error::Usage(format!(
            "the base needs {needed}, since the image stages are with and without it: take it as the presets official, paper and demo have it"
        )))
    }

    /// Changes a run's settings accordingly.
    pub fn apply(self, experiment: &mut Experiment) {
        let tune = &mut experiment.config.tune;
        match self {
            Self::None => tune.epochs = 0,
            Self::PromptsOnly => tune.tune_norms = false,
            Self::NormsOnly => (tune.prompts, tune.deep_prompts) = (0, false),
            Self::Both => {}
            Self::NoAugmentation => tune.augment = false,
        }
    }
}

impl fmt::Display for ImageStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::PromptsOnly => "prompts only",
            Self::NormsOnly => "norms only",
            Self::Both => "both",
            Self::NoAugmentation => "no augmentation",
        })
    }
}

/// Text source × image stage × noise σ, over a base with templates and descriptions that tunes prompts and norms
/// ([`ImageStage::check`]).
///
/// ```
/// use lafter::{ablate, clip::Clip, experiment::Experiment};
/// let grid = ablate::paper(Experiment::demo(Clip::demo()?, 7777)?, &[0.0, 0.3]).seeds(3);
/// assert_eq!(grid.cells()?.len(), ablate::TextSource::ALL.len() * ablate::ImageStage::ALL.len() * 2 * 3);
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn paper(base: Experiment, noises: &[f32]) -> Ablation {
    Ablation::new(base)
        .vary_experiment("texts", TextSource::ALL, |experiment, source| source.apply(experiment))
        .vary_experiment("image stage", ImageStage::ALL, |experiment, stage| {
            ImageStage::check(&experiment.config)?;
            stage.apply(experiment);
            Ok(())
        })
        .vary("noise σ", noises.to_vec(), |config, noise| config.text.noise = noise)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::Clip;
    use crate::settings::Preset;

    #[test]
    fn a_base_that_does_not_tune_what_is_compared_is_refused() {
        let mut base = Experiment::demo(Clip::demo().unwrap(), 1).unwrap();
        let refused = |base: &Experiment| paper(base.clone(), &[0.1]).cells().err().map(|error| error.to_string());
        for preset in [Preset::Official, Preset::Paper, Preset::Demo] {
            base.config = LafterConfig::new(preset);
            assert_eq!(refused(&base), None);
        }
        base.config.tune.tune_norms = false;
        assert!(refused(&base).unwrap().contains("tune.tune_norms"));
        base.config = LafterConfig::new(Preset::Dpa(None));
        assert!(refused(&base).unwrap().contains("tune.prompts"));
    }
}
