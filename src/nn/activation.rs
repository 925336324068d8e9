//! The two activations that CLIP checkpoints use.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};
use serde::{Deserialize, Serialize};

use super::{Isa, cuda, f32_slice, math, on_cpu_f32, parallel, with_f32};

/// The activation of the MLPs; the checkpoint's configuration says which.
///
/// On the CPU it is one pass forward, and one backward, which computes the slope again: quick-GELU's is
/// σ(1.702 x)·(1 + 1.702 x (1 − σ(1.702 x))), GELU's Φ(x) + x φ(x). Candle's own operations write a tensor each for sigmoid,
/// product and scaling, another for each gradient, and take exp and erf one number at a time. `[32, 99, 3072]`, forward and
/// backward: 11 ms against 48 for quick-GELU, 12 against 101 for GELU (`cargo bench --bench ops`).
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
    /// x of any shape → act(x), one fused operation for f32 on the CPU and f32 or bf16 on a GPU, otherwise
    /// [`forward_plain`](Self::forward_plain).
    ///
    /// # Errors
    /// Where the device has no memory left (Candle's).
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        let fused = on_cpu_f32(x) || cuda::takes(x, &[DType::F32, DType::BF16]);
        if fused { x.contiguous()?.apply_op1(Fused(self)) } else { self.forward_plain(x) }
    }

    /// The same, built from Candle's own differentiable operations: the reference, and the path of other types.
    ///
    /// # Errors
    /// Where the device has no memory left (Candle's).
    pub fn forward_plain(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::QuickGelu => x * candle_nn::ops::sigmoid(&(x * 1.702)?)?,
            Self::Gelu => x.gelu_erf(),
        }
    }
}

struct Fused(Activation);

/// Numbers per task.
const CHUNK: usize = 16 * 1024;

/// Operations per number: what an exponential and a division cost.
const WORK: usize = 30;

impl CustomOp1 for Fused {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = f32_slice(x, layout)?;
        let mut y = vec![0f32; x.len()];
        let tasks = y.chunks_mut(CHUNK).zip(x.chunks(CHUNK)).collect();
        parallel::for_each(tasks, WORK * x.len(), |(y, x)| math::activate(Isa::best(), self.0, x, y));
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda::activation(self.0, x, layout)
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return Ok(Some(cuda::activation_backward(self.0, x, grad)?));
        }
        let mut dx = with_f32(grad, <[f32]>::to_vec)?;
        with_f32(x, |x| {
            let tasks = dx.chunks_mut(CHUNK).zip(x.chunks(CHUNK)).collect();
            parallel::for_each(tasks, WORK * x.len(), |(dx, x)| math::activate_backward(Isa::best(), self.0, x, dx));
        })?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}
