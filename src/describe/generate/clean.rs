//! From what a model said to sentences that describe: cut, stripped, counted.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::duplicates::Duplicates;
use super::forms;
use super::markup::strip_markup;
use super::nonsense::{is_nonsense, words};
use super::preambles::strip_preamble;
use super::refusals::{is_refusal, is_web_page};
use super::request::{Finish, Settings};
use super::sentences::{behind_questions, first_end, is_question, last_end, split};
use super::thoughts::without_thoughts;
use super::turns::of_assistant;
use super::web::without_web;
use crate::describe::names::is_invisible;
use crate::error::{Error, Result};
use crate::eval::Table;

/// What of a line becomes a description.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// Its first sentence: LaFTer's and CuPL's stop at the full stop.
    #[default]
    First,
    /// Every sentence by itself.
    Each,
    /// All of it up to the last sentence end, as one text: MPVR's.
    Whole,
}

impl FromStr for Keep {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "first" => Ok(Self::First),
            "each" => Ok(Self::Each),
            "whole" => Ok(Self::Whole),
            _ => Err(Error::Usage(format!("--keep {name}: choose first, each or whole"))),
        }
    }
}

/// How many texts were kept, and how many were dropped or changed, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CleanCounts {
    /// Answers that were read.
    pub answers: usize,
    /// Descriptions that came out.
    pub kept: usize,
    /// Dropped: answers without text, and lines without a letter.
    pub empty: usize,
    /// Dropped: lines that decline ("I'm sorry, but …"), and answers that a server or its filter declined to give.
    pub refusals: usize,
    /// Removed: "Sure! Here is a description:", headings, "Let me know if …", what stands around a JSON list.
    pub preambles: usize,
    /// Dropped: lines that the limit of tokens cut off before their first sentence end, and answers that it cut off before
    /// their first word (a model that thinks first).
    pub unfinished: usize,
    /// Shortened: lines that went on after the sentence end.
    pub cut: usize,
    /// Dropped: fewer than three words.
    pub too_short: usize,
    /// Dropped: broken characters, endless words, the same word again and again, questions.
    pub nonsense: usize,
    /// Dropped: the class has the same sentence already (case, articles and punctuation aside).
    pub duplicates: usize,
    /// Dropped: the class has nearly the same sentence already.
    pub near_duplicates: usize,
    /// Dropped: it names the class from which it should tell its own.
    #[serde(skip_serializing_if = "is_zero")]
    pub other_class: usize,
}

impl CleanCounts {
    /// Reasons and counts, for people.
    pub fn table(&self) -> Table {
        let mut table = Table::new(&["cleaning", "texts"]);
        let rows = [
            ("answers", self.answers),
            ("kept", self.kept),
            ("cut at the sentence end", self.cut),
            ("preambles removed", self.preambles),
            ("dropped: empty", self.empty),
            ("dropped: refusal", self.refusals),
            ("dropped: unfinished", self.unfinished),
            ("dropped: too short", self.too_short),
            ("dropped: nonsense", self.nonsense),
            ("dropped: duplicate", self.duplicates),
            ("dropped: near-duplicate", self.near_duplicates),
        ];
        let other = ("dropped: names the other class", self.other_class);
        for (reason, count) in rows.into_iter().chain((self.other_class > 0).then_some(other)) {
            table.push([reason.to_string(), count.to_string()]);
        }
        table
    }
}

/// Only questions about pairs of classes drop sentences for that reason.
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl fmt::Display for CleanCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table().fmt(f)
    }
}

/// The rules. One value serves a whole run; [`ClassCleaner`] holds what belongs to one class.
///
/// ```
/// use lafter::describe::generate::{Answer, CleanCounts, Cleaner, Finish, Settings};
/// let mut counts = CleanCounts::default();
/// let mut class = Cleaner::default().class();
/// let answer = Answer { text: "Sure! Here is one:\n\n1. **An owl** has large eyes. It hu".into(), finish: Finish::Length };
/// assert_eq!(class.clean(&answer.text, answer.finish, &Settings::chat(), &mut counts), ["An owl has large eyes."]);
/// assert_eq!(class.clean("I'm sorry, but I can't help.", Finish::Stop, &Settings::chat(), &mut counts).len(), 0);
/// assert_eq!((counts.kept, counts.preambles, counts.cut, counts.refusals), (1, 1, 1, 1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cleaner {
    /// What of each line is kept (default: its first sentence).
    pub keep: Keep,
    /// Sentences of a class that share this much of their word pairs (Jaccard index, default 0.8) are the same; 1 keeps all but
    /// exact duplicates.
    pub near: f32,
}

impl Default for Cleaner {
    fn default() -> Self {
        Self { keep: Keep::First, near: 0.8 }
    }
}

