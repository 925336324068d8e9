//! The report of a run: what report.json holds and what the terminal shows of it.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::epoch::EpochRecord;
use super::evaluation::Evaluation;
use super::json::to_json;
use super::ordered_map::OrderedMap;
use super::peak_memory::peak_rss_bytes;
use super::sections::{LafterReport, TextClassifierReport};
use super::selection::{Select, Selection};
use super::table::Table;
use crate::error::{Error, Result};
use crate::files::save_atomically;
use crate::nn::Precision;

/// The report of a run. A run without a stage omits its section; data without labels omit all three.
///
/// Accuracies are in percent, `trainable.share` is a fraction.
///
/// ```
/// use lafter::eval::{Evaluation, Report};
/// let mut report = Report::new(serde_json::json!({"preset": "official"}), 7777, "cpu");
/// report.zero_shot = Some(Evaluation::from_logits(&[2.0, 1.0], &[0], &["river", "forest"])?);
/// report.timing.stage("text", 1.5);
/// let json = report.to_json()?;
/// assert!(json.contains("\"text_seconds\": 1.5"));
/// assert!(!json.contains("\"lafter\""));
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Eq. 1: the frozen towers and the class names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zero_shot: Option<Evaluation>,
    /// Eq. 2: the classifier trained on texts, on the untouched vision tower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_classifier: Option<TextClassifierReport>,
    /// Eq. 3 and 4: after the last epoch of label-free tuning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lafter: Option<LafterReport>,
    /// What each epoch of tuning did, if there were no labels to evaluate it on; with labels it stands in the section `lafter`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<EpochRecord>,
    /// Which epoch the signals choose, and whose weights are the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<Selection>,
    /// How many pictures of the training set got each class: of zero-shot, of the text classifier, at the end.
    #[serde(default, skip_serializing_if = "OrderedMap::is_empty")]
    pub answers: OrderedMap<[usize; 3]>,
    /// Seconds by stage and rates.
    #[serde(default)]
    pub timing: Timing,
    /// The most memory the process held up to the end of the numbers, before any figure is drawn; of a run that was resumed that of its
    /// last process. `null` if the system does not say.
    #[serde(default)]
    pub peak_rss_bytes: Option<u64>,
    /// What was tuned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trainable: Option<TrainableCount>,
    /// The number format in which the tuned tower's frozen layers really multiplied: f32 also where bf16 was asked of a processor
    /// without such products.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Whether a GPU multiplied f32 matrices in TF32; left out where it did not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tf32: bool,
    /// The images read and skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<ImageCounts>,
    /// Sentences kept, dropped and cut, by name.
    #[serde(default, skip_serializing_if = "OrderedMap::is_empty")]
    pub texts: OrderedMap<usize>,
    /// The whole configuration.
    pub config: serde_json::Value,
    /// The seed.
    pub seed: u64,
    /// The device: `cpu`, `cuda:0`.
    pub device: String,
    /// This crate's version.
    pub version: String,
    /// Whatever else a caller wants kept.
    #[serde(flatten)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

/// What was tuned, of what.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainableCount {
    /// Trainable parameters.
    pub count: usize,
    /// Their share of all parameters of the model, a fraction: 0.0039 for ViT-B/32.
    pub share: f64,
}

/// The images of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageCounts {
    /// Unlabeled training images used.
    pub train: usize,
    /// Test images used.
    pub test: usize,
    /// Images of both sets that could not be read and were left out; they are in neither number above.
    pub skipped: usize,
    /// Why, one line each, with the path.
    #[serde(default, skip_serializing_if = "Vec::is_empty", alias = "skipped_names")]
    pub skipped_reasons: Vec<String>,
}

/// What a text says of those of `all` images that were not used.
pub(crate) fn unread(all: usize, used: usize) -> Option<String> {
    (used < all).then(|| format!("{} could not be read", all - used))
}

/// Seconds by stage (`<stage>_seconds`) and rates, in the order they were noted.
///
/// Of a run that was stopped and resumed, `test_features`, `tuning` and the rates count the time of all its processes, the other stages
/// that of the last one. A run that was over when it was resumed keeps its times.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timing(OrderedMap<f64>);

impl Timing {
    /// Notes `<stage>_seconds`.
    pub fn stage(&mut self, stage: &str, seconds: f64) {
        self.0.set(format!("{stage}_seconds"), seconds);
    }

