//! The text classifier's loss in the fused forms of the crate `lafter-fast`.

use candle_core::{Result, Tensor};
use lafter_fast::{ChunkedLoss, Noise, NoisyLoss, NoisyUnit, on_cpu_f32, on_gpu_f32};

use super::{Head, NoisyTexts};
use crate::checkpoint::fingerprint;
use crate::nn::Linear;
use crate::rng::{Rng, normal_pairs};

impl NoisyTexts {
    /// The mean loss over the texts `rows` (all where `None`) with its graph to the head, and how many are classified right:
    /// two scalars left on the device, since reading them would make the host wait for it.
    ///
    /// # Errors
    /// If the head expects another width, a label is not one of its classes, or a row is not a text of the set.
    pub fn loss(&self, head: &Head, rows: Option<&[u32]>, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        lafter_fast::prefer!(self.fused_loss(head, rows, rng));
        self.loss_plain(head, rows, rng)
    }

    /// The draws that `rng` gives next.
    fn stream(&self, rng: &Rng) -> Noise {
        let (key, counter) = rng.next_draw();
        Noise { std: self.noise, key, counter, fill: normal_pairs }
    }

    fn move_on(&self, rng: &mut Rng, draws: usize) {
        if self.noise > 0.0 {
            rng.skip_normals(draws);
        }
    }

    /// On the CPU in tiles, for a linear head without bias; on a GPU in chunks, for any head but a cosine head.
    fn fused_loss(&self, head: &Head, rows: Option<&[u32]>, rng: &mut Rng) -> Result<Option<(Tensor, Tensor)>> {
        if head.scale.is_some() || head.layers.iter().any(|layer| layer.change().is_some()) {
            return Ok(None);
        }
        let (noise, smoothing) = (self.stream(rng), self.smoothing as f32);
        match head.layers.as_slice() {
            [only] if only.bias.is_none() && only.weight.plain().is_some_and(on_cpu_f32) && on_cpu_f32(&self.features) => {
                self.check(head.classes(), rows)?;
                let (features, labels) = (self.features.clone(), self.labels.clone());
                self.move_on(rng, rows.map_or(self.labels.len(), <[u32]>::len) * only.weight.dims2()?.1);
                NoisyLoss { features, labels, rows: rows.map(Into::into), noise, smoothing }.of(&only.weight.tensor()).map(Some)
            }
            layers if on_gpu_f32(&self.features) && layers.iter().all(|layer| layer.weight.plain().is_some_and(on_gpu_f32)) => {
                self.check(head.classes(), rows)?;
                let (features, labels) = match rows {
                    None => (self.features.clone(), self.on_device.clone()),
                    Some(rows) => self.select(&self.features, rows)?,
                };
                let step = ChunkedLoss { features: &features, labels: &labels, noise, smoothing, chunk: 0 };
                let result = step.of(&layers.iter().map(Linear::layer).collect::<Vec<_>>())?;
                self.move_on(rng, features.elem_count());
                Ok(Some(result))
            }
            _ => Ok(None),
        }
    }

    /// Unit features and noise, drawn by the GPU with the host's bits.
    pub(super) fn fused_noise(&self, x: &Tensor, rng: &mut Rng) -> Result<Option<Tensor>> {
        if !on_gpu_f32(x) {
            return Ok(None);
        }
        let noisy = NoisyUnit { noise: self.stream(rng), first: 0 }.of(x)?;
        self.move_on(rng, x.elem_count());
        Ok(Some(noisy))
    }

    /// A hash of the features and their classes, to tie a checkpoint to them; the features are read once for it.
    pub(crate) fn fingerprint(&self) -> crate::Result<String> {
        fingerprint([&self.features, &self.on_device])
    }
}

#[cfg(test)]
mod tests {
    //! The chunked form is a GPU's; on the CPU it runs in its plainest form, so that its sums can be tested.
    use candle_core::{D, DType, Device, Var};
    use proptest::prelude::*;

    use super::*;
    use crate::classify::{normalize, smoothed_cross_entropy};
    use crate::rng::Rng;

    fn f64s(tensor: &Tensor) -> Tensor {
        tensor.to_dtype(DType::F64).unwrap()
    }

    fn length(tensor: &Tensor) -> f64 {
        f64s(tensor).sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt()
    }

    fn stream(rng: &Rng, std: f32) -> Noise {
        let (key, counter) = rng.next_draw();
        Noise { std, key, counter, fill: normal_pairs }
    }

