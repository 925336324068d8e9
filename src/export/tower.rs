//! The prompted vision tower, v^p, as nodes of an ONNX graph.

use candle_core::Tensor;

use super::graph::{Attribute, Graph};
use crate::clip::VisionTower;
use crate::error::Result;
use crate::nn::{Activation, Attention, Block};
use crate::tune::VisualPrompts;

/// Adds the tower: pixels `[n, 3, side, side]` → features `[n, d]`, not normalized. What no picture changes (class token,
/// position, pre-norm, prompts) is one constant.
pub(super) fn tower(graph: &mut Graph, tower: &VisionTower, prompts: &VisualPrompts, pixels: &str) -> Result<String> {
    let (width, patch) = (tower.config().width, tower.config().patch_size as i64);
    let batch = graph.node("Shape", &[pixels], &[("start", Attribute::Int(0)), ("end", Attribute::Int(1))]);
    let ones = graph.ints(&[1, 1]);
    let rows = graph.node("Concat", &[&batch, &ones], &[("axis", Attribute::Int(0))]); // [n, 1, 1]

    let kernel = graph.tensor("vision_model.embeddings.patch_embedding.weight", &tower.patch_kernel()?)?;
    let sides = [patch, patch];
    let grid = graph.node("Conv", &[pixels, &kernel], &[("kernel_shape", Attribute::Ints(&sides)), ("strides", Attribute::Ints(&sides))]);
    let shape = graph.ints(&[0, width as i64, -1]);
    let flat = graph.node("Reshape", &[&grid, &shape], &[]); // [n, width, patches]
    let patches = graph.node("Transpose", &[&flat], &[("perm", Attribute::Ints(&[0, 2, 1]))]);
    let places = tower.position_embedding.narrow(0, 1, tower.config().patches())?;
    let places = graph.tensor("vision_model.embeddings.position_embedding.patches", &places)?;
    let placed = graph.node("Add", &[&patches, &places], &[]);
    let patches = graph.norm("vision_model.pre_layrnorm", &tower.pre_norm, &placed)?;

    let class = tower.position_embedding.narrow(0, 0, 1)?.broadcast_add(&tower.class_embedding.reshape((1, ()))?)?;
    let class = tower.pre_norm.forward(&class.detach())?; // [1, width]
    let first = prompts.layers.first().map_or(Ok(class.clone()), |prompts| Tensor::cat(&[&class, prompts], 0))?;
    let first = constant(graph, "class_and_prompts", &first, &rows)?;
    let mut x = join(graph, &[&first, &patches]);
    for (i, block) in tower.blocks.iter().enumerate() {
        if let Some(layer) = prompts.layers.get(i).filter(|_| i > 0) {
            // deep prompts take the place of those before
            let prompts_here = constant(graph, &format!("prompts.{i}"), layer, &rows)?;
            let class = graph.slice(&x, 1, 0, 1);
            let patches = graph.slice(&x, 1, 1 + prompts.count() as i64, i64::MAX);
            x = join(graph, &[&class, &prompts_here, &patches]);
        }
        let last = i + 1 == tower.blocks.len();
        x = add_block(graph, &format!("vision_model.encoder.layers.{i}"), block, &x, last)?;
    }
    let class = graph.slice(&x, 1, 0, 1); // [n, 1, width]
    let shape = graph.ints(&[0, width as i64]);
    let class = graph.node("Reshape", &[&class, &shape], &[]);
    let class = graph.norm("vision_model.post_layernorm", &tower.post_norm, &class)?;
    graph.linear("visual_projection", &tower.projection, &class)
}

/// A constant `[rows, width]` for each picture of the batch.
fn constant(graph: &mut Graph, name: &str, tensor: &Tensor, rows: &str) -> Result<String> {
    let tensor = graph.tensor(name, &tensor.unsqueeze(0)?)?;
    Ok(graph.node("Expand", &[&tensor, rows], &[]))
}

fn join(graph: &mut Graph, parts: &[&str]) -> String {
    graph.node("Concat", parts, &[("axis", Attribute::Int(1))])
}

