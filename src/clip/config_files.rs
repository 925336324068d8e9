//! Reads the sizes of a CLIP from the configuration of either checkpoint layout; what other keys may say stands in `config_keys`.

use serde_json::Value;

use super::{ClipConfig, EndOfText, TextConfig, VisionConfig};
use crate::config_keys;
use crate::error::{Error, Result, cut};
use crate::nn::Activation;

impl ClipConfig {
    /// Reads transformers' `config.json`; absent keys take transformers' defaults (ViT-B/32). Where an older file holds
    /// `vision_config_dict` or `text_config_dict`, that part is read there alone.
    ///
    /// # Errors
    /// [`Error::Config`] for another kind of model, a value of the wrong type, or sizes that do not fit together.
    pub fn from_transformers(json: &Value) -> Result<Self> {
        if let Some(kind) = json.get("model_type").and_then(Value::as_str).filter(|kind| *kind != "clip") {
            let kind = cut(kind);
            return Err(Error::Config(format!("config.json describes a {kind} model: expected model_type \"clip\", choose a CLIP")));
        }
        config_keys::CONFIG.judge("config.json", json)?;
        for (name, keys, kind) in [
            ("vision_config", config_keys::VISION_CONFIG, "clip_vision_model"),
            ("text_config", config_keys::TEXT_CONFIG, "clip_text_model"),
        ] {
            for object in [json.get(name), json.get(format!("{name}_dict"))].into_iter().flatten() {
                keys.judge(name, object)?;
                if let Some(other) = object.get("model_type").and_then(Value::as_str).filter(|other| *other != kind) {
                    let other = cut(other);
                    return Err(Error::Config(format!(
                        "{name} describes a {other}: expected {kind}, choose a CLIP whose towers are CLIP's own"
                    )));
                }
            }
        }
        let vision = Section { json, name: "vision_config" };
        let text = Section { json, name: "text_config" };
        let config = Self {
            vision: VisionConfig {
                image_size: vision.side("image_size", 224)?,
                patch_size: vision.side("patch_size", 32)?,
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
                end_of_text: match text.id("eos_token_id")?.unwrap_or(49407) {
                    2 => EndOfText::HighestId,
                    id => EndOfText::First(id),
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
        config_keys::MODEL_CFG.judge("model_cfg", model)?;
        if model.get("vision_cfg").is_none() {
            return Err(Error::Config("open_clip_config.json describes no CLIP (it has no vision_cfg): use the model's own file".into()));
        }
        let vision = Section { json: model, name: "vision_cfg" };
        let text = Section { json: model, name: "text_cfg" };
        for (section, key) in [(&vision, "timm_model_name"), (&text, "hf_model_name")] {
            if let Some(name) = section.word(key)?.filter(|name| !name.is_empty()) {
                let (part, name) = (section.name, cut(name));
                return Err(Error::Config(format!(
                    "{part}.{key} is {name}: only CLIP's own transformers are supported, choose a CLIP with a ViT image tower"
                )));
            }
        }
        if vision.get("layers").is_some_and(Value::is_array) {
            return Err(Error::Config("vision_cfg describes a ResNet: LaFTer tunes a vision transformer, choose a ViT model".into()));
        }
        for (section, keys) in [(&vision, config_keys::VISION_CFG), (&text, config_keys::TEXT_CFG)] {
            keys.judge(section.name, model.get(section.name).unwrap_or(&Value::Null))?;
        }
        let activation = match model.get("quick_gelu").unwrap_or(&Value::Null) {
            Value::Bool(true) => Activation::QuickGelu,
            Value::Bool(false) | Value::Null => Activation::Gelu,
            other => return Err(Error::Config(format!("quick_gelu is {}: expected true or false", cut(other)))),
        };
        let end_of_text = match (text.word("pool_type")?.unwrap_or("argmax"), text.id("eos_id")?) {
            ("argmax", _) => EndOfText::HighestId,
            ("eos", Some(id)) => EndOfText::First(id),
            ("eos", None) => {
                return Err(Error::Config("text_cfg.pool_type is \"eos\" and there is no eos_id: add the id of end-of-text".into()));
            }
            (other, _) => {
                let other = cut(other);
                return Err(Error::Config(format!(
                    "text_cfg.pool_type is \"{other}\": this crate reads \"argmax\" and \"eos\", choose another CLIP"
                )));
            }
        };
        // open_clip's two tokenizers, whose usual cleaning is this crate's
        let usual = if text.word("hf_tokenizer_name")?.is_some_and(|name| !name.is_empty()) { "whitespace" } else { "lower" };
        if let Some(clean) = text.get("tokenizer_kwargs").and_then(|kwargs| kwargs.get("clean")).filter(|clean| **clean != usual) {
            let clean = cut(clean);
            return Err(Error::Config(format!(
                "text_cfg.tokenizer_kwargs.clean is {clean}: this crate reads \"{usual}\" alone with this tokenizer, choose another CLIP"
            )));
        }
        let vision_width = vision.number("width", 768)?;
        let text_width = text.number("width", 512)?;
        let config = Self {
            vision: VisionConfig {
                image_size: vision.side("image_size", 224)?,
                patch_size: vision.side("patch_size", 16)?,
                width: vision_width,
                layers: vision.number("layers", 12)?,
                heads: vision_width / vision.number("head_width", 64)?.max(1),
                hidden: (vision_width as f64 * vision.float("mlp_ratio", 4.0)?) as usize,
                activation,
                norm_eps: vision.norm_eps()?,
            },
            text: TextConfig {
                vocabulary: text.number("vocab_size", 49408)?,
                context: text.number("context_length", 77)?,
                width: text_width,
                layers: text.number("layers", 12)?,
                heads: text.number("heads", 8)?,
                hidden: (text_width as f64 * text.float("mlp_ratio", 4.0)?) as usize,
                activation,
                norm_eps: text.norm_eps()?,
                end_of_text,
            },
            projection: Section { json: model, name: "" }.number("embed_dim", 512)?,
        };
        config.validate()?;
        Ok(config)
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
        // in older files "<name>_dict" counts, with transformers' defaults for what it lacks
        let older = self.json.get(format!("{}_dict", self.name)).filter(|older| older.is_object());
        // OpenAI's say 2 outside it for the end of text, which reads where the default does
        let end = object.filter(|_| key == "eos_token_id").and_then(|object| object.get(key));
        older.or(object)?.get(key).or(end).filter(|value| !value.is_null())
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

    /// A side in pixels: one number, or two equal ones.
    fn side(&self, key: &str, default: usize) -> Result<usize> {
        match self.get(key) {
            Some(Value::Array(sides)) => match sides.as_slice() {
                [height, width] if height == width => height.as_u64().map(|n| n as usize),
                _ => None,
            }
            .ok_or_else(|| self.wrong(key, self.get(key).unwrap_or(&Value::Null), "one number, or two equal ones (views are square)")),
            _ => self.number(key, default),
        }
    }

    /// A token's id.
    fn id(&self, key: &str) -> Result<Option<u32>> {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| self.wrong(key, value, "a token's id"));
        self.get(key).map(id).transpose()
    }

    fn word(&self, key: &str) -> Result<Option<&str>> {
        self.get(key).map(|value| value.as_str().ok_or_else(|| self.wrong(key, value, "a word in quotes"))).transpose()
    }

    /// open_clip's settings of all layer norms.
    fn norm_eps(&self) -> Result<f64> {
        let Some(given) = self.get("norm_kwargs") else { return Ok(1e-5) };
        let eps = given.as_object().filter(|object| object.keys().all(|key| key == "eps")).and_then(|object| match object.get("eps") {
            None => Some(1e-5),
            Some(eps) => eps.as_f64(),
        });
        eps.ok_or_else(|| self.wrong("norm_kwargs", given, "{\"eps\": a number}"))
    }

    fn activation(&self) -> Result<Activation> {
        match self.word("hidden_act")?.unwrap_or("quick_gelu") {
            "quick_gelu" => Ok(Activation::QuickGelu),
            "gelu" | "gelu_python" => Ok(Activation::Gelu),
            other => {
                let (name, other) = (self.name, cut(other));
                Err(Error::Config(format!("{name}.hidden_act is \"{other}\": known are \"quick_gelu\" and \"gelu\", choose another CLIP")))
            }
        }
    }

    fn wrong(&self, key: &str, value: &Value, expected: &str) -> Error {
        let (dot, value) = (if self.name.is_empty() { "" } else { "." }, cut(value));
        Error::Config(format!("{}{dot}{key} is {value}: expected {expected}", self.name))
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

    /// As in openai/clip-vit-large-patch14, where both are there, and in files where they contradict each other.
    #[test]
    fn the_older_object_counts_with_its_defaults() {
        let read = |json: Value| ClipConfig::from_transformers(&json).unwrap();
        let sizes = serde_json::json!({ "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14 });
        let outside = serde_json::json!({ "hidden_size": 768, "hidden_act": "gelu", "image_size": 336, "patch_size": 14 });
        let text = serde_json::json!({ "eos_token_id": 2, "hidden_act": "gelu" });
        let both = read(serde_json::json!({
            "vision_config": outside, "vision_config_dict": sizes, "text_config": text, "text_config_dict": { "hidden_size": 512 },
        }));
        let alone = read(serde_json::json!({ "vision_config": sizes, "text_config": { "eos_token_id": 2 }, "text_config_dict": null }));
        assert_eq!(both, alone);
        assert_eq!((both.vision.image_size, both.vision.activation), (224, Activation::QuickGelu));
        assert_eq!(both.text.end_of_text, EndOfText::HighestId);
    }

    #[test]
    fn unsupported_towers_are_refused_in_one_line() {
        let error =
            ClipConfig::from_open_clip(&serde_json::json!({ "model_cfg": { "vision_cfg": { "layers": [3, 4, 6, 3] }}})).unwrap_err();
        assert!(error.to_string().contains("ResNet"), "{error}");
        let error = ClipConfig::from_transformers(&serde_json::json!({ "vision_config": { "hidden_size": "wide" }})).unwrap_err();
        assert_eq!(error.to_string(), "vision_config.hidden_size is \"wide\": expected a whole number");
    }

    #[test]
    fn every_key_that_changes_the_tower_is_read_or_refused_by_name() {
        let open_clip = |vision: Value, text: Value| {
            let mut model = serde_json::json!({ "embed_dim": 512, "vision_cfg": { "width": 768 }, "text_cfg": { "width": 512 } });
            for (part, more) in [("vision_cfg", vision), ("text_cfg", text)] {
                let Value::Object(more) = more else { panic!("{more}") };
                model[part].as_object_mut().unwrap().extend(more);
            }
            ClipConfig::from_open_clip(&serde_json::json!({ "model_cfg": model })).map_err(|e| e.to_string())
        };
        let none = || serde_json::json!({});
        for (key, value) in [
            ("ls_init_value", serde_json::json!(1e-4)),
            ("no_ln_pre", serde_json::json!(true)),
            ("attentional_pool", serde_json::json!("parallel")),
            ("pool_type", serde_json::json!("avg")),
            ("qk_norm", serde_json::json!(true)),
            ("act_kwargs", serde_json::json!({ "approximate": "tanh" })),
            ("norm_kwargs", serde_json::json!({ "bias": false })),
            ("timm_model_name", serde_json::json!("convnext_base")),
            ("image_size", serde_json::json!([224, 336])),
        ] {
            let error = open_clip(serde_json::json!({ key: value }), none()).unwrap_err();
            assert!(error.contains(key), "{error}");
        }
        for (key, value) in [
            ("no_causal_mask", serde_json::json!(true)),
            ("embed_cls", serde_json::json!(true)),
            ("proj_type", serde_json::json!("none")),
            ("proj_bias", serde_json::json!(true)),
            ("pool_type", serde_json::json!("last")),
            ("text_arch", serde_json::json!("modern")),
            ("tokenizer_kwargs", serde_json::json!({ "clean": "canonicalize" })),
            ("tokenizer_type", serde_json::json!("tiktoken")),
            ("tokenizer_kwargs", serde_json::json!({ "clean": "whitespace" })),
            ("hf_model_name", serde_json::json!("roberta-base")),
            ("eos_id", serde_json::json!(1u64 << 33)),
        ] {
            let error = open_clip(none(), serde_json::json!({ key: value })).unwrap_err();
            assert!(error.contains(key), "{error}");
        }
        let cleaned = |name: &str, clean: &str| {
            open_clip(none(), serde_json::json!({ "hf_tokenizer_name": name, "tokenizer_kwargs": { "clean": clean } }))
        };
        assert!(cleaned("", "lower").is_ok() && cleaned("x", "whitespace").is_ok());
        assert!(cleaned("x", "lower").unwrap_err().contains("tokenizer_kwargs.clean is \"lower\""));
        let read = open_clip(
            serde_json::json!({ "image_size": [224, 224], "norm_kwargs": { "eps": 1e-6 }, "patch_dropout": 0.5, "pool_type": "tok" }),
            serde_json::json!({ "pool_type": "eos", "eos_id": 2, "hf_tokenizer_name": "x", "no_causal_mask": false }),
        )
        .unwrap();
        assert_eq!((read.vision.image_size, read.vision.norm_eps, read.text.norm_eps), (224, 1e-6, 1e-5));
        assert_eq!(read.text.end_of_text, EndOfText::First(2));

        for (text, key) in [
            (serde_json::json!({ "vision_config": { "num_channels": 4 } }), "num_channels"),
            (serde_json::json!({ "vision_config": { "hidden_act": "gelu_new" } }), "hidden_act"),
            (serde_json::json!({ "vision_config": { "hidden_act": 3 } }), "hidden_act"),
            (serde_json::json!({ "text_config": { "pruned_heads": { "0": [1] } } }), "pruned_heads"),
            (serde_json::json!({ "text_config": { "model_type": "bert" } }), "bert"),
            (serde_json::json!({ "quantization_config": { "bits": 4 } }), "quantization_config"),
            (serde_json::json!({ "text_config": { "eos_token_id": [1, 2] } }), "eos_token_id"),
            (serde_json::json!({ "model_type": "siglip" }), "siglip"),
        ] {
            let error = ClipConfig::from_transformers(&text).unwrap_err().to_string();
            assert!(error.contains(key) && error.lines().count() == 1, "{error}");
        }
    }
}
