//! Softmax over the last dimension, with a backward pass.

use candle_core::{D, Result, Tensor};
use lafter_fast as fast; // fast::

/// pᵢ = exp(xᵢ) / Σⱼ exp(xⱼ) over the last dimension; `candle_nn::ops::softmax_last_dim` has no backward pass.
///
/// # Shapes
/// `[.., n]` → `[.., n]`.
///
/// # Errors
/// If the device has no memory left (Candle's).
///
/// ```
/// use candle_core::{Device, Tensor};
/// let p = lafter::nn::softmax(&Tensor::new(&[[0f32, 0.]], &Device::Cpu)?)?;
/// assert_eq!(p.to_vec2::<f32>()?, [[0.5, 0.5]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    fast::prefer!(fast::softmax(x));
    candle_nn::ops::softmax(x, D::Minus1)
}
