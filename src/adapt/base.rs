//! What is adapted: a CLIP with a zero-shot classifier, or a tuned tower with its head.

use candle_core::{Result, Tensor};

use super::norms::TunedNorms;
use crate::ZeroShotClassifier;
use crate::clip::Clip;
use crate::error;
use crate::tune::Tuned;

/// Whose answers adapt.
#[derive(Clone, Debug)]
pub(super) enum Base {
    ZeroShot(Clip, ZeroShotClassifier),
    Tuned(Clip, Box<Tuned>),
}

impl Base {
    pub fn zero_shot(clip: &Clip, zero_shot: &ZeroShotClassifier) -> Self {
        Self::ZeroShot(clip.clone(), zero_shot.clone())
    }

    /// The tuned weights as they are: nothing that adapts here is seen by whoever holds them.
    pub fn tuned(clip: &Clip, tuned: &Tuned) -> Self {
        Self::Tuned(clip.clone(), Box::new(tuned.detached()))
    }

    /// C
    pub fn classes(&self) -> usize {
        match self {
            Self::ZeroShot(_, zero_shot) => zero_shot.weights.dims()[0],
            Self::Tuned(_, tuned) => tuned.head.classes(),
        }
    }

    /// Features `[n, d]` of pixels `[n, 3, side, side]`, of any length, as [`logits`](Self::logits) reads them.
    pub fn features(&self, pixels: &Tensor) -> error::Result<Tensor> {
        match self {
            Self::ZeroShot(clip, _) => clip.encode_image(pixels),
            Self::Tuned(clip, tuned) => Ok(tuned.features(&on(clip, pixels)?)?),
        }
    }

    /// Features `[n, d]` → logits `[n, C]`.
    pub fn logits(&self, features: &Tensor) -> error::Result<Tensor> {
        match self {
            Self::ZeroShot(_, zero_shot) => Ok(zero_shot.logits(features)?),
            Self::Tuned(_, tuned) => Ok(tuned.head.forward(features)?),
        }
    }

    /// The norms of its tower as fresh variables.
    pub fn norms(&self, learning_rate: f64) -> Result<TunedNorms> {
        match self {
            Self::ZeroShot(clip, _) => TunedNorms::new(clip.vision(), learning_rate),
            Self::Tuned(_, tuned) => TunedNorms::new(&tuned.vision, learning_rate),
        }
    }

    /// Logits with the norms as they have become, and their graph: pixels `[n, 3, side, side]` → `[n, C]`.
    pub fn logits_with(&self, norms: &TunedNorms, pixels: &Tensor) -> Result<Tensor> {
        match self {
            Self::ZeroShot(clip, zero_shot) => norms.features(&on(clip, pixels)?)?.matmul(&zero_shot.weights.t()?)? * zero_shot.scale,
            Self::Tuned(clip, tuned) => Tuned { vision: norms.tower().clone(), ..Tuned::clone(tuned) }.logits(&on(clip, pixels)?),
        }
    }
}

/// The pixels where the CLIP is, and in its type.
fn on(clip: &Clip, pixels: &Tensor) -> Result<Tensor> {
    pixels.to_device(clip.device())?.to_dtype(clip.dtype())
}
