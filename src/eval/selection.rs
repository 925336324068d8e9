//! Which epoch to keep without a label, and when to warn: rules on signals.

use serde::{Deserialize, Serialize};

use super::epoch::EpochRecord;
use super::fits::Fits;
use super::signals::Signals;
use super::table::Table;

/// Whose weights are a run's result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    /// The last epoch's: what is published.
    #[default]
    Last,
    /// What the signals choose: an epoch ([`selected`]), the text classifier, zero-shot or the mean of both, whichever fits the pictures
    /// best ([`Fits`]).
    Signals,
}

/// Least share of the balance before tuning that a candidate keeps.
const BALANCE: f64 = 0.98;
/// Mutual information that differs by less is the same.
const MORE: f64 = 1e-6;
/// A share of answers that agree with the class means is told if it falls by more than this: 100 pictures spread it by 0.03.
const FEWER: f64 = 0.05;
/// Where one answer has more than this share of the pictures before tuning, a collapse cannot be told from a set that is so.
pub(crate) const ONE_SIDED: f64 = 0.7;

/// How many of the classes named before tuning a candidate may have lost. A class that few pictures show leaves a small sample by
/// chance; of fewer than five classes each counts.
fn may_be_lost(named: usize) -> usize {
    if named < 5 { 0 } else { (named / 20).max(1) }
}

/// How many of them may be lost before the user is told.
fn lost_unsaid(named: usize) -> usize {
    if named < 5 { 0 } else { (named / 10).max(2) }
}

/// The choice of an epoch, as the report keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// What is the result of the run.
    pub result: Select,
    /// The signals before tuning, of the text classifier.
    pub start: Signals,
    /// Those of the zero-shot classifier on the same pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zero_shot: Option<Signals>,
    /// How well zero-shot, the text classifier, their mean and the epoch that [`selected`] chose fit the pictures, which decides between
    /// them; `None` in reports of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fits: Option<Fits>,
    /// The epoch that the signals choose, from 1; 0 is the state before tuning.
    pub selected: usize,
    /// Whether the signals choose zero-shot, in the place of the text classifier and of every epoch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub zero_shot_selected: bool,
    /// Whether the signals choose the mean of zero-shot and the text classifier.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mean_selected: bool,
    /// Top-1 of that mean on the test set in percent, if there is one and it was evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_top1: Option<f64>,
    /// Top-1 of what the signals choose on the test set in percent, if it was evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected_top1: Option<f64>,
    /// The last epoch.
    pub last: usize,
    /// Top-1 after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_top1: Option<f64>,
}

impl Selection {
    /// Whether zero-shot is the result of the run, in the place of the text classifier and of what was tuned.
    pub fn is_zero_shot(&self) -> bool {
        self.result == Select::Signals && self.zero_shot_selected
    }

    /// What the signals chose and what it reaches on the test set, in one line; `None` if the last epoch is the result.
    pub fn said(&self) -> Option<String> {
        if self.result == Select::Last {
            return None;
        }
        let top1 = self.selected_top1.map_or_else(String::new, |top1| format!(", top-1 {top1:.2} %"));
        let why = self.fits.map_or_else(String::new, |fits| format!(" ({})", fits.said()));
        Some(format!("the result, chosen by signals without labels: {}{top1}{why}", self.chosen()))
    }

    /// What the signals chose, in words.
    pub fn chosen(&self) -> String {
        match self.selected {
            _ if self.zero_shot_selected => "zero-shot".to_string(),
            0 if self.mean_selected => "the mean of zero-shot and the text classifier, before tuning".to_string(),
            0 => "the text classifier, before tuning".to_string(),
            epoch => format!("epoch {epoch} of {}", self.last),
        }
    }

    /// The signals of zero-shot and of the text classifier, both before tuning, of the chosen epoch and of the last; an arrow marks the
    /// result.
    pub fn table(&self, history: &[EpochRecord]) -> Table {
        let mut table = Table::new(&["", "mutual information %", "balance %", "classes named", "as class means %", "confidence %"]);
        let result = match self.result {
            Select::Signals if self.zero_shot_selected || self.mean_selected => None,
            Select::Signals => Some(self.selected),
            Select::Last => Some(self.last),
        };
        let row = |name: &str, marked: bool, signals: &Signals| {
            let percent = |value: f64| format!("{:.1}", 100.0 * value);
            let mark = if marked { "→ " } else { "" };
            let (information, balance) = (percent(signals.mutual_information), percent(signals.balance));
            let means = signals.as_class_means.map(percent).unwrap_or_default();
            let named = signals.classes_named.to_string();
            [format!("{mark}{name}"), information, balance, named, means, percent(signals.confidence)]
        };
        if let Some(zero_shot) = &self.zero_shot {
            table.push(row("zero-shot", self.is_zero_shot(), zero_shot));
        }
        let mut epochs = vec![0, self.selected, self.last];
        epochs.dedup();
        for epoch in epochs {
            let of_epoch = match epoch.checked_sub(1) {
                None => Some(self.start),
                Some(at) => history.get(at).and_then(|record| record.signals),
            };
            let Some(of_epoch) = of_epoch else { continue };
            let name = if epoch == 0 { "text classifier".to_string() } else { format!("epoch {epoch}") };
            table.push(row(&name, result == Some(epoch), &of_epoch));
        }
        table
    }
}

