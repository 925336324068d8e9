//! Images cut into patches, in one copy.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};

use super::{cuda, f32_slice, on_cpu_f32, parallel};

/// Pixels `[batch, channels, grid · side, grid · side]` → patches `[batch, grid², channels · side²]`, row by row from the top left,
/// the values of each in the order of a convolution's weight: one copy on all threads, instead of two strided ones on one; one
/// kernel on a GPU. For f32, if the pixels do not learn.
///
/// # Errors
/// If the images are not square, or patches do not tile them.
pub fn patches(pixels: &Tensor, side: usize) -> Result<Option<Tensor>> {
    let (_, _, height, width) = pixels.dims4()?;
    if side == 0 || height != width || !height.is_multiple_of(side) {
        candle_core::bail!("images of {height} × {width} pixels cannot be cut into patches of {side}");
    }
    if (on_cpu_f32(pixels) || cuda::takes(pixels, &[DType::F32])) && !pixels.track_op() {
        return Ok(Some(pixels.contiguous()?.apply_op1_no_bwd(&Cut { side })?));
    }
    Ok(None)
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

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, pixels: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda::patches(pixels, layout, self.side)
    }
}
