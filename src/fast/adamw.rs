//! AdamW's update of all parameters, in one kernel on a GPU.

use std::sync::Arc;

use candle_core::{Result, Tensor, Var};

/// Both moments of all parameters `[2, n]`, one parameter after another, kept from step to step on a GPU. Clones share them until
/// they take a step: only the last that has them changes them where they lie.
#[derive(Clone, Debug, Default)]
pub struct Moments(#[cfg_attr(not(feature = "cuda"), allow(dead_code))] Option<(Tensor, Arc<()>)>);

/// What a step does to one parameter.
pub struct Step<'a> {
    /// θ
    pub var: &'a Var,
    /// g
    pub grad: &'a Tensor,
    /// m and v, in the shape of θ.
    pub moments: [&'a mut Tensor; 2],
    /// What weight decay leaves of θ.
    pub keep: f64,
    /// The learning rate, divided by what corrects m.
    pub rate: f64,
}

/// Updates all parameters and their moments in one kernel, if they and their gradients are f32 on a GPU; in Candle's own operations
/// it takes a dozen for each: m ← β₁ m + (1 − β₁) g; v ← β₂ v + (1 − β₂) g²; θ ← keep·θ − rate · m / (√v / √correct2 + ε).
/// The numbers are β₁, β₂, correct2, ε. The moments become parts of one tensor, which the next step changes where it lies.
///
/// # Errors
/// If a parameter and its gradient differ in size.
#[cfg(feature = "cuda")]
pub fn adamw<'a>(kept: &mut Moments, steps: impl IntoIterator<Item = Step<'a>>, numbers: [f64; 4]) -> Result<Option<()>> {
    use candle_core::DType;

    use crate::cuda;

    let fits = |tensor: &Tensor| cuda::takes(tensor, &[DType::F32]);
    let mut steps: Vec<Step> = steps.into_iter().collect();
    if steps.is_empty() || !steps.iter().all(|step| fits(step.var) && step.var.is_contiguous() && fits(step.grad)) {
        return Ok(None);
    }
    let both = match kept.0.take().filter(|(_, shared)| Arc::strong_count(shared) == 1) {
        Some((both, _)) => both,
        None => {
            let flat = |which: usize| -> Result<Tensor> {
                let parts = steps.iter().map(|step| step.moments[which].flatten_all()).collect::<Result<Vec<_>>>()?;
                Tensor::cat(&parts, 0)
            };
            let both = Tensor::stack(&[flat(0)?, flat(1)?], 0)?; // [2, n]
            let mut place = 0;
            for Step { moments, var, .. } in &mut steps {
                for (which, moment) in moments.iter_mut().enumerate() {
                    **moment = both.get(which)?.narrow(0, place, var.elem_count())?.reshape(var.shape())?;
                }
                place += var.elem_count();
            }
            both
        }
    };
    let grads = steps.iter().map(|step| step.grad.contiguous()).collect::<Result<Vec<_>>>()?;
    let parameter = |(step, grad): (&'_ Step<'_>, &'_ Tensor)| (step.var.as_detached_tensor(), grad.clone(), step.keep, step.rate);
    let parameters: Vec<_> = steps.iter().zip(&grads).map(parameter).collect();
    let parameters: Vec<_> = parameters
        .iter()
        .map(|(values, grad, keep, rate)| cuda::Parameter { values, grad, keep: *keep as f32, rate: *rate as f32 })
        .collect();
    let [beta1, beta2, correct2, eps] = numbers;
    let update = cuda::Update {
        beta1: beta1 as f32,
        rest1: (1.0 - beta1) as f32,
        beta2: beta2 as f32,
        rest2: (1.0 - beta2) as f32,
        correct2: (1.0 / correct2.sqrt()) as f32,
        eps: eps as f32,
    };
    cuda::adamw(&parameters, &both, update)?;
    kept.0 = Some((both, Arc::default()));
    Ok(Some(()))
}

/// Without CUDA there is no kernel: it never applies.
///
/// # Errors
/// None.
#[cfg(not(feature = "cuda"))]
pub fn adamw<'a>(_: &mut Moments, _: impl IntoIterator<Item = Step<'a>>, _: [f64; 4]) -> Result<Option<()>> {
    Ok(None)
}
