//! The options of `describe`, with their help.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use lafter::describe::generate::{Api, Keep, Settings, Subject};

use super::describe_pairs::PairArgs;

/// Commands that can be copied, however narrow the terminal: none is longer than 80 characters.
pub const EXAMPLES: &str = r#"Examples:
  lafter describe --classes names.txt --dry-run
  lafter describe --classes names.txt --out texts.json \
    --endpoint http://localhost:8080/v1 --llm qwen2.5-7b-instruct
  OPENAI_API_KEY=… lafter describe --classes names.txt --out texts.json \
    --endpoint https://api.openai.com/v1 --llm NAME
  lafter describe --classes land.txt --out texts.json --domain satellite \
    --completions 10 --llm qwen2.5-1.5b-instruct-q4_k_m.gguf
  lafter describe --classes tools.txt --out texts.json --style meta \
    --about "photographs of garden tools" --llm Qwen/Qwen2.5-1.5B-Instruct-GGUF
  lafter describe --classes names.txt --out clean.json --from published.json
  lafter describe --classes names.txt --out control.json --random-words 25
  lafter describe --classes names.txt --out more.json --texts texts.json \
    --pairs-from lafter-out/predictions.csv --llm NAME --endpoint …

A model without --endpoint runs in this process; that needs a build with
--features llm. Where other programs keep the processor busy, start it with
CANDLE_NUM_THREADS=1 (or as many as are free): its threads wait for each other
without sleeping.

Next to texts.json are texts.journal.jsonl, every answer as it
came (the same command continues from it and asks nothing twice), and
texts.trace.jsonl, the query, model and settings of every sentence.

A file for --queries holds one query per line: {} is the class name, and
{article} before it becomes a or an.
  Describe what {article} {} looks like on a map."#;

/// What belongs to a model that is asked.
const ASKED: [&str; 14] = [
    "llm",
    "endpoint",
    "key_env",
    "style",
    "domain",
    "queries",
    "about",
    "meta_queries",
    "completions",
    "api",
    "max_tokens",
    "temperature",
    "top_p",
    "stop",
];
const CLEANING: &str = "What is kept";

#[derive(Args)]
pub struct DescribeArgs {
    /// Class names, one per line, in the order of the labels
    #[arg(long, value_name = "FILE")]
    pub classes: PathBuf,
    /// The JSON to write: {"class name": ["sentence", …]}, a list of lists where two classes share a name
    #[arg(long, value_name = "FILE", required_unless_present = "dry_run")]
    pub out: Option<PathBuf>,
    /// Print the queries and their number, and ask nothing
    #[arg(long, conflicts_with_all = ["from", "random_words"])]
    pub dry_run: bool,
    /// Where answers are kept and looked up; several outputs may share one [default: next to --out]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dry_run", "random_words"])]
    pub journal: Option<PathBuf>,
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub queries: QueryArgs,
    #[command(flatten)]
    pub pairs: PairArgs,
    #[command(flatten)]
    pub settings: SettingArgs,
    /// What of each line of an answer is kept: first (sentence), each (sentence), whole [default: first; whole with --from]
    #[arg(long, value_name = "WHAT", help_heading = CLEANING)]
    pub keep: Option<Keep>,
    /// Sentences of a class that share this much of their word pairs count as the same, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.8, allow_negative_numbers = true, help_heading = CLEANING)]
    pub near: f32,
}

