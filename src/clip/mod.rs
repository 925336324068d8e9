//! CLIP: configuration, the two towers with open stages, tokenizer, weights of every common layout, the hub.

mod config;
mod text;
mod vision;

pub use config::{ClipConfig, EndOfText, TextConfig, VisionConfig};
pub use text::TextTower;
pub use vision::VisionTower;
