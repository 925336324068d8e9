//! Language models of any shape with random weights, as GGUF files: for tests that depend on shapes and not on words.
#![allow(dead_code)]

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{Value, write};
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{Device, Tensor};

/// A shape, named as GGUF names it. The quantization of each kind of weight is the one that llama.cpp's tools choose.
#[derive(Clone, Debug)]
pub struct Shape {
    pub family: &'static str,
    pub blocks: usize,
    pub width: usize,
    pub hidden: usize,
    pub heads: usize,
    pub key_heads: usize,
    pub head_width: usize,
    pub vocabulary: usize,
    /// Attention, gate and up.
    pub most: GgmlDType,
    /// Down.
    pub down: GgmlDType,
    /// Embedding, and head: they are one.
    pub head: GgmlDType,
}

/// Qwen2.5-0.5B; its width is not a multiple of 256, so that Q4_K_M files hold Q5_0 and Q8_0.
pub const QWEN2_HALF: Shape = Shape {
    family: "qwen2",
    blocks: 24,
    width: 896,
    hidden: 4864,
    heads: 14,
    key_heads: 2,
    head_width: 64,
    vocabulary: 151_936,
    most: GgmlDType::Q5_0,
    down: GgmlDType::Q4K,
    head: GgmlDType::Q8_0,
};

/// Qwen2.5-1.5B as Q4_K_M.
pub const QWEN2: Shape = Shape {
    blocks: 28,
    width: 1536,
    hidden: 8960,
    heads: 12,
    head_width: 128,
    most: GgmlDType::Q4K,
    down: GgmlDType::Q6K,
    head: GgmlDType::Q6K,
    ..QWEN2_HALF
};

/// Writes `folder/NAME.gguf` and a small tokenizer next to it.
pub fn write_model(folder: &Path, name: &str, shape: &Shape) -> PathBuf {
    let Shape { family, blocks, width, hidden, heads, key_heads, head_width, vocabulary, most, down, head } = shape.clone();
    let (tall, flat) = (heads * head_width, key_heads * head_width);
    let mut tensors: Vec<(String, QTensor)> =
        vec![("token_embd.weight".into(), random(vocabulary, width, head, 0.1)), ("output_norm.weight".into(), ones(width))];
    for i in 0..blocks {
        let mut add = |name: &str, tensor: QTensor| tensors.push((format!("blk.{i}.{name}"), tensor));
        add("attn_norm.weight", ones(width));
        add("ffn_norm.weight", ones(width));
        for (name, rows, columns, dtype) in [
            ("attn_q", tall, width, most),
            ("attn_k", flat, width, most),
            ("attn_v", flat, width, most),
            ("attn_output", width, tall, most),
            ("ffn_gate", hidden, width, most),
            ("ffn_up", hidden, width, most),
            ("ffn_down", width, hidden, down),
        ] {
            add(&format!("{name}.weight"), random(rows, columns, dtype, (columns as f64).powf(-0.5)));
        }
        if family == "qwen2" {
            let _ = [("attn_q", tall), ("attn_k", flat), ("attn_v", flat)].map(|(name, n)| add(&format!("{name}.bias"), ones(n)));
        }
        if family == "qwen3" {
            let _ = ["attn_q_norm.weight", "attn_k_norm.weight"].map(|name| add(name, ones(head_width)));
        }
    }
    let number = |value: usize| Value::U32(value as u32);
    let own = |key: &str| format!("{family}.{key}");
    let metadata: Vec<(String, Value)> = vec![
        ("general.architecture".into(), Value::String(family.into())),
        (own("block_count"), number(blocks)),
        (own("context_length"), number(512)),
        (own("embedding_length"), number(width)),
        (own("attention.head_count"), number(heads)),
        (own("attention.head_count_kv"), number(key_heads)),
        (own("attention.key_length"), number(head_width)),
        (own("rope.dimension_count"), number(head_width)),
        (own("rope.freq_base"), Value::F32(1e6)),
        (own("attention.layer_norm_rms_epsilon"), Value::F32(1e-6)),
    ];
    let path = folder.join(format!("{name}.gguf"));
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(key, tensor)| (key.as_str(), tensor)).collect();
    write(&mut std::io::BufWriter::new(std::fs::File::create(&path).unwrap()), &metadata, &tensors).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llm/qwen2.tokenizer.json");
    std::fs::copy(fixture, folder.join("tokenizer.json")).unwrap();
    path
}

/// Normal weights, [rows, columns]; rows repeat after 512, which no product can tell.
fn random(rows: usize, columns: usize, dtype: GgmlDType, deviation: f64) -> QTensor {
    use std::sync::atomic::{AtomicU64, Ordering};
    static SEED: AtomicU64 = AtomicU64::new(1);
    let mut rng = lafter::rng::Rng::new(SEED.fetch_add(1, Ordering::SeqCst));
    let own = rows.min(512);
    let values: Vec<f32> = (0..own * columns).map(|_| rng.normal() * deviation as f32).collect();
    let some = QTensor::quantize(&Tensor::from_vec(values, (own, columns), &Device::Cpu).unwrap(), dtype).unwrap();
    let data = some.data().unwrap();
    let bytes: Vec<u8> = data.iter().copied().cycle().take(data.len() / own * rows).collect();
    let storage = QStorage::from_data(Cow::Owned(bytes), &Device::Cpu, dtype).unwrap();
    QTensor::new(storage, (rows, columns)).unwrap()
}

fn ones(n: usize) -> QTensor {
    QTensor::quantize(&Tensor::ones(n, candle_core::DType::F32, &Device::Cpu).unwrap(), GgmlDType::F32).unwrap()
}
