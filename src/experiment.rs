//! A whole run on one CLIP, one text set, one set of unlabeled images: all three numbers, the report, the figures.

mod agree;
mod answers;
mod loops;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use candle_core::{DType, Tensor};
use serde_json::json;

use crate::classify::{Head, TextEpoch};
use crate::clip::Clip;
use crate::data::Dataset;
use crate::data::scenes;
use crate::describe::TextSet;
use crate::device::tf32;
use crate::embed::{Encoded, FeatureCache, Keep, Pass};
use crate::error::{Error, Result, makes_room};
use crate::eval::{
    Evaluation, ImageCounts, LafterReport, ONE_SIDED, Report, Select, TextClassifierReport, TrainableCount, as_written, selected,
};
use crate::inputs::Inputs;
use crate::lafter::LaFTer;
use crate::nn::Precision;
use crate::predictions::{Predicted, TableFormat};
use crate::progress::{Event, silent};
use crate::ranks::{Alone, Ranks, file_of_first, told};
use crate::run_folder::{CHECKPOINT, EARLIER_REPORT, FEATURES, LOGITS, REPORT, RunFolder, SELECTED, WEIGHTS};
use crate::settings::{LafterConfig, Preset};
use crate::shared::{Shared, Trained};
use crate::tune::{EpochRecord, Run, Tuned, VisualPrompts};
use crate::watch::{Watch, fit_sample_of, fits_before, sample_of, signal_features};

/// Everything a run needs. It needs no label: those of `train` are read for analysis only, those of `test`, if there is a test set,
/// for evaluation only.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// The CLIP to start from; it is left as it is.
    pub clip: Clip,
    /// The texts of the classes, T in eq. 2.
    pub texts: TextSet,
    /// The unlabeled images, D in eq. 4.
    pub train: Dataset,
    /// The labeled images that all three classifiers are evaluated on; `None` if there are none, and signals stand in the
    /// accuracies' place.
    pub test: Option<Dataset>,
    /// Whose weights are the result; default the last epoch's.
    pub select: Select,
    /// Whether the training images are answered at the end: counted in the report and, with [`out`](Self::out), written as a table.
    /// It takes two passes through the tower. Default true.
    pub predictions: bool,
    /// How that table is written: `predictions.csv` (the default), `.jsonl` or `.parquet`.
    pub table: TableFormat,
    /// The settings of both stages, with the seed.
    pub config: LafterConfig,
    /// Where results and the checkpoint go; `None` writes nothing.
    pub out: Option<PathBuf>,
    /// Whether to go on from the checkpoints in `out`, if there are some; default false.
    pub resume: bool,
    /// How often a checkpoint is saved to `out` between two steps; one is saved after every epoch of tuning, too. Default
    /// 60 seconds.
    pub checkpoint_every: Duration,
    /// Where results that other runs need, too, are kept: text features, features of pictures from the untouched tower, zero-shot and
    /// text classifiers. `None` computes them anew.
    pub cache: Option<FeatureCache>,
    /// The processes that share the run, each of which runs the same experiment; default this one [alone](Alone). The first writes and
    /// speaks, the others know the same at the end.
    pub ranks: Arc<dyn Ranks>,
}

/// Of fewer watched pictures than this it says nothing that one answer has most of them.
const HANDFUL: usize = 5;

/// What a run returns.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// All numbers, as saved in `report.json`.
    pub report: Report,
    /// The trained classifiers; its [`tuned`](LaFTer::tuned) is the result, on the untuned tower where nothing that was tuned is it.
    pub lafter: LaFTer,
    /// What each epoch of stage one did.
    pub text_history: Vec<TextEpoch>,
    /// What each epoch of stage two did; empty if it was left out.
    pub history: Vec<EpochRecord>,
    /// Zero-shot (eq. 1) on the test images; this and the next three are `None` without a test set.
    pub zero_shot: Option<Evaluation>,
    /// The text classifier (eq. 2) on the test images.
    pub text_classifier: Option<Evaluation>,
    /// Features of the test images from the untouched tower.
    pub test_features: Option<Encoded>,
    /// LaFTer (eq. 4), after the last epoch, on the test images; `None` if stage two was left out (0 epochs).
    pub tuned: Option<Evaluation>,
    /// What the training images were answered, by the classifier that is the result; `None` without
    /// [`predictions`](Experiment::predictions).
    pub predicted: Option<Predicted>,
}

/// The seed of the demo's pictures ([`scenes::demo_sets`]).
pub const DEMO_PICTURES: u64 = 2;

