//! The biases of the vision tower's linear layers as a set of parameters (BitFit, Ben Zaken et al. 2022).

use std::collections::HashMap;

use candle_core::{DType, Result, Tensor, Var};

use super::sets::{ParameterSet, REMEDY};
use super::tuned::Tuned;
use crate::nn::{Block, Linear, Param};

/// The biases of attention and perceptrons in every block, under the names of the CLIP's own checkpoint. They do not decay.
#[derive(Clone, Copy, Debug)]
pub struct Biases;

/// The layers of a block with their names in a checkpoint.
fn layers(block: &mut Block) -> [(&'static str, &mut Linear); 6] {
    let Block { attention, fc1, fc2, .. } = block;
    [
        ("self_attn.q_proj", &mut attention.query),
        ("self_attn.k_proj", &mut attention.key),
        ("self_attn.v_proj", &mut attention.value),
        ("self_attn.out_proj", &mut attention.output),
        ("mlp.fc1", fc1),
        ("mlp.fc2", fc2),
    ]
}

fn name(i: usize, layer: &str) -> String {
    format!("vision_model.encoder.layers.{i}.{layer}.bias")
}

/// Puts another bias into a layer, which then multiplies with the tensor of its weight: what was packed goes with the bias of then.
fn replace(layer: &mut Linear, bias: Tensor) {
    (layer.weight, layer.bias, layer.tuning.bias) = (layer.weight.tensor().into(), Some(bias), true);
}

impl ParameterSet for Biases {
    fn trainable(&self, model: &mut Tuned) -> Result<Vec<Param>> {
        let mut params = Vec::new();
        for (i, block) in model.vision.blocks.iter_mut().enumerate() {
            for (kind, layer) in layers(block) {
                let Some(bias) = &layer.bias else { continue };
                let var = Var::from_tensor(&bias.to_dtype(DType::F32)?.copy()?)?;
                replace(layer, var.as_tensor().clone());
                params.push(Param { name: name(i, kind), var, decay: false });
            }
        }
        Ok(params)
    }

    fn tensors(&self, model: &Tuned) -> Vec<(String, Tensor)> {
        let mut vision = model.vision.clone(); // shares the weights
        let blocks = vision.blocks.iter_mut().enumerate();
        let tuned = |(i, block)| {
            let bias = move |(kind, layer): (&str, &mut Linear)| {
                layer.bias.as_ref().filter(|_| layer.tuning.bias).map(|bias| (name(i, kind), bias.detach()))
            };
            layers(block).into_iter().filter_map(bias).collect::<Vec<_>>()
        };
        blocks.flat_map(tuned).collect()
    }

    fn load(&self, model: &mut Tuned, saved: &mut HashMap<String, Tensor>) -> std::result::Result<(), String> {
        for (i, block) in model.vision.blocks.iter_mut().enumerate() {
            for (kind, layer) in layers(block) {
                let name = name(i, kind);
                let Some(bias) = saved.remove(&name) else { continue };
                match &layer.bias {
                    Some(before) if before.dims() == bias.dims() => replace(layer, bias),
                    Some(before) => return Err(format!("{name} has shape {:?}, the tower expects {:?}", bias.dims(), before.dims())),
                    None => return Err(format!("{name} has no place in this tower: {REMEDY}")),
                }
            }
        }
        Ok(())
    }

    fn adds(&self) -> bool {
        false
    }
}
