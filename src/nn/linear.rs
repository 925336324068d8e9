//! A linear layer that computes only the gradients that someone asks for.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use candle_nn::VarBuilder;

use super::gemm::{View, library};
use super::packed::{FrozenLinear, PackedLinear, Part};
use super::{Isa, Precision, f32_slice, on_cpu_f32, parallel, with_f32};

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
    packed: Option<Part>,
}

impl Linear {
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias, packed: None }
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
        if let (Some(part), true) = (&self.packed, on_cpu_f32(x)) {
            return x.contiguous()?.apply_op1(FrozenLinear(part.clone()));
        }
        if !on_cpu_f32(x) {
            return self.forward_plain(x);
        }
        self.forward_sparing(&x.reshape(((), inputs))?)?.reshape(dims)
    }

    /// The same out of Candle's own matmul and addition: the reference, and the path on other devices.
    pub fn forward_plain(&self, x: &Tensor) -> Result<Tensor> {
        let (outputs, inputs) = self.weight.dims2()?;
        let mut dims = x.dims().to_vec();
        dims.pop();
        dims.push(outputs);
        let y = x.reshape(((), inputs))?.matmul(&self.weight.t()?)?.reshape(dims)?;
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
        Self { weight: self.weight.detach(), bias: self.bias.as_ref().map(Tensor::detach), packed: self.packed.clone() }
    }

    /// The same layer with its weight put into the order in which the processor multiplies fastest; it no longer sees
    /// updates of the weight. A layer that learns, or lies on another device, stays as it is.
    pub fn packed(&self, precision: Precision, isa: Isa) -> Result<Self> {
        let [layer] = Self::stacked([self], precision, isa)?;
        Ok(layer)
    }

    /// [`packed`](Self::packed) for layers that read the same input: one product computes them all.
    pub(super) fn stacked<const N: usize>(layers: [&Self; N], precision: Precision, isa: Isa) -> Result<[Self; N]> {
        let parts = PackedLinear::stack(&layers.map(|layer| (&layer.weight, layer.bias.as_ref())), precision, isa)?;
        let mut parts = parts.into_iter().flatten();
        Ok(layers.map(|layer| Self { packed: parts.next(), ..layer.clone() }))
    }

    /// Where it is packed.
    pub(super) fn part(&self) -> Option<&Part> {
        self.packed.as_ref()
    }

    /// Memory that packing has taken so far, in bytes; layers of one stack each name the whole stack's.
    pub fn packed_bytes(&self) -> usize {
        self.packed.as_ref().map_or(0, |part| part.stack.bytes())
    }
}

struct SparingLinear;

/// Rows of the result that one task computes; the cut does not depend on the number of threads, so neither do the bits.
const ROWS: usize = 192;

/// y[rows, columns] += a[rows, inner] · b[inner, columns] for matrices of any layout.
fn multiply_add(a: &[f32], av: View, b: &[f32], bv: View, inner: usize, columns: usize, y: &mut [f32]) {
    if y.is_empty() || inner == 0 {
        return;
    }
    let work = 2 * y.len() * inner;
    let blocks = y.chunks_mut(ROWS * columns).enumerate().collect();
    parallel::for_each(blocks, work, |(block, y)| {
        let a_view = View { at: av.at + block * ROWS * av.row, ..av };
        let to = View { at: 0, row: columns, column: 1 };
        library(y.len() / columns, columns, inner, 1.0, a, a_view, b, bv, true, y, to);
    });
}

/// y[rows, out] = x[rows, in] · weight[out, in]ᵀ + y
fn forward(x: &[f32], weight: &[f32], inputs: usize, outputs: usize, mut y: Vec<f32>) -> Vec<f32> {
    let rows = View { at: 0, row: inputs, column: 1 };
    multiply_add(x, rows, weight, rows.transposed(), inputs, outputs, &mut y);
    y
}

/// The gradients that someone asks for: dx = g W, dW = gᵀ x.
fn gradients(x: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let (rows, inputs) = x.dims2()?;
    let outputs = weight.dims()[0];
    let (wide, narrow) = (View { at: 0, row: inputs, column: 1 }, View { at: 0, row: outputs, column: 1 });
    let product = |a: &Tensor, av: View, b: &Tensor, inner: usize, like: &Tensor| -> Result<Tensor> {
        let mut y = vec![0f32; like.elem_count()];
        with_f32(a, |a| with_f32(b, |b| multiply_add(a, av, b, wide, inner, inputs, &mut y)))??;
        Tensor::from_vec(y, like.shape(), like.device())
    };
    let dx = x.track_op().then(|| product(grad, narrow, weight, outputs, x)).transpose()?;
    let dw = weight.track_op().then(|| product(grad, narrow.transposed(), x, rows, weight)).transpose()?;
    Ok((dx, dw))
}

impl CustomOp2 for SparingLinear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, x_layout: &Layout, weight: &CpuStorage, weight_layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, inputs) = x_layout.shape().dims2()?;
        let outputs = weight_layout.dims()[0];
        let y = forward(f32_slice(x, x_layout)?, f32_slice(weight, weight_layout)?, inputs, outputs, vec![0f32; rows * outputs]);
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
        let y = forward(f32_slice(x, x_layout)?, f32_slice(weight, weight_layout)?, inputs, bias.len(), bias.repeat(rows));
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
