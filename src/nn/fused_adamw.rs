//! A step of AdamW in the fused form of the crate `lafter-fast`.

use candle_core::{Result, backprop::GradStore};
use lafter_fast as fast;

use super::adamw::{AdamW, AdamWConfig};

impl AdamW {
    /// All updates in one kernel, if the parameters lie on a GPU; each has a gradient.
    pub(super) fn fused(&mut self, grads: &GradStore, factor: f64, correct: (f64, f64)) -> Result<Option<()>> {
        let AdamWConfig { learning_rate, beta1, beta2, eps } = self.config;
        let steps = self.slots.iter_mut().filter_map(|slot| {
            let (grad, rate) = (grads.get(&slot.var)?, learning_rate * slot.lr_factor * factor);
            let moments = [&mut slot.first, &mut slot.second];
            Some(fast::Step { var: &slot.var, grad, moments, keep: 1.0 - rate * slot.weight_decay, rate: rate / correct.0 })
        });
        fast::adamw(&mut self.kept, steps, [beta1, beta2, correct.1, eps])
    }
}
