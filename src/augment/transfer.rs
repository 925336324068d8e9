//! Views on their way to a tower: they wait for their batch as bytes, a quarter of the planes that the tower takes.

use candle_core::{Device, Tensor};
use image::RgbImage;
use lafter_fast::{Upload, ViewRecipe};
use rand::RngCore;
use rayon::prelude::*;

use super::{Preprocess, StrongAugment, geometry};
use crate::error::{Error, Result};

/// A view as its tower's device takes it.
pub(crate) enum View {
    /// The picture, side × side.
    Bytes(RgbImage),
    /// How a GPU makes it of the pixels it reads.
    Recipe(Box<ViewRecipe>),
}

/// What a view becomes before it waits for its batch: cheap to clone, for the threads that make views.
#[derive(Clone)]
pub(crate) struct Form {
    cuda: bool,
    recipes: bool,
}

impl Form {
    /// For views on their way to this device.
    pub fn new(device: &Device) -> Self {
        Self { cuda: device.is_cuda(), recipes: false }
    }

    /// Whether a GPU makes the strong views itself.
    pub fn strong_on_gpu(self, yes: bool) -> Self {
        Self { recipes: yes && self.cuda, ..self }
    }

    /// A random strong view of a picture; the same draws and the same levels wherever it is made.
    pub fn strong(&self, strong: &StrongAugment, picture: &RgbImage, rng: &mut impl RngCore) -> View {
        let params = strong.sample(picture.width(), picture.height(), rng);
        if self.recipes { View::Recipe(Box::new(strong.recipe(picture, &params))) } else { self.view(strong.apply_with(picture, &params)) }
    }

    /// The picture that the tower sees, side × side.
    pub fn view(&self, picture: RgbImage) -> View {
        View::Bytes(picture)
    }
}

/// A way to a GPU for pictures that are normalized so; `None` for other devices.
pub(super) fn upload(device: &Device, mean: [f32; 3], std: [f32; 3], rescale: f32) -> Result<Option<Upload>> {
    let levels = RgbImage::from_fn(256, 1, |level, _| image::Rgb([level as u8; 3]));
    Ok(Upload::new(device, &geometry::normalize(&levels, mean, std, rescale))?) // [3, 256]
}

/// Makes the tower's input of views.
pub(crate) struct Transfer {
    weak: Preprocess,
    device: Device,
    upload: Option<Upload>,
}

impl Transfer {
    /// For views that are normalized as this CLIP's weak ones are.
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    pub fn new(weak: &Preprocess, device: &Device) -> Result<Self> {
        Ok(Self { weak: weak.clone(), device: device.clone(), upload: upload(device, weak.mean, weak.std, weak.rescale)? })
    }

    /// Views of a batch → pixels `[batch, 3, side, side]`.
    ///
    /// # Errors
    /// [`Error::Usage`] if the views are not of one form, and that of this device.
    pub fn batch(&mut self, views: Vec<View>) -> Result<Tensor> {
        let (n, side) = (views.len(), self.weak.side());
        let (mut pictures, mut recipes) = (Vec::new(), Vec::new());
        for view in views {
            match view {
                View::Bytes(view) => pictures.push(view),
                View::Recipe(view) => recipes.push(*view),
            }
        }
        match &mut self.upload {
            Some(upload) if pictures.len() == n => {
                let bytes: Vec<Vec<u8>> = pictures.into_iter().map(RgbImage::into_raw).collect();
                Ok(upload.planes(&bytes, side, side)?)
            }
            Some(upload) if recipes.len() == n => Ok(upload.views(&recipes, side)?),
            None if pictures.len() == n => {
                let mut planes = vec![0f32; n * 3 * side * side];
                let each = planes.par_chunks_exact_mut((3 * side * side).max(1)).zip(pictures.into_par_iter());
                each.for_each(|(planes, picture)| self.weak.planes_into(&picture, planes));
                Ok(Tensor::from_vec(planes, (n, 3, side, side), &self.device)?)
            }
            _ => Err(Error::Usage("views of two forms in one batch".into())),
        }
    }
}
