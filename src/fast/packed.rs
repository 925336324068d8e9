//! Frozen linear layers, packed for this processor.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, TensorId};
use serde::{Deserialize, Serialize};

use super::gemm::{Kernel, Panels, Rows, Target};
use super::{Isa, f32_slice, parallel, with_f32};

/// The number format in which a frozen linear layer multiplies; sums, norms and everything trainable stay in f32, and so does
/// attention on the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floating point throughout.
    #[default]
    F32,
    /// Weights and inputs rounded to bf16 (8 bits of mantissa). On the CPU this is faster on AMD's processors with AVX-512 BF16
    /// and on Intel's with AMX, and the same as [`F32`](Self::F32) on others (see [`Isa::best`](super::Isa::best)). On a GPU
    /// attention and activations between the norms are bf16, too.
    Bf16,
}

/// A linear layer's weight and bias in the order in which this processor multiplies fastest, or nothing (the default).
///
/// It knows which tensors it was made of: a layer whose weight or bias was replaced since is computed from the new ones.
#[derive(Clone, Default)]
pub struct Packed {
    part: Option<Part>,
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    joined: Option<Joined>,
}

/// One layer of several that lie in one matrix, on a GPU: where it begins among their outputs, and the tensors that it is.
#[derive(Clone)]
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
pub(crate) struct Joined {
    pub weight: Tensor,
    pub bias: Tensor,
    pub start: usize,
    of: [TensorId; 2],
}

impl Packed {
    /// Packs frozen f32 layers that read the same input, so that one product computes them all. Layers on another device or of
    /// another type, and layers that learn, stay as they are.
    ///
    /// # Errors
    /// If a weight is not a matrix (Candle's).
    pub fn stack<const N: usize>(layers: [Layer; N], precision: Precision, isa: Isa) -> Result<[Self; N]> {
        let mut parts = PackedLinear::stack(&layers, precision, isa)?.into_iter().flatten();
        Ok(layers.map(|_| Self { part: parts.next(), joined: None }))
    }

    /// Puts frozen layers on a GPU that read the same input into one matrix, so that one product computes them all: the weight and
    /// the bias of each as a part of it, to take the place of those that were given, so that nothing is kept twice. `None` for layers
    /// on the CPU, of several types or widths, without a bias, or that learn.
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    pub fn join<const N: usize>(layers: [Layer; N]) -> Result<Option<Vec<(Tensor, Tensor, Self)>>> {
        let fits = |tensor: &Tensor| tensor.device().is_cuda() && !tensor.track_op() && tensor.dtype() == layers[0].weight.dtype();
        let one_input = |weight: &Tensor| weight.rank() == 2 && weight.dims()[1] == layers[0].weight.dims()[1];
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for Layer { weight, bias, .. } in layers {
            let Some(bias) = bias.filter(|bias| fits(bias) && fits(weight) && one_input(weight)) else { return Ok(None) };
            weights.push(weight);
            biases.push(bias);
        }
        let (weight, bias) = (Tensor::cat(&weights, 0)?.detach(), Tensor::cat(&biases, 0)?.detach());
        let (mut start, mut parts) = (0, Vec::with_capacity(N));
        for like in weights {
            let outputs = like.dims()[0];
            let (own, own_bias) = (weight.narrow(0, start, outputs)?.detach(), bias.narrow(0, start, outputs)?.detach());
            let joined = Joined { weight: weight.clone(), bias: bias.clone(), start, of: [own.id(), own_bias.id()] };
            parts.push((own, own_bias, Self { part: None, joined: Some(joined) }));
            start += outputs;
        }
        Ok(Some(parts))
    }

    /// Memory that packing has taken so far, in bytes; layers of one stack each report the whole stack's.
    pub fn bytes(&self) -> usize {
        self.part.as_ref().map_or(0, |part| part.stack.bytes())
    }
}

/// A linear layer, y = x Wᵀ + b, as the operations of this crate take it.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    /// W, `[out, in]`.
    pub weight: &'a Tensor,
    /// b, `[out]`.
    pub bias: Option<&'a Tensor>,
    /// What was packed of the two.
    pub packed: &'a Packed,
}

