//! AdamW over named groups of parameters, with a state that can be saved.

use candle_core::{DType, Result, Tensor, Var, backprop::GradStore};
use lafter_fast as fast; // fast::

/// Settings of AdamW; the defaults are those of LaFTer's released code.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// η, the base learning rate, before a group's and the schedule's factors; default 5e-4.
    pub learning_rate: f64,
    /// β₁, the decay of the mean of gradients, 0 ≤ β₁ < 1; default 0.9.
    pub beta1: f64,
    /// β₂, the decay of the mean of squared gradients, 0 ≤ β₂ < 1; default 0.999.
    pub beta2: f64,
    /// ε, added to the denominator, above 0; default 1e-8.
    pub eps: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { learning_rate: 5e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }
}

/// One tensor that learns.
#[derive(Clone, Debug)]
pub struct Param {
    /// The name under which files keep it.
    pub name: String,
    /// The variable; the blocks that compute with it share its storage.
    pub var: Var,
    /// Whether weight decay pulls at it: weights, scales and visual prompts yes, biases and shifts no.
    pub decay: bool,
}

/// Parameters that share a weight decay and a factor on the learning rate.
#[derive(Clone, Debug)]
pub struct ParamGroup {
    /// Name and variable, in the order in which they are saved.
    pub params: Vec<(String, Var)>,
    /// λ, decoupled from the gradient; 0 for none.
    pub weight_decay: f64,
    /// Factor on the base learning rate.
    pub lr_factor: f64,
}

impl ParamGroup {
    /// Two groups at the base learning rate: parameters that [decay](Param::decay) with this decay, the others without. Both
    /// stages train so.
    ///
    /// ```
    /// use candle_core::{Device, Var};
    /// use lafter::nn::{Param, ParamGroup};
    /// let param = |name: &str, decay| Ok::<_, candle_core::Error>(Param { name: name.into(), var: Var::new(&[1f32], &Device::Cpu)?, decay });
    /// let groups = ParamGroup::decay_weights(&[param("norm.weight", true)?, param("norm.bias", false)?], 0.01);
    /// assert_eq!(groups.iter().map(|group| (group.params.len(), group.weight_decay)).collect::<Vec<_>>(), [(1, 0.01), (1, 0.0)]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn decay_weights(params: &[Param], weight_decay: f64) -> Vec<Self> {
        let group = |decay: bool, weight_decay: f64| {
            let members = params.iter().filter(|param| param.decay == decay);
            Self { params: members.map(|param| (param.name.clone(), param.var.clone())).collect(), weight_decay, lr_factor: 1.0 }
        };
        vec![group(true, weight_decay), group(false, 0.0)]
    }
}

/// AdamW (Loshchilov & Hutter 2019, algorithm 2), in PyTorch's order of operations:
///
/// θ ← θ (1 − η λ); m ← β₁ m + (1 − β₁) g; v ← β₂ v + (1 − β₂) g²;
/// θ ← θ − η · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)
///
/// ```
/// use candle_core::{Device, Var};
/// use lafter::nn::{AdamW, AdamWConfig, ParamGroup};
/// let x = Var::new(&[3f32], &Device::Cpu)?;
/// let group = ParamGroup { params: vec![("x".into(), x.clone())], weight_decay: 0.0, lr_factor: 1.0 };
/// let mut optimizer = AdamW::new(vec![group], AdamWConfig { learning_rate: 0.1, ..Default::default() })?;
/// for _ in 0..200 {
///     let loss = x.sqr()?.sum_all()?;
///     optimizer.step(&loss.backward()?, 1.0)?;
/// }
/// assert!(x.to_vec1::<f32>()?[0].abs() < 0.05);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AdamW {
    pub(super) config: AdamWConfig,
    pub(super) slots: Vec<Slot>,
    steps: usize,
    pub(super) kept: fast::Moments,
}

#[derive(Clone, Debug)]
pub(super) struct Slot {
    name: String,
    pub(super) var: Var,
    pub(super) weight_decay: f64,
    pub(super) lr_factor: f64,
    pub(super) first: Tensor,
    pub(super) second: Tensor,
}

