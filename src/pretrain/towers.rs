//! Fresh towers: every parameter as a variable, under the checkpoint's names, with CLIP's initialization.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::VarBuilder;

use crate::clip::{ClipConfig, TextTower, VisionTower};
use crate::rng::Rng;

/// How a parameter starts.
#[derive(Clone, Copy)]
enum Start {
    Normal(f32),
    One,
    Zero,
}

/// The variables of both towers and the temperature, and towers made of them.
pub(super) struct Towers {
    pub params: Vec<(String, Var)>,
    pub vision: VisionTower,
    pub text: TextTower,
    pub log_scale: Var,
}

impl Towers {
    /// Normal weights with the standard deviations of CLIP (Radford et al. 2021, released code): tokens 0.02, positions
    /// 0.01, attention width^-½, what is added to the residual width^-½ (2 layers)^-½, MLP (2 width)^-½; norms 1 and
    /// 0; biases 0; log temperature ln(1 / 0.07).
    pub fn new(config: &ClipConfig, rng: &mut Rng, device: &Device) -> Result<Self> {
        let mut list: Vec<(String, Vec<usize>, Start)> = Vec::new();
        let mut add = |name: String, shape: &[usize], start: Start| list.push((name, shape.to_vec(), start));
        let (v, t, d) = (&config.vision, &config.text, config.projection);
        let std = |n: usize| Start::Normal((n as f32).powf(-0.5));

        let embeddings = "vision_model.embeddings";
        add(format!("{embeddings}.class_embedding"), &[v.width], std(v.width));
        add(format!("{embeddings}.patch_embedding.weight"), &[v.width, 3, v.patch_size, v.patch_size], std(3 * v.patch_size.pow(2)));
        add(format!("{embeddings}.position_embedding.weight"), &[1 + v.patches(), v.width], std(v.width));
        norm(&mut add, "vision_model.pre_layrnorm", v.width);
        blocks(&mut add, "vision_model", v.layers, v.width, v.hidden);
        norm(&mut add, "vision_model.post_layernorm", v.width);
        add("visual_projection.weight".into(), &[d, v.width], std(v.width));

        let embeddings = "text_model.embeddings";
        add(format!("{embeddings}.token_embedding.weight"), &[t.vocabulary, t.width], Start::Normal(0.02));
        add(format!("{embeddings}.position_embedding.weight"), &[t.context, t.width], Start::Normal(0.01));
        blocks(&mut add, "text_model", t.layers, t.width, t.hidden);
        norm(&mut add, "text_model.final_layer_norm", t.width);
        add("text_projection.weight".into(), &[d, t.width], std(t.width));

        let mut params = Vec::with_capacity(list.len() + 1);
        let mut named = HashMap::new();
        for (name, shape, start) in list {
            let tensor = match start {
                Start::Normal(std) => rng.normal_tensor(shape, std, device)?,
                Start::One => Tensor::ones(shape, DType::F32, device)?,
                Start::Zero => Tensor::zeros(shape, DType::F32, device)?,
            };
            let var = Var::from_tensor(&tensor)?;
            named.insert(name.clone(), var.as_tensor().clone());
            params.push((name, var));
        }
        let log_scale = Var::new((1f32 / 0.07).ln(), device)?;
        params.push(("logit_scale".into(), log_scale.clone()));
        let vb = VarBuilder::from_tensors(named, DType::F32, device);
        Ok(Self { vision: VisionTower::load(v, d, vb.clone())?, text: TextTower::load(t, d, vb)?, params, log_scale })
    }
}

fn norm(add: &mut impl FnMut(String, &[usize], Start), name: &str, width: usize) {
    add(format!("{name}.weight"), &[width], Start::One);
    add(format!("{name}.bias"), &[width], Start::Zero);
}

fn blocks(add: &mut impl FnMut(String, &[usize], Start), tower: &str, layers: usize, width: usize, hidden: usize) {
    let attention = (width as f32).powf(-0.5);
    let residual = attention * (2.0 * layers as f32).powf(-0.5);
    for i in 0..layers {
        let layer = format!("{tower}.encoder.layers.{i}");
        norm(add, &format!("{layer}.layer_norm1"), width);
        norm(add, &format!("{layer}.layer_norm2"), width);
        for (name, std) in [("q", attention), ("k", attention), ("v", attention), ("out", residual)] {
            add(format!("{layer}.self_attn.{name}_proj.weight"), &[width, width], Start::Normal(std));
            add(format!("{layer}.self_attn.{name}_proj.bias"), &[width], Start::Zero);
        }
        add(format!("{layer}.mlp.fc1.weight"), &[hidden, width], Start::Normal((2.0 * width as f32).powf(-0.5)));
        add(format!("{layer}.mlp.fc1.bias"), &[hidden], Start::Zero);
        add(format!("{layer}.mlp.fc2.weight"), &[width, hidden], Start::Normal(residual));
        add(format!("{layer}.mlp.fc2.bias"), &[width], Start::Zero);
    }
}
