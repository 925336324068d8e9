//! Smoothed cross entropy with the pseudo-labels: eq. 4.

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::Term;
use crate::classify::{smoothed_cross_entropy, smoothed_cross_entropy_rows};
use crate::tune::role::{Flow, What};
use crate::tune::{Setup, Stateful, Targets, Tuned, Views};

/// L_SCE( f_θ( v^p_η(α_h(x)) ), ĉ(x) ), the mean of w_i L_i over the batch; its ε is
/// [`FinetuneConfig::label_smoothing`](crate::tune::FinetuneConfig::label_smoothing). (eq. 4)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrossEntropy {}

impl Flow for CrossEntropy {
    fn needs(&self) -> &'static [What] {
        &[What::Labels, What::Weights]
    }
}

impl CrossEntropy {
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        Ok(())
    }

    pub(super) fn block(&self, setup: &Setup) -> Result<Box<dyn Term>> {
        Ok(Box::new(Smoothed { smoothing: setup.config.label_smoothing }))
    }
}

struct Smoothed {
    smoothing: f64,
}

impl Term for Smoothed {
    fn by_picture(&self) -> bool {
        true
    }

    fn loss(&mut self, _: &Views, _: &Tuned, logits: &Tensor, targets: &Targets) -> Result<Tensor> {
        match &targets.weights {
            None => smoothed_cross_entropy(logits, &targets.labels, self.smoothing),
            Some(weights) => (smoothed_cross_entropy_rows(logits, &targets.labels, self.smoothing)? * weights)?.mean_all(),
        }
    }
}

impl Stateful for Smoothed {
    fn kind(&self) -> &'static str {
        "cross_entropy"
    }
}
