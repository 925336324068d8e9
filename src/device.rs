//! The device that tensors are computed on, by its name, and what of it decides their bits.

use candle_core::Device;

use crate::error::{Error, Result};

/// `cpu`, `cuda` (the first GPU) or `cuda:N`.
///
/// A GPU is opened once, and every call gives that device: one stream of its own for the work of all threads, in the order in which
/// they ask for it. The driver keeps the memory that tensors give back: by default it returns that to the system whenever the host
/// waits, and maps it anew.
///
/// # Errors
/// [`Error::Usage`] for another name, and for a GPU where the crate was built without the feature `cuda`.
///
/// ```
/// assert!(lafter::device::open("cpu")?.is_cpu());
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn open(name: &str) -> Result<Device> {
    let ordinal: Option<usize> = match name {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => Some(0),
        other => other.strip_prefix("cuda:").and_then(|n| n.parse().ok()).filter(|n| i32::try_from(*n).is_ok()), // as the driver counts
    };
    let Some(ordinal) = ordinal else { return Err(Error::Usage(format!("--device {name}: expected cpu, cuda or cuda:N"))) };
    if !cfg!(feature = "cuda") {
        return Err(Error::Usage(format!("--device {name}: this build has no CUDA; build with `--features cuda`, or use --device cpu")));
    }
    Ok(gpu(ordinal)?)
}

/// Whether the device multiplies f32 matrices in TF32.
pub(crate) fn tf32(device: &Device) -> bool {
    device.is_cuda() && candle_core::cuda::gemm_reduced_precision_f32()
}

/// What rounds as the device does: `cpu`, `cuda`, `cuda with TF32`.
pub(crate) fn kind(device: &Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) if tf32(device) => "cuda with TF32",
        Device::Cuda(_) => "cuda",
        Device::Metal(_) => "metal",
    }
}

/// What computes with the bits of the device: its kind (`cpu`, `cuda`), with the GPU's name and whether it multiplies in TF32.
///
/// # Errors
/// If the driver does not say the GPU's name (Candle's).
pub fn arithmetic(device: &Device) -> Result<String> {
    let gpu = match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(gpu) => candle_core::cuda::WrapErr::w(gpu.cuda_stream().context().name())?,
        _ => String::new(),
    };
    Ok(format!("{} {gpu}", kind(device)).trim_end().to_string())
}

#[cfg(feature = "cuda")]
fn gpu(ordinal: usize) -> candle_core::Result<Device> {
    use std::collections::BTreeMap;
    use std::sync::{Mutex, PoisonError};

    use candle_core::cuda::{WrapErr, cudarc::driver::result, cudarc::driver::sys};

    /// Candle mixes tensors of two devices of one GPU, but nothing would order the work on their two streams.
    static OPEN: Mutex<BTreeMap<usize, Device>> = Mutex::new(BTreeMap::new());

    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = open.get(&ordinal) {
        return Ok(device.clone());
    }
    let device = Device::new_cuda_with_stream(ordinal)?;
    let gpu = device.as_cuda_device()?;
    // SAFETY: events would order several streams, and make two with every allocation; all work of this device is on its one stream.
    unsafe { gpu.disable_event_tracking() };
    let (stream, mut all) = (gpu.cuda_stream(), u64::MAX);
    let threshold = sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    if stream.context().has_async_alloc() {
        // SAFETY: the device is open and has a pool, and the attribute is a u64 that the driver copies.
        unsafe {
            let pool = result::device::get_default_mem_pool(stream.context().cu_device()).w()?;
            result::mem_pool::set_attribute(pool, threshold, (&raw mut all).cast()).w()?;
        }
    }
    open.insert(ordinal, device.clone());
    Ok(device)
}

#[cfg(not(feature = "cuda"))]
fn gpu(ordinal: usize) -> candle_core::Result<Device> {
    Device::new_cuda(ordinal) // says that this build has none
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_none_is_refused_with_those_that_are() {
        for name in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:2147483648", "cuda:4294967296", "CPU"] {
            let error = open(name).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains("cpu, cuda or cuda:N"), "{error}");
        }
        assert_eq!(arithmetic(&Device::Cpu).unwrap(), "cpu");
    }
}
