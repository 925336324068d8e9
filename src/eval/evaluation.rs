//! One classifier on one labeled set: top-1, top-5, per class, confusion, calibration.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::calibration::{Bin, CALIBRATION_BINS, calibration_error};
use super::confusion::{Confusion, Form};
use super::metrics::{argmax_rows, percent, rank_of, unique_names};
use super::ordered_map::OrderedMap;
use super::table::Table;
use crate::error::{Error, Result, noun};

/// How one class fares.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassAccuracy {
    /// The class name; of classes that share one, the later are told apart by their index ([`unique_names`]).
    pub name: String,
    /// Its images found, in percent; `None` if the set has no image of it.
    pub accuracy: Option<f64>,
    /// Its images.
    pub n: usize,
}

/// The measures of a classifier on labeled images. All rates are in percent, calibration and confidence too, so that
/// they compare with the accuracies.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Evaluation {
    /// Images.
    pub n: usize,
    /// Images whose class has the greatest logit.
    pub top1: f64,
    /// Images whose class is among the five greatest logits; `None` below 6 classes, where it would be 100 by construction.
    pub top5: Option<f64>,
    /// The expected calibration error over 15 bins ([`calibration_error`]).
    pub calibration_error: f64,
    /// The mean probability of the predicted class.
    pub mean_confidence: f64,
    /// The bins of the reliability diagram.
    pub calibration: Vec<Bin>,
    /// By class, in class order.
    pub per_class: Vec<ClassAccuracy>,
    /// Which classes are taken for which.
    pub confusion: Confusion,
    /// The predicted class of every image, in input order. Not saved with a report: empty after loading.
    pub predictions: Vec<usize>,
    /// The probability of that class, 0 to 1. Not saved with a report, either.
    pub confidences: Vec<f64>,
}

impl Evaluation {
    /// Measures `logits` against `labels`.
    ///
    /// The calibration is that of the softmax of these logits: cosines must be multiplied by the logit scale first.
    ///
    /// # Shapes
    /// `logits` `[n, classes]`, row by row; `labels` `[n]`.
    ///
    /// # Errors
    /// [`Error::Usage`] for no images or classes, lengths that do not fit, or a label that is not a class;
    /// [`Error::Shape`] for logits that are not finite.
    ///
    /// ```
    /// use lafter::eval::Evaluation;
    /// let logits = [2.0, 0.0, 0.0, 1.0, 3.0, 0.0]; // three images, two classes
    /// let evaluation = Evaluation::from_logits(&logits, &[0, 1, 1], &["river", "forest"])?;
    /// assert_eq!(evaluation.confusion.dense(), [[1, 0], [1, 1]]);
    /// assert_eq!(evaluation.per_class[1].accuracy, Some(50.0));
    /// println!("{evaluation}");
    /// # Ok::<(), lafter::Error>(())
    /// ```
    pub fn from_logits<S: AsRef<str>>(logits: &[f32], labels: &[usize], classes: &[S]) -> Result<Self> {
        let (n, k) = (labels.len(), classes.len());
        if n == 0 || k == 0 {
            return Err(Error::Usage(format!("an evaluation of {n} images over {k} classes: at least 1 of each is needed")));
        }
        if logits.len() != n * k {
            return Err(Error::Usage(format!(
                "expected logits [{n}, {k}] = {} values for {n} labels and {k} classes, got {}: was the head made for other classes?",
                n * k,
                logits.len()
            )));
        }
        if let Some(at) = logits.iter().position(|value| !value.is_finite()) {
            return Err(Error::Shape(format!(
                "the logits of image {} are not finite: the weights are damaged or overflow (copy them again), or training diverged (lower the \
                 learning rate)",
                at / k
            )));
        }
        if let Some((image, label)) = labels.iter().enumerate().find(|&(_, &label)| label >= k) {
            return Err(Error::Usage(format!(
                "image {image} has label {label}, but there are only {k} classes: do the class names belong to this data set?"
            )));
        }
        let predictions = argmax_rows(logits, k);
        let mut confusion = Confusion::new(k);
        let (mut hits, mut hits5) = (0, 0);
        let mut correct = Vec::with_capacity(n);
        let mut confidences = Vec::with_capacity(n);
        for ((row, &label), &predicted) in logits.chunks_exact(k).zip(labels).zip(&predictions) {
            confusion.add(label, predicted, 1);
            hits += usize::from(label == predicted);
            hits5 += usize::from(rank_of(row, label) < 5);
            correct.push(label == predicted);
            confidences.push(greatest_probability(row));
        }
        let (error, calibration) = calibration_error(&confidences, &correct, CALIBRATION_BINS)?;
        Ok(Self {
            n,
            top1: percent(hits, n),
            top5: (k > 5).then(|| percent(hits5, n)),
            calibration_error: error,
            mean_confidence: 100.0 * confidences.iter().sum::<f64>() / n as f64,
            calibration,
            per_class: per_class(unique_names(classes), &confusion),
            confusion,
            predictions,
            confidences,
        })
    }

