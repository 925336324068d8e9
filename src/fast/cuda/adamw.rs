//! AdamW's update of all parameters on the GPU in one kernel; built from Candle's operations, it takes a dozen for each of them.

use candle_core::backend::BackendStorage;
use candle_core::cuda::WrapErr;
use candle_core::cuda::cudarc::driver::{DevicePtr, PushKernelArg};
use candle_core::{CudaStorage, InplaceOp1, Layout, Result, Storage, Tensor};

use super::launch::{by_elements, kernel, values};

/// The numbers of one step that all parameters share: m ← β₁ m + rest1·g and v ← β₂ v + rest2·g², and the divisor is
/// correct2·√v + eps.
#[derive(Clone, Copy)]
pub struct Update {
    pub beta1: f32,
    pub rest1: f32,
    pub beta2: f32,
    pub rest2: f32,
    pub correct2: f32,
    pub eps: f32,
}

/// A parameter, its gradient, and the numbers of its own: θ ← keep·θ − rate · m / (correct2·√v + eps).
pub struct Parameter<'a> {
    pub values: &'a Tensor,
    pub grad: &'a Tensor,
    pub keep: f32,
    pub rate: f32,
}

/// Updates all parameters where they lie, and their moments `[2, n]`, where each has its place after those before it. All f32, all
/// contiguous, on the device of the moments.
pub fn adamw(parameters: &[Parameter], moments: &Tensor, update: Update) -> Result<()> {
    moments.inplace_op1(&Step { parameters, update })
}

struct Step<'a> {
    parameters: &'a [Parameter<'a>],
    update: Update,
}

/// Where the values of a tensor begin, as the kernel takes it.
fn address(tensor: &Tensor, like: &CudaStorage) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cuda(storage) if storage.device().id() == like.device().id() => {
            let (values, stream) = (values::<f32>(storage, layout)?, like.device().cuda_stream());
            let (address, _order) = values.device_ptr(&stream);
            Ok(address)
        }
        _ => candle_core::bail!("a parameter or its gradient is not on the device of its moments"),
    }
}

impl InplaceOp1 for Step<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, _: &mut candle_core::CpuStorage, _: &Layout) -> Result<()> {
        candle_core::bail!("adamw is a GPU kernel, its moments are on the CPU")
    }

    fn cuda_fwd(&self, moments: &mut CudaStorage, layout: &Layout) -> Result<()> {
        let device = moments.device().clone();
        let (mut table, mut place) = (Vec::with_capacity(5 * self.parameters.len()), 0);
        for Parameter { values, grad, keep, rate } in self.parameters {
            let n = values.elem_count();
            if grad.elem_count() != n {
                candle_core::bail!("a gradient of shape {:?} for {n} values", grad.dims());
            }
            table.extend([place as u64, address(values, moments)?, address(grad, moments)?]);
            table.extend([u64::from(keep.to_bits()), u64::from(rate.to_bits())]);
            place += n;
        }
        if layout.shape().elem_count() != 2 * place || place == 0 {
            candle_core::bail!("moments of shape {:?} for {place} values", layout.dims());
        }
        let table = device.clone_htod(&table)?;
        let (parameters, count) = (self.parameters.len() as u32, place as u64);
        let moments = values::<f32>(moments, layout)?;
        let Update { beta1, rest1, beta2, rest2, correct2, eps } = self.update;
        let function = kernel(&device, "adamw")?;
        let mut launch = function.builder();
        launch.arg(&table).arg(&parameters).arg(&count).arg(&beta1).arg(&rest1).arg(&beta2).arg(&rest2);
        launch.arg(&correct2).arg(&eps).arg(&moments);
        // SAFETY: ten arguments of the kernel's types. 2 count values stand behind moments, and as many as the table says behind
        // each address. Nothing else is on this stream until it is done, and each parameter has one place in the table.
        unsafe { launch.launch(by_elements(count)) }.w()?;
        Ok(())
    }
}
