//! The device of a benchmark: `--device cpu`, `cuda` or `cuda:N`; TF32 by the name of the row; the peak of its memory.

use candle_core::Device;

/// The device of that name; on a GPU the benchmark must be built with `--features cuda`.
pub fn open(spec: &str) -> lafter::Result<Device> {
    let ordinal = match spec {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => Some(0),
        other => other.strip_prefix("cuda:").and_then(|n| n.parse().ok()),
    };
    let usage = |problem: &str| lafter::Error::Usage(format!("--device {spec}: {problem}"));
    let ordinal = ordinal.ok_or_else(|| usage("expected cpu, cuda or cuda:N"))?;
    if !cfg!(feature = "cuda") {
        return Err(usage("built without CUDA: cargo bench --features cuda"));
    }
    Ok(Device::new_cuda(ordinal)?)
}

/// On a GPU a row whose name ends in `tf32` or `bf16` may round the factors of its f32 products to TF32; others may not.
pub fn choose_tf32(row: &str) {
    candle_core::cuda::set_gemm_reduced_precision_f32(row.ends_with("tf32") || row.ends_with("bf16"));
}

/// The most bytes that tensors took on a GPU so far, as its driver counted them (cuBLAS's workspace, a few MB, apart).
#[cfg(feature = "cuda")]
pub fn peak_bytes(device: &Device) -> Option<u64> {
    use candle_core::cuda_backend::cudarc::driver::{result, sys::CUmemPool_attribute};
    let context = device.as_cuda_device().ok()?.cuda_stream().context().clone();
    let mut bytes = 0u64;
    // SAFETY: the device is that of a living context, and the attribute is written as a u64.
    unsafe {
        let pool = result::device::get_mem_pool(context.cu_device()).ok()?;
        let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
        result::mem_pool::get_attribute(pool, attribute, (&raw mut bytes).cast()).ok()?;
    }
    Some(bytes)
}

#[cfg(not(feature = "cuda"))]
pub fn peak_bytes(_: &Device) -> Option<u64> {
    None
}
