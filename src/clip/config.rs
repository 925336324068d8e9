//! The sizes of a CLIP, read from the configuration of either checkpoint layout.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::nn::Activation;

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

/// A vision transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VisionConfig {
    /// Side of the input in pixels.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Width of the tokens.
    pub width: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads per block; they divide the width.
    pub heads: usize,
    /// Width of the MLP's hidden layer.
    pub hidden: usize,
    /// Activation of the MLPs.
    pub activation: Activation,
    /// ε of the layer norms; 1e-5 in every common checkpoint.
    pub norm_eps: f64,
}

/// A causal text transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextConfig {
    /// Number of token ids.
    pub vocabulary: usize,
    /// Longest text in tokens, start and end included.
    pub context: usize,
    /// Width of the tokens.
    pub width: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads per block; they divide the width.
    pub heads: usize,
    /// Width of the MLP's hidden layer.
    pub hidden: usize,
    /// Activation of the MLPs.
    pub activation: Activation,
    /// ε of the layer norms; 1e-5 in every common checkpoint.
    pub norm_eps: f64,
    /// Where a text's feature is read.
    pub end_of_text: EndOfText,
}

/// The position of a text at which its feature is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndOfText {
    /// The position of the highest id: open_clip, and transformers where `eos_token_id` is 2 (all of OpenAI's files).
    HighestId,
    /// The first position of this id: transformers otherwise.
    First(u32),
}

impl EndOfText {
    /// The pooled position of one text.
    pub fn position(self, ids: &[u32]) -> usize {
        match self {
            Self::First(end) => ids.iter().position(|id| *id == end).unwrap_or(0),
            // the first of equal maxima, as argmax does
            Self::HighestId => ids.iter().enumerate().rev().max_by_key(|(_, id)| **id).map_or(0, |(i, _)| i),
        }
    }
}

impl VisionConfig {
    /// Number of patches of an image.
    pub fn patches(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }
}

impl ClipConfig {
    /// Reads transformers' `config.json`; absent keys take transformers' defaults (ViT-B/32).
    ///
    /// # Errors
    /// [`Error::Config`] for another kind of model, a value of the wrong type, or sizes that do not fit together.
    pub fn from_transformers(json: &Value) -> Result<Self> {
        if let Some(kind) = json.get("model_type").and_then(Value::as_str).filter(|kind| *kind != "clip") {
            return Err(Error::Config(format!("config.json describes a {kind} model: expected model_type \"clip\"")));
        }
        let vision = Section { json, name: "vision_config" };
        let text = Section { json, name: "text_config" };
        let config = Self {
            vision: VisionConfig {
                image_size: vision.number("image_size", 224)?,
                patch_size: vision.number("patch_size", 32)?,
                width: vision.number("hidden_size", 768)?,
                layers: vision.number("num_hidden_layers", 12)?,
                heads: vision.number("num_attention_heads", 12)?,
                hidden: vision.number("intermediate_size", 3072)?,
                activation: vision.activation()?,
                norm_eps: vision.float("layer_norm_eps", 1e-5)?,
            },
            text: TextConfig {
                vocabulary: text.number("vocab_size", 49408)?,
                context: text.number("max_position_embeddings", 77)?,
                width: text.number("hidden_size", 512)?,
                layers: text.number("num_hidden_layers", 12)?,
                heads: text.number("num_attention_heads", 8)?,
                hidden: text.number("intermediate_size", 2048)?,
                activation: text.activation()?,
                norm_eps: text.float("layer_norm_eps", 1e-5)?,
                end_of_text: match text.number("eos_token_id", 49407)? {
                    2 => EndOfText::HighestId,
                    id => EndOfText::First(id as u32),
                },
            },
            projection: Section { json, name: "" }.number("projection_dim", 512)?,
        };
        config.validate()?;
        Ok(config)
    }

    /// Reads `open_clip_config.json`.
    ///
    /// # Errors
    /// [`Error::Config`] for a tower that is not CLIP's own transformer, a value of the wrong type, or sizes that do not fit
    /// together.
    pub fn from_open_clip(json: &Value) -> Result<Self> {
        let model = json.get("model_cfg").unwrap_or(json);
        let vision = Section { json: model, name: "vision_cfg" };
        let text = Section { json: model, name: "text_cfg" };
        for (section, key) in [(&vision, "timm_model_name"), (&text, "hf_model_name")] {
            if let Some(name) = section.get(key).and_then(Value::as_str) {
                let part = section.name;
                return Err(Error::Config(format!("{part} uses {name}: only CLIP's own transformers are supported (a ViT image tower)")));
            }
        }
        if vision.get("layers").is_some_and(Value::is_array) {
            return Err(Error::Config("vision_cfg describes a ResNet: LaFTer tunes a vision transformer, choose a ViT model".into()));
        }
        for key in ["ls_init_value", "no_ln_pre", "attentional_pool", "final_ln_after_pool", "global_average_pool"] {
            for section in [&vision, &text] {
                if section.get(key).is_some_and(|value| !matches!(value, Value::Null | Value::Bool(false))) {
                    return Err(Error::Config(format!("{}.{key} is set: this variant of the tower is not supported", section.name)));
                }
            }
        }
        let quick = model.get("quick_gelu").and_then(Value::as_bool).unwrap_or(false);
        let activation = if quick { Activation::QuickGelu } else { Activation::Gelu };
        let vision_width = vision.number("width", 768)?;
        let text_width = text.number("width", 512)?;
        let config = Self {
            vision: VisionConfig {
                image_size: vision.number("image_size", 224)?,
                patch_size: vision.number("patch_size", 16)?,
                width: vision_width,
                layers: vision.number("layers", 12)?,
                heads: vision_width / vision.number("head_width", 64)?.max(1),
                hidden: (vision_width as f64 * vision.float("mlp_ratio", 4.0)?) as usize,
                activation,
                norm_eps: 1e-5,
            },
            text: TextConfig {
                vocabulary: text.number("vocab_size", 49408)?,
                context: text.number("context_length", 77)?,
                width: text_width,
                layers: text.number("layers", 12)?,
                heads: text.number("heads", 8)?,
                hidden: (text_width as f64 * text.float("mlp_ratio", 4.0)?) as usize,
                activation,
                norm_eps: 1e-5,
                end_of_text: EndOfText::HighestId,
            },
            projection: Section { json: model, name: "" }.number("embed_dim", 512)?,
        };
        config.validate()?;
        Ok(config)
    }

