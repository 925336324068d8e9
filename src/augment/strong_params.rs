//! What one strong view draws: the place of the crop and the strength of every step, as plain values.

use serde::{Deserialize, Serialize};

use super::ops::Region;

/// One step of the colour jitter, with its factor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JitterStep {
    /// Blend with black: 0 is black, 1 the image.
    Brightness(f32),
    /// Blend with the image's mean grey: 0 is grey, 1 the image.
    Contrast(f32),
    /// Blend with the grey image: 0 is grey, 1 the image.
    Saturation(f32),
    /// Turn of the hue circle, −0.5..=0.5.
    Hue(f32),
}

/// All that is random in one strong view: drawn by [`StrongAugment::sample`](super::StrongAugment::sample), used by
/// [`StrongAugment::apply_with`](super::StrongAugment::apply_with).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StrongParams {
    /// What is cut out of the image and resized to the view.
    pub crop: Region,
    /// Whether the view is mirrored left to right.
    pub flip: bool,
    /// In the order they are applied; empty for no jitter.
    pub jitter: Vec<JitterStep>,
    /// Whether the view is turned to grey.
    pub grey: bool,
    /// Standard deviation of the blur in pixels of the view; `None` for no blur.
    pub blur: Option<f32>,
}
