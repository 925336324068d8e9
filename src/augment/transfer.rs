//! Views on their way to a tower: as planes to the CPU, as bytes to a GPU, which makes the same planes of them.

use candle_core::{Device, Tensor};
use image::RgbImage;
use lafter_fast::Upload;

use super::{Preprocess, geometry};
use crate::error::{Error, Result};

/// A view as its tower's device takes it.
pub(crate) enum View {
    /// `[3, side, side]`, normalized.
    Planes(Vec<f32>),
    /// `[side, side, 3]`, a quarter of the size.
    Bytes(Vec<u8>),
}

/// What a view becomes before it waits for its batch: cheap to clone, for the threads that make views.
#[derive(Clone)]
pub(crate) struct Form {
    weak: Preprocess,
    bytes: bool,
}

impl Form {
    /// For views that are normalized as this CLIP's weak ones are, on this device.
    pub fn new(weak: &Preprocess, device: &Device) -> Self {
        Self { weak: weak.clone(), bytes: device.is_cuda() }
    }

    /// The picture that the tower sees, side × side.
    pub fn view(&self, picture: RgbImage) -> View {
        if self.bytes { View::Bytes(picture.into_raw()) } else { View::Planes(self.weak.planes(&picture)) }
    }
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
        let levels = RgbImage::from_fn(256, 1, |level, _| image::Rgb([level as u8; 3]));
        let table = geometry::normalize(&levels, weak.mean, weak.std, weak.rescale); // [3, 256]
        Ok(Self { side: weak.side(), device: device.clone(), upload: Upload::new(device, &table)? })
    }

    /// Views of a batch → pixels `[batch, 3, side, side]`.
    ///
    /// # Errors
    /// [`Error::Usage`] if the views are not of one form, and that of this device.
    pub fn batch(&mut self, views: Vec<View>) -> Result<Tensor> {
        let (n, side) = (views.len(), self.side);
        let (mut planes, mut bytes) = (Vec::new(), Vec::new());
        for view in views {
            match view {
                View::Planes(view) => planes.push(view),
                View::Bytes(view) => bytes.push(view),
            }
        }
        match &mut self.upload {
            Some(upload) if bytes.len() == n => Ok(upload.planes(&bytes, side, side)?),
            _ if planes.len() == n => Ok(Tensor::from_vec(planes.concat(), (n, 3, side, side), &self.device)?),
            _ => Err(Error::Usage("views of two forms in one batch".into())),
        }
    }
}
