//! What Candle lacks or loses gradients in: layer norm, a linear layer that spares frozen weights, softmax, attention, AdamW.
//!
//! Candle's `LayerNorm` on a contiguous input, `ops::softmax_last_dim` and friends have no backward pass and say
//! nothing about it: a tuning run then trains only what comes after them. Every block here is checked against finite
//! differences (`tests/gradients.rs`) and against PyTorch (`tests/parity.rs`).
//!
//! Each fused operation stands beside its plain form, built from Candle's (`forward_plain`), with which it agrees to 1e-5,
//! forward and every gradient (`tests/fused.rs`, `tests/text_loss.rs`). Its documentation says what it computes, what it
//! replaces and what that gains. Those times are of forward and backward together for 32 sequences of 99 tokens of width 768,
//! which is a tuning step's batch, on two cores of a Zen 5: `cargo bench --bench ops` measures each, and the plain form with it.

mod activation;
mod adamw;
mod attention;
mod attention_branch;
mod block;
mod chunked_loss;
mod cuda;
mod fused_attention;
mod gemm;
mod layer_norm;
mod linear;
mod math;
mod mlp_branch;
mod noisy_loss;
mod norm_rows;
mod packed;
mod parallel;
mod patches;
mod schedule;
mod softmax;

pub use crate::isa::Isa;
pub use activation::Activation;
pub use adamw::{AdamW, AdamWConfig, Param, ParamGroup};
pub use attention::Attention;
pub use block::Block;
pub(crate) use chunked_loss::{ChunkedLoss, NoisyUnit};
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub(crate) use noisy_loss::NoisyLoss;
pub use packed::Precision;
pub use patches::patches;
pub use schedule::Schedule;
pub use softmax::softmax;

use candle_core::{CpuStorage, Error, Layout, Result, Tensor};

/// The f32 values of a contiguous CPU storage, for the custom operations of this module.
fn f32_slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let values = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => Err(Error::Msg("custom operation on a strided tensor: call contiguous() first".into())),
    }
}

/// Runs `f` on the f32 values of a CPU tensor (made contiguous first).
pub(crate) fn with_f32<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    with_f32s([tensor], |[values]| f(values))
}

/// [`with_f32`] for several tensors at once.
fn with_f32s<R, const N: usize>(tensors: [&Tensor; N], f: impl FnOnce([&[f32]; N]) -> R) -> Result<R> {
    let tensors = tensors.iter().map(|tensor| tensor.contiguous()).collect::<Result<Vec<_>>>()?;
    let storages: Vec<_> = tensors.iter().map(Tensor::storage_and_layout).collect();
    let values = storages.iter().map(|(storage, layout)| match &**storage {
        candle_core::Storage::Cpu(storage) => f32_slice(storage, layout),
        _ => Err(Error::Msg("custom CPU operation on a tensor of another device".into())),
    });
    let values = values.collect::<Result<Vec<_>>>()?;
    Ok(f(std::array::from_fn(|i| values[i])))
}

/// True on a GPU, for f32: the operations with a kernel there apply.
pub(crate) fn on_gpu_f32(tensor: &Tensor) -> bool {
    cuda::takes(tensor, &[candle_core::DType::F32])
}

/// True where the custom CPU operations apply; elsewhere a GPU's kernels or the plain differentiable form are used.
pub(crate) fn on_cpu_f32(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == candle_core::DType::F32
}
