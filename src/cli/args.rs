//! Every command and option, with its help.

use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, RangedU64ValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use lafter::ablate::Shard;
use lafter::eval::Select;
use lafter::predictions::TableFormat;
use lafter::settings::Preset;

use super::data_args::{DataArgs, SplitArgs, TestArgs};
use super::examples;

/// Label-free tuning of CLIP to your classes: class names, texts about them, unlabeled images (LaFTer, NeurIPS 2023).
#[derive(Parser)]
#[command(version, propagate_version = true, after_help = examples::EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Args)]
pub struct Common {
    /// Seed of everything random: the same seed gives the same report
    #[arg(long, global = true, default_value_t = 7777)]
    pub seed: u64,
    /// Where to compute: cpu, cuda or cuda:N
    #[arg(long, global = true, default_value = "cpu")]
    pub device: String,
    /// On an NVIDIA GPU, multiply f32 matrices in TF32: faster, about three decimal digits
    #[arg(long, global = true)]
    pub tf32: bool,
    /// Print the result as JSON and no progress
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Subcommand)]
pub enum Command {
    /// The whole method on the embedded demo CLIP and rendered scenes: no download, no data
    #[command(after_help = "Example:\n  lafter demo --out demo-out   # then open demo-out/index.html")]
    Demo(DemoArgs),
    /// Both stages on your own data
    #[command(after_help = examples::RUN_EXAMPLES)]
    Run(Box<RunArgs>),
    /// What a run would understand of its inputs, and a sheet of its pictures; nothing is computed
    #[command(after_help = examples::CHECK_EXAMPLES)]
    Check(Box<CheckArgs>),
    /// CLIP without any training (eq. 1) on a labeled test set
    #[command(after_help = "Example:\n  lafter zero-shot --model openai/clip-vit-base-patch32 --test labeled/")]
    ZeroShot(ZeroShotArgs),
    /// Saved LaFTer weights on a labeled test set
    #[command(after_help = "Example:\n  lafter evaluate --model M --weights lafter-out/lafter.safetensors \\\n    --test labeled/")]
    Evaluate(EvaluateArgs),
    /// Answers for pictures without labels, as lines, as a table, as folders of links
    #[command(
        after_help = super::predict_args::EXAMPLES,
        mut_arg("classes", |classes| classes.help(CLASSES_TO_ANSWER)),
        mut_arg("descriptions", |descriptions| descriptions.help(super::predict_args::DESCRIPTIONS))
    )]
    Predict(Box<super::predict_args::PredictArgs>),
    /// Answers for many pictures together, from features, without training (transductive)
    #[command(after_help = super::transduct::EXAMPLES)]
    Transduct(super::transduct::TransductArgs),
    /// The result for other programs: an ONNX file, an ordinary CLIP folder
    #[command(after_help = super::export::EXAMPLES, mut_arg("classes", |classes| classes.help(CLASSES_TO_ANSWER)))]
    Export(Box<super::export::ExportArgs>),
    /// Weights that LaFTer's released code trained in PyTorch, as a lafter.safetensors
    #[command(after_help = super::import::EXAMPLES)]
    Import(super::import::ImportArgs),
    /// README.md of a run's folder in the hub's format
    #[command(after_help = super::card::EXAMPLES)]
    Card(super::card::CardArgs),
    /// CLIP features of images or texts, not normalized, in input order: tensor `features` [n, d] f32
    #[command(after_help = examples::EMBED_EXAMPLES)]
    Embed(EmbedArgs),
    /// A grid of runs over any setting, with seeds: a table with mean and spread
    #[command(after_help = examples::ABLATE_EXAMPLES)]
    Ablate(Box<AblateArgs>),
    /// Every setting of a run: its path for --set and --vary, its default, what it means
    #[command(
        after_help = "Example:\n  # as `lafter run` with these options has them\n  lafter settings --preset paper --set tune.epochs=20"
    )]
    Settings(SettingsArgs),
    /// Sentences about your classes from a language model: a server, a local model, a published file
    #[command(after_help = super::describe_args::EXAMPLES)]
    Describe(Box<super::describe_args::DescribeArgs>),
    /// Rendered pictures as files, to try every other command on
    #[command(after_help = super::scenes::EXAMPLES)]
    Scenes(super::scenes::ScenesArgs),
    /// Train the demo CLIP anew from rendered scenes and captions; stopped before the end, it writes nothing
    #[command(after_help = "Examples:\n  lafter pretrain-demo --out my-demo-clip\n  lafter zero-shot --model my-demo-clip --test labeled/")]
    PretrainDemo(PretrainArgs),
}