    fn layers(layers: &[Linear]) -> Vec<lafter_fast::Layer<'_>> {
        layers.iter().map(Linear::layer).collect()
    }

    /// The plain form in f64.
    struct Reference {
        loss: Tensor,
        /// For each parameter, in the order of `Head::trainable`: how long its gradient would be if none of its terms
        /// canceled. It comes from the same backward pass over absolute values, and it is what rounding in f32 is relative to:
        /// p − q of a text keeps the rounding of p and q, and so on through every sum.
        uncanceled: Vec<f64>,
        /// The least |x| before a ReLU: nearer to 0 than rounding, the two forms may differ in whether a unit is on.
        nearest: f64,
    }

    fn reference(step: &ChunkedLoss, rng: &Rng, labels: &[usize], head: &Head) -> Result<Reference> {
        let (n, classes, epsilon) = (labels.len(), head.classes(), f64::from(step.smoothing));
        let noise = rng.clone().normal_tensor(step.features.shape(), step.noise.std, &Device::Cpu)?;
        let mut x = (normalize(&f64s(step.features))? + f64s(&noise))?;
        let (mut inputs, mut nearest) = (Vec::new(), f64::INFINITY);
        let mut size = x.abs()?; // of an input, if none of the terms it is summed of canceled
        for (i, layer) in head.layers.iter().enumerate() {
            if i > 0 {
                nearest = x.abs()?.flatten_all()?.min(0)?.to_scalar::<f64>()?;
                x = x.relu()?;
            }
            inputs.push((x.detach(), size.clone()));
            let (weight, bias) = (f64s(&layer.weight.tensor()), layer.bias.as_ref().map(f64s));
            size = Linear::new(weight.detach().abs()?, bias.as_ref().map(|bias| bias.detach().abs()).transpose()?).forward_plain(&size)?;
            x = Linear::new(weight, bias).forward_plain(&x)?;
        }
        let smooth = |i: usize| epsilon / classes as f64 + if i % classes == labels[i / classes] { 1.0 - epsilon } else { 0.0 };
        let q = Tensor::from_iter((0..n * classes).map(smooth), &Device::Cpu)?.reshape((n, classes))?;
        let mut g = ((candle_nn::ops::softmax(&x.detach(), D::Minus1)? + q)? / n as f64)?;
        let mut uncanceled = Vec::new();
        for (layer, (input, size)) in head.layers.iter().zip(&inputs).rev() {
            uncanceled.extend(layer.bias.as_ref().map(|_| length(&g.sum(0).unwrap())));
            uncanceled.push(length(&g.t()?.matmul(size)?));
            g = (g.matmul(&f64s(&layer.weight.tensor().detach()).abs()?)? * f64s(&input.gt(0f64)?))?;
        }
        uncanceled.reverse();
        Ok(Reference { loss: smoothed_cross_entropy(&x, step.labels, epsilon)?, uncanceled, nearest })
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
            let step = ChunkedLoss { features: &features, labels: &on_device, noise: stream(&rng, noise), smoothing, chunk };
            let exact = reference(&step, &rng, &labels, &head).unwrap();
            prop_assume!(exact.nearest > 1e-5);
            let (loss, right) = step.of(&layers(&head.layers)).unwrap();
            let (value, expected) = (f64::from(loss.to_scalar::<f32>().unwrap()), exact.loss.to_scalar::<f64>().unwrap());
            prop_assert!((value - expected).abs() <= 1e-5 * expected, "{value} {expected}");
            let texts = NoisyTexts::new(features.clone(), &labels, noise, smoothing.into()).unwrap();
            let (_, right_plain) = texts.loss_plain(&head, None, &mut rng.clone()).unwrap();
            let right = [right, right_plain].map(|right| right.to_scalar::<f32>().unwrap());
            prop_assert!((right[0] - right[1]).abs() <= 1.0, "{right:?} right"); // a tie within rounding
            let grads = |loss: &Tensor| (loss * 3.0).unwrap().backward().unwrap();
            let (ours, plain) = (grads(&loss), grads(&exact.loss));
            for (crate::nn::Param { name, var, .. }, uncanceled) in params.iter().zip(exact.uncanceled) {
                let (ours, plain) = (ours.get(var).unwrap(), plain.get(var).unwrap());
                let (off, long) = (length(&(f64s(ours) - f64s(plain)).unwrap()), length(plain));
                // four roundings of the terms are the greater only where less than a fortieth of them is left uncanceled
                let rounding = 2.0 * f64::from(f32::EPSILON) * 3.0 * uncanceled;
                prop_assert!(off <= (1e-5 * long).max(rounding), "{name} off by {off:.2e} of {long:.2e}, uncanceled {uncanceled:.2e}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let labels = Tensor::zeros(2, DType::U32, &Device::Cpu).unwrap();
        let features = Tensor::ones((3, 4), DType::F32, &Device::Cpu).unwrap();
        let step = ChunkedLoss { features: &features, labels: &labels, noise: stream(&Rng::new(3), 0.0), smoothing: 0.1, chunk: 0 };
        let layer = Linear::new(features.clone(), None);
        for some in [&[layer][..], &[]] {
            assert!(step.of(&layers(some)).unwrap_err().to_string().contains("do not fit"));
        }
        let labels = Tensor::zeros(3, DType::U32, &Device::Cpu).unwrap();
        let step = ChunkedLoss { labels: &labels, ..step };
        let narrow = Linear::new(Var::from_tensor(&Tensor::ones((2, 3), DType::F32, &Device::Cpu).unwrap()).unwrap().into_inner(), None);
        assert!(step.of(&layers(&[narrow])).unwrap_err().to_string().contains("do not fit"));
        let labels = Tensor::new(&[0u32, 2, 1], &Device::Cpu).unwrap();
        let two = Linear::new(Tensor::ones((2, 4), DType::F32, &Device::Cpu).unwrap(), None);
        let step = ChunkedLoss { labels: &labels, ..step };
        assert!(step.of(&layers(&[two])).unwrap_err().to_string().contains("label 2 is none of 2 classes"));
        let nothing = Tensor::ones((3, 0), DType::F32, &Device::Cpu).unwrap();
        let labels = vec![0u32; 3].into();
        let step = NoisyLoss { features: nothing.clone(), labels, rows: None, noise: stream(&Rng::new(3), 0.0), smoothing: 0.1 };
        assert!(step.of(&nothing).unwrap_err().to_string().contains("of no numbers"));
    }
}
