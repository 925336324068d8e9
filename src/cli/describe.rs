//! `describe`: descriptions from an endpoint, a local model, a file, or random words.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lafter::describe::generate::{
    Answer, Api, Asked, Cleaner, Collected, Endpoint, Generator, Journal, Keep, Plan, PublishedFile, Queries, Settings, ask, ask_once,
    meta_request, next_to, queries_of, random_words, write,
};
use lafter::describe::{ClassNames, Descriptions, read_class_names};
use lafter::eval::to_json;
use lafter::files::save_atomically;
use lafter::progress::Event;
use lafter::rng::Rng;
use lafter::{Error, Result};
use serde_json::json;

use super::args::Common;
use super::bars::Bars;
use super::commands::{print, shown};
use super::describe_args::{DescribeArgs, QueryArgs, SourceArgs, Style};
use super::describe_pairs::{self, Pairs};
use super::overwrite;
use super::say::say;

/// How many queries --style meta asks for.
const META: usize = 10;
/// The longest --timeout.
const DAY: Duration = Duration::from_secs(86_400);
/// The most --meta-queries: one answer has to hold them.
const MOST_META: usize = 1000;

pub fn describe(args: DescribeArgs, common: &Common) -> Result<()> {
    check_queries(&args.queries)?;
    Cleaner { near: args.near, ..Cleaner::default() }.validate()?;
    let mut bars = Bars::new(common.json);
    let classes = read_class_names(&args.classes)?;
    report_classes(&args, &classes, &mut bars);
    if args.dry_run {
        return dry_run(&args, &classes, common, &mut bars);
    }
    let Some(out) = &args.out else { return Err(Error::Usage("describe needs --out FILE".into())) };
    check_files(&args, out)?;
    if let Some(count) = args.source.random_words {
        return control(count, &classes, out, common);
    }
    if let Some(file) = &args.source.from {
        let descriptions = Descriptions::read(file)?;
        if let Some(notice) = descriptions.notice_of_unused(classes.names()) {
            bars.show(&Event::Notice(notice));
        }
        let files = PublishedFile::new(&descriptions, classes.names())?;
        let plan = files.plan(classes.names())?;
        return finish(&args, &files, &plan, &mut open(&args, out, &mut bars)?, Keep::Whole, out, common, &mut bars);
    }
    let Some(llm) = &args.source.llm else {
        let text = "nobody to ask: give --endpoint URL --llm NAME, or --llm FILE.gguf, or --from FILE, or --random-words N";
        return Err(Error::Usage(text.into()));
    };
    let (generator, api) = match &args.source.endpoint {
        Some(url) => (endpoint(&args.source, url, llm)?, args.settings.api.unwrap_or_default()),
        None => local(llm, args.settings.api, common, &mut bars)?,
    };
    let settings = args.settings.settings(api, common.seed, &args.source.omit);
    settings.validate()?;
    let mut journal = open(&args, out, &mut bars)?;
    if let Some(table) = &args.pairs.pairs_from {
        let pairs = pairs(&args, table, &classes, settings, &mut bars)?;
        finish(&args, generator.as_ref(), &pairs.plan, &mut journal, Keep::First, out, common, &mut bars)?;
        return pairs.save(out);
    }
    let queries = queries(&args.queries, &classes, &settings, generator.as_ref(), &mut journal, &mut bars)?;
    let plan = Plan::new(classes.names(), queries, args.queries.completions, settings)?;
    finish(&args, generator.as_ref(), &plan, &mut journal, Keep::First, out, common, &mut bars)
}

/// What is asked about the classes that a table of answers confuses.
fn pairs(args: &DescribeArgs, table: &Path, classes: &ClassNames, settings: Settings, bars: &mut Bars) -> Result<Pairs> {
    let settings = describe_pairs::settings(settings, args.settings.max_tokens, &args.settings.stop);
    Pairs::new(&args.pairs, table, classes, args.queries.completions, settings, bars)
}

