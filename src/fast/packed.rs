//! Weights of frozen linear layers, packed for this processor.

use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, DType, Result, Shape, Storage, Tensor, TensorId};

use super::gemm::{Kernel, Panels};
use super::{Isa, Layer, Precision, Weight, with_f32};

/// The weight of a frozen layer in f32 on the CPU, in the order in which this processor multiplies fastest.
///
/// It takes the place of the tensor that it is made of, so that the numbers are in memory once, and once more when a gradient was
/// asked for: a direction is packed when it is first used, and from the first on the tensor is no longer held.
/// [`tensor`](Self::tensor) gives it back, bit for bit. Panels in [`Precision::Bf16`] are rounded: next to them the tensor is kept,
/// or the packed f32 weight that they were made of.
#[derive(Clone)]
pub struct Packed {
    pub(crate) stack: Arc<PackedLinear>,
    /// Which layer of the stack it is.
    index: usize,
    /// Its outputs among those of the stack.
    pub(crate) outputs: Range<usize>,
    dims: [usize; 2],
    /// The bias that the stack has for it.
    pub(crate) bias: Option<TensorId>,
}

impl Packed {
    /// Packs frozen f32 layers that read the same input, so that one product computes them all; those that are packed so already
    /// stay what they are. `None` for each where there is nothing to gain: on another device, of another type, with a weight that
    /// learns or holds no number, or if the layers differ in input width.
    ///
    /// # Errors
    /// If a weight is not a matrix (Candle's).
    pub fn stack<const N: usize>(layers: [Layer; N], precision: Precision, isa: Isa) -> Result<[Option<Self>; N]> {
        let fits = |tensor: &Tensor| tensor.device().is_cpu() && tensor.dtype() == DType::F32 && !tensor.track_op();
        let (mut all, mut parts, mut width) = (Vec::new(), Vec::new(), None);
        for Layer { weight, bias, .. } in layers {
            let fit = weight.plain().is_none_or(fits) && bias.is_none_or(fits) && weight.dims().iter().all(|size| *size > 0);
            if !fit {
                return Ok([const { None }; N]);
            }
            let (outputs, inputs) = Shape::from(weight.dims()).dims2()?;
            if *width.get_or_insert(inputs) != inputs || bias.is_some_and(|bias| bias.dims() != [outputs]) {
                return Ok([const { None }; N]);
            }
            parts.push(all.len()..all.len() + outputs);
            match bias {
                Some(bias) => all.extend(bias.to_vec1::<f32>()?),
                None => all.resize(all.len() + outputs, 0.0),
            }
        }
        let (inputs, outputs) = (width.unwrap_or(0), all.len());
        // bf16 come in pairs, so a part of a stack must begin at an even place
        let even = inputs.is_multiple_of(2) && parts.iter().all(|part| part.start.is_multiple_of(2));
        let kernel = Kernel::new(isa, if even { precision } else { Precision::F32 });
        let before = layers.map(|layer| layer.part());
        if let Some(Some(first)) = before.first()
            && first.stack.kernel == kernel
            && first.stack.outputs == outputs
            && before.iter().enumerate().all(|(i, part)| part.is_some_and(|part| part.index == i && Arc::ptr_eq(&part.stack, &first.stack)))
        {
            return Ok(before.map(|part| part.cloned()));
        }
        let numbers = Mutex::new(Numbers::Given(layers.iter().map(|layer| Source::of(layer.weight)).collect()));
        let (forward, backward) = (OnceLock::new(), OnceLock::new());
        let stack = Arc::new(PackedLinear { kernel, bias: all, inputs, outputs, numbers, forward, backward });
        let part = |index: usize| Self {
            stack: stack.clone(),
            index,
            outputs: parts[index].clone(),
            dims: [parts[index].len(), inputs],
            bias: layers[index].bias.map(Tensor::id),
        };
        Ok(std::array::from_fn(|index| Some(part(index))))
    }

