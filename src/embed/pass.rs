//! A pass over the weak views of a data set, in input order.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};

use super::{BATCH, Encoded, Keep, Kept};
use crate::augment::{Form, Preprocess, Transfer};
use crate::clip::Clip;
use crate::data::{Dataset, epoch_batches, prefetch_with};
use crate::error::{Error, Result};
use crate::progress::{Event, interrupted, watched};

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

/// [`Encoded`], or nothing but pictures that cannot be read.
pub(super) struct Part {
    pub rows: Option<Tensor>,
    pub indices: Vec<usize>,
    pub skipped: Vec<(String, String)>,
    pub seconds: f64,
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
        let Part { rows, indices, skipped, seconds } = self.all(events, f)?;
        let rows = rows.ok_or_else(|| Error::Data(format!("no image of {} could be read", self.dataset.origin())))?;
        Ok(Encoded { rows, indices, skipped, seconds })
    }

    /// The same, and no error if no picture could be read: they may be a part of all.
    pub(super) fn all(&self, mut events: impl FnMut(&Event), mut f: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Part> {
        let Self { dataset, preprocess, device, batch_size, stage, max_unreadable, keep } = *self;
        let mut events = watched(&mut events);
        let total = dataset.len();
        let (mut pixels, form) = (Transfer::new(preprocess, device)?, Form::new(preprocess, device));
        let mut kept = Kept::open(keep);
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
        let mut batches = prefetch_with(dataset, todo, 2, move |pictures, index| {
            Ok(form.view(pictures.view(index, view.geometry_key(), None, &|picture| view.image(picture))?))
        });
        let skipped = kept.skipped.get_or_insert_with(|| batches.skipped()).clone();
        batches = batches.log(&skipped).max_unreadable(max_unreadable);
        for batch in batches {
            if interrupted() {
                keep_or_say(kept.save(seconds()), &mut events);
                let rows = if kept.keeps() { format!(": {} of {total} images are kept", done(kept.batches)) } else { String::new() };
                return Err(Error::Interrupted(format!("interrupted: {stage}{rows}")));
            }
            let batch = batch?;
            if !batch.items.is_empty() {
                kept.rows.push(f(&pixels.batch(batch.items)?)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?);
                kept.indices.extend(batch.indices);
            }
            kept.batches += 1;
            keep_or_say(kept.save_if_due(seconds()), &mut events);
            events(&Event::Advanced { stage: stage.into(), done: done(kept.batches), total, loss: None, accuracy: None });
        }
        keep_or_say(kept.save_at_end(seconds()), &mut events);
        if let Some(notice) = skipped.summary() {
            events(&Event::Notice(notice));
        }
        let rows = if kept.rows.is_empty() { None } else { Some(Tensor::cat(&kept.rows, 0)?) };
        let seconds = seconds();
        if rows.is_some() {
            events(&Event::Finished { stage: stage.into(), seconds });
        }
        Ok(Part { rows, indices: kept.indices, skipped: skipped.entries(), seconds })
    }
}

/// Rows that cannot be kept are no reason to stop.
fn keep_or_say(saved: Result<()>, events: &mut impl FnMut(&Event)) {
    if let Err(error) = saved {
        events(&Event::Notice(format!("a stop would lose what is done, because it cannot be saved: {error}")));
    }
}
