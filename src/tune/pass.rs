//! The teacher's answer to all pictures of a run: what rules look at before training and after an epoch.

use candle_core::{DType, Device, Tensor};

use super::finetuner::Finetuner;
use super::refine::PassFn;
use super::run::Run;
use super::targets::Views;
use super::teacher::Teacher;
use crate::augment::{Form, Preprocess, Transfer};
use crate::data::meeting::{check_share, share_log};
use crate::data::{Dataset, Skipped, epoch_batches, prefetch_with};
use crate::embed::BATCH;
use crate::error::{Error, Result};
use crate::progress::{Event, interrupted};
use crate::ranks::{self, Ranks, concatenated, own, rows};

const STAGE: &str = "passing over the pictures";

/// What the teacher says of the weak views of all pictures that can be read.
#[derive(Clone, Debug)]
pub struct Pass {
    /// Which picture of the data set each row is, in ascending order; one that cannot be read has no row.
    pub indices: Vec<u32>,
    /// Unit features `[n, d]`.
    pub features: Tensor,
    /// p, the probabilities of the classes `[n, C]`.
    pub probabilities: Tensor,
}

/// Where a pass gets its pictures from.
struct Source<'a> {
    unlabeled: &'a Dataset,
    weak: &'a Preprocess,
    device: &'a Device,
    skipped: &'a Skipped,
    max_unreadable: f64,
    /// Steps and epochs done.
    at: (usize, usize),
    /// Each takes some of the batches.
    ranks: &'a dyn Ranks,
}

const INDICES: &str = "indices";
const FEATURES: &str = "features";
const PROBABILITIES: &str = "probabilities";

impl Pass {
    /// A pass of the teacher over the pictures, batch by batch; decoding runs ahead in the background.
    fn new(source: &Source, teacher: &dyn Teacher, events: &mut dyn FnMut(&Event)) -> Result<Self> {
        let Source { unlabeled, weak, device, skipped, max_unreadable, at: (step, epoch), ranks } = *source;
        let (started, total) = (std::time::Instant::now(), unlabeled.len());
        let (mut pixels, form, view) = (Transfer::new(weak, device)?, Form::new(device), weak.clone());
        let batches = epoch_batches(total, BATCH, false, None);
        let batches = batches[own(batches.len(), ranks)].to_vec();
        let total: usize = batches.iter().map(Vec::len).sum();
        events(&Event::Started { stage: STAGE.into(), total, unit: "images".into() });
        let batches = prefetch_with(unlabeled, batches, 2, move |pictures, index| {
            Ok(form.view(pictures.view(index, view.geometry_key(), None, &|picture| view.image(picture))?))
        });
        let (mut parts, mut done) = (Vec::new(), 0);
        for batch in batches.log(skipped).max_unreadable(max_unreadable) {
            if interrupted() {
                break; // all ranks leave together, below
            }
            let batch = batch?;
            done = (done + BATCH).min(total);
            if !batch.is_empty() {
                let pixels = pixels.batch(batch.items)?;
                let indices: Vec<u32> = batch.indices.iter().map(|index| *index as u32).collect();
                let rows = Tensor::new(&indices[..], device)?;
                let targets = teacher.targets(&Views { indices, step, epoch, ..Views::new(pixels.clone(), pixels) })?;
                let probabilities = targets.probabilities.to_dtype(DType::F32)?;
                let named = [(INDICES, rows), (FEATURES, targets.features), (PROBABILITIES, probabilities)];
                parts.push(named.map(|(name, rows)| (name.to_string(), rows)).to_vec());
            }
            events(&Event::Advanced { stage: STAGE.into(), done, total, loss: None, accuracy: None });
        }
        ranks::check_interrupt(ranks, "stopped while passing over the pictures")?;
        share_log(ranks, skipped)?;
        check_share(unlabeled, skipped, max_unreadable)?;
        let mut all = rows(ranks, concatenated(parts)?.into_iter().collect(), device)?;
        let (Some(indices), Some(features), Some(probabilities)) = (all.remove(INDICES), all.remove(FEATURES), all.remove(PROBABILITIES))
        else {
            return Err(Error::Data(format!("no image of {} could be read", unlabeled.origin())));
        };
        events(&Event::Finished { stage: STAGE.into(), seconds: started.elapsed().as_secs_f64() });
        Ok(Self { indices: indices.to_vec1()?, features, probabilities })
    }
}

