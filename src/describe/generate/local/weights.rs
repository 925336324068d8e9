//! The families behind one `forward`.

use candle_core::{Device, Tensor};
use candle_transformers::models::{quantized_llama, quantized_qwen2, quantized_qwen3};

use super::gguf::Gguf;
use crate::error::{Error, Result};

/// Weights and the key-value cache of one text.
pub(super) enum Weights {
    Llama(quantized_llama::ModelWeights),
    Qwen2(quantized_qwen2::ModelWeights),
    Qwen3(quantized_qwen3::ModelWeights),
}

impl Weights {
    pub(super) fn load(file: Gguf, device: &Device) -> Result<Self> {
        let Gguf { path, content, mut reader, family, .. } = file;
        let loaded = match family.as_str() {
            "qwen2" => quantized_qwen2::ModelWeights::from_gguf(content, &mut reader, device).map(Self::Qwen2),
            "qwen3" => quantized_qwen3::ModelWeights::from_gguf(content, &mut reader, device).map(Self::Qwen3),
            _ => quantized_llama::ModelWeights::from_gguf(content, &mut reader, device).map(Self::Llama),
        };
        loaded.map_err(|e| {
            Error::Llm(format!("{} cannot be used ({}): fetch it again, or choose another file", path.display(), Error::from(e)))
        })
    }

    /// Forgets the text.
    pub(super) fn reset(&mut self) {
        match self {
            Self::Llama(_) => {} // begins anew at position 0
            Self::Qwen2(model) => model.clear_kv_cache(),
            Self::Qwen3(model) => model.clear_kv_cache(),
        }
    }

    /// Tokens [1, n] at positions `place` and behind → logits of the token behind the last, [1, vocabulary] or
    /// [1, 1, vocabulary].
    pub(super) fn forward(&mut self, tokens: &Tensor, place: usize) -> candle_core::Result<Tensor> {
        match self {
            Self::Llama(model) => model.forward(tokens, place),
            Self::Qwen2(model) => model.forward(tokens, place),
            Self::Qwen3(model) => model.forward(tokens, place),
        }
    }
}
