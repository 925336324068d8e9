//! Answers for any data set, batch by batch.

use std::collections::HashMap;
use std::time::Instant;

use candle_core::{Device, Tensor};
use image::RgbImage;

use super::{Answers, Partial, Picks, PredictionRow, Rows};
use crate::adapt::ManyViews;
use crate::augment::{Form, Preprocess, Transfer};
use crate::clip::Clip;
use crate::data::{Dataset, epoch_batches, prefetch_with};
use crate::embed::BATCH;
use crate::error::{Error, Result};
use crate::eval::unique_names;
use crate::progress::{Event, Stage, interrupted, watched};
use crate::ranks::{Alone, Ranks, any, told};

/// Pictures that are picked of each kind and class.
const PICKS: usize = 9;

/// A pass over pictures that keeps one batch in memory: rows go to a [`Partial`] file, from which they are read when the pass is over.
#[derive(Clone, Copy, Debug)]
pub struct Predicting<'a> {
    /// The pictures; labels are not looked at.
    pub dataset: &'a Dataset,
    /// The class names, in the order of the logits.
    pub classes: &'a [String],
    /// The weak view.
    pub preprocess: &'a Preprocess,
    /// Where the pixels go.
    pub device: &'a Device,
    /// Pictures per batch.
    pub batch_size: usize,
    /// The least probability, 0 to 1, of an answer that is not [`UNKNOWN`](super::UNKNOWN); 0 takes every answer.
    pub threshold: f64,
    /// Classes to list for each picture; 0 lists none.
    pub top: usize,
    /// Several views of each picture instead of the weak one alone, if the answer takes them: the pixels then have as many rows a
    /// picture.
    pub views: Option<&'a ManyViews>,
    /// Share of unreadable pictures above which the pass fails, 0 to 1.
    pub max_unreadable: f64,
}

/// What a pass came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Predicted {
    /// How many pictures got each class, in the order of the class names, and last those that are [`UNKNOWN`](super::UNKNOWN).
    pub counts: Vec<usize>,
    /// Pictures that could not be read, name and reason.
    pub skipped: Vec<(String, String)>,
    /// How many answers tuning changed; `None` if there was no text classifier to compare with.
    pub changed: Option<usize>,
    /// Some pictures of each class, to look at.
    pub picks: Picks,
    /// Time of this pass in seconds, without what an earlier one had done.
    pub seconds: f64,
}

impl<'a> Predicting<'a> {
    /// As this CLIP sees pictures, in batches of [`BATCH`], every answer taken.
    pub fn new(dataset: &'a Dataset, classes: &'a [String], clip: &'a Clip) -> Self {
        let (preprocess, device) = (clip.preprocess(), clip.device());
        Self { dataset, classes, preprocess, device, batch_size: BATCH, threshold: 0.0, top: 0, views: None, max_unreadable: 1.0 }
    }

    /// Answers what `partial` does not hold yet; each row goes to `each` as it is made, those of an earlier pass first.
    ///
    /// # Shapes
    /// `answer`: pixels `[batch · views, 3, side, side]` → logits `[batch, C]`.
    ///
    /// # Errors
    /// [`Error::Data`] if too many pictures, or all, cannot be read; [`Error::Shape`] if there is not one logit a class;
    /// [`Error::Weights`] for logits that are not finite; [`Error::Interrupted`] between two batches, of which none is lost;
    /// [`Error::Io`]; and the errors of `answer` and `each`.
    pub fn run(
        &self,
        partial: &mut Partial,
        events: impl FnMut(&Event),
        answer: impl FnMut(&Tensor) -> Result<Answers>,
        each: impl FnMut(&PredictionRow) -> Result<()>,
    ) -> Result<Predicted> {
        self.run_among(&Alone, partial, events, answer, each)
    }

