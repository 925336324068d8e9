//! Softmax over rows on the GPU, both directions, f32 and bf16; argmax over rows of f32.

use candle_core::backend::BackendStorage;
use candle_core::cuda::cudarc::driver::{DeviceRepr, PushKernelArg};
use candle_core::cuda::{CudaDType, WrapErr};
use candle_core::{CudaStorage, DType, Layout, Result, Shape, Tensor};
use half::bf16;

use super::launch::{Kernel, by_rows, kernel, launch, rows_of, values, wrap};

/// x `[.., n]` → y like x.
pub fn softmax(x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
    match x.dtype() {
        DType::BF16 => forward::<bf16>(x, layout, "softmax_bf16"),
        _ => forward::<f32>(x, layout, "softmax_f32"),
    }
}

fn forward<T: CudaDType + DeviceRepr>(x: &CudaStorage, layout: &Layout, name: &str) -> Result<(CudaStorage, Shape)> {
    let device = x.device();
    let (rows, width) = rows_of(layout)?;
    let x = values::<T>(x, layout)?;
    let function = kernel(device, name)?;
    // SAFETY: the kernel writes every value.
    let y = unsafe { device.alloc::<T>(layout.shape().elem_count())? };
    let mut launch = function.builder();
    launch.arg(&x).arg(&rows).arg(&width).arg(&y);
    // SAFETY: four arguments of the kernel's types; rows · width values of type T stand behind x and y.
    unsafe { launch.launch(by_rows(rows)) }.w()?;
    Ok((wrap(y, device), layout.shape().clone()))
}

/// dx from the probabilities p and the gradient of p.
pub fn softmax_backward(p: &Tensor, g: &Tensor) -> Result<Tensor> {
    let launch = |p: &CudaStorage, pl: &Layout, g: &CudaStorage, gl: &Layout| match p.dtype() {
        DType::BF16 => backward::<bf16>((p, pl), (g, gl), "softmax_backward_bf16"),
        _ => backward::<f32>((p, pl), (g, gl), "softmax_backward_f32"),
    };
    p.contiguous()?.apply_op2_no_bwd(&g.contiguous()?, &Kernel("softmax-backward", launch))
}

fn backward<T: CudaDType + DeviceRepr>(p: (&CudaStorage, &Layout), g: (&CudaStorage, &Layout), name: &str) -> Result<(CudaStorage, Shape)> {
    let (device, shape) = (p.0.device(), p.1.shape());
    let (rows, width) = rows_of(p.1)?;
    if g.1.shape() != shape {
        candle_core::bail!("a gradient of shape {:?} for probabilities of shape {shape:?}", g.1.shape());
    }
    let (p, g) = (values::<T>(p.0, p.1)?, values::<T>(g.0, g.1)?);
    let function = kernel(device, name)?;
    // SAFETY: the kernel writes every value.
    let dx = unsafe { device.alloc::<T>(shape.elem_count())? };
    let mut launch = function.builder();
    launch.arg(&p).arg(&g).arg(&rows).arg(&width).arg(&dx);
    // SAFETY: five arguments of the kernel's types; rows · width values of type T stand behind p, g and dx.
    unsafe { launch.launch(by_rows(rows)) }.w()?;
    Ok((wrap(dx, device), shape.clone()))
}

/// x `[.., n]` f32 → the column of each row's greatest value, the first of equals, `[..]` u32.
pub fn argmax(x: &Tensor) -> Result<Tensor> {
    let run = |x: &CudaStorage, layout: &Layout| {
        let (device, (rows, width)) = (x.device(), rows_of(layout)?);
        let x = values::<f32>(x, layout)?;
        // SAFETY: the kernel writes every value.
        let columns = unsafe { device.alloc::<u32>(rows as usize)? };
        // SAFETY: rows · width values stand behind x, rows behind the columns.
        unsafe { launch!(device, "argmax", by_rows(rows), &x, &rows, &width, &columns) };
        let dims = layout.dims();
        Ok((wrap(columns, device), Shape::from(&dims[..dims.len().saturating_sub(1)])))
    };
    x.contiguous()?.apply_op1_no_bwd(&Kernel("argmax", run))
}
