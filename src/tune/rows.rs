//! Tables with a row per picture, which rules write to as batches come by.

use std::collections::HashMap;

use candle_core::{Result, Tensor};

use super::targets::Views;

/// The pictures of a batch as a tensor `[b]`, u32.
///
/// # Errors
/// If the views do not say which pictures they are.
pub(super) fn indices(views: &Views, like: &Tensor) -> Result<Tensor> {
    let (known, batch) = (views.indices.len(), like.dim(0)?);
    if known != batch {
        candle_core::bail!("{batch} pictures, {known} of them named: a rule that remembers pictures needs Views::indices of each");
    }
    Tensor::new(&views.indices[..], like.device())
}

/// Writes rows `[b]` or `[b, d]` to the places `[b]` of a table, in place: it is too large to be copied in each step.
///
/// # Errors
/// If the shapes do not fit, or a place is not in the table (Candle's).
pub(super) fn write(table: &Tensor, places: &Tensor, rows: &Tensor) -> Result<()> {
    let places = match rows.dims() {
        [_, _] => places.unsqueeze(1)?.broadcast_as(rows.shape())?.contiguous()?, // [b, d]
        _ => places.clone(),
    };
    table.scatter_set(&places, &rows.contiguous()?, 0)
}

/// A saved tensor of these dimensions; 0 stands for any.
///
/// # Errors
/// If it is missing or has another shape.
pub(super) fn saved(saved: &HashMap<String, Tensor>, name: &str, dims: &[usize]) -> Result<Tensor> {
    match saved.get(name) {
        Some(tensor) if tensor.rank() == dims.len() && tensor.dims().iter().zip(dims).all(|(have, want)| *want == 0 || have == want) => {
            Ok(tensor.clone())
        }
        Some(tensor) => candle_core::bail!("{name} has shape {:?}, expected {dims:?}", tensor.dims()),
        None => candle_core::bail!("{name} is missing"),
    }
}
