//! What Candle lacks or loses gradients in, as plain blocks: layer norm, linear layer, softmax, attention, AdamW.
//!
//! Candle's `LayerNorm` on a contiguous input, `ops::softmax_last_dim` and friends have no backward pass and say
//! nothing about it: a tuning run then trains only what comes after them. Every block here is checked against finite
//! differences (`tests/all/gradients.rs`) and against PyTorch (`tests/all/parity.rs`).
//!
//! A file here is made to be copied: it needs Candle, and of this crate what its `use` lines name. The lines with `fast::` put a
//! fused operation of the crate `lafter-fast` before the plain form. Without these lines the plain form remains, which gives the
//! same values and gradients to 1e-5 (`tests/all/fused.rs`, `tests/all/text_loss.rs`) and takes longer. The lines with `more::` are
//! what tuning adds to a layer. Each of these files is at most 150 lines of code next to its documentation (`tests/all/copy.rs`).

mod adamw;
mod block;
mod fused_adamw;
mod layers;
mod loss;
mod more;
mod packed;
mod schedule;

pub use adamw::{AdamW, AdamWConfig, Param, ParamGroup};
pub use block::{Activation, Attention, Block, softmax};
pub use lafter_fast::{Isa, Precision};
pub use layers::{LayerNorm, Linear, Weight};
pub use loss::{argmax, normalize, smoothed_cross_entropy, smoothed_cross_entropy_rows};
pub use more::{LowRank, Tuning};
pub use schedule::LrSchedule;