impl<'a> Layer<'a> {
    /// Its part of a packed stack, if it is packed and has the weight and bias that it was packed from.
    pub(crate) fn part(&self) -> Option<&'a Part> {
        self.packed.part.as_ref().filter(|part| part.is_of(self.weight, self.bias))
    }

    /// The matrix that it lies in with other layers, if it still is what was put there.
    #[cfg(feature = "cuda")]
    pub(crate) fn joined(&self) -> Option<&'a Joined> {
        self.packed.joined.as_ref().filter(|joined| self.bias.is_some_and(|bias| joined.of == [self.weight.id(), bias.id()]))
    }

    /// The number format in which it really multiplies: [`Precision::F32`] also if it was packed in [`Precision::Bf16`] for a
    /// processor without such products; `None` for a weight in any other type.
    pub fn precision(&self) -> Option<Precision> {
        match (self.part(), self.weight.dtype()) {
            (Some(part), _) => Some(part.stack.precision()),
            (None, DType::F32) => Some(Precision::F32),
            (None, DType::BF16) => Some(Precision::Bf16),
            _ => None,
        }
    }
}

/// One frozen layer, or several that read the same input, stacked: y = x Wᵀ + b with W `[outputs, inputs]`.
///
/// Each direction is packed when it is first used, so a tower that is never tuned does not pay for its gradient.
pub(crate) struct PackedLinear {
    kernel: Kernel,
    weights: Vec<Tensor>,
    bias: Vec<f32>,
    inputs: usize,
    outputs: usize,
    forward: OnceLock<Panels>,
    backward: OnceLock<Panels>,
}

/// The outputs of one layer of a stack, and the tensors that it was packed from.
#[derive(Clone)]
pub(crate) struct Part {
    pub stack: Arc<PackedLinear>,
    pub outputs: Range<usize>,
    weight: TensorId,
    bias: Option<TensorId>,
}

impl Part {
    /// Whether this is what these tensors give: a layer whose weight or bias was replaced since is another one.
    fn is_of(&self, weight: &Tensor, bias: Option<&Tensor>) -> bool {
        self.weight == weight.id() && self.bias == bias.map(Tensor::id)
    }

    /// The whole stack, if this is all of it.
    pub fn alone(&self) -> Option<&Arc<PackedLinear>> {
        (self.outputs == (0..self.stack.outputs)).then_some(&self.stack)
    }

    /// Whether this and the two others are the thirds of one stack, in this order.
    pub fn is_stacked_with(&self, others: [&Self; 2]) -> bool {
        let width = self.stack.inputs;
        let third = |(i, part): (usize, &Self)| Arc::ptr_eq(&part.stack, &self.stack) && part.outputs == (i * width..(i + 1) * width);
        self.stack.outputs == 3 * width && [self, others[0], others[1]].into_iter().enumerate().all(third)
    }
}

