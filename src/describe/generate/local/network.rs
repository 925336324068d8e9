//! The network of the Llama, Qwen2 and Qwen3 families, for several texts at once.
//!
//! Every token is a row: linear layers see the rows of all texts together, so that weights are read from memory once for
//! all of them, and only attention goes text by text. Texts need no common length, no padding and no mask between them, and
//! with quantized weights a text's numbers do not depend on its company. (F16, BF16 and F32 weights take another kernel, which
//! may round otherwise for another number of rows; computing them in groups of a fixed size would read them more than once.)

use std::sync::Arc;

use candle_core::quantized::QTensor;
use candle_core::{Device, Result, Tensor};
use candle_nn::ops::{rms_norm, silu, softmax_last_dim};
use candle_nn::rotary_emb::{rope, rope_i};

use super::gguf::Gguf;
use super::linear::Linear;
use super::memory::Memory;
use crate::catch_panic::catch_panic;
use crate::error::Error;

/// x / √(mean x² + ε) · w
struct RmsNorm {
    weight: Tensor,
    epsilon: f32,
}

impl RmsNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        rms_norm(x, &self.weight, self.epsilon)
    }
}

struct Block {
    attention_norm: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    /// Qwen3 normalizes every head.
    head_norms: Option<(RmsNorm, RmsNorm)>,
    out: Linear,
    mlp_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// The weights.
pub(super) struct Network {
    embedding: Arc<QTensor>,
    blocks: Vec<Block>,
    norm: RmsNorm,
    head: Linear,
    /// Rotations by position, `[positions, head width / 2]`.
    cos: Tensor,
    sin: Tensor,
    /// Llama rotates neighbors (2i, 2i + 1), Qwen halves (i, i + width / 2).
    neighbors: bool,
    heads: usize,
    key_heads: usize,
    head_width: usize,
    device: Device,
}

/// Some kernels round one row otherwise than the same row among others: Q6_K's on x86-64, all on Arm, where rows go in
/// fours. Rows without meaning fill up to such a number, so that a text's numbers do not depend on its company.
fn filled(rows: usize) -> usize {
    if cfg!(target_arch = "aarch64") { rows.next_multiple_of(4) } else { rows.max(2) }
}

impl Network {
    pub(super) fn load(mut file: Gguf, device: &Device) -> crate::Result<Self> {
        let path = file.path.display().to_string();
        let loaded = catch_panic(|| Self::read(&mut file, device));
        loaded.unwrap_or_else(|| Err(candle_core::Error::msg("its tensors are damaged"))).map_err(|e| {
            let why = Error::from(e);
            Error::Llm(format!("{path} cannot be used ({why}): fetch it again, or choose another file"))
        })
    }

    fn read(file: &mut Gguf, device: &Device) -> Result<Self> {
        let (heads, key_heads, head_width) = (file.size("attention.head_count"), file.size("attention.head_count_kv"), file.head_width());
        let epsilon = file.real("attention.layer_norm_rms_epsilon").unwrap_or(1e-6);
        let embedding = Arc::new(file.tensor("token_embd.weight", device)?);
        let norm = RmsNorm { weight: file.tensor("output_norm.weight", device)?.dequantize(device)?, epsilon };
        // many small models use the embedding as head
        let head = if file.has("output.weight") { Arc::new(file.tensor("output.weight", device)?) } else { embedding.clone() };
        let head = Linear::new(head, None)?;
        let blocks = (0..file.size("block_count")).map(|i| Block::read(file, i, epsilon, device)).collect::<Result<_>>()?;
        let (cos, sin) = rotations(file, head_width, device)?;
        let neighbors = file.family == "llama";
        let device = device.clone();
        Ok(Self { embedding, blocks, norm, head, cos, sin, neighbors, heads, key_heads, head_width, device })
    }

    /// For a text of this network.
    pub(super) fn memory(&self) -> Result<Memory> {
        Memory::new(self.blocks.len(), self.key_heads, self.head_width, &self.device)
    }

