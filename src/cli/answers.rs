//! Who answers: the options that `predict` and `export` share, and the classifiers that they name.

use std::path::{Path, PathBuf};

use clap::Args;
use lafter::clip::Clip;
use lafter::describe::{Templates, TextSet, read_class_names};
use lafter::embed::texts_among;
use lafter::files::sha256_of;
use lafter::progress::{Event, silent};
use lafter::ranks::Ranks;
use lafter::{Error, LaFTer, LafterConfig, Result, ZeroShotClassifier};

use super::args::{Common, at_least_one};
use super::bars::Bars;
use super::check;
use super::data_args::ClassArgs;

#[derive(Args)]
pub struct AnswerArgs {
    /// The lafter.safetensors of an earlier run with this model
    #[arg(long, value_name = "FILE", conflicts_with_all = ["classes", "descriptions", "templates"])]
    pub weights: Option<PathBuf>,
    #[command(flatten)]
    pub classes: ClassArgs,
    /// Sentences about each class (CuPL's JSON): the text classifier of stage one is trained on them and answers
    #[arg(long, value_name = "FILE", requires = "classes")]
    pub descriptions: Option<PathBuf>,
    /// Templates, one per line with {} for the class name [default: a photo of a {}; with --descriptions seven general ones]
    #[arg(long, value_name = "FILE", requires = "classes")]
    pub templates: Option<PathBuf>,
}

impl AnswerArgs {
    /// Says what is missing before a model is loaded.
    pub fn check(&self) -> Result<()> {
        if self.weights.is_some() { Ok(()) } else { self.file().map(|_| ()) }
    }

    /// The names in --classes; how they were understood is said.
    pub fn names(&self, bars: &mut Bars) -> Result<Vec<String>> {
        names_of(self.file()?, bars)
    }

    /// The templates of zero-shot.
    pub fn templates(&self) -> Result<Templates> {
        self.templates.as_ref().map_or_else(|| Ok(Templates::single()), Templates::read)
    }

    /// The prompts of the first, the middle and the last class, where names in templates answer.
    pub fn prompts(&self, classes: &[String]) -> Result<Vec<String>> {
        match (&self.weights, &self.descriptions) {
            (None, None) => Ok(check::prompts(&self.templates()?, classes)),
            _ => Ok(Vec::new()),
        }
    }

    fn file(&self) -> Result<&PathBuf> {
        let missing = || Error::Usage("give --weights FILE of an earlier run, or --classes FILE with the class names".into());
        self.classes.classes.as_ref().ok_or_else(missing)
    }

    /// The files that are read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.weights, &self.classes.classes, &self.descriptions, &self.templates].into_iter().flatten().map(PathBuf::as_path)
    }

    /// A hash of all files that answer.
    pub fn content(&self) -> Result<String> {
        Ok(self.files().map(sha256_of).collect::<Result<Vec<_>>>()?.join(" "))
    }

    fn described(&self, names: &[String]) -> Result<Option<TextSet>> {
        let texts = |file: &PathBuf| super::run::text_set(names, self.templates.as_deref(), Some(file));
        self.descriptions.as_ref().map(texts).transpose()
    }

    /// Stage one on --descriptions.
    pub fn trained(&self, ranks: &dyn Ranks, clip: &Clip, names: &[String], common: &Common, bars: &mut Bars) -> Result<Option<LaFTer>> {
        let Some(texts) = self.described(names)? else { return Ok(None) };
        let mut lafter = LaFTer::new(clip.clone(), names);
        lafter.config = LafterConfig { seed: common.seed, ..LafterConfig::default() };
        lafter.fit_text_among(ranks, &texts, None, |event| bars.show(event))?;
        Ok(Some(lafter))
    }

    /// One text prototype a class: of its name in templates, or of templates and descriptions together.
    pub fn prototypes(&self, ranks: &dyn Ranks, clip: &Clip, names: &[String], bars: &mut Bars) -> Result<ZeroShotClassifier> {
        if let Some(texts) = self.described(names)? {
            let features = texts_among(ranks, clip, texts.sentences(), None, silent)?;
            return Ok(ZeroShotClassifier::from_features(&features, texts.labels(), clip.logit_scale())?);
        }
        ZeroShotClassifier::fit_among(ranks, clip, names, &self.templates()?, |event| bars.show(event))
    }
}

/// The names in a file; how they were understood is said.
pub fn names_of(file: &Path, bars: &mut Bars) -> Result<Vec<String>> {
    let classes = read_class_names(file)?;
    classes.notices().iter().for_each(|notice| bars.show(&Event::Notice(notice.clone())));
    Ok(classes.names().to_vec())
}

/// The table of answers: shared by `predict` and `transduct`.
#[derive(Args)]
pub struct RowArgs {
    /// Classes to list for each picture, on standard output and in JSON lines
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one())]
    pub top: usize,
    /// Answers with a lower probability are "unknown", 0 to 1
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub threshold: f64,
    /// Table of all answers, .csv, .jsonl or .parquet, where `picture` is the name and probabilities are 0 to 1; without it they go to
    /// standard output, with --json as `image` and percentages
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}