impl Slot {
    /// One update at the rate η, with `correct` = 1 − β₁ᵗ, 1 − β₂ᵗ.
    fn update(&mut self, grad: &Tensor, config: AdamWConfig, rate: f64, correct: (f64, f64)) -> Result<()> {
        let AdamWConfig { beta1, beta2, eps, .. } = config;
        let (var, first, second) = (&self.var, &mut self.first, &mut self.second);
        *first = ((&*first * beta1)? + (grad * (1.0 - beta1))?)?.detach();
        *second = ((&*second * beta2)? + (grad.sqr()? * (1.0 - beta2))?)?.detach();
        let denominator = ((second.sqrt()? / correct.1.sqrt())? + eps)?;
        let update = ((&*first / denominator)? * (rate / correct.0))?;
        let decayed = (var.as_detached_tensor() * (1.0 - rate * self.weight_decay))?;
        var.set(&(decayed - update)?)
    }
}

impl AdamW {
    /// An optimizer that has taken no step, with both moments 0.
    ///
    /// # Errors
    /// For a variable that is not f32; if the device has no memory left (Candle's).
    pub fn new(groups: Vec<ParamGroup>, config: AdamWConfig) -> Result<Self> {
        let mut slots = Vec::new();
        for ParamGroup { params, weight_decay, lr_factor } in groups {
            for (name, var) in params {
                if var.dtype() != DType::F32 {
                    candle_core::bail!("{name} is {:?}: AdamW updates f32, so that small steps are not lost", var.dtype());
                }
                let zeros = || Tensor::zeros(var.shape(), DType::F32, var.device());
                slots.push(Slot { first: zeros()?, second: zeros()?, name, var, weight_decay, lr_factor });
            }
        }
        Ok(Self {
            config,
            slots,
            steps: 0,
            kept: fast::Moments::default(), // nothing
        })
    }

    /// One update with the gradients of a loss; `factor` is the schedule's factor on the learning rate.
    ///
    /// # Errors
    /// If a parameter has no gradient: it would silently not learn.
    pub fn step(&mut self, grads: &GradStore, factor: f64) -> Result<()> {
        if let Some(slot) = self.slots.iter().find(|slot| grads.get(&slot.var).is_none()) {
            candle_core::bail!("{} has no gradient: an operation between it and the loss drops it", slot.name);
        }
        self.steps += 1;
        let AdamWConfig { learning_rate, beta1, beta2, .. } = self.config;
        let correct = (1.0 - beta1.powi(self.steps as i32), 1.0 - beta2.powi(self.steps as i32));
        fast::prefer!(self.fused(grads, factor, correct)); // fast::
        for slot in &mut self.slots {
            let rate = learning_rate * slot.lr_factor * factor;
            grads.get(&slot.var).map_or(Ok(()), |grad| slot.update(grad, self.config, rate, correct))?;
        }
        Ok(())
    }

    /// Steps taken so far.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// The moments as named tensors (`first.<name>`, `second.<name>`), to be saved with [`steps`](Self::steps) before the next step,
    /// which changes them on a GPU.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let both =
            |slot: &Slot| [(format!("first.{}", slot.name), slot.first.clone()), (format!("second.{}", slot.name), slot.second.clone())];
        self.slots.iter().flat_map(both).collect()
    }

    /// Puts back a copy of what [`state`](Self::state) and [`steps`](Self::steps) gave.
    ///
    /// # Errors
    /// If a moment is missing or has another shape.
    pub fn restore(&mut self, steps: usize, state: &std::collections::HashMap<String, Tensor>) -> Result<()> {
        self.kept = fast::Moments::default(); // fast::
        for slot in &mut self.slots {
            for (kind, moment) in [("first", &mut slot.first), ("second", &mut slot.second)] {
                let name = format!("{kind}.{}", slot.name);
                match state.get(&name) {
                    // a copy: on a GPU a step changes moments where they lie
                    Some(saved) if saved.shape() == moment.shape() => *moment = saved.force_contiguous()?.to_device(moment.device())?,
                    Some(saved) => candle_core::bail!("{name} has shape {:?}, expected {:?}", saved.dims(), moment.dims()),
                    None => candle_core::bail!("{name} is not in the saved optimizer state"),
                }
            }
        }
        self.steps = steps;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_step_that_is_refused_does_not_count() {
        let [x, apart] = [3f32, 4.0].map(|value| Var::new(&[value], &Device::Cpu).unwrap());
        let params = vec![("x".into(), x.clone()), ("apart".into(), apart)];
        let mut optimizer = AdamW::new(vec![ParamGroup { params, weight_decay: 0.0, lr_factor: 1.0 }], AdamWConfig::default()).unwrap();
        let grads = x.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        assert!(optimizer.step(&grads, 1.0).unwrap_err().to_string().contains("apart has no gradient"));
        assert_eq!((optimizer.steps(), x.to_vec1::<f32>().unwrap()), (0, vec![3.0]));
    }
}
