//! lafter and the crates of its types, as one library that all cells of a notebook share.

pub use ::{candle_core, candle_nn, image};
pub use ::lafter::*;