/// Pictures to answer for have no class names of their own.
const CLASSES_TO_ANSWER: &str = "Class names, one per line; needed without --weights";

/// How many, 1 or more.
pub fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

/// A name that has to be text, since messages and reports repeat it; the error names the option.
pub fn plain_text() -> impl TypedValueParser<Value = String> {
    let remedy = "is not UTF-8: rename it, or give it by a link with another name";
    OsStringValueParser::new().try_map(move |name| name.into_string().map_err(|name| format!("{} {remedy}", name.display())))
}

#[derive(Args)]
pub struct DemoArgs {
    #[command(flatten)]
    pub set: SetArgs,
    /// Where report.json, figures and index.html go
    #[arg(long, default_value = "lafter-out/demo")]
    pub out: PathBuf,
    /// Continue the stopped demo in --out; begin anew where there is none
    #[arg(long)]
    pub resume: bool,
}

#[derive(Args)]
pub struct ModelArgs {
    /// A directory (transformers or open_clip layout), a file with weights in one, a hub id, or `demo`
    #[arg(long, value_name = "DIR|FILE|ID|demo", value_parser = plain_text())]
    pub model: String,
    /// Branch, tag or commit of a hub id
    #[arg(long)]
    pub revision: Option<String>,
}

impl ModelArgs {
    /// The folder or file that is read.
    pub fn files(&self) -> Option<&Path> {
        (self.model != "demo").then(|| Path::new(&self.model))
    }
}

#[derive(Args)]
#[command(
    mut_arg("train", |train| train.help("Unlabeled images to tune on")),
    mut_arg("test", |test| test.help("Labeled images to evaluate on"))
)]
pub struct CheckArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub data: DataArgs,
    /// Where the sheet of pictures goes, a .png or .svg file
    #[arg(long, value_name = "FILE", default_value = "lafter-out/check.png")]
    pub sheet: PathBuf,
}

/// Settings by their path: shared by `run`, `demo`, `ablate` and `settings`.
#[derive(Args)]
pub struct SetArgs {
    /// A setting by its path, as in tune.teacher_head=shared; lists and other structures are JSON; repeatable. `lafter settings`
    /// lists all
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
}

