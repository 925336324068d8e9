//! What a grid gave: one row per setting with mean, spread and number of seeds.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::grid::Cell;
use super::scores::Scores;
use crate::error::{Result, noun};
use crate::eval::{Table, to_json};
use crate::files::save_atomically;
use crate::plot::{self, Figure};

/// Mean and spread of one number over seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Mean over seeds.
    pub mean: f64,
    /// Sample standard deviation (n − 1); `None` with fewer than two seeds.
    pub std: Option<f64>,
    /// Number of seeds.
    pub n: usize,
}

impl Spread {
    /// `None` without a value.
    ///
    /// ```
    /// let spread = lafter::ablate::Spread::of(&[1.0, 3.0]).unwrap();
    /// assert_eq!((spread.mean, spread.std, spread.n), (2.0, Some(2f64.sqrt()), 2));
    /// ```
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Some(Self { mean, std: (n > 1).then(|| (squares / (n - 1) as f64).sqrt()), n })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.std {
            Some(std) => write!(f, "{:.2} ± {std:.2}", self.mean),
            None => write!(f, "{:.2}", self.mean),
        }
    }
}

/// One setting's top-1 accuracies in percent, over the seeds that are done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// One level per factor.
    pub levels: Vec<String>,
    /// CLIP without training (eq. 1).
    pub zero_shot: Option<Spread>,
    /// The text classifier (eq. 2), before tuning.
    pub text_classifier: Option<Spread>,
    /// The tuned model (eq. 4) at the last epoch; `None` without an image stage.
    pub lafter: Option<Spread>,
    /// What the signals choose without a label ([`Selection`](crate::eval::Selection)), where every epoch was evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected: Option<Spread>,
    /// The best epoch by the test labels, which nobody without labels can choose, where every epoch was evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oracle_best: Option<Spread>,
    /// Mutual information before tuning, in percent ([`Signals`](crate::eval::Signals)): what a study without labels compares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub information_before: Option<Spread>,
    /// The same after the last epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub information: Option<Spread>,
    /// Balance after the last epoch, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<Spread>,
    /// Seeds that are done.
    pub seeds: Vec<u64>,
}

/// A column of numbers.
#[derive(Clone, Copy)]
struct Column {
    title: &'static str,
    /// Its name in the CSV.
    key: &'static str,
    of: fn(&Row) -> Option<Spread>,
}

const LABELED: [Column; 6] = [
    Column { title: "zero-shot", key: "zero_shot", of: |row| row.zero_shot },
    Column { title: "text classifier", key: "text_classifier", of: |row| row.text_classifier },
    Column { title: "LaFTer", key: "lafter", of: |row| row.lafter },
    Column { title: "signals choose", key: "selected", of: |row| row.selected },
    Column { title: "best epoch (oracle)", key: "oracle_best", of: |row| row.oracle_best },
    Column { title: "information", key: "information", of: |row| row.information },
];
const UNLABELED: [Column; 3] = [
    Column { title: "information before", key: "information_before", of: |row| row.information_before },
    Column { title: "information", key: "information", of: |row| row.information },
    Column { title: "balance", key: "balance", of: |row| row.balance },
];

/// "1 run", "2 runs".
pub(super) fn runs(n: usize) -> String {
    format!("{n} {}", noun(n, "run"))
}

/// The rows of a grid, in its order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Study {
    /// Names of the factors: the first columns of the table.
    pub factors: Vec<String>,
    /// One row per setting.
    pub rows: Vec<Row>,
    /// Runs of the grid that are not done.
    pub missing: usize,
    /// What became of the runs that failed this time, one line each with the run's name; they are among the missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
}

impl Study {
    pub(super) fn new(factors: Vec<String>, cells: &[Cell], scores: &[Option<Scores>]) -> Self {
        let mut rows: Vec<(Vec<String>, Vec<Scores>)> = Vec::new();
        for (cell, scores) in cells.iter().zip(scores) {
            let levels: Vec<String> = cell.settings.iter().map(|(_, level)| level.clone()).collect();
            if rows.last().is_none_or(|(last, _)| *last != levels) {
                rows.push((levels, Vec::new()));
            }
            if let Some((_, row)) = rows.last_mut() {
                row.extend(scores);
            }
        }
        let row = |(levels, scores): (Vec<String>, Vec<Scores>)| {
            let spread = |top1: fn(&Scores) -> Option<f64>| Spread::of(&scores.iter().filter_map(top1).collect::<Vec<_>>());
            Row {
                levels,
                zero_shot: spread(|scores| scores.zero_shot),
                text_classifier: spread(|scores| scores.text_classifier),
                lafter: spread(|scores| scores.lafter),
                selected: spread(|scores| scores.chosen.map(|[selected, _]| selected)),
                oracle_best: spread(|scores| scores.chosen.map(|[_, best]| best)),
                information_before: spread(|scores| scores.signals.map(|[before, _, _]| before)),
                information: spread(|scores| scores.signals.map(|[_, last, _]| last)),
                balance: spread(|scores| scores.signals.map(|[_, _, balance]| balance)),
                seeds: scores.iter().map(|scores| scores.seed).collect(),
            }
        };
        let missing = scores.iter().filter(|scores| scores.is_none()).count();
        Self { factors, rows: rows.into_iter().map(row).collect(), missing, failed: Vec::new() }
    }

    /// True if no run had labels: signals stand in the accuracies' place.
    fn is_unlabeled(&self) -> bool {
        self.rows.iter().all(|row| row.zero_shot.is_none()) && self.rows.iter().any(|row| row.information.is_some())
    }

