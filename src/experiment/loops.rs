//! Both stages' loops with their checkpoints, and the evaluation and signals after an epoch.

use serde_json::json;

use super::Experiment;
use crate::checkpoint::Autosave;
use crate::classify::{TextClassifier, TextTrainer};
use crate::embed::{Keep, Pass};
use crate::error::{Error, Result};
use crate::eval::{Evaluation, as_written, selected, warning};
use crate::files::save_atomically;
use crate::progress::Event;
use crate::ranks::file_of_first;
use crate::run_folder::{CHECKPOINT, HISTORY, LOGITS, RunFolder, SELECTED, TEXT_CHECKPOINT};
use crate::tune::Run;
use crate::watch::Watch;

impl Experiment {
    /// The text classifier's loop with its checkpoint.
    pub(super) fn train_text(
        &self,
        trainer: &mut TextTrainer,
        folder: Option<&RunFolder>,
        events: &mut dyn FnMut(&Event),
    ) -> Result<TextClassifier> {
        let Some(path) = folder.map(|folder| folder.file(TEXT_CHECKPOINT)) else { return trainer.fit(events) };
        if self.resume && path.exists() {
            trainer.resume(&path)?;
        }
        trainer.autosave(Autosave::new(&path, self.checkpoint_every));
        let result = trainer.fit(events);
        if matches!(result, Ok(_) | Err(Error::Interrupted(_))) {
            trainer.checkpoint(&path)?;
        }
        result
    }

    /// The tuning loop with evaluation, checkpoint and history after each epoch.
    pub(super) fn tune(
        &self,
        run: &mut Run,
        watch: &Watch,
        folder: Option<&RunFolder>,
        events: &mut dyn FnMut(&Event),
    ) -> Result<Option<Evaluation>> {
        let path = folder.map(|folder| folder.file(CHECKPOINT));
        // the disks of the others may not hold it
        let copy = if self.resume && self.ranks.size() > 1 { file_of_first(&*self.ranks, path.as_deref())? } else { None };
        let own = path.as_deref().filter(|path| self.resume && path.exists());
        if let Some(checkpoint) = own.or(copy.as_deref()) {
            run.resume(checkpoint)?;
            events(&Event::Notice(format!("resumed after epoch {} of {}", run.history().len(), self.config.tune.epochs)));
        }
        if let (Some(folder), true) = (folder, run.history().len() < self.config.tune.epochs) {
            folder.reopen()?;
        }
        if let Some(path) = path {
            run.autosave(Autosave::new(path, self.checkpoint_every));
        }
        let result = self.tune_and_evaluate(run, watch, folder, events);
        if let Err(Error::Interrupted(_)) = result {
            save_progress(run, folder)?;
        }
        result
    }

    fn tune_and_evaluate(
        &self,
        run: &mut Run,
        watch: &Watch,
        folder: Option<&RunFolder>,
        events: &mut dyn FnMut(&Event),
    ) -> Result<Option<Evaluation>> {
        let (epochs, every) = (self.config.tune.epochs, self.config.tune.eval_every);
        loop {
            // before the next epoch is trained: a resumed run first does the evaluation that the kill prevented
            let done = run.history().len();
            if run.history().last().is_some_and(|epoch| epoch.signals.is_none()) {
                self.note_signals(run, watch, folder, &mut *events)?;
                save_progress(run, folder)?;
            }
            let unknown = run.history().last().is_some_and(|epoch| epoch.test_top1.is_none()) && self.test.is_some();
            if done >= epochs || (unknown && every > 0 && done.is_multiple_of(every)) {
                let evaluation = self.evaluate_run(run, folder, &mut *events)?;
                if let Some(evaluation) = &evaluation {
                    run.note_test_accuracy(evaluation.top1);
                }
                save_progress(run, folder)?;
                if done >= epochs {
                    return Ok(evaluation);
                }
            }
            run.fit_epoch(&self.train, &mut *events)?;
            save_progress(run, folder)?;
        }
    }

    /// The signals of the epoch that is over; what it means for the user, and whether to keep its weights.
    fn note_signals(&self, run: &mut Run, watch: &Watch, folder: Option<&RunFolder>, events: &mut dyn FnMut(&Event)) -> Result<()> {
        let tuned = run.tuner.tuned();
        run.note_signals(watch.signals(&self.clip, &run.tuner)?);
        if let Some(warning) = warning(&watch.start, run.history()) {
            events(&Event::Notice(warning));
        }
        let epochs: Vec<_> = run.history().iter().map(|record| record.signals).collect();
        if selected(&watch.start, &epochs) == epochs.len() {
            watch.keep(&tuned, epochs.len(), folder.map(|folder| folder.file(SELECTED)).as_deref())?;
        }
        Ok(())
    }

    /// LaFTer's inference on the test images, as the tuner stands; `None` if there are none.
    fn evaluate_run(&self, run: &Run, folder: Option<&RunFolder>, events: &mut dyn FnMut(&Event)) -> Result<Option<Evaluation>> {
        let Some(test) = &self.test else { return Ok(None) };
        let tuned = run.tuner.tuned();
        let params = || Keep::fingerprint(run.tuner.trainable().params.iter().map(|param| param.var.as_tensor()));
        let keep =
            folder.map(|folder| Ok::<_, Error>(self.keep(folder, LOGITS, &format!("{} {:?}", params()?, as_written(&self.config.tune)))));
        let keep = keep.transpose()?;
        let max_unreadable = self.config.tune.max_unreadable;
        let pass = Pass { keep: keep.as_ref(), max_unreadable, ..Pass::new(test, &self.clip, "evaluating") };
        pass.run_among(&*self.ranks, events, |pixels| Ok(tuned.logits(pixels)?))?.evaluate(test).map(Some)
    }
}

/// Checkpoint and history, if this run has a folder.
fn save_progress(run: &Run, folder: Option<&RunFolder>) -> Result<()> {
    let Some(folder) = folder else { return Ok(()) };
    run.checkpoint(folder.file(CHECKPOINT))?;
    let lines: Vec<String> = run.history().iter().map(|record| json!(record).to_string() + "\n").collect();
    save_atomically(folder.file(HISTORY), lines.concat().as_bytes())
}