impl Cleaner {
    /// Refuses values that cannot work.
    ///
    /// # Errors
    /// [`Error::Usage`] if `near` is not above 0 and at most 1.
    pub fn validate(&self) -> Result<()> {
        let fits = self.near > 0.0 && self.near <= 1.0;
        if fits { Ok(()) } else { Err(Error::Usage(format!("--near must be above 0 and at most 1, got {}", self.near))) }
    }

    /// Begins a class: duplicates are looked for within it.
    pub fn class(&self) -> ClassCleaner {
        ClassCleaner { keep: self.keep, known: Duplicates::new(self.near), name: None }
    }
}

/// The cleaning of one class.
#[derive(Clone, Debug)]
pub struct ClassCleaner {
    keep: Keep,
    known: Duplicates,
    name: Option<String>,
}

impl ClassCleaner {
    /// The class's name: of an answer in JSON with a list for each of several classes, its own counts alone.
    pub fn named(self, name: &str) -> Self {
        Self { name: Some(name.to_string()), ..self }
    }

    /// Sentences that the class has already: they count as seen.
    pub fn knows(&mut self, sentences: &[String]) {
        for sentence in sentences {
            self.known.insert(sentence);
        }
    }

    /// The descriptions in one answer; everything else is counted.
    pub fn clean(&mut self, text: &str, finish: Finish, settings: &Settings, counts: &mut CleanCounts) -> Vec<String> {
        counts.answers += 1;
        if finish == Finish::Refused || is_web_page(text) {
            counts.refusals += 1;
            return Vec::new();
        }
        let text = text.replace("&lt;", "<").replace("&gt;", ">");
        let (text, ended) = of_assistant(&without_thoughts(&text));
        // some servers leave the stop string in, with what stands behind it in its token
        let stopped = settings.stop.iter().filter_map(|stop| text.find(stop.as_str())).min();
        let forms::Lines { text, whole, bared } = forms::plain(&straight(&text[..stopped.unwrap_or(text.len())]), self.name.as_deref());
        counts.preambles += usize::from(bared);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        match finish {
            _ if !lines.is_empty() => {}
            Finish::Length => counts.unfinished += 1,
            _ => counts.empty += 1,
        }
        // if a server does not say why it stopped, a full stop among the stops is the likely reason
        let whole = whole.unwrap_or_else(|| {
            ended
                || stopped.is_some()
                || finish == Finish::Stop
                || (finish == Finish::Unknown && settings.stop.iter().any(|stop| stop.contains('.')))
        });
        let mut kept = Vec::new();
        for (i, line) in lines.iter().enumerate() {
            let (line, removed) = strip_preamble(&strip_markup(line));
            // "Does it have fur? Yes, it has soft fur."
            let answered = behind_questions(&line);
            let asked = !line.is_empty() && answered.is_empty();
            let (line, again) = if answered.len() < line.len() { strip_preamble(answered) } else { (line, false) };
            counts.preambles += usize::from(removed || again);
            if asked {
                counts.nonsense += 1;
                continue;
            }
            if line.is_empty() {
                counts.empty += usize::from(!removed && !again);
                continue;
            }
            if is_refusal(&line) {
                counts.refusals += 1;
                continue;
            }
            let torn = i + 1 == lines.len() && !whole;
            for sentence in self.sentences(&line, torn, counts) {
                if is_refusal(&sentence) {
                    counts.refusals += 1;
                } else if self.keep == Keep::Each && is_question(&sentence) {
                    counts.nonsense += 1;
                } else {
                    self.take(sentence, counts, &mut kept);
                }
            }
        }
        kept
    }

    /// A line's sentences as [`Keep`] says; a line that the limit of tokens tore is cut at its last sentence end.
    fn sentences(&self, line: &str, torn: bool, counts: &mut CleanCounts) -> Vec<String> {
        let end = match self.keep {
            Keep::First => first_end(line),
            Keep::Each | Keep::Whole => last_end(line),
        };
        let Some(end) = end else {
            if torn {
                counts.unfinished += 1;
                return Vec::new();
            }
            let line = line.trim_end_matches([',', ';', ':', '-', '–', ' ']);
            return vec![format!("{line}.")]; // the stop string took its full stop, or it is an item of a list
        };
        let (sentence, rest) = line.split_at(end);
        let unstopped = self.keep != Keep::First && !torn && !rest.trim().is_empty();
        let text = if unstopped { format!("{}.", line.trim_end()) } else { sentence.to_string() };
        counts.cut += usize::from(!unstopped && !rest.trim().is_empty());
        if self.keep == Keep::Each { split(&text) } else { vec![text] }
    }