    /// `config.json` in transformers' layout, as this crate writes it.
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
    /// [`Error::Config`] for a size of 0, an image that patches do not tile, or a width that the heads do not divide.
    pub fn validate(&self) -> Result<()> {
        let (vision, text) = (&self.vision, &self.text);
        let zero = [vision.image_size, vision.patch_size, vision.width, vision.layers, vision.heads, vision.hidden, self.projection]
            .into_iter()
            .chain([text.vocabulary, text.context, text.width, text.layers, text.heads, text.hidden])
            .any(|size| size == 0);
        if zero {
            return Err(Error::Config("a size in the model's configuration is 0".into()));
        }
        if vision.image_size % vision.patch_size != 0 {
            let (image, patch) = (vision.image_size, vision.patch_size);
            return Err(Error::Config(format!("image_size {image} is no multiple of patch_size {patch}")));
        }
        for (tower, width, heads) in [("vision", vision.width, vision.heads), ("text", text.width, text.heads)] {
            if width % heads != 0 {
                return Err(Error::Config(format!("{tower} width {width} cannot be split into {heads} heads")));
            }
        }
        Ok(())
    }
}

/// One object of a configuration, with errors that name the key.
struct Section<'a> {
    json: &'a Value,
    name: &'static str,
}

impl Section<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        let object = if self.name.is_empty() { Some(self.json) } else { self.json.get(self.name) };
        // OpenAI's first files keep the values that count in "<name>_dict"
        let legacy = self.json.get(format!("{}_dict", self.name)).and_then(|dict| dict.get(key));
        legacy.or_else(|| object?.get(key)).filter(|value| !value.is_null())
    }

    fn number(&self, key: &str, default: usize) -> Result<usize> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_u64().map(|n| n as usize).ok_or_else(|| self.wrong(key, value, "a whole number")),
        }
    }

    fn float(&self, key: &str, default: f64) -> Result<f64> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| self.wrong(key, value, "a number")),
        }
    }

    fn activation(&self) -> Result<Activation> {
        match self.get("hidden_act").and_then(Value::as_str).unwrap_or("quick_gelu") {
            "quick_gelu" => Ok(Activation::QuickGelu),
            "gelu" => Ok(Activation::Gelu),
            other => Err(Error::Config(format!("{}.hidden_act is \"{other}\": known are \"quick_gelu\" and \"gelu\"", self.name))),
        }
    }

    fn wrong(&self, key: &str, value: &Value, expected: &str) -> Error {
        Error::Config(format!("{}.{key} is {value}: expected {expected}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_agree_on_vit_b_32() {
        let transformers = ClipConfig::from_transformers(&serde_json::json!({ "text_config": { "eos_token_id": 2 } })).unwrap();
        let open_clip = ClipConfig::from_open_clip(&serde_json::json!({ "model_cfg": {
            "embed_dim": 512, "quick_gelu": true,
            "vision_cfg": { "image_size": 224, "layers": 12, "width": 768, "patch_size": 32 },
            "text_cfg": { "context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12 },
        }}))
        .unwrap();
        assert_eq!(transformers, open_clip);
        assert_eq!(ClipConfig::from_transformers(&transformers.to_transformers()).unwrap(), transformers);
    }

    #[test]
    fn end_of_text_rules() {
        assert_eq!(EndOfText::First(9).position(&[1, 9, 9]), 1);
        assert_eq!(EndOfText::HighestId.position(&[1, 4, 9, 9]), 2);
    }

    #[test]
    fn unsupported_towers_are_refused_in_one_line() {
        let error =
            ClipConfig::from_open_clip(&serde_json::json!({ "model_cfg": { "vision_cfg": { "layers": [3, 4, 6, 3] }}})).unwrap_err();
        assert!(error.to_string().contains("ResNet"), "{error}");
        let error = ClipConfig::from_transformers(&serde_json::json!({ "vision_config": { "hidden_size": "wide" }})).unwrap_err();
        assert_eq!(error.to_string(), "vision_config.hidden_size is \"wide\": expected a whole number");
    }
}
