//! The keys of configuration files that the readers do not use: which may be passed over, and which must have their default
//! because another value makes another tower or another view. All lists stand here, with the reason of each.

use serde_json::Value;

use crate::error::{Error, Result, cut};

/// What a key outside the reader's own may say.
enum Rule {
    /// It changes nothing that is computed, whatever it says.
    Harmless,
    /// It changes what is computed unless it is absent, null or one of these, written as JSON.
    Only(&'static [&'static str]),
}

use Rule::{Harmless, Only};

/// The keys of one object: those that the reader uses, and the others with their rule.
pub(crate) struct Keys {
    read: &'static str,
    rules: &'static [&'static [Listed]],
}

/// A rule and its keys, with blanks between them.
type Listed = (Rule, &'static str);

/// Switches that are off unless they say otherwise.
const OFF: Rule = Only(&["false", "0", "0.0", "{}", "[]"]);

/// What every configuration of transformers may hold.
const OF_EVERY_CONFIG: &[Listed] = &[
    // provenance and number types of the saved file; the weights' own dtype counts
    (
        Harmless,
        "_name_or_path name_or_path architectures model_type transformers_version torch_dtype dtype _commit_hash auto_map \
         use_bfloat16 torchscript tf_legacy_loss _attn_implementation_autoset attn_implementation _attn_implementation",
    ),
    // what a forward pass returns, not what it computes
    (Harmless, "return_dict output_attentions output_hidden_states use_return_dict return_loss use_cache chunk_size_feed_forward"),
    // training only
    (
        Harmless,
        "attention_dropout dropout hidden_dropout initializer_factor initializer_range gradient_checkpointing \
         logit_scale_init_value",
    ),
    // heads of other tasks
    (Harmless, "id2label label2id num_labels problem_type finetuning_task task_specific_params tokenizer_class prefix"),
    // writing of text, which CLIP does not do
    (
        Harmless,
        "bad_words_ids begin_suppress_tokens suppress_tokens bos_token_id sep_token_id cls_token_id decoder_start_token_id \
         diversity_penalty do_sample early_stopping encoder_no_repeat_ngram_size exponential_decay_length_penalty \
         forced_bos_token_id forced_eos_token_id length_penalty max_length min_length no_repeat_ngram_size num_beam_groups \
         num_beams num_return_sequences output_scores remove_invalid_values repetition_penalty return_dict_in_generate \
         temperature top_k top_p typical_p tie_word_embeddings tie_encoder_decoder",
    ),
    // the text tower is causal: nothing behind the end of a text is read, whatever pads it
    (Harmless, "pad_token_id"),
];

/// What makes another tower in any of transformers' sections.
const OTHER_TOWERS: &[Listed] = &[(
    OFF,
    "pruned_heads quantization_config per_layer_config is_decoder is_encoder_decoder add_cross_attention \
     cross_attention_hidden_size",
)];

/// transformers' `config.json`.
pub(crate) const CONFIG: Keys = Keys {
    read: "projection_dim vision_config text_config vision_config_dict text_config_dict",
    rules: &[OF_EVERY_CONFIG, OTHER_TOWERS, &[(Harmless, "eos_token_id")]],
};

/// transformers' `vision_config`. A tower's own `projection_dim` belongs to models of one tower: CLIP's stands outside.
pub(crate) const VISION_CONFIG: Keys = Keys {
    read: "image_size patch_size hidden_size num_hidden_layers num_attention_heads intermediate_size hidden_act layer_norm_eps",
    rules: &[OF_EVERY_CONFIG, OTHER_TOWERS, &[(Harmless, "projection_dim eos_token_id"), (Only(&["3"]), "num_channels")]],
};

/// transformers' `text_config`.
pub(crate) const TEXT_CONFIG: Keys = Keys {
    read: "vocab_size max_position_embeddings hidden_size num_hidden_layers num_attention_heads intermediate_size hidden_act \
           layer_norm_eps eos_token_id",
    rules: &[OF_EVERY_CONFIG, OTHER_TOWERS, &[(Harmless, "projection_dim")]],
};

/// open_clip's `open_clip_config.json`: the settings of a model's files.
pub(crate) const OPEN_CLIP: Keys = Keys { read: "model_cfg preprocess_cfg", rules: &[] };

/// open_clip's `model_cfg`, or a file of it alone.
pub(crate) const MODEL_CFG: Keys = Keys {
    read: "embed_dim vision_cfg text_cfg quick_gelu preprocess_cfg",
    rules: &[&[
        // names of tensors, read either way; first values of what is learned; a constant that no ranking sees; number types
        (Harmless, "custom_text init_logit_scale init_logit_bias nonscalar_logit_scale cast_dtype output_dict"),
        // a third tower, sounds in place of pictures, one tower of both
        (OFF, "multimodal_cfg audio_cfg audio_naflex_cfg genlip_cfg genlap_cfg model_type"),
    ]],
};

/// Variants of open_clip's blocks, in both towers.
const OPEN_CLIP_BLOCKS: &[Listed] = &[
    (OFF, "ls_init_value final_ln_after_pool qk_norm scaled_cosine_attn scale_heads scale_attn_inner scale_attn scale_fc"),
    (Only(&["\"default\"", "\"\""]), "block_type"),
    // GELU in its exact form
    (Only(&["{}", "{\"approximate\":\"none\"}"]), "act_kwargs"),
];

/// open_clip's `vision_cfg`.
pub(crate) const VISION_CFG: Keys = Keys {
    read: "image_size patch_size width layers head_width mlp_ratio norm_kwargs timm_model_name",
    rules: &[
        OPEN_CLIP_BLOCKS,
        &[
            // training only; outputs other than the feature
            (Harmless, "patch_dropout output_tokens image_seq_len"),
            // sizes of poolers and timm's settings, which nothing reads without a pooler or a timm tower
            (Harmless, "attn_pooler_queries attn_pooler_heads n_queries timm_model_pretrained timm_pool timm_proj timm_proj_bias"),
            (Harmless, "timm_drop timm_drop_path timm_model_kwargs"),
            (OFF, "attentional_pool no_ln_pre global_average_pool input_patchnorm"),
            (Only(&["\"tok\""]), "pool_type"),
            (Only(&["3"]), "in_chans"),
            // a table of sines is stored with the weights, as a learned one is
            (Only(&["\"learnable\"", "\"sin_cos_2d\""]), "pos_embed_type"),
        ],
    ],
};

/// open_clip's `text_cfg`.
pub(crate) const TEXT_CFG: Keys = Keys {
    read: "vocab_size context_length width layers heads mlp_ratio norm_kwargs pool_type eos_id hf_model_name",
    rules: &[
        OPEN_CLIP_BLOCKS,
        &[
            // where open_clip finds the tokenizer, whose files lie in the folder; ids that a causal tower never reads
            (Harmless, "hf_tokenizer_name bos_id pad_id output_tokens variable_text vocab_file bpe_path"),
            // settings of towers from transformers and of `text_arch` "modern", which nothing reads without them
            (Harmless, "hf_model_pretrained hf_proj_type hf_pooler_type hf_model_config attention_mode pos_embed rope_temperature"),
            (Harmless, "mlp_type norm_eps norm_placement zero_init_residual tiktoken_name"),
            (OFF, "embed_cls no_causal_mask proj_bias attn_gated pre_norm reg_tokens value_residual use_pad_mask"),
            // other marks are dropped, or another vocabulary is used: the same text would get other ids (the reader compares the two with
            // `hf_tokenizer_name`)
            (Only(&["{}", "{\"clean\":\"lower\"}", "{\"clean\":\"whitespace\"}"]), "tokenizer_kwargs"),
            (Only(&["\"\""]), "tokenizer_mode tokenizer_type"),
            (Only(&["\"clip\""]), "text_arch"),
            (Only(&["\"linear\""]), "proj_type"),
            (Only(&["\"layernorm\""]), "norm_type"),
            (Only(&["true"]), "attention_bias mlp_bias gate_bias"),
        ],
    ],
};

/// transformers' `preprocessor_config.json`, or `image_processor` in `processor_config.json`.
pub(crate) const IMAGE_PROCESSOR: Keys = Keys {
    read: "do_resize size default_to_square do_center_crop crop_size crop_rule resample do_rescale rescale_factor do_normalize image_mean image_std",
    rules: &[&[
        // names of classes and of the hub's code
        (Harmless, "image_processor_type feature_extractor_type processor_class auto_map _valid_processor_keys use_fast"),
        // how arrays are laid out on the way; pictures are RGB here in any case
        (Harmless, "data_format input_data_format device return_tensors disable_grouping do_convert_rgb image_seq_length"),
        (Harmless, "num_channels transformers_version"),
        // other views
        (OFF, "do_pad pad_size size_divisor do_flip_channel_order do_thumbnail do_align_long_axis do_affine_pad crop_pct offset"),
        (OFF, "do_reduce_labels do_split_image do_image_splitting"),
        // a square of 224 pixels whatever `size` says
        (OFF, "use_square_size"),
    ]],
};

/// open_clip's `preprocess_cfg`.
pub(crate) const PREPROCESS_CFG: Keys =
    Keys { read: "size mean std interpolation resize_mode fill_color", rules: &[&[(Only(&["\"RGB\""]), "mode")]] };

impl Keys {
    /// Refuses a key whose value makes another tower or another view; `place` is the object's name in the message.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
    pub(crate) fn judge(&self, place: &str, object: &Value) -> Result<()> {
        if !(object.is_object() || object.is_null()) {
            return Err(Error::Config(format!("{place} is {}: expected an object, download the file again", cut(object))));
        }
        for (key, value) in object.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            let Some(Only(allowed)) = self.rule(key) else { continue };
            let written = value.to_string();
            if !allowed.contains(&written.as_str()) {
                let usual = if allowed.len() == 1 {
                    format!("this crate reads {} alone", allowed[0])
                } else {
                    "this crate has no such variant".into()
                };
                return Err(Error::Config(format!("{place}.{key} is {}: {usual}, choose another CLIP", cut(&written))));
            }
        }
        Ok(())
    }

    /// The keys that stand in no list.
    pub(crate) fn unknown<'a>(&self, object: &'a Value) -> Vec<&'a str> {
        let keys = object.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()).map(|(key, _)| key.as_str());
        keys.filter(|key| !lists(self.read, key) && self.rule(key).is_none()).collect()
    }

    fn rule(&self, key: &str) -> Option<&Rule> {
        self.rules.iter().copied().flatten().find(|(_, keys)| lists(keys, key)).map(|(rule, _)| rule)
    }
}

