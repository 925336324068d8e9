//! The sections of a report that hold more than an evaluation.

use serde::{Deserialize, Serialize};

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
    /// Top-1 on the test images after each epoch, `null` if it was not asked; the last entry is `top1`.
    #[serde(default)]
    pub per_epoch: Vec<Option<f64>>,
    /// The mean tuning loss of each epoch (eq. 4).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loss: Vec<f64>,
    /// How many pseudo-labels (eq. 3) of each epoch were right, in percent. For analysis only: it reads labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pseudo_label_accuracy: Vec<f64>,
    /// Says so in the file.
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
    /// The section of a run: `per_epoch` is the top-1 on the test images after each epoch, `None` if it was not asked;
    /// `oracle_best` follows from it (of equal epochs the first).
    pub fn new(evaluation: Evaluation, per_epoch: Vec<Option<f64>>, loss: Vec<f64>) -> Self {
        let mut best: Option<OracleBest> = None;
        for (top1, epoch) in per_epoch.iter().zip(1..).filter_map(|(top1, epoch)| Some(((*top1)?, epoch))) {
            if best.as_ref().is_none_or(|best| top1 > best.top1) {
                best = Some(OracleBest { top1, epoch, note: ORACLE_NOTE.to_string() });
            }
        }
        Self { evaluation, per_epoch, loss, pseudo_label_accuracy: Vec::new(), pseudo_label_note: None, oracle_best: best }
    }

    /// The same with the accuracy of each epoch's pseudo-labels, and the note that it reads labels.
    pub fn with_pseudo_label_accuracy(mut self, per_epoch: Vec<f64>) -> Self {
        self.pseudo_label_note = (!per_epoch.is_empty()).then(|| PSEUDO_LABEL_NOTE.to_string());
        self.pseudo_label_accuracy = per_epoch;
        self
    }
}
