//! Names of the open_clip and OpenAI checkpoint layout, translated to those of transformers.

use candle_core::{Result, Tensor};

/// How one tensor becomes tensors under transformers' names.
#[derive(Debug, PartialEq, Eq)]
enum Translation {
    /// The same values.
    Same(String),
    /// `[width, d]` there, `[d, width]` here.
    Transposed(String),
    /// Query, key and value stacked along the first axis.
    Packed([String; 3]),
    /// No parameter of a tower: a buffer, or something this crate has no use for.
    Unused,
}

use Translation::{Packed, Same, Transposed, Unused};

/// True if the tensor is part of CLIP's towers.
pub(crate) fn is_wanted(name: &str) -> bool {
    translation(name) != Unused
}

/// The tensor under transformers' names: one, or three from a fused one.
pub(super) fn translate(name: &str, tensor: Tensor) -> Result<Vec<(String, Tensor)>> {
    match translation(name) {
        Unused => Ok(Vec::new()),
        Same(name) => Ok(vec![(name, tensor)]),
        Transposed(name) => Ok(vec![(name, tensor.t()?.contiguous()?)]),
        Packed(names) => {
            // [3 · width, ..] → 3 × [width, ..]
            let parts = tensor.chunk(3, 0)?;
            names.into_iter().zip(parts).map(|(name, part)| Ok((name, part.contiguous()?))).collect()
        }
    }
}

/// What compiling, sharding and checkpointing of modules put into names, at any place.
const WRAPPERS: [&str; 4] = ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"];

/// A name without what PyTorch's wrappers put into it.
pub(crate) fn unwrapped(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').filter(|part| !WRAPPERS.contains(part)).collect();
    parts.join(".")
}

/// What stands before the names of a checkpoint's tensors, which is whatever stands before the one called `known` (`logit_scale`, of
/// a CLIP): `module.` of data-parallel training, `state_dict.` and `model.` of training checkpoints, `clip.` of models around a CLIP, in any
/// order. Of two copies the running average ("ema") is passed over; the second value says so.
///
/// # Errors
/// The prefixes, if there are several and none is the average of another.
pub(crate) fn prefix<'a>(names: impl Iterator<Item = &'a str>, known: &str) -> std::result::Result<(String, Option<String>), Vec<String>> {
    let before = names.filter_map(|name| name.strip_suffix(known)).filter(|prefix| prefix.is_empty() || prefix.ends_with('.'));
    let all: std::collections::BTreeSet<&str> = before.collect();
    let averaged = |prefix: &&str| prefix.split(['.', '_']).any(|word| word.eq_ignore_ascii_case("ema"));
    let (averages, plain): (Vec<&str>, Vec<&str>) = all.into_iter().partition(averaged);
    match (plain.as_slice(), averages.as_slice()) {
        ([], []) => Ok((String::new(), None)),
        ([], [one]) | ([one], []) => Ok((one.to_string(), None)),
        ([one], [other, ..]) => Ok((one.to_string(), Some(other.to_string()))),
        _ => Err(plain.iter().chain(&averages).map(|prefix| prefix.to_string()).collect()),
    }
}

/// What to say of an average that was passed over.
pub(crate) fn passed_over(files: &str, prefix: &str, average: &str) -> String {
    let below = if prefix.is_empty() { String::new() } else { format!(" below {}", prefix.trim_end_matches('.')) };
    let average = average.trim_end_matches('.');
    format!("{files} also holds a running average of the weights ({average}): the weights{below} are read, not the average")
}

/// Buffers in open_clip's and OpenAI's files, which hold nothing that was learned.
const BUFFERS: [&str; 4] = ["visual.image_mean", "visual.image_std", "visual.attn_mask", "text.attn_mask"];

/// Beginnings of names in a text tower: an unknown one is a part that this crate lacks, as Long-CLIP's second table of positions,
/// `positional_embedding_res`.
const OF_TEXTS: [&str; 5] = ["text.", "transformer.", "positional_embedding", "token_embedding", "ln_"];