    fn take(&mut self, sentence: String, counts: &mut CleanCounts, kept: &mut Vec<String>) {
        let sentence = sentence.split_whitespace().collect::<Vec<_>>().join(" ");
        if !sentence.chars().any(char::is_alphabetic) {
            counts.empty += 1;
        } else if is_nonsense(&sentence) {
            counts.nonsense += 1;
        } else if words(&sentence) < 3 {
            counts.too_short += 1;
        } else {
            match self.known.insert(&sentence) {
                super::duplicates::Known::No => {
                    counts.kept += 1;
                    kept.push(sentence);
                }
                super::duplicates::Known::Same => counts.duplicates += 1,
                super::duplicates::Known::Near => counts.near_duplicates += 1,
            }
        }
    }
}

/// Curly quotes straightened (CLIP's first tokenizer did the same), every kind of line end and blank made plain.
fn straight(text: &str) -> String {
    let plain = |c: char| match c {
        '\u{2018}' | '\u{2019}' => '\'',
        '\u{201c}' | '\u{201d}' => '"',
        '\r' | '\u{2028}' | '\u{2029}' => '\n',
        '\u{a0}' | '\u{202f}' | '\t' => ' ',
        c => c,
    };
    let seen = |c: &char| *c == '\n' || !is_invisible(*c);
    without_web(text).chars().map(plain).filter(seen).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(keep: Keep, text: &str, finish: Finish) -> (Vec<String>, CleanCounts) {
        let mut counts = CleanCounts::default();
        let kept = Cleaner { keep, ..Cleaner::default() }.class().clean(text, finish, &Settings::chat(), &mut counts);
        (kept, counts)
    }

    #[test]
    fn cut_at_the_sentence_end() {
        let text = "A boat has a hull, e.g. of wood. It floats at 3.5 knots on St. Anne's lake! It has a m";
        let (kept, counts) = clean(Keep::First, text, Finish::Length);
        assert_eq!((kept.as_slice(), counts.cut), (&["A boat has a hull, e.g. of wood.".to_string()][..], 1));
        let (kept, counts) = clean(Keep::Each, text, Finish::Length);
        assert_eq!((kept.len(), counts.cut, kept[1].as_str()), (2, 1, "It floats at 3.5 knots on St. Anne's lake!"));
        let (kept, _) = clean(Keep::Whole, text, Finish::Length);
        assert!(kept[0].ends_with("lake!") && kept.len() == 1);
        // ended at a stop string: the sentence is whole, its full stop is missing
        assert_eq!(clean(Keep::First, "A boat has a hull", Finish::Stop).0, ["A boat has a hull."]);
        assert_eq!(clean(Keep::Whole, "A boat floats. It has a hull", Finish::Stop).0, ["A boat floats. It has a hull."]);
        assert_eq!(clean(Keep::First, "A boat has a", Finish::Length).1.unfinished, 1);
        assert_eq!(clean(Keep::First, "船は水に浮かぶ乗り物です。帆があ", Finish::Length).0, ["船は水に浮かぶ乗り物です。"]);
    }

    #[test]
    fn an_unknown_end_follows_the_stops() {
        let mut counts = CleanCounts::default();
        let mut clean =
            |settings: &Settings| Cleaner::default().class().clean("A boat has a hull", Finish::Unknown, settings, &mut counts).len();
        assert_eq!((clean(&Settings::official()), clean(&Settings::chat())), (1, 0));
        let kept = Cleaner::default().class().clean(" A boat floats. It", Finish::Length, &Settings::official(), &mut counts);
        assert_eq!(kept, ["A boat floats."]);
    }

    #[test]
    fn lists_and_markdown() {
        let text = "Certainly! Here are some features:\r\n\r\n## Features:\n1. **Wings:** long and narrow wings\n2) *A tail* with fins.\n- `Engines` below the wings\n• \"It has a nose cone.\"\n---\n```\n";
        let (kept, counts) = clean(Keep::First, text, Finish::Stop);
        assert_eq!(kept, ["Wings: long and narrow wings.", "A tail with fins.", "Engines below the wings.", "It has a nose cone."]);
        assert_eq!((counts.preambles, counts.empty, counts.kept), (2, 2, 4));
    }

    #[test]
    fn refusals_nonsense_and_nothing() {
        let reasons = |text: &str| {
            let (kept, c) = clean(Keep::First, text, Finish::Stop);
            assert!(kept.is_empty(), "{kept:?}");
            (c.refusals, c.nonsense, c.empty, c.too_short)
        };
        assert_eq!(reasons("I\u{2019}m sorry, but I cannot describe that. A boat floats on water."), (1, 0, 0, 0));
        let polite = "I'm sorry, I can't see images.\n\nIf you have any other questions, feel free to ask!";
        assert_eq!(reasons(polite), (1, 0, 0, 0));
        assert_eq!(reasons("As an AI language model, I have no eyes."), (1, 0, 0, 0));
        assert_eq!(reasons("the the the the the the"), (0, 1, 0, 0));
        assert_eq!(reasons("A bo\u{fffd}t floats on water."), (0, 1, 0, 0));
        assert_eq!(reasons("qwertyuiopqwertyuiopqwertyuiopqwertyuiop floats on water."), (0, 1, 0, 0));
        assert_eq!(reasons("|--|--| 00 11 22 {} [] <> == ++ a"), (0, 1, 0, 0));
        assert_eq!(reasons(" \n\n "), (0, 0, 1, 0));
        assert_eq!(reasons("."), (0, 0, 1, 0));
        assert_eq!(reasons("A boat."), (0, 0, 0, 1));
        assert_eq!(reasons("<think>What is a boat? A boat floats."), (0, 0, 1, 0));
        assert_eq!(clean(Keep::First, "<think>hm</think>\nA boat floats here.", Finish::Stop).0, ["A boat floats here."]);
    }

    #[test]
    fn debris_goes_and_the_sentence_stays() {
        let good = "A small animal has whiskers.";
        for text in [
            format!("{good}</s>"),
            format!("<thinking>They want a sentence.</thinking>\n{good}<|im_end|>\n<|im_start|>user\nMore?"),
            format!("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>{good}"),
            format!("Sure! Here it is:\n```json\n{{\"descriptions\": [\"{good}\"]}}\n```\nLet me know."),
            format!("| class | description |\n|---|---|\n| cat | {good} |"),
            format!("<answer>\u{200b}{good}</answer>"),
            format!("&lt;think&gt;Hm.&lt;/think&gt;{good}"),
            format!("1. **{good}**"),
            good.replace(' ', "&nbsp;"),
            format!("Here is a short description of a cat.\n\n{good}"),
            format!("Description of a cat: {good}"),
            format!("{good}\n\nUser: And a dog?\nAssistant: A dog has a long tail."),
        ] {
            assert_eq!(clean(Keep::First, &text, Finish::Stop).0, [good], "{text}");
        }
        // the list was cut off in its second sentence, whatever the server says
        let (kept, counts) = clean(Keep::First, &format!("[\"{good}\", \"It has a"), Finish::Stop);
        assert_eq!((kept.as_slice(), counts.unfinished), (&[good.to_string()][..], 1));
        let (kept, counts) = clean(Keep::First, good, Finish::Refused);
        assert_eq!((kept.len(), counts.refusals), (0, 1));
        assert_eq!(clean(Keep::First, "<think>A cat has", Finish::Length).1.unfinished, 1);
        assert_eq!(clean(Keep::First, "", Finish::Length).1.unfinished, 1);
    }

    #[test]
    fn a_question_goes_and_its_answer_stays() {
        let text = "Does a cat have fur? Yes, it has soft fur. Is it warm? It is.";
        assert_eq!(clean(Keep::First, text, Finish::Stop).0, ["it has soft fur."]);
        assert_eq!(clean(Keep::Each, text, Finish::Stop).0, ["it has soft fur."]);
        assert_eq!(clean(Keep::Whole, text, Finish::Stop).0, ["it has soft fur. Is it warm? It is."]);
        let (kept, counts) = clean(Keep::First, "What does a cat look like?\nA cat has soft fur.", Finish::Stop);
        assert_eq!((kept.as_slice(), counts.nonsense), (&["A cat has soft fur.".to_string()][..], 1));
    }

    #[test]
    fn duplicates_within_a_class_only() {
        let (mut counts, settings) = (CleanCounts::default(), Settings::chat());
        let mut class = Cleaner::default().class();
        let mut clean = |text: &str| class.clean(text, Finish::Stop, &settings, &mut counts).len();
        assert_eq!(clean("An airplane has wings and a tail."), 1);
        assert_eq!(clean("the airplane has wings, and a tail"), 0);
        let long =
            "An airplane is a large metal vehicle with two wings and a tail that carries people and goods through the air at high speed";
        assert_eq!(clean(long), 1);
        assert_eq!(clean(&long.replace("people", "passengers")), 0);
        assert_eq!(clean("An airplane is a long, thin object with wings."), 1);
        assert_eq!(clean("An airplane is a large, thin object with wings."), 1);
        assert_eq!((counts.duplicates, counts.near_duplicates, counts.kept), (1, 1, 4));
        let mut other = Cleaner::default().class();
        assert_eq!(other.clean("An airplane has wings and a tail.", Finish::Stop, &settings, &mut counts).len(), 1);
    }
}
