//! AdamW's update of one parameter, in one kernel on a GPU.

use candle_core::{Result, Tensor, Var};

/// Both moments of a parameter `[2, n]` as the kernel left them, kept from step to step.
#[derive(Clone, Debug, Default)]
pub struct Moments(#[cfg_attr(not(feature = "cuda"), allow(dead_code))] Option<Tensor>);

/// Updates θ and its moments m, v in one kernel, if parameter and gradient are f32 on a GPU; in Candle's own operations it takes a
/// dozen: m ← β₁ m + (1 − β₁) g; v ← β₂ v + (1 − β₂) g²; θ ← keep·θ − rate · m / (√v / √correct2 + ε).
/// The numbers are keep, β₁, β₂, correct2, ε, rate.
///
/// # Errors
/// If parameter, gradient and moments differ in size.
#[cfg(feature = "cuda")]
pub fn adamw(var: &Var, grad: &Tensor, moments: [&mut Tensor; 2], kept: &mut Moments, numbers: [f64; 6]) -> Result<Option<()>> {
    use candle_core::DType;

    use crate::cuda;

    if !cuda::takes(grad, &[DType::F32]) || var.dtype() != DType::F32 {
        return Ok(None);
    }
    let [first, second] = moments;
    let both = match kept.0.take() {
        Some(both) => both,
        None => Tensor::stack(&[first.flatten_all()?, second.flatten_all()?], 0)?, // [2, n]
    };
    let [keep, beta1, beta2, correct2, eps, rate] = numbers;
    let update = cuda::Update {
        keep: keep as f32,
        beta1: beta1 as f32,
        rest1: (1.0 - beta1) as f32,
        beta2: beta2 as f32,
        rest2: (1.0 - beta2) as f32,
        correct2: (1.0 / correct2.sqrt()) as f32,
        eps: eps as f32,
        rate: rate as f32,
    };
    let (parameter, both) = cuda::adamw(&var.as_detached_tensor(), grad, &both, update)?;
    var.set(&parameter)?;
    *first = both.get(0)?.reshape(var.shape())?;
    *second = both.get(1)?.reshape(var.shape())?;
    kept.0 = Some(both);
    Ok(Some(()))
}

/// Without CUDA there is no kernel: it never applies.
///
/// # Errors
/// None.
#[cfg(not(feature = "cuda"))]
pub fn adamw(_: &Var, _: &Tensor, _: [&mut Tensor; 2], _: &mut Moments, _: [f64; 6]) -> Result<Option<()>> {
    Ok(None)
}
