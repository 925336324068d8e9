//! The text classifier's step on the GPU: noise on unit features with the host generator's bits, and the smoothed cross
//! entropy of rows with its gradient.

use candle_core::backend::BackendStorage;
use candle_core::cuda::WrapErr;
use candle_core::cuda::cudarc::driver::PushKernelArg;
use candle_core::{CudaStorage, Layout, Result, Shape};

use super::launch::{by_rows, kernel, rows_of, values, wrap};

/// x/‖x‖ + n for x `[rows, width]`; draw `first` of the stream (key, counter of draw 0) is the first value's.
pub fn noisy_unit(x: &CudaStorage, layout: &Layout, key: u64, counter: u64, first: u64, sigma: f32) -> Result<(CudaStorage, Shape)> {
    let device = x.device();
    let (rows, width) = rows_of(layout)?;
    let x = values::<f32>(x, layout)?;
    let function = kernel(device, "noisy_unit")?;
    // SAFETY: the kernel writes every value.
    let out = unsafe { device.alloc::<f32>(layout.shape().elem_count())? };
    let mut launch = function.builder();
    launch.arg(&x).arg(&rows).arg(&width).arg(&key).arg(&counter).arg(&first).arg(&sigma).arg(&out);
    // SAFETY: eight arguments of the kernel's types; rows · width values stand behind x and out.
    unsafe { launch.launch(by_rows(rows)) }.w()?;
    Ok((wrap(out, device), layout.shape().clone()))
}

/// logits `[rows, C]` and labels `[rows]`, each below C → concatenated: gradient times `scale` `[rows, C]`, losses `[rows]`,
/// 1 for each row that is classified right `[rows]`.
pub fn smoothed_rows(
    logits: (&CudaStorage, &Layout),
    labels: (&CudaStorage, &Layout),
    smoothing: f32,
    scale: f32,
) -> Result<(CudaStorage, Shape)> {
    let device = logits.0.device();
    let (rows, classes) = rows_of(logits.1)?;
    if labels.1.shape().elem_count() != rows as usize {
        candle_core::bail!("{rows} rows of logits but {} labels", labels.1.shape().elem_count());
    }
    let n = logits.1.shape().elem_count();
    let (logits, labels) = (values::<f32>(logits.0, logits.1)?, values::<u32>(labels.0, labels.1)?);
    let function = kernel(device, "smoothed_rows")?;
    let size = n + 2 * rows as usize;
    // SAFETY: the kernel writes every value.
    let out = unsafe { device.alloc::<f32>(size)? };
    let (gradient, losses, right) = (out.slice(..n), out.slice(n..n + rows as usize), out.slice(n + rows as usize..));
    let mut launch = function.builder();
    launch.arg(&logits).arg(&labels).arg(&rows).arg(&classes).arg(&smoothing).arg(&scale).arg(&gradient).arg(&losses).arg(&right);
    // SAFETY: nine arguments of the kernel's types; rows · classes values stand behind logits and gradient, rows behind the
    // others; the caller has checked the labels.
    unsafe { launch.launch(by_rows(rows)) }.w()?;
    Ok((wrap(out, device), Shape::from(size)))
}
