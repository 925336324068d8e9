//! Frozen linear layers, packed for the processor at hand.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, TensorId};
use serde::{Deserialize, Serialize};

use super::gemm::{Kernel, Packed, Rows, Target};
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

/// One frozen layer, or several that read the same input, stacked: y = x Wᵀ + b with W `[outputs, inputs]`.
///
/// Each direction is packed when it is first used, so a tower that is never tuned does not pay for its gradient.
pub(super) struct PackedLinear {
    kernel: Kernel,
    weights: Vec<Tensor>,
    bias: Vec<f32>,
    inputs: usize,
    outputs: usize,
    forward: OnceLock<Packed>,
    backward: OnceLock<Packed>,
}

/// The outputs of one layer of a stack, and the tensors that it was packed from.
#[derive(Clone)]
pub(super) struct Part {
    pub stack: Arc<PackedLinear>,
    pub outputs: Range<usize>,
    weight: TensorId,
    bias: Option<TensorId>,
}

impl Part {
    /// Whether this is what these tensors give: a layer whose weight or bias was replaced since is another one.
    pub fn is_of(&self, weight: &Tensor, bias: Option<&Tensor>) -> bool {
        self.weight == weight.id() && self.bias == bias.map(Tensor::id)
    }

    /// The whole stack, where this is all of it.
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
    /// Stacks layers of one input width; `None` where there is nothing to gain: another device or type, a weight that learns
    /// or holds no number, layers that differ in input width.
    pub fn stack(layers: &[(&Tensor, Option<&Tensor>)], precision: Precision, isa: Isa) -> Result<Option<Vec<Part>>> {
        let fits = |tensor: &Tensor| tensor.device().is_cpu() && tensor.dtype() == DType::F32 && !tensor.track_op();
        if layers.iter().any(|(weight, bias)| !fits(weight) || weight.elem_count() == 0 || bias.is_some_and(|bias| !fits(bias))) {
            return Ok(None);
        }
        let (mut weights, mut bias, mut parts, mut inputs) = (Vec::new(), Vec::new(), Vec::new(), None);
        for (weight, shift) in layers {
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
        let part = |(outputs, (weight, bias)): (Range<usize>, &(&Tensor, Option<&Tensor>))| Part {
            stack: stack.clone(),
            outputs,
            weight: weight.id(),
            bias: bias.map(Tensor::id),
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

    /// The numbers in which it really multiplies: f32 where the processor has no bf16 products.
    pub fn precision(&self) -> Precision {
        if self.kernel.is_bf16() { Precision::Bf16 } else { Precision::F32 }
    }

    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// Wᵀ `[inputs, outputs]`.
    pub fn forward(&self) -> Result<&Packed> {
        self.direction(&self.forward, true)
    }

    /// W `[outputs, inputs]`.
    pub fn backward(&self) -> Result<&Packed> {
        self.direction(&self.backward, false)
    }

    fn direction<'a>(&self, cell: &'a OnceLock<Packed>, transposed: bool) -> Result<&'a Packed> {
        if let Some(packed) = cell.get() {
            return Ok(packed);
        }
        let mut values = Vec::with_capacity(self.outputs * self.inputs); // [outputs, inputs]
        for weight in &self.weights {
            with_f32(weight, |weight| values.extend_from_slice(weight))?;
        }
        let packed = match transposed {
            true => Packed::new(self.kernel, self.inputs, self.outputs, |i, j| values[j * self.inputs + i]),
            false => Packed::new(self.kernel, self.outputs, self.inputs, |i, j| values[i * self.inputs + j]),
        };
        // packing runs on rayon's threads, and waiting inside `get_or_init` for tasks that may need the same cell could
        // deadlock
        Ok(cell.get_or_init(|| packed))
    }

    /// Memory of what is packed so far.
    pub fn bytes(&self) -> usize {
        [&self.forward, &self.backward].into_iter().filter_map(OnceLock::get).map(Packed::bytes).sum()
    }
}

/// Rows that one task multiplies: enough to reuse a panel, few enough for the second-level cache.
pub(super) const ROWS: usize = 96;

/// One layer of a stack as an operation: `[.., inputs]` → `[.., outputs]`; only the input has a gradient.
pub(super) struct FrozenLinear(pub Part);

/// y[rows, columns] = x[rows, inner] · B[inner, columns] (+ bias), by blocks of rows.
fn multiply(packed: &Packed, x: &[f32], inner: Range<usize>, columns: Range<usize>, bias: Option<&[f32]>) -> Vec<f32> {
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