    /// Notes `images_per_second`, of the tuning.
    pub fn images_per_second(&mut self, rate: f64) {
        self.0.set("images_per_second", rate);
    }

    /// Notes `step_seconds`, the mean tuning step.
    pub fn step_seconds(&mut self, seconds: f64) {
        self.0.set("step_seconds", seconds);
    }

    /// A noted value by its key in the file.
    pub fn get(&self, key: &str) -> Option<f64> {
        self.0.get(key).copied()
    }

    /// Keys and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(key, value)| (key, *value))
    }
}

impl Report {
    /// An empty report of this version; the peak memory is that of the process up to now (see [`Report::note_memory`]).
    pub fn new(config: serde_json::Value, seed: u64, device: impl Into<String>) -> Self {
        Self {
            zero_shot: None,
            text_classifier: None,
            lafter: None,
            history: Vec::new(),
            selection: None,
            answers: OrderedMap::new(),
            timing: Timing::default(),
            peak_rss_bytes: peak_rss_bytes(),
            trainable: None,
            precision: None,
            tf32: false,
            images: None,
            texts: OrderedMap::new(),
            config,
            seed,
            device: device.into(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            extra: serde_json::Map::new(),
        }
    }

    /// Takes the peak memory again: call it at the end of the run.
    pub fn note_memory(&mut self) {
        self.peak_rss_bytes = peak_rss_bytes();
    }

    /// Takes over what was measured of the same run before, if `before` is its report: a pass that only repeats it measures nothing.
    pub(crate) fn keep_measured(&mut self, before: &Self) -> Result<()> {
        if before.without_timing().to_json()? == self.without_timing().to_json()? {
            self.timing = before.timing.clone();
            self.peak_rss_bytes = self.peak_rss_bytes.max(before.peak_rss_bytes);
        }
        Ok(())
    }

    /// The part that a second run with the same seed on the same machine gives bit for bit: all but timing and memory.
    pub fn without_timing(&self) -> Self {
        let mut same = Self { timing: Timing::default(), peak_rss_bytes: None, ..self.clone() };
        same.lafter.iter_mut().flat_map(|section| &mut section.history).chain(&mut same.history).for_each(|record| record.seconds = 0.0);
        same
    }

    /// The text of report.json.
    ///
    /// # Errors
    /// [`Error::Usage`] if an extra value has no JSON form.
    pub fn to_json(&self) -> Result<String> {
        to_json(self)
    }

    /// Writes report.json: whole or not at all, an older file survives a failure.
    ///
    /// # Errors
    /// [`Error::Io`] with the path.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        save_atomically(path, self.to_json()?.as_bytes())
    }

    /// Reads a saved report.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Data`] if it is not a report.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        serde_json::from_str(&text)
            .map_err(|e| Error::Data(format!("{} is not a report of this crate ({e}): give the report.json of a run", path.display())))
    }

    /// Whether what stage two tuned is the result: there was one, and the signals did not choose what was before it.
    pub fn is_tuned(&self) -> bool {
        let before = |selection: &Selection| selection.result == Select::Signals && selection.selected == 0;
        self.trainable.is_some() && !self.selection.as_ref().is_some_and(before)
    }

    /// The evaluations there are, with their names, in the order of the method.
    pub fn sections(&self) -> Vec<(&'static str, &Evaluation)> {
        let sections = [
            ("zero-shot", self.zero_shot.as_ref()),
            ("text classifier", self.text_classifier.as_ref().map(|section| &section.evaluation)),
            ("LaFTer", self.lafter.as_ref().map(|section| &section.evaluation)),
        ];
        sections.into_iter().filter_map(|(name, evaluation)| evaluation.map(|e| (name, e))).collect()
    }

    /// The numbers of the run: one row per stage, gains in points of top-1 over each stage before it. Without labels: the signals
    /// before tuning, of the epoch that they choose, and of the last.
    pub fn table(&self) -> Table {
        let sections = self.sections();
        if let (true, Some(selection)) = (sections.is_empty(), &self.selection) {
            return selection.table(&self.history);
        }
        let any_top5 = sections.iter().any(|(_, e)| e.top5.is_some());
        let earlier = sections.len().saturating_sub(1).min(2);
        let mut header = vec![String::new(), "top-1 %".to_string()];
        header.extend(sections.iter().take(earlier).map(|(name, _)| format!("over {name}")));
        header.extend(any_top5.then(|| "top-5 %".to_string()));
        header.push("calibration error %".to_string());
        let mut table = Table::new(&header);
        for (row, (name, e)) in sections.iter().enumerate() {
            let mut cells = vec![name.to_string(), format!("{:.2}", e.top1)];
            for (column, (_, base)) in sections.iter().take(earlier).enumerate() {
                cells.push(if column < row { gain(e.top1 - base.top1) } else { String::new() });
            }
            if any_top5 {
                cells.push(e.top5.map_or(String::new(), |top5| format!("{top5:.2}")));
            }
            cells.push(format!("{:.2}", e.calibration_error));
            table.push(cells);
        }
        table
    }

    /// Shows the table in a notebook (called by evcxr).
    pub fn evcxr_display(&self) {
        self.table().evcxr_display();
    }
}

