//! Fused operations for Candle that keep their gradients, by instruction set on the CPU and as kernels on CUDA.
//!
//! Every operation answers `Ok(None)` if it does not apply: another device or number type, or nothing to gain. So the plain form,
//! built from Candle's own operations, stays where a reader looks for it, and [`prefer!`] puts the fused one before it in one line:
//!
//! ```
//! use candle_core::{D, Result, Tensor};
//! use lafter_fast as fast;
//! /// pᵢ = exp(xᵢ) / Σⱼ exp(xⱼ)
//! fn softmax(x: &Tensor) -> Result<Tensor> {
//!     fast::prefer!(fast::softmax(x));
//!     let e = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
//!     e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
//! }
//! # let p = softmax(&Tensor::new(&[[0f32, 0.]], &candle_core::Device::Cpu)?)?;
//! # assert_eq!(p.to_vec2::<f32>()?, [[0.5, 0.5]]);
//! # Ok::<(), candle_core::Error>(())
//! ```
//!
//! | operation | on the CPU (f32) | on CUDA |
//! |---|---|---|
//! | [`layer_norm`], [`softmax`], [`gelu`] | one pass in each direction | one kernel in each direction |
//! | [`attention`] | no transposed copies, no stored probabilities | |
//! | [`linear`] | only the gradients that are asked for; [`Packed`] weights | no gradient of a frozen weight |
//! | [`attention_branch`], [`mlp_branch`] | a transformer block's branches, frozen but for their norms | the same: products by cuBLAS, one kernel between two |
//! | [`first_attention_branch`] | | the first token's alone |
//! | [`patches`], [`Upload`] | one copy on all threads | one kernel; 8-bit pictures from page-locked memory, strong views by [`ViewRecipe`] |
//! | [`NoisyLoss`], [`ChunkedLoss`], [`NoisyUnit`] | smoothed cross entropy of noisy unit features, in tiles | the same in chunks |
//! | [`sparse_product`], [`sparse_softmax`] | one pass over the rows of a graph's neighbors | |
//! | [`smoothed_cross_entropy`], [`unit()`] | | one kernel in each direction |
//! | [`argmax`] | | one kernel; the first of equals |
//! | [`adamw`] | | one kernel for all parameters |
//! | [`backward()`] | | gradients of variables are not added to zeros |
//!
//! Results do not depend on the number of threads. Times in the documentation are of forward and backward together for 32
//! sequences of 99 tokens of width 768, a tuning step's batch of CLIP ViT-B/32, on two cores of a Zen 5 (`cargo bench --bench ops`
//! of the crate `lafter`).

#![warn(missing_docs, clippy::missing_errors_doc)]

mod adamw;
mod argmax;
mod attention;
mod attention_branch;
mod backward;
mod chunked_loss;
mod cuda;
mod frozen_linear;
mod gelu;
mod gemm;
mod isa;
mod joined;
mod layer;
mod layer_norm;
mod linear;
mod math;
mod mlp_branch;
mod neighbors;
mod noise;
mod noisy_loss;
mod norm_rows;
mod packed;
mod parallel;
mod patches;
#[cfg(test)]
mod random;
mod recipe;
mod smoothed;
mod softmax;
mod storage;
#[cfg(not(feature = "cuda"))]
mod upload;

pub use adamw::{Moments, Step, adamw};
pub use argmax::argmax;
pub use attention::attention;
pub use attention_branch::{attention_branch, first_attention_branch};
pub use backward::backward;
pub use chunked_loss::ChunkedLoss;
#[cfg(feature = "cuda")]
pub use cuda::Upload;
pub use gelu::gelu;
pub use isa::Isa;
#[doc(hidden)]
pub use isa::Level;
pub use joined::Joined;
pub use layer::{Layer, Precision, Weight};
pub use layer_norm::{Norm, layer_norm};
pub use linear::linear;
pub use mlp_branch::mlp_branch;
pub use neighbors::{SparseRows, sparse_product, sparse_softmax};
pub use noise::{Noise, NoisyUnit};
pub use noisy_loss::NoisyLoss;
pub use packed::Packed;
pub use patches::patches;
pub use recipe::{ViewRecipe, ViewStep, ViewTaps};
pub use smoothed::{smoothed_cross_entropy, unit};
pub use softmax::softmax;
pub use storage::{on_cpu_f32, on_gpu_f32, with_f32};
#[cfg(not(feature = "cuda"))]
pub use upload::Upload;

use gelu::Gelu;
use storage::{f32_slice, with_f32s};

/// Returns a fused operation's answer from the surrounding function, if there is one: `prefer!(softmax(x));`.
#[macro_export]
macro_rules! prefer {
    ($fused:expr) => {
        if let Some(fused) = $fused? {
            return Ok(fused);
        }
    };
}
