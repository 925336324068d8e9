//! The loss of the text classifier on a GPU: noise, product, smoothed cross entropy and gradient, chunk by chunk.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

#[cfg(feature = "cuda")]
use super::cuda;
use super::{Linear, f32_slice};
use crate::rng::Rng;

/// Features per product: its logits for a thousand classes take 64 MB, enough to keep a GPU busy.
const CHUNK: usize = 16 * 1024;

/// The mean of L_SCE( f(u/‖u‖ + n), c ) over rows u, n ~ N(0, σ²I): eq. 2 for a head f of linear layers with a ReLU between,
/// from two kernels and, where the head is one layer, two products per chunk. In Candle's own operations, a dozen tensors of
/// `[n, C]` pass through memory; here none exists whole.
///
/// The gradients are made on the way, chunk by chunk: g = (p − q)/n at the logits, q the smoothed label; then from the last
/// layer to the first, with y = x Wᵀ + b: dW = Σ gᵀx, db = Σ g, and g ← (g W)·[x > 0] for the layer before.
///
/// It is [`NoisyLoss`](super::NoisyLoss) for a device without caches to stay in. The operations run on the CPU, too, in their
/// plainest form, so that the sums can be tested where there is no GPU. No GPU was at hand to measure it:
/// `cargo bench --features cuda --bench text_epoch -- text_epochs_f32 --device cuda` measures a hundred epochs.
pub(crate) struct ChunkedLoss<'a> {
    /// `[n, d]` f32, rows of any norm.
    pub features: &'a Tensor,
    /// `[n]` u32, each below C.
    pub labels: &'a Tensor,
    /// σ
    pub noise: f32,
    /// ε
    pub smoothing: f32,
    /// Draws n: the same values as one tensor `[n, d]` from this stream.
    pub rng: &'a Rng,
}

