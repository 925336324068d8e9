//! What both branches of a block need on the GPU: their frozen layers, memory cut into parts, the way into the norm and back.

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::cuda::CudaDType;
use candle_core::cuda::cudarc::driver::{CudaSlice, CudaView};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Error, Result, Shape, Storage, Tensor};
use half::bf16;

use super::launch::{by_elements, by_rows, by_strips, launch, values, wrap};
use super::product::Number;
use crate::backward::hand;
use crate::{Layer, Norm};

/// A frozen layer on a GPU.
#[derive(Clone)]
pub(super) struct Frozen {
    /// `[outputs, inputs]`
    pub weight: Tensor,
    /// `[outputs]`
    pub bias: Tensor,
}

impl Frozen {
    /// The layer, if it is frozen, has a bias, and multiplies in f32 or bf16 on a GPU.
    pub fn of(layer: Layer) -> Option<Self> {
        let (weight, bias) = (layer.weight.plain()?, layer.bias?);
        let fits = |tensor: &Tensor| super::takes(tensor, &[DType::F32, DType::BF16]) && !tensor.track_op() && tensor.is_contiguous();
        let shapes = weight.rank() == 2 && bias.dims() == &weight.dims()[..1];
        let one_type = weight.dtype() == bias.dtype();
        (shapes && one_type && fits(weight) && fits(bias)).then(|| Self { weight: weight.clone(), bias: bias.clone() })
    }

    /// Outputs and inputs.
    pub fn sizes(&self) -> [usize; 2] {
        [self.weight.dims()[0], self.weight.dims()[1]]
    }
}

/// Whether an input and its norm are f32 on a GPU.
pub(super) fn takes_rows(x: &Tensor, norm: Norm) -> bool {
    [x, norm.weight, norm.bias].iter().all(|tensor| super::takes(tensor, &[DType::F32]))
}

/// Runs `f` on the values behind tensors of one type, all on the GPU of `device`.
pub(super) fn with<T: CudaDType, R, const N: usize>(
    device: &CudaDevice,
    tensors: [&Tensor; N],
    f: impl FnOnce([CudaView<T>; N]) -> Result<R>,
) -> Result<R> {
    let storages = tensors.map(Tensor::storage_and_layout);
    let slices = storages.iter().map(|(storage, layout)| match &**storage {
        Storage::Cuda(storage) if storage.device().location() == device.location() => values::<T>(storage, layout),
        _ => candle_core::bail!("a layer and its input lie on different devices: move one of them with to_device"),
    });
    let slices: [CudaView<T>; N] = slices.collect::<Result<Vec<_>>>()?.try_into().map_err(|_| Error::Msg("a tensor is missing".into()))?;
    f(slices)
}

/// Memory cut into parts: the first begins at 0, each at a place that is good for wide loads.
pub(super) struct Room<T, const N: usize> {
    memory: CudaSlice<T>,
    sizes: [usize; N],
}

impl<T: Number, const N: usize> Room<T, N> {
    /// Uninitialized memory for parts of these sizes, which whoever asks for it writes before they are read.
    pub fn new(device: &CudaDevice, sizes: [usize; N]) -> Result<Self> {
        let size = sizes.map(|size| size.next_multiple_of(APART)).iter().sum();
        // SAFETY: numbers of any bits, written before they are read.
        Ok(Self { memory: unsafe { device.alloc::<T>(size)? }, sizes })
    }

    pub fn parts(&self) -> [CudaView<'_, T>; N] {
        parts(&self.memory, self.sizes)
    }

    /// All of it as a storage, and its size.
    pub fn wrapped(self, device: &CudaDevice) -> (CudaStorage, Shape) {
        let size = self.memory.len();
        (wrap(self.memory, device), Shape::from(size))
    }
}

/// Parts begin at multiples of this many values.
pub(super) const APART: usize = 128;

/// Where the parts of a [`Room`] of these sizes begin.
pub(super) fn offsets<const N: usize>(sizes: [usize; N]) -> [usize; N] {
    let mut end = 0;
    sizes.map(|size| {
        end += size.next_multiple_of(APART);
        end - size.next_multiple_of(APART)
    })
}

/// The parts of a [`Room`]'s memory.
pub(super) fn parts<T, const N: usize>(memory: &CudaSlice<T>, sizes: [usize; N]) -> [CudaView<'_, T>; N] {
    let from = offsets(sizes);
    std::array::from_fn(|i| memory.slice(from[i]..from[i] + sizes[i]))
}

