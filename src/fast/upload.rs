//! Pictures of bytes on their way to a GPU, where there is none: nothing to upload.

use std::convert::Infallible;

use candle_core::{Device, Result, Tensor};

use super::recipe::ViewRecipe;

/// Pictures of bytes on their way to a GPU; without CUDA there is none.
pub struct Upload(Infallible);

impl Upload {
    /// Without CUDA there is no GPU: `None`.
    ///
    /// # Errors
    /// None.
    pub fn new(_: &Device, _: &[f32]) -> Result<Option<Self>> {
        Ok(None)
    }

    /// Never called.
    ///
    /// # Errors
    /// None.
    pub fn planes(&mut self, _: &[Vec<u8>], _: usize, _: usize) -> Result<Tensor> {
        match self.0 {}
    }

    /// Never called.
    ///
    /// # Errors
    /// None.
    pub fn views(&mut self, _: &[ViewRecipe], _: usize) -> Result<Tensor> {
        match self.0 {}
    }
}
