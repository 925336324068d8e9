//! A benchmark on a GPU: TF32 by the name of the row, and the peak of the device's memory.

use candle_core::Device;

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
