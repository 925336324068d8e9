//! The loss of the text classifier on a GPU: noise, product, smoothed cross entropy and gradient, chunk by chunk.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
#[cfg(feature = "cuda")]
use candle_core::DType;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

#[cfg(feature = "cuda")]
use super::cuda;
use super::{Layer, Noise, NoisyUnit, f32_slice};

/// Features per product: its logits for a thousand classes take 98 MB, enough to keep a GPU busy.
const CHUNK: usize = 24 * 1024;

/// The mean of L_SCE( f(u/‖u‖ + n), c ) over rows u, n ~ N(0, σ²I): eq. 2 for a head f of linear layers with a ReLU between,
/// from two kernels and, where the head is one layer, two products per chunk. In Candle's own operations, a dozen tensors of
/// `[n, C]` pass through memory; here none exists whole.
///
/// The gradients are made on the way, chunk by chunk: g = (p − q)/n at the logits, q the smoothed label; then from the last
/// layer to the first, with y = x Wᵀ + b: dW = Σ gᵀx, db = Σ g, and g ← (g W)·\[x > 0\] for the layer before.
///
/// It is [`NoisyLoss`](super::NoisyLoss) for a device without caches to stay in. The operations run on the CPU, too, in their
/// plainest form, so that the sums can be tested without a GPU. `cargo bench --features cuda --bench text_epoch --
/// text_epochs_f32 --device cuda` measures a hundred epochs.
pub struct ChunkedLoss<'a> {
    /// `[n, d]` f32, rows of any norm.
    pub features: &'a Tensor,
    /// `[n]` u32, each below C.
    pub labels: &'a Tensor,
    /// n, drawn row by row.
    pub noise: Noise,
    /// ε
    pub smoothing: f32,
    /// Features per product; 0 for the default, 24,576.
    pub chunk: usize,
}

/// A layer without a graph.
struct Affine {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Affine {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.matmul(&self.weight.t()?)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

impl ChunkedLoss<'_> {
    /// The loss for a head of these layers, with its graph, and how many rows are classified right: two scalars on the device.
    ///
    /// # Errors
    /// If features, labels and layers do not fit. Labels on a GPU are not looked at: a wrong one makes the loss NaN.
    pub fn of(&self, layers: &[Layer]) -> Result<(Tensor, Tensor)> {
        let chunk = if self.chunk == 0 { CHUNK } else { self.chunk };
        let (n, width) = self.features.dims2()?;
        let first = layers.first().map(|layer| layer.weight.dims());
        if self.labels.dims() != [n] || !first.is_some_and(|first| matches!(first, [_, inputs] if *inputs == width)) || n == 0 {
            let (labels, first) = (self.labels.dims(), first.unwrap_or_default());
            candle_core::bail!("features [{n}, {width}], labels {labels:?} and weights {first:?} do not fit");
        }
        let classes = layers.last().and_then(|layer| layer.weight.dims().first()).copied().unwrap_or_default();
        if self.labels.device().is_cpu()
            && let Some(label) = self.labels.to_vec1::<u32>()?.into_iter().find(|label| *label as usize >= classes)
        {
            candle_core::bail!("label {label} is none of {classes} classes");
        }
        let frozen = layers.iter().map(|layer| Affine { weight: layer.weight.tensor().detach(), bias: layer.bias.map(Tensor::detach) });
        let frozen: Vec<Affine> = frozen.collect();
        #[cfg(feature = "cuda")]
        if let ([Affine { weight, bias: None }], true) = (&frozen[..], cuda::takes(self.features, &[DType::F32])) {
            let Noise { key, counter, std, .. } = self.noise;
            let stream = cuda::Stream { key, counter, sigma: std };
            let (gradient, sums) = cuda::linear_loss(self.features, self.labels, weight, stream, self.smoothing, chunk)?;
            return self.known(layers, vec![gradient], &sums);
        }
        let mut total: Option<(Vec<Tensor>, Tensor)> = None;
        for start in (0..n).step_by(chunk) {
            let (gradients, sums) = self.of_chunk(&frozen, start, chunk.min(n - start))?;
            total = Some(match total {
                None => (gradients, sums),
                Some((before, sums_before)) => {
                    (before.iter().zip(&gradients).map(|(a, b)| a + b).collect::<Result<_>>()?, (sums_before + sums)?)
                }
            });
        }
        let Some((gradients, sums)) = total else { candle_core::bail!("no features") };
        self.known(layers, gradients, &sums)
    }

    /// The loss with its graph, whose gradients are known, and how many are right, from the sums of both.
    fn known(&self, layers: &[Layer], gradients: Vec<Tensor>, sums: &Tensor) -> Result<(Tensor, Tensor)> {
        let n = self.features.dims()[0];
        let params = layers.iter().rev().flat_map(|layer| [layer.bias.cloned(), Some(layer.weight.tensor())]).flatten();
        let loss = params
            .zip(gradients)
            .try_fold((sums.get(0)? / n as f64)?, |loss, (param, gradient)| param.apply_op2(&loss, Known { gradient }))?;
        Ok((loss, sums.get(1)?))
    }

    /// What the rows from `start` on add: the gradients of each layer's bias, if it has one, and weight, the last layer
    /// first; and the sum of the losses with the number of right answers.
    fn of_chunk(&self, layers: &[Affine], start: usize, length: usize) -> Result<(Vec<Tensor>, Tensor)> {
        let (n, width) = self.features.dims2()?;
        let noisy = NoisyUnit { noise: self.noise, first: start * width };
        let mut x = noisy.of(&self.features.narrow(0, start, length)?)?; // [length, d]
        let mut inputs = Vec::with_capacity(layers.len());
        for (i, layer) in layers.iter().enumerate() {
            let input = if i > 0 { x.relu()? } else { x };
            x = layer.forward(&input)?;
            inputs.push(input);
        }
        let (logits, classes) = (&x, x.dim(1)?); // [length, C]
        let rows = SmoothedRows { smoothing: self.smoothing, scale: 1.0 / n as f32 };
        let packed = logits.apply_op2_no_bwd(&self.labels.narrow(0, start, length)?.contiguous()?, &rows)?;
        let sums = packed.narrow(0, length * classes, 2 * length)?.reshape((2, length))?.sum(1)?; // loss, right
        let mut g = packed.narrow(0, 0, length * classes)?.reshape((length, classes))?;
        let mut gradients = Vec::new();
        for (i, (layer, input)) in layers.iter().zip(&inputs).enumerate().rev() {
            if layer.bias.is_some() {
                gradients.push(g.sum(0)?); // [outputs]
            }
            gradients.push(g.t()?.matmul(input)?); // [outputs, inputs]
            if i > 0 {
                g = (g.matmul(&layer.weight)? * input.gt(0f32)?.to_dtype(input.dtype())?)?;
            }
        }
        Ok((gradients, sums))
    }
}

/// logits `[n, C]`, labels `[n]` → concatenated: gradients (p − (1 − ε)·[c = label] − ε/C)·scale `[n, C]`, losses `[n]`, 1
/// for each row whose label has the greatest logit `[n]`.
pub(crate) struct SmoothedRows {
    pub smoothing: f32,
    pub scale: f32,
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

/// The loss again, as an operation whose backward pass returns a gradient that was computed in advance: once for each parameter,
/// one after another.
pub(crate) struct Known {
    pub gradient: Tensor,
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
        debug_assert!(layout.start_offset() == 0, "the whole storage is copied, so the loss must be all of it");
        Ok((loss.try_clone(layout)?, layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, loss: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(self.gradient.broadcast_mul(grad)?), loss.track_op().then(|| grad.clone())))
    }
}
