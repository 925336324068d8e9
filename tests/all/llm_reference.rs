//! The local back end next to candle-transformers' own models: the same tokens, by `cargo test --features llm-reference`.

use std::path::Path;

use crate::batched_llm::shapes;
use crate::random_gguf::write_model;
use candle_core::quantized::gguf_file;
use candle_core::{Device, Tensor};
use candle_transformers::models::{quantized_llama, quantized_qwen2, quantized_qwen3};
use lafter::describe::generate::LocalModel;

/// The most probable tokens from candle-transformers, one text at a time, with the lead of each over the second.
fn reference(path: &Path, family: &str, prompt: &[u32], count: usize) -> Vec<(u32, f32)> {
    enum Model {
        Llama(quantized_llama::ModelWeights),
        Qwen2(quantized_qwen2::ModelWeights),
        Qwen3(quantized_qwen3::ModelWeights),
    }
    let mut file = std::fs::File::open(path).unwrap();
    let content = gguf_file::Content::read(&mut file).unwrap();
    let mut model = match family {
        "llama" => Model::Llama(quantized_llama::ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap()),
        "qwen2" => Model::Qwen2(quantized_qwen2::ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap()),
        _ => Model::Qwen3(quantized_qwen3::ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap()),
    };
    let (mut input, mut place, mut answer) = (prompt.to_vec(), 0, Vec::new());
    for _ in 0..count {
        let tokens = Tensor::new(input.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let logits = match &mut model {
            Model::Llama(model) => model.forward(&tokens, place),
            Model::Qwen2(model) => model.forward(&tokens, place),
            Model::Qwen3(model) => model.forward(&tokens, place),
        };
        place += input.len();
        let mut logits: Vec<(usize, f32)> =
            logits.unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().enumerate().collect();
        logits.sort_by(|a, b| b.1.total_cmp(&a.1));
        answer.push((logits[0].0 as u32, logits[0].1 - logits[1].1));
        input = vec![logits[0].0 as u32];
    }
    answer
}

#[test]
fn the_same_tokens_as_candle_transformers() {
    let dir = tempfile::tempdir().unwrap();
    let mut compared = 0;
    for (i, shape) in shapes().iter().enumerate() {
        let path = write_model(dir.path(), &format!("m{i}"), shape);
        let model = LocalModel::open(&path, &Device::Cpu).unwrap();
        for start in [5u32, 40, 111] {
            let prompt: Vec<u32> = (start..start + 12).collect();
            let got = model.greedy(&prompt, 12).unwrap();
            for (token, (wanted, lead)) in got.iter().zip(reference(&path, shape.family, &prompt, 12)) {
                // activations are rounded to 8 bits, in other groups where rows were widened: a narrow lead proves nothing
                if lead < 0.1 {
                    break;
                }
                assert_eq!(*token, wanted, "token {compared} of {shape:?}, lead {lead}");
                compared += 1;
            }
        }
    }
    println!("{compared} tokens compared");
    assert!(compared >= 60, "only {compared} tokens had a clear lead");
}
