//! A linear layer that computes only the gradients that someone asks for.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use candle_nn::VarBuilder;

use super::{f32_slice, on_cpu_f32};

/// y = x Wᵀ + b.
///
/// Candle's `matmul` computes both gradients whenever it is visited, also that of a frozen weight: 29 % of the
/// arithmetic of a tuning step, and it keeps them all. This one computes a gradient only for what is a variable or made
/// from one: a frozen weight costs nothing, nor does the input of a first layer.
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
        let y = if on_cpu_f32(x) { self.forward_sparing(&rows)? } else { self.forward_plain(&rows)? };
        y.reshape(dims)
    }

    /// Candle's own matmul and addition, [rows, in] → [rows, out]: the reference, and the path on other devices.
    pub fn forward_plain(&self, rows: &Tensor) -> Result<Tensor> {
        let y = rows.matmul(&self.weight.t()?)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }

    fn forward_sparing(&self, rows: &Tensor) -> Result<Tensor> {
        let (rows, weight) = (rows.contiguous()?, self.weight.contiguous()?);
        match &self.bias {
            Some(bias) => rows.apply_op3(&weight, &bias.contiguous()?, SparingLinear),
            None => rows.apply_op2(&weight, SparingLinear),
        }
    }

    /// The same values without a graph; sees later updates of the variables it shares storage with.
    pub fn frozen(&self) -> Self {
        Self { weight: self.weight.detach(), bias: self.bias.as_ref().map(Tensor::detach) }
    }
}

struct SparingLinear;

/// y[rows, out] = x[rows, in] · weight[out, in]ᵀ + y
#[rustfmt::skip]
fn multiply_add(x: &[f32], weight: &[f32], inputs: usize, outputs: usize, mut y: Vec<f32>) -> Vec<f32> {
    let (m, n, k) = (y.len() / outputs.max(1), outputs, inputs);
    let threads = gemm::Parallelism::Rayon(rayon::current_num_threads());
    debug_assert!(x.len() == m * k && weight.len() == n * k);
    // SAFETY: the three buffers hold m·k, n·k and m·n elements under the (column, row) strides given; y is not aliased.
    unsafe {
        gemm::gemm(
            m, n, k,
            y.as_mut_ptr(), 1, n as isize, true,
            x.as_ptr(), 1, k as isize,
            weight.as_ptr(), k as isize, 1,
            1f32, 1f32, false, false, false, threads,
        );
    }
    y
}

/// The gradients that someone asks for: dx = g W, dW = gᵀ x.
fn gradients(x: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let dx = x.track_op().then(|| grad.matmul(weight)).transpose()?;
    let dw = weight.track_op().then(|| grad.t()?.matmul(x)).transpose()?;
    Ok((dx, dw))
}

impl CustomOp2 for SparingLinear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, x_layout: &Layout, weight: &CpuStorage, weight_layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, inputs) = x_layout.shape().dims2()?;
        let outputs = weight_layout.dims()[0];
        let y = multiply_add(f32_slice(x, x_layout)?, f32_slice(weight, weight_layout)?, inputs, outputs, vec![0f32; rows * outputs]);
        Ok((CpuStorage::F32(y), Shape::from((rows, outputs))))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        gradients(x, weight, grad)
    }
}

impl CustomOp3 for SparingLinear {
    fn name(&self) -> &'static str {
        "linear-bias"
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
        let (rows, inputs) = x_layout.shape().dims2()?;
        let bias = f32_slice(bias, bias_layout)?;
        let y = multiply_add(f32_slice(x, x_layout)?, f32_slice(weight, weight_layout)?, inputs, bias.len(), bias.repeat(rows));
        Ok((CpuStorage::F32(y), Shape::from((rows, bias.len()))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, dw) = gradients(x, weight, grad)?;
        let db = bias.track_op().then(|| grad.sum(0)).transpose()?;
        Ok((dx, dw, db))
    }
}

impl std::fmt::Debug for Linear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Linear({:?}, bias: {})", self.weight.dims(), self.bias.is_some())
    }
}
