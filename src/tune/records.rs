//! What a step and an epoch did.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use super::targets::Targets;
use crate::error::Result;
pub use crate::eval::EpochRecord;
use crate::nn::argmax;

/// What one step did.
#[derive(Clone, Debug)]
pub struct StepRecord {
    /// Loss of eq. 4 on the batch.
    pub loss: f32,
    /// ĉ of each image.
    pub pseudo_labels: Vec<u32>,
    /// The student's own answers on the strong views.
    pub predictions: Vec<u32>,
    /// Mean softmax confidence of the pseudo-labels, 0 to 1.
    pub confidence: f32,
    /// Share of the pictures with a weight above 0, 0 to 1; `None` if no rule gave weights.
    pub kept: Option<f32>,
    /// The weight of each picture; `None` if no rule gave weights.
    pub weights: Option<Vec<f32>>,
    /// Loss of each term of the objective, in its order and before its weight in the sum; empty if there is one term only.
    pub terms: Vec<f32>,
}

/// What one step did, not yet copied from the device: a copy would make the host wait for the device.
pub(super) struct OnDevice {
    pub loss: Tensor,
    pub pseudo_labels: Tensor,
    pub predictions: Tensor,
    pub confidence: Tensor,
    pub kept: Option<Tensor>,
    /// The confidence of each picture, if rules gave weights.
    pub confidences: Option<Tensor>,
    /// The weight of each picture, if rules gave weights.
    pub weights: Option<Tensor>,
    /// The loss of each term, if there are several.
    pub terms: Vec<Tensor>,
}

impl OnDevice {
    /// Of a step with this loss, which is the weighted sum of these.
    pub fn of(targets: &Targets, loss: &Tensor, terms: &[Tensor], logits: &Tensor) -> Result<Self> {
        let kept = |weights: &Tensor| weights.gt(0.0)?.to_dtype(DType::F32)?.mean_all();
        Ok(Self {
            loss: loss.detach(),
            pseudo_labels: targets.labels.clone(),
            predictions: argmax(&logits.detach())?,
            confidence: targets.confidence.mean_all()?,
            kept: targets.weights.as_ref().map(kept).transpose()?,
            confidences: targets.weights.as_ref().map(|_| targets.confidence.clone()),
            weights: targets.weights.clone(),
            terms: if terms.len() > 1 { terms.iter().map(Tensor::detach).collect() } else { Vec::new() },
        })
    }

    pub fn read(&self) -> Result<StepRecord> {
        Ok(StepRecord {
            loss: self.loss.to_scalar()?,
            pseudo_labels: self.pseudo_labels.to_vec1()?,
            predictions: self.predictions.to_vec1()?,
            confidence: self.confidence.to_scalar()?,
            kept: self.kept.as_ref().map(Tensor::to_scalar).transpose()?,
            weights: self.weights.as_ref().map(Tensor::to_vec1).transpose()?,
            terms: self.terms.iter().map(Tensor::to_scalar).collect::<candle_core::Result<_>>()?,
        })
    }
}

/// Running sums of the epoch under way; part of a checkpoint, so that a resumed epoch reports the same numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct EpochSums {
    pub steps: usize,
    pub loss: f64,
    pub agreed: usize,
    pub confidence: f64,
    pub right: usize,
    pub labeled: usize,
    pub images: usize,
    pub seconds: f64,
    /// Images whose pseudo-label counted, if rules gave weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<f64>,
    /// How many pictures were how sure, if rules gave weights: in [`BINS`] equal parts of 0 to 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confidences: Vec<usize>,
    /// Sum of the weights, if rules gave weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<f64>,
    /// The classes that pseudo-labels named which counted; `None` before the first picture, and in an epoch that an earlier version began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<BTreeSet<u32>>,
    /// Sum over the images of each term's loss, if there are several and no earlier version began the epoch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub terms: Vec<f64>,
}

/// Parts of the histogram of confidences.
const BINS: usize = 1000;

impl EpochSums {
    /// Counts confidences.
    pub fn count(&mut self, confidences: &[f32]) {
        self.confidences.resize(BINS, 0);
        for confidence in confidences {
            self.confidences[((confidence * BINS as f32) as usize).min(BINS - 1)] += 1;
        }
    }

    /// What a user whose threshold nothing passes should know about the confidences, percent.
    pub fn quantiles(&self) -> String {
        let total: usize = self.confidences.iter().sum();
        let below = |share: f64| {
            let mut seen = 0;
            let reached = |count: &usize| {
                seen += count;
                seen as f64 >= share * total as f64
            };
            100.0 * (self.confidences.iter().position(reached).unwrap_or(BINS - 1) + 1) as f64 / BINS as f64
        };
        format!("half of them are below {:.1} % sure, nine of ten below {:.1} %, all below {:.1} %", below(0.5), below(0.9), below(1.0))
    }
}

impl EpochSums {
    /// Adds what rules and terms made of a step on `n` pictures; before the images of the step are counted.
    pub fn blocks(&mut self, n: usize, step: &StepRecord) {
        if self.images == 0 {
            let weights = step.weights.as_ref().map(|_| 0.0);
            (self.weights, self.named, self.terms) = (weights, Some(BTreeSet::new()), vec![0.0; step.terms.len()]);
        }
        if let (Some(sum), Some(weights)) = (&mut self.weights, &step.weights) {
            *sum += weights.iter().map(|weight| f64::from(*weight)).sum::<f64>();
        }
        let counts = |i: usize| step.weights.as_ref().and_then(|weights| weights.get(i)).is_none_or(|weight| *weight > 0.0);
        if let Some(named) = &mut self.named {
            named.extend(step.pseudo_labels.iter().enumerate().filter(|(i, _)| counts(*i)).map(|(_, class)| class));
        }
        self.terms.iter_mut().zip(&step.terms).for_each(|(sum, loss)| *sum += f64::from(*loss) * n as f64);
    }

    /// The record of the whole epoch of this number, counted from 1, with the names of the terms.
    pub fn record(self, epoch: usize, terms: Vec<String>) -> EpochRecord {
        let images = self.images.max(1) as f64;
        EpochRecord {
            epoch,
            loss: self.loss / images,
            agreement: 100.0 * self.agreed as f64 / images,
            confidence: 100.0 * self.confidence / images,
            kept: self.kept.map(|kept| 100.0 * kept / images),
            mean_weight: self.weights.map(|sum| sum / images),
            classes_named: self.named.map(|named| named.len()),
            terms: BTreeMap::from_iter(terms.into_iter().zip(self.terms.iter().map(|sum| sum / images))),
            pseudo_label_accuracy: (self.labeled > 0).then(|| 100.0 * self.right as f64 / self.labeled as f64),
            test_top1: None,
            signals: None,
            images: self.images,
            steps: self.steps,
            seconds: self.seconds,
        }
    }
}
