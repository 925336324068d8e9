//! Views on their way to a tower: as planes to the CPU, as bytes to a GPU, which makes the same planes of them.

use candle_core::{Device, Tensor};
use image::RgbImage;
use lafter_fast::{Upload, ViewRecipe};
use rand::RngCore;

use super::{Preprocess, StrongAugment, geometry};
use crate::error::{Error, Result};

/// A view as its tower's device takes it.
pub(crate) enum View {
    /// `[3, side, side]`, normalized.
    Planes(Vec<f32>),
    /// `[side, side, 3]`, a quarter of the size.
    Bytes(Vec<u8>),
    /// How a GPU makes it of the pixels it reads.
    Recipe(Box<ViewRecipe>),
}

/// What a view becomes before it waits for its batch: cheap to clone, for the threads that make views.
#[derive(Clone)]
pub(crate) struct Form {
    weak: Preprocess,
    bytes: bool,
    recipes: bool,
}

impl Form {
    /// For views that are normalized as this CLIP's weak ones are, on this device.
    pub fn new(weak: &Preprocess, device: &Device) -> Self {
        Self { weak: weak.clone(), bytes: device.is_cuda(), recipes: false }
    }

    /// Whether a GPU makes the strong views itself.
    pub fn strong_on_gpu(self, yes: bool) -> Self {
        Self { recipes: yes && self.bytes, ..self }
    }

    /// A random strong view of a picture; the same draws and the same levels wherever it is made.
    pub fn strong(&self, strong: &StrongAugment, picture: &RgbImage, rng: &mut impl RngCore) -> View {
        let params = strong.sample(picture.width(), picture.height(), rng);
        if self.recipes { View::Recipe(Box::new(strong.recipe(picture, &params))) } else { self.view(strong.apply_with(picture, &params)) }
    }

    /// The picture that the tower sees, side × side.
    pub fn view(&self, picture: RgbImage) -> View {
        if self.bytes { View::Bytes(picture.into_raw()) } else { View::Planes(self.weak.planes(&picture)) }
    }
}

/// A way to a GPU for pictures that are normalized so; `None` for other devices.
pub(super) fn upload(device: &Device, mean: [f32; 3], std: [f32; 3], rescale: f32) -> Result<Option<Upload>> {
    let levels = RgbImage::from_fn(256, 1, |level, _| image::Rgb([level as u8; 3]));
    Ok(Upload::new(device, &geometry::normalize(&levels, mean, std, rescale))?) // [3, 256]
}

/// Makes the tower's input of views.
pub(crate) struct Transfer {
    side: usize,
    device: Device,
    upload: Option<Upload>,
}

impl Transfer {
    /// For views of this [`Form`].
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    pub fn new(weak: &Preprocess, device: &Device) -> Result<Self> {
        Ok(Self { side: weak.side(), device: device.clone(), upload: upload(device, weak.mean, weak.std, weak.rescale)? })
    }

    /// Views of a batch → pixels `[batch, 3, side, side]`.
    ///
    /// # Errors
    /// [`Error::Usage`] if the views are not of one form, and that of this device.
    pub fn batch(&mut self, views: Vec<View>) -> Result<Tensor> {
        let (n, side) = (views.len(), self.side);
        let (mut planes, mut bytes, mut recipes) = (Vec::new(), Vec::new(), Vec::new());
        for view in views {
            match view {
                View::Planes(view) => planes.push(view),
                View::Bytes(view) => bytes.push(view),
                View::Recipe(view) => recipes.push(*view),
            }
        }
        match &mut self.upload {
            Some(upload) if bytes.len() == n => Ok(upload.planes(&bytes, side, side)?),
            Some(upload) if recipes.len() == n => Ok(upload.views(&recipes, side)?),
            _ if planes.len() == n => Ok(Tensor::from_vec(planes.concat(), (n, 3, side, side), &self.device)?),
            _ => Err(Error::Usage("views of two forms in one batch".into())),
        }
    }
}