/// Points with their sign; what rounds to nothing is no loss.
fn gain(points: f64) -> String {
    format!("{points:+.2}").replace("-0.00", "+0.00")
}

/// The table of [`Report::table`].
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sections().is_empty() {
            writeln!(f, "no accuracies: no labels to compare with (--test adds them)")?;
            return if self.selection.is_some() { self.table().fmt(f) } else { Ok(()) };
        }
        self.table().fmt(f)?;
        match self.selection.as_ref().and_then(Selection::said) {
            Some(said) => writeln!(f, "{said}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.sections().iter().map(|(name, e)| format!("{name} {:.2}", e.top1)).collect();
        write!(f, "Report({}; seed {}, {})", numbers.join(", "), self.seed, self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::EpochRecord;

    fn evaluation(hits: usize) -> Evaluation {
        let logits: Vec<f32> = (0..4).flat_map(|i| if i < hits { [1.0, 0.0] } else { [0.0, 1.0] }).collect();
        Evaluation::from_logits(&logits, &[0; 4], &["river <wide>", "forest"]).unwrap()
    }

    fn history(test_top1: &[Option<f64>]) -> Vec<EpochRecord> {
        let record = |(epoch, test_top1): (usize, &Option<f64>)| EpochRecord {
            epoch,
            loss: 0.5 / epoch as f64,
            agreement: 50.0,
            confidence: 40.0,
            kept: None,
            mean_weight: None,
            classes_named: None,
            terms: Default::default(),
            pseudo_label_accuracy: Some(75.0),
            test_top1: *test_top1,
            images: 4,
            steps: 1,
            seconds: 0.25,
            signals: None,
        };
        (1..).zip(test_top1).map(record).collect()
    }

    fn whole() -> Report {
        let mut report = Report::new(serde_json::json!({"preset": "official", "lr": 5e-4}), 7777, "cpu");
        report.zero_shot = Some(evaluation(1));
        report.text_classifier = Some(TextClassifierReport { evaluation: evaluation(2), loss: vec![1.5, 0.5] });
        report.lafter = Some(LafterReport::new(evaluation(3), history(&[Some(50.0), Some(100.0), Some(75.0)])));
        report.timing.stage("text", 1.5);
        report.timing.images_per_second(30.5);
        report.timing.step_seconds(0.25);
        report.trainable = Some(TrainableCount { count: 128, share: 0.0039 });
        report.images = Some(ImageCounts { train: 4, test: 4, skipped: 1, skipped_reasons: vec!["a.png: truncated".into()] });
        report.texts.set("sentences", 12);
        report.extra.insert("note".into(), "kept".into());
        report
    }

    #[test]
    fn the_file_has_the_keys_that_scripts_rely_on() {
        let json = serde_json::to_value(whole()).unwrap();
        assert_eq!(json["zero_shot"]["top1"], 25.0);
        assert_eq!(json["zero_shot"]["per_class"]["river <wide>"], 25.0);
        assert_eq!(json["text_classifier"]["top1"], 50.0);
        assert_eq!(json["lafter"]["top1"], 75.0);
        assert_eq!(json["lafter"]["per_epoch"], serde_json::json!([50.0, 100.0, 75.0]));
        assert_eq!((&json["lafter"]["history"][2]["test_top1"], &json["lafter"]["history"][2]["epoch"]), (&75.0.into(), &3.into()));
        assert_eq!(json["lafter"]["oracle_best"]["epoch"], 2);
        assert!(json["lafter"]["pseudo_label_note"].as_str().unwrap().contains("analysis only"));
        assert_eq!(json["timing"], serde_json::json!({"text_seconds": 1.5, "images_per_second": 30.5, "step_seconds": 0.25}));
        assert_eq!(json["trainable"], serde_json::json!({"count": 128, "share": 0.0039}));
        assert_eq!(json["seed"], 7777);
        assert_eq!((&json["device"], &json["version"]), (&"cpu".into(), &env!("CARGO_PKG_VERSION").into()));
        assert_eq!(json["config"]["preset"], "official");
        assert_eq!((&json["note"], json.get("tf32")), (&"kept".into(), None));
        #[cfg(unix)]
        assert!(json["peak_rss_bytes"].as_u64().unwrap() > 0);
    }

    #[test]
    fn saved_and_loaded_it_is_the_same_but_for_the_predictions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        let report = whole();
        report.save(&path).unwrap();
        let loaded = Report::load(&path).unwrap();
        assert_eq!(loaded.to_json().unwrap(), report.to_json().unwrap());
        assert_eq!(loaded.extra.len(), 1, "known keys must not be taken for extras: {:?}", loaded.extra.keys());
        Report { tf32: true, ..report.clone() }.save(&path).unwrap();
        assert!(Report::load(&path).unwrap().tf32 && !loaded.tf32);
        let older = report.to_json().unwrap().replace("skipped_reasons", "skipped_names");
        std::fs::write(&path, older).unwrap();
        assert_eq!(Report::load(&path).unwrap().images, report.images);
        // before there was a history there were lists of its numbers
        let mut older = serde_json::to_value(&report).unwrap();
        let section = older["lafter"].as_object_mut().unwrap();
        section.remove("history").unwrap();
        section.insert("loss".into(), serde_json::json!([0.5, 0.25, 0.125]));
        std::fs::write(&path, older.to_string()).unwrap();
        let section = Report::load(&path).unwrap().lafter.unwrap();
        assert_eq!((section.per_epoch.len(), section.history.len()), (3, 0));
        std::fs::write(&path, "{}").unwrap();
        assert!(matches!(Report::load(&path), Err(Error::Data(message)) if message.lines().count() == 1));
        assert!(matches!(Report::load(dir.path().join("none")), Err(Error::Io { .. })));
    }

    #[test]
    fn the_best_epoch_is_counted_over_all_epochs_not_over_those_that_were_evaluated() {
        let lafter = LafterReport::new(evaluation(3), history(&[None, None, Some(80.0), None, Some(75.0)]));
        assert_eq!(lafter.oracle_best.unwrap().epoch, 3);
        assert!(LafterReport::new(evaluation(3), history(&[None; 2])).oracle_best.is_none());
    }

    #[test]
    fn two_runs_compare_without_their_timing() {
        let (a, mut b) = (whole(), whole());
        b.timing.stage("text", 2.5);
        b.peak_rss_bytes = Some(1);
        b.lafter.as_mut().unwrap().history[0].seconds = 7.0;
        assert_ne!(a, b);
        assert_eq!(a.without_timing().to_json().unwrap(), b.without_timing().to_json().unwrap());
        let mut again = a.clone();
        again.keep_measured(&b).unwrap();
        assert_eq!((&again.timing, again.peak_rss_bytes), (&b.timing, a.peak_rss_bytes.max(Some(1))));
        let mut other = Report { seed: 1, ..a.clone() };
        other.keep_measured(&b).unwrap();
        assert_eq!(other.timing, a.timing);
    }

    #[test]
    fn the_table_shows_the_gains() {
        let text = whole().to_string();
        let last = text.lines().last().unwrap();
        assert!(last.starts_with("LaFTer") && last.contains("75.00") && last.contains("+50.00") && last.contains("+25.00"), "{text}");
        assert_eq!([-0.004, 0.0, -0.006, -10.001].map(gain), ["+0.00", "+0.00", "-0.01", "-10.00"]);
        let mut short = whole();
        (short.text_classifier, short.lafter) = (None, None);
        assert_eq!(short.to_string().lines().count(), 3);
        assert!(!serde_json::to_string(&short).unwrap().contains("lafter\""));
        short.zero_shot = None;
        assert!(short.to_string().contains("no labels"));
        assert_eq!(format!("{:?}", whole()), "Report(zero-shot 25.00, text classifier 50.00, LaFTer 75.00; seed 7777, cpu)");
    }
}