    /// Its shape, `[out, in]`.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The weight as it was before it was packed, bit for bit: `[out, in]` f32.
    pub fn tensor(&self) -> Tensor {
        match self.stack.numbers() {
            Numbers::Given(layers) => layers[self.index].tensor(),
            Numbers::Panels(panels) => {
                let values = Storage::Cpu(CpuStorage::F32(panels.transposed(self.outputs.clone())));
                Tensor::from_storage(values, Shape::from(&self.dims[..]), BackpropOp::none(), false)
            }
        }
    }

    /// Memory of the weight's numbers in bytes, in whatever forms they are held for now; layers of one stack each report the whole
    /// stack's.
    pub fn bytes(&self) -> usize {
        self.stack.bytes()
    }

    /// The whole stack, if this is all of it.
    pub(crate) fn alone(&self) -> Option<&Arc<PackedLinear>> {
        (self.outputs == (0..self.stack.outputs)).then_some(&self.stack)
    }

    /// Whether this and the two others are the thirds of one stack, in this order.
    pub(crate) fn is_stacked_with(&self, others: [&Self; 2]) -> bool {
        let width = self.stack.inputs;
        let third = |(i, part): (usize, &Self)| Arc::ptr_eq(&part.stack, &self.stack) && part.outputs == (i * width..(i + 1) * width);
        self.stack.outputs == 3 * width && [self, others[0], others[1]].into_iter().enumerate().all(third)
    }
}

/// One frozen layer, or several that read the same input, stacked: y = x Wᵀ + b with W `[outputs, inputs]`.
///
/// Each direction is packed when it is first used, so a tower that is never tuned does not pay for its gradient.
pub(crate) struct PackedLinear {
    kernel: Kernel,
    bias: Vec<f32>,
    inputs: usize,
    outputs: usize,
    numbers: Mutex<Numbers>,
    forward: OnceLock<Arc<Panels>>,
    backward: OnceLock<Panels>,
}

/// Where the exact numbers of W are: in one place.
#[derive(Clone)]
enum Numbers {
    /// As they were given, layer by layer: until they are packed, and for good if packing rounds them.
    Given(Vec<Source>),
    /// In the panels of the forward product.
    Panels(Arc<Panels>),
}

/// The weight that a layer was packed from.
#[derive(Clone)]
enum Source {
    Plain(Tensor),
    Packed(Packed),
}

impl Source {
    fn of(weight: Weight) -> Self {
        match weight {
            Weight::Plain(weight) => Self::Plain(weight.clone()),
            // behind rounded panels, what those were made of
            Weight::Packed(part) => match part.stack.numbers() {
                Numbers::Given(layers) if part.stack.kernel.is_bf16() => layers[part.index].clone(),
                _ => Self::Packed(part.clone()),
            },
        }
    }

    fn tensor(&self) -> Tensor {
        match self {
            Self::Plain(weight) => weight.clone(),
            Self::Packed(part) => part.tensor(),
        }
    }
}

impl PackedLinear {
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