    /// The class names, told apart if they are equal, in class order.
    pub fn class_names(&self) -> Vec<String> {
        self.per_class.iter().map(|class| class.name.clone()).collect()
    }

    /// The mean of the accuracies of the classes that have images, in percent: every class counts the same.
    pub fn mean_per_class(&self) -> f64 {
        let known: Vec<f64> = self.per_class.iter().filter_map(|class| class.accuracy).collect();
        if known.is_empty() { 0.0 } else { known.iter().sum::<f64>() / known.len() as f64 }
    }

    /// The `most` most frequent mistakes: (true class, predicted class, images), the most frequent first.
    pub fn mistakes(&self, most: usize) -> Vec<(String, String, usize)> {
        let mut pairs: Vec<(usize, usize, usize)> = self.confusion.iter().filter(|(truth, predicted, _)| truth != predicted).collect();
        pairs.sort_by_key(|&(truth, predicted, n)| (std::cmp::Reverse(n), truth, predicted));
        pairs.truncate(most);
        let name = |class: usize| self.per_class.get(class).map(|c| c.name.clone()).unwrap_or_default();
        pairs.into_iter().map(|(truth, predicted, n)| (name(truth), name(predicted), n)).collect()
    }

    /// Per-class accuracies below the overall ones, as a table.
    pub fn table(&self) -> Table {
        let mut table = Table::new(&["class", "top-1 %", "images"]);
        for class in &self.per_class {
            table.push([class.name.clone(), class.accuracy.map_or("–".into(), |a| format!("{a:.1}")), class.n.to_string()]);
        }
        table.push(["all".into(), format!("{:.1}", self.top1), self.n.to_string()]);
        table
    }

    /// Shows the table in a notebook (called by evcxr).
    pub fn evcxr_display(&self) {
        self.table().evcxr_display();
    }
}

fn per_class(names: Vec<String>, confusion: &Confusion) -> Vec<ClassAccuracy> {
    let class = |(index, name): (usize, String)| {
        let n = confusion.images(index);
        ClassAccuracy { name, accuracy: (n > 0).then(|| percent(confusion.get(index, index), n)), n }
    };
    names.into_iter().enumerate().map(class).collect()
}

/// The greatest entry of the softmax of a row, in 64 bits: exp(max − max) / Σ exp(v − max).
fn greatest_probability(row: &[f32]) -> f64 {
    let greatest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    1.0 / row.iter().map(|&value| (f64::from(value) - f64::from(greatest)).exp()).sum::<f64>()
}

/// One line of the overall numbers, then one line per class.
impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "top-1 {:.1} %", self.top1)?;
        if let Some(top5) = self.top5 {
            write!(f, ", top-5 {top5:.1} %")?;
        }
        let (error, confidence) = (self.calibration_error, self.mean_confidence);
        writeln!(f, ", calibration error {error:.1}, mean confidence {confidence:.1} %, {} {}", self.n, noun(self.n, "image"))?;
        write!(f, "{}", self.table())
    }
}

impl fmt::Debug for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Evaluation(top-1 {:.2} %, {} images, {} classes)", self.top1, self.n, self.per_class.len())
    }
}

/// The form in report.json: `per_class` maps names to percent; the numbers of images are the confusion's row sums.
#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    top1: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    top5: Option<f64>,
    n: usize,
    calibration_error: f64,
    mean_confidence: f64,
    per_class: OrderedMap<Option<f64>>,
    confusion: Form,
    calibration: Vec<Bin>,
}

impl From<Evaluation> for Stored {
    fn from(e: Evaluation) -> Self {
        Self {
            top1: e.top1,
            top5: e.top5,
            n: e.n,
            calibration_error: e.calibration_error,
            mean_confidence: e.mean_confidence,
            per_class: e.per_class.into_iter().map(|class| (class.name, class.accuracy)).collect(),
            confusion: e.confusion.into(),
            calibration: e.calibration,
        }
    }
}

impl TryFrom<Stored> for Evaluation {
    type Error = String;

