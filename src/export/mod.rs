//! The result in other hands: ONNX files, ordinary CLIP folders, PyTorch, a model card.
//!
//! | what | block | command |
//! |---|---|---|
//! | pixels or 8-bit pictures → logits and probabilities, for ONNX runtimes | [`Onnx`] | `lafter export --out` |
//! | a tuned tower without prompts as a CLIP that transformers and open_clip load | [`merge()`] | `lafter export --merge` |
//! | LaFTer weights over transformers' `CLIPModel`, and what a file holds | [`pytorch`] | |
//! | weights that the released code trained in PyTorch | [`from_released`] | `lafter import` |
//! | README.md in the hub's format | [`Card`] | `lafter card`, `lafter run` |

mod answering;
mod card;
mod graph;
mod license;
mod merge;
mod onnx;
mod pictures;
mod protobuf;
mod released;
mod tower;

pub use answering::Answering;
pub use card::{Card, CardOutcome};
pub use license::license_of;
pub use merge::merge;
pub use onnx::{Onnx, OnnxSummary};
pub use released::{from_released, from_released_with};

#[doc = include_str!("pytorch.md")]
pub mod pytorch {}
