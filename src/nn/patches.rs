//! Images cut into patches, one row per patch.

use candle_core::{Result, Tensor};
use lafter_fast as fast; // fast::

/// Pixels `[batch, channels, grid · side, grid · side]` → patches `[batch, grid², channels · side²]`, row by row from the top
/// left, the values of each in the order of a convolution's weight: a linear layer on them is a convolution whose stride is its
/// size.
///
/// # Errors
/// If the images are not square, or patches do not tile them.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let pixels = Tensor::arange(0f32, 16., &Device::Cpu)?.reshape((1, 1, 4, 4))?;
/// let patches = lafter::nn::patches(&pixels, 2)?;
/// assert_eq!(patches.to_vec3::<f32>()?[0][1], [2., 3., 6., 7.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn patches(pixels: &Tensor, side: usize) -> Result<Tensor> {
    let (_, _, height, width) = pixels.dims4()?;
    if side == 0 || height != width || !height.is_multiple_of(side) {
        candle_core::bail!("images of {height} × {width} pixels cannot be cut into patches of {side}");
    }
    fast::prefer!(fast::patches(pixels, side));
    patches_plain(pixels, side)
}

/// The same, built from Candle's own operations: the reference.
fn patches_plain(pixels: &Tensor, side: usize) -> Result<Tensor> {
    let (batch, channels, height, _) = pixels.dims4()?;
    let grid = height / side;
    let cut = pixels.reshape((batch, channels, grid, side, grid * side))?.reshape(vec![batch, channels, grid, side, grid, side])?;
    cut.permute(vec![0, 2, 4, 1, 3, 5])?.reshape((batch, grid * grid, channels * side * side))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use proptest::prelude::*;

    use super::*;
    use crate::rng::Rng;

    proptest! {
        #[test]
        fn the_fused_cut_equals_the_plain_one(batch in 1usize..4, channels in 1usize..4, grid in 1usize..8, side in 1usize..8) {
            let pixels = Rng::new(1).normal_tensor((batch, channels, grid * side, grid * side), 1.0, &Device::Cpu).unwrap();
            let (fused, plain) = (patches(&pixels, side).unwrap(), patches_plain(&pixels, side).unwrap());
            prop_assert_eq!(fused.to_vec3::<f32>().unwrap(), plain.to_vec3::<f32>().unwrap());
        }
    }

    #[test]
    fn images_that_do_not_divide_are_an_error() {
        assert!(patches(&Tensor::zeros((1, 3, 5, 5), candle_core::DType::F32, &Device::Cpu).unwrap(), 2).is_err());
    }
}
