//! Layer norm on the GPU, both directions.

use candle_core::backend::BackendStorage;
use candle_core::cuda::WrapErr;
use candle_core::cuda::cudarc::driver::PushKernelArg;
use candle_core::{CudaStorage, Layout, Result, Shape, Tensor};

use super::launch::{Kernel, by_columns, by_rows, kernel, rows_of, values, wrap};

/// Rows that one thread adds up for the gradients of scale and shift.
const STRIP: u32 = 64;

/// x `[.., width]`, scale and shift `[width]`, all f32 → y like x.
pub fn layer_norm(
    x: (&CudaStorage, &Layout),
    scale: (&CudaStorage, &Layout),
    shift: (&CudaStorage, &Layout),
    eps: f32,
) -> Result<(CudaStorage, Shape)> {
    let device = x.0.device();
    let (rows, width) = rows_of(x.1)?;
    check(width, scale.1, shift.1)?;
    let (from, scale, shift) = (values::<f32>(x.0, x.1)?, values::<f32>(scale.0, scale.1)?, values::<f32>(shift.0, shift.1)?);
    let function = kernel(device, "layer_norm")?;
    // SAFETY: the kernel writes every value.
    let y = unsafe { device.alloc::<f32>(x.1.shape().elem_count())? };
    let mut launch = function.builder();
    launch.arg(&from).arg(&scale).arg(&shift).arg(&eps).arg(&rows).arg(&width).arg(&y);
    // SAFETY: seven arguments of the kernel's types; rows · width values stand behind x and y, width behind scale and shift.
    unsafe { launch.launch(by_rows(rows)) }.w()?;
    Ok((wrap(y, device), x.1.shape().clone()))
}

fn check(width: u32, scale: &Layout, shift: &Layout) -> Result<()> {
    let width = width as usize;
    match scale.shape().elem_count() == width && shift.shape().elem_count() == width {
        true => Ok(()),
        false => candle_core::bail!("layer norm of width {} on an input of width {width}", scale.shape().elem_count()),
    }
}

/// The gradients of x, scale and shift from that of y.
pub fn layer_norm_backward(x: &Tensor, scale: &Tensor, g: &Tensor, eps: f32) -> Result<(Tensor, Tensor, Tensor)> {
    let (rows, width) = rows_of(x.layout())?;
    let (n, strips) = (x.elem_count(), rows.div_ceil(STRIP));
    let sums = 2 * strips as usize * width as usize;
    // concatenated: dx [rows, width], partial sums [2, strips, width]
    let launch = |x: &CudaStorage, xl: &Layout, scale: &CudaStorage, sl: &Layout, g: &CudaStorage, gl: &Layout| {
        let device = x.device();
        check(width, sl, sl)?;
        let (x, scale, g) = (values::<f32>(x, xl)?, values::<f32>(scale, sl)?, values::<f32>(g, gl)?);
        let (rowwise, columnwise) = (kernel(device, "layer_norm_backward")?, kernel(device, "layer_norm_sums")?);
        // SAFETY: the two kernels write every value.
        let (out, stats) = unsafe { (device.alloc::<f32>(n + sums)?, device.alloc::<f32>(2 * rows as usize)?) };
        let (dx, partial) = (out.slice(..n), out.slice(n..));
        let mut launch = rowwise.builder();
        launch.arg(&x).arg(&scale).arg(&g).arg(&eps).arg(&rows).arg(&width).arg(&dx).arg(&stats);
        // SAFETY: eight arguments of the kernel's types; rows · width values stand behind x, g and dx, width behind scale,
        // 2 rows behind stats.
        unsafe { launch.launch(by_rows(rows)) }.w()?;
        let mut launch = columnwise.builder();
        launch.arg(&x).arg(&g).arg(&stats).arg(&rows).arg(&width).arg(&STRIP).arg(&partial);
        // SAFETY: seven arguments of the kernel's types; 2 strips · width values stand behind partial.
        unsafe { launch.launch(by_columns(width, strips)) }.w()?;
        Ok((wrap(out, device), Shape::from(n + sums)))
    };
    let all = x.contiguous()?.apply_op3_no_bwd(&scale.contiguous()?, &g.contiguous()?, &Kernel("layer-norm-backward", launch))?;
    let dx = all.narrow(0, 0, n)?.reshape(x.shape())?;
    let sums = all.narrow(0, n, sums)?.reshape((2, strips as usize, width as usize))?.sum(1)?; // [2, width]
    Ok((dx, sums.get(0)?.reshape(scale.shape())?, sums.get(1)?.reshape(scale.shape())?))
}
