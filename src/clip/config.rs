//! The sizes of a CLIP.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::text::{EndOfText, TextConfig};
use super::vision::VisionConfig;
use crate::error::{Error, Result};
use crate::nn::Activation;

/// No tower has more blocks; a larger number in a file is a mistake.
const MOST_LAYERS: usize = 4096;
/// No picture has a longer side.
const LARGEST_IMAGE: usize = 1 << 14;
/// No width, context or vocabulary is larger.
const LARGEST_SIZE: usize = 1 << 24;
/// Layer norms of values about 1 need an ε far below 1.
const LARGEST_EPS: f64 = 0.1;

/// Both towers and the shared space.
///
/// ```
/// use lafter::clip::ClipConfig;
/// let json = serde_json::json!({ "projection_dim": 512, "vision_config": { "patch_size": 16 }, "text_config": {} });
/// let config = ClipConfig::from_transformers(&json)?;
/// assert_eq!((config.vision.patches(), config.projection), (196, 512));
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClipConfig {
    /// Sizes of the vision tower.
    pub vision: VisionConfig,
    /// Sizes of the text tower.
    pub text: TextConfig,
    /// Width of the shared space, d.
    pub projection: usize,
}

impl ClipConfig {
    /// `config.json` in transformers' layout, as this crate writes it. An end of text with id 2 has no form there: 2 means the highest id.
    pub fn to_transformers(&self) -> Value {
        let end_of_text = match self.text.end_of_text {
            EndOfText::HighestId => 2,
            EndOfText::First(id) => id,
        };
        let act = |activation| if activation == Activation::Gelu { "gelu" } else { "quick_gelu" };
        serde_json::json!({
            "architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": self.projection,
            "vision_config": {
                "image_size": self.vision.image_size, "patch_size": self.vision.patch_size, "hidden_size": self.vision.width,
                "num_hidden_layers": self.vision.layers, "num_attention_heads": self.vision.heads,
                "intermediate_size": self.vision.hidden, "hidden_act": act(self.vision.activation),
                "layer_norm_eps": self.vision.norm_eps, "num_channels": 3,
            },
            "text_config": {
                "vocab_size": self.text.vocabulary, "max_position_embeddings": self.text.context, "hidden_size": self.text.width,
                "num_hidden_layers": self.text.layers, "num_attention_heads": self.text.heads,
                "intermediate_size": self.text.hidden, "hidden_act": act(self.text.activation),
                "layer_norm_eps": self.text.norm_eps, "eos_token_id": end_of_text,
            },
        })
    }

    /// Checks that the sizes fit together.
    ///
    /// # Errors
    /// [`Error::Config`] for a size of 0 or out of all proportion, an image that patches do not tile, a width that the heads do
    /// not divide, or an ε that is not small and above 0.
    pub fn validate(&self) -> Result<()> {
        let (vision, text) = (&self.vision, &self.text);
        let sizes = [vision.width, vision.heads, vision.hidden, self.projection, text.vocabulary, text.context]
            .into_iter()
            .chain([text.width, text.heads, text.hidden])
            .map(|size| (size, LARGEST_SIZE))
            .chain([vision.layers, text.layers].map(|size| (size, MOST_LAYERS)))
            .chain([vision.image_size, vision.patch_size].map(|size| (size, LARGEST_IMAGE)));
        for (size, largest) in sizes {
            if size == 0 {
                return Err(Error::Config("a size in the model's configuration is 0: use the file that belongs to the weights".into()));
            }
            if size > largest {
                let remedy = "use the file that belongs to the weights";
                return Err(Error::Config(format!(
                    "a size in the model's configuration, {size}, is larger than any tower's ({largest}): {remedy}"
                )));
            }
        }
        for (tower, eps) in [("vision", vision.norm_eps), ("text", text.norm_eps)] {
            if !(eps > 0.0 && eps <= LARGEST_EPS) {
                return Err(Error::Config(format!("the ε of the {tower} tower's layer norms is {eps}: expected about 1e-5")));
            }
        }
        if vision.image_size % vision.patch_size != 0 {
            let (image, patch) = (vision.image_size, vision.patch_size);
            return Err(Error::Config(format!("image_size {image} is not a multiple of patch_size {patch}")));
        }
        for (tower, width, heads) in [("vision", vision.width, vision.heads), ("text", text.width, text.heads)] {
            if width % heads != 0 {
                return Err(Error::Config(format!("{tower} width {width} cannot be split into {heads} heads")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_sizes_are_refused() {
        let base = ClipConfig::from_transformers(&serde_json::json!({})).unwrap();
        let fail = |change: &dyn Fn(&mut ClipConfig)| {
            let mut config = base.clone();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        for norm_eps in [0.0, -1e-5, f64::NAN, f64::INFINITY, 1.0] {
            assert!(fail(&|config| config.text.norm_eps = norm_eps).contains("layer norm"), "{norm_eps}");
        }
        assert!(fail(&|config| config.vision.layers = 2_000_000_000).contains("2000000000, is larger"));
        assert!(fail(&|config| config.vision.image_size = 1 << 40).contains("larger"));
        assert!(fail(&|config| config.text.heads = 0).contains("is 0"));
    }
}
