//! A vision tower whose layer norms learn, as Tent and WATT have it.

use candle_core::{DType, Result, Tensor};
use lafter_fast as fast;

use crate::classify::normalize;
use crate::clip::VisionTower;
use crate::nn::{AdamW, AdamWConfig, Param, ParamGroup};

/// The tower, its variables and their optimizer: Adam, since nothing decays.
pub(super) struct TunedNorms {
    tower: VisionTower,
    params: Vec<Param>,
    optimizer: AdamW,
}

impl TunedNorms {
    /// Fresh variables with the values of this tower.
    pub fn new(tower: &VisionTower, learning_rate: f64) -> Result<Self> {
        let (tower, params) = tower.trainable_norms()?;
        let config = AdamWConfig { learning_rate, ..AdamWConfig::default() };
        let optimizer = AdamW::new(ParamGroup::decay_weights(&params, 0.0), config)?;
        Ok(Self { tower, params, optimizer })
    }

    /// The tower with its variables.
    pub fn tower(&self) -> &VisionTower {
        &self.tower
    }

    /// Unit features with a graph: pixels `[n, 3, side, side]` → `[n, d]` f32, whatever the type of the CLIP.
    pub fn features(&self, pixels: &Tensor) -> Result<Tensor> {
        normalize(&self.tower.forward(pixels)?.to_dtype(DType::F32)?)
    }

    pub fn step(&mut self, loss: &Tensor) -> Result<()> {
        self.optimizer.step(&fast::backward(loss)?, 1.0)
    }

    /// The values that scale and shift have now.
    pub fn snapshot(&self) -> Result<Vec<Tensor>> {
        self.params.iter().map(|param| param.var.as_detached_tensor().copy()).collect()
    }

    /// Takes the mean of snapshots; the optimizer's moments stay.
    pub fn set_mean(&self, snapshots: &[Vec<Tensor>]) -> Result<()> {
        for (at, param) in self.params.iter().enumerate() {
            let values: Vec<&Tensor> = snapshots.iter().filter_map(|snapshot| snapshot.get(at)).collect();
            param.var.set(&Tensor::stack(&values, 0)?.mean(0)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::clip::ClipLoader;
    use crate::progress::silent;
    use crate::rng::Rng;

    #[test]
    fn features_of_a_clip_in_half_precision_have_unit_length() {
        let clip = ClipLoader::new("demo").dtype(DType::F16).load(silent).unwrap();
        let side = clip.config().vision.image_size;
        let pixels = Rng::new(1).normal_tensor((2, 3, side, side), 1.0, &Device::Cpu).unwrap().to_dtype(DType::F16).unwrap();
        let features = TunedNorms::new(clip.vision(), 1e-3).unwrap().features(&pixels).unwrap();
        let lengths = features.sqr().unwrap().sum(1).unwrap().to_vec1::<f32>().unwrap();
        assert!(lengths.iter().all(|length| (length - 1.0).abs() < 1e-5), "{lengths:?}");
    }
}