    /// [`run`](Self::run) shared among ranks, each of which takes every so many-th batch and gets the rows of all: batches and rows are
    /// those of one process. What counts is the first rank's `partial`, with which any number of them goes on; those of the others become
    /// copies of it. An answer may not depend on the batches before.
    ///
    /// # Errors
    /// As [`run`](Self::run), on all of them where one is interrupted; if a rank is gone.
    pub fn run_among(
        &self,
        ranks: &dyn Ranks,
        partial: &mut Partial,
        mut events: impl FnMut(&Event),
        mut answer: impl FnMut(&Tensor) -> Result<Answers>,
        mut each: impl FnMut(&PredictionRow) -> Result<()>,
    ) -> Result<Predicted> {
        let Self { dataset, batch_size, .. } = *self;
        let mut events = watched(&mut events);
        let (total, size, started) = (dataset.len(), ranks.size(), Instant::now());
        let stage = Stage::from("predicting");
        let done = |batches: usize| (batches * batch_size).min(total);
        events(&Event::Started { stage: stage.clone(), total, unit: "pictures".into() });
        let mut sums = Sums::new(self.classes);
        partial.shared(ranks)?;
        if partial.batches > 0 {
            events(&Event::Notice(format!("predicting: {} of {total} pictures were done before and are kept", done(partial.batches))));
            partial.each(|row| {
                sums.add(row);
                each(row)
            })?;
        }
        let (view, more) = (self.preprocess.clone(), self.views.cloned());
        let (mut pixels, form) = (Transfer::new(self.preprocess, self.device)?, Form::new(self.device));
        let mut todo = epoch_batches(total, batch_size, false, None);
        todo.drain(..partial.batches.min(todo.len()));
        let own = todo.iter().skip(ranks.rank()).step_by(size).cloned().collect();
        let batches = prefetch_with(dataset, own, 2, move |pictures, index| {
            let weak = |picture: &RgbImage| view.image(picture);
            let Some(more) = &more else { return Ok(vec![form.view(pictures.view(index, view.geometry_key(), None, &weak)?)]) };
            let picture = pictures.image(index)?;
            let further = more.further(&picture, index);
            Ok(std::iter::once(weak(&picture)).chain(further).map(|view| form.view(view)).collect())
        });
        let (log, mut seen) = (batches.skipped(), 0);
        let mut batches = batches.max_unreadable(if size > 1 { 1.0 } else { self.max_unreadable });
        for round in todo.chunks(size) {
            let batch = if interrupted() { None } else { batches.next().transpose()? };
            if any(ranks, interrupted())? {
                return Err(Error::Interrupted(format!("interrupted: predicting: {} of {total} pictures are done", done(partial.batches))));
            }
            let mut rows = Vec::new();
            if let Some(batch) = batch.filter(|batch| !batch.items.is_empty()) {
                let pixels = pixels.batch(batch.items.into_iter().flatten().collect())?; // [batch · views, 3, side, side]
                let Self { classes, threshold, top, .. } = *self;
                rows = Rows { classes, threshold, top }.of(&batch.indices, |index| dataset.name(index), &answer(&pixels)?)?;
            }
            let skipped = if log.count() > seen { log.entries().split_off(seen) } else { Vec::new() };
            seen += skipped.len();
            let all = if size > 1 { told(ranks, &(rows, skipped))? } else { vec![(rows, skipped)] };
            for (rows, skipped) in all.into_iter().take(round.len()) {
                for row in &rows {
                    sums.add(row);
                    each(row)?;
                }
                partial.add(&rows, skipped)?;
            }
            if size > 1 && partial.skipped.len() as f64 > self.max_unreadable * total as f64 {
                let (count, origin) = (partial.skipped.len(), dataset.origin());
                return Err(Error::Data(format!("{origin}: {count} of {total} pictures cannot be read: repair or remove them")));
            }
            events(&Event::Advanced { stage: stage.clone(), done: done(partial.batches), total, loss: None, accuracy: None });
        }
        if sums.rows == 0 {
            let reason = partial.skipped.first().map(|(_, reason)| format!(": {reason}")).unwrap_or_default();
            partial.clear()?; // there is nothing to go on with
            return Err(Error::Data(format!("no image of {} could be read{reason}", dataset.origin())));
        }
        if let Some(notice) = sums.undecided() {
            events(&Event::Notice(notice));
        }
        let seconds = started.elapsed().as_secs_f64();
        events(&Event::Finished { stage, seconds });
        Ok(sums.predicted(partial.skipped.clone(), seconds))
    }
}

impl Predicted {
    /// Of rows that were made all at once.
    pub fn of(rows: &[PredictionRow], classes: &[String], skipped: Vec<(String, String)>, seconds: f64) -> Self {
        let mut sums = Sums::new(classes);
        rows.iter().for_each(|row| sums.add(row));
        sums.predicted(skipped, seconds)
    }
}

/// What rows add up to.
struct Sums {
    places: HashMap<String, usize>,
    counts: Vec<usize>,
    rows: usize,
    compared: bool,
    changed: usize,
    /// Rows in which every class is as probable as every other.
    undecided: usize,
    picks: Picks,
}

impl Sums {
    fn new(classes: &[String]) -> Self {
        let places = unique_names(classes).into_iter().zip(0..).collect();
        Self { places, counts: vec![0; classes.len() + 1], rows: 0, compared: false, changed: 0, undecided: 0, picks: Picks::new(PICKS) }
    }

    fn add(&mut self, row: &PredictionRow) {
        let at = self.places.get(row.class.as_str()).copied().unwrap_or(self.counts.len() - 1);
        self.counts[at] += 1;
        self.rows += 1;
        self.compared |= row.changed.is_some();
        self.changed += usize::from(row.changed == Some(true));
        let classes = self.counts.len() - 1;
        self.undecided += usize::from(classes > 1 && row.probability * classes as f64 <= 1.0 + 1e-9);
        self.picks.add(row);
    }

    /// Says so where answers decide nothing: features whose length overflows become zeros.
    fn undecided(&self) -> Option<String> {
        let Self { undecided, rows, .. } = self;
        (*undecided > 0).then(|| {
            format!(
                "{undecided} of {rows} pictures have the same probability for every class, so their answer is the first one: look at the \
                 model's weights"
            )
        })
    }

    fn predicted(self, skipped: Vec<(String, String)>, seconds: f64) -> Predicted {
        let changed = self.compared.then_some(self.changed);
        Predicted { changed, counts: self.counts, picks: self.picks, skipped, seconds }
    }
}
