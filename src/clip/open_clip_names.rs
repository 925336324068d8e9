//! A CLIP's tensors as open_clip names and lays them: the way back from `weights/layout.rs`.

use candle_core::{Result, Tensor};

/// Parts of a block: transformers' name, open_clip's.
const PARTS: [(&str, &str); 5] = [
    ("layer_norm1", "ln_1"),
    ("layer_norm2", "ln_2"),
    ("self_attn.out_proj", "attn.out_proj"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
];

/// The tensors of transformers' names under open_clip's: query, key and value in one, projections transposed.
pub(super) fn open_clip_names(tensors: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>> {
    let mut out = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        match name.as_str() {
            "visual_projection.weight" => out.push(("visual.proj".into(), tensor.t()?.contiguous()?)),
            "text_projection.weight" => out.push(("text_projection".into(), tensor.t()?.contiguous()?)),
            other => match other.split_once(".encoder.layers.").and_then(|(tower, block)| Some((tower, block.split_once('.')?))) {
                Some((tower, (layer, part))) => {
                    let before = if tower == "vision_model" { "visual." } else { "" };
                    let before = format!("{before}transformer.resblocks.{layer}");
                    if let Some(kind) = part.strip_prefix("self_attn.q_proj.") {
                        let same = |part: &str| name.replace("q_proj", part);
                        let all = tensors.iter().filter(|(other, _)| *other == same("k_proj") || *other == same("v_proj"));
                        let stacked: Vec<&Tensor> = std::iter::once(tensor).chain(all.map(|(_, tensor)| tensor)).collect(); // q, k, v as saved
                        out.push((format!("{before}.attn.in_proj_{kind}"), Tensor::cat(&stacked, 0)?));
                    } else if let Some((ours, theirs)) = PARTS.iter().find(|(ours, _)| part.starts_with(ours)) {
                        out.push((format!("{before}.{}", part.replacen(ours, theirs, 1)), tensor.clone()));
                    } // key and value stand with the query
                }
                None => out.push((outside_blocks(other), tensor.clone())),
            },
        }
    }
    Ok(out)
}

fn outside_blocks(name: &str) -> String {
    let (tower, rest) = match (name.strip_prefix("vision_model."), name.strip_prefix("text_model.")) {
        (Some(rest), _) => ("visual.", rest),
        (None, rest) => ("", rest.unwrap_or(name)),
    };
    let rest = match rest {
        "embeddings.class_embedding" => "class_embedding",
        "embeddings.patch_embedding.weight" => "conv1.weight",
        "embeddings.position_embedding.weight" => "positional_embedding",
        "embeddings.token_embedding.weight" => "token_embedding.weight",
        norm => &norm.replace("pre_layrnorm", "ln_pre").replace("post_layernorm", "ln_post").replace("final_layer_norm", "ln_final"),
    };
    format!("{tower}{rest}")
}