#[derive(Args)]
pub struct SettingsArgs {
    /// The preset whose values are shown [default: official]
    #[arg(long, value_name = "NAME", value_parser = Preset::parse)]
    pub preset: Option<Preset>,
    #[command(flatten)]
    pub set: SetArgs,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum SelectArg {
    /// The last epoch's
    Last,
    /// Zero-shot, the text classifier, the mean of both, or the epoch that keeps its classes with the most mutual information:
    /// whichever answers most often as the nearest class mean of its own features
    Signals,
}

/// The form of a run's table of answers.
#[derive(Clone, Copy, ValueEnum)]
pub enum TableArg {
    Csv,
    Jsonl,
    Parquet,
}

impl From<TableArg> for TableFormat {
    fn from(table: TableArg) -> Self {
        match table {
            TableArg::Csv => Self::Csv,
            TableArg::Jsonl => Self::JsonLines,
            TableArg::Parquet => Self::Parquet,
        }
    }
}

impl From<SelectArg> for Select {
    fn from(select: SelectArg) -> Self {
        match select {
            SelectArg::Last => Self::Last,
            SelectArg::Signals => Self::Signals,
        }
    }
}

/// What is run on what: shared by `run` and `ablate`.
#[derive(Args)]
#[command(mut_arg("test", |test| test.requires("train")))]
pub struct SetupArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub data: DataArgs,
    /// Settings to start from (preset): official, paper, demo; of later methods dpa, must_lite, cpl, ueo, nola, or the values of a
    /// published table, as dpa:eurosat [default: official; demo on the demo's scenes]
    #[arg(long, value_name = "NAME", value_parser = Preset::parse)]
    pub preset: Option<Preset>,
    #[command(flatten)]
    pub set: SetArgs,
    /// Epochs of the text classifier (text.epochs) [official: 400]
    #[arg(long, value_name = "N")]
    pub text_epochs: Option<usize>,
    /// Epochs of tuning (tune.epochs) [official: 50]; 0 stops after the text classifier
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,
    /// Images per tuning step (tune.batch_size) [official: 50]
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
    /// Visual prompts (tune.prompts) [official: 50]
    #[arg(long, value_name = "N")]
    pub prompts: Option<usize>,
    /// New visual prompts at every block (tune.deep_prompts)
    #[arg(long)]
    pub deep_prompts: bool,
    /// σ of the noise on text features (text.noise) [official: 0.1]
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub noise: Option<f32>,
    /// Learning rate of the text classifier (text.learning_rate) [official: 5e-4]
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    pub text_learning_rate: Option<f64>,
    /// Learning rate of tuning (tune.learning_rate) [official: 5e-4]
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    pub learning_rate: Option<f64>,
    /// Run the tower's frozen layers in bf16, with 8 bits of mantissa (tune.precision); norms, prompts and head stay f32.
    /// Faster on GPUs, AMD processors with AVX-512 BF16 and Intel processors with AMX (others stay with f32)
    #[arg(long)]
    pub bf16: bool,
    /// Hidden width of an MLP text classifier (text.hidden) [official: linear]
    #[arg(long, value_name = "N")]
    pub hidden: Option<usize>,
    /// Evaluate on the test set every N epochs, 0 only after the last (tune.eval_every) [official: 1]
    #[arg(long, value_name = "N")]
    pub eval_every: Option<usize>,
    /// Tune on N images only, evenly spread over the set
    #[arg(long, value_name = "N")]
    pub limit_train: Option<usize>,
    /// Evaluate on N images only, of every class in proportion to its size, at least one if N suffices
    #[arg(long, value_name = "N")]
    pub limit_test: Option<usize>,
    /// Share of unreadable images that a run tolerates, 0 to 1 (tune.max_unreadable) [official: 0.05]
    #[arg(long, value_name = "SHARE")]
    pub max_unreadable: Option<f64>,
    /// Where features and text classifiers are kept between runs [default: the user's cache folder]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Disk space in GiB for decoded pictures and their weak views, made once instead of every epoch; 0 keeps none
    #[arg(long, value_name = "N", default_value_t = 4.0)]
    pub cache_gib: f64,
}

#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub setup: SetupArgs,
    /// What the result is: the last epoch, or what signals without labels choose, which may be untuned [default: last; signals
    /// without --test]
    #[arg(long, value_enum)]
    pub select: Option<SelectArg>,
    /// How the table of answers is written: predictions.csv, .jsonl or .parquet
    #[arg(long, value_enum, default_value_t = TableArg::Csv)]
    pub table: TableArg,
    /// Where report.json, history.jsonl, lafter.safetensors and figures go
    #[arg(long, default_value = "lafter-out")]
    pub out: PathBuf,
    /// Continue from the checkpoints in --out; begin anew where there are none
    #[arg(long)]
    pub resume: bool,
    /// Seconds between checkpoints, which are saved between two steps; 0 saves after each step
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub checkpoint_every: u64,
    /// Memory in GiB that tuning may take: its steps are worked on in parts that fit (tune.micro_batch), with the same result but for
    /// rounding [default: the whole batch at once]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub memory_gib: Option<f64>,
}