/// The candidate with the greatest mutual information: of the state before tuning (0) and the epochs (from 1) that keep the classes
/// and fit the pictures. An epoch keeps the classes if its balance is at least 0.98 times that before tuning, and it names all but
/// one in twenty of the classes named before (one of five and more). It fits the pictures if the share of its answers that agree with
/// the class means of the features ([`Signals::as_class_means`]) is at most 0.05 below that before tuning, which a sample of 100 pictures
/// cannot tell from none. Of equal ones the first is taken. [`Fits`] then decide between it, the text classifier, zero-shot and the mean
/// of both, on more pictures.
///
/// Mutual information alone would choose a state that tells a few classes apart very surely; it also grows with the size of the
/// logits, which the agreement with class means does not. The rule reads no label, so it can be wrong; README says how often it was.
pub fn selected(start: &Signals, epochs: &[Option<Signals>]) -> usize {
    let mut best = (0, start.mutual_information);
    for (at, signals) in epochs.iter().enumerate() {
        let Some(signals) = signals else { continue };
        if keeps_classes(start, signals) && fits(start, signals, FEWER) && signals.mutual_information > best.1 + MORE {
            best = (at + 1, signals.mutual_information);
        }
    }
    best.0
}

fn keeps_classes(start: &Signals, now: &Signals) -> bool {
    let lost = start.classes_named.saturating_sub(now.classes_named);
    now.balance >= BALANCE * start.balance && lost <= may_be_lost(start.classes_named)
}

/// Whether as many answers agree with the class means as before, but for `less`; true where that is not known.
fn fits(start: &Signals, now: &Signals, less: f64) -> bool {
    start.as_class_means.zip(now.as_class_means).is_none_or(|(before, after)| after >= before - less)
}