/// One residual block; with `class_only` for the first token alone, of which alone the tower's end reads.
fn add_block(graph: &mut Graph, name: &str, block: &Block, x: &str, class_only: bool) -> Result<String> {
    let Block { norm1, attention, norm2, fc1, fc2, activation } = block;
    let normed = graph.norm(&format!("{name}.layer_norm1"), norm1, x)?;
    let (asking, x) = match class_only {
        true => (graph.slice(&normed, 1, 0, 1), graph.slice(x, 1, 0, 1)),
        false => (normed.clone(), x.to_string()),
    };
    let mixed = attend(graph, &format!("{name}.self_attn"), attention, &asking, &normed)?;
    let x = graph.node("Add", &[&x, &mixed], &[]);
    let normed = graph.norm(&format!("{name}.layer_norm2"), norm2, &x)?;
    let hidden = graph.linear(&format!("{name}.mlp.fc1"), fc1, &normed)?;
    let hidden = activate(graph, *activation, &hidden)?;
    let added = graph.linear(&format!("{name}.mlp.fc2"), fc2, &hidden)?;
    Ok(graph.node("Add", &[&x, &added], &[]))
}

/// Attention of `x` `[n, q, width]` over `context` `[n, k, width]`.
fn attend(graph: &mut Graph, name: &str, attention: &Attention, x: &str, context: &str) -> Result<String> {
    let Attention { query, key, value, output, heads, causal: _ } = attention; // a vision tower's looks everywhere
    let width = query.weight.dims2()?.0;
    let each = width / (*heads).max(1);
    let query = graph.linear(&format!("{name}.q_proj"), query, x)?;
    let scale = graph.number((each as f32).powf(-0.5))?;
    let query = graph.node("Mul", &[&query, &scale], &[]);
    let key = graph.linear(&format!("{name}.k_proj"), key, context)?;
    let value = graph.linear(&format!("{name}.v_proj"), value, context)?;
    let apart = graph.ints(&[0, 0, *heads as i64, each as i64]);
    let mut split = |x: &str, order: &[i64]| {
        let x = graph.node("Reshape", &[x, &apart], &[]);
        graph.node("Transpose", &[&x], &[("perm", Attribute::Ints(order))])
    };
    let (query, key, value) = (split(&query, &[0, 2, 1, 3]), split(&key, &[0, 2, 3, 1]), split(&value, &[0, 2, 1, 3]));
    let scores = graph.node("MatMul", &[&query, &key], &[]); // [n, heads, q, k]
    let shares = graph.node("Softmax", &[&scores], &[("axis", Attribute::Int(-1))]);
    let mixed = graph.node("MatMul", &[&shares, &value], &[]);
    let mixed = graph.node("Transpose", &[&mixed], &[("perm", Attribute::Ints(&[0, 2, 1, 3]))]);
    let together = graph.ints(&[0, 0, width as i64]);
    let mixed = graph.node("Reshape", &[&mixed, &together], &[]);
    graph.linear(&format!("{name}.out_proj"), output, &mixed)
}

fn activate(graph: &mut Graph, activation: Activation, x: &str) -> Result<String> {
    Ok(match activation {
        Activation::QuickGelu => {
            let factor = graph.number(1.702)?;
            let scaled = graph.node("Mul", &[x, &factor], &[]);
            let gate = graph.node("Sigmoid", &[&scaled], &[]);
            graph.node("Mul", &[x, &gate], &[])
        }
        // x / 2 · (1 + erf(x / √2))
        Activation::Gelu => {
            let (root, one, half) = (graph.number(std::f32::consts::SQRT_2)?, graph.number(1.0)?, graph.number(0.5)?);
            let erf = graph.node("Div", &[x, &root], &[]);
            let erf = graph.node("Erf", &[&erf], &[]);
            let share = graph.node("Add", &[&erf, &one], &[]);
            let product = graph.node("Mul", &[x, &share], &[]);
            graph.node("Mul", &[&product, &half], &[])
        }
    })
}
