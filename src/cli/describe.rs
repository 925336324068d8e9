//! `describe`: descriptions from an endpoint, a local model, a file, or random words.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use lafter::describe::generate::{
    Api, Asked, Cleaner, Collected, Domain, Endpoint, Files, Generator, Journal, Keep, Plan, Queries, Settings, ask, beside, meta_request,
    queries_of, random_words, write,
};
use lafter::describe::{ClassNames, Descriptions, read_class_names};
use lafter::eval::{save_atomically, to_json};
use lafter::progress::Event;
use lafter::rng::Rng;
use lafter::{Error, Result};
use serde_json::json;

use super::args::Common;
use super::bars::Bars;
use super::commands::print;

pub const EXAMPLES: &str = "\
Examples:
  lafter describe --classes names.txt --out texts.json --endpoint http://localhost:8080/v1 --llm qwen2.5-7b-instruct
  OPENAI_API_KEY=… lafter describe --classes names.txt --out texts.json --endpoint https://api.openai.com/v1 --llm NAME
  lafter describe --classes names.txt --out texts.json --llm qwen2.5-1.5b-instruct-q4_k_m.gguf      (built with --features llm)
  lafter describe --classes land.txt --out texts.json … --domain satellite --completions 10
  lafter describe --classes names.txt --out texts.json … --style meta --about \"photographs of garden tools\"
  lafter describe --classes names.txt --out clean.json --from published.json
  lafter describe --classes names.txt --out control.json --random-words 25
  lafter describe --classes names.txt --dry-run

Beside texts.json stand texts.journal.jsonl, every answer as it came (the same command goes on from it and asks nothing
twice), and texts.trace.jsonl, the query, model and settings of every sentence.

A file for --queries holds one query a line: {} is the class name, {article} before it becomes a or an.
  Describe what {article} {} looks like on a map.";

const CLEANING: &str = "What is kept";

#[derive(Args)]
pub struct DescribeArgs {
    /// Class names, one a line, in the order of the labels
    #[arg(long, value_name = "FILE")]
    pub classes: PathBuf,
    /// The JSON to write: {"class name": ["sentence", …]}, a list of lists where two classes share a name
    #[arg(long, value_name = "FILE", required_unless_present = "dry_run")]
    pub out: Option<PathBuf>,
    /// Print the queries and their number, and ask nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub queries: QueryArgs,
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
    /// An OpenAI-compatible server (llama.cpp, vLLM, Ollama, transformers serve, hosted ones)
    #[arg(long, value_name = "URL", requires = "llm")]
    pub endpoint: Option<String>,
    /// With --endpoint the server's name of a model; alone a GGUF file, or a hub id (owner/name, owner/name:q4_k_m)
    #[arg(long, value_name = "NAME")]
    pub llm: Option<String>,
    /// A description file that others published, to be cleaned and traced
    #[arg(long, value_name = "FILE", conflicts_with_all = ["llm", "endpoint"])]
    pub from: Option<PathBuf>,
    /// So many sentences a class with random words, as a control (WaffleCLIP)
    #[arg(long, value_name = "N", conflicts_with_all = ["llm", "endpoint", "from"])]
    pub random_words: Option<usize>,
    /// Environment variable that holds the key [default: OPENAI_API_KEY, over https or to this machine]
    #[arg(long, value_name = "NAME")]
    pub key_env: Option<String>,
    /// Requests in flight [default: 8; 16 for a local model, which answers them in one pass]
    #[arg(long, value_name = "N")]
    pub concurrency: Option<usize>,
    /// Seconds that one answer may take
    #[arg(long, value_name = "S", default_value_t = 120.0, allow_negative_numbers = true)]
    pub timeout: f64,
    /// How often a request is tried again after 429, 5xx, time-outs and broken connections
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub retries: usize,
    /// A parameter the server refuses and that is not to be sent: seed, top_p, stop, temperature
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
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
    #[arg(long, value_enum, default_value = "lafter")]
    pub style: Style,
    /// What the pictures show: general, satellite, texture, action, scene, flower, food, pet, bird, car, aircraft, sketch, art
    #[arg(long, default_value = "general")]
    pub domain: Domain,
    /// Your own queries, one a line, with {} for the class name and {article} for a or an
    #[arg(long, value_name = "FILE", conflicts_with = "style")]
    pub queries: Option<PathBuf>,
    /// The data set in half a sentence, for --style meta [default: the domain's]
    #[arg(long, value_name = "TEXT")]
    pub about: Option<String>,
    /// Queries that --style meta asks for
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub meta_queries: usize,
    /// Answers to each query of each class
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub completions: usize,
}

