//! The activations on the GPU, both directions, f32 and bf16.

use candle_core::backend::BackendStorage;
use candle_core::cuda::cudarc::driver::{DeviceRepr, PushKernelArg};
use candle_core::cuda::{CudaDType, WrapErr};
use candle_core::{CudaStorage, DType, Layout, Result, Shape, Tensor};
use half::bf16;

use super::launch::{Kernel, by_elements, kernel, values, wrap};
use crate::Gelu;

/// 1 for the quick GELU, 0 for the exact one.
fn quick(gelu: Gelu) -> u32 {
    u32::from(gelu == Gelu::Quick)
}

/// x → y like x.
pub fn gelu(kind: Gelu, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
    match x.dtype() {
        DType::BF16 => forward::<bf16>(quick(kind), x, layout, "activation_bf16"),
        _ => forward::<f32>(quick(kind), x, layout, "activation_f32"),
    }
}

fn forward<T: CudaDType + DeviceRepr>(quick: u32, x: &CudaStorage, layout: &Layout, name: &str) -> Result<(CudaStorage, Shape)> {
    let device = x.device();
    let x = values::<T>(x, layout)?;
    let count = layout.shape().elem_count() as u64;
    let function = kernel(device, name)?;
    // SAFETY: the kernel writes every value.
    let y = unsafe { device.alloc::<T>(count as usize)? };
    let mut launch = function.builder();
    launch.arg(&x).arg(&quick).arg(&count).arg(&y);
    // SAFETY: four arguments of the kernel's types; `count` values of type T stand behind x and y.
    unsafe { launch.launch(by_elements(count)) }.w()?;
    Ok((wrap(y, device), layout.shape().clone()))
}

/// dx from x and the gradient of the result.
pub fn gelu_backward(kind: Gelu, x: &Tensor, g: &Tensor) -> Result<Tensor> {
    let launch = |x: &CudaStorage, xl: &Layout, g: &CudaStorage, gl: &Layout| match x.dtype() {
        DType::BF16 => backward::<bf16>(quick(kind), (x, xl), (g, gl), "activation_backward_bf16"),
        _ => backward::<f32>(quick(kind), (x, xl), (g, gl), "activation_backward_f32"),
    };
    x.contiguous()?.apply_op2_no_bwd(&g.contiguous()?, &Kernel("activation-backward", launch))
}

fn backward<T: CudaDType + DeviceRepr>(
    quick: u32,
    x: (&CudaStorage, &Layout),
    g: (&CudaStorage, &Layout),
    name: &str,
) -> Result<(CudaStorage, Shape)> {
    let (device, shape) = (x.0.device(), x.1.shape());
    if g.1.shape() != shape {
        candle_core::bail!("a gradient of shape {:?} for an activation of shape {shape:?}", g.1.shape());
    }
    let (x, g) = (values::<T>(x.0, x.1)?, values::<T>(g.0, g.1)?);
    let count = shape.elem_count() as u64;
    let function = kernel(device, name)?;
    // SAFETY: the kernel writes every value.
    let dx = unsafe { device.alloc::<T>(count as usize)? };
    let mut launch = function.builder();
    launch.arg(&x).arg(&g).arg(&quick).arg(&count).arg(&dx);
    // SAFETY: five arguments of the kernel's types; `count` values of type T stand behind x, g and dx.
    unsafe { launch.launch(by_elements(count)) }.w()?;
    Ok((wrap(dx, device), shape.clone()))
}