fn report_classes(args: &DescribeArgs, classes: &ClassNames, bars: &mut Bars) {
    let (blank, twice) = (classes.blank_lines(), classes.duplicates());
    classes.notices().iter().for_each(|notice| bars.show(&Event::Notice(notice.clone())));
    if blank > 0 {
        bars.show(&Event::Notice(format!("empty lines of the class file left out: {blank}")));
    }
    if twice > 0 {
        // a model cannot tell them apart; a file by index can
        let shared = if args.source.from.is_some() { "" } else { "they share its answers, and " };
        let text = format!("class names that repeat an earlier one: {twice}; {shared}the output is a list by index");
        bars.show(&Event::Notice(text));
    }
}

/// Before anything is paid for: the output can be written, and over nothing that is read.
fn check_files(args: &DescribeArgs, out: &Path) -> Result<()> {
    if out.is_dir() {
        return Err(Error::Usage(format!("--out {} is a folder: name a file in it, such as texts.json", out.display())));
    }
    let (trace, journal) = (next_to(out, "trace"), journal_path(args, out));
    let pairs = args.pairs.pairs_from.as_ref().map(|_| next_to(out, "pairs"));
    let read = [&args.queries.queries, &args.source.from, &args.pairs.texts, &args.pairs.pairs_from].map(Option::as_ref);
    let read = || read.into_iter().flatten().chain([&args.classes]).map(PathBuf::as_path);
    for written in [out, &trace].into_iter().chain(pairs.as_deref()) {
        overwrite::check(written, read().chain([journal.as_path()]))?;
    }
    overwrite::check(&journal, read())
}

fn journal_path(args: &DescribeArgs, out: &Path) -> PathBuf {
    args.journal.clone().unwrap_or_else(|| {
        // earlier versions put it there also where the name ends otherwise than in .json
        let (own, earlier) = (next_to(out, "journal"), out.with_extension("journal.jsonl"));
        if !own.exists() && earlier.exists() { earlier } else { own }
    })
}

fn open(args: &DescribeArgs, out: &Path, bars: &mut Bars) -> Result<Journal> {
    let journal = Journal::open(journal_path(args, out))?;
    let (damaged, torn) = journal.damage();
    if torn {
        bars.show(&Event::Notice("the journal's last line was torn: it was cut off and will be asked again".into()));
    }
    if damaged > 0 {
        bars.show(&Event::Notice(format!(
            "{damaged} lines of the journal cannot be read, or do not belong to their key: their answers will be asked again"
        )));
    }
    Ok(journal)
}

fn endpoint(args: &SourceArgs, url: &str, llm: &str) -> Result<Box<dyn Generator>> {
    let seconds = args.timeout;
    let timeout = Duration::try_from_secs_f64(seconds).ok().filter(|timeout| !timeout.is_zero() && *timeout <= DAY);
    let timeout = timeout.ok_or_else(|| Error::Usage(format!("--timeout must be above 0 and at most 86400 seconds, got {seconds:?}")))?;
    let endpoint = Endpoint::new(url, llm)?.timeout(timeout).retries(args.retries);
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

/// Refuses numbers out of range, and what is for queries that the model writes where it writes none.
fn check_queries(args: &QueryArgs) -> Result<()> {
    let given = [("--about", args.about.is_some()), ("--meta-queries", args.meta_queries.is_some())];
    if let (Some((option, _)), false) = (given.into_iter().find(|(_, given)| *given), args.style == Style::Meta) {
        return Err(Error::Usage(format!("{option} is for --style meta: add that, or leave {option} out")));
    }
    match args.meta_queries.filter(|count| !(1..=MOST_META).contains(count)) {
        Some(count) => Err(Error::Usage(format!("--meta-queries must lie in 1 to {MOST_META}, got {count}"))),
        None => Ok(()),
    }
}

/// The queries, or none if the model is to write them.
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
    let about = args.about.as_deref().unwrap_or_else(|| args.domain.about());
    let count = args.meta_queries.unwrap_or(META);
    let request = meta_request(about, classes.names(), count, settings);
    let key = request.key(generator.model());
    if !journal.contains(key) {
        bars.show(&Event::Notice(format!("asking {} for {count} queries about {about}", generator.model())));
        let answer = ask_once(generator, &request, |event| bars.show(event)).map_err(|e| match e {
            Error::Unanswered(why) | Error::Refused(why) => {
                Error::Llm(format!("no queries, because {why}: run again, or use --style lafter"))
            }
            other => other,
        })?;
        journal.append(&request, generator.model(), &answer)?;
    }
    let record = journal.get(key)?;
    let answer = record.map(|record| Answer { text: record.answer, finish: record.finish }).unwrap_or_default();
    let (queries, dropped) = queries_of(&answer, count)?;
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
    let asked = ask(generator, plan, journal, args.source.concurrency.unwrap_or_else(|| generator.at_once()), |event| bars.show(event))?;
    journal.sync()?;
    let collected = write(plan, generator.model(), journal, &cleaner, out)?;
    if let Some(warning) = collected.warning() {
        let remedy = match (asked.unanswered, &args.source.from, &args.pairs.pairs_from) {
            (0, None, None) => "; ask for more --completions, or with other --queries",
            (0, Some(_), _) => "; describe them, or leave them out of --classes",
            (0, None, Some(_)) => "; no pair asks about them, so take these texts together with others",
            _ => "", // said below
        };
        bars.show(&Event::Notice(format!("{warning}{remedy}")));
    }
    if asked.unanswered > 0 {
        bars.show(&Event::Notice(format!("{} requests stayed without an answer: the same command asks them again", asked.unanswered)));
    }
    let journal = journal.path();
    print_result(generator.model(), &asked, &collected, plan.classes().len(), (out, journal), common);
    Ok(())
}