    /// `tokens` holds the next tokens of every text, one text behind the other; `texts` says how many each has (not 0).
    /// Returns the logits behind the last token of each, `[texts, vocabulary]`, f32.
    pub(super) fn forward(&self, tokens: &[u32], texts: &mut [(&mut Memory, usize)]) -> Result<Tensor> {
        let fill = filled(tokens.len()) - tokens.len();
        let ids: Vec<u32> = tokens.iter().copied().chain(std::iter::repeat_n(0, fill)).collect();
        let places = texts.iter().flat_map(|(memory, n)| memory.len()..memory.len() + n).map(|place| place as u32);
        let places: Vec<u32> = places.chain(std::iter::repeat_n(0, fill)).collect();
        let places = Tensor::new(places, &self.device)?;
        let rotation = (self.cos.index_select(&places, 0)?.unsqueeze(1)?, self.sin.index_select(&places, 0)?.unsqueeze(1)?);
        let mut x = self.embedding.embedding(&Tensor::new(ids, &self.device)?)?; // [rows, width]
        for (i, block) in self.blocks.iter().enumerate() {
            let mixed = self.attention(i, &block.attention_norm.forward(&x)?, &rotation, texts)?;
            x = (x + block.out.forward(&mixed)?)?;
            let y = block.mlp_norm.forward(&x)?;
            x = (x + block.down.forward(&(silu(&block.gate.forward(&y)?)? * block.up.forward(&y)?)?)?)?;
        }
        let mut last = Vec::with_capacity(filled(texts.len()));
        let mut end = 0;
        for (memory, n) in texts.iter_mut() {
            memory.advance(*n);
            end += *n;
            last.push(end as u32 - 1);
        }
        last.resize(filled(texts.len()), 0);
        let x = self.norm.forward(&x.index_select(&Tensor::new(last, &self.device)?, 0)?)?;
        // products with quantized weights take what is not a number for 0
        if !x.abs()?.sum_all()?.to_scalar::<f32>()?.is_finite() {
            candle_core::bail!("it computes what is not a number: its weights are broken: fetch it again");
        }
        self.head.forward(&x)?.narrow(0, 0, texts.len())
    }

    /// Rows `[rows, width]`, normalized → what every token takes from its text, `[rows, heads · head width]`.
    fn attention(&self, block: usize, x: &Tensor, rotation: &(Tensor, Tensor), texts: &mut [(&mut Memory, usize)]) -> Result<Tensor> {
        let layer = &self.blocks[block];
        let rows = x.dim(0)?;
        let split = |y: Tensor, heads: usize| y.reshape((rows, heads, 1, self.head_width));
        let mut query = split(layer.query.forward(x)?, self.heads)?;
        let mut key = split(layer.key.forward(x)?, self.key_heads)?;
        let value = layer.value.forward(x)?.reshape((rows, self.key_heads, self.head_width))?;
        if let Some((query_norm, key_norm)) = &layer.head_norms {
            (query, key) = (query_norm.forward(&query)?, key_norm.forward(&key)?);
        }
        let rotate = if self.neighbors { rope_i } else { rope };
        let query = rotate(&query, &rotation.0, &rotation.1)?.squeeze(2)?; // [rows, heads, head width]
        let key = rotate(&key, &rotation.0, &rotation.1)?.squeeze(2)?; // [rows, key heads, head width]
        let mut mixed = Vec::with_capacity(texts.len() + 1);
        let mut start = 0;
        for (memory, n) in texts.iter_mut() {
            let own = |t: &Tensor| t.narrow(0, start, *n)?.transpose(0, 1)?.contiguous(); // [heads, n, head width]
            let before = memory.len();
            let (keys, values) = memory.extend(block, &own(&key)?, &own(&value)?)?;
            mixed.push(self.attend(&own(&query)?, &keys, &values, before)?);
            start += *n;
        }
        if start < rows {
            mixed.push(Tensor::zeros((rows - start, self.heads * self.head_width), x.dtype(), &self.device)?);
        }
        Tensor::cat(&mixed, 0)
    }