impl Experiment {
    /// A run with the official settings that writes nothing; change the fields as needed.
    ///
    /// ```
    /// use lafter::{clip::Clip, data::scenes, experiment::Experiment, progress, LafterConfig, Preset};
    /// let (train, _) = scenes::demo_sets(2);
    /// let mut run = Experiment::new(Clip::demo()?, scenes::text_set()?, train.unlabeled().take(24), None);
    /// run.config = LafterConfig::new(Preset::Demo);
    /// (run.config.text.epochs, run.config.tune.epochs, run.config.tune.batch_size) = (5, 1, 8);
    /// let outcome = run.run(progress::silent)?;
    /// assert!(outcome.zero_shot.is_none() && outcome.history[0].signals.is_some());
    /// # Ok::<(), lafter::Error>(())
    /// ```
    pub fn new(clip: Clip, texts: TextSet, train: Dataset, test: impl Into<Option<Dataset>>) -> Self {
        let (config, checkpoint_every, select) = (LafterConfig::default(), Duration::from_secs(60), Select::Last);
        let (test, predictions, table, ranks) = (test.into(), true, TableFormat::default(), Arc::new(Alone));
        let (out, resume, cache) = (None, false, None);
        Self { clip, texts, train, test, select, predictions, table, config, out, resume, checkpoint_every, cache, ranks }
    }

    /// The demo: rendered scenes of the target domain, templates and descriptions of their classes, the demo preset.
    /// The pictures are the same for every seed.
    ///
    /// # Errors
    /// None in practice: the texts are part of the binary.
    pub fn demo(clip: Clip, seed: u64) -> Result<Self> {
        let (train, test) = scenes::demo_sets(DEMO_PICTURES);
        let config = LafterConfig { seed, ..LafterConfig::new(Preset::Demo) };
        Ok(Self { config, ..Self::new(clip, scenes::text_set()?, train.cached(1 << 30), test.cached(1 << 30)) })
    }

    /// What was understood of the model, the pictures, the classes and the texts: look at it before [`run`](Self::run).
    pub fn inputs(&self) -> Inputs {
        let inputs = Inputs::new(&self.clip).with_set("train", &self.train);
        let inputs = self.test.iter().fold(inputs, |inputs, test| inputs.with_set("test", test).with_overlap(&self.train, test));
        inputs.with_texts(&self.texts)
    }

    /// Zero-shot (eq. 1), text classifier (eq. 2), tuning (eq. 3, 4), each evaluated on the test images.
    ///
    /// Interrupted, it saves a checkpoint and says how to go on; a killed run goes on from its last checkpoint. Either way
    /// the report ends the same, bit for bit. Without [`resume`](Self::resume), what an earlier run left in
    /// [`out`](Self::out) is moved to the folder `previous` in it.
    ///
    /// # Errors
    /// [`Error::Usage`] if settings, texts or images are not those of the run to resume, or another run uses the folder;
    /// [`Error::Data`], [`Error::Text`] if sets and classes do not fit together; [`Error::Diverged`];
    /// [`Error::Interrupted`].
    pub fn run(&self, events: impl FnMut(&Event)) -> Result<Outcome> {
        let saves = self.out.is_some() && self.ranks.rank() == 0;
        self.run_with(&Shared::default(), events).map_err(|error| match error {
            Error::Interrupted(what) if saves => {
                Error::Interrupted(format!("{what}; all is saved: repeat the command with --resume to go on"))
            }
            // what was saved before is whole
            other if saves => with_room(other, "--resume goes on"),
            other => other,
        })
    }

    /// [`run`](Self::run), with what other runs of a grid have computed already: the same results, bit for bit. How to go on after a stop
    /// is for the caller to say.
    pub(crate) fn run_with(&self, shared: &Shared, mut events: impl FnMut(&Event)) -> Result<Outcome> {
        let first = self.ranks.rank() == 0;
        let mut events = |event: &Event| {
            if first {
                events(event);
            }
        };
        self.check()?;
        self.agree()?;
        let open = |out: &PathBuf| RunFolder::open(out, self.resume, &self.train, self.test.as_ref(), &mut events);
        let folder = self.out.as_ref().filter(|_| first).map(open).transpose()?;
        if let Some(folder) = &folder {
            self.can_go_on(folder)?;
            shared.know(&self.train, folder.train_images());
            self.test.iter().for_each(|test| shared.know(test, folder.test_images()));
        }
        self.stages(folder.as_ref(), shared, &mut events)
    }

