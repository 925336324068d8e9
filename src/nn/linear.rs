//! A linear layer over the last dimension.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use lafter_fast as fast; // fast::

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
    /// W, `[out, in]`. Another tensor in its place counts at once.
    pub weight: Tensor,
    /// b, `[out]`; replaced as the weight is.
    pub bias: Option<Tensor>,
    pub(super) packed: fast::Packed,
}

impl Linear {
    /// From W `[out, in]` and b `[out]`.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self {
            weight,
            bias,
            packed: fast::Packed::default(), // nothing
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
        fast::prefer!(fast::linear(x, self.layer()));
        self.forward_plain(x)
    }

    /// The same, built from Candle's own matmul and addition: the reference. A weight in bf16 takes its input in bf16; the answer
    /// is in the type of the input.
    ///
    /// # Errors
    /// If `x` has another width (Candle's).
    pub fn forward_plain(&self, x: &Tensor) -> Result<Tensor> {
        let (outputs, inputs) = self.weight.dims2()?;
        let mut dims = x.dims().to_vec();
        dims.pop();
        dims.push(outputs);
        let rows = x.to_dtype(self.weight.dtype())?.reshape(((), inputs))?;
        let y = rows.matmul(&self.weight.t()?)?.reshape(dims)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias)?.to_dtype(x.dtype()),
            None => y.to_dtype(x.dtype()),
        }
    }

    /// The same values without a graph; sees later updates of the variables it shares storage with.
    pub fn frozen(&self) -> Self {
        Self { weight: self.weight.detach(), bias: self.bias.as_ref().map(Tensor::detach), ..self.clone() }
    }
}

impl std::fmt::Debug for Linear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Linear({:?}, bias: {})", self.weight.dims(), self.bias.is_some())
    }
}
