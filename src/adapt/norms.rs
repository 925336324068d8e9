//! A vision tower whose layer norms learn, as Tent and WATT have it.

use candle_core::{Result, Tensor};
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

    /// Unit features with a graph: pixels `[n, 3, side, side]` → `[n, d]`.
    pub fn features(&self, pixels: &Tensor) -> Result<Tensor> {
        normalize(&self.tower.forward(pixels)?)
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
