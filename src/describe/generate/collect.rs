//! From the journal to descriptions: class by class, one answer in memory at a time.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::clean::{CleanCounts, Cleaner};
use super::duplicates::normal_words;
use super::journal::{Journal, Record};
use super::line_file::{DescriptionFile, LineFile};
use super::pairs::names_other;
use super::plan::Plan;
use super::request::{Finish, Key, Settings};
use super::sentences::split;
use crate::describe::Descriptions;
use crate::error::{Error, Result};
use crate::files::remove_half_written;
use crate::progress::check_interrupt;

/// One line of the trace: a sentence and everything that made it.
#[derive(Serialize)]
struct Trace<'a> {
    class: usize,
    name: &'a str,
    sentence: &'a str,
    query: &'a str,
    model: &'a str,
    /// None where others wrote the sentence.
    settings: Option<&'a Settings>,
    completion: usize,
    /// Its line in the journal, which holds the answer as it came.
    key: Key,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Texts kept and dropped, by reason.
    pub counts: CleanCounts,
    /// Classes that are left without a sentence.
    pub empty_classes: Vec<String>,
}

impl Collected {
    /// A line about classes without a sentence, if there are any.
    pub fn warning(&self) -> Option<String> {
        let empty = &self.empty_classes;
        let names = crate::describe::names::listed(empty);
        (!empty.is_empty()).then(|| format!("{} classes have no sentence: {names}", empty.len()))
    }
}

/// Cleans every answer that the journal has to the plan, by class and in the plan's order. `begin` is called once per class
/// (also one without a sentence), `sentence` for each description with the record it comes from.
fn each(
    plan: &Plan,
    model: &str,
    journal: &mut Journal,
    cleaner: &Cleaner,
    mut begin: impl FnMut(usize, &str) -> Result<()>,
    mut sentence: impl FnMut(usize, &str, &Record) -> Result<()>,
) -> Result<Collected> {
    cleaner.validate()?;
    let (mut collected, mut limited, mut unsaid) = (Collected::default(), false, false);
    for (class, name) in plan.classes().iter().enumerate() {
        check_interrupt("reading the answers")?;
        begin(class, name)?;
        let (before, mut cleaner) = (collected.counts.kept, cleaner.class().named(name));
        cleaner.knows(plan.known(class));
        for i in plan.requests(class) {
            let Some(record) = journal.get(plan.request(i).key(model))? else { continue };
            // others' sentences have nothing to do with each other: an end mark in one ends that one
            let pieces = if plan.drawn() { vec![record.answer.as_str()] } else { record.answer.split('\n').collect() };
            let answers = collected.counts.answers + 1;
            (limited, unsaid) = (limited || record.finish == Finish::Length, unsaid || record.finish == Finish::Unknown);
            for piece in pieces {
                for text in cleaner.clean(piece, record.finish, &record.settings, &mut collected.counts) {
                    if plan.other(i).is_some_and(|other| names_other(&text, name, other)) {
                        collected.counts.kept -= 1;
                        collected.counts.other_class += 1;
                        continue;
                    }
                    if plan.drawn() && repeats(&text, &record.query) {
                        collected.counts.kept -= 1;
                        collected.counts.nonsense += 1;
                        continue;
                    }
                    sentence(class, &text, &record)?;
                }
            }
            collected.counts.answers = answers;
        }
        if collected.counts.kept == before && plan.known(class).is_empty() {
            collected.empty_classes.push(name.clone());
        }
    }
    if collected.counts.kept == 0 {
        let CleanCounts { answers, empty, nonsense, refusals, unfinished, too_short, duplicates, near_duplicates, other_class, .. } =
            collected.counts;
        let (known, journal) = (duplicates + near_duplicates, journal.path().display());
        if known + other_class > 0 && empty + nonsense + refusals + unfinished + too_short == 0 {
            return Err(Error::Text(format!(
                "none of {answers} answers says anything new: {known} sentences are there already, {other_class} name the other class: \
                 ask for more answers or with other queries, or look at {journal}"
            )));
        }
        if unfinished >= answers && !limited && unsaid {
            return Err(Error::Text(format!(
                "none of {answers} answers ends like a sentence, and the server does not say whether it cut them off: give more --max-tokens, \
                 or see {journal}"
            )));
        }
        if unfinished >= answers && limited {
            return Err(Error::Text(format!(
                "the limit of {} tokens cut off all of {answers} answers before their first sentence end: give more --max-tokens (a model \
                 that thinks before it answers needs 2000), or see {journal}",
                plan.settings().max_tokens,
            )));
        }
        return Err(Error::Text(format!(
            "none of {answers} answers holds a usable sentence ({empty} empty, {nonsense} nonsense, {refusals} refusals, {unfinished} unfinished, \
             {too_short} too short, {known} there already, {other_class} naming the other class): \
             try another model, more --max-tokens, or look at {journal}"
        )));
    }
    Ok(collected)
}