impl Run {
    /// Lets the rules look at the pictures before the first step, once in a run.
    pub(super) fn prepare(&mut self, unlabeled: &Dataset, events: &mut dyn FnMut(&Event)) -> Result<()> {
        if !self.prepared {
            self.teach(unlabeled, events)?;
            self.each_rule(unlabeled, events, |rule, pass| rule.prepare(unlabeled.len(), pass))?;
            self.prepared = true;
        }
        Ok(())
    }

    /// Tells teacher and terms which pictures the run is on.
    pub(super) fn open(&mut self, unlabeled: &Dataset, events: &mut dyn FnMut(&Event)) -> Result<()> {
        if self.opened {
            return Ok(());
        }
        let mut notices = self.tuner.teacher.open(unlabeled)?;
        for (_, term) in &mut self.tuner.objective.terms {
            notices.extend(term.open(unlabeled)?);
        }
        let found = self.tuner.stored();
        if let Some(place) = self.stored.iter().find(|(place, hash)| found.get(place) != Some(hash)).map(|(place, _)| *place) {
            let kind = self.tuner.blocks().get(place).map_or("block", |block| block.kind());
            return Err(Error::Usage(format!(
                "{kind}: its file holds other answers for these pictures than when the run was stopped: put that file back, or start without --resume"
            )));
        }
        notices.dedup();
        notices.into_iter().for_each(|notice| events(&Event::Notice(notice)));
        self.opened = true;
        Ok(())
    }

    /// Lets a teacher learn that has to.
    fn teach(&mut self, unlabeled: &Dataset, events: &mut dyn FnMut(&Event)) -> Result<()> {
        if !self.tuner.teacher.learns() {
            return Ok(());
        }
        let skipped = self.skipped.get_or_insert_with(|| Skipped::new(unlabeled.len())).clone();
        let at = (self.tuner.optimizer.steps(), self.history.len());
        let Finetuner { teacher, clip, config, ranks, .. } = &mut self.tuner;
        let (weak, device, max_unreadable, ranks) = (&self.weak, clip.device(), config.max_unreadable, &**ranks);
        let pass = Pass::new(&Source { unlabeled, weak, device, skipped: &skipped, max_unreadable, at, ranks }, &**teacher, events)?;
        teacher.learn(unlabeled.len(), &pass)?.into_iter().for_each(|notice| events(&Event::Notice(notice)));
        Ok(())
    }

    /// Lets the rules look at the pictures after the epoch that is just over, counted from 0.
    pub(super) fn after_epoch(&mut self, epoch: usize, unlabeled: &Dataset, events: &mut dyn FnMut(&Event)) -> Result<()> {
        self.each_rule(unlabeled, events, |rule, pass| rule.after_epoch(epoch, pass))
    }

    /// Calls all rules in their order; one pass serves all that ask for it.
    fn each_rule(
        &mut self,
        unlabeled: &Dataset,
        events: &mut dyn FnMut(&Event),
        mut call: impl FnMut(&mut dyn super::Refine, &mut PassFn) -> Result<()>,
    ) -> Result<()> {
        let skipped = self.skipped.get_or_insert_with(|| Skipped::new(unlabeled.len())).clone();
        let at = (self.tuner.optimizer.steps(), self.history.len());
        let Finetuner { teacher, refine, clip, config, ranks, .. } = &mut self.tuner;
        let (weak, device, max_unreadable, ranks) = (&self.weak, clip.device(), config.max_unreadable, &**ranks);
        let source = Source { unlabeled, weak, device, skipped: &skipped, max_unreadable, at, ranks };
        let mut made: Option<Pass> = None;
        let mut notices = Vec::new();
        for rule in refine.iter_mut() {
            let mut pass = || match &made {
                Some(pass) => Ok(pass.clone()),
                None => Ok(made.insert(Pass::new(&source, &**teacher, events)?).clone()),
            };
            call(&mut **rule, &mut pass)?;
            notices.extend(rule.notices());
        }
        notices.into_iter().for_each(|notice| events(&Event::Notice(notice)));
        Ok(())
    }

    /// The pictures that the next epoch runs over: those that every rule with an opinion wants.
    pub(super) fn images(&self, unlabeled: &Dataset) -> Result<Vec<usize>> {
        let wanted = self.tuner.refine.iter().filter_map(|rule| rule.images());
        let mut images: Vec<usize> = (0..unlabeled.len()).collect();
        for subset in wanted {
            images.retain(|image| u32::try_from(*image).is_ok_and(|image| subset.binary_search(&image).is_ok()));
        }
        match images.is_empty() && !unlabeled.is_empty() {
            true => Err(Error::Data("the rules in tune.refine leave no picture to train on: loosen them".into())),
            false => Ok(images),
        }
    }
}
