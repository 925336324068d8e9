//! A linear layer that pays for its weight's gradient only where the weight learns.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use candle_nn::VarBuilder;

use super::{f32_slice, on_cpu_f32};

/// y = x Wᵀ + b.
///
/// Candle's `matmul` computes both gradients whenever it is visited, also that of a frozen weight: 29 % of the
/// arithmetic of a tuning step, and it keeps them all. Here a weight that records no graph (neither a variable nor
/// made from one) is frozen: forward goes through an operation whose backward pass returns the input's gradient only.
///
/// # Shapes
/// input [.., in], output [.., out]; `weight` [out, in], `bias` [out].
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
    pub weight: Tensor,
    pub bias: Option<Tensor>,
}

impl Linear {
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    /// Reads `weight` and `bias` below `vb`.
    pub fn load(inputs: usize, outputs: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self::new(vb.get((outputs, inputs), "weight")?, Some(vb.get(outputs, "bias")?)))
    }

    /// Reads `weight` alone below `vb`.
    pub fn load_no_bias(inputs: usize, outputs: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self::new(vb.get((outputs, inputs), "weight")?, None))
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (outputs, inputs) = self.weight.dims2()?;
        let mut dims = x.dims().to_vec();
        match dims.last_mut() {
            Some(last) if *last == inputs => *last = outputs,
            _ => candle_core::bail!("linear layer expects [.., {inputs}], got {:?}", x.dims()),
        }
        let rows = x.reshape(((), inputs))?; // [rows, in]
        let learns = self.weight.track_op() || self.bias.as_ref().is_some_and(Tensor::track_op);
        let y = if learns || !on_cpu_f32(x) { self.forward_plain(&rows)? } else { self.forward_frozen(&rows)? };
        y.reshape(dims)
    }

    /// Candle's own matmul and addition: every gradient is computed.
    fn forward_plain(&self, rows: &Tensor) -> Result<Tensor> {
        let y = rows.matmul(&self.weight.t()?)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }

    fn forward_frozen(&self, rows: &Tensor) -> Result<Tensor> {
        rows.contiguous()?.apply_op1(FrozenLinear { weight: self.weight.contiguous()?, bias: self.bias.clone() })
    }

    /// The same values without a graph; sees later updates of the variables it shares storage with.
    pub fn frozen(&self) -> Self {
        Self { weight: self.weight.detach(), bias: self.bias.as_ref().map(Tensor::detach) }
    }
}

struct FrozenLinear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl CustomOp1 for FrozenLinear {
    fn name(&self) -> &'static str {
        "frozen-linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, inputs) = layout.shape().dims2()?;
        let outputs = self.weight.dim(0)?;
        let x = f32_slice(x, layout)?;
        let mut y = match &self.bias {
            Some(bias) => super::with_f32(bias, |bias| bias.repeat(rows))?,
            None => vec![0f32; rows * outputs],
        };
        super::with_f32(&self.weight, |weight| {
            // y[rows, out] += x[rows, in] · weight[out, in]ᵀ: weight is read with swapped strides
            let (m, n, k) = (rows, outputs, inputs);
            let threads = gemm::Parallelism::Rayon(rayon::current_num_threads());
            // SAFETY: the pointers cover m·k, n·k and m·n elements with the strides given; y is not aliased.
            unsafe {
                gemm::gemm(
                    m,
                    n,
                    k,
                    y.as_mut_ptr(),
                    1,
                    n as isize,
                    true,
                    x.as_ptr(),
                    1,
                    k as isize,
                    weight.as_ptr(),
                    k as isize,
                    1,
                    1f32,
                    1f32,
                    false,
                    false,
                    false,
                    threads,
                );
            }
        })?;
        Ok((CpuStorage::F32(y), Shape::from((rows, outputs))))
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad.matmul(&self.weight)?))
    }
}

impl std::fmt::Debug for Linear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Linear({:?}, bias: {})", self.weight.dims(), self.bias.is_some())
    }
}