fn lists(keys: &str, key: &str) -> bool {
    keys.split_whitespace().any(|listed| listed == key)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_pass_others_are_refused_and_strangers_are_named() {
        let plain =
            json!({ "width": 8, "pool_type": "tok", "ls_init_value": null, "act_kwargs": {}, "patch_dropout": 0.5, "qk_norm": false });
        VISION_CFG.judge("vision_cfg", &plain).unwrap();
        assert!(VISION_CFG.unknown(&plain).is_empty());
        let error = VISION_CFG.judge("vision_cfg", &json!({ "pool_type": "avg" })).unwrap_err().to_string();
        assert_eq!(error, "vision_cfg.pool_type is \"avg\": this crate reads \"tok\" alone, choose another CLIP");
        assert!(TEXT_CFG.judge("text_cfg", &json!({ "act_kwargs": { "approximate": "tanh" } })).is_err());
        assert_eq!(TEXT_CFG.unknown(&json!({ "heads": 8, "new_thing": 1 })), ["new_thing"]);
    }

    #[test]
    fn no_key_stands_in_two_lists() {
        for keys in [CONFIG, VISION_CONFIG, TEXT_CONFIG, OPEN_CLIP, MODEL_CFG, VISION_CFG, TEXT_CFG, IMAGE_PROCESSOR, PREPROCESS_CFG] {
            let mut all: Vec<&str> = [keys.read]
                .into_iter()
                .chain(keys.rules.iter().copied().flatten().map(|(_, keys)| *keys))
                .flat_map(str::split_whitespace)
                .collect();
            let count = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(count, all.len(), "{all:?}");
        }
    }
}