/// What to tell the user after an epoch: classes that are lost, answers that fit the pictures less than before, or answers that say
/// less and less while student and teacher agree more and more. `None` if all is well, or if one answer had over 70 % of the pictures
/// before tuning.
pub fn warning(start: &Signals, history: &[EpochRecord]) -> Option<String> {
    // where nearly all pictures show one class, surer answers crowd there rightly
    let record = history.last().filter(|_| start.largest_share <= ONE_SIDED)?;
    let now = record.signals.as_ref()?;
    let epoch = record.epoch;
    let lost = start.classes_named.saturating_sub(now.classes_named);
    if lost > lost_unsaid(start.classes_named) {
        return Some(format!(
            "epoch {epoch}: tuning is losing classes: {} of {} are still an answer for the watched pictures, {} were before tuning",
            now.classes_named, start.classes_named, start.classes_named
        ));
    }
    if now.balance < BALANCE * start.balance {
        let (before, after) = (100.0 * start.balance, 100.0 * now.balance);
        return Some(format!("epoch {epoch}: answers crowd into fewer classes: balance {after:.0} %, before tuning {before:.0} %"));
    }
    if !fits(start, now, FEWER) {
        let percent = |signals: &Signals| 100.0 * signals.as_class_means.unwrap_or_default();
        let (before, after) = (percent(start), percent(now));
        return Some(format!(
            "epoch {epoch}: tuning may do harm: {after:.0} % of the answers are those of the nearest class mean, {before:.0} % were before tuning"
        ));
    }
    let before = history.len().checked_sub(2).and_then(|at| history.get(at));
    let falls = before.and_then(|before| Some((before.agreement, before.signals.as_ref()?.mutual_information)));
    match falls {
        Some((agreement, information))
            if record.agreement > agreement
                && now.mutual_information < information
                && now.mutual_information < start.mutual_information =>
        {
            Some(format!(
                "epoch {epoch}: student and teacher agree more while answers say less about the pictures than before tuning: it may collapse"
            ))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signals(balance: f64, classes_named: usize, mutual_information: f64) -> Signals {
        Signals {
            pictures: 100,
            confidence: 0.5,
            entropy: 0.5,
            balance,
            classes_named,
            largest_share: 0.2,
            mutual_information,
            nuclear_norm: 0.5,
            neighborhood_density: 1.0,
            mano: 0.5,
            as_before: None,
            as_teacher: None,
            as_class_means: None,
            texts_right: None,
        }
    }

    fn record(epoch: usize, agreement: f64, signals: Signals) -> EpochRecord {
        let (loss, confidence) = (1.0, 50.0);
        EpochRecord {
            epoch,
            loss,
            agreement,
            confidence,
            pseudo_label_accuracy: None,
            test_top1: None,
            images: 1,
            steps: 1,
            seconds: 1.0,
            kept: None,
            mean_weight: None,
            classes_named: None,
            terms: Default::default(),
            signals: Some(signals),
        }
    }

    #[test]
    fn the_most_informative_state_that_keeps_its_classes_is_chosen() {
        let start = signals(0.9, 20, 0.30);
        let epochs = [signals(0.9, 20, 0.4), signals(0.89, 19, 0.5), signals(0.8, 20, 0.9), signals(0.9, 15, 0.9)].map(Some);
        assert_eq!(selected(&start, &epochs), 2);
        assert_eq!(selected(&start, &[Some(signals(0.9, 20, 0.2)), None]), 0); // do not tune
        assert_eq!(selected(&start, &[]), 0);
        // what is surer, but fits the pictures less, is not taken
        let agreeing = |share, information| Signals { as_class_means: Some(share), ..signals(0.9, 20, information) };
        assert_eq!(selected(&agreeing(0.9, 0.3), &[agreeing(0.86, 0.4), agreeing(0.84, 0.8)].map(Some)), 1);
        // a truly unbalanced set is compared with itself
        let start = signals(0.3, 6, 0.2);
        assert_eq!(selected(&start, &[Some(signals(0.3, 6, 0.25))]), 1);
        assert_eq!(warning(&start, &[record(1, 50.0, signals(0.3, 6, 0.25))]), None);
    }

    #[test]
    fn the_table_marks_the_result() {
        let history = [record(1, 50.0, signals(0.9, 20, 0.4)), record(2, 50.0, signals(0.9, 20, 0.35))];
        let start = signals(0.9, 20, 0.3);
        let chosen = Selection {
            result: Select::Signals,
            start,
            zero_shot: None,
            fits: None,
            selected: 1,
            zero_shot_selected: false,
            mean_selected: false,
            mean_top1: None,
            selected_top1: None,
            last: 2,
            last_top1: None,
        };
        let text = chosen.table(&history).to_string();
        assert!(
            text.contains("text classifier") && text.contains("→ epoch 1") && text.contains("epoch 2") && text.contains("40.0"),
            "{text}"
        );
        assert!(chosen.said().unwrap().ends_with("epoch 1 of 2"));
        let zero_shot = Selection { zero_shot: Some(start), zero_shot_selected: true, selected_top1: Some(50.0), ..chosen.clone() };
        assert!(zero_shot.said().unwrap().ends_with("zero-shot, top-1 50.00 %"));
        assert!(zero_shot.table(&history).to_string().contains("→ zero-shot"));
        let mean = Selection { selected: 0, mean_selected: true, ..chosen.clone() };
        assert!(mean.said().unwrap().contains("the mean of") && !mean.table(&history).to_string().contains('→'));
        let last = Selection { result: Select::Last, selected: 0, ..chosen };
        assert_eq!(last.said(), None);
        assert!(last.table(&history).to_string().contains("→ epoch 2"));
    }

    #[test]
    fn a_collapse_is_told_in_one_line() {
        let start = signals(0.9, 20, 0.30);
        let said = |history: &[EpochRecord]| warning(&start, history);
        assert_eq!(said(&[]), None);
        assert_eq!(said(&[record(1, 50.0, signals(0.9, 20, 0.35))]), None);
        assert!(said(&[record(1, 50.0, signals(0.9, 15, 0.35))]).unwrap().contains("15 of 20"));
        assert_eq!(said(&[record(1, 50.0, signals(0.9, 18, 0.35))]), None);
        // a class of a picture or two may leave the sample; of few classes each counts; one answer for all says nothing
        let (few, one) = (signals(0.3, 7, 0.2), Signals { largest_share: 1.0, ..signals(1.0, 1, 0.0) });
        assert_eq!(warning(&few, &[record(1, 50.0, signals(0.3, 5, 0.25))]), None);
        assert!(warning(&signals(0.9, 3, 0.2), &[record(1, 50.0, signals(0.9, 2, 0.2))]).is_some());
        assert_eq!(warning(&one, &[record(1, 50.0, signals(0.7, 1, 0.0))]), None);
        assert!(said(&[record(1, 50.0, signals(0.7, 20, 0.35))]).unwrap().contains("70 %"));
        let agreeing = |share| Signals { as_class_means: Some(share), ..signals(0.9, 20, 0.35) };
        assert_eq!(warning(&agreeing(0.9), &[record(1, 50.0, agreeing(0.86))]), None);
        assert!(warning(&agreeing(0.9), &[record(1, 50.0, agreeing(0.84))]).unwrap().contains("84 %"));
        let falling = [record(1, 50.0, signals(0.9, 20, 0.29)), record(2, 60.0, signals(0.9, 20, 0.25))];
        assert!(said(&falling).unwrap().contains("collapse"));
        let one_sided = Signals { largest_share: 0.9, ..start };
        assert_eq!(warning(&one_sided, &falling), None);
        assert_eq!(warning(&one_sided, &[record(1, 50.0, signals(0.5, 12, 0.35))]), None);
        assert!(falling.iter().all(|record| !format!("{record:?}").contains('\n')));
    }
}
