//! The contrastive training loop, one batch at a time.

use candle_core::{Device, Tensor};

use super::loss::{contrastive_loss, same_text};
use super::towers::Towers;
use crate::clip::{TextTower, VisionTower};
use crate::error::Result;
use crate::nn::{AdamW, AdamWConfig, ParamGroup};
use crate::rng::Rng;

/// Trains both towers and the temperature of a CLIP from scratch.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use lafter::pretrain::{Pretrainer, PretrainConfig};
/// use lafter::rng::Rng;
/// let mut config = PretrainConfig { learning_rate: 3e-3, ..PretrainConfig::demo() };
/// config.clip.vision.layers = 1;
/// config.clip.text.layers = 1;
/// let side = config.clip.vision.image_size;
/// let mut trainer = Pretrainer::new(&config, &mut Rng::new(1), &Device::Cpu)?;
/// let pixels = Rng::new(2).normal_tensor((2, 3, side, side), 1.0, &Device::Cpu)?;
/// let ids = Tensor::new(&[[1u32, 5, 9], [1, 7, 9]], &Device::Cpu)?;
/// let texts = ["a car".to_string(), "a boat".to_string()];
/// let first = trainer.step(&pixels, &ids, &[2, 2], &texts, 1.0)?;
/// for _ in 0..5 {
///     trainer.step(&pixels, &ids, &[2, 2], &texts, 1.0)?;
/// }
/// assert!(trainer.step(&pixels, &ids, &[2, 2], &texts, 1.0)? < first);
/// # Ok::<(), lafter::Error>(())
/// ```
pub struct Pretrainer {
    towers: Towers,
    optimizer: AdamW,
    device: Device,
}

impl Pretrainer {
    /// Fresh towers of `config.clip`. Matrices are decayed; biases, norms and the temperature are not, as in CLIP.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) for sizes that do not fit together.
    pub fn new(config: &super::PretrainConfig, rng: &mut Rng, device: &Device) -> Result<Self> {
        let towers = Towers::new(&config.clip, rng, device)?;
        let (matrices, others) = towers.params.iter().cloned().partition(|(_, var)| var.rank() > 1);
        let group = |params, weight_decay| ParamGroup { params, weight_decay, lr_factor: 1.0 };
        // β₂ and ε of CLIP's ViT models (Radford et al. 2021, table 19)
        let adamw = AdamWConfig { learning_rate: config.learning_rate, beta1: 0.9, beta2: 0.98, eps: 1e-6 };
        let optimizer = AdamW::new(vec![group(matrices, config.weight_decay), group(others, 0.0)], adamw)?;
        Ok(Self { towers, optimizer, device: device.clone() })
    }

    /// One step on a batch of pairs; `factor` is the schedule's. Returns the loss before the step.
    ///
    /// # Shapes
    /// pixels `[n, 3, side, side]`; ids `[n, length]`; `ends` and `texts` n each: the texts' ends, and the texts themselves,
    /// which say which captions are the same.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) if the shapes are not these.
    pub fn step(&mut self, pixels: &Tensor, ids: &Tensor, ends: &[usize], texts: &[String], factor: f64) -> Result<f32> {
        let images = self.towers.vision.forward(pixels)?; // [n, d]
        let captions = self.towers.text.forward(ids, ends)?; // [n, d]
        let fits = same_text(texts, &self.device)?;
        let loss = contrastive_loss(&images, &captions, self.towers.log_scale.as_tensor(), &fits)?;
        self.optimizer.step(&loss.backward()?, factor)?;
        Ok(loss.to_scalar()?)
    }

    /// The vision tower as it stands, without a graph.
    pub fn vision(&self) -> VisionTower {
        self.towers.vision.detached()
    }

    /// The text tower as it stands, without a graph.
    pub fn text(&self) -> TextTower {
        self.towers.text.detached()
    }

    /// Every parameter under its name in transformers' checkpoints.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        self.towers.params.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretrain::PretrainConfig;

    #[test]
    fn every_parameter_moves_on_the_first_step() {
        let mut config = PretrainConfig::demo();
        config.clip.vision.layers = 2;
        let mut trainer = Pretrainer::new(&config, &mut Rng::new(3), &Device::Cpu).unwrap();
        let before: Vec<_> = trainer.tensors().into_iter().map(|(name, t)| (name, t.copy().unwrap())).collect();
        let side = config.clip.vision.image_size;
        let pixels = Rng::new(4).normal_tensor((3, 3, side, side), 1.0, &Device::Cpu).unwrap();
        let ids = Tensor::new(&[[1u32, 2, 9], [1, 3, 9], [1, 9, 9]], &Device::Cpu).unwrap();
        trainer.step(&pixels, &ids, &[2, 2, 1], &["a".into(), "b".into(), "c".into()], 1.0).unwrap();
        for ((name, old), (_, new)) in before.iter().zip(trainer.tensors()) {
            let change = (old - &new).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            // the keys' bias cancels in the softmax, so only its rounding moves it
            assert!(change > 0.0 && change.is_finite(), "{name} moved by {change}");
        }
    }
}
