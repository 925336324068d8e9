//! What Candle lacks or loses gradients in, as plain blocks: layer norm, linear layer, softmax, attention, AdamW.
//!
//! Candle's `LayerNorm` on a contiguous input, `ops::softmax_last_dim` and friends have no backward pass and say
//! nothing about it: a tuning run then trains only what comes after them. Every block here is checked against finite
//! differences (`tests/all/gradients.rs`) and against PyTorch (`tests/all/parity.rs`).
//!
//! A file here is made to be copied: it needs Candle, and of this crate what its `use` lines name. The lines with `fast::` put a
//! fused operation of the crate `lafter-fast` before the plain form. Without these lines the plain form remains, which gives the
//! same values and gradients to 1e-5 (`tests/all/fused.rs`, `tests/all/text_loss.rs`) and takes longer.

mod activation;
mod adamw;
mod attention;
mod block;
mod fused_adamw;
mod layer_norm;
mod linear;
mod packed;
mod patches;
mod schedule;
mod softmax;

pub use activation::Activation;
pub use adamw::{AdamW, AdamWConfig, Param, ParamGroup};
pub use attention::Attention;
pub use block::Block;
pub use lafter_fast::{Isa, Precision};
pub use layer_norm::LayerNorm;
pub use linear::{Linear, LowRank};
pub use patches::patches;
pub use schedule::Schedule;
pub use softmax::softmax;
