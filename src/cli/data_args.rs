//! Which pictures, classes and texts: options that several commands share.

use std::path::PathBuf;

use clap::Args;
use lafter::data::{Dataset, OpenOptions, Split};
use lafter::{Error, Result};

use super::args::plain_text;
use super::keep::cache_folder;

#[derive(Args)]
pub struct ClassArgs {
    /// Class names, one per line, in the order of the labels [default: those of the data]
    #[arg(long, value_name = "FILE")]
    pub classes: Option<PathBuf>,
}

#[derive(Args)]
pub struct SplitArgs {
    /// Split file (CoOp's JSON) that says which images of the folders are train and which test
    #[arg(long, value_name = "FILE")]
    pub split: Option<PathBuf>,
    /// Column of the labels in Parquet and metadata files, entry of the .json of tar shards [default: label, or the one that is plainly
    /// meant]
    #[arg(long, value_name = "NAME")]
    pub label_column: Option<String>,
    /// Bytes of encoded pictures that stay in memory, if not as many as by default.
    #[arg(skip)]
    pub memory_limit: Option<usize>,
}

impl SplitArgs {
    /// How to open a data set; `split` is taken if there are several.
    pub fn options(&self, split: Option<Split>) -> OpenOptions {
        let options = split.map_or_else(OpenOptions::default, OpenOptions::split);
        let memory_limit = self.memory_limit.unwrap_or(options.memory_limit);
        let index_cache = cache_folder().map(|folder| folder.join("shards"));
        OpenOptions { split_file: self.split.clone(), label_column: self.label_column.clone(), index_cache, memory_limit, ..options }
    }

    /// Refuses a label column that none of the opened sets can have.
    pub fn check<'a>(&self, sets: impl IntoIterator<Item = &'a Dataset>) -> Result<()> {
        let Some(name) = self.label_column.as_ref().filter(|_| !sets.into_iter().any(|set| set.findings().has_columns)) else {
            return Ok(());
        };
        let where_from = "only Parquet files, metadata files and the .json of tar shards have columns";
        Err(Error::Usage(format!("--label-column {name}: these labels come from no column: {where_from}: leave it out")))
    }
}

/// What is tested on: shared by `zero-shot` and `evaluate`.
#[derive(Args)]
pub struct TestArgs {
    /// Labeled images
    #[arg(long, value_name = "DATA", value_parser = plain_text())]
    pub test: String,
    #[command(flatten)]
    pub classes: ClassArgs,
    #[command(flatten)]
    pub split: SplitArgs,
}

/// The pictures, their classes and the texts: shared by `check`, `run` and `ablate`.
#[derive(Args)]
pub struct DataArgs {
    /// Unlabeled images to tune on [with --model demo: rendered scenes]
    #[arg(long, value_name = "DATA", value_parser = plain_text())]
    pub train: Option<String>,
    /// Labeled images to evaluate on; without any, signals stand in the accuracies' place [with --model demo and no --train: rendered
    /// scenes]
    #[arg(long, value_name = "DATA", value_parser = plain_text())]
    pub test: Option<String>,
    #[command(flatten)]
    pub classes: ClassArgs,
    #[command(flatten)]
    pub split: SplitArgs,
    /// Sentences about each class, CuPL's JSON: {"class name": ["sentence", …]}
    #[arg(long, value_name = "FILE")]
    pub descriptions: Option<PathBuf>,
    /// Templates for the text set, one per line with {} for the class name [default: seven general ones]
    #[arg(long, value_name = "FILE")]
    pub templates: Option<PathBuf>,
}

impl DataArgs {
    /// Refuses what belongs to pictures of the user's own, where there are none.
    pub fn refuse_own(&self) -> Result<()> {
        let given = [
            ("--classes", self.classes.classes.is_some()),
            ("--split", self.split.split.is_some()),
            ("--label-column", self.split.label_column.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(Error::Usage(format!("{option} is for pictures of your own: give --train DATA, or leave it out"))),
            None => Ok(()),
        }
    }
}