#[derive(Args)]
#[command(next_help_heading = "How answers are drawn (published settings by default)")]
pub struct SettingArgs {
    /// chat or completion [default: chat; completion for a GGUF without a chat template]
    #[arg(long)]
    pub api: Option<Api>,
    /// The longest answer, in the model's tokens [default: 50]
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<usize>,
    /// 0 takes the most probable token each time [default: 0.99]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Draw from the most probable tokens that together have this probability [default: 1, all tokens]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub top_p: Option<f64>,
    /// An answer ends before this; may be given several times [default: the full stop with --api completion, none with chat]
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
}

impl SettingArgs {
    fn settings(&self, api: Api, seed: u64) -> Settings {
        let base = if api == Api::Chat { Settings::chat() } else { Settings::official() };
        let stop = if self.stop.is_empty() { base.stop.clone() } else { self.stop.clone() };
        let (temperature, top_p) = (self.temperature.unwrap_or(base.temperature), self.top_p.unwrap_or(base.top_p));
        Settings { temperature, top_p, max_tokens: self.max_tokens.unwrap_or(base.max_tokens), stop, seed, ..base }
    }
}

pub fn describe(args: DescribeArgs, common: &Common) -> Result<()> {
    let mut bars = Bars::new(common.json);
    let classes = read_class_names(&args.classes)?;
    report_classes(&classes, &mut bars);
    if args.dry_run {
        return dry_run(&args, &classes, common);
    }
    let Some(out) = &args.out else { return Err(Error::Usage("describe needs --out FILE".into())) };
    if let Some(count) = args.source.random_words {
        return control(count, &classes, out, common);
    }
    if let Some(file) = &args.source.from {
        let files = Files::new(&Descriptions::read(file)?, classes.names())?;
        let plan = files.plan(classes.names())?;
        return finish(&args, &files, &plan, &mut open(out, &mut bars)?, Keep::Whole, out, common, &mut bars);
    }
    let Some(llm) = &args.source.llm else {
        let text = "nobody to ask: give --endpoint URL --llm NAME, or --llm FILE.gguf, or --from FILE, or --random-words N";
        return Err(Error::Usage(text.into()));
    };
    let (generator, api) = match &args.source.endpoint {
        Some(url) => (endpoint(&args.source, url, llm)?, args.settings.api.unwrap_or_default()),
        None => local(llm, args.settings.api, common, &mut bars)?,
    };
    let settings = args.settings.settings(api, common.seed);
    settings.validate()?;
    let mut journal = open(out, &mut bars)?;
    let queries = queries(&args.queries, &classes, &settings, generator.as_ref(), &mut journal, &mut bars)?;
    let plan = Plan::new(classes.names(), queries, args.queries.completions, settings)?;
    finish(&args, generator.as_ref(), &plan, &mut journal, Keep::First, out, common, &mut bars)
}

fn report_classes(classes: &ClassNames, bars: &mut Bars) {
    let (blank, twice) = (classes.blank_lines(), classes.duplicates());
    if blank > 0 {
        bars.show(&Event::Notice(format!("empty lines of the class file left out: {blank}")));
    }
    if twice > 0 {
        let text = format!("class names that repeat an earlier one: {twice}; they share its answers, and the output is a list by index");
        bars.show(&Event::Notice(text));
    }
}