    fn numbers(&self) -> Numbers {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// W `[outputs, inputs]`, row by row.
    fn values(&self) -> Result<Vec<f32>> {
        let layers = match self.numbers() {
            Numbers::Given(layers) => layers,
            Numbers::Panels(panels) => return Ok(panels.transposed(0..self.outputs)),
        };
        let mut values = Vec::with_capacity(self.outputs * self.inputs);
        for layer in layers {
            with_f32(&layer.tensor(), |weight| values.extend_from_slice(weight))?;
        }
        Ok(values)
    }

    // Packing runs on rayon's threads, and waiting inside `get_or_init` for tasks that may need the same cell could deadlock: so
    // both directions are packed outside of it.

    /// Wᵀ `[inputs, outputs]`.
    pub fn forward(&self) -> Result<&Panels> {
        if let Some(packed) = self.forward.get() {
            return Ok(packed);
        }
        let values = self.values()?;
        let packed = Panels::new(self.kernel, self.inputs, self.outputs, |i, j| values[j * self.inputs + i]);
        let packed = self.forward.get_or_init(|| Arc::new(packed));
        if !self.kernel.is_bf16() {
            *self.numbers.lock().unwrap_or_else(PoisonError::into_inner) = Numbers::Panels(packed.clone());
        }
        Ok(packed)
    }

    /// W `[outputs, inputs]`.
    pub fn backward(&self) -> Result<&Panels> {
        if let Some(packed) = self.backward.get() {
            return Ok(packed);
        }
        let values = self.values()?;
        let packed = Panels::new(self.kernel, self.outputs, self.inputs, |i, j| values[i * self.inputs + j]);
        Ok(self.backward.get_or_init(|| packed))
    }

    /// Memory of the panels, and of tensors that are not packed or kept next to rounded panels.
    fn bytes(&self) -> usize {
        let tensors = match self.numbers() {
            Numbers::Given(layers) => layers,
            Numbers::Panels(_) => Vec::new(),
        };
        let mut stacks = Vec::new(); // each once
        let mut held = |layer: &Source| match layer {
            Source::Plain(weight) => 4 * weight.elem_count(),
            Source::Packed(part) if stacks.contains(&Arc::as_ptr(&part.stack)) => 0,
            Source::Packed(part) => {
                stacks.push(Arc::as_ptr(&part.stack));
                part.stack.bytes()
            }
        };
        let forward = self.forward.get().map_or(0, |panels| panels.bytes());
        forward + self.backward.get().map_or(0, Panels::bytes) + tensors.iter().map(&mut held).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use candle_core::Device;

    fn bits(tensor: &Tensor) -> Vec<u32> {
        tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn a_packed_weight_is_the_only_copy_and_gives_the_tensor_back() {
        let (outputs, inputs) = (70, 46); // no multiples of any tile
        let weights: [Tensor; 3] = std::array::from_fn(|i| {
            let mut values = Random(i as u64 + 1).normals(outputs * inputs, 1.0);
            values[..3].copy_from_slice(&[f32::INFINITY, -0.0, 1e-40]);
            Tensor::from_vec(values, (outputs, inputs), &Device::Cpu).unwrap()
        });
        let all = 4 * 3 * outputs * inputs;
        for isa in Isa::available() {
            for precision in [Precision::F32, Precision::Bf16] {
                let layers = weights.each_ref().map(|weight| Layer::plain(weight, None));
                let parts = Packed::stack(layers, precision, isa).unwrap().map(Option::unwrap);
                let stack = &parts[0].stack;
                let same = || parts.iter().zip(&weights).all(|(part, weight)| bits(&part.tensor()) == bits(weight));
                assert!(parts[0].bytes() == all && same(), "{isa:?} {precision:?} before use");
                let given = || matches!(stack.numbers(), Numbers::Given(_));
                let forward = stack.forward().unwrap().bytes();
                let rounded = stack.kernel.is_bf16();
                assert_eq!((given(), parts[1].bytes()), (rounded, forward + if rounded { all } else { 0 }), "{isa:?} {precision:?}");
                assert!(same(), "{isa:?} {precision:?} packed");
                // the gradient's panels, made of the forward ones
                let reference = Packed::stack(layers, precision, isa).unwrap().map(Option::unwrap);
                assert!(*stack.backward().unwrap() == *reference[0].stack.backward().unwrap(), "{isa:?} {precision:?}");
                // packed again, it is shared; in the other format it is made of the exact numbers
                let again = parts.each_ref().map(|part| Layer { weight: Weight::Packed(part), bias: None, joined: None });
                let shared = Packed::stack(again, precision, isa).unwrap().map(Option::unwrap);
                assert!(Arc::ptr_eq(&shared[2].stack, stack), "{isa:?} {precision:?}");
                for other in [Precision::Bf16, Precision::F32] {
                    let other = Packed::stack(again, other, isa).unwrap().map(Option::unwrap);
                    other[0].stack.forward().unwrap();
                    assert_eq!(bits(&other[1].tensor()), bits(&weights[1]), "{isa:?} {precision:?} packed anew");
                }
            }
        }
    }
}
