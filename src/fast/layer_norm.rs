//! Layer normalization in one pass, both directions.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor};

#[cfg(feature = "cuda")]
use super::backward::hand;
use super::norm_rows::{Affine, NormGradients};
use super::{Isa, cuda, f32_slice, math, on_cpu_f32, parallel, with_f32s};

/// A layer norm: y = (x − mean(x)) / √(var(x) + ε) · weight + bias over the last dimension.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// The scale, `[width]`.
    pub weight: &'a Tensor,
    /// The shift, `[width]`.
    pub bias: &'a Tensor,
    /// ε, added to the variance.
    pub eps: f64,
}

impl Norm<'_> {
    /// Whether a backward pass will come through.
    pub(crate) fn learns(&self, x: &Tensor) -> bool {
        x.track_op() || self.weight.track_op() || self.bias.track_op()
    }
}

/// A [`Norm`] of x `[.., width]`, with gradients of x, scale and shift: f32 on the CPU and on a GPU.
///
/// With x̂ = (x − mean)·s, s = 1/√(var + ε): dx = s·(g w − mean(g w) − x̂ mean(g w x̂)), dw = Σ g x̂, db = Σ g. On the CPU each
/// direction is one pass that keeps nothing, instead of nine operations and their gradients, each a tensor of the input's size:
/// 3.7 ms against 43 (`cargo bench --bench ops -- layer_norm layer_norm_candle`). `candle_nn::LayerNorm` drops the gradient on
/// contiguous inputs.
///
/// # Errors
/// If `x` has another width.
pub fn layer_norm(x: &Tensor, norm: Norm) -> Result<Option<Tensor>> {
    let Norm { weight, bias, eps } = norm;
    if cuda::nothing(x) {
        return Ok(Some(x.clone()));
    }
    if (on_cpu_f32(x) || cuda::takes(x, &[DType::F32])) && [weight, bias].iter().all(|part| part.dtype() == DType::F32) {
        return Ok(Some(x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, FusedLayerNorm { eps: eps as f32 })?));
    }
    Ok(None)
}

struct FusedLayerNorm {
    eps: f32,
}

/// Rows that one task handles; partial sums are added in task order, so the bits do not depend on the thread count.
const ROWS: usize = 64;

impl CustomOp3 for FusedLayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, isa) = (f32_slice(x, x_layout)?, Isa::best());
        let norm = Affine::new(f32_slice(weight, weight_layout)?, f32_slice(bias, bias_layout)?, self.eps, x_layout.dims())?;
        let width = norm.width();
        let mut y = vec![0f32; x.len()];
        let tasks = y.chunks_mut(width * ROWS).zip(x.chunks(width * ROWS)).collect();
        parallel::for_each(tasks, 8 * x.len(), |(y, x): (&mut [f32], &[f32])| {
            for (y, x) in y.chunks_mut(width).zip(x.chunks(width)) {
                math::layer_norm(isa, x, norm.weight, norm.bias, norm.eps, y);
            }
        });
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        weight: &CudaStorage,
        weight_layout: &Layout,
        bias: &CudaStorage,
        bias_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        cuda::layer_norm((x, x_layout), (weight, weight_layout), (bias, bias_layout), self.eps)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            let (dx, dw, db) = cuda::layer_norm_backward(x, weight, grad, self.eps)?;
            return Ok((hand(x, dx), hand(weight, dw), hand(bias, db)));
        }
        let size = weight.elem_count() * ROWS;
        let mut dx = vec![0f32; x.elem_count()];
        let mut run = |x: &[f32], weight: &[f32], bias: &[f32], g: &[f32]| {
            let norm = Affine { weight, bias, eps: self.eps };
            let tasks = dx.chunks_mut(size).zip(x.chunks(size).zip(g.chunks(size))).collect();
            parallel::map(tasks, 20 * x.len(), || (), |(), (dx, (x, g))| norm.backward(Isa::best(), x, g, dx))
        };
        let partial = with_f32s([x, weight, bias, grad], |[x, w, b, g]| run(x, w, b, g))?;
        NormGradients::tensors(partial, dx, x, weight)
    }
}
