//! The tests as one program: `cargo test --test all resume::` runs one file of it.
//!
//! Four dozen programs would be linked with everything, each for itself. Apart stay those that change what belongs to the whole process:
//! `tests/fuzz` has an allocator that counts, `tests/hub_data.rs` interrupts all that runs, `tests/cuda.rs` switches the rounding of
//! products. A test here sets no environment variable and no current folder, but those of the programs that it starts.

mod ablate;
mod adapt;
mod attention;
mod augment;
mod bank;
#[cfg(feature = "llm")]
mod batched_llm;
mod bf16;
mod blocks;
mod by_themselves;
mod center_crop;
mod check;
mod checkpoints;
mod common;
mod copy;
mod damaged_checkpoints;
mod data;
mod decode;
mod demo;
mod demo_claims;
mod describe;
#[cfg(unix)]
mod describe_llm;
#[cfg(feature = "llm")]
mod describe_local;
mod describe_pairs;
#[cfg(unix)]
mod describe_resume;
#[cfg(unix)]
mod describe_usage;
mod errors;
mod folders;
mod fused;
mod gradients;
mod hub;
mod hub_stub;
mod lafter_file;
#[cfg(feature = "llm-reference")]
mod llm_reference;
mod llm_stub;
#[cfg(feature = "mpi")]
mod mpi;
mod one_file;
mod onnx;
mod onnx_file;
mod parameter_sets;
mod parity;
mod parquet;
mod pipeline;
mod plot;
mod predictions;
mod pytorch;
#[cfg(feature = "llm")]
mod random_gguf;
mod real_images;
mod replaced;
mod resume;
mod rooms;
mod selection_study;
mod settings;
mod shards;
mod split_file;
mod step;
mod tar_file;
mod text_loss;
mod tokenizer;
mod torch_file;
mod transduct;
mod tuning;
mod unlabeled;
mod view_cache;
mod weights;
