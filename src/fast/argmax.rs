//! The greatest of each row.

use candle_core::{DType, Result, Tensor};

use super::cuda;

/// The column of each row's greatest value, the first of equals: f32 on a GPU, where Candle's `argmax` keeps any of them.
///
/// # Shapes
/// `[.., n]` → `[..]` u32.
///
/// # Errors
/// If the device has no memory left (Candle's).
pub fn argmax(x: &Tensor) -> Result<Option<Tensor>> {
    if !cuda::takes(x, &[DType::F32]) {
        return Ok(None);
    }
    #[cfg(feature = "cuda")]
    return cuda::argmax(x).map(Some);
    #[cfg(not(feature = "cuda"))]
    Ok(None)
}
