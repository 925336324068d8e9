//! The towers with their frozen layers in the form in which this processor multiplies fastest.

use candle_core::Result;

use super::{TextTower, VisionTower};
use crate::nn::{Block, Isa, Linear, Precision};

impl VisionTower {
    /// The same tower with its frozen layers packed for this processor ([`Linear::packed`]) when they are first used: faster, and in
    /// the place of the tensors; tuning adds a second form, that of the gradients. In [`Precision::Bf16`] both have half the size, and the
    /// tensors are kept next to them. Norms stay trainable. On a GPU, [`Precision::Bf16`] rounds the frozen layers ([`Linear::rounded`]).
    ///
    /// # Errors
    /// If a weight is not a matrix (Candle's).
    pub fn packed(&self, precision: Precision) -> Result<Self> {
        self.packed_for(precision, Isa::best())
    }

    /// [`packed`](Self::packed) for given instructions.
    ///
    /// # Errors
    /// If a weight is not a matrix (Candle's).
    pub fn packed_for(&self, precision: Precision, isa: Isa) -> Result<Self> {
        Ok(Self {
            blocks: self.blocks.iter().map(|block| block.packed(precision, isa)).collect::<Result<_>>()?,
            patch_embedding: self.patch_embedding.packed(precision, isa)?,
            projection: self.projection.packed(precision, isa)?,
            ..self.clone()
        })
    }

    /// The number format in which its frozen layers really multiply, whatever was asked for; `None` if they differ, or have
    /// another type than f32 and bf16.
    pub fn precision(&self) -> Option<Precision> {
        let layers = self.blocks.iter().flat_map(Block::layers).chain([&self.projection]);
        let mut found = layers.map(Linear::precision);
        let first = found.next()?;
        found.all(|other| other == first).then_some(first)?
    }
}

impl TextTower {
    /// The same tower with its frozen layers packed for this processor, as [`VisionTower::packed`](super::VisionTower::packed).
    ///
    /// # Errors
    /// If a weight is not a matrix (Candle's).
    pub fn packed(&self, precision: Precision) -> Result<Self> {
        let isa = Isa::best();
        Ok(Self {
            blocks: self.blocks.iter().map(|block| block.packed(precision, isa)).collect::<Result<_>>()?,
            projection: self.projection.packed(precision, isa)?,
            ..self.clone()
        })
    }
}
