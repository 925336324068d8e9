//! Encoded bytes to RGB pixels (being written).

use std::path::Path;

use image::RgbImage;

use crate::error::{Error, Result};

/// Decodes an encoded image; `name` stands in the error.
pub fn decode(bytes: &[u8], name: &str) -> Result<RgbImage> {
    image::load_from_memory(bytes).map(|image| image.to_rgb8()).map_err(|e| Error::Image(format!("{name}: cannot be decoded: {e}")))
}

/// Decodes an image file.
pub fn decode_file(path: impl AsRef<Path>) -> Result<RgbImage> {
    let path = path.as_ref();
    decode(&std::fs::read(path).map_err(|e| Error::io(path, e))?, &path.display().to_string())
}
