//! A pass over the weak views of a data set, in input order.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};

use super::{BATCH, Encoded, Keep, Kept};
use crate::augment::{Form, Preprocess, Transfer};
use crate::clip::Clip;
use crate::data::meeting::{self, Meeting};
use crate::data::{Dataset, epoch_batches, prefetch_with};
use crate::error::{Error, Result};
use crate::progress::{Event, interrupted, watched};
use crate::ranks::{Alone, Ranks, rows as rows_of};

/// What the ranks call the rows of a batch.
const ROWS: &str = "rows";

/// What [`images`](super::images) does, with its settings: which pictures, how they are seen, how many at a time.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// The pictures.
    pub dataset: &'a Dataset,
    /// The weak view.
    pub preprocess: &'a Preprocess,
    /// Where the pixels go.
    pub device: &'a Device,
    /// Images per batch.
    pub batch_size: usize,
    /// Name of the stage in events and messages.
    pub stage: &'a str,
    /// Share of unreadable images above which the pass fails, 0 to 1.
    pub max_unreadable: f64,
    /// Where rows are kept while the pass is not over; `None` keeps nothing.
    pub keep: Option<&'a Keep>,
}

impl<'a> Pass<'a> {
    /// A pass as this CLIP sees pictures, in batches of [`BATCH`], that keeps nothing.
    pub fn new(dataset: &'a Dataset, clip: &'a Clip, stage: &'a str) -> Self {
        Self { dataset, preprocess: clip.preprocess(), device: clip.device(), batch_size: BATCH, stage, max_unreadable: 0.05, keep: None }
    }

    /// Applies `f` to the weak views, batch by batch, in input order; decoding runs ahead in the background. Rows that an earlier,
    /// stopped pass left in [`keep`](Self::keep) are taken as they are, and a notice says so.
    ///
    /// # Shapes
    /// `f`: pixels `[batch, 3, side, side]` → `[batch, width]`.
    ///
    /// # Errors
    /// [`Error::Data`] if too many of the images cannot be read, [`Error::Interrupted`] between two batches, and the
    /// errors of `f`.
    pub fn run(&self, events: impl FnMut(&Event), f: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Encoded> {
        self.run_among(&Alone, events, f)
    }

    /// [`run`](Self::run) shared among ranks, each of which takes every so many-th batch, and gets the rows of all. The batches are those
    /// of one process, and so are the rows, bit for bit: what the first rank [keeps](Self::keep), any number of them go on with.
    ///
    /// # Errors
    /// As [`run`](Self::run), on all of them where one is interrupted; if a rank is gone.
    pub fn run_among(
        &self,
        ranks: &dyn Ranks,
        mut events: impl FnMut(&Event),
        mut f: impl FnMut(&Tensor) -> Result<Tensor>,
    ) -> Result<Encoded> {
        let Self { dataset, preprocess, device, batch_size, stage, max_unreadable, keep } = *self;
        let mut events = watched(&mut events);
        let (total, size) = (dataset.len(), ranks.size());
        let (mut pixels, form) = (Transfer::new(preprocess, device)?, Form::new(device));
        let mut kept = Kept::open(keep.filter(|_| ranks.rank() == 0), batch_size).shared(ranks)?;
        let (started, before) = (Instant::now(), kept.seconds);
        let seconds = || before + started.elapsed().as_secs_f64();
        let done = |batches: usize| (batches * batch_size).min(total);
        events(&Event::Started { stage: stage.into(), total, unit: "images".into() });
        if kept.batches > 0 {
            events(&Event::Notice(format!("{stage}: {} of {total} images were done before and are kept", done(kept.batches))));
        }
        let view = preprocess.clone();
        let mut todo = epoch_batches(total, batch_size, false, None);
        todo.drain(..kept.batches.min(todo.len()));
        let own: Vec<Vec<usize>> = todo.iter().skip(ranks.rank()).step_by(size).cloned().collect();
        let mut asked = own.clone().into_iter();
        let mut batches = prefetch_with(dataset, own, 2, move |pictures, index| {
            Ok(form.view(pictures.view(index, view.geometry_key(), None, &|picture| view.image(picture))?))
        });
        let skipped = kept.skipped.get_or_insert_with(|| batches.skipped()).clone();
        batches = batches.log(&skipped).max_unreadable(if size > 1 { 1.0 } else { max_unreadable });
        for round in todo.chunks(size) {
            let batch = if interrupted() { None } else { batches.next().transpose()? };
            let read = batch.as_ref().map_or(&[][..], |batch| &batch.indices);
            let met = Meeting::held(ranks, &asked.next().unwrap_or_default(), read, &skipped)?;
            if met.stop {
                keep_or_say(kept.save(seconds()), &mut events);
                let rows = if kept.keeps() { format!(": {} of {total} images are kept", done(kept.batches)) } else { String::new() };
                return Err(Error::Interrupted(format!("interrupted: {stage}{rows}")));
            }
            if size > 1 {
                meeting::check_share(dataset, &skipped, max_unreadable)?;
            }
            let rows = match batch.filter(|batch| !batch.items.is_empty()) {
                Some(batch) => vec![(ROWS.into(), f(&pixels.batch(batch.items)?)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?)],
                None => Vec::new(),
            };
            kept.rows.extend(rows_of(ranks, rows, &Device::Cpu)?.remove(ROWS));
            kept.indices.extend(met.indices);
            kept.batches += round.len();
            keep_or_say(kept.save_if_due(seconds()), &mut events);
            events(&Event::Advanced { stage: stage.into(), done: done(kept.batches), total, loss: None, accuracy: None });
        }
        keep_or_say(kept.save_at_end(seconds()), &mut events);
        if let Some(notice) = skipped.summary() {
            events(&Event::Notice(notice));
        }
        if kept.rows.is_empty() {
            if dataset.is_empty() {
                return Err(Error::Data(format!("{} holds no image: there is nothing to embed", dataset.origin())));
            }
            return Err(Error::Data(format!("no image of {} could be read", dataset.origin())));
        }
        let (rows, seconds) = (Tensor::cat(&kept.rows, 0)?, seconds());
        events(&Event::Finished { stage: stage.into(), seconds });
        Ok(Encoded { rows, indices: kept.indices, skipped: skipped.entries(), seconds })
    }
}

/// Rows that cannot be kept are no reason to stop.
fn keep_or_say(saved: Result<()>, events: &mut impl FnMut(&Event)) {
    if let Err(error) = saved {
        events(&Event::Notice(format!("a stop would lose what is done, because it cannot be saved: {error}")));
    }
}