    /// The columns of numbers: with labels the stages, then, where a run has them, what the signals choose, the best epoch and the
    /// mutual information; without labels signals alone.
    fn columns(&self) -> Vec<Column> {
        let columns = if self.is_unlabeled() { UNLABELED.as_slice() } else { LABELED.as_slice() };
        let (stages, more) = columns.split_at(3);
        let known = more.iter().filter(|column| self.rows.iter().any(|row| (column.of)(row).is_some()));
        stages.iter().chain(known).copied().collect()
    }

    /// Top-1 in percent, mean ± sample standard deviation, and the number of seeds; without labels mutual information and balance.
    pub fn table(&self) -> Table {
        let columns = self.columns();
        let titles = columns.iter().map(|column| column.title).chain(["n"]).map(String::from);
        let mut table = Table::new(&self.factors.iter().cloned().chain(titles).collect::<Vec<_>>());
        for row in &self.rows {
            let numbers = columns.iter().map(|column| (column.of)(row).map_or("–".into(), |spread| spread.to_string()));
            table.push(row.levels.iter().cloned().chain(numbers).chain([row.seeds.len().to_string()]));
        }
        table
    }

    /// The numbers of [`table`](Self::table) for other programs: mean and standard deviation in columns of their own, with all
    /// digits; empty if there is none.
    pub fn to_csv(&self) -> String {
        let columns = self.columns();
        let names = columns.iter().flat_map(|column| [format!("{}_mean", column.key), format!("{}_std", column.key)]);
        let mut table = Table::new(&self.factors.iter().cloned().chain(names).chain(["n".to_string()]).collect::<Vec<_>>());
        for row in &self.rows {
            let text = |value: Option<f64>| value.map_or(String::new(), |v| v.to_string());
            let spreads = columns.iter().map(|column| (column.of)(row));
            let numbers = spreads.flat_map(|spread| [text(spread.map(|s| s.mean)), text(spread.and_then(|s| s.std))]);
            table.push(row.levels.iter().cloned().chain(numbers).chain([row.seeds.len().to_string()]));
        }
        table.to_csv()
    }

    /// Each setting's last stage that ran, as bars with their spread: LaFTer, or the text classifier without an image
    /// stage. The title says how many settings have no such number, and how many runs are not done.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] if no run is done.
    pub fn figure(&self, title: &str) -> Result<Figure> {
        let bar = |row: &Row| {
            let name = if row.levels.is_empty() { "base".to_string() } else { row.levels.join(" · ") };
            row.lafter.or(row.text_classifier).or(row.information).map(|spread| (name, spread.mean, spread.std))
        };
        let bars: Vec<(String, f64, Option<f64>)> = self.rows.iter().filter_map(bar).collect();
        let stages = [
            self.rows.iter().any(|row| row.lafter.is_some()),
            self.rows.iter().any(|row| row.lafter.is_none() && row.text_classifier.is_some()),
        ];
        let label = match stages {
            _ if self.is_unlabeled() => "mutual information after the last epoch, %",
            [true, false] => "LaFTer, top-1 %",
            [false, _] => "text classifier, top-1 %",
            [true, true] => "last stage that ran, top-1 %",
        };
        let mut title = if self.factors.is_empty() { title.to_string() } else { format!("{title}: {}", self.factors.join(" · ")) };
        if self.missing > 0 || bars.len() < self.rows.len() {
            let missing = if self.missing > 0 { format!(", {} missing", runs(self.missing)) } else { String::new() };
            title += &format!(" ({} of {} settings{missing})", bars.len(), self.rows.len());
        }
        plot::spread_bars(&title, &format!("{label} (mean and standard deviation over seeds)"), &bars)
    }

    /// Writes `table.txt`, `table.md`, `table.tex`, `table.csv`, `study.json` and, if a run is done, `study.svg` into a
    /// folder.
    ///
    /// # Errors
    /// [`crate::Error::Io`] with the path that cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<()> {
        let (folder, table) = (folder.as_ref(), self.table());
        std::fs::create_dir_all(folder).map_err(|e| crate::Error::io(folder, e))?;
        let forms = [("txt", self.to_string()), ("md", table.to_markdown()), ("tex", table.to_latex()), ("csv", self.to_csv())];
        for (ending, text) in forms {
            save_atomically(folder.join("table").with_extension(ending), text.as_bytes())?;
        }
        save_atomically(folder.join("study.json"), to_json(self)?.as_bytes())?;
        // a shard may have no run of its own, and be there first
        let drawn = |row: &Row| row.lafter.or(row.text_classifier).or(row.information).is_some();
        if !self.rows.iter().any(drawn) {
            return Ok(());
        }
        self.figure("Ablation")?.save(folder.join("study.svg"))
    }

    /// Shows the table in a notebook (called by evcxr).
    pub fn evcxr_display(&self) {
        self.table().evcxr_display();
    }
}

impl fmt::Display for Study {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.table())?;
        match self.missing {
            0 => Ok(()),
            1 => writeln!(f, "1 run of the grid is not done yet"),
            missing => writeln!(f, "{missing} runs of the grid are not done yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_without_a_bar_are_counted() {
        let information = Spread::of(&[50.0]);
        let row = |level: &str, information| Row {
            levels: vec![level.into()],
            zero_shot: None,
            text_classifier: None,
            lafter: None,
            selected: None,
            oracle_best: None,
            information_before: None,
            information,
            balance: None,
            seeds: vec![1],
        };
        let study = |rows| Study { factors: vec!["tune.epochs".into()], rows, missing: 0, failed: Vec::new() };
        let title = |rows| study(rows).figure("Ablation").unwrap().title().to_string();
        assert_eq!(title(vec![row("0", None), row("1", information)]), "Ablation: tune.epochs (1 of 2 settings)");
        assert_eq!(title(vec![row("1", information)]), "Ablation: tune.epochs");
    }
}
