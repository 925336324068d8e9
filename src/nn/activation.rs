//! The two activations that CLIP checkpoints use.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{f32_slice, on_cpu_f32, with_f32};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x·σ(1.702 x): the weights of OpenAI and DFN.
    QuickGelu,
    /// x·Φ(x), exact: LAION's and most open_clip weights.
    Gelu,
}

impl Activation {
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::QuickGelu if on_cpu_f32(x) => x.contiguous()?.apply_op1(FusedQuickGelu),
            Self::QuickGelu => x * candle_nn::ops::sigmoid(&(x * 1.702)?)?,
            Self::Gelu => x.gelu_erf(),
        }
    }
}

struct FusedQuickGelu;

const CHUNK: usize = 16 * 1024;

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-1.702 * x).exp())
}

impl CustomOp1 for FusedQuickGelu {
    fn name(&self) -> &'static str {
        "quick-gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = f32_slice(x, layout)?;
        let mut y = vec![0f32; x.len()];
        y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| {
            y.iter_mut().zip(x).for_each(|(y, x)| *y = x * sigmoid(*x));
        });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    /// d/dx x·s = s·(1 + 1.702 x (1 − s)) with s = σ(1.702 x)
    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let mut dx = vec![0f32; x.elem_count()];
        with_f32(x, |x| {
            with_f32(grad, |grad| {
                dx.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).zip(grad.par_chunks(CHUNK)).for_each(|((dx, x), g)| {
                    for ((dx, x), g) in dx.iter_mut().zip(x).zip(g) {
                        let s = sigmoid(*x);
                        *dx = g * s * (1.0 + 1.702 * x * (1.0 - s));
                    }
                });
            })
        })??;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}