impl PackedLinear {
    /// Stacks layers of one input width; `None` if there is nothing to gain: another device or type, a weight that learns
    /// or holds no number, layers that differ in input width.
    fn stack(layers: &[Layer], precision: Precision, isa: Isa) -> Result<Option<Vec<Part>>> {
        let fits = |tensor: &Tensor| tensor.device().is_cpu() && tensor.dtype() == DType::F32 && !tensor.track_op();
        if layers.iter().any(|layer| !fits(layer.weight) || layer.weight.elem_count() == 0 || layer.bias.is_some_and(|bias| !fits(bias))) {
            return Ok(None);
        }
        let (mut weights, mut bias, mut parts, mut inputs) = (Vec::new(), Vec::new(), Vec::new(), None);
        for Layer { weight, bias: shift, .. } in layers {
            let (outputs, width) = weight.dims2()?;
            if *inputs.get_or_insert(width) != width || shift.is_some_and(|shift| shift.dims() != [outputs]) {
                return Ok(None);
            }
            parts.push(bias.len()..bias.len() + outputs);
            match shift {
                Some(shift) => bias.extend(shift.to_vec1::<f32>()?),
                None => bias.resize(bias.len() + outputs, 0.0),
            }
            weights.push(weight.contiguous()?);
        }
        let inputs = inputs.unwrap_or(0);
        // bf16 come in pairs, so a part of a stack must begin at an even place
        let even = inputs.is_multiple_of(2) && parts.iter().all(|part| part.start.is_multiple_of(2));
        let kernel = Kernel::new(isa, if even { precision } else { Precision::F32 });
        let (forward, backward) = (OnceLock::new(), OnceLock::new());
        let stack = Arc::new(Self { kernel, weights, outputs: bias.len(), bias, inputs, forward, backward });
        let part = |(outputs, layer): (Range<usize>, &Layer)| Part {
            stack: stack.clone(),
            outputs,
            weight: layer.weight.id(),
            bias: layer.bias.map(Tensor::id),
        };
        Ok(Some(parts.into_iter().zip(layers).map(part).collect()))
    }

    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    pub fn isa(&self) -> Isa {
        self.kernel.isa()
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// The numbers in which it really multiplies: f32 if the processor has no bf16 products.
    pub fn precision(&self) -> Precision {
        if self.kernel.is_bf16() { Precision::Bf16 } else { Precision::F32 }
    }

    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// Wᵀ `[inputs, outputs]`.
    pub fn forward(&self) -> Result<&Panels> {
        self.direction(&self.forward, true)
    }

    /// W `[outputs, inputs]`.
    pub fn backward(&self) -> Result<&Panels> {
        self.direction(&self.backward, false)
    }

    fn direction<'a>(&self, cell: &'a OnceLock<Panels>, transposed: bool) -> Result<&'a Panels> {
        if let Some(packed) = cell.get() {
            return Ok(packed);
        }
        let mut values = Vec::with_capacity(self.outputs * self.inputs); // [outputs, inputs]
        for weight in &self.weights {
            with_f32(weight, |weight| values.extend_from_slice(weight))?;
        }
        let packed = match transposed {
            true => Panels::new(self.kernel, self.inputs, self.outputs, |i, j| values[j * self.inputs + i]),
            false => Panels::new(self.kernel, self.outputs, self.inputs, |i, j| values[i * self.inputs + j]),
        };
        // packing runs on rayon's threads, and waiting inside `get_or_init` for tasks that may need the same cell could
        // deadlock
        Ok(cell.get_or_init(|| packed))
    }

    /// Memory of what is packed so far.
    pub fn bytes(&self) -> usize {
        [&self.forward, &self.backward].into_iter().filter_map(OnceLock::get).map(Panels::bytes).sum()
    }
}

/// Rows that one task multiplies: enough to reuse a panel, few enough for the second-level cache.
pub(crate) const ROWS: usize = 96;

/// One layer of a stack as an operation: `[.., inputs]` → `[.., outputs]`; only the input has a gradient.
pub(crate) struct FrozenLinear(pub Part);

/// y[rows, columns] = x[rows, inner] · B[inner, columns] (+ bias), by blocks of rows.
fn multiply(packed: &Panels, x: &[f32], inner: Range<usize>, columns: Range<usize>, bias: Option<&[f32]>) -> Vec<f32> {
    let (width, height) = (columns.len(), inner.len());
    let mut y = vec![0f32; x.len() / height.max(1) * width];
    let work = 2 * x.len() * width;
    let tasks: Vec<_> = y.chunks_mut(width * ROWS).zip(x.chunks(height * ROWS)).collect();
    parallel::map(
        tasks,
        work,
        || Rows::new(packed.kernel(), ROWS, height),
        |a, (y, x)| {
            a.resize(x.len() / height, height);
            x.chunks(height).enumerate().for_each(|(r, row)| a.set(r, row));
            packed.multiply(a, inner.clone(), columns.clone(), Target { values: y, stride: width, bias, add: false });
        },
    );
    y
}

impl CustomOp1 for FrozenLinear {
    fn name(&self) -> &'static str {
        "frozen-linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Part { stack, outputs, .. } = &self.0;
        let bias = &stack.bias()[outputs.clone()];
        let y = multiply(stack.forward()?, f32_slice(x, layout)?, 0..stack.inputs(), outputs.clone(), Some(bias));
        let mut dims = layout.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = outputs.len();
        }
        Ok((CpuStorage::F32(y), Shape::from(dims)))
    }

    /// dx = g W
    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let Part { stack, outputs, .. } = &self.0;
        let packed = stack.backward()?;
        let dx = with_f32(grad, |grad| multiply(packed, grad, outputs.clone(), 0..stack.inputs(), None))?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}
