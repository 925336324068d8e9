//! Calibration: does a confidence of 80 % mean 80 % right?

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The number of bins of the expected calibration error, as in Guo et al. 2017.
pub const CALIBRATION_BINS: usize = 15;

/// One bar of the reliability diagram: the predictions whose confidence lies in (`from`, `to`], all in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Lower edge, excluded (the first bin takes 0 in), in percent.
    pub from: f64,
    /// Upper edge, included, in percent.
    pub to: f64,
    /// Predictions in the bin.
    pub n: usize,
    /// Their mean confidence, in percent; 0 if the bin is empty.
    pub confidence: f64,
    /// How many of them are right, in percent; 0 if the bin is empty.
    pub accuracy: f64,
}

/// The expected calibration error in percent, and its bins:
/// `ECE = Σ_b (n_b / n) · |accuracy_b − confidence_b|` over `bins` bins of equal width (Guo et al. 2017, eq. 5).
///
/// `confidences` are probabilities in 0 to 1 (the greatest of each softmax), `correct` says which predictions were right.
///
/// # Errors
/// [`Error::Usage`] for lists of different lengths or none, no bins, or a confidence outside 0 to 1.
///
/// ```
/// let (error, bins) = lafter::eval::calibration_error(&[0.9, 0.9], &[true, false], 10)?;
/// assert!((error - 40.0).abs() < 1e-9); // 90 % sure, 50 % right
/// assert_eq!(bins[8].n, 2);
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn calibration_error(confidences: &[f64], correct: &[bool], bins: usize) -> Result<(f64, Vec<Bin>)> {
    if confidences.len() != correct.len() || confidences.is_empty() || bins == 0 {
        let (n, m) = (confidences.len(), correct.len());
        return Err(Error::Usage(format!(
            "calibration of {n} confidences, {m} outcomes, {bins} bins: give one outcome a confidence, and at least 1 of each"
        )));
    }
    if let Some(bad) = confidences.iter().find(|c| !(0.0..=1.0).contains(*c)) {
        return Err(Error::Usage(format!("confidence {bad} is not a probability: take the softmax of the logits first")));
    }
    let width = 100.0 / bins as f64;
    let mut result: Vec<Bin> = (0..bins).map(|b| Bin { from: b as f64 * width, to: (b + 1) as f64 * width, ..Bin::default() }).collect();
    for (&confidence, &right) in confidences.iter().zip(correct) {
        let index = ((confidence * bins as f64).ceil() as usize).clamp(1, bins) - 1;
        if let Some(bin) = result.get_mut(index) {
            bin.n += 1;
            bin.confidence += 100.0 * confidence;
            bin.accuracy += if right { 100.0 } else { 0.0 };
        }
    }
    let mut error = 0.0;
    for bin in result.iter_mut().filter(|bin| bin.n > 0) {
        error += (bin.accuracy - bin.confidence).abs() / confidences.len() as f64;
        bin.confidence /= bin.n as f64;
        bin.accuracy /= bin.n as f64;
    }
    Ok((error, result))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_belong_to_the_bin_below_and_the_ends_are_kept() {
        let (_, bins) = calibration_error(&[0.0, 0.5, 0.500_001, 1.0], &[true; 4], 2).unwrap();
        assert_eq!([bins[0].n, bins[1].n], [2, 2]);
        assert_eq!((bins[1].from, bins[1].to), (50.0, 100.0));
    }

    #[test]
    fn a_calibrated_classifier_has_no_error() {
        let confidences = [0.75; 8];
        let correct = [true, true, true, false, true, true, true, false];
        assert!(calibration_error(&confidences, &correct, CALIBRATION_BINS).unwrap().0 < 1e-12);
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        assert!(calibration_error(&[1.5], &[true], 15).is_err());
        assert!(calibration_error(&[f64::NAN], &[true], 15).is_err());
        assert!(calibration_error(&[], &[], 15).is_err());
        assert!(calibration_error(&[0.5], &[true], 0).is_err());
    }
}
