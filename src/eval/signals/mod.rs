//! What can be said about answers without a label: confidence, balance, information, and how each misleads.

pub(crate) mod agreement;
mod density;
mod spectrum;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::progress::check_interrupt;

/// Signals of a classifier's answers on pictures without labels, all but counts and neighborhood density between 0 and 1.
///
/// With p_i the softmax of picture i's logits, p̄ their mean, C classes, n pictures and H the entropy. None of them is an accuracy: a
/// classifier that names one class for every picture, surely, is confident, has low entropy and the greatest neighborhood density.
/// What falls in that case is what looks at p̄: balance, classes named, mutual information, nuclear norm. These in turn assume that
/// the classes are about equally frequent.
///
/// ```
/// use lafter::eval::Signals;
/// let sure = Signals::of(&[9., 0., 0., 9.], 2)?; // two pictures, two classes
/// let collapsed = Signals::of(&[9., 0., 9., 0.], 2)?;
/// assert_eq!(sure.confidence, collapsed.confidence);
/// assert!(sure.mutual_information > 0.99 && collapsed.mutual_information < 0.01);
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signals {
    /// n
    pub pictures: usize,
    /// The mean of max_c p_ic. It rises in almost every tuning, right or wrong.
    pub confidence: f64,
    /// The mean of H(p_i), over log C: 0 if every answer is sure. It falls as confidence rises.
    pub entropy: f64,
    /// H(p̄) / log C: 1 if all classes are equally frequent, 0 if all pictures get one. A truly unbalanced set has a low one, too:
    /// compare it with its own value before tuning.
    pub balance: f64,
    /// Classes that are the answer for at least one picture. A class that none of the pictures shows is rightly missing.
    pub classes_named: usize,
    /// The share of the pictures that get the most frequent answer, 0 to 1; 0 in files of versions that did not record it.
    #[serde(default)]
    pub largest_share: f64,
    /// (H(p̄) − mean H(p_i)) / log C: what an answer says about a picture. It falls if answers become alike or unsure.
    pub mutual_information: f64,
    /// ‖P‖_* / √(n min(n, C)), the sum of the singular values of the matrix of probabilities: high for sure and diverse answers.
    pub nuclear_norm: f64,
    /// Soft neighborhood density (Saito et al. 2021): the mean entropy of the softmax over cosines between p_i and all others,
    /// over 0.05; up to log(n − 1). **Greatest for a collapsed classifier**: no choice may rest on it.
    #[serde(alias = "neighbourhood_density")] // as earlier versions wrote it
    pub neighborhood_density: f64,
    /// MaNo (Xie et al. 2024), the matrix norm of normalized logits with exponent 4. It tells how far logits are from the
    /// boundary, not whether they are right.
    pub mano: f64,
    /// The share of pictures that are answered as before tuning, 0 to 1. Where it falls far, tuning has found other classes, right
    /// or wrong; 1 says that it does nothing. `None` where no run was watched, as in the next three.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_before: Option<f64>,
    /// Agreement of student and teacher: the share of pictures, of every fourth of each batch of the sample, whose weak view both answer
    /// alike. It rises as the student learns what it is told, and also as both collapse. (Of the teacher on weak and the student on strong
    /// views, [`EpochRecord::agreement`](super::EpochRecord::agreement) tells.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_teacher: Option<f64>,
    /// Agreement of texts and pictures: the share of pictures that the head, which comes from texts, answers as the nearest mean of
    /// the other pictures' features does, class by class. It is high where the classes lie apart in the tower, also wrong ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_class_means: Option<f64>,
    /// The share of the [texts that were kept out](crate::classify::TextClassifierConfig::hold_out) of eq. 2 whose class the head
    /// names. It falls as the head forgets the texts; pictures have no part in it. `None` if none were kept out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub texts_right: Option<f64>,
}

impl Signals {
    /// The signals of logits `[n, C]`, row by row. The time grows with n² C, for the neighborhood density: 2,000 rows tell as much.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is no whole row, fewer than two classes, or a logit is not finite; [`Error::Interrupted`] for more than
    /// 4,096 rows.
    pub fn of(logits: &[f32], classes: usize) -> Result<Self> {
        if classes < 2 || logits.is_empty() || !logits.len().is_multiple_of(classes) {
            let n = logits.len();
            return Err(Error::Shape(format!("signals need rows of at least two logits, got {n} logits for {classes} classes")));
        }
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(Error::Shape("signals of logits that are not finite: the weights are damaged, or training diverged".into()));
        }
        let n = logits.len() / classes;
        let log_p: Vec<f64> = logits.chunks(classes).flat_map(log_softmax).collect(); // [n, C]
        let p: Vec<f64> = log_p.iter().map(|log_p| log_p.exp()).collect();
        let log_c = (classes as f64).ln();
        let mut mean = vec![0f64; classes];
        p.chunks(classes).for_each(|row| mean.iter_mut().zip(row).for_each(|(mean, p)| *mean += p / n as f64));
        let whole = entropy(&mean) / log_c;
        let each = p.chunks(classes).map(entropy).sum::<f64>() / n as f64 / log_c;
        let mut named = vec![0usize; classes];
        let mut confidence = 0.0;
        for row in p.chunks(classes) {
            let best = (1..classes).fold(0, |best, c| if row[c] > row[best] { c } else { best });
            named[best] += 1;
            confidence += row[best] / n as f64;
        }
        let neighborhood_density = density::neighborhood(&p, classes);
        if n > density::AT_ONCE {
            check_interrupt("signals")?;
        }
        Ok(Self {
            pictures: n,
            confidence,
            entropy: each,
            balance: whole,
            classes_named: named.iter().filter(|pictures| **pictures > 0).count(),
            largest_share: named.iter().max().map_or(0.0, |most| *most as f64 / n as f64),
            mutual_information: (whole - each).max(0.0), // below 0 by rounding only
            nuclear_norm: spectrum::nuclear_norm(&p, classes) / (n as f64 * n.min(classes) as f64).sqrt(),
            neighborhood_density,
            mano: mano(logits, &log_p, classes),
            as_before: None,
            as_teacher: None,
            as_class_means: None,
            texts_right: None,
        })
    }
}

