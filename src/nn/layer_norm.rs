//! Layer normalisation whose scale and shift learn.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp3, D, DType, Layout, Result, Shape, Tensor};
use candle_nn::VarBuilder;

use super::norm_rows::{Affine, NormGradients};
use super::{Isa, cuda, f32_slice, math, on_cpu_f32, parallel, with_f32s};

/// y = (x − mean(x)) / √(var(x) + ε) · weight + bias over the last dimension (Ba et al. 2016, eq. 4).
///
/// `candle_nn::LayerNorm` drops the gradient on contiguous inputs; this one has a backward pass for all three inputs. With
/// x̂ = (x − mean)·s, s = 1/√(var + ε): dx = s·(g w − mean(g w) − x̂ mean(g w x̂)), dw = Σ g x̂, db = Σ g. On the CPU each
/// direction is one pass that keeps nothing, instead of nine operations and their gradients, each a tensor of the input's size:
/// 3.7 ms against 43 (`cargo bench --bench ops -- layer_norm layer_norm_candle`).
///
/// # Shapes
/// input and output `[.., width]`; `weight`, `bias` `[width]`.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use lafter::nn::LayerNorm;
/// let weight = Var::new(&[1f32, 1., 1.], &Device::Cpu)?;
/// let bias = Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu)?;
/// let norm = LayerNorm::new(weight.as_tensor().clone(), bias, 1e-5);
/// let y = norm.forward(&Tensor::new(&[[1f32, 2., 6.]], &Device::Cpu)?)?;
/// assert!(y.sum_all()?.to_scalar::<f32>()?.abs() < 1e-5);
/// assert!(y.sqr()?.sum_all()?.backward()?.get(&weight).is_some());
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone)]
pub struct LayerNorm {
    /// The scale, `[width]`.
    pub weight: Tensor,
    /// The shift, `[width]`.
    pub bias: Tensor,
    /// ε, added to the variance; 1e-5 in CLIP.
    pub eps: f64,
}

impl LayerNorm {
    /// From scale and shift, both `[width]`.
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        Self { weight, bias, eps }
    }

    /// Reads `weight` and `bias` below `vb`.
    ///
    /// # Errors
    /// Where a tensor is missing or has another shape.
    pub fn load(width: usize, eps: f64, vb: VarBuilder) -> Result<Self> {
        Ok(Self::new(vb.get(width, "weight")?, vb.get(width, "bias")?, eps))
    }

    /// `[.., width]` → `[.., width]`, one fused operation for f32, otherwise [`forward_plain`](Self::forward_plain).
    ///
    /// # Errors
    /// Where `x` has another width.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let fused = on_cpu_f32(x) || cuda::takes(x, &[DType::F32]);
        if fused && self.weight.dtype() == DType::F32 {
            x.contiguous()?.apply_op3(&self.weight, &self.bias, FusedLayerNorm { eps: self.eps as f32 })
        } else {
            self.forward_plain(x)
        }
    }

    /// The same, built from Candle's own differentiable operations, in f64 for f64 and in f32 for the rest: the reference,
    /// and the path of other types.
    ///
    /// # Errors
    /// Where `x` has another width.
    pub fn forward_plain(&self, x: &Tensor) -> Result<Tensor> {
        let dtype = x.dtype();
        let kind = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let x = x.to_dtype(kind)?;
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normalised = centred.broadcast_div(&(variance + self.eps)?.sqrt()?)?;
        normalised.broadcast_mul(&self.weight.to_dtype(kind)?)?.broadcast_add(&self.bias.to_dtype(kind)?)?.to_dtype(dtype)
    }

    /// Whether a backward pass will come through.
    pub(super) fn learns(&self, x: &Tensor) -> bool {
        x.track_op() || self.weight.track_op() || self.bias.track_op()
    }

    /// The same values without a graph; sees later updates of the variables it shares storage with.
    pub fn frozen(&self) -> Self {
        Self { weight: self.weight.detach(), bias: self.bias.detach(), eps: self.eps }
    }
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
            return Ok((Some(dx), Some(dw), Some(db)));
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

impl std::fmt::Debug for LayerNorm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LayerNorm({})", self.weight.elem_count())
    }
}