fn open(out: &Path, bars: &mut Bars) -> Result<Journal> {
    let journal = Journal::open(beside(out, "journal"))?;
    let (damaged, torn) = journal.damage();
    if torn {
        bars.show(&Event::Notice("the journal's last line was torn: it was cut off and will be asked again".into()));
    }
    if damaged > 0 {
        bars.show(&Event::Notice(format!("{damaged} lines of the journal cannot be read: their answers will be asked again")));
    }
    Ok(journal)
}

fn endpoint(args: &SourceArgs, url: &str, llm: &str) -> Result<Box<dyn Generator>> {
    let seconds = args.timeout;
    let timeout = Duration::try_from_secs_f64(seconds).ok().filter(|timeout| !timeout.is_zero());
    let timeout = timeout.ok_or_else(|| Error::Usage(format!("--timeout must be above 0 seconds, got {seconds}")))?;
    let endpoint = Endpoint::new(url, llm)?.timeout(timeout).retries(args.retries).omit(&args.omit);
    Ok(Box::new(match &args.key_env {
        Some(name) => endpoint.key_from_env(name)?,
        None => endpoint.default_key()?,
    }))
}

#[cfg(feature = "llm")]
fn local(llm: &str, api: Option<Api>, common: &Common, bars: &mut Bars) -> Result<(Box<dyn Generator>, Api)> {
    let device = super::commands::device(common)?;
    let model = lafter::describe::generate::LocalModel::load(llm, &device, |event| bars.show(event))?;
    let api = api.unwrap_or(if model.has_chat_template() { Api::Chat } else { Api::Completion });
    Ok((Box::new(model), api))
}

#[cfg(not(feature = "llm"))]
fn local(llm: &str, _: Option<Api>, _: &Common, _: &mut Bars) -> Result<(Box<dyn Generator>, Api)> {
    let remedy = "build with `--features llm`, or name a server with --endpoint";
    Err(Error::Usage(format!("--llm {llm} without --endpoint is a local model, which this build leaves out: {remedy}")))
}

fn chosen(args: &QueryArgs) -> Result<Option<Queries>> {
    Ok(match (&args.queries, args.style) {
        (Some(file), _) => Some(Queries::read(file)?),
        (None, Style::Lafter) => Some(Queries::lafter(args.domain)),
        (None, Style::CuplBase) => Some(Queries::cupl_base(args.domain)),
        (None, Style::CuplFull) => Some(Queries::cupl_full(args.domain)),
        (None, Style::Meta) => None,
    })
}

/// The queries; for `--style meta` the model writes them, once: the answer is in the journal like any other.
fn queries(
    args: &QueryArgs,
    classes: &ClassNames,
    settings: &Settings,
    generator: &dyn Generator,
    journal: &mut Journal,
    bars: &mut Bars,
) -> Result<Queries> {
    if let Some(queries) = chosen(args)? {
        return Ok(queries);
    }
    if args.meta_queries == 0 {
        return Err(Error::Usage("--meta-queries must be at least 1".into()));
    }
    let about = args.about.as_deref().unwrap_or_else(|| args.domain.about());
    let request = meta_request(about, classes.names(), args.meta_queries, settings);
    let key = request.key(generator.model());
    if !journal.contains(key) {
        bars.show(&Event::Notice(format!("asking {} for {} queries about {about}", generator.model(), args.meta_queries)));
        let answer = generator.generate(&request)?;
        journal.append(&request, generator.model(), &answer)?;
    }
    let record = journal.get(key)?;
    let text = record.map(|record| record.answer).unwrap_or_default();
    let (queries, dropped) = queries_of(&lafter::describe::generate::Answer { text, ..Default::default() }, args.meta_queries)?;
    let list: Vec<&str> = queries.iter().map(|query| query.as_str()).collect();
    bars.show(&Event::Notice(format!("{} queries ({dropped} lines were none): {}", list.len(), list.join(" · "))));
    Ok(queries)
}

