//! Softmax over the last dimension, with a backward pass.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};

use super::{Isa, cuda, f32_slice, math, on_cpu_f32, parallel, with_f32};

/// pᵢ = exp(xᵢ) / Σⱼ exp(xⱼ) over the last dimension: f32, on a GPU also bf16; `candle_nn::ops::softmax_last_dim` has no backward
/// pass.
///
/// On the CPU one pass forward, and one backward, dxᵢ = pᵢ (gᵢ − Σⱼ gⱼ pⱼ), instead of maximum, difference, exponential, sum and
/// quotient and their gradients: 3.1 ms against 17 (`cargo bench --bench ops -- softmax softmax_candle`).
///
/// # Shapes
/// `[.., n]` → `[.., n]`.
///
/// # Errors
/// If the device has no memory left (Candle's).
pub fn softmax(x: &Tensor) -> Result<Option<Tensor>> {
    if cuda::nothing(x) {
        return Ok(Some(x.clone()));
    }
    if on_cpu_f32(x) || cuda::takes(x, &[DType::F32, DType::BF16]) {
        return Ok(Some(x.contiguous()?.apply_op1(FusedSoftmax)?));
    }
    Ok(None)
}

struct FusedSoftmax;

/// Rows that one task computes.
const ROWS: usize = 64;

/// Operations per number: what an exponential costs.
const WORK: usize = 20;

impl CustomOp1 for FusedSoftmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let n = layout.dims().last().copied().unwrap_or(1).max(1);
        let mut y = f32_slice(x, layout)?.to_vec();
        let work = WORK * y.len();
        parallel::for_each(y.chunks_mut(n * ROWS).collect(), work, |y| y.chunks_mut(n).for_each(|y| math::softmax(Isa::best(), y)));
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda::softmax(x, layout)
    }

    /// dxᵢ = pᵢ (gᵢ − Σⱼ gⱼ pⱼ)
    fn bwd(&self, x: &Tensor, p: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return Ok(Some(cuda::softmax_backward(p, grad)?));
        }
        let n = x.dims().last().copied().unwrap_or(1).max(1);
        let mut dx = with_f32(grad, <[f32]>::to_vec)?;
        with_f32(p, |p| {
            let tasks = dx.chunks_mut(n * ROWS).zip(p.chunks(n * ROWS)).collect();
            parallel::for_each(tasks, 4 * p.len(), |(dx, p)| {
                dx.chunks_mut(n).zip(p.chunks(n)).for_each(|(dx, p)| math::softmax_backward(Isa::best(), p, dx));
            });
        })?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}
