//! CLIP: configuration, the two towers with open stages, tokenizer, weights of every common layout, the hub.

mod attention_maps;
mod config;
mod config_files;
mod demo;
mod folder;
pub mod hub;
mod loader;
mod model;
mod norms;
mod open_clip_config;
mod open_clip_names;
mod packed;
mod save;
mod shapes;
mod summary;
mod text;
mod text_slot;
mod tokenizer;
mod vision;
mod weights;

pub use crate::files::{read_tensors, save_tensors};
pub use attention_maps::AttentionMaps;
pub use config::ClipConfig;
pub use loader::ClipLoader;
pub use model::Clip;
pub use save::SavedClip;
pub use summary::ClipSummary;
pub use text::{EndOfText, TextConfig, TextTower};
pub(crate) use tokenizer::byte_letters;
pub use tokenizer::{Tokenizer, Tokens};
pub use vision::{VisionConfig, VisionTower, patches};
pub(crate) use weights::{Opened, layout};
pub use weights::{Weights, read_checkpoint};