fn print_result(model: &str, asked: &Asked, collected: &Collected, classes: usize, (out, journal): (&Path, &Path), common: &Common) {
    let trace = next_to(out, "trace");
    if common.json {
        let Collected { counts, empty_classes } = collected;
        print(&json!({
            "out": shown(out), "trace": shown(&trace), "journal": shown(journal), "model": model, "asked": asked, "cleaning": counts, "classes": classes,
            "empty_classes": empty_classes,
        }));
        return;
    }
    say(format_args!("{asked}\n"));
    say(collected.counts);
    say(format_args!("{} descriptions of {classes} classes: {} (trace: {})", collected.counts.kept, out.display(), trace.display()));
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
    save_atomically(next_to(out, "trace"), format!("{trace}\n").as_bytes())?;
    save_atomically(out, json.as_bytes())?;
    if common.json {
        print(
            &json!({ "out": shown(out), "trace": shown(&next_to(out, "trace")), "classes": classes.len(), "sentences": texts.sentence_count() }),
        );
    } else {
        say(format_args!("{} sentences with random words for {} classes: {}", texts.sentence_count(), classes.len(), out.display()));
    }
    Ok(())
}

/// What would be asked.
fn dry_run(args: &DescribeArgs, classes: &ClassNames, common: &Common, bars: &mut Bars) -> Result<()> {
    let settings = args.settings.settings(args.settings.api.unwrap_or_default(), common.seed, &args.source.omit);
    settings.validate()?;
    if let Some(table) = &args.pairs.pairs_from {
        return show(&pairs(args, table, classes, settings, bars)?.plan, args.queries.completions, common);
    }
    let Some(queries) = chosen(&args.queries)? else {
        let about = args.queries.about.as_deref().unwrap_or_else(|| args.queries.domain.about());
        let count = args.queries.meta_queries.unwrap_or(META);
        let request = meta_request(about, classes.names(), count, &settings);
        let most = (classes.len() * count).saturating_mul(args.queries.completions);
        if common.json {
            print(&json!({ "meta_query": request.query, "requests_at_most": most.saturating_add(1) }));
        } else {
            say(format_args!("{}\n1 request for the queries, then at most {most}", request.query));
        }
        return Ok(());
    };
    let plan = Plan::new(classes.names(), queries, args.queries.completions, settings)?;
    show(&plan, args.queries.completions, common)
}

/// The queries of a plan and their number.
fn show(plan: &Plan, completions: usize, common: &Common) -> Result<()> {
    let filled: Vec<String> = (0..plan.len()).step_by(completions).map(|i| plan.request(i).query).collect();
    if common.json {
        print(&json!({ "queries": filled, "completions": completions, "requests": plan.len() }));
    } else {
        say(format_args!("{}\n\n{} queries × {} completions = {} requests", filled.join("\n"), filled.len(), completions, plan.len()));
    }
    Ok(())
}
