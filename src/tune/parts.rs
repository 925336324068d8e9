//! A step on a batch that is worked on in parts: by one process, whose memory holds the graph of a part only, or by several.
//!
//! The loss L(z, θ) is a function of the logits z of all pictures and, in some terms, of parameters themselves, so
//! dL/dθ = ∂L/∂θ + Σ_p (∂L/∂z_p)(dz_p/dθ). First come the logits of all parts, without a graph but for the last of them; then L of the
//! whole batch on these logits as leaves, with its gradient g = ∂L/∂z; then each part anew with its graph, and the gradient of
//! Σ z_p g_p. Every rule and every term sees the whole batch, so nothing is approximated; only the order of sums is another. (GradCache,
//! Gao et al. 2021, does this to a contrastive loss; the authors' repository is luyug/GradCache.)

use std::collections::HashMap;
use std::ops::Range;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use lafter_fast as fast;

use super::finetuner::Finetuner;
use super::records::OnDevice;
use super::targets::{Targets, Views};
use crate::error::{Error, Result};
use crate::ranks;

/// A batch, and which part of it this process works on.
pub(super) struct Batch {
    /// The pictures of the whole batch, with the pixels of this process's rows.
    pub views: Views,
    /// Which rows these are.
    pub own: Range<usize>,
}

impl Batch {
    /// The batch of a single process.
    pub fn whole(views: Views) -> Result<Self> {
        let (weak, strong) = (views.weak.dims(), views.strong.dims());
        if weak.first() != strong.first() {
            return Err(Error::Shape(format!("weak views {weak:?} and strong views {strong:?}: one of each for each picture")));
        }
        Ok(Self { own: 0..views.weak.dim(0)?, views })
    }

    /// Its own rows in parts of at most `size`, with the place of each among all.
    fn parts(&self, size: usize) -> Result<Vec<(Views, Range<usize>)>> {
        let size = size.clamp(1, self.own.len().max(1));
        let part = |start: usize| {
            let rows = self.own.start + start..(self.own.start + start + size).min(self.own.end);
            let pixels = |all: &Tensor| all.narrow(0, start, rows.len());
            let indices = self.views.indices.get(rows.clone()).map(<[u32]>::to_vec).unwrap_or_default();
            let (weak, strong) = (pixels(&self.views.weak)?, pixels(&self.views.strong)?);
            Ok((Views { weak, strong, indices, ..self.views.clone() }, rows))
        };
        (0..self.own.len()).step_by(size).map(part).collect()
    }
}

const LOGITS: &str = "logits";

impl Finetuner {
    /// One step on a batch of which this process holds some rows, at most [`micro_batch`](super::FinetuneConfig::micro_batch) of them
    /// with their graph at a time.
    pub(super) fn step_in_parts(&mut self, batch: &Batch, size: usize, factor: f64) -> Result<OnDevice> {
        let (ranks, device) = (self.ranks.clone(), self.clip.device().clone());
        let parts = batch.parts(size)?;

        let answers = parts.iter().map(|(views, _)| self.teacher.targets(views)).collect::<candle_core::Result<Vec<_>>>()?;
        let prototypes = answers.iter().find_map(|answer| answer.prototypes.clone());
        let answers = ranks::concatenated(answers.iter().map(Targets::rows))?;
        let answer = Targets::from_rows(ranks::rows(&*ranks, answers.into_iter().collect(), &device)?, prototypes)?;
        let targets = self.refined(&batch.views, answer)?;

        if ranks.size() == 1 && self.objective.by_picture() {
            return self.learn_part_by_part(&parts, &targets, factor);
        }

        let student = self.tuned(); // without a graph
        let (mut logits, mut with_graph) = (Vec::new(), None);
        for (i, (views, _)) in parts.iter().enumerate() {
            let part = if i + 1 == parts.len() {
                with_graph.insert(self.student.logits(&views.strong)?).detach()
            } else {
                student.logits(&views.strong)?
            };
            logits.push(vec![(LOGITS.to_string(), part)]);
        }
        let own = ranks::concatenated(logits)?;
        let logits = ranks::rows(&*ranks, own.into_iter().collect(), &device)?;
        let leaf = Var::from_tensor(logits.get(LOGITS).ok_or_else(|| Error::Data("no process has a picture of this batch".into()))?)?; // [b, C]
        let terms = self.objective.each(&batch.views, &self.student, &leaf, &targets)?;
        let loss = self.objective.sum(&terms)?;

        let mut gradients = fast::backward(&loss)?; // ∂L/∂z and, of what terms read themselves, ∂L/∂θ
        if let Some(by_logits) = gradients.remove(&leaf) {
            let mut carried = GradStore::default();
            for (views, rows) in parts.iter().rev() {
                let logits = match with_graph.take() {
                    Some(logits) => logits, // the last part's, which comes first
                    None => self.student.logits(&views.strong)?,
                };
                let by_logits = by_logits.narrow(0, rows.start, rows.len())?.detach();
                carried.extend(self.learned(fast::backward(&(logits * by_logits)?.sum_all()?)?))?;
            }
            gradients.extend(self.summed(carried)?)?;
        }
        self.update(&gradients, factor)?;
        OnDevice::of(&targets, &loss, &terms, &leaf.as_detached_tensor())
    }

