//! What the blocks of a step remember, as the tensors of a checkpoint: `blocks.<position>.<kind>.<field>`.

use std::collections::HashMap;

use candle_core::Tensor;

use super::targets::Stateful;
use crate::checkpoint::all;
use crate::error::Error;

/// The memory of all blocks, in their order: the teacher, the refinements, the terms.
pub(super) fn save(blocks: &[&dyn Stateful]) -> Vec<(String, Tensor)> {
    let named = |(position, block): (usize, &&dyn Stateful)| {
        let prefix = prefix(position, *block);
        block.state().into_iter().map(move |(field, tensor)| (format!("{prefix}{field}"), tensor))
    };
    blocks.iter().enumerate().flat_map(named).collect()
}

/// Puts back what [`save`] gave. What is wrong with it, in one line, if it cannot be; blocks have forgotten nothing then.
pub(super) fn restore(blocks: &mut [&mut dyn Stateful], saved: &HashMap<String, Tensor>) -> Result<(), String> {
    let before: Vec<HashMap<String, Tensor>> = blocks
        .iter()
        .map(|block| block.state().into_iter().filter_map(|(field, tensor)| Some((field, tensor.copy().ok()?))).collect())
        .collect();
    let restored = blocks.iter_mut().enumerate().try_for_each(|(position, block)| {
        let prefix = prefix(position, &**block);
        let mut own = HashMap::new();
        for (name, tensor) in saved {
            let Some(field) = name.strip_prefix(&prefix) else { continue };
            if tensor.dtype().is_float() && !all(tensor, f32::is_finite).map_err(|e| format!("{name}: {e}"))? {
                return Err(format!("{name} holds a value that is not finite"));
            }
            own.insert(field.to_string(), tensor.clone());
        }
        block.restore(&own).map_err(|e| format!("{prefix}*: {}", Error::from(e)))
    });
    if restored.is_err() {
        for (block, before) in blocks.iter_mut().zip(before) {
            block.restore(&before).map_err(|e| Error::from(e).to_string())?;
        }
    }
    restored
}

fn prefix(position: usize, block: &dyn Stateful) -> String {
    format!("blocks.{position}.{}.", block.kind())
}
