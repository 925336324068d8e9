//! AdamW's update of one parameter on the GPU in one kernel; built from Candle's operations, it takes a dozen.

use candle_core::backend::BackendStorage;
use candle_core::cuda::WrapErr;
use candle_core::cuda::cudarc::driver::PushKernelArg;
use candle_core::{CudaStorage, Layout, Result, Shape, Tensor};

use super::launch::{Kernel, by_elements, kernel, values, wrap};

/// The numbers of one step of one parameter: θ ← keep·θ − rate · m / (correct2·√v + eps), where
/// m ← β₁ m + rest1·g and v ← β₂ v + rest2·g².
#[derive(Clone, Copy)]
pub struct Update {
    pub keep: f32,
    pub beta1: f32,
    pub rest1: f32,
    pub beta2: f32,
    pub rest2: f32,
    pub correct2: f32,
    pub eps: f32,
    pub rate: f32,
}

/// The parameter, its gradient and its moments `[2, n]` → the new parameter and the new moments.
pub fn adamw(parameter: &Tensor, grad: &Tensor, moments: &Tensor, update: Update) -> Result<(Tensor, Tensor)> {
    let n = parameter.elem_count();
    let launch = |parameter: &CudaStorage, pl: &Layout, g: &CudaStorage, gl: &Layout, moments: &CudaStorage, ml: &Layout| {
        let device = parameter.device();
        if gl.shape().elem_count() != n || ml.shape().elem_count() != 2 * n {
            candle_core::bail!("a gradient of shape {:?} for {n} values", gl.shape());
        }
        let (parameter, g, moments) = (values::<f32>(parameter, pl)?, values::<f32>(g, gl)?, values::<f32>(moments, ml)?);
        let Update { keep, beta1, rest1, beta2, rest2, correct2, eps, rate } = update;
        let count = n as u64;
        let function = kernel(device, "adamw")?;
        // SAFETY: the kernel writes every value.
        let out = unsafe { device.alloc::<f32>(3 * n)? };
        let mut launch = function.builder();
        launch.arg(&parameter).arg(&g).arg(&moments).arg(&count).arg(&keep).arg(&beta1).arg(&rest1);
        launch.arg(&beta2).arg(&rest2).arg(&correct2).arg(&eps).arg(&rate).arg(&out);
        // SAFETY: thirteen arguments of the kernel's types; n values stand behind parameter and g, 2n behind moments, 3n
        // behind out.
        unsafe { launch.launch(by_elements(count)) }.w()?;
        Ok((wrap(out, device), Shape::from((3, n))))
    };
    let all = parameter.contiguous()?.apply_op3_no_bwd(&grad.contiguous()?, moments, &Kernel("adamw", launch))?;
    Ok((all.get(0)?.reshape(parameter.shape())?, all.narrow(0, 1, 2)?))
}
