//! One picture's answer.

use serde::{Deserialize, Serialize};

/// The class of a picture whose answer is less probable than asked for.
pub const UNKNOWN: &str = "unknown";

/// What was answered for one picture: a row of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PredictionRow {
    /// Its position in the data set, from 0; the table has no column for it but in JSON lines.
    pub index: usize,
    /// The picture's name: its path, or a file and a row.
    pub picture: String,
    /// The class with the greatest probability, or [`UNKNOWN`].
    pub class: String,
    /// Its probability, 0 to 1: the softmax of the logits, which is not calibrated.
    pub probability: f64,
    /// The class with the next greatest probability; empty if there is one class only.
    pub runner_up: String,
    /// By how much the two probabilities differ.
    pub margin: f64,
    /// What zero-shot answers (eq. 1), if it was asked.
    pub zero_shot: Option<String>,
    /// What the text classifier answers (eq. 2), before any tuning, if it was asked.
    pub text_classifier: Option<String>,
    /// Whether the class is another than the text classifier's answer, before tuning.
    pub changed: Option<bool>,
    /// The most probable classes, as many as were asked for; only JSON lines have them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<(String, f64)>,
}

/// The probabilities of the `count` most probable classes; of equal ones the first comes first, as in [`crate::eval::argmax_rows`].
pub(super) fn most_probable(logits: &[f32], count: usize) -> Vec<(usize, f64)> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| (logits[*b] + 0.0).total_cmp(&(logits[*a] + 0.0))); // -0 + 0 is 0
    let most = order.first().map_or(0.0, |best| f64::from(logits[*best]));
    let total: f64 = logits.iter().map(|logit| (f64::from(*logit) - most).exp()).sum();
    order.into_iter().take(count).map(|class| (class, (f64::from(logits[class]) - most).exp() / total)).collect()
}

#[cfg(test)]
mod tests {
    use super::most_probable;

    #[test]
    fn the_first_of_equal_classes_is_the_answer() {
        for equal in [[0.0, 0.0], [-0.0, 0.0]] {
            assert_eq!(most_probable(&equal, 9), [(0, 0.5), (1, 0.5)]);
            assert_eq!(crate::eval::argmax_rows(&equal, 2), [0]);
        }
        assert_eq!(most_probable(&[3.0], 2), [(0, 1.0)]);
        let [(best, p), (next, q)] = most_probable(&[1.0, 1000.0, 999.0], 2)[..] else { panic!() };
        assert_eq!((best, next), (1, 2));
        assert!((p - 0.731_058_6).abs() < 1e-6 && (p + q - 1.0).abs() < 1e-6);
    }
}
