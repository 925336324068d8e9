//! Tokens a second of a local language model, by the number of requests in flight:
//! `cargo bench --features llm-reference --bench local_llm`.
//!
//! The models are random, in the shapes and quantizations of Qwen2.5 (0.5B and 1.5B, Q4_K_M); an answer has 40 tokens, each
//! query is asked five times, as `lafter describe` does. The first row of each model is candle-transformers' own model,
//! which takes one text at a time. `-- small` measures 0.5B alone, `-- large` 1.5B alone (1.1 GB on disk, 3 GB in memory).

#[path = "../tests/all/random_gguf/mod.rs"]
mod random_gguf;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_qwen2::ModelWeights;
use lafter::describe::generate::{Api, Generator, LocalModel, Request, Settings};
use random_gguf::{QWEN2, QWEN2_HALF, write_model};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ANSWER: usize = 40;
const COMPLETIONS: usize = 5;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for (name, size, shape) in [("small", "0.5B", &QWEN2_HALF), ("large", "1.5B", &QWEN2)] {
        if !wanted.is_empty() && !wanted.iter().any(|word| word == name) {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = write_model(dir.path(), name, shape);
        println!("{size}, {} MB, {} threads", std::fs::metadata(&path).unwrap().len() >> 20, rayon::current_num_threads());
        let alone = candle_transformers(&path);
        println!("  candle-transformers, one text   {alone:7.1} tokens/s");
        let model = LocalModel::open(&path, &Device::Cpu).unwrap();
        lafter(&model, 1, 1); // warm: weights are packed at their first use
        lafter(&model, 2, 2);
        for at_once in [1, 2, 4, 8, 16, 31] {
            let rate = lafter(&model, at_once, at_once.max(2) * COMPLETIONS / 2);
            println!("  lafter, {at_once:2} at once             {rate:7.1} tokens/s, {:.2} times one text", rate / alone);
        }
    }
}

/// Greedy, so without the cost of drawing.
fn candle_transformers(path: &Path) -> f64 {
    let mut file = std::fs::File::open(path).unwrap();
    let content = Content::read(&mut file).unwrap();
    let mut model = ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap();
    let mut best = 0f64;
    for _ in 0..2 {
        model.clear_kv_cache();
        let started = Instant::now();
        let (mut input, mut place) = ((10u32..40).collect::<Vec<_>>(), 0);
        for _ in 0..ANSWER {
            let tokens = Tensor::new(input.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
            let logits = model.forward(&tokens, place).unwrap().squeeze(0).unwrap();
            place += input.len();
            input = vec![logits.argmax(0).unwrap().to_scalar::<u32>().unwrap()];
        }
        best = best.max(ANSWER as f64 / started.elapsed().as_secs_f64());
    }
    best
}

fn lafter(model: &LocalModel, at_once: usize, answers: usize) -> f64 {
    let settings = Settings { api: Api::Completion, max_tokens: ANSWER, stop: Vec::new(), ..Settings::chat() };
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::SeqCst);
                    if i >= answers {
                        break;
                    }
                    let query = format!("Describe what class number {} looks like.", i / COMPLETIONS);
                    let request = Request { completion: i % COMPLETIONS, ..Request::new(query, &settings) };
                    std::hint::black_box(model.generate(&request).unwrap());
                }
            });
        }
    });
    (answers * ANSWER) as f64 / started.elapsed().as_secs_f64()
}