/// Whether a sentence is the question, or a sentence of it, once more.
fn repeats(sentence: &str, query: &str) -> bool {
    let said = normal_words(sentence);
    query.lines().any(|line| normal_words(line) == said || split(line).iter().any(|part| normal_words(part) == said))
}

/// The descriptions in memory: for a notebook.
///
/// # Errors
/// [`Error::Text`] if no answer holds a usable sentence; [`Error::Io`] if the journal cannot be read.
pub fn collect(plan: &Plan, model: &str, journal: &mut Journal, cleaner: &Cleaner) -> Result<(Descriptions, Collected)> {
    let entries = std::cell::RefCell::new(Vec::<(String, Vec<String>)>::new());
    let begin = |_: usize, name: &str| {
        let mut entries = entries.borrow_mut();
        let known = plan.known(entries.len()).to_vec();
        entries.push((name.to_string(), known));
        Ok(())
    };
    let sentence = |_: usize, text: &str, _: &Record| {
        if let Some((_, sentences)) = entries.borrow_mut().last_mut() {
            sentences.push(text.to_string());
        }
        Ok(())
    };
    let collected = each(plan, model, journal, cleaner, begin, sentence)?;
    Ok((Descriptions::from_entries(entries.into_inner(), model), collected))
}

/// The same into files: CuPL's JSON at `out` (`{"class name": ["sentence", …]}`, a list of lists if two classes share a
/// name), and next to it the trace: one JSON line per sentence, in the same order. Both are whole or not there.
/// Sentences that the plan has of a class already stand first, without a trace.
///
/// # Errors
/// As [`collect`]; [`Error::Io`] if a file cannot be written.
pub fn write(plan: &Plan, model: &str, journal: &mut Journal, cleaner: &Cleaner, out: &Path) -> Result<Collected> {
    let trace = next_to(out, "trace");
    if journal.is_locked() {
        [out, &trace].into_iter().for_each(remove_half_written); // nobody else writes these
    }
    let file = std::cell::RefCell::new(DescriptionFile::begin(out, plan.classes())?);
    let mut trace = LineFile::begin(&trace)?;
    let begin = |class: usize, name: &str| {
        let mut file = file.borrow_mut();
        file.class(name)?;
        plan.known(class).iter().try_for_each(|sentence| file.sentence(sentence))
    };
    let sentence = |class: usize, sentence: &str, record: &Record| {
        file.borrow_mut().sentence(sentence)?;
        let Record { query, model, settings, completion, key, .. } = record;
        let name = plan.classes().get(class).map_or("", String::as_str);
        let settings = plan.drawn().then_some(settings);
        trace.line(&Trace { class, name, sentence, query, model, settings, completion: *completion, key: *key })
    };
    let collected = each(plan, model, journal, cleaner, begin, sentence)?;
    // the trace first: who finds descriptions finds their trace
    trace.finish()?;
    file.into_inner().finish()?;
    Ok(collected)
}

/// The file next to `out`: texts.json → texts.journal.jsonl, texts.trace.jsonl. Another ending stays: texts.v2 → texts.v2.trace.jsonl.
pub fn next_to(out: &Path, what: &str) -> PathBuf {
    let kept = out.extension().filter(|ending| !ending.eq_ignore_ascii_case("json")).map(|ending| format!("{}.", ending.to_string_lossy()));
    out.with_extension(format!("{}{what}.jsonl", kept.unwrap_or_default()))
}
