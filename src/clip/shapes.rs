//! The sizes of OpenAI's released archives (`ViT-B-32.pt`), which come without a configuration: from the tensors' shapes.

use super::{ClipConfig, EndOfText, TextConfig, VisionConfig, Weights};
use crate::error::{Error, Result};
use crate::nn::Activation;

/// Width of an attention head in all of OpenAI's models.
const HEAD: usize = 64;

/// The configuration of one of OpenAI's models; its heads and its activation are those of all of them.
///
/// # Errors
/// [`Error::Weights`] if the tensors are not a vision transformer's.
pub(super) fn config(weights: &Weights) -> Result<ClipConfig> {
    let size = |name: &str, axis: usize| {
        weights.get(name).and_then(|tensor| tensor.dims().get(axis).copied()).ok_or_else(|| {
            let (source, remedy) = (weights.source(), "choose one of the ViT models");
            Error::Weights(format!("{source} has no {name}: it is not a CLIP with a vision transformer: {remedy}"))
        })
    };
    let layers = |tower: &str| {
        let numbers =
            weights.names().filter_map(|name| name.strip_prefix(tower)?.strip_prefix(".encoder.layers.")?.split('.').next()?.parse().ok());
        numbers.max().map_or(0, |last: usize| last + 1)
    };
    let vision_width = size("vision_model.embeddings.class_embedding", 0)?;
    let text_width = size("text_model.embeddings.token_embedding.weight", 1)?;
    let patch_size = size("vision_model.embeddings.patch_embedding.weight", 3)?;
    let patches = size("vision_model.embeddings.position_embedding.weight", 0)?.saturating_sub(1);
    let config = ClipConfig {
        vision: VisionConfig {
            image_size: patch_size.saturating_mul(patches.isqrt()),
            patch_size,
            width: vision_width,
            layers: layers("vision_model"),
            heads: vision_width / HEAD,
            hidden: size("vision_model.encoder.layers.0.mlp.fc1.weight", 0)?,
            activation: Activation::QuickGelu,
            norm_eps: 1e-5,
        },
        text: TextConfig {
            vocabulary: size("text_model.embeddings.token_embedding.weight", 0)?,
            context: size("text_model.embeddings.position_embedding.weight", 0)?,
            width: text_width,
            layers: layers("text_model"),
            heads: text_width / HEAD,
            hidden: size("text_model.encoder.layers.0.mlp.fc1.weight", 0)?,
            activation: Activation::QuickGelu,
            norm_eps: 1e-5,
            end_of_text: EndOfText::HighestId,
        },
        projection: size("text_projection.weight", 0)?,
    };
    config.validate()?;
    Ok(config)
}
