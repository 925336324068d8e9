//! Softmax over the last dimension, with a backward pass.

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{f32_slice, on_cpu_f32, with_f32};

/// pᵢ = exp(xᵢ) / Σⱼ exp(xⱼ) over the last dimension; `candle_nn::ops::softmax_last_dim` has no backward pass.
///
/// # Shapes
/// [.., n] → [.., n].
///
/// ```
/// use candle_core::{Device, Tensor};
/// let p = lafter::nn::softmax(&Tensor::new(&[[0f32, 0.]], &Device::Cpu)?)?;
/// assert_eq!(p.to_vec2::<f32>()?, [[0.5, 0.5]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    if on_cpu_f32(x) { x.contiguous()?.apply_op1(FusedSoftmax) } else { candle_nn::ops::softmax(x, D::Minus1) }
}

struct FusedSoftmax;

const ROWS: usize = 64;

impl CustomOp1 for FusedSoftmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = f32_slice(x, layout)?;
        let n = layout.dims().last().copied().unwrap_or(1).max(1);
        let mut y = vec![0f32; x.len()];
        y.par_chunks_mut(n * ROWS).zip(x.par_chunks(n * ROWS)).for_each(|(y, x)| {
            for (y, x) in y.chunks_mut(n).zip(x.chunks(n)) {
                let max = x.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
                y.iter_mut().zip(x).for_each(|(y, x)| *y = (x - max).exp());
                let inverse = 1.0 / y.iter().sum::<f32>();
                y.iter_mut().for_each(|y| *y *= inverse);
            }
        });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    /// dxᵢ = pᵢ (gᵢ − Σⱼ gⱼ pⱼ)
    fn bwd(&self, x: &Tensor, p: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let n = x.dim(D::Minus1)?.max(1);
        let mut dx = vec![0f32; x.elem_count()];
        with_f32(p, |p| {
            with_f32(grad, |grad| {
                dx.par_chunks_mut(n * ROWS).zip(p.par_chunks(n * ROWS)).zip(grad.par_chunks(n * ROWS)).for_each(|((dx, p), g)| {
                    for ((dx, p), g) in dx.chunks_mut(n).zip(p.chunks(n)).zip(g.chunks(n)) {
                        let dot: f32 = p.iter().zip(g).map(|(p, g)| p * g).sum();
                        dx.iter_mut().zip(p).zip(g).for_each(|((dx, p), g)| *dx = p * (g - dot));
                    }
                });
            })
        })??;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}