    /// softmax(Q Kᵀ / √width) V for n tokens of one text; heads that share a key are rows of one product. Q `[heads, n, width]`,
    /// K and V `[key heads, all, width]` → `[n, heads · width]`.
    fn attend(&self, query: &Tensor, keys: &Tensor, values: &Tensor, before: usize) -> Result<Tensor> {
        let (heads, n, width) = query.dims3()?;
        let all = keys.dim(1)?;
        let shared = (self.key_heads, heads / self.key_heads * n, width);
        let mut scores = (query.reshape(shared)?.matmul(&keys.t()?)? / (width as f64).sqrt())?; // [key heads, shared, all]
        if n > 1 {
            // no token sees what comes behind it
            let mask: Vec<f32> = (0..n * all).map(|i| if i % all > before + i / all { f32::NEG_INFINITY } else { 0.0 }).collect();
            let mask = Tensor::from_vec(mask, (n, all), &self.device)?;
            scores = scores.reshape((heads, n, all))?.broadcast_add(&mask)?.reshape((shared.0, shared.1, all))?;
        }
        let mixed = softmax_last_dim(&scores)?.matmul(values)?;
        mixed.reshape((heads, n, width))?.transpose(0, 1)?.reshape((n, heads * width))
    }
}

impl Block {
    fn read(file: &mut Gguf, i: usize, epsilon: f32, device: &Device) -> Result<Self> {
        let qwen3 = file.family == "qwen3";
        let mut norm = |name: &str| {
            let weight = file.tensor(&format!("blk.{i}.{name}.weight"), device)?.dequantize(device)?;
            Ok::<_, candle_core::Error>(RmsNorm { weight, epsilon })
        };
        let (attention_norm, mlp_norm) = (norm("attn_norm")?, norm("ffn_norm")?);
        let head_norms = if qwen3 { Some((norm("attn_q_norm")?, norm("attn_k_norm")?)) } else { None };
        let mut linear = |name: &str| {
            let bias = format!("blk.{i}.{name}.bias");
            let bias = if file.has(&bias) { Some(file.tensor(&bias, device)?.dequantize(device)?) } else { None };
            Linear::new(Arc::new(file.tensor(&format!("blk.{i}.{name}.weight"), device)?), bias)
        };
        Ok(Self {
            attention_norm,
            query: linear("attn_q")?,
            key: linear("attn_k")?,
            value: linear("attn_v")?,
            head_norms,
            out: linear("attn_output")?,
            mlp_norm,
            gate: linear("ffn_gate")?,
            up: linear("ffn_up")?,
            down: linear("ffn_down")?,
        })
    }
}

/// cos and sin of place · base^(-2i / width) / factor, `[positions, width / 2]`; Llama 3.1 and later divide each frequency by a number
/// of their own.
fn rotations(file: &mut Gguf, width: usize, device: &Device) -> Result<(Tensor, Tensor)> {
    let (base, factor) = (file.real("rope.freq_base").unwrap_or(10_000.0), file.rotation_factor());
    let mut frequencies: Vec<f32> = (0..width / 2).map(|i| 1.0 / base.powf(2.0 * i as f32 / width as f32) / factor).collect();
    if file.has("rope_freqs.weight") {
        let divisors = file.tensor("rope_freqs.weight", device)?.dequantize(device)?.flatten_all()?.to_vec1::<f32>()?;
        frequencies.iter_mut().zip(divisors).for_each(|(frequency, divisor)| *frequency /= divisor);
    }
    let places: Vec<f32> = (0..file.context()).map(|place| place as f32).collect();
    let angles = Tensor::new(places, device)?.unsqueeze(1)?.matmul(&Tensor::new(frequencies, device)?.unsqueeze(0)?)?;
    Ok((angles.cos()?, angles.sin()?))
}
