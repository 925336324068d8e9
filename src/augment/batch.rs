//! What ties the views to the rest of the crate: batches as tensors, both views normalized alike, errors.

use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use rayon::prelude::*;

use super::{Preprocess, StrongAugment};
use crate::error::{Error, Result};
use crate::rng::Rng;

impl Preprocess {
    /// The tower's input for a batch: `[batch, 3, side, side]` f32.
    ///
    /// # Errors
    /// [`Error::Usage`] for an empty batch.
    pub fn batch(&self, images: &[RgbImage], device: &Device) -> Result<Tensor> {
        stack(images, self.side(), device, |_, image| self.apply(image))
    }

    /// The pictures behind a batch of views `[batch, 3, side, side]`, for figures.
    ///
    /// # Errors
    /// [`Error::Shape`] if the tensor is not such a batch.
    pub fn pictures(&self, views: &Tensor) -> Result<Vec<RgbImage>> {
        let side = self.side();
        if views.rank() != 4 || views.dims()[1..] != [3, side, side] {
            return Err(Error::Shape(format!(
                "expected views [batch, 3, {side}, {side}], got {:?}: were they made for this tower?",
                views.dims()
            )));
        }
        let rows = views.flatten_from(1)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec2::<f32>()?;
        Ok(rows.iter().map(|row| self.picture(row)).collect())
    }
}

impl StrongAugment {
    /// The same with the mean, std and rescale of the weak view, so that both views reach the tower alike.
    pub fn normalized_like(self, weak: &Preprocess) -> Self {
        Self { rescale: weak.rescale, mean: weak.mean, std: weak.std, ..self }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Usage`] with the first [fault](Self::fault).
    pub fn validate(&self) -> Result<()> {
        self.fault().map_or(Ok(()), |fault| Err(Error::Usage(fault)))
    }

    /// One random view of every image: `[batch, 3, size, size]` f32.
    ///
    /// Each image draws from a stream of its own, so the bits do not depend on the number of threads; `rng` moves by
    /// one draw, so the next batch differs.
    ///
    /// # Errors
    /// [`Error::Usage`] for an empty batch.
    pub fn batch(&self, images: &[RgbImage], rng: &mut Rng, device: &Device) -> Result<Tensor> {
        let streams = Rng::new(rng.next_u64());
        stack(images, self.size, device, |index, image| self.apply(image, &mut streams.fork(index as u64)))
    }
}

/// Makes one view of every image in parallel and stacks them: `[batch, 3, side, side]` f32.
fn stack(images: &[RgbImage], side: usize, device: &Device, view: impl Fn(usize, &RgbImage) -> Vec<f32> + Sync) -> Result<Tensor> {
    if images.is_empty() {
        return Err(Error::Usage("a batch of views needs at least one image, got none".into()));
    }
    let views: Vec<Vec<f32>> = images.par_iter().enumerate().map(|(index, image)| view(index, image)).collect();
    Ok(Tensor::from_vec(views.concat(), (images.len(), 3, side, side), device)?)
}

#[cfg(test)]
mod tests {
    use super::super::ops::Region;
    use super::*;

    fn texture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 7 + y) as u8, (x * y) as u8, (x ^ y) as u8]))
    }

    #[test]
    fn a_batch_is_its_images_and_pictures_come_back() {
        let weak = Preprocess::clip(16);
        let images = [texture(20, 30), texture(16, 16)];
        let batch = weak.batch(&images, &Device::Cpu).unwrap();
        assert_eq!(batch.dims(), [2, 3, 16, 16]);
        assert_eq!(batch.get(1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap(), weak.apply(&images[1]));
        assert_eq!(weak.pictures(&batch).unwrap()[1], images[1]);
        assert!(weak.batch(&[], &Device::Cpu).unwrap_err().is_usage());
        assert!(Preprocess::clip(8).pictures(&batch).is_err());
    }

    #[test]
    fn the_same_seed_gives_the_same_bits_on_any_number_of_threads() {
        let images: Vec<RgbImage> = (0..12).map(|i| texture(40 + i, 33)).collect();
        let strong = StrongAugment::simsiam(24);
        let views = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut rng = Rng::new(7777);
            let batch = pool.install(|| strong.batch(&images, &mut rng, &Device::Cpu)).unwrap();
            assert_eq!(batch.dims(), [12, 3, 24, 24]);
            (batch.flatten_all().unwrap().to_vec1::<f32>().unwrap(), rng)
        };
        let (one, mut rng) = views(1);
        assert_eq!(one, views(3).0);
        let next = strong.batch(&images, &mut rng, &Device::Cpu).unwrap();
        assert_ne!(one, next.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    }

    #[test]
    fn none_is_the_weak_view_of_a_square() {
        let weak = Preprocess { mean: [0.1; 3], std: [0.7; 3], ..Preprocess::clip(24) };
        let none = StrongAugment::none(24).normalized_like(&weak);
        for side in [24, 31, 80] {
            assert_eq!(none.apply(&texture(side, side), &mut Rng::new(1)), weak.apply(&texture(side, side)));
        }
        let params = none.sample(50, 30, &mut Rng::new(1));
        assert_eq!(params.crop, Region { left: 10, top: 0, width: 30, height: 30 });
    }
}