/// The backward pass of a branch: `launch` gets x, the norm's scale and the gradient of the result, and where dx and the gradients of
/// scale and shift `[2, width]` go. Those of the norm have memory of their own: they live longer than dx.
#[allow(clippy::type_complexity)]
pub(super) fn backward(
    [x, weight, bias, grad]: [&Tensor; 4],
    launch: impl FnOnce(&CudaDevice, [CudaView<f32>; 3], [&CudaView<f32>; 2]) -> Result<()>,
) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
    let (device, n, width) = (x.device().as_cuda_device()?, x.elem_count(), weight.elem_count());
    // SAFETY: `launch` writes every value.
    let (dx, sums) = unsafe { (device.alloc::<f32>(n)?, device.alloc::<f32>(2 * width)?) };
    let (scale, g) = (weight.contiguous()?, grad.contiguous()?);
    with::<f32, _, 3>(device, [&x.contiguous()?, &scale, &g], |inputs| launch(device, inputs, [&dx.slice(..), &sums.slice(..)]))?;
    let tensor = |values, shape: Shape| Tensor::from_storage(Storage::Cuda(wrap(values, device)), shape, BackpropOp::none(), false);
    let (dx, sums) = (tensor(dx, x.shape().clone()), tensor(sums, Shape::from((2, width))));
    Ok((hand(x, dx), hand(weight, sums.get(0)?.reshape(weight.shape())?), hand(bias, sums.get(1)?.reshape(bias.shape())?)))
}

/// Rows of which one block adds up the gradients of a norm: STRIP in branches.cu.
const STRIP: u32 = 16;

/// Rows of tokens: of `tokens` in a sequence the first `queries` ask.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub rows: usize,
    pub width: usize,
    pub tokens: usize,
    pub queries: usize,
}

impl Rows {
    /// How many rows ask.
    pub fn asking(&self) -> usize {
        self.rows / self.tokens * self.queries
    }

    /// Values of scratch that [`begin_backward`] adds up in.
    pub fn partial(&self) -> usize {
        2 * self.rows.div_ceil(STRIP as usize) * self.width
    }

    fn numbers(&self) -> Result<[u32; 4]> {
        let fits = |n: usize| u32::try_from(n).map_err(|_| Error::Msg(format!("a GPU kernel on {n} rows or columns")));
        Ok([fits(self.rows)?, fits(self.width)?, fits(self.tokens)?, fits(self.queries)?])
    }
}

/// x `[rows, width]` → its layer norm in T, and the start of what runs past the branch: x + shift for the rows that ask.
pub(super) fn begin<T: Number>(
    device: &CudaDevice,
    rows: Rows,
    [x, weight, bias]: [&CudaView<f32>; 3],
    eps: f32,
    shift: &CudaView<T>,
    normed: &CudaView<T>,
    y: &CudaView<f32>,
) -> Result<()> {
    let [count, width, tokens, queries] = rows.numbers()?;
    let (name, grid) = (format!("begin_{}", T::NAME), by_rows(count));
    // SAFETY: rows · width values stand behind x and normed, those of the rows that ask behind y, width behind the others.
    unsafe { launch!(device, &name, grid, x, weight, bias, shift, &eps, &count, &width, &tokens, &queries, normed, y) };
    Ok(())
}

/// From g, the gradient of the norm's output `[rows, width]` as its product gives it, and `past`, that of what runs past the branch: dx `[rows, width]`, and
/// the gradients of scale and shift `[2, width]`; `partial` is scratch.
pub(super) fn begin_backward<T: Number>(
    device: &CudaDevice,
    rows: Rows,
    [x, weight]: [&CudaView<f32>; 2],
    eps: f32,
    (g, past): (&CudaView<T>, &CudaView<f32>),
    [dx, sums]: [&CudaView<f32>; 2],
    partial: &CudaView<f32>,
) -> Result<()> {
    let [count, width, tokens, queries] = rows.numbers()?;
    let strips = count.div_ceil(STRIP);
    let (name, grid) = (format!("begin_backward_{}", T::NAME), by_strips(strips));
    if partial.len() < rows.partial() {
        candle_core::bail!("{} values for the sums of {strips} strips of width {width}", partial.len());
    }
    // SAFETY: rows · width values stand behind x, g and dx, those of the rows that ask behind past, width behind weight, 2 strips · width
    // behind partial, 2 width behind sums.
    unsafe {
        launch!(device, &name, grid, x, weight, g, past, &eps, &count, &width, &tokens, &queries, dx, partial);
        launch!(device, "strip_sums", by_strips((2 * width).div_ceil(32)), partial, &strips, &width, sums);
    }
    Ok(())
}

/// Rounds f32 to bf16.
pub(super) fn round(device: &CudaDevice, x: &CudaView<f32>, to: &CudaView<bf16>) -> Result<()> {
    let count = x.len() as u64;
    if to.len() != x.len() {
        candle_core::bail!("{count} values are rounded into memory for {}", to.len());
    }
    // SAFETY: `count` values stand behind both.
    unsafe { launch!(device, "round_bf16", by_elements(count), x, &count, to) };
    Ok(())
}
