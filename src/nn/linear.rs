//! A linear layer that computes only the gradients that are asked for.

use candle_core::backend::BackendStorage;
use candle_core::op::Add;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Storage, Tensor};
use candle_nn::VarBuilder;

use super::gemm::{View, library};
use super::packed::{FrozenLinear, PackedLinear, Part};
use super::{Isa, Precision, f32_slice, on_cpu_f32, parallel, with_f32s};

/// y = x Wᵀ + b.
///
/// Candle's `matmul` always computes both gradients, that of a frozen weight included: 29 % of the
/// arithmetic of a tuning step, and it keeps them all. This one computes a gradient only for what is a variable or made
/// from one: a frozen weight costs nothing, nor does the input of a first layer. Of dx = g W, dW = gᵀ x, db = Σ g a frozen
/// layer computes the first alone; [`packed`](Self::packed), it adds the bias while it writes the product: 768 → 3,072 takes
/// 72 ms against 123 with Candle's matmul (`cargo bench --bench ops -- linear linear_candle`).
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
    /// W, `[out, in]`. Another tensor in its place counts at once: what was [`packed`](Self::packed) of the old one is passed over.
    pub weight: Tensor,
    /// b, `[out]`; replaced as the weight is.
    pub bias: Option<Tensor>,
    packed: Option<Part>,
}

impl Linear {
    /// From W `[out, in]` and b `[out]`.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias, packed: None }
    }

    /// Reads `weight` and `bias` below `vb`.
    ///
    /// # Errors
    /// Where a tensor is missing or has another shape.
    pub fn load(inputs: usize, outputs: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self::new(vb.get((outputs, inputs), "weight")?, Some(vb.get(outputs, "bias")?)))
    }

    /// Reads `weight` alone below `vb`.
    ///
    /// # Errors
    /// Where the tensor is missing or has another shape.
    pub fn load_no_bias(inputs: usize, outputs: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self::new(vb.get((outputs, inputs), "weight")?, None))
    }

    /// `[.., in]` → `[.., out]`, in the number type of `x`.
    ///
    /// # Errors
    /// Where `x` has another width, or lies on another device than the layer.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (outputs, inputs) = self.weight.dims2()?;
        let mut dims = x.dims().to_vec();
        match dims.last_mut() {
            Some(last) if *last == inputs => *last = outputs,
            _ => candle_core::bail!("linear layer expects [.., {inputs}], got {:?}", x.dims()),
        }
        if outputs == 0 || inputs == 0 {
            candle_core::bail!("a linear layer of shape [{outputs}, {inputs}] computes nothing: give it inputs and outputs");
        }
        if let (Some(part), true) = (self.part(), on_cpu_f32(x)) {
            return x.contiguous()?.apply_op1(FrozenLinear(part.clone()));
        }
        if on_cpu_f32(x) && on_cpu_f32(&self.weight) {
            return self.forward_sparing(&x.reshape(((), inputs))?)?.reshape(dims);
        }
        // a weight in bf16 takes its input in bf16; the answer is in the type of the input
        let (kind, x) = (x.dtype(), x.to_dtype(self.weight.dtype())?);
        let learns = self.weight.track_op() || self.bias.as_ref().is_some_and(Tensor::track_op);
        let y = match learns {
            true => self.forward_plain(&x)?,
            false => {
                let frozen = FrozenProduct { weight: self.weight.clone(), bias: self.bias.clone() };
                x.reshape(((), inputs))?.contiguous()?.apply_op1(frozen)?.reshape(dims)?
            }
        };
        y.to_dtype(kind)
    }

    /// The same, built from Candle's own matmul and addition: the reference, and the path of layers that learn on other devices.
    ///
    /// # Errors
    /// Where `x` has another width (Candle's).
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
    /// updates of the weight. On a GPU, [`Precision::Bf16`] is [`rounded`](Self::rounded), [`Precision::F32`] changes nothing.
    /// A layer that learns stays as it is.
    ///
    /// # Errors
    /// Where a weight is no matrix (Candle's).
    pub fn packed(&self, precision: Precision, isa: Isa) -> Result<Self> {
        let [layer] = Self::stacked([self], precision, isa)?;
        Ok(layer)
    }

    /// [`packed`](Self::packed) for layers that read the same input: one product computes them all.
    pub(super) fn stacked<const N: usize>(layers: [&Self; N], precision: Precision, isa: Isa) -> Result<[Self; N]> {
        if precision == Precision::Bf16 && layers.iter().all(|layer| layer.weight.device().is_cuda()) {
            let mut rounded = layers.into_iter().map(Self::rounded).collect::<Result<Vec<_>>>()?.into_iter();
            return Ok(layers.map(|layer| rounded.next().unwrap_or_else(|| layer.clone())));
        }
        let parts = PackedLinear::stack(&layers.map(|layer| (&layer.weight, layer.bias.as_ref())), precision, isa)?;
        let mut parts = parts.into_iter().flatten();
        Ok(layers.map(|layer| Self { packed: parts.next(), ..layer.clone() }))
    }

    /// The same layer with weight and bias in bf16, where it is frozen: it multiplies in bf16, sums in f32, and answers in
    /// the type of its input.
    ///
    /// # Errors
    /// Where the device has no memory left (Candle's).
    pub fn rounded(&self) -> Result<Self> {
        let round = |tensor: &Tensor| -> Result<Tensor> { Ok(tensor.to_dtype(DType::BF16)?.detach()) };
        if self.weight.track_op() || self.bias.as_ref().is_some_and(Tensor::track_op) {
            return Ok(self.clone());
        }
        Ok(Self::new(round(&self.weight)?, self.bias.as_ref().map(round).transpose()?))
    }

    /// Its part of a packed stack, where it is packed and has the weight and bias that it was packed from.
    pub(super) fn part(&self) -> Option<&Part> {
        self.packed.as_ref().filter(|part| part.is_of(&self.weight, self.bias.as_ref()))
    }

    /// Memory that packing has taken so far, in bytes; layers of one stack each report the whole stack's.
    pub fn packed_bytes(&self) -> usize {
        self.packed.as_ref().map_or(0, |part| part.stack.bytes())
    }

    /// The number format in which it really multiplies: [`Precision::F32`] also where it was packed in
    /// [`Precision::Bf16`] for a processor without such products; `None` for a weight in any other type.
    pub fn precision(&self) -> Option<Precision> {
        match (self.part(), self.weight.dtype()) {
            (Some(part), _) => Some(part.stack.precision()),
            (None, DType::F32) => Some(Precision::F32),
            (None, DType::BF16) => Some(Precision::Bf16),
            _ => None,
        }
    }
}