fn translation(name: &str) -> Translation {
    if name.ends_with("position_ids") {
        return Unused; // a buffer of older transformers files
    }
    let own = ["vision_model.", "text_model."].iter().any(|tower| name.starts_with(tower));
    // a bias of a projection is not part of CLIP: its name is kept, so that the check against the configuration reports it
    let projection = ["visual_projection.", "text_projection."].iter().any(|name_| name.starts_with(name_));
    if own || projection || name == "logit_scale" {
        return Same(name.to_string());
    }
    let whole = name;
    let name = name.strip_prefix("text.").unwrap_or(name); // open_clip's custom text tower
    if let Some(block) = name.strip_prefix("visual.transformer.resblocks.") {
        return in_block("vision_model", block);
    }
    if let Some(block) = name.strip_prefix("transformer.resblocks.") {
        return in_block("text_model", block);
    }
    let same = match name {
        "visual.class_embedding" => "vision_model.embeddings.class_embedding",
        "visual.conv1.weight" => "vision_model.embeddings.patch_embedding.weight",
        "visual.positional_embedding" => "vision_model.embeddings.position_embedding.weight",
        "visual.ln_pre.weight" => "vision_model.pre_layrnorm.weight",
        "visual.ln_pre.bias" => "vision_model.pre_layrnorm.bias",
        "visual.ln_post.weight" => "vision_model.post_layernorm.weight",
        "visual.ln_post.bias" => "vision_model.post_layernorm.bias",
        "positional_embedding" => "text_model.embeddings.position_embedding.weight",
        "token_embedding.weight" => "text_model.embeddings.token_embedding.weight",
        "ln_final.weight" => "text_model.final_layer_norm.weight",
        "ln_final.bias" => "text_model.final_layer_norm.bias",
        "visual.proj" => return Transposed("visual_projection.weight".into()),
        "text_projection" => return Transposed("text_projection.weight".into()),
        "cls_emb" => "cls_emb",
        _ if BUFFERS.contains(&whole) => return Unused,
        // poolers, adapters and class embeddings of other variants: reported like an unknown part of a block
        _ if whole.starts_with("visual.") || OF_TEXTS.iter().any(|start| whole.starts_with(start)) || whole.contains("adapter") => whole,
        _ => return Unused,
    };
    Same(same.into())
}

/// `block` is the name below `resblocks.`: "3.mlp.c_fc.weight".
fn in_block(tower: &str, block: &str) -> Translation {
    let (layer, part) = block.split_once('.').unwrap_or((block, ""));
    let layer = format!("{tower}.encoder.layers.{layer}");
    if let Some(kind) = part.strip_prefix("attn.in_proj_") {
        return Packed(["q", "k", "v"].map(|p| format!("{layer}.self_attn.{p}_proj.{kind}")));
    }
    let parts = [
        ("ln_1.", "layer_norm1."),
        ("ln_2.", "layer_norm2."),
        ("attn.out_proj.", "self_attn.out_proj."),
        ("mlp.c_fc.", "mlp.fc1."),
        ("mlp.c_proj.", "mlp.fc2."),
    ];
    let known = parts.iter().find_map(|(theirs, ours)| part.strip_prefix(theirs).map(|kind| format!("{layer}.{ours}{kind}")));
    // an unknown part keeps its name, so that the check against the configuration reports it
    Same(known.unwrap_or_else(|| format!("{layer}.{part}")))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn fused_and_transposed_tensors_are_taken_apart() {
        let fused = Tensor::arange(0f32, 12.0, &Device::Cpu).unwrap().reshape((6, 2)).unwrap();
        let parts = translate("visual.transformer.resblocks.7.attn.in_proj_weight", fused.clone()).unwrap();
        assert_eq!(parts[1].0, "vision_model.encoder.layers.7.self_attn.k_proj.weight");
        assert_eq!(parts[1].1.to_vec2::<f32>().unwrap(), [[4.0, 5.0], [6.0, 7.0]]);
        let turned = translate("text.text_projection", fused).unwrap();
        assert_eq!((turned[0].0.as_str(), turned[0].1.dims()), ("text_projection.weight", &[2, 6][..]));
    }

    #[test]
    fn buffers_and_strangers_are_left_out() {
        for name in ["vision_model.embeddings.position_ids", "input_resolution", "context_length", "vocab_size", "classifier.weight"] {
            assert!(!is_wanted(name), "{name}");
        }
        for name in ["attn_mask", "text.attn_mask", "visual.attn_mask", "visual.image_mean", "logit_bias", "text.position_ids"] {
            assert!(!is_wanted(name), "{name}");
        }
        assert_eq!(translation("transformer.resblocks.0.ls_1.gamma"), Same("text_model.encoder.layers.0.ls_1.gamma".into()));
        for name in ["positional_embedding_res", "text.token_embedding_2.weight", "ln_post.weight", "image_adapter.fc.0.weight", "text.x"] {
            assert_eq!(translation(name), Same(name.into()));
        }
    }

    #[test]
    fn the_prefix_is_what_stands_before_the_scale() {
        let found = |names: &[&str]| prefix(names.iter().copied(), "logit_scale");
        assert_eq!(found(&["logit_scale", "visual.proj"]), Ok((String::new(), None)));
        assert_eq!(found(&["state_dict.module.logit_scale"]), Ok(("state_dict.module.".into(), None)));
        assert_eq!(unwrapped("module._orig_mod.visual._fsdp_wrapped_module.proj"), "module.visual.proj");
        assert_eq!(found(&["model.logit_scale", "model_ema.logit_scale"]), Ok(("model.".into(), Some("model_ema.".into()))));
        assert_eq!(found(&["student.logit_scale", "teacher.logit_scale"]), Err(vec!["student.".into(), "teacher.".into()]));
        assert_eq!(found(&["my_logit_scale"]), Ok((String::new(), None)));
    }
}
