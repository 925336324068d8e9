//! The two activations that CLIP checkpoints use.

use candle_core::{Result, Tensor};
use lafter_fast as fast; // fast::

/// The activation of the MLPs; the checkpoint's configuration says which.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use lafter::nn::Activation;
/// let x = Tensor::new(&[0f32, 1.], &Device::Cpu)?;
/// let y = Activation::QuickGelu.forward(&x)?.to_vec1::<f32>()?;
/// assert!((y[1] - 0.8458).abs() < 1e-4);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x·σ(1.702 x): the weights of OpenAI and DFN.
    QuickGelu,
    /// x·Φ(x), exact: LAION's and most open_clip weights.
    Gelu,
}

impl Activation {
    /// x of any shape → act(x).
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        fast::prefer!(fast::gelu(x, self == Self::QuickGelu));
        self.forward_plain(x)
    }

    /// The same, built from Candle's own differentiable operations: the reference.
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    pub fn forward_plain(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::QuickGelu => x * candle_nn::ops::sigmoid(&(x * 1.702)?)?,
            Self::Gelu => x.gelu_erf(),
        }
    }
}