/// y = x Wᵀ + b with a frozen weight on any device, in any type that multiplies there; only the input has a gradient.
struct FrozenProduct {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl FrozenProduct {
    /// x `[rows, inputs]`; `of` reaches into the storages of the device at hand.
    fn run<S: BackendStorage>(&self, x: &S, layout: &Layout, of: impl Fn(&Storage) -> Result<&S>) -> Result<(S, Shape)> {
        let (rows, inputs) = layout.shape().dims2()?;
        let (outputs, shape) = (self.weight.dims()[0], Shape::from((rows, self.weight.dims()[0])));
        let (weight, weight_layout) = self.weight.storage_and_layout();
        let y = x.matmul(of(&weight)?, (1, rows, outputs, inputs), layout, &weight_layout.transpose(0, 1)?)?;
        let Some(bias) = &self.bias else { return Ok((y, shape)) };
        let (bias, bias_layout) = bias.storage_and_layout();
        let y = y.binary_impl::<Add>(of(&bias)?, &Layout::contiguous(&shape), &bias_layout.broadcast_as(&shape)?)?;
        Ok((y, shape))
    }
}

fn elsewhere<T>() -> Result<T> {
    candle_core::bail!("a linear layer and its input lie on different devices")
}

impl CustomOp1 for FrozenProduct {
    fn name(&self) -> &'static str {
        "frozen-product"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.run(x, layout, |storage| if let Storage::Cpu(storage) = storage { Ok(storage) } else { elsewhere() })
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.run(x, layout, |storage| if let Storage::Cuda(storage) = storage { Ok(storage) } else { elsewhere() })
    }

    /// dx = g W
    fn bwd(&self, _x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad.contiguous()?.matmul(&self.weight.detach())?))
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

/// The gradients that are asked for: dx = g W, dW = gᵀ x.
fn gradients(x: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let (rows, inputs) = x.dims2()?;
    let outputs = weight.dims()[0];
    let (wide, narrow) = (View { at: 0, row: inputs, column: 1 }, View { at: 0, row: outputs, column: 1 });
    let product = |a: &Tensor, av: View, b: &Tensor, inner: usize, like: &Tensor| -> Result<Tensor> {
        let mut y = vec![0f32; like.elem_count()];
        with_f32s([a, b], |[a, b]| multiply_add(a, av, b, wide, inner, inputs, &mut y))?;
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
