//! The two layers with weights of their own: a linear layer and layer normalization, both over the last dimension.

use candle_core::{D, DType, Device, Result, Shape, Tensor};
use candle_nn::VarBuilder;
use lafter_fast as fast; // fast::

use super::more; // more::

/// y = x Wᵀ + b.
///
/// Candle's `matmul` always computes both gradients, also that of a frozen weight. The fused form computes only those that are
/// asked for.
///
/// # Shapes
/// input `[.., in]`, output `[.., out]`; `weight` `[out, in]`, `bias` `[out]`.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use lafter::nn::Linear;
/// let layer = Linear::new(Tensor::new(&[[1f32, 2.]], &Device::Cpu)?, None);
/// let x = Var::new(&[[3f32, 4.]], &Device::Cpu)?;
/// let y = layer.forward(&x)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[11.]]);
/// assert_eq!(y.backward()?.get(&x).unwrap().to_vec2::<f32>()?, [[1., 2.]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Linear {
    /// W, `[out, in]`. Another one in its place counts at once.
    pub weight: Weight,
    /// b, `[out]`; replaced as the weight is.
    pub bias: Option<Tensor>,
    /// What tuning adds to it: [`more::Tuning`].
    pub tuning: more::Tuning,
    pub(super) joined: Option<fast::Joined>,
}

/// W of a [`Linear`] layer, `[out, in]`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use lafter::nn::{Isa, Linear, Precision};
/// let weight = Tensor::new(&[[1f32, 2.]], &Device::Cpu)?;
/// let mut layer = Linear::new(weight, None).packed(Precision::F32, Isa::best())?;
/// assert_eq!(layer.weight.tensor().to_vec2::<f32>()?, [[1., 2.]]);
/// layer.weight = Tensor::new(&[[3f32, 4.]], &Device::Cpu)?.into();
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone)]
pub enum Weight {
    /// A tensor.
    Plain(Tensor),
    /// Frozen, and in no other form than the one in which this processor multiplies fastest ([`lafter_fast::Packed`]).
    Packed(fast::Packed),
}

impl Weight {
    /// W as a tensor, bit for bit; a packed one is written out anew at each call.
    pub fn tensor(&self) -> Tensor {
        match self {
            Self::Plain(weight) => weight.clone(),
            Self::Packed(weight) => fast::Packed::tensor(weight),
        }
    }

    /// The tensor, unless it is packed.
    pub fn plain(&self) -> Option<&Tensor> {
        match self {
            Self::Plain(weight) => Some(weight),
            Self::Packed(fast::Packed { .. }) => None,
        }
    }

    /// Its shape.
    pub fn dims(&self) -> &[usize] {
        match self {
            Self::Plain(weight) => weight.dims(),
            Self::Packed(weight) => fast::Packed::dims(weight),
        }
    }

    /// Outputs and inputs.
    ///
    /// # Errors
    /// If it is not a matrix (Candle's).
    pub fn dims2(&self) -> Result<(usize, usize)> {
        Shape::from(self.dims()).dims2()
    }

    /// Its number type; what is packed was f32, on the CPU.
    pub fn dtype(&self) -> DType {
        self.plain().map_or(DType::F32, Tensor::dtype)
    }

    /// Where it lies.
    pub fn device(&self) -> &Device {
        self.plain().map_or(&Device::Cpu, Tensor::device)
    }
}

impl From<Tensor> for Weight {
    fn from(weight: Tensor) -> Self {
        Self::Plain(weight)
    }
}

impl Linear {
    /// From W `[out, in]` and b `[out]`.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self {
            weight: weight.into(),
            bias,
            tuning: more::Tuning::default(),
            joined: None, // fast::
        }
    }

    /// Reads `weight` and `bias` below `vb`.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(inputs: usize, outputs: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self::new(vb.get((outputs, inputs), "weight")?, Some(vb.get(outputs, "bias")?)))
    }

    /// Reads `weight` alone below `vb`.
    ///
    /// # Errors
    /// If the tensor is missing or has another shape.
    pub fn load_no_bias(inputs: usize, outputs: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self::new(vb.get((outputs, inputs), "weight")?, None))
    }

    /// `[.., in]` → `[.., out]`, in the number type of `x`.
    ///
    /// # Errors
    /// If `x` has another width, or lies on another device than the layer.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (outputs, inputs) = self.weight.dims2()?;
        if x.dims().last() != Some(&inputs) {
            candle_core::bail!("linear layer expects [.., {inputs}], got {:?}", x.dims());
        }
        if outputs == 0 || inputs == 0 {
            candle_core::bail!("a linear layer of shape [{outputs}, {inputs}] computes nothing: give it inputs and outputs");
        }
        fast::prefer!(self.fused(x)); // fast::
        self.forward_plain(x)
    }

    /// The same, built from Candle's own matmul and addition: the reference. A weight in bf16 takes its input in bf16; the answer is
    /// in the type of the input.
    ///
    /// # Errors
    /// If `x` has another width (Candle's).
    pub fn forward_plain(&self, x: &Tensor) -> Result<Tensor> {
        if !x.dtype().is_float() {
            candle_core::bail!("a linear layer reads floating-point numbers, got {:?}", x.dtype());
        }
        let weight = self.weight.tensor();
        let (outputs, inputs) = weight.dims2()?;
        let mut dims = x.dims().to_vec();
        dims.pop();
        dims.push(outputs);
        let rows = x.to_dtype(weight.dtype())?.reshape(((), inputs))?;
        let y = rows.matmul(&weight.t()?)?.reshape(dims)?;
        let y = match &self.bias {
            Some(bias) => y.broadcast_add(&bias.to_dtype(y.dtype())?)?,
            None => y,
        };
        let y = y.to_dtype(x.dtype())?;
        let y = more::changed(self, x, y)?;
        Ok(y)
    }

    /// The same values without a graph; sees later updates of the variables it shares storage with.
    pub fn detached(&self) -> Self {
        Self {
            weight: self.weight.plain().map_or_else(|| self.weight.clone(), |weight| weight.detach().into()),
            bias: self.bias.as_ref().map(Tensor::detach),
            tuning: more::Tuning::detached(&self.tuning),
            joined: self.joined.clone(), // fast::
        }
    }
}

impl std::fmt::Debug for Linear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Linear({:?}, bias: {})", self.weight.dims(), self.bias.is_some())
    }
}

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
        if self.weight.is_contiguous() && self.bias.is_contiguous() {
            fast::prefer!(fast::layer_norm(x, self.norm()));
        }
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
