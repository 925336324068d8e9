//! Normal noise from a counter-based generator, on unit features.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

#[cfg(feature = "cuda")]
use crate::cuda;
use crate::f32_slice;

/// A stretch of a stream of normal draws: two from each counter, made wherever and whenever they are needed.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    /// σ; 0 draws nothing.
    pub std: f32,
    /// Names the stream.
    pub key: u64,
    /// The counter of draws 0 and 1.
    pub counter: u64,
    /// Writes the draws from a counter on, times σ: `fill(key, counter, std, out)`.
    pub fill: fn(u64, u64, f32, &mut [f32]),
}

impl Noise {
    /// Fills `out` with the draws `first`, `first + 1`, …
    pub(crate) fn draw(&self, first: usize, out: &mut [f32]) {
        let counter = self.counter + (first / 2) as u64;
        if self.std == 0.0 {
            out.fill(0.0);
        } else if first.is_multiple_of(2) {
            (self.fill)(self.key, counter, self.std, out);
        } else {
            let mut shifted = vec![0f32; out.len() + 1]; // two draws come from one counter
            (self.fill)(self.key, counter, self.std, &mut shifted);
            out.copy_from_slice(&shifted[1..]);
        }
    }
}

/// u/‖u‖ + n of rows `[n, d]`, without a gradient.
pub struct NoisyUnit {
    /// The noise n.
    pub noise: Noise,
    /// The draw for the first value.
    pub first: usize,
}

impl NoisyUnit {
    /// rows `[n, d]` f32 → `[n, d]`.
    ///
    /// # Errors
    /// If the rows are not a matrix.
    pub fn of(&self, rows: &Tensor) -> Result<Tensor> {
        rows.contiguous()?.apply_op1_no_bwd(self)
    }
}

impl CustomOp1 for NoisyUnit {
    fn name(&self) -> &'static str {
        "noisy-unit"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = layout.shape().dims2()?;
        let x = f32_slice(x, layout)?;
        let mut out = vec![0f32; rows * width];
        self.noise.draw(self.first, &mut out);
        for (x, out) in x.chunks(width.max(1)).zip(out.chunks_mut(width.max(1))) {
            let length = x.iter().map(|v| v * v).sum::<f32>().sqrt();
            x.iter().zip(out).for_each(|(x, out)| *out += x / length);
        }
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let Noise { key, counter, std, .. } = self.noise;
        cuda::noisy_unit(x, layout, key, counter, self.first as u64, std)
    }
}
