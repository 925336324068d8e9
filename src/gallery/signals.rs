//! What a run did, without a label: signals by epoch, answers by class.

use crate::error::Result;
use crate::eval::{Report, Signals};
use crate::experiment::Outcome;
use crate::plot::{self, Figure, Panel, Series, Sort};

/// Of more classes than this, those with the largest change are drawn; of equal changes, the most frequent.
const MOST_CLASSES: usize = 60;

/// The signals before tuning (epoch 0) and after each epoch, in percent; `None` without a stage two.
pub(super) fn signals(outcome: &Outcome) -> Result<Option<Figure>> {
    let Some(selection) = &outcome.report.selection else { return Ok(None) };
    let epochs = outcome.history.iter().filter_map(|record| Some((record.epoch as f64, record.signals?)));
    let points: Vec<(f64, Signals)> = std::iter::once((0.0, selection.start)).chain(epochs).collect();
    let series = |name: &str, of: fn(&Signals) -> f64| {
        Series::at(name, points.iter().map(|(epoch, signals)| (*epoch, 100.0 * of(signals))).collect::<Vec<_>>())
    };
    let named = Series::at("classes named", points.iter().map(|(epoch, s)| (*epoch, s.classes_named as f64)).collect::<Vec<_>>());
    let rising = vec![
        series("mutual information", |s| s.mutual_information),
        series("balance", |s| s.balance),
        series("confidence", |s| s.confidence),
        series("entropy", |s| s.entropy),
        series("nuclear norm", |s| s.nuclear_norm),
    ];
    let some = |name: &str, of: fn(&Signals) -> Option<f64>| {
        let points: Vec<(f64, f64)> = points.iter().filter_map(|(epoch, signals)| Some((*epoch, 100.0 * of(signals)?))).collect();
        (!points.is_empty()).then(|| Series::at(name, points))
    };
    let agreeing: Vec<Series> = [
        some("as before tuning", |s| s.as_before),
        some("as the teacher", |s| s.as_teacher),
        some("as the class means", |s| s.as_class_means),
        some("texts kept out", |s| s.texts_right),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut panels = vec![Panel::new("percent", rising)];
    if !agreeing.is_empty() {
        panels.push(Panel::new("answered alike, percent", agreeing));
    }
    panels.push(Panel::new("classes", vec![named]));
    plot::panels("Signals without labels", "epoch", &panels).map(Some)
}

/// How many training pictures each class got, of zero-shot, the text classifier and the result; `None` if nothing was predicted.
/// With what is shown, in words.
pub(super) fn answers(report: &Report) -> Result<Option<(String, Figure)>> {
    let mut rows: Vec<(&str, [usize; 3])> = report.answers.iter().map(|(name, counts)| (name, *counts)).collect();
    if rows.is_empty() {
        return Ok(None);
    }
    let mut caption = "How many training pictures each class got, before and after. No label is read.".to_string();
    if rows.len() > MOST_CLASSES {
        let change = |counts: &[usize; 3]| counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0);
        let which = if rows.iter().any(|(_, counts)| change(counts) > 0) { "that changed most" } else { "most frequent" };
        caption = format!("{caption} Of {} classes the {MOST_CLASSES} {which}.", rows.len());
        rows.sort_by_key(|(_, counts)| std::cmp::Reverse((change(counts), counts.iter().sum::<usize>())));
        rows.truncate(MOST_CLASSES);
    }
    let names: Vec<String> = rows.iter().map(|(name, _)| name.to_string()).collect();
    let series = |name: &str, which: usize| {
        Series::at(name, rows.iter().enumerate().map(|(at, (_, counts))| ((at + 1) as f64, counts[which] as f64)).collect::<Vec<_>>())
    };
    let all = [series("zero-shot", 0), series("text classifier", 1), series("result", 2)];
    Ok(Some((caption, plot::bars("Answers by class", "pictures", &names, &all, Sort::AsGiven)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_classes_those_that_changed_are_drawn_or_the_most_frequent() {
        let of = |counts: fn(usize) -> [usize; 3]| {
            let mut report = Report::new(serde_json::Value::Null, 1, "cpu");
            (0..100).for_each(|class| report.answers.set(format!("class {class:02}"), counts(class)));
            let (caption, figure) = answers(&report).unwrap().unwrap();
            (caption, figure.svg().contains("class 00"), figure.svg().contains("class 99"))
        };
        // the text classifier is the result
        let (caption, first, last) = of(|class| [0, class, class]);
        assert!(caption.ends_with("Of 100 classes the 60 that changed most.") && !first && last, "{caption}");
        let (caption, first, last) = of(|class| [class; 3]);
        assert!(caption.ends_with("Of 100 classes the 60 most frequent.") && !first && last, "{caption}");
    }
}
