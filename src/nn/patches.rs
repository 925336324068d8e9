//! Images cut into patches, one row per patch.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::{f32_slice, on_cpu_f32, parallel};

/// Pixels `[batch, channels, grid · side, grid · side]` → patches `[batch, grid², channels · side²]`, row by row from the top
/// left, the values of each in the order of a convolution's weight: a linear layer on them is a convolution whose stride is its
/// size. On the CPU this is one copy on all threads, instead of two strided ones on one; where pixels learn, Candle's operations
/// do it.
///
/// # Errors
/// Where the images are not square, or patches do not tile them.
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
    match on_cpu_f32(pixels) && !pixels.track_op() {
        true => pixels.contiguous()?.apply_op1_no_bwd(&Cut { side }),
        false => patches_plain(pixels, side),
    }
}

/// The same, built from Candle's own operations, which copy on one thread: the reference, and the path where pixels learn.
fn patches_plain(pixels: &Tensor, side: usize) -> Result<Tensor> {
    let (batch, channels, height, _) = pixels.dims4()?;
    let grid = height / side;
    let cut = pixels.reshape((batch, channels, grid, side, grid * side))?.reshape(vec![batch, channels, grid, side, grid, side])?;
    cut.permute(vec![0, 2, 4, 1, 3, 5])?.reshape((batch, grid * grid, channels * side * side))
}

struct Cut {
    side: usize,
}

impl CustomOp1 for Cut {
    fn name(&self) -> &'static str {
        "patches"
    }

    fn cpu_fwd(&self, pixels: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let pixels = f32_slice(pixels, layout)?;
        let (batch, channels, height, _) = layout.shape().dims4()?;
        let (side, grid) = (self.side, height / self.side);
        let (image, row) = (channels * height * height, channels * side * side);
        let mut y = vec![0f32; pixels.len()];
        let tasks = y.chunks_mut(image.max(1)).zip(pixels.chunks(image.max(1))).collect();
        parallel::for_each(tasks, 8 * pixels.len(), |(y, pixels): (&mut [f32], &[f32])| {
            for (patch, y) in y.chunks_mut(row).enumerate() {
                let (down, right) = (patch / grid * side, patch % grid * side);
                for (line, y) in y.chunks_mut(side).enumerate() {
                    let (channel, line) = (line / side, line % side);
                    y.copy_from_slice(&pixels[(channel * height + down + line) * height + right..][..side]);
                }
            }
        });
        Ok((CpuStorage::F32(y), Shape::from((batch, grid * grid, row))))
    }
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
