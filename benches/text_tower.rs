//! Features of sentences of mixed length (9 to 45 tokens, 27 in the mean, as descriptions have) from the text tower of
//! ViT-B/32 with random weights: `cargo bench --bench text_tower`.
//!
//! | row | what |
//! |---|---|
//! | text_tower | 10,000 sentences (256 of them to warm up) |

mod common;

use std::path::Path;

use candle_core::Device;
use lafter::clip::{Clip, TextConfig, save_tensors};
use lafter::nn::Activation;
use lafter::pretrain::{PretrainConfig, Pretrainer};
use lafter::rng::Rng;

#[global_allocator]
static ALLOCATOR: lafter::allocator::MiMalloc = lafter::allocator::MiMalloc;

fn main() -> lafter::Result<()> {
    lafter::allocator::keep_freed_memory();
    let bench = common::Bench::from_args(1)?;
    let folder = tempfile::tempdir().map_err(|e| lafter::Error::io("temporary folder", e))?;
    write_model(folder.path())?;
    let clip = Clip::from_dir(folder.path())?;
    // "a" is one token, so a sentence of n words has n + 2; what the words are does not change the work
    let sentences: Vec<String> = (0..10_000).map(|i| vec!["a"; 7 + i * 7919 % 37].join(" ")).collect();
    bench.long_row("text_tower", sentences.len(), |warm_up| {
        let some = if warm_up { &sentences[..256] } else { &sentences };
        clip.encode_text(some).map(drop)
    })
}

/// A CLIP in transformers' layout: the text tower of ViT-B/32, a small vision tower, all random.
fn write_model(folder: &Path) -> lafter::Result<()> {
    let mut config = PretrainConfig::demo();
    config.clip.projection = 512;
    config.clip.text = TextConfig {
        vocabulary: 49_408,
        context: 77,
        width: 512,
        layers: 12,
        heads: 8,
        hidden: 2048,
        activation: Activation::QuickGelu,
        norm_eps: 1e-5,
        ..config.clip.text
    };
    let tensors = Pretrainer::new(&config, &mut Rng::new(1), &Device::Cpu)?.tensors();
    save_tensors(folder.join("model.safetensors"), &tensors, [].into())?;
    let io = |e| lafter::Error::io(folder, e);
    std::fs::write(folder.join("config.json"), config.clip.to_transformers().to_string()).map_err(io)?;
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer/json/tokenizer.json");
    std::fs::copy(tokenizer, folder.join("tokenizer.json")).map_err(io)?;
    Ok(())
}
