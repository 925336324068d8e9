//! The numbers of one run that a study needs, from its report or from the file of it.

use std::io::BufReader;
use std::path::Path;

use serde::Deserialize;

use super::grid::Cell;
use crate::eval::{Report, Signals};

/// Top-1 accuracies of one run in percent. A report of many classes holds megabytes; of these a study keeps thousands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scores {
    pub seed: u64,
    pub zero_shot: Option<f64>,
    pub text_classifier: Option<f64>,
    pub lafter: Option<f64>,
    /// What the signals choose, and the best epoch by the test labels, where every epoch was evaluated.
    pub chosen: Option<[f64; 2]>,
    /// Mutual information before tuning and after the last epoch, and the balance then, in percent.
    pub signals: Option<[f64; 3]>,
}

/// What is read of a report's file; everything else is passed over.
#[derive(Deserialize)]
struct Stored {
    zero_shot: Option<Section>,
    text_classifier: Option<Section>,
    lafter: Option<Section>,
    #[serde(default)]
    history: Vec<Epoch>,
    selection: Option<Before>,
    seed: u64,
}

#[derive(Deserialize)]
struct Before {
    start: Signals,
    selected_top1: Option<f64>,
}

#[derive(Deserialize)]
struct Epoch {
    signals: Option<Signals>,
    test_top1: Option<f64>,
}

#[derive(Deserialize)]
struct Section {
    top1: f64,
    #[serde(default)]
    history: Vec<Epoch>,
    oracle_best: Option<Best>,
}

#[derive(Deserialize)]
struct Best {
    top1: f64,
}

/// Both, if there are several epochs and each was evaluated (`epochs`, their accuracies).
fn chosen(selected: Option<f64>, best: Option<f64>, epochs: &[Option<f64>]) -> Option<[f64; 2]> {
    if epochs.len() < 2 || epochs.contains(&None) { None } else { Some([selected?, best?]) }
}

fn signals(start: Option<Signals>, last: Option<Signals>) -> Option<[f64; 3]> {
    let (start, last) = (start?, last?);
    Some([start.mutual_information, last.mutual_information, last.balance].map(|value| 100.0 * value))
}

impl Scores {
    pub(super) fn of(report: &Report) -> Self {
        Self {
            seed: report.seed,
            zero_shot: report.zero_shot.as_ref().map(|section| section.top1),
            text_classifier: report.text_classifier.as_ref().map(|section| section.evaluation.top1),
            lafter: report.lafter.as_ref().map(|section| section.evaluation.top1),
            chosen: report.lafter.as_ref().and_then(|section| {
                let selected = report.selection.as_ref().and_then(|selection| selection.selected_top1);
                chosen(selected, section.oracle_best.as_ref().map(|best| best.top1), &section.per_epoch)
            }),
            signals: {
                let history = report.lafter.as_ref().map_or(&report.history, |section| &section.history);
                signals(report.selection.as_ref().map(|selection| selection.start), history.last().and_then(|record| record.signals))
            },
        }
    }

    /// Those of a cell that is done: its report is there and whole, has every stage that the cell has, its seed, and
    /// accuracies that can be. Anything else is run again.
    pub(super) fn load(report: &Path, cell: &Cell) -> Option<Self> {
        let file = BufReader::new(std::fs::File::open(report).ok()?);
        let Stored { zero_shot, text_classifier, lafter, history, selection, seed } = serde_json::from_reader(file).ok()?;
        let last = lafter.as_ref().map_or(&history, |section| &section.history).last().and_then(|epoch| epoch.signals);
        let chosen = lafter.as_ref().and_then(|section| {
            let epochs: Vec<Option<f64>> = section.history.iter().map(|epoch| epoch.test_top1).collect();
            chosen(selection.as_ref()?.selected_top1, section.oracle_best.as_ref().map(|best| best.top1), &epochs)
        });
        let signals = signals(selection.map(|before| before.start), last);
        let top1 = |section: Option<Section>| section.map(|section| section.top1);
        let (zero_shot, text_classifier, lafter) = (top1(zero_shot), top1(text_classifier), top1(lafter));
        let scores = Self { seed, zero_shot, text_classifier, lafter, chosen, signals };
        let (config, labeled) = (&cell.experiment.config, cell.experiment.test.is_some());
        let tuned = if labeled { scores.lafter.is_some() } else { scores.signals.is_some() };
        let stages =
            scores.zero_shot.is_some() == labeled && scores.text_classifier.is_some() == labeled && tuned == (config.tune.epochs > 0);
        let possible = |top1: &f64| (0.0..=100.0).contains(top1);
        let all = [scores.zero_shot, scores.text_classifier, scores.lafter];
        (stages && seed == config.seed && all.iter().flatten().all(possible)).then_some(scores)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_best_and_the_chosen_epoch_are_those_of_all_epochs() {
        let chosen = |epochs: &[Option<f64>]| super::chosen(Some(1.0), Some(2.0), epochs);
        assert_eq!(chosen(&[Some(1.0), Some(2.0)]), Some([1.0, 2.0]));
        for epochs in [&[Some(1.0), None, Some(2.0)][..], &[None, Some(2.0)], &[Some(2.0)], &[]] {
            assert_eq!(chosen(epochs), None);
        }
    }
}