    /// Refuses to tune anew, as if it went on, a run that is over and whose checkpoint is gone.
    fn can_go_on(&self, folder: &RunFolder) -> Result<()> {
        let over = || earlier_report(folder).is_some_and(|report| report.trainable.is_some());
        if self.resume && !folder.file(CHECKPOINT).exists() && over() {
            return Err(Error::Checkpoint(format!(
                "{} is gone, and the run in its folder is over: nothing is left to go on from. Without --resume its files are set aside; \
                 or give another --out",
                folder.file(CHECKPOINT).display()
            )));
        }
        Ok(())
    }

    fn stages(&self, folder: Option<&RunFolder>, shared: &Shared, mut events: &mut dyn FnMut(&Event)) -> Result<Outcome> {
        let mut report = Report::new(self.settings(), self.config.seed, device_name(self.clip.device()));
        report.tf32 = tf32(self.clip.device());
        report.extra.insert("inputs".into(), json!(self.inputs()));
        let mut lafter = LaFTer::new(self.clip.clone(), self.texts.classes());
        lafter.config = self.config.clone();

        let features = match &self.test {
            Some(test) => {
                let what = format!("test features at most {} unreadable", self.config.tune.max_unreadable);
                Some(shared.features(self, test, test, &what, &mut events, |events| self.test_features(test, folder, events))?)
            }
            None => None,
        };
        if let Some(features) = &features {
            report.timing.stage("test_features", features.seconds);
        }
        let started = std::time::Instant::now();
        let eq1 = shared.zero_shot(self, &mut events)?;
        let zero_shot = self.evaluate(features.as_ref(), |rows| Ok(eq1.logits(rows)?))?;
        report.timing.stage("zero_shot", started.elapsed().as_secs_f64());
        report.zero_shot = zero_shot.clone();

        let started = std::time::Instant::now();
        let train = |events: &mut dyn FnMut(&Event)| {
            let mut trainer = lafter.text_trainer_among(&*self.ranks, &self.texts, self.cache.as_ref(), &mut *events)?;
            let classifier = trainer.fit_among(&*self.ranks, |trainer| self.train_text(trainer, folder, events))?;
            Ok(Trained { classifier, history: trainer.history().to_vec(), held_out: trainer.held_out().cloned() })
        };
        let held_out = || Ok(lafter.text_trainer(&self.texts, self.cache.as_ref(), silent)?.held_out().cloned());
        let Trained { classifier, history: text_history, held_out } = shared.classifier(self, &mut events, train, held_out)?;
        lafter.set_text_classifier(classifier);
        report.timing.stage("text_classifier", started.elapsed().as_secs_f64());
        let eq2 = lafter.answering_classifier()?;
        let text_classifier = self.evaluate(features.as_ref(), |rows| Ok(eq2.logits(rows)?))?;
        let loss = text_history.iter().map(|epoch| f64::from(epoch.loss)).collect();
        report.text_classifier = text_classifier.clone().map(|evaluation| TextClassifierReport { evaluation, loss });
        self.count(&mut report, features.as_ref());

        let untuned = |head: Head| Tuned { vision: self.clip.vision().clone(), prompts: VisualPrompts::none(), head, normalize: true };
        let (mut history, mut tuned, mut left_out) = (Vec::new(), None, 0);
        if self.config.tune.epochs > 0 {
            self.clip.without_texts(); // they are encoded, and tuning needs the memory
            let mut run = Run::new(lafter.finetuner()?);
            run.tuner.share_among(self.ranks.clone());
            if self.config.tune.precision == Precision::Bf16 && run.tuner.tuned().vision.precision() == Some(Precision::F32) {
                events(&Event::Notice("this processor has no bf16 products: the tower multiplies in f32, as the report says".into()));
            }
            let started = std::time::Instant::now();
            let (sample, fit_sample) = (sample_of(&self.train), fit_sample_of(&self.train, self.config.tune.epochs));
            let mut untouched = |sample: &Dataset| {
                let what = format!("signals on {}", sample.len());
                shared.features(self, &self.train, sample, &what, &mut events, |events| signal_features(self, sample, events))
            };
            let (seen, fit_features) = (untouched(&sample)?, untouched(&fit_sample)?);
            let (mut fits, both) = fits_before(&fit_features.rows, &eq2, &eq1)?;
            let of_both = both.as_ref().map(|both| self.evaluate(features.as_ref(), |rows| Ok(both.logits(rows)?))).transpose()?;
            let mean_top1 = of_both.flatten().map(|evaluation| evaluation.top1);
            let watch = Watch::new(self, sample, &seen.rows, &eq2, &eq1, held_out)?;
            report.timing.stage("signals_before", started.elapsed().as_secs_f64());
            if watch.start.largest_share > ONE_SIDED && watch.start.pictures >= HANDFUL {
                events(&Event::Notice(format!(
                    "{:.0} % of the {} watched pictures get the same answer before tuning: if that is not so in truth, the names or texts \
                     do not fit; such a set and a spoiled one look the same to the signals, so they raise no alarm",
                    100.0 * watch.start.largest_share,
                    watch.start.pictures
                )));
            }
            let evaluation = self.tune(&mut run, &watch, folder, &mut events)?;
            history = run.history().to_vec();
            match &evaluation {
                Some(evaluation) => report.lafter = Some(LafterReport::new(evaluation.clone(), history.clone())),
                None => report.history = history.clone(),
            }
            let (seconds, images): (f64, usize) = (history.iter().map(|e| e.seconds).sum(), history.iter().map(|e| e.images).sum());
            report.timing.stage("tuning", seconds);
            report.timing.images_per_second(images as f64 / seconds.max(1e-9));
            report.timing.step_seconds(seconds / history.iter().map(|e| e.steps).sum::<usize>().max(1) as f64);
            let trainable = run.tuner.trainable();
            left_out = run.skipped().len();
            if let Some(images) = &mut report.images {
                // one picture may stand in both sets
                let known = images.skipped_reasons.clone();
                images.skipped_reasons.extend(run.skipped().into_iter().map(|(_, reason)| reason).filter(|reason| !known.contains(reason)));
                images.skipped = images.skipped_reasons.len();
            }
            report.trainable = Some(TrainableCount { count: trainable.count(), share: trainable.share() });
            report.precision = run.tuner.tuned().vision.precision();
            let last = run.tuner.tuned();
            let signals: Vec<_> = history.iter().map(|record| record.signals).collect();
            let asked = match selected(&watch.start, &signals) {
                0 => None,
                epoch if epoch == history.len() => Some((epoch, Ok(last.clone()))),
                epoch => {
                    let own = folder.map(|folder| folder.file(SELECTED));
                    let copy = if self.ranks.size() > 1 { file_of_first(&*self.ranks, own.as_deref())? } else { None };
                    Some((epoch, watch.kept(&last, epoch, own.as_deref().or(copy.as_deref()))))
                }
            };
            if let Some((epoch, tuned)) = &asked {
                fits.epoch = Some(*epoch);
                if let Ok(tuned) = tuned {
                    let (share, largest) = watch.fit_of(&self.clip, tuned, &fit_sample)?;
                    (fits.tuned, fits.largest.tuned) = (Some(share), largest);
                }
            }
            let asked = match asked {
                Some((_, Err(error))) if self.select == Select::Signals => return Err(error),
                asked => asked,
            };
            report.timing.stage("signals", watch.seconds.get());
            let mut selection = self.selection(&watch, fits, &history, zero_shot.as_ref(), text_classifier.as_ref(), mean_top1);
            if self.ranks.size() > 1 {
                selection = told(&*self.ranks, &selection)?.swap_remove(0);
            }
            if self.select == Select::Last {
                lafter.set_tuned(last);
            } else if let Some((_, tuned)) = asked.filter(|(epoch, _)| selection.selected == *epoch) {
                lafter.set_tuned(tuned?);
            } else {
                let (what, head) = match both.filter(|_| selection.mean_selected) {
                    Some(both) => ("the mean of zero-shot and the text classifier", both.head),
                    None if selection.zero_shot_selected => ("zero-shot", eq1.head()?),
                    None => ("the text classifier before tuning", eq2.head.clone()),
                };
                lafter.set_tuned(untuned(head));
                events(&Event::Notice(format!(
                    "the signals choose {what} ({}): lafter.safetensors holds it, on the untuned tower",
                    fits.said()
                )));
            }
            report.selection = Some(selection);
            tuned = evaluation;
        } else {
            lafter.set_tuned(untuned(eq2.head.clone()));
        }
        let predicted = match self.predictions {
            true => Some(self.predict(&lafter, &eq1, &eq2, folder, &mut report, &mut events)?),
            false => None,
        };
        if let (Some(predicted), Some(images)) = (&predicted, &mut report.images) {
            // a run that does not tune meets its training pictures here first
            let new = |(_, reason): &&(String, String)| !images.skipped_reasons.contains(reason);
            let new: Vec<String> = predicted.skipped.iter().filter(new).map(|(_, reason)| reason.clone()).collect();
            if let Some(first) = new.first() {
                events(&Event::Notice(format!("{} training pictures could not be read and have no answer, such as {first}", new.len())));
            }
            images.skipped_reasons.extend(new);
            images.skipped = images.skipped_reasons.len();
            left_out = left_out.max(predicted.skipped.len());
        }
        if let Some(images) = &mut report.images {
            images.train -= left_out.min(images.train);
        }
        report.note_memory();
        if let Some(folder) = folder.filter(|_| self.resume)
            && let Some(before) = earlier_report(folder)
        {
            report.keep_measured(&before)?;
        }
        let (test_features, zero_shot, text_classifier) = (features, zero_shot, text_classifier);
        let outcome = Outcome { report, lafter, text_history, history, zero_shot, text_classifier, test_features, tuned, predicted };
        if let Some(folder) = folder {
            outcome.lafter.save(folder.file(WEIGHTS))?;
            for notice in folder.changes(&self.train, self.test.as_ref())? {
                events(&Event::Notice(notice));
            }
            outcome.report.save(folder.file(REPORT))?; // last: a run that has a report is over
            folder.remove(EARLIER_REPORT)?;
            for name in [FEATURES, LOGITS] {
                Keep::new(folder.file(name), "", self.checkpoint_every).remove();
            }
        }
        Ok(outcome)
    }

