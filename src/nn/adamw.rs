//! AdamW over named groups of parameters, with a state that can be saved.

use candle_core::{DType, Result, Tensor, Var, backprop::GradStore};

#[cfg(feature = "cuda")]
use super::cuda;

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
    pub rate: f64,
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
            Self { params: members.map(|param| (param.name.clone(), param.var.clone())).collect(), weight_decay, rate: 1.0 }
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
/// let group = ParamGroup { params: vec![("x".into(), x.clone())], weight_decay: 0.0, rate: 1.0 };
/// let mut optimiser = AdamW::new(vec![group], AdamWConfig { learning_rate: 0.1, ..Default::default() })?;
/// for _ in 0..200 {
///     let loss = x.sqr()?.sum_all()?;
///     optimiser.step(&loss.backward()?, 1.0)?;
/// }
/// assert!(x.to_vec1::<f32>()?[0].abs() < 0.05);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AdamW {
    config: AdamWConfig,
    slots: Vec<Slot>,
    steps: usize,
}

#[derive(Clone, Debug)]
struct Slot {
    name: String,
    var: Var,
    weight_decay: f64,
    rate: f64,
    first: Tensor,
    second: Tensor,
    /// Both moments `[2, n]` as the GPU's kernel left them; `first` and `second` are views of it.
    #[cfg(feature = "cuda")]
    moments: Option<Tensor>,
}

#[cfg(feature = "cuda")]
impl Slot {
    fn step_on_gpu(&mut self, grad: &Tensor, update: cuda::Update) -> Result<()> {
        let moments = match self.moments.take() {
            Some(moments) => moments,
            None => Tensor::stack(&[self.first.flatten_all()?, self.second.flatten_all()?], 0)?, // [2, n]
        };
        let (parameter, moments) = cuda::adamw(&self.var.as_detached_tensor(), grad, &moments, update)?;
        self.var.set(&parameter)?;
        self.first = moments.get(0)?.reshape(self.var.shape())?;
        self.second = moments.get(1)?.reshape(self.var.shape())?;
        self.moments = Some(moments);
        Ok(())
    }
}

impl AdamW {
    /// An optimiser that has taken no step, with both moments 0.
    ///
    /// # Errors
    /// Where the device has no memory left (Candle's).
    pub fn new(groups: Vec<ParamGroup>, config: AdamWConfig) -> Result<Self> {
        let mut slots = Vec::new();
        for ParamGroup { params, weight_decay, rate } in groups {
            for (name, var) in params {
                let zeros = || Tensor::zeros(var.shape(), DType::F32, var.device());
                slots.push(Slot {
                    first: zeros()?,
                    second: zeros()?,
                    #[cfg(feature = "cuda")]
                    moments: None,
                    name,
                    var,
                    weight_decay,
                    rate,
                });
            }
        }
        Ok(Self { config, slots, steps: 0 })
    }

    /// One update with the gradients of a loss; `factor` is the schedule's factor on the learning rate.
    ///
    /// # Errors
    /// Where a parameter has no gradient: it would silently not learn.
    pub fn step(&mut self, grads: &GradStore, factor: f64) -> Result<()> {
        self.steps += 1;
        let AdamWConfig { learning_rate, beta1, beta2, eps } = self.config;
        let (correct1, correct2) = (1.0 - beta1.powi(self.steps as i32), 1.0 - beta2.powi(self.steps as i32));
        for slot in &mut self.slots {
            let Some(grad) = grads.get(&slot.var) else {
                candle_core::bail!("{} has no gradient: an operation between it and the loss drops it", slot.name);
            };
            let rate = learning_rate * slot.rate * factor;
            #[cfg(feature = "cuda")]
            if cuda::takes(grad, &[DType::F32]) && slot.var.dtype() == DType::F32 {
                slot.step_on_gpu(
                    grad,
                    cuda::Update {
                        keep: (1.0 - rate * slot.weight_decay) as f32,
                        beta1: beta1 as f32,
                        rest1: (1.0 - beta1) as f32,
                        beta2: beta2 as f32,
                        rest2: (1.0 - beta2) as f32,
                        correct2: (1.0 / correct2.sqrt()) as f32,
                        eps: eps as f32,
                        rate: (rate / correct1) as f32,
                    },
                )?;
                continue;
            }
            slot.first = ((&slot.first * beta1)? + (grad * (1.0 - beta1))?)?.detach();
            slot.second = ((&slot.second * beta2)? + (grad.sqr()? * (1.0 - beta2))?)?.detach();
            let denominator = ((slot.second.sqrt()? / correct2.sqrt())? + eps)?;
            let update = ((&slot.first / denominator)? * (rate / correct1))?;
            let decayed = (slot.var.as_detached_tensor() * (1.0 - rate * slot.weight_decay))?;
            slot.var.set(&(decayed - update)?)?;
        }
        Ok(())
    }

    /// Steps taken so far.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// The moments as named tensors (`first.<name>`, `second.<name>`), to be saved with [`steps`](Self::steps).
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let both =
            |slot: &Slot| [(format!("first.{}", slot.name), slot.first.clone()), (format!("second.{}", slot.name), slot.second.clone())];
        self.slots.iter().flat_map(both).collect()
    }

    /// Puts back what [`state`](Self::state) and [`steps`](Self::steps) gave.
    ///
    /// # Errors
    /// Where a moment is missing or has another shape.
    pub fn restore(&mut self, steps: usize, state: &std::collections::HashMap<String, Tensor>) -> Result<()> {
        for slot in &mut self.slots {
            #[cfg(feature = "cuda")]
            {
                slot.moments = None;
            }
            for (kind, moment) in [("first", &mut slot.first), ("second", &mut slot.second)] {
                let name = format!("{kind}.{}", slot.name);
                match state.get(&name) {
                    Some(saved) if saved.shape() == moment.shape() => *moment = saved.to_device(moment.device())?,
                    Some(saved) => candle_core::bail!("{name} has shape {:?}, expected {:?}", saved.dims(), moment.dims()),
                    None => candle_core::bail!("{name} is not in the saved optimiser state"),
                }
            }
        }
        self.steps = steps;
        Ok(())
    }
}
