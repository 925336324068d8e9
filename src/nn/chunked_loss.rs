//! The loss of the text classifier on a GPU: noise, product, smoothed cross entropy and gradient, chunk by chunk.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

#[cfg(feature = "cuda")]
use super::cuda;
use super::f32_slice;
use crate::rng::Rng;

/// Features of one product: its logits for a thousand classes are 64 MB, and a GPU is busy with it.
const CHUNK: usize = 16 * 1024;

/// The mean of L_SCE( W (u/‖u‖ + n), c ) over rows u, n ~ N(0, σ²I): eq. 2 with a linear head, from two kernels and two
/// products a chunk. Out of Candle's own operations a dozen tensors of [n, C] pass through memory; here none exists whole.
///
/// It is [`NoisyLoss`](super::NoisyLoss) for a device without caches to stay in. The operations run on the CPU, too, in
/// their plainest form, so that the sums can be tested where there is no GPU.
pub(crate) struct ChunkedLoss<'a> {
    /// [n, d] f32, of any length.
    pub features: &'a Tensor,
    /// [n] u32, each below C.
    pub labels: &'a Tensor,
    /// σ
    pub noise: f32,
    /// ε
    pub smoothing: f32,
    /// Draws n: the same values as one tensor [n, d] from this stream.
    pub rng: &'a Rng,
}

impl ChunkedLoss<'_> {
    /// The loss for weights [C, d], with its graph, and how many rows are classified right: two scalars on the device.
    pub fn of(&self, weight: &Tensor) -> Result<(Tensor, Tensor)> {
        self.of_chunks(weight, CHUNK)
    }

    fn of_chunks(&self, weight: &Tensor, chunk: usize) -> Result<(Tensor, Tensor)> {
        let (n, width) = self.features.dims2()?;
        let (classes, inputs) = weight.dims2()?;
        if self.labels.dims() != [n] || inputs != width || n == 0 {
            let (labels, weight) = (self.labels.dims(), weight.dims());
            candle_core::bail!("features [{n}, {width}], labels {labels:?} and weights {weight:?} do not fit");
        }
        let transposed = weight.detach().t()?;
        let mut total: Option<(Tensor, Tensor)> = None;
        for start in (0..n).step_by(chunk) {
            let length = chunk.min(n - start);
            let noisy = NoisyUnit { rng: self.rng.clone(), first: start * width, noise: self.noise };
            let x = self.features.narrow(0, start, length)?.contiguous()?.apply_op1_no_bwd(&noisy)?; // [length, d]
            let logits = x.matmul(&transposed)?; // [length, C]
            let rows = SmoothedRows { smoothing: self.smoothing, scale: 1.0 / n as f32 };
            let packed = logits.apply_op2_no_bwd(&self.labels.narrow(0, start, length)?, &rows)?;
            let g = packed.narrow(0, 0, length * classes)?.reshape((length, classes))?;
            let sums = packed.narrow(0, length * classes, 2 * length)?.reshape((2, length))?.sum(1)?; // loss, right
            let gradient = g.t()?.matmul(&x)?; // [C, d]
            total = Some(match total {
                None => (gradient, sums),
                Some((gradients, before)) => ((gradients + gradient)?, (before + sums)?),
            });
        }
        let Some((gradient, sums)) = total else { candle_core::bail!("no features") };
        let loss = (sums.get(0)? / n as f64)?;
        Ok((weight.apply_op2(&loss, Known { gradient })?, sums.get(1)?))
    }
}

/// u/‖u‖ + n of rows [n, d], the noise from draw number `first` of the stream on.
pub(crate) struct NoisyUnit {
    pub rng: Rng,
    pub first: usize,
    /// σ
    pub noise: f32,
}

impl CustomOp1 for NoisyUnit {
    fn name(&self) -> &'static str {
        "noisy-unit"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = layout.shape().dims2()?;
        let x = f32_slice(x, layout)?;
        let mut out = self.rng.clone().normals(self.first + rows * width, self.noise).split_off(self.first);
        for (x, out) in x.chunks(width.max(1)).zip(out.chunks_mut(width.max(1))) {
            let length = x.iter().map(|v| v * v).sum::<f32>().sqrt();
            x.iter().zip(out).for_each(|(x, out)| *out += x / length);
        }
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (key, counter) = self.rng.next_draw();
        cuda::noisy_unit(x, layout, key, counter, self.first as u64, self.noise)
    }
}

/// logits [n, C], labels [n] → one behind the other: gradients (p − (1 − ε)·[c = label] − ε/C)·scale [n, C], losses [n], 1
/// for each row whose label has the greatest logit [n].
struct SmoothedRows {
    smoothing: f32,
    scale: f32,
}