#[allow(clippy::too_many_arguments)]
fn finish(
    args: &DescribeArgs,
    generator: &dyn Generator,
    plan: &Plan,
    journal: &mut Journal,
    keep: Keep,
    out: &Path,
    common: &Common,
    bars: &mut Bars,
) -> Result<()> {
    let cleaner = Cleaner { keep: args.keep.unwrap_or(keep), near: args.near };
    cleaner.validate()?;
    let asked = ask(generator, plan, journal, args.source.concurrency.unwrap_or_else(|| generator.at_once()), |event| bars.show(event))?;
    journal.sync()?;
    let collected = write(plan, generator.model(), journal, &cleaner, out)?;
    if let Some(warning) = collected.warning() {
        bars.show(&Event::Notice(warning));
    }
    if asked.unanswered > 0 {
        bars.show(&Event::Notice(format!("{} requests stayed without an answer: the same command asks them again", asked.unanswered)));
    }
    print_result(generator.model(), Some(&asked), &collected, plan.classes().len(), out, common);
    Ok(())
}

fn print_result(model: &str, asked: Option<&Asked>, collected: &Collected, classes: usize, out: &Path, common: &Common) {
    let (trace, journal) = (beside(out, "trace"), beside(out, "journal"));
    if common.json {
        let Collected { counts, empty_classes } = collected;
        print(&json!({
            "out": out, "trace": trace, "journal": journal, "model": model, "asked": asked, "cleaning": counts, "classes": classes,
            "empty_classes": empty_classes,
        }));
        return;
    }
    if let Some(asked) = asked {
        println!("{asked}\n");
    }
    println!("{}", collected.counts);
    println!("{} descriptions of {classes} classes: {} (trace: {})", collected.counts.kept, out.display(), trace.display());
}

/// Random words: nothing is asked, so there is no journal; the trace is one line that says how they were made.
fn control(count: usize, classes: &ClassNames, out: &Path, common: &Common) -> Result<()> {
    let texts = random_words(classes.names(), count, &mut Rng::new(common.seed))?;
    let lists: Vec<&Vec<String>> = texts.entries().iter().map(|(_, sentences)| sentences).collect();
    let json = if classes.duplicates() > 0 {
        to_json(&lists)?
    } else {
        to_json(&texts.entries().iter().map(|(name, list)| (name.clone(), json!(list))).collect::<serde_json::Map<_, _>>())?
    };
    let trace = json!({ "model": "random words", "seed": common.seed, "sentences_per_class": count });
    save_atomically(beside(out, "trace"), format!("{trace}\n").as_bytes())?;
    save_atomically(out, json.as_bytes())?;
    if common.json {
        print(&json!({ "out": out, "trace": beside(out, "trace"), "classes": classes.len(), "sentences": texts.sentence_count() }));
    } else {
        println!("{} sentences with random words for {} classes: {}", texts.sentence_count(), classes.len(), out.display());
    }
    Ok(())
}

/// What would be asked.
fn dry_run(args: &DescribeArgs, classes: &ClassNames, common: &Common) -> Result<()> {
    let settings = args.settings.settings(args.settings.api.unwrap_or_default(), common.seed);
    let Some(queries) = chosen(&args.queries)? else {
        let about = args.queries.about.as_deref().unwrap_or_else(|| args.queries.domain.about());
        let request = meta_request(about, classes.names(), args.queries.meta_queries, &settings);
        let most = classes.len() * args.queries.meta_queries * args.queries.completions;
        if common.json {
            print(&json!({ "meta_query": request.query, "requests_at_most": most + 1 }));
        } else {
            println!("{}\n1 request for the queries, then at most {most}", request.query);
        }
        return Ok(());
    };
    let plan = Plan::new(classes.names(), queries, args.queries.completions, settings)?;
    let filled: Vec<String> = (0..plan.len()).step_by(args.queries.completions).map(|i| plan.request(i).query).collect();
    if common.json {
        print(&json!({ "queries": filled, "completions": args.queries.completions, "requests": plan.len() }));
    } else {
        println!("{}\n\n{} queries × {} completions = {} requests", filled.join("\n"), filled.len(), args.queries.completions, plan.len());
    }
    Ok(())
}