    /// The step after its targets, if the loss of a batch is the mean of what each picture gives: then the loss of a part needs no other
    /// part's logits, and each part passes the student once.
    fn learn_part_by_part(&mut self, parts: &[(Views, Range<usize>)], targets: &Targets, factor: f64) -> Result<OnDevice> {
        let total: usize = parts.iter().map(|(_, rows)| rows.len()).sum();
        let (mut gradients, mut terms, mut logits) = (GradStore::default(), Vec::<Tensor>::new(), Vec::new());
        for (views, rows) in parts {
            let part = self.student.logits(&views.strong)?;
            let share = rows.len() as f64 / total as f64;
            let each = self.objective.each(views, &self.student, &part, &targets.narrow(rows.start, rows.len())?)?;
            gradients.extend(self.learned(fast::backward(&(self.objective.sum(&each)? * share)?)?))?;
            let shares = each.iter().map(|loss| loss.detach() * share).collect::<candle_core::Result<Vec<_>>>()?;
            terms = match terms.is_empty() {
                true => shares,
                false => terms.iter().zip(&shares).map(|(sum, share)| sum + share).collect::<candle_core::Result<_>>()?,
            };
            logits.push(part.detach());
        }
        let loss = self.objective.sum(&terms)?;
        self.update(&gradients, factor)?;
        OnDevice::of(targets, &loss, &terms, &Tensor::cat(&logits, 0)?)
    }

    /// The gradients of what learns, without the graph that some of them hold on to: a part's is gone before the next one's is made.
    fn learned(&self, mut all: GradStore) -> GradStore {
        let mut kept = GradStore::default();
        for param in &self.trainable.params {
            if let Some(gradient) = all.remove(&param.var) {
                kept.insert(&param.var, gradient.detach());
            }
        }
        kept
    }

    /// The gradients of all ranks' rows, added up in the order of the ranks.
    fn summed(&self, own: GradStore) -> Result<GradStore> {
        if self.ranks.size() == 1 {
            return Ok(own);
        }
        let named = |(i, var): (usize, &Var)| Some((i.to_string(), own.get(var)?.unsqueeze(0)));
        let vars: Vec<&Var> = self.trainable.params.iter().map(|param| &param.var).collect();
        let own = vars.iter().enumerate().filter_map(|(i, var)| named((i, var)));
        let own = own.map(|(name, gradient)| Ok((name, gradient?))).collect::<candle_core::Result<Vec<_>>>()?;
        let all: HashMap<String, Tensor> = ranks::rows(&*self.ranks, own, self.clip.device())?; // [ranks, ..] each
        let mut sums = GradStore::default();
        for (i, var) in vars.into_iter().enumerate() {
            let Some(each) = all.get(&i.to_string()) else { continue };
            let first = each.get(0)?;
            sums.insert(var, (1..each.dim(0)?).try_fold(first, |sum, rank| sum + each.get(rank)?)?);
        }
        Ok(sums)
    }
}

#[cfg(test)]
mod tests;
