//! The end of a run: which epoch the signals choose, and what the training images are answered.

use std::collections::HashMap;

use candle_core::Tensor;

use super::Experiment;
use crate::classify::{TextClassifier, ZeroShotClassifier};
use crate::embed::Keep;
use crate::error::{Error, Result};
use crate::eval::{Choice, Evaluation, Fits, Report, Selection, unique_names};
use crate::lafter::LaFTer;
use crate::predictions::{Answers, Partial, Predicted, Predicting, TableFormat, save_table};
use crate::progress::Event;
use crate::run_folder::{PARTIAL_PREDICTIONS, RunFolder};
use crate::tune::{EpochRecord, known};
use crate::watch::Watch;

impl Experiment {
    /// What the signals choose, and what was taken.
    pub(super) fn selection(
        &self,
        watch: &Watch,
        fits: Fits,
        history: &[EpochRecord],
        zero_shot: Option<&Evaluation>,
        before: Option<&Evaluation>,
        mean_top1: Option<f64>,
    ) -> Selection {
        let top1 = |epoch: usize| match epoch.checked_sub(1) {
            Some(at) => history.get(at).and_then(|record| record.test_top1),
            None => before.map(|evaluation| evaluation.top1),
        };
        let choice = fits.choice();
        let (selected, selected_top1) = match choice {
            Choice::ZeroShot => (0, zero_shot.map(|evaluation| evaluation.top1)),
            Choice::TextClassifier => (0, top1(0)),
            Choice::Mean => (0, mean_top1),
            Choice::Epoch(epoch) => (epoch, top1(epoch)),
        };
        Selection {
            result: self.select,
            start: watch.start,
            zero_shot: Some(watch.zero_shot),
            fits: Some(fits),
            selected,
            zero_shot_selected: choice == Choice::ZeroShot,
            mean_selected: choice == Choice::Mean,
            mean_top1,
            selected_top1,
            last: history.len(),
            last_top1: top1(history.len()),
        }
    }

    /// What the training images are answered; as a table in the run's folder, if there is one.
    pub(super) fn predict(
        &self,
        lafter: &LaFTer,
        eq1: &ZeroShotClassifier,
        eq2: &TextClassifier,
        folder: Option<&RunFolder>,
        report: &mut Report,
        events: &mut dyn FnMut(&Event),
    ) -> Result<Predicted> {
        let started = std::time::Instant::now();
        let classes = &unique_names(self.texts.classes());
        let predicting =
            Predicting { max_unreadable: self.config.tune.max_unreadable, ..Predicting::new(&self.train, classes, &self.clip) };
        let result = lafter.tuned().ok_or_else(|| Error::Usage("there is no result to answer with yet".into()))?;
        let tuned: Vec<_> = known().iter().flat_map(|set| set.tensors(result)).collect();
        let head = eq2.head.tensors();
        let all = tuned.iter().chain(&head).map(|(_, tensor)| tensor).chain([&eq1.weights]);
        let pictures = format!("{} {:?}", self.train.fingerprint(), self.train.versions());
        let what = Keep::decisive_on(&self.clip, &pictures, &Keep::fingerprint(all)?);
        // the untuned tower sees a picture once
        let before = (!report.is_tuned()).then(|| TextClassifier { head: result.head.clone() });
        let (scratch, rows) = match folder {
            Some(folder) => (None, folder.file(PARTIAL_PREDICTIONS)),
            None => {
                let scratch = tempfile::tempdir().map_err(|e| Error::io(std::env::temp_dir(), e))?;
                let rows = scratch.path().join(PARTIAL_PREDICTIONS);
                (Some(scratch), rows)
            }
        };
        let answer = |pixels: &Tensor| {
            let features = self.clip.encode_image(pixels)?;
            let (zero_shot, text) = (eq1.logits(&features)?, eq2.logits(&features)?);
            let logits = before.as_ref().map_or_else(|| result.logits(pixels), |before| before.logits(&features))?;
            Ok(Answers { logits, zero_shot: Some(zero_shot), text_classifier: Some(text) })
        };
        let mut partial = Partial::open(&rows, &what)?;
        let mut counts = vec![[0usize; 3]; classes.len()];
        let places: HashMap<&str, usize> = classes.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
        let predicted = predicting.run_among(&*self.ranks, &mut partial, events, answer, |row| {
            let answers = [row.zero_shot.as_deref(), row.text_classifier.as_deref(), Some(row.class.as_str())];
            for (which, class) in answers.into_iter().enumerate() {
                if let Some(at) = class.and_then(|class| places.get(class)) {
                    counts[*at][which] += 1;
                }
            }
            Ok(())
        })?;
        if let Some(folder) = folder {
            save_table(folder.file(self.table.file_name()), &partial)?;
            // of a result before this one
            TableFormat::ALL.iter().filter(|other| **other != self.table).try_for_each(|other| folder.remove(other.file_name()))?;
        }
        partial.remove();
        drop(scratch);
        report.answers = classes.iter().cloned().zip(counts).collect();
        report.timing.stage("predictions", started.elapsed().as_secs_f64());
        Ok(predicted)
    }
}