    fn try_from(s: Stored) -> std::result::Result<Self, String> {
        let k = s.per_class.len();
        let percents = [s.top1, s.calibration_error, s.mean_confidence].into_iter().chain(s.top5);
        if let Some(bad) = percents.into_iter().find(|value| !(0.0..=100.0 + 1e-9).contains(value)) {
            return Err(format!("{bad} is not a percentage"));
        }
        let Some(confusion) = s.confusion.read(k, s.n) else {
            return Err(format!("the confusion matrix does not fit the {k} classes of per_class and {} images", s.n));
        };
        let names = s.per_class.iter().map(|(name, _)| name.to_string()).collect();
        Ok(Self {
            n: s.n,
            top1: s.top1,
            top5: s.top5,
            calibration_error: s.calibration_error,
            mean_confidence: s.mean_confidence,
            calibration: s.calibration,
            per_class: per_class(names, &confusion),
            confusion,
            predictions: Vec::new(),
            confidences: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seven classes, three images: a top-1 hit, a rank of 4, a rank of 5.
    fn seven() -> Evaluation {
        let mut logits = vec![0f32; 21];
        logits[0] = 4.0;
        (0..5).for_each(|c| logits[7 + c] = (5 - c) as f32);
        (0..6).for_each(|c| logits[14 + c] = (6 - c) as f32);
        Evaluation::from_logits(&logits, &[0, 4, 5], &["a", "b", "a", "d", "e", "f", "g"]).unwrap()
    }

    #[test]
    fn top5_counts_ranks_below_five() {
        let e = seven();
        assert!((e.top1 - 100.0 / 3.0).abs() < 1e-9);
        assert!((e.top5.unwrap() - 200.0 / 3.0).abs() < 1e-9);
        assert_eq!(e.predictions, [0, 0, 0]);
        assert_eq!(e.per_class[2], ClassAccuracy { name: "a (#2)".into(), accuracy: None, n: 0 });
        assert_eq!(e.mistakes(9), [("e".into(), "a".into(), 1), ("f".into(), "a".into(), 1)]);
        assert!((e.mean_per_class() - 100.0 / 3.0).abs() < 1e-9);
        assert_eq!(e.calibration.iter().map(|bin| bin.n).sum::<usize>(), 3);
    }

    #[test]
    fn softmax_is_stable_for_large_logits() {
        assert_eq!(greatest_probability(&[3e38, -3e38]), 1.0);
        assert!((greatest_probability(&[1000.0, 1000.0]) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn few_classes_have_no_top5() {
        let e = Evaluation::from_logits(&[0.0, 1.0], &[1], &["a", "b"]).unwrap();
        assert_eq!((e.top1, e.top5), (100.0, None));
        assert!(!serde_json::to_string(&e).unwrap().contains("top5"));
    }

    #[test]
    fn bad_input_is_an_error() {
        let classes = ["a", "b"];
        for (logits, labels) in [(vec![], vec![]), (vec![0.0; 3], vec![0]), (vec![0.0; 2], vec![2]), (vec![f32::NAN, 0.0], vec![0])] {
            let error = Evaluation::from_logits(&logits, &labels, &classes).unwrap_err();
            assert_eq!(error.to_string().lines().count(), 1);
        }
        assert!(Evaluation::from_logits::<&str>(&[], &[0], &[]).is_err());
    }

    #[test]
    fn the_stored_form_maps_names_to_percent_and_comes_back() {
        let e = seven();
        let json = serde_json::to_value(&e).unwrap();
        assert_eq!(json["per_class"]["a"], 100.0);
        assert!(json["per_class"]["a (#2)"].is_null() && json.get("predictions").is_none());
        let keys: Vec<_> = json["per_class"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, e.class_names());
        let back: Evaluation = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(back, Evaluation { predictions: vec![], confidences: vec![], ..e });
        let mut broken = json;
        broken["confusion"] = serde_json::json!([[1]]);
        assert!(serde_json::from_value::<Evaluation>(broken).is_err());
        for impossible in [6e200, 4294967295.0, -1.0] {
            let mut broken = serde_json::to_value(seven()).unwrap();
            broken["top1"] = impossible.into();
            assert!(serde_json::from_value::<Evaluation>(broken).unwrap_err().to_string().contains("not a percentage"));
        }
    }

    #[test]
    fn shown_short() {
        assert_eq!(format!("{:?}", seven()), "Evaluation(top-1 33.33 %, 3 images, 7 classes)");
        let text = seven().to_string();
        assert!(text.starts_with("top-1 33.3 %, top-5 66.7 %, calibration error "), "{text}");
        assert!(text.contains("a (#2)"));
    }
}
