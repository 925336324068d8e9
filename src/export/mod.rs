//! The result in other hands: ONNX files.
//!
//! | what | block | command |
//! |---|---|---|
//! | pixels or 8-bit pictures → logits and probabilities, for ONNX runtimes | [`Onnx`] | `lafter export --out` |

mod answering;
mod graph;
mod license;
mod onnx;
mod pictures;
mod protobuf;
mod tower;

pub use answering::Answering;
pub use license::license_of;
pub use onnx::{Onnx, OnnxSummary};