impl ChunkedLoss<'_> {
    /// The loss for a head of these layers, with its graph, and how many rows are classified right: two scalars on the device.
    pub fn of(&self, layers: &[Linear]) -> Result<(Tensor, Tensor)> {
        self.of_chunks(layers, CHUNK)
    }

    fn of_chunks(&self, layers: &[Linear], chunk: usize) -> Result<(Tensor, Tensor)> {
        let (n, width) = self.features.dims2()?;
        let first = layers.first().map(|layer| layer.weight.dims());
        if self.labels.dims() != [n] || first.is_none_or(|first| first[1..] != [width]) || n == 0 {
            let (labels, first) = (self.labels.dims(), first.unwrap_or_default());
            candle_core::bail!("features [{n}, {width}], labels {labels:?} and weights {first:?} do not fit");
        }
        let frozen: Vec<Linear> = layers.iter().map(Linear::frozen).collect();
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
        let params = layers.iter().rev().flat_map(|layer| [layer.bias.as_ref(), Some(&layer.weight)]).flatten();
        let loss = params
            .zip(gradients)
            .try_fold((sums.get(0)? / n as f64)?, |loss, (param, gradient)| param.apply_op2(&loss, Known { gradient }))?;
        Ok((loss, sums.get(1)?))
    }

    /// What the rows from `start` on add: the gradients of each layer's bias, where it has one, and weight, the last layer
    /// first; and the sum of the losses beside the number of right answers.
    fn of_chunk(&self, layers: &[Linear], start: usize, length: usize) -> Result<(Vec<Tensor>, Tensor)> {
        let (n, width) = self.features.dims2()?;
        let noisy = NoisyUnit { rng: self.rng.clone(), first: start * width, noise: self.noise };
        let mut x = self.features.narrow(0, start, length)?.contiguous()?.apply_op1_no_bwd(&noisy)?; // [length, d]
        let mut inputs = Vec::with_capacity(layers.len());
        for (i, layer) in layers.iter().enumerate() {
            let input = if i > 0 { x.relu()? } else { x };
            x = layer.forward_plain(&input)?;
            inputs.push(input);
        }
        let (logits, classes) = (&x, x.dim(1)?); // [length, C]
        let rows = SmoothedRows { smoothing: self.smoothing, scale: 1.0 / n as f32 };
        let packed = logits.apply_op2_no_bwd(&self.labels.narrow(0, start, length)?, &rows)?;
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

/// u/‖u‖ + n of rows `[n, d]`, the noise from draw number `first` of the stream on.
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

/// logits `[n, C]`, labels `[n]` → concatenated: gradients (p − (1 − ε)·[c = label] − ε/C)·scale `[n, C]`, losses `[n]`, 1
/// for each row whose label has the greatest logit `[n]`.
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

/// Ties a loss, a scalar with a storage of its own, to a parameter whose gradient is known already; and so, one after another,
/// to several.
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

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(self.gradient.broadcast_mul(grad)?), Some(grad.clone())))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{D, DType, Device, Var};
    use proptest::prelude::*;

    use super::*;
    use crate::classify::{Head, NoisyTexts, normalise, smoothed_cross_entropy};
    use crate::rng::Rng;

    fn f64s(tensor: &Tensor) -> Tensor {
        tensor.to_dtype(DType::F64).unwrap()
    }

    fn length(tensor: &Tensor) -> f64 {
        f64s(tensor).sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt()
    }

    /// The plain form in f64.
    struct Reference {
        loss: Tensor,
        /// For each parameter, in the order of `Head::trainable`: how long its gradient would be if none of its terms
        /// cancelled. It comes from the same backward pass over absolute values, and it is what rounding in f32 is relative to:
        /// p − q of a text keeps the rounding of p and q, and so on through every sum.
        uncancelled: Vec<f64>,
        /// The least |x| before a ReLU: nearer to 0 than rounding, the two forms may differ in whether a unit is on.
        nearest: f64,
    }

    fn reference(step: &ChunkedLoss, labels: &[usize], head: &Head) -> Result<Reference> {
        let (n, classes, epsilon) = (labels.len(), head.classes(), f64::from(step.smoothing));
        let noise = step.rng.clone().normal_tensor(step.features.shape(), step.noise, &Device::Cpu)?;
        let mut x = (normalise(&f64s(step.features))? + f64s(&noise))?;
        let (mut inputs, mut nearest) = (Vec::new(), f64::INFINITY);
        for (i, layer) in head.layers.iter().enumerate() {
            if i > 0 {
                nearest = x.abs()?.flatten_all()?.min(0)?.to_scalar::<f64>()?;
                x = x.relu()?;
            }
            inputs.push(x.detach());
            x = Linear::new(f64s(&layer.weight), layer.bias.as_ref().map(f64s)).forward_plain(&x)?;
        }
        let smooth = |i: usize| epsilon / classes as f64 + if i % classes == labels[i / classes] { 1.0 - epsilon } else { 0.0 };
        let q = Tensor::from_iter((0..n * classes).map(smooth), &Device::Cpu)?.reshape((n, classes))?;
        let mut g = ((candle_nn::ops::softmax(&x.detach(), D::Minus1)? + q)? / n as f64)?;
        let mut uncancelled = Vec::new();
        for (layer, input) in head.layers.iter().zip(&inputs).rev() {
            uncancelled.extend(layer.bias.as_ref().map(|_| length(&g.sum(0).unwrap())));
            uncancelled.push(length(&g.t()?.matmul(&input.abs()?)?));
            g = (g.matmul(&f64s(&layer.weight.detach()).abs()?)? * f64s(&input.gt(0f64)?))?;
        }
        uncancelled.reverse();
        Ok(Reference { loss: smoothed_cross_entropy(&x, step.labels, epsilon)?, uncancelled, nearest })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Loss and every gradient within 1e-5, for heads of one layer and of two, whatever the chunk.
        #[test]
        fn loss_and_gradients_equal_the_plain_form_in_f64(
            n in 1usize..70, width in 1usize..30, hidden in prop::option::of(1usize..20), classes in 1usize..30,
            noise in prop_oneof![Just(0f32), 0.01f32..1.0], smoothing in 0f32..0.9, chunk in 1usize..80, seed in any::<u64>(),
        ) {
            let mut rng = Rng::new(seed);
            let features = rng.normal_tensor((n, width), 3.0, &Device::Cpu).unwrap();
            let labels: Vec<usize> = (0..n).map(|_| rng.below(classes)).collect();
            let on_device = Tensor::from_iter(labels.iter().map(|label| *label as u32), &Device::Cpu).unwrap();
            let head = match hidden {
                None => Head::linear(width, classes, &mut rng, &Device::Cpu),
                Some(hidden) => Head::mlp(width, hidden, classes, &mut rng, &Device::Cpu),
            };
            let (head, params) = head.unwrap().trainable().unwrap();
            let step = ChunkedLoss { features: &features, labels: &on_device, noise, smoothing, rng: &rng };
            let exact = reference(&step, &labels, &head).unwrap();
            prop_assume!(exact.nearest > 1e-5);
            let (loss, right) = step.of_chunks(&head.layers, chunk).unwrap();
            let (value, expected) = (f64::from(loss.to_scalar::<f32>().unwrap()), exact.loss.to_scalar::<f64>().unwrap());
            prop_assert!((value - expected).abs() <= 1e-5 * expected, "{value} {expected}");
            let texts = NoisyTexts::new(features.clone(), &labels, noise, smoothing.into()).unwrap();
            let (_, right_plain) = texts.loss_plain(&head, None, &mut rng.clone()).unwrap();
            let right = [right, right_plain].map(|right| right.to_scalar::<f32>().unwrap());
            prop_assert!((right[0] - right[1]).abs() <= 1.0, "{right:?} right"); // a tie within rounding
            let grads = |loss: &Tensor| (loss * 3.0).unwrap().backward().unwrap();
            let (ours, plain) = (grads(&loss), grads(&exact.loss));
            for (crate::nn::Param { name, var, .. }, uncancelled) in params.iter().zip(exact.uncancelled) {
                let (ours, plain) = (ours.get(var).unwrap(), plain.get(var).unwrap());
                let (off, long) = (length(&(f64s(ours) - f64s(plain)).unwrap()), length(plain));
                // four roundings of the terms are the greater only where less than a fortieth of them is left uncancelled
                let rounding = 2.0 * f64::from(f32::EPSILON) * 3.0 * uncancelled;
                prop_assert!(off <= (1e-5 * long).max(rounding), "{name} off by {off:.2e} of {long:.2e}, uncancelled {uncancelled:.2e}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let labels = Tensor::zeros(2, DType::U32, &Device::Cpu).unwrap();
        let features = Tensor::ones((3, 4), DType::F32, &Device::Cpu).unwrap();
        let step = ChunkedLoss { features: &features, labels: &labels, noise: 0.0, smoothing: 0.1, rng: &Rng::new(3) };
        let layer = Linear::new(features.clone(), None);
        for layers in [&[layer][..], &[]] {
            assert!(step.of(layers).unwrap_err().to_string().contains("do not fit"));
        }
        let labels = Tensor::zeros(3, DType::U32, &Device::Cpu).unwrap();
        let step = ChunkedLoss { labels: &labels, ..step };
        let narrow = Linear::new(Var::from_tensor(&Tensor::ones((2, 3), DType::F32, &Device::Cpu).unwrap()).unwrap().into_inner(), None);
        assert!(step.of(&[narrow]).unwrap_err().to_string().contains("do not fit"));
    }
}
