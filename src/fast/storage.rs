//! The numbers behind a tensor, for operations on the CPU.

use candle_core::{CpuStorage, DType, Error, Layout, Result, Tensor};

use crate::cuda;

/// The f32 values of a contiguous CPU storage.
pub(crate) fn f32_slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let values = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => Err(Error::Msg("custom operation on a strided tensor: call contiguous() first".into())),
    }
}

/// Runs `f` on the f32 values of a CPU tensor (made contiguous first).
///
/// # Errors
/// If the tensor lies on another device, or is not f32.
pub fn with_f32<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    with_f32s([tensor], |[values]| f(values))
}

/// [`with_f32`] for several tensors at once.
pub(crate) fn with_f32s<R, const N: usize>(tensors: [&Tensor; N], f: impl FnOnce([&[f32]; N]) -> R) -> Result<R> {
    let tensors = tensors.iter().map(|tensor| tensor.contiguous()).collect::<Result<Vec<_>>>()?;
    let storages: Vec<_> = tensors.iter().map(Tensor::storage_and_layout).collect();
    let values = storages.iter().map(|(storage, layout)| match &**storage {
        candle_core::Storage::Cpu(storage) => f32_slice(storage, layout),
        _ => Err(Error::Msg("custom CPU operation on a tensor of another device".into())),
    });
    let values = values.collect::<Result<Vec<_>>>()?;
    Ok(f(std::array::from_fn(|i| values[i])))
}

/// True on a GPU, for f32: the operations with a kernel there apply.
pub fn on_gpu_f32(tensor: &Tensor) -> bool {
    cuda::takes(tensor, &[DType::F32])
}

/// True for f32 on the CPU: the operations of this crate apply.
pub fn on_cpu_f32(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == DType::F32
}
