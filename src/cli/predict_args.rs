//! The options of `predict`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use lafter::adapt;
use lafter::transduct::Transduct;

use super::answers::{AnswerArgs, RowArgs};
use super::args::{KeepArgs, ModelArgs, at_least_one};
use super::data_args::SplitArgs;

pub const EXAMPLES: &str = "\
Pictures are files, folders (all pictures in them and below), or one data set in any form that --train takes; - reads one path a
line from standard input. A folder that holds pictures and Parquet files or tar shards is refused: name which are meant.
Without --weights the answers are zero-shot's, or with --descriptions the text classifier's.

--transduct answers all pictures together, without training: each answer depends on the other pictures (transductive).
transclip and zlap are for sets that show every class; where classes are absent, stata loses less than these two. --adapt
answers batch by batch: zero has many views of each picture vote; tda and tent depend on the pictures before; watt and tent
tune on each batch. With --transduct or --adapt, --descriptions give class means; no classifier is trained (watt takes none:
its texts are its own). zero, tda and tent also start from --weights.

Examples:
  lafter predict --model M --weights lafter-out/lafter.safetensors a.jpg b.png
  lafter predict --model M --weights lafter-out/lafter.safetensors photos/ \\
    --out predictions.csv --threshold 0.5
  lafter predict --model M --classes names.txt photos/ --link-into sorted/
  lafter predict --model M --classes names.txt photos/ --transduct stata \\
    --out predictions.csv
  lafter predict --model M --classes names.txt photos/ --adapt zero
  lafter predict --model M --weights lafter-out/lafter.safetensors photos/ \\
    --adapt tent
  find photos -name '*.jpg' | lafter predict --model M --classes names.txt \\
    --out predictions.parquet -";

pub const DESCRIPTIONS: &str = "Sentences about each class (CuPL's JSON): the text classifier of stage one is trained on them and answers; \
                                with --transduct or --adapt their class means do";

#[derive(Args)]
pub struct PredictArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub who: AnswerArgs,
    /// Answer all pictures together, without training: stata (loses less than the next two where classes are absent), transclip, zlap,
    /// neighbors
    #[arg(long, value_name = "METHOD", requires = "classes", conflicts_with = "weights",
          value_parser = PossibleValuesParser::new(Transduct::NAMES))]
    pub transduct: Option<String>,
    /// Adapt at test time, batch by batch: zero (many views vote), tda (a cache), tent, watt (norms learn)
    #[arg(long, value_name = "METHOD", conflicts_with = "transduct",
          value_parser = PossibleValuesParser::new(adapt::NAMES))]
    pub adapt: Option<String>,
    /// Pictures that --adapt sees at a time [default: 1 for zero, which takes 64 views of each; 64 for tda, tent and watt]
    #[arg(long, value_name = "N", requires = "adapt", value_parser = at_least_one())]
    pub adapt_batch: Option<usize>,
    #[command(flatten)]
    pub rows: RowArgs,
    /// A folder that gets one folder a class, with links to the pictures; the originals stay where they are
    #[arg(long, value_name = "DIR")]
    pub link_into: Option<PathBuf>,
    /// Copies instead of links in --link-into
    #[arg(long, requires = "link_into")]
    pub copy: bool,
    /// Also what zero-shot answers, as a column of the table beside that of --weights, with a second pass through the tower, or of
    /// --descriptions
    #[arg(long, requires = "out", conflicts_with = "adapt")]
    pub compare: bool,
    #[command(flatten)]
    pub split: SplitArgs,
    /// Pictures, folders, or one data set
    #[arg(required = true, value_name = "DATA")]
    pub images: Vec<PathBuf>,
    #[command(flatten)]
    pub keep: KeepArgs,
}