#[derive(Args)]
#[command(next_help_heading = "Who writes")]
pub struct SourceArgs {
    /// An OpenAI-compatible server (llama.cpp, vLLM, Ollama, transformers serve, hosted ones); parameters such as
    /// ?api-version=… go with every request
    #[arg(long, value_name = "URL", requires = "llm")]
    pub endpoint: Option<String>,
    /// With --endpoint the server's name of a model; alone a GGUF file, or a hub id (owner/name, owner/name:q4_k_m)
    #[arg(long, value_name = "NAME")]
    pub llm: Option<String>,
    /// A description file that others published, to be cleaned and traced
    #[arg(long, value_name = "FILE", conflicts_with_all = ASKED)]
    pub from: Option<PathBuf>,
    /// Write this many sentences per class with random words instead, as a control (WaffleCLIP)
    #[arg(long, value_name = "N", conflicts_with_all = ASKED, conflicts_with_all = ["from", "keep", "near"])]
    pub random_words: Option<usize>,
    /// Environment variable that holds the key [default: OPENAI_API_KEY, over https or to this machine]
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    pub key_env: Option<String>,
    /// Requests in flight [default: 8; 16 for a local model, which answers them in one pass]
    #[arg(long, value_name = "N")]
    pub concurrency: Option<usize>,
    /// Seconds that one answer may take
    #[arg(long, value_name = "S", default_value_t = 120.0, allow_negative_numbers = true, requires = "endpoint")]
    pub timeout: f64,
    /// How often a request is retried after 429, 5xx, timeouts and broken connections. A server that says when to come again
    /// (Retry-After) is asked besides for 15 minutes, and one that still loads its model is waited for up to 30
    #[arg(long, value_name = "N", default_value_t = 6, requires = "endpoint")]
    pub retries: usize,
    /// Parameters that the server refuses: they are not sent
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "endpoint",
          value_parser = PossibleValuesParser::new(Settings::OMITTABLE))]
    pub omit: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Style {
    /// LaFTer's five
    Lafter,
    /// CuPL's three general ones
    CuplBase,
    /// CuPL's hand-written ones for the domain
    CuplFull,
    /// The model first writes the queries for the data set (MPVR)
    Meta,
}

#[derive(Args)]
#[command(next_help_heading = "What is asked")]
pub struct QueryArgs {
    /// Which queries are asked of each class
    #[arg(long, value_enum, default_value = "lafter")]
    pub style: Style,
    /// What the pictures show: general, satellite, texture, action, scene, flower, food, pet, bird, car, aircraft, sketch, art
    #[arg(long, default_value = "general")]
    pub domain: Subject,
    /// Your own queries, one per line, with {} for the class name and {article} for a or an
    #[arg(long, value_name = "FILE", conflicts_with_all = ["style", "domain"])]
    pub queries: Option<PathBuf>,
    /// What the data set shows, in half a sentence, for --style meta [default: the domain's]
    #[arg(long, value_name = "TEXT")]
    pub about: Option<String>,
    /// How many queries --style meta asks for [default: 10]
    #[arg(long, value_name = "N")]
    pub meta_queries: Option<usize>,
    /// Answers to each query of each class
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub completions: usize,
}

#[derive(Args)]
#[command(next_help_heading = "How answers are drawn (published settings by default)")]
pub struct SettingArgs {
    /// How the model is addressed: chat or completion [default: chat; completion for a GGUF without a chat template]
    #[arg(long)]
    pub api: Option<Api>,
    /// The longest answer, in the model's tokens [default: 50]
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<usize>,
    /// Sampling temperature; 0 takes the most probable token each time [default: 0.99]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Nucleus sampling: draw from the most probable tokens that together have this probability [default: 1, all tokens]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub top_p: Option<f64>,
    /// Stop string: an answer ends before it; repeatable [default: the full stop with --api completion, none with chat]
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
}

impl SettingArgs {
    /// The settings of every request; `omit` is the server's.
    pub fn settings(&self, api: Api, seed: u64, omit: &[String]) -> Settings {
        let base = if api == Api::Chat { Settings::chat() } else { Settings::official() };
        let stop = if self.stop.is_empty() { base.stop.clone() } else { self.stop.clone() };
        let (temperature, top_p) = (self.temperature.unwrap_or(base.temperature), self.top_p.unwrap_or(base.top_p));
        Settings { temperature, top_p, max_tokens: self.max_tokens.unwrap_or(base.max_tokens), stop, seed, omit: omit.to_vec(), ..base }
    }
}
