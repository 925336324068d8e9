//! The result of tuning: tower, visual prompts, head.

use candle_core::{Result, Tensor};

use super::prompts::VisualPrompts;
use crate::classify::{Head, normalize};
use crate::clip::{AttentionMaps, VisionTower};
use crate::nn::argmax;

/// A prompted vision tower with its head: what predicts after stage two. Cloning shares the weights.
#[derive(Clone, Debug)]
pub struct Tuned {
    /// The tower with its tuned layer norms.
    pub vision: VisionTower,
    /// The visual prompts; [none](VisualPrompts::none) where it was tuned without.
    pub prompts: VisualPrompts,
    /// The tuned head, f_θ.
    pub head: Head,
    /// Whether features are unit-normalized before the head.
    pub normalize: bool,
}

impl Tuned {
    /// v^p(x): pixels `[batch, 3, side, side]` → features `[batch, d]`.
    ///
    /// # Errors
    /// If the pixels do not fit the tower (Candle's).
    pub fn features(&self, pixels: &Tensor) -> Result<Tensor> {
        if pixels.dims().first() == Some(&0) {
            return self.vision.forward(pixels); // no pictures, which have no prompts
        }
        let features = self.prompts.forward(&self.vision, pixels)?;
        if self.normalize { normalize(&features) } else { Ok(features) }
    }

    /// f(v^p(x)): pixels `[batch, 3, side, side]` → logits `[batch, C]`.
    ///
    /// # Errors
    /// If the pixels do not fit the tower (Candle's).
    pub fn logits(&self, pixels: &Tensor) -> Result<Tensor> {
        self.head.forward(&self.features(pixels)?)
    }

    /// The attention of block `layer`, counted from 0, over class token, prompts and patches of
    /// pixels `[batch, 3, side, side]`.
    ///
    /// # Errors
    /// If the tower has no such block.
    pub fn attention(&self, pixels: &Tensor, layer: usize) -> Result<AttentionMaps> {
        self.prompts.attention(&self.vision, pixels, layer)
    }

    /// The class index of each image.
    ///
    /// # Errors
    /// If the pixels do not fit the tower (Candle's).
    pub fn predict(&self, pixels: &Tensor) -> Result<Vec<usize>> {
        Ok(argmax(&self.logits(pixels)?)?.to_vec1::<u32>()?.into_iter().map(|index| index as usize).collect())
    }

    /// The same values without a graph; sees later updates of the variables it shares storage with.
    pub fn detached(&self) -> Self {
        Self { vision: self.vision.detached(), prompts: self.prompts.detached(), head: self.head.detached(), normalize: self.normalize }
    }
}
