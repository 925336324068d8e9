//! The text classifier's step on the GPU: noise on unit features with the host generator's bits, and the smoothed cross
//! entropy of rows with its gradient.

use candle_core::backend::BackendStorage;
use candle_core::cuda::WrapErr;
use candle_core::cuda::cudarc::driver::PushKernelArg;
use candle_core::{CudaStorage, Layout, Result, Shape, Tensor};

use super::branch::{Room, offsets};
use super::launch::{Kernel, by_rows, kernel, launch, rows_of, values, wrap};
use super::product::{Matrix, product};

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

/// dx of x/‖x‖ for x `[.., width]`, from the gradient of the result.
pub fn unit_backward(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    let run = |x: &CudaStorage, xl: &Layout, g: &CudaStorage, gl: &Layout| {
        let (device, (rows, width)) = (x.device(), rows_of(xl)?);
        if gl.shape() != xl.shape() {
            candle_core::bail!("a gradient of shape {:?} for features of shape {:?}", gl.shape(), xl.shape());
        }
        let (x, g) = (values::<f32>(x, xl)?, values::<f32>(g, gl)?);
        // SAFETY: the kernel writes every value.
        let dx = unsafe { device.alloc::<f32>(xl.shape().elem_count())? };
        // SAFETY: rows · width values stand behind x, g and dx.
        unsafe { launch!(device, "unit_backward", by_rows(rows), &x, &g, &rows, &width, &dx) };
        Ok((wrap(dx, device), xl.shape().clone()))
    };
    x.contiguous()?.apply_op2_no_bwd(&g.contiguous()?, &Kernel("unit-backward", run))
}

/// logits `[rows, C]` and labels `[rows]`, each below C → concatenated: gradient times `scale` `[rows, C]`, losses `[rows]`,
/// 1 for each row that is classified right `[rows]`. A label that is not below C makes the row's loss NaN.
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
    // others; the kernel reads no logit of a label that is not below classes.
    unsafe { launch.launch(by_rows(rows)) }.w()?;
    Ok((wrap(out, device), Shape::from(size)))
}

/// The noisy unit features' noise: see [`noisy_unit`].
#[derive(Clone, Copy)]
pub struct Stream {
    pub key: u64,
    pub counter: u64,
    pub sigma: f32,
}

/// For one layer without bias, `chunk` rows at a time: features `[n, d]`, labels `[n]`, weight `[C, d]` → the gradient of the mean loss
/// `[C, d]`, and the sums of losses and of right answers `[2]`. The logits' gradient takes their place, and that of the weight is added
/// up by the product itself: four operations a chunk.
pub fn linear_loss(
    features: &Tensor,
    labels: &Tensor,
    weight: &Tensor,
    stream: Stream,
    smoothing: f32,
    chunk: usize,
) -> Result<(Tensor, Tensor)> {
    let ((n, d), (classes, _)) = (features.dims2()?, weight.dims2()?);
    let run = |x: &CudaStorage, xl: &Layout, labels: &CudaStorage, ll: &Layout, w: &CudaStorage, wl: &Layout| {
        let (device, x, labels, w) = (x.device(), values::<f32>(x, xl)?, values::<u32>(labels, ll)?, values::<f32>(w, wl)?);
        let out = Room::<f32, 2>::new(device, [classes * d, 2 * n])?;
        let room = Room::<f32, 2>::new(device, [chunk.min(n) * d, chunk.min(n) * classes])?;
        let ([gradient, results], [noisy, logits]) = (out.parts(), room.parts());
        let Stream { key, counter, sigma } = stream;
        let (scale, width, columns) = (1.0 / n as f32, d as u32, classes as u32);
        for start in (0..n).step_by(chunk) {
            let length = chunk.min(n - start);
            let (rows, first) = (length as u32, (start * d) as u64);
            let (x, labels) = (x.slice(start * d..(start + length) * d), labels.slice(start..start + length));
            let (losses, right) = (results.slice(start..start + length), results.slice(n + start..n + start + length));
            // SAFETY: rows · width values stand behind x and noisy.
            unsafe { launch!(device, "noisy_unit", by_rows(rows), &x, &rows, &width, &key, &counter, &first, &sigma, &noisy) };
            let layer = [Matrix::one(&noisy, d), Matrix::one(&w, d).t()];
            product(device, 1, [length, classes, d], 1.0, layer, 0.0, Matrix::one(&logits, classes))?;
            let grid = by_rows(rows);
            // SAFETY: rows · columns values stand behind logits, which the gradient replaces, rows behind labels, losses and right.
            unsafe {
                launch!(device, "smoothed_rows", grid, &logits, &labels, &rows, &columns, &smoothing, &scale, &logits, &losses, &right)
            };
            let layer = [Matrix::one(&logits, classes).t(), Matrix::one(&noisy, d)];
            let keep = if start > 0 { 1.0 } else { 0.0 };
            product(device, 1, [classes, d, length], 1.0, layer, keep, Matrix::one(&gradient, d))?;
        }
        Ok(out.wrapped(device))
    };
    let all = features.contiguous()?.apply_op3_no_bwd(&labels.contiguous()?, &weight.contiguous()?, &Kernel("linear-loss", run))?;
    let [gradient, results] = offsets([classes * d, 2 * n]);
    let sums = all.narrow(0, results, 2 * n)?.reshape((2, n))?.sum(1)?; // loss, right
    Ok((all.narrow(0, gradient, classes * d)?.reshape((classes, d))?, sums))
}