impl CustomOp2 for SmoothedRows {
    fn name(&self) -> &'static str {
        "smoothed-rows"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout, labels: &CpuStorage, labels_layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, classes) = layout.shape().dims2()?;
        let Some((from, to)) = labels_layout.contiguous_offsets() else { candle_core::bail!("strided labels") };
        let labels = &labels.as_slice::<u32>()?[from..to];
        let (mut gradient, mut losses, mut right) = (Vec::with_capacity(n * (classes + 2)), Vec::new(), Vec::new());
        for (row, label) in f32_slice(logits, layout)?.chunks(classes.max(1)).zip(labels) {
            let (most, label) = (row.iter().copied().fold(f32::NEG_INFINITY, f32::max), *label as usize);
            let total: f32 = row.iter().map(|v| (v - most).exp()).sum();
            let of_all = row.iter().map(|v| v - most).sum::<f32>() / classes as f32;
            let share = self.scale * self.smoothing / classes as f32;
            let at = gradient.len();
            gradient.extend(row.iter().map(|v| (v - most).exp() * (self.scale / total) - share));
            gradient[at + label] -= self.scale * (1.0 - self.smoothing);
            losses.push(total.ln() - (1.0 - self.smoothing) * (row[label] - most) - self.smoothing * of_all);
            right.push(f32::from(u8::from(row.iter().position(|v| *v == most) == Some(label))));
        }
        let all = [gradient, losses, right].concat();
        let size = all.len();
        Ok((CpuStorage::F32(all), Shape::from(size)))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        logits: &CudaStorage,
        layout: &Layout,
        labels: &CudaStorage,
        labels_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        cuda::smoothed_rows((logits, layout), (labels, labels_layout), self.smoothing, self.scale)
    }
}

/// Ties a loss, a scalar with a storage of its own, to the weights whose gradient is known already.
struct Known {
    gradient: Tensor,
}

impl CustomOp2 for Known {
    fn name(&self) -> &'static str {
        "known-gradient"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, loss: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((loss.try_clone(layout)?, layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout, loss: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        Ok((loss.try_clone(layout)?, layout.shape().clone()))
    }

    fn bwd(&self, _weight: &Tensor, _: &Tensor, _loss: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(self.gradient.broadcast_mul(grad)?), None))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::classify::{Head, NoisyTexts};
    use crate::nn::Linear;

    #[test]
    fn loss_answers_and_gradient_equal_the_plain_form_whatever_the_chunk() {
        for (n, width, classes, noise) in [(50, 9, 7, 0.1), (50, 8, 1, 1.0), (13, 16, 20, 0.0)] {
            let mut rng = Rng::new(n as u64);
            let features = rng.normal_tensor((n, width), 3.0, &Device::Cpu).unwrap();
            let weight = Var::from_tensor(&rng.normal_tensor((classes, width), 1.0, &Device::Cpu).unwrap()).unwrap();
            let labels: Vec<usize> = (0..n).map(|i| i * 5 % classes).collect();
            let texts = NoisyTexts::new(features.clone(), &labels, noise, 0.1).unwrap();
            let head = Head { layers: vec![Linear::new(weight.as_tensor().clone(), None)] };
            let (loss, right) = texts.loss_plain(&head, None, &mut Rng::new(3)).unwrap();
            let value = |t: &Tensor| t.to_scalar::<f32>().unwrap();
            let gradient = |loss: &Tensor| {
                let grads = (loss * 2.0).unwrap().backward().unwrap();
                grads.get(&weight).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            let (expected, expected_gradient) = ((value(&loss), value(&right)), gradient(&loss));
            let labels = Tensor::from_iter(labels.iter().map(|label| *label as u32), &Device::Cpu).unwrap();
            for chunk in [1, 7, 50, CHUNK] {
                let step = ChunkedLoss { features: &features, labels: &labels, noise, smoothing: 0.1, rng: &Rng::new(3) };
                let (loss, right) = step.of_chunks(weight.as_tensor(), chunk).unwrap();
                assert!((value(&loss) - expected.0).abs() <= 1e-5 * expected.0.abs(), "{} {}", value(&loss), expected.0);
                assert_eq!(value(&right), expected.1);
                let largest = expected_gradient.iter().fold(1e-3f32, |most, v| most.max(v.abs()));
                for (ours, plain) in gradient(&loss).iter().zip(&expected_gradient) {
                    assert!((ours - plain).abs() < 1e-5 * largest, "{ours} {plain}");
                }
            }
        }
        let labels = Tensor::zeros(2, candle_core::DType::U32, &Device::Cpu).unwrap();
        let features = Tensor::ones((3, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
        let step = ChunkedLoss { features: &features, labels: &labels, noise: 0.0, smoothing: 0.1, rng: &Rng::new(3) };
        assert!(step.of(&features).unwrap_err().to_string().contains("do not fit"));
    }
}
