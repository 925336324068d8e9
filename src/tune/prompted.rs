//! A vision tower with visual prompts: its features and its attention.

use candle_core::{Result, Tensor};

use super::prompts::VisualPrompts;
use crate::clip::{AttentionMaps, VisionTower};

impl VisualPrompts {
    /// The prompted tower, v^p(x): pixels `[batch, 3, side, side]` → features `[batch, d]`, not normalized.
    ///
    /// # Errors
    /// If pixels or prompts do not fit the tower.
    pub fn forward(&self, tower: &VisionTower, pixels: &Tensor) -> Result<Tensor> {
        self.check(tower)?;
        let tokens = self.insert(&tower.embed(pixels)?)?;
        tower.project(&tower.encode_class_with(&tokens, |i, x| self.renew(x, i))?)
    }

    /// The attention weights of the prompted tower's block `layer`, counted from 0
    /// ([`VisionTower::attention`]), deep prompts in their places: pixels `[batch, 3, side, side]` →
    /// weights `[batch, heads, n, n]` with n = 1 + prompts + patches.
    ///
    /// # Errors
    /// If the tower has no such block.
    pub fn attention(&self, tower: &VisionTower, pixels: &Tensor, layer: usize) -> Result<AttentionMaps> {
        self.check(tower)?;
        let tokens = self.insert(&tower.embed(pixels)?)?;
        AttentionMaps::new(tower.attention_with(&tokens, layer, |i, x| self.renew(x, i))?, self.count())
    }

    /// Deep prompts are there for every block, in one shape: those that are not would be passed over, or kept too long.
    fn check(&self, tower: &VisionTower) -> Result<()> {
        let (layers, blocks) = (self.layers.len(), tower.blocks.len());
        if layers > 1 && layers != blocks {
            candle_core::bail!("visual prompts of {layers} blocks for a tower of {blocks}: give one tensor, or one per block");
        }
        match self.layers.iter().position(|layer| layer.dims() != self.layers[0].dims()) {
            Some(odd) => candle_core::bail!(
                "visual prompts of block {odd} have shape {:?}, of block 0 {:?}: give all one shape",
                self.layers[odd].dims(),
                self.layers[0].dims()
            ),
            None => Ok(()),
        }
    }
}