#[derive(Args)]
pub struct AblateArgs {
    #[command(flatten)]
    pub setup: SetupArgs,
    /// A factor: a field of the settings and its values, separated by commas (as in text.noise=0,0.1,1); repeatable
    #[arg(long, value_name = "FIELD=V,V,…")]
    pub vary: Vec<String>,
    /// The paper's grid: text source × image stage × noise
    #[arg(long)]
    pub paper: bool,
    /// LaFTer next to the methods after it, block by block: fairness, alignment, prototypes, DPA's blocks, StatA's labels, class
    /// means
    #[arg(long, conflicts_with = "paper")]
    pub methods: bool,
    /// σ of the noise in the grid of --paper (text.noise) [default: 0,0.1,1]
    #[arg(long, value_name = "S,S,…", value_delimiter = ',', default_values_t = [0.0, 0.1, 1.0], hide_default_value = true,
          requires = "paper")]
    pub noises: Vec<f32>,
    /// Only these levels of a factor of --paper or --methods, as in "texts=names,templates"; repeatable
    #[arg(long, value_name = "FACTOR=L,L,…")]
    pub only: Vec<String>,
    /// Seeds per setting, counted from --seed
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one())]
    pub seeds: usize,
    /// Runs at a time, as far as memory allows
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one())]
    pub jobs: usize,
    /// Run part i of n only [default: the whole grid; in a SLURM array job the task's part]
    #[arg(long, value_name = "i/n")]
    pub shard: Option<Shard>,
    /// Run nothing: join what all shards have left in --out
    #[arg(long, conflicts_with_all = ["shard", "dry_run"])]
    pub collect: bool,
    /// Print the runs of the grid and their number, and run nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Where finished runs, tables and the figure go; a finished run is never run again
    #[arg(long, default_value = "lafter-out/ablation")]
    pub out: PathBuf,
}

/// How commands without a run's folder keep what is done: shared by `zero-shot`, `evaluate`, `predict` and `embed`.
#[derive(Args)]
pub struct KeepArgs {
    /// Seconds between two saves of what is done, which the same command goes on with after a stop; 0 saves after each step
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub checkpoint_every: u64,
}

#[derive(Args)]
pub struct ZeroShotArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub test: TestArgs,
    /// Templates, one per line with {} for the class name [default: a photo of a {}]
    #[arg(long, value_name = "FILE")]
    pub templates: Option<PathBuf>,
    #[command(flatten)]
    pub keep: KeepArgs,
}

#[derive(Args)]
pub struct EvaluateArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// The lafter.safetensors of an earlier run with this model
    #[arg(long, value_name = "FILE")]
    pub weights: PathBuf,
    #[command(flatten)]
    pub test: TestArgs,
    #[command(flatten)]
    pub keep: KeepArgs,
}

#[derive(Args)]
#[command(mut_arg("split", |split| split.conflicts_with("texts")), mut_arg("label_column", |column| column.conflicts_with("texts")))]
pub struct EmbedArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub input: EmbedInput,
    #[command(flatten)]
    pub split: SplitArgs,
    /// Also answer: zero-shot logits of the images for these class names, one per line; a run can be tuned on them
    /// (`--set 'tune.teacher={"bank": {"file": "FILE"}}'`)
    #[arg(long, value_name = "FILE", conflicts_with = "texts")]
    pub classes: Option<PathBuf>,
    /// The templates of the class names, one per line with a {} [default: a photo of a {}]
    #[arg(long, value_name = "FILE", requires = "classes")]
    pub templates: Option<PathBuf>,
    /// The safetensors file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    #[command(flatten)]
    pub keep: KeepArgs,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct EmbedInput {
    /// Images; DATA:NAME takes one of several splits
    #[arg(long, value_name = "DATA", value_parser = plain_text())]
    pub images: Option<String>,
    /// Texts, one per line
    #[arg(long, value_name = "FILE")]
    pub texts: Option<PathBuf>,
}

#[derive(Args)]
pub struct PretrainArgs {
    /// Directory to write, in the transformers layout
    #[arg(long, default_value = "lafter-out/demo-clip")]
    pub out: PathBuf,
    /// Training steps [default: as the embedded weights were trained]
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joining_a_grid_takes_no_part_of_it() {
        for option in [&["--shard", "1/2"][..], &["--dry-run"]] {
            let line = ["lafter", "ablate", "--model", "demo", "--paper", "--collect"].iter().chain(option);
            assert_eq!(Cli::try_parse_from(line).err().unwrap().kind(), clap::error::ErrorKind::ArgumentConflict);
        }
    }
}
