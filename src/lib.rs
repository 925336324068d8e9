//! LaFTer in Candle.
pub mod augment;
pub mod classify;
pub mod clip;
pub mod data;
pub mod describe;
pub mod error;
pub mod eval;
pub mod nn;
pub mod plot;
pub mod pretrain;
pub mod progress;
pub mod rng;
pub mod tune;

pub use error::{Error, Result};
