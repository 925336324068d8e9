//! What tuning needs around its loss on a GPU: smoothed cross entropy, and features of unit length.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};

use super::chunked_loss::{Known, SmoothedRows};
use super::{cuda, f32_slice};

/// −Σ_c q_c log p_c, q_c = (1 − ε)·\[c = label\] + ε/C, the mean over rows: logits `[n, C]` f32, labels `[n]` u32 → a scalar, for
/// tensors on a GPU. The gradient (p − q)/n is made with the loss, in one kernel; in Candle's operations the two directions take some
/// forty. A label that is not below C makes the loss NaN.
///
/// # Errors
/// If there is not one label per row.
pub fn smoothed_cross_entropy(logits: &Tensor, labels: &Tensor, smoothing: f64) -> Result<Option<Tensor>> {
    if !cuda::takes(logits, &[DType::F32]) || !cuda::takes(labels, &[DType::U32]) {
        return Ok(None);
    }
    let (n, classes) = logits.dims2()?;
    let rows = SmoothedRows { smoothing: smoothing as f32, scale: 1.0 / n as f32 };
    let packed = logits.detach().contiguous()?.apply_op2_no_bwd(&labels.contiguous()?, &rows)?;
    let loss = (packed.narrow(0, n * classes, n)?.sum_all()? / n as f64)?;
    let gradient = packed.narrow(0, 0, n * classes)?.reshape((n, classes))?;
    Ok(Some(logits.apply_op2(&loss, Known { gradient })?))
}

/// x/‖x‖ over the last dimension, with a backward pass, (g − y Σ g y)/‖x‖: for f32 on a GPU, one kernel in each direction.
///
/// # Errors
/// If `x` is a scalar.
pub fn unit(x: &Tensor) -> Result<Option<Tensor>> {
    if cuda::nothing(x) {
        return Ok(Some(x.clone()));
    }
    if !cuda::takes(x, &[DType::F32]) {
        return Ok(None);
    }
    Ok(Some(x.contiguous()?.apply_op1(Unit)?))
}

struct Unit;

impl CustomOp1 for Unit {
    fn name(&self) -> &'static str {
        "unit"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, width) = (f32_slice(x, layout)?, layout.dims().last().copied().unwrap_or(1).max(1));
        let unit = |row: &[f32]| {
            let length = row.iter().map(|v| v * v).sum::<f32>().sqrt();
            row.iter().map(|v| v / length).collect::<Vec<_>>()
        };
        Ok((CpuStorage::F32(x.chunks(width).flat_map(unit).collect()), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda::noisy_unit(x, layout, 0, 0, 0, 0.0)
    }

    #[cfg(feature = "cuda")]
    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(cuda::unit_backward(x, grad)?))
    }
}
