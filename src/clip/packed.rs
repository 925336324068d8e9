//! The towers with their frozen layers in the form in which this processor multiplies fastest.

use candle_core::{Result, TensorId};

use super::{TextTower, VisionTower};
use crate::nn::{Block, Isa, Linear, Precision};

/// [`VisionTower::patch_embedding`] as a packed layer, and which tensor it was packed from.
pub(super) type PackedPatches = Option<(TensorId, Linear)>;

impl VisionTower {
    /// The same tower with its frozen layers packed for this processor ([`Linear::packed`]): faster, at the
    /// price of a second copy of the weights (a third if it is tuned), made when first used. Norms stay trainable. On
    /// a GPU, [`Precision::Bf16`] rounds the frozen layers ([`Linear::rounded`]).
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
            packed_patches: Some((self.patch_embedding.id(), self.patch_layer()?.packed(precision, isa)?)),
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

    /// The packed patch embedding, unless it was replaced since.
    pub(super) fn packed_patch_layer(&self) -> Option<Linear> {
        self.packed_patches.as_ref().filter(|(of, _)| *of == self.patch_embedding.id()).map(|(_, layer)| layer.clone())
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
