//! `describe --pairs-from`: texts that tell confused classes apart.

use std::path::{Path, PathBuf};

use clap::Args;
use lafter::describe::generate::{Api, ConfusedPair, PairRule, Plan, Settings, confused_pairs, next_to};
use lafter::describe::{ClassNames, Descriptions};
use lafter::files::{read_text, save_atomically};
use lafter::predictions::{UNKNOWN, read_two_best};
use lafter::progress::Event;
use lafter::{Error, Result};
use serde::{Deserialize, Serialize};

use super::bars::Bars;

/// The longest answer unless the user says so: a list.
const MAX_TOKENS: usize = 300;

#[derive(Args)]
#[command(next_help_heading = "Confused classes")]
pub struct PairArgs {
    /// Ask what tells apart the classes that answers confuse: a table of `run`, `predict` or `transduct` (.csv, .jsonl)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "random_words", "queries", "style", "domain"])]
    pub pairs_from: Option<PathBuf>,
    /// The texts so far (CuPL's JSON): shown to the model, and kept before the new ones in --out
    #[arg(long, value_name = "FILE", requires = "pairs_from")]
    pub texts: Option<PathBuf>,
    /// A picture counts if the probabilities of its two best classes differ by less
    #[arg(long, value_name = "P", default_value_t = 0.1, requires = "pairs_from")]
    pub pair_margin: f64,
    /// The share of the confused pairs that is asked about, the most frequent ones, at least one
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, requires = "pairs_from")]
    pub pair_share: f64,
}

/// A pair in the file next to the texts.
#[derive(Serialize, Deserialize)]
struct Line {
    names: [String; 2],
    #[serde(flatten)]
    pair: ConfusedPair,
}

/// What is asked, and the pairs that the texts know after it.
pub struct Pairs {
    pub plan: Plan,
    lines: Vec<Line>,
}

impl Pairs {
    /// Reads the table and the texts.
    pub fn new(
        args: &PairArgs,
        table: &Path,
        classes: &ClassNames,
        completions: usize,
        settings: Settings,
        bars: &mut Bars,
    ) -> Result<Self> {
        let names = classes.names();
        if classes.duplicates() > 0 {
            return Err(Error::Usage("--pairs-from knows classes by name, and two have the same: give them different names".into()));
        }
        let (mut lines, texts) = match &args.texts {
            Some(file) => (before(file, names)?, Descriptions::read(file)?.for_classes(names)?),
            None => (Vec::new(), vec![Vec::new(); names.len()]),
        };
        let rule = PairRule { margin: args.pair_margin, share: args.pair_share };
        if !(rule.margin > 0.0 && rule.margin <= 1.0 && rule.share > 0.0 && rule.share <= 1.0) {
            return Err(Error::Usage("--pair-margin and --pair-share must be above 0 and at most 1".into()));
        }
        let index = |name: &str| names.iter().position(|known| known == name);
        let (mut pictures, mut nameless, mut confused) = (Vec::new(), 0, 0);
        for row in read_two_best(table)?.iter().filter(|row| !row.runner_up.is_empty()) {
            confused += usize::from(row.margin < rule.margin);
            match (index(&row.class), index(&row.runner_up)) {
                (Some(best), Some(second)) => pictures.push((best, second, row.margin)),
                (None, _) if row.class == UNKNOWN => nameless += usize::from(row.margin < rule.margin),
                (class, _) => {
                    let name = if class.is_none() { &row.class } else { &row.runner_up };
                    let table = table.display();
                    return Err(Error::Text(format!(
                        "{table}: class \"{name}\" is not in --classes: give the names that it was made with"
                    )));
                }
            }
        }
        if nameless > 0 {
            let lost = format!(
                "{}: no class is known of {nameless} of {confused} confused pictures, whose answer is \"{UNKNOWN}\": make the table without \
                 --threshold, or as .jsonl, which lists the most probable classes",
                table.display()
            );
            if nameless == confused {
                return Err(Error::Usage(lost));
            }
            bars.show(&Event::Notice(lost));
        }
        let asked: Vec<(usize, usize)> = lines.iter().map(|line| line.pair.classes).collect();
        let pairs = confused_pairs(pictures.iter().copied(), rule, &asked);
        if pairs.is_empty() {
            let known = if asked.is_empty() { "" } else { " that was not asked about before" };
            return Err(Error::Usage(format!(
                "no pair of classes{known} is confused in any of {} pictures: nothing to ask",
                pictures.len()
            )));
        }
        let new = |pair: &ConfusedPair| Line { names: [names[pair.classes.0].clone(), names[pair.classes.1].clone()], pair: *pair };
        let shown: Vec<String> = pairs.iter().take(5).map(|pair| pair_words(names, pair)).collect();
        bars.show(&Event::Notice(format!("{} pairs of classes are asked about: {}", pairs.len(), shown.join(", "))));
        lines.extend(pairs.iter().map(new));
        Ok(Self { plan: Plan::for_pairs(names, texts, &pairs, completions, settings)?, lines })
    }

    /// Notes next to the texts which pairs they know, so that none is asked about twice.
    pub fn save(&self, out: &Path) -> Result<()> {
        let lines: Vec<String> =
            self.lines.iter().map(serde_json::to_string).collect::<Result<_, _>>().map_err(|e| Error::Text(e.to_string()))?;
        save_atomically(next_to(out, "pairs"), format!("{}\n", lines.join("\n")).as_bytes())
    }
}

fn pair_words(names: &[String], pair: &ConfusedPair) -> String {
    format!("{} – {} ({} of the pictures)", names[pair.classes.0], names[pair.classes.1], pair.votes)
}

/// Lists need room, and do not end at the first full stop.
pub fn settings(mut settings: Settings, max_tokens: Option<usize>, stop: &[String]) -> Settings {
    settings.max_tokens = max_tokens.unwrap_or(MAX_TOKENS);
    if settings.api == Api::Completion && stop.is_empty() {
        settings.stop.clear();
    }
    settings
}

/// The pairs that these texts know, by the names of today.
fn before(texts: &Path, names: &[String]) -> Result<Vec<Line>> {
    let file = next_to(texts, "pairs");
    if !file.exists() {
        return Ok(Vec::new());
    }
    let mut lines = Vec::new();
    for (at, text) in read_text(&file)?.lines().enumerate() {
        let mut line: Line = serde_json::from_str(text)
            .map_err(|e| Error::Text(format!("{}, line {}: {e}: remove the file to ask all pairs anew", file.display(), at + 1)))?;
        let index = |name: &String| names.iter().position(|known| known == name);
        if let (Some(a), Some(b)) = (index(&line.names[0]), index(&line.names[1])) {
            line.pair.classes = (a.min(b), a.max(b));
            lines.push(line);
        }
    }
    Ok(lines)
}
