//! LaFTer next to the methods after it, block by block, on the same pictures, texts, views and seeds.

use std::fmt;

use super::Ablation;
use crate::error::{Error, Result};
use crate::experiment::Experiment;
use crate::settings::{LafterConfig, list};

/// One row of the comparison: what stands in the place of LaFTer's step, or next to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The base as it is.
    Lafter,
    /// LaFTer with the fairness term.
    Fairness,
    /// LaFTer whose pseudo-labels are aligned to balanced classes.
    Align,
    /// LaFTer whose pseudo-labels are mixed, half and half, with those of image prototypes.
    Prototypes,
    /// Alignment, then prototypes.
    AlignPrototypes,
    /// The same with DPA's relative weights, fairness and alignment term.
    Dpa,
    /// LaFTer on pseudo-labels that StatA gives to all pictures before training, in the place of eq. 3.
    StataLabels,
    /// The class means of the texts in the place of eq. 2.
    ClassMeans,
}

impl Method {
    /// All, in the order of the table.
    pub const ALL: [Self; 8] = [
        Self::Lafter,
        Self::Fairness,
        Self::Align,
        Self::Prototypes,
        Self::AlignPrototypes,
        Self::Dpa,
        Self::StataLabels,
        Self::ClassMeans,
    ];

    /// The fields in which the methods differ from each other.
    pub const VARIES: [&'static str; 5] = ["tune.teacher", "tune.refine", "tune.objective", "tune.temperature", "text.start"];

    /// Refuses settings that have blocks of their own where the methods have theirs: the rows would not be what they are called.
    ///
    /// # Errors
    /// [`Error::Usage`] with the first of [`VARIES`](Self::VARIES) that is not LaFTer's.
    pub fn check(config: &LafterConfig) -> Result<()> {
        let (own, lafter) = (list(config), list(&LafterConfig::default()));
        let differs = |field: &&&str| own.iter().zip(&lafter).any(|(own, lafter)| own.path == **field && own.default != lafter.default);
        match Self::VARIES.iter().find(differs) {
            Some(field) => Err(Error::Usage(format!(
                "{field} of the base is not LaFTer's, which the methods change: take it as the presets official, paper and demo have it"
            ))),
            None => Ok(()),
        }
    }

    /// Changes a run's settings accordingly. Rules that read probabilities get a temperature of 0.25, as CPL has it within LaFTer:
    /// the text classifier's own answers are almost flat.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn apply(self, experiment: &mut Experiment) -> Result<()> {
        Self::check(&experiment.config)?;
        let sure = ("tune.temperature", "0.25");
        let fair = r#"[[1, "cross_entropy"], [1, "fairness"]]"#;
        let changes: &[(&str, &str)] = match self {
            Self::Lafter => &[],
            Self::Fairness => &[("tune.objective", fair)],
            Self::Align => &[sure, ("tune.refine", r#"["align"]"#)],
            Self::Prototypes => &[sure, ("tune.refine", r#"["prototypes"]"#)],
            Self::AlignPrototypes => &[sure, ("tune.refine", r#"["align", "prototypes"]"#)],
            Self::Dpa => &[
                sure,
                ("tune.refine", r#"["align", "prototypes", "relative"]"#),
                ("tune.objective", r#"[[1, "cross_entropy"], [1, "fairness"], [1, "alignment"]]"#),
            ],
            Self::StataLabels => &[("tune.teacher", r#"{"transduct": "stata"}"#)],
            Self::ClassMeans => &[("text.start", "class_means"), ("text.epochs", "0")],
        };
        changes.iter().try_for_each(|(path, value)| experiment.config.set(path, value))
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lafter => "LaFTer",
            Self::Fairness => "+ fairness",
            Self::Align => "+ align",
            Self::Prototypes => "+ prototypes",
            Self::AlignPrototypes => "+ align, prototypes",
            Self::Dpa => "+ DPA's blocks",
            Self::StataLabels => "StatA's labels",
            Self::ClassMeans => "class means for eq. 2",
        })
    }
}

/// One factor, the method, over a base with LaFTer's settings; over one with others its [`cells`](Ablation::cells) are an error
/// ([`Method::check`]).
///
/// ```
/// use lafter::{ablate, clip::Clip, experiment::Experiment};
/// let grid = ablate::methods(Experiment::demo(Clip::demo()?, 7777)?).seeds(3);
/// assert_eq!(grid.cells()?.len(), ablate::Method::ALL.len() * 3);
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn methods(base: Experiment) -> Ablation {
    Ablation::new(base).vary_experiment("method", Method::ALL, |experiment, method| method.apply(experiment))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::Clip;
    use crate::settings::Preset;

    #[test]
    fn every_method_can_work_and_each_is_another() {
        let base = Experiment::demo(Clip::demo().unwrap(), 1).unwrap();
        let mut seen = Vec::new();
        for cell in methods(base.clone()).cells().unwrap() {
            cell.experiment.config.validate().unwrap();
            assert!(!seen.contains(&cell.experiment.config), "{:?}", cell.settings);
            seen.push(cell.experiment.config);
        }
        assert_eq!((seen.len(), &seen[0]), (Method::ALL.len(), &base.config));
    }

    #[test]
    fn a_base_with_blocks_of_its_own_is_refused_by_the_name_of_the_field() {
        let mut base = Experiment::demo(Clip::demo().unwrap(), 1).unwrap();
        for (preset, field) in [
            (Preset::Official, None),
            (Preset::Paper, None),
            (Preset::Nola, Some("tune.teacher")),
            (Preset::MustLite(None), Some("tune.teacher")),
            (Preset::Dpa(None), Some("tune.refine")),
            (Preset::Cpl(None), Some("tune.refine")),
        ] {
            base.config = LafterConfig::new(preset);
            let refused = methods(base.clone()).cells().err().map(|error| error.to_string());
            assert_eq!(refused.is_some(), field.is_some(), "{refused:?}");
            assert!(refused.iter().zip(field).all(|(error, field)| error.starts_with(field)), "{refused:?}");
        }
    }
}
