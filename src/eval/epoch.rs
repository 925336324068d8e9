//! What each epoch of tuning did: the one history that checkpoints, history.jsonl, reports and figures share.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::signals::Signals;

/// What one epoch did; one line of history.jsonl.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Number of the epoch, from 1.
    pub epoch: usize,
    /// Mean loss of eq. 4.
    pub loss: f64,
    /// Percent of images whose strong view the student classifies as the pseudo-label says.
    pub agreement: f64,
    /// Mean softmax confidence of the pseudo-labels, percent.
    pub confidence: f64,
    /// Percent of images whose pseudo-label counted, its weight above 0; `None` if no rule gave weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<f64>,
    /// Mean weight of the pseudo-labels in the loss; `None` if no rule gave weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_weight: Option<f64>,
    /// How many classes the pseudo-labels named that counted; `None` in histories of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes_named: Option<usize>,
    /// Mean loss of each term of the objective by its name, before its weight in the sum; empty if there is one term only. A second
    /// term of a kind is called `distillation 2`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub terms: BTreeMap<String, f64>,
    /// Percent of pseudo-labels that are right. For analysis only: it reads labels, which training never does.
    pub pseudo_label_accuracy: Option<f64>,
    /// Top-1 accuracy on the test set in percent, if one was evaluated after this epoch.
    pub test_top1: Option<f64>,
    /// Signals of the answers after this epoch, on a fixed sample of weak views of the training images; no label is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signals: Option<Signals>,
    /// Images trained on; unreadable ones are not counted.
    pub images: usize,
    /// Steps of the epoch, one per batch.
    pub steps: usize,
    /// Training time in seconds, waiting for the views included.
    pub seconds: f64,
}