    /// Features of the test images from the untouched tower, for both classifiers of stage one.
    fn test_features(&self, test: &Dataset, folder: Option<&RunFolder>, events: &mut dyn FnMut(&Event)) -> Result<Encoded> {
        let keep = folder.map(|folder| self.keep(folder, FEATURES, "features"));
        let max_unreadable = self.config.tune.max_unreadable;
        let pass = Pass { keep: keep.as_ref(), max_unreadable, ..Pass::new(test, &self.clip, "test features") };
        pass.run_among(&*self.ranks, events, |pixels| self.clip.encode_image(pixels))
    }

    fn keep(&self, folder: &RunFolder, name: &str, function: &str) -> Keep {
        let pictures = format!("{} {:?}", folder.test_images(), folder.test_versions());
        Keep::new(folder.file(name), &Keep::decisive_on(&self.clip, &pictures, function), self.checkpoint_every)
    }

    fn evaluate(&self, features: Option<&Encoded>, logits: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Option<Evaluation>> {
        match (features, &self.test) {
            (Some(features), Some(test)) => features.map(logits)?.evaluate(test).map(Some),
            _ => Ok(None),
        }
    }

    fn count(&self, report: &mut Report, features: Option<&Encoded>) {
        let counts = self.texts.counts();
        report.texts.set("class_names", counts.class_names);
        report.texts.set("templates", counts.templates);
        report.texts.set("descriptions", counts.descriptions);
        report.texts.set("dropped_empty", counts.dropped_empty);
        report.texts.set("dropped_duplicates", counts.dropped_duplicates);
        report.images = Some(ImageCounts {
            train: self.train.len(),
            test: features.map_or(0, |features| features.indices.len()),
            skipped: features.map_or(0, |features| features.skipped.len()),
            skipped_reasons: features.iter().flat_map(|features| &features.skipped).map(|(_, reason)| reason.clone()).collect(),
        });
    }

    /// The configuration as the report keeps it.
    pub(crate) fn settings(&self) -> serde_json::Value {
        let mut settings = json!({
            "model": self.clip.id(), "weights_hash": self.clip.weights_hash(), "settings_hash": self.clip.settings_hash(), "preset": self.config.preset,
            "train": self.train.origin(), "test": self.test.as_ref().map(Dataset::origin), "classes": self.texts.classes(),
            "texts": self.texts.hash(),
            "text": as_written(&self.config.text), "tune": as_written(&self.config.tune),
        });
        // both classifiers of stage one use the CLIP as it was loaded, whatever stage two multiplies in
        let loaded = (self.clip.dtype(), self.clip.precision());
        if loaded != (DType::F32, Precision::F32) {
            settings["loaded"] = json!({ "dtype": loaded.0.as_str(), "precision": loaded.1 });
        }
        settings
    }
}

/// Where a disk is full, or a file larger than it may be: with what to do when there is room.
pub(crate) fn with_room(error: Error, then: &str) -> Error {
    match error {
        Error::Io { path, source } => match makes_room(source.kind()) {
            Some(room) => Error::Io { path, source: std::io::Error::other(format!("{source}: {room}, then {then}")) },
            None => Error::Io { path, source },
        },
        other => other,
    }
}

/// Whether a disk is full, or a file larger than it may be.
pub(crate) fn is_full(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if makes_room(source.kind()).is_some())
}

/// The report of the run that the folder holds, if it is over, or was before it went on for more epochs.
fn earlier_report(folder: &RunFolder) -> Option<Report> {
    [REPORT, EARLIER_REPORT].iter().find_map(|name| Report::load(folder.file(name)).ok())
}

fn device_name(device: &candle_core::Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".into(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

#[cfg(test)]
mod tests;
