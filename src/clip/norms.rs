//! The layer norms of a vision tower as parameters: the part of it that LaFTer tunes.

use candle_core::{DType, Result, Tensor, Var};

use super::VisionTower;
use crate::nn::{LayerNorm, Param};

impl VisionTower {
    /// A copy whose layer norms are fresh variables in f32, all else frozen, and the variables by name
    /// (`vision_model.pre_layrnorm.weight`, …): the part of the tower that LaFTer tunes. Scales decay, shifts do not.
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    ///
    /// ```
    /// let clip = lafter::clip::Clip::demo()?;
    /// let (student, params) = clip.vision().trainable_norms()?;
    /// let teacher = student.detached(); // sees what the student learns, records no graph
    /// assert_eq!(params.len(), 2 * (2 * teacher.blocks.len() + 2)); // scale and shift: two norms per block, pre-norm, post-norm
    /// # Ok::<(), lafter::Error>(())
    /// ```
    pub fn trainable_norms(&self) -> Result<(Self, Vec<Param>)> {
        let mut tower = self.detached();
        let params = tower.free_norms()?;
        Ok((tower, params))
    }

    /// Puts fresh variables in f32 in the place of the layer norms, and gives them by name; all else stays as it is.
    pub(crate) fn free_norms(&mut self) -> Result<Vec<Param>> {
        let mut params = Vec::new();
        for (name, norm) in self.norms_mut() {
            let fresh = |tensor: &Tensor| Var::from_tensor(&tensor.to_dtype(DType::F32)?.copy()?);
            let (weight, bias) = (fresh(&norm.weight)?, fresh(&norm.bias)?);
            *norm = LayerNorm::new(weight.as_tensor().clone(), bias.as_tensor().clone(), norm.eps);
            params.push(Param { name: format!("{name}.weight"), var: weight, decay: true });
            params.push(Param { name: format!("{name}.bias"), var: bias, decay: false });
        }
        Ok(params)
    }
}
