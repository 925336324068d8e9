//! The sections of a report that hold more than an evaluation.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::epoch::EpochRecord;
use super::evaluation::Evaluation;

/// What goes with `pseudo_label_accuracy` in the file.
const PSEUDO_LABEL_NOTE: &str = "for analysis only: it reads the training labels, which the tuning never does";
/// What goes with `oracle_best` in the file.
const ORACLE_NOTE: &str = "the best epoch by test accuracy: chosen with the test labels, so not a result";

/// The text classifier's section: its evaluation's keys, and its training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextClassifierReport {
    /// On the test images.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// The mean loss of each epoch on the texts (eq. 2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loss: Vec<f64>,
}

/// LaFTer's section: the last epoch's evaluation, and the course of the tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LafterReport {
    /// On the test images, after the last epoch.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// Top-1 on the test images after each epoch, `null` if it was not asked; the last entry is `top1`. Scripts read it here; it
    /// is what [`history`](Self::history) says.
    #[serde(default, deserialize_with = "percents")]
    pub per_epoch: Vec<Option<f64>>,
    /// What each epoch did (eq. 3 and 4); empty in reports of versions that did not keep it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<EpochRecord>,
    /// Says in the file that the accuracy of pseudo-labels reads labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pseudo_label_note: Option<String>,
    /// The best epoch by test accuracy. Never a result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oracle_best: Option<OracleBest>,
}

/// The best epoch by test accuracy: what the paper's tables hold, and what nobody without test labels can choose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OracleBest {
    /// Top-1 of that epoch, in percent.
    pub top1: f64,
    /// The epoch, from 1.
    pub epoch: usize,
    /// Says in the file that test labels chose it.
    pub note: String,
}

impl LafterReport {
    /// The section of a run from its last evaluation and its history; `oracle_best` follows from it (of equal epochs the first).
    pub fn new(evaluation: Evaluation, history: Vec<EpochRecord>) -> Self {
        let mut best: Option<OracleBest> = None;
        for (top1, epoch) in history.iter().filter_map(|record| Some((record.test_top1?, record.epoch))) {
            if best.as_ref().is_none_or(|best| top1 > best.top1) {
                best = Some(OracleBest { top1, epoch, note: ORACLE_NOTE.to_string() });
            }
        }
        let reads_labels = history.iter().any(|record| record.pseudo_label_accuracy.is_some());
        Self {
            evaluation,
            per_epoch: history.iter().map(|record| record.test_top1).collect(),
            history,
            pseudo_label_note: reads_labels.then(|| PSEUDO_LABEL_NOTE.to_string()),
            oracle_best: best,
        }
    }
}

/// What is read must be percentages.
fn percents<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Option<f64>>, D::Error> {
    let read = Vec::<Option<f64>>::deserialize(deserializer)?;
    match read.iter().flatten().find(|value| !(0.0..=100.0 + 1e-9).contains(*value)) {
        Some(bad) => Err(D::Error::custom(format!("per_epoch: {bad} is not a percentage"))),
        None => Ok(read),
    }
}
