//! Layer normalization whose scale and shift learn.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::VarBuilder;
use lafter_fast as fast; // fast::

/// y = (x − mean(x)) / √(var(x) + ε) · weight + bias over the last dimension (Ba et al. 2016, eq. 4).
///
/// `candle_nn::LayerNorm` drops the gradient on contiguous inputs; this one has a backward pass for all three inputs.
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
    /// If a tensor is missing or has another shape.
    pub fn load(width: usize, eps: f64, vb: VarBuilder) -> Result<Self> {
        Ok(Self::new(vb.get(width, "weight")?, vb.get(width, "bias")?, eps))
    }

    /// `[.., width]` → `[.., width]`
    ///
    /// # Errors
    /// If `x` has another width.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        fast::prefer!(fast::layer_norm(x, self.norm()));
        self.forward_plain(x)
    }

    /// The same, built from Candle's own differentiable operations, in f64 for f64 and in f32 for the rest: the reference.
    ///
    /// # Errors
    /// If `x` has another width.
    pub fn forward_plain(&self, x: &Tensor) -> Result<Tensor> {
        let dtype = x.dtype();
        let kind = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let x = x.to_dtype(kind)?;
        let centered = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centered.sqr()?.mean_keepdim(D::Minus1)?;
        let normalized = centered.broadcast_div(&(variance + self.eps)?.sqrt()?)?;
        normalized.broadcast_mul(&self.weight.to_dtype(kind)?)?.broadcast_add(&self.bias.to_dtype(kind)?)?.to_dtype(dtype)
    }

    /// The same values without a graph; sees later updates of the variables it shares storage with.
    pub fn detached(&self) -> Self {
        Self { weight: self.weight.detach(), bias: self.bias.detach(), eps: self.eps }
    }
}

impl std::fmt::Debug for LayerNorm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LayerNorm({})", self.weight.elem_count())
    }
}
