//! Features of unit length.

use candle_core::{D, Result, Tensor};
use lafter_fast as fast; // fast::

/// x / ‖x‖ over the last dimension: features `[n, d]` of unit length.
///
/// # Errors
/// If `features` is a scalar (Candle's).
///
/// ```
/// use candle_core::{Device, Tensor};
/// let unit = lafter::classify::normalize(&Tensor::new(&[[3f32, 4.]], &Device::Cpu)?)?;
/// assert_eq!(unit.to_vec2::<f32>()?, [[0.6, 0.8]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn normalize(features: &Tensor) -> Result<Tensor> {
    fast::prefer!(fast::unit(features)); // fast::
    features.broadcast_div(&features.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?)
}
