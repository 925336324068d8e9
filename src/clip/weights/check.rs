//! The tensors that a configuration calls for, and what to say if the weights differ.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::clip::ClipConfig;
use crate::error::{Error, Result};

/// Missing or unknown tensors named in one message.
const SHOWN: usize = 3;
/// So many layers, times eight, are compared by name whatever the weights hold.
const LAYERS_OF_ANY: usize = 8 * 200;

/// Names and shapes of every tensor of a CLIP of these sizes.
fn expected(config: &ClipConfig) -> BTreeMap<String, Vec<usize>> {
    let (vision, text, d) = (&config.vision, &config.text, config.projection);
    let mut shapes = BTreeMap::from([
        ("logit_scale".to_string(), vec![]),
        ("visual_projection.weight".to_string(), vec![d, vision.width]),
        ("text_projection.weight".to_string(), vec![d, text.width]),
    ]);
    let embeddings = "vision_model.embeddings";
    shapes.insert(format!("{embeddings}.class_embedding"), vec![vision.width]);
    shapes.insert(format!("{embeddings}.patch_embedding.weight"), vec![vision.width, 3, vision.patch_size, vision.patch_size]);
    shapes.insert(format!("{embeddings}.position_embedding.weight"), vec![1 + vision.patches(), vision.width]);
    shapes.insert("text_model.embeddings.token_embedding.weight".into(), vec![text.vocabulary, text.width]);
    shapes.insert("text_model.embeddings.position_embedding.weight".into(), vec![text.context, text.width]);
    let mut linear = |name: String, outputs: usize, inputs: Option<usize>| {
        shapes.insert(format!("{name}.weight"), [Some(outputs), inputs].into_iter().flatten().collect());
        shapes.insert(format!("{name}.bias"), vec![outputs]);
    };
    for norm in ["vision_model.pre_layrnorm", "vision_model.post_layernorm"] {
        linear(norm.into(), vision.width, None);
    }
    linear("text_model.final_layer_norm".into(), text.width, None);
    let towers = [("vision_model", vision.layers, vision.width, vision.hidden), ("text_model", text.layers, text.width, text.hidden)];
    for (tower, layers, width, hidden) in towers {
        for layer in (0..layers).map(|i| format!("{tower}.encoder.layers.{i}")) {
            ["q", "k", "v", "out"].iter().for_each(|p| linear(format!("{layer}.self_attn.{p}_proj"), width, Some(width)));
            linear(format!("{layer}.layer_norm1"), width, None);
            linear(format!("{layer}.layer_norm2"), width, None);
            linear(format!("{layer}.mlp.fc1"), hidden, Some(width));
            linear(format!("{layer}.mlp.fc2"), width, Some(hidden));
        }
    }
    shapes
}

pub(super) fn check(tensors: &BTreeMap<String, Tensor>, config: &ClipConfig, source: &str) -> Result<()> {
    // a wrong number of layers would make names without end
    let (layers, found) = (config.vision.layers.saturating_add(config.text.layers), tensors.len());
    if layers.saturating_mul(8) > found.max(LAYERS_OF_ANY) {
        let remedy = "config and weights belong to different models";
        return Err(Error::Config(format!("{source}: the config says {layers} layers, the weights hold {found} tensors: {remedy}")));
    }
    let expected = expected(config);
    for (name, shape) in &expected {
        let Some(tensor) = tensors.get(name).filter(|tensor| tensor.dims() != shape) else { continue };
        let remedy = "config and weights belong to different models";
        return Err(Error::Config(format!("{source}: {name}: the config says {shape:?}, the weights say {:?}: {remedy}", tensor.dims())));
    }
    let missing: Vec<&str> = expected.keys().filter(|name| !tensors.contains_key(*name)).map(String::as_str).collect();
    if !missing.is_empty() {
        let (count, all) = (missing.len(), expected.len());
        let remedy = "download the weights again, or use the config that belongs to them";
        return Err(Error::Weights(format!("{source}: {count} of {all} tensors are missing: {}: {remedy}", list(&missing))));
    }
    let unknown: Vec<&str> = tensors.keys().filter(|name| !expected.contains_key(*name)).map(String::as_str).collect();
    if !unknown.is_empty() {
        let why = "the config describes fewer layers, or this variant of the tower is not supported";
        let remedy = "use the config that belongs to the weights, or another CLIP";
        return Err(Error::Config(format!(
            "{source}: the weights hold {} that the config does not call for: {why}: {remedy}",
            list(&unknown)
        )));
    }
    Ok(())
}

fn list(names: &[&str]) -> String {
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    format!("{}{more}", names.get(..SHOWN).unwrap_or(names).join(", "))
}