fn log_softmax(row: &[f32]) -> impl Iterator<Item = f64> {
    let most = row.iter().fold(f64::NEG_INFINITY, |most, v| most.max(f64::from(*v)));
    let total = row.iter().map(|v| (f64::from(*v) - most).exp()).sum::<f64>().ln();
    row.iter().map(move |v| f64::from(*v) - most - total)
}

/// −Σ p log p
fn entropy(p: &[f64]) -> f64 {
    let sum: f64 = p.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum();
    (0.0 - sum).max(0.0) // below 0 by rounding only, and not −0
}

/// (mean of q⁴ over n·C)^¼; q is the softmax if the mean cross entropy with the uniform exceeds 5, else 1 + ℓ + ℓ²/2 less its least
/// value in the row, divided by its sum.
fn mano(logits: &[f32], log_p: &[f64], classes: usize) -> f64 {
    let count = logits.len() as f64;
    let from_uniform = -log_p.iter().sum::<f64>() / count;
    let fourth: f64 = if from_uniform > 5.0 {
        log_p.iter().map(|log_p| (4.0 * log_p).exp()).sum()
    } else {
        let taylor = |logit: &f32| 1.0 + f64::from(*logit) + 0.5 * f64::from(*logit).powi(2);
        let row = |row: &[f32]| {
            let values: Vec<f64> = row.iter().map(taylor).collect();
            let least = values.iter().fold(f64::INFINITY, |least, v| least.min(*v));
            let total: f64 = values.iter().map(|v| v - least).sum();
            if total > 0.0 { values.iter().map(|v| ((v - least) / total).powi(4)).sum::<f64>() } else { 0.0 }
        };
        logits.chunks(classes).map(row).sum()
    };
    (fourth / count).powf(0.25)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twelve pictures, four classes; `class` gives the class of a picture.
    fn one_hot(size: f32, class: impl Fn(usize) -> usize) -> Vec<f32> {
        (0..48).map(|i| if i % 4 == class(i / 4) { size } else { 0.0 }).collect()
    }

    #[test]
    fn the_three_published_cases_have_their_values() {
        let cases = [one_hot(4.0, |i| i % 4), one_hot(0.3, |i| i % 4), one_hot(4.0, |_| 2)];
        let signals = cases.map(|logits| Signals::of(&logits, 4).unwrap());
        let close = |found: [f64; 3], expected: [f64; 3]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 6e-5), "{found:?} {expected:?}");
        };
        close(signals.map(|s| s.mutual_information), [0.8111, 0.0067, 0.0]);
        close(signals.map(|s| s.nuclear_norm), [0.9479, 0.3103, 0.4742]);
        close(signals.map(|s| s.neighborhood_density), [2f64.ln(), 2.3746, 2.3979]);
        close(signals.map(|s| s.mano), [0.5f64.sqrt(); 3]);
        close(signals.map(|s| s.confidence), [0.9479, 0.3103, 0.9479]);
        close(signals.map(|s| s.classes_named as f64), [4.0, 4.0, 1.0]);
        close(signals.map(|s| s.largest_share), [0.25, 0.25, 1.0]);
        close(signals.map(|s| s.balance), [1.0, 1.0, signals[2].entropy]);
    }

    #[test]
    fn what_an_earlier_version_wrote_is_read() {
        let signals = Signals::of(&one_hot(4.0, |i| i % 4), 4).unwrap();
        let older = serde_json::to_string(&signals).unwrap().replace("neighborhood", "neighbourhood");
        assert_eq!(serde_json::from_str::<Signals>(&older).unwrap(), signals);
    }

    #[test]
    fn many_classes_and_few_pictures_have_signals_too() {
        let logits: Vec<f32> = (0..3 * 500).map(|i| ((i * 7919) % 1000) as f32 / 50.0).collect();
        let signals = Signals::of(&logits, 500).unwrap();
        assert!(signals.nuclear_norm > 0.0 && signals.nuclear_norm <= 1.0 && signals.mano > 0.0, "{signals:?}");
        assert!(Signals::of(&[1.0, 2.0, 3.0], 2).is_err() && Signals::of(&[], 2).is_err());
        assert!(Signals::of(&[1.0, f32::NAN], 2).is_err());
        let one = Signals::of(&[1000.0, 0.0, 1000.0, 0.0], 2).unwrap(); // all are surely of one class
        assert_eq!(format!("{:.1} {:.1}", one.balance, one.entropy), "0.0 0.0");
        let alike = Signals::of(&[0.0; 8], 4).unwrap(); // no picture differs from another
        assert!(alike.mutual_information.abs() < 1e-12 && (alike.entropy - 1.0).abs() < 1e-12, "{alike:?}");
    }
}
