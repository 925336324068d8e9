//! Several answers in one pass of a local model: the same tokens as one by one.

use crate::random_gguf::{Shape, write_model};
use candle_core::Device;
use candle_core::quantized::{GgmlDType, gguf_file};
use lafter::describe::generate::{Api, Generator, LocalModel, Request, Settings};

/// Small, with every kind of block that the large ones have: rows of 256 and of 128, Q4_K, Q5_0, Q6_K, Q8_0, Q4_0.
const SMALL: Shape = Shape {
    family: "qwen2",
    blocks: 2,
    width: 256,
    hidden: 512,
    heads: 4,
    key_heads: 2,
    head_width: 64,
    vocabulary: 320,
    most: GgmlDType::Q4K,
    down: GgmlDType::Q6K,
    head: GgmlDType::Q6K,
};

pub fn shapes() -> Vec<Shape> {
    let narrow = |most| Shape {
        width: 128,
        hidden: 192,
        heads: 4,
        key_heads: 1,
        head_width: 32,
        most,
        down: GgmlDType::Q8_0,
        head: GgmlDType::Q8_0,
        ..SMALL
    };
    vec![
        SMALL,
        Shape { family: "llama", ..SMALL },
        Shape { family: "qwen3", head_width: 128, ..SMALL },
        Shape { most: GgmlDType::Q8_0, down: GgmlDType::Q8_0, head: GgmlDType::Q8_0, ..SMALL },
        narrow(GgmlDType::Q5_0),
        narrow(GgmlDType::Q4_0),
        Shape { family: "llama", ..narrow(GgmlDType::Q8_0) },
        Shape { family: "qwen3", ..narrow(GgmlDType::Q8_0) },
    ]
}

#[test]
fn answers_do_not_depend_on_their_company() {
    let dir = tempfile::tempdir().unwrap();
    for (i, shape) in shapes().iter().enumerate() {
        let model = LocalModel::open(write_model(dir.path(), &format!("m{i}"), shape), &Device::Cpu).unwrap();
        let settings = |i: usize| Settings {
            api: Api::Completion,
            temperature: if i.is_multiple_of(3) { 0.0 } else { 0.9 },
            top_p: if i.is_multiple_of(2) { 0.8 } else { 1.0 },
            max_tokens: 2 + i % 6,
            ..Settings::chat()
        };
        // 40 at once: more than one pass holds; queries of many lengths, some of them asked several times
        let request = |i: usize| {
            let query = "A boat has a wide hull. An owl flies at night over the forest.".chars().take(1 + i / 3 * 4).collect::<String>();
            Request { completion: i % 3, ..Request::new(query, &settings(i)) }
        };
        let alone: Vec<_> = (0..40).map(|i| model.generate(&request(i)).unwrap()).collect();
        let together: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..40)
                .rev()
                .map(|i| {
                    scope.spawn({
                        let (model, request) = (&model, &request);
                        move || model.generate(&request(i)).unwrap()
                    })
                })
                .collect();
            let mut answers: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            answers.reverse();
            answers
        });
        assert_eq!(alone, together, "{shape:?}");
        let distinct: std::collections::HashSet<_> = alone.iter().map(|answer| &answer.text).collect();
        assert!(distinct.len() > 20, "{} answers differ: {shape:?}", distinct.len());
    }
}

#[test]
fn broken_weights_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = write_model(dir.path(), "m", &Shape { most: GgmlDType::F32, ..SMALL });
    let content = gguf_file::Content::read(&mut std::fs::File::open(&path).unwrap()).unwrap();
    let place = (content.tensor_data_offset + content.tensor_infos["blk.0.attn_v.weight"].offset) as usize;
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[place..place + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let error = LocalModel::open(&path, &Device::Cpu).unwrap().greedy(&[5, 6], 2).unwrap_err().to_string();
    assert!(error.contains("weights are broken"), "{error}");
}

#[test]
fn the_name_tells_models_apart_by_every_tensor_and_the_tokenizer() {
    let dir = tempfile::tempdir().unwrap();
    let path = write_model(dir.path(), "m", &SMALL);
    let name = || LocalModel::open(&path, &Device::Cpu).unwrap().model().to_string();
    let first = name();
    assert_eq!(name(), first);
    let content = gguf_file::Content::read(&mut std::fs::File::open(&path).unwrap()).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for tensor in ["token_embd.weight", "blk.1.ffn_down.weight"] {
        let mut other = whole.clone();
        other[(content.tensor_data_offset + content.tensor_infos[tensor].offset) as usize + 2] ^= 1;
        std::fs::write(&path, other).unwrap();
        assert_ne!(name(), first, "{tensor}");
    }
    std::fs::write(&path, whole).unwrap();
    let tokenizer = dir.path().join("tokenizer.json");
    std::fs::write(&tokenizer, std::fs::read_to_string(&tokenizer).unwrap() + " ").unwrap();
    assert_ne!(name(), first);
}
