//! The tokenizer of a GGUF model: next to the file, or in it.

use std::path::Path;

use candle_core::quantized::gguf_file::Value;
use candle_core::quantized::tokenizer::TokenizerFromGguf;
use tokenizers::Tokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::gguf::Gguf;
use crate::error::{Error, Result};

/// Pieces that end an answer in these families, in addition to what the file names.
const ENDS: [&str; 6] = ["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "</s>"];
const PRE: &str = "tokenizer.ggml.pre";

/// `tokenizer.json` next to the file, else the byte-pair vocabulary in it.
pub(super) fn tokenizer(path: &Path, file: &mut Gguf) -> Result<Tokenizer> {
    let sibling = path.with_file_name("tokenizer.json");
    if sibling.is_file() {
        return Tokenizer::from_file(&sibling).map_err(|e| Error::Llm(format!("{}: {}", sibling.display(), first_line(&e.to_string()))));
    }
    // llama.cpp calls Llama 3's way to split words "llama-bpe", Candle "llama3"
    let pre = file.text(PRE).unwrap_or_default();
    if pre == "llama-bpe" || pre == "llama-v3" {
        file.content.metadata.insert(PRE.into(), Value::String("llama3".into()));
    }
    let mut tokenizer = Tokenizer::from_gguf(&file.content).map_err(|e| {
        let why = Error::from(e);
        Error::Llm(format!("{} holds no byte-pair tokenizer ({why}): put the model's tokenizer.json next to it", path.display()))
    })?;
    if !matches!(pre.as_str(), "qwen2" | "smaug-bpe" | "lfm2" | "llama3" | "llama-bpe" | "llama-v3") {
        // Candle's fallback puts a blank before every text, GPT-2's tokenizers do not
        tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    }
    Ok(tokenizer)
}

/// Tokens that end an answer.
pub(super) fn ends(file: &Gguf, tokenizer: &Tokenizer) -> Vec<u32> {
    let named = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];
    let named = named.iter().filter_map(|key| file.number(key)).map(|id| id as u32);
    let mut ends: Vec<u32> = named.chain(ENDS.iter().filter_map(|piece| tokenizer.token_to_id(piece))).collect();
    ends.sort_unstable();
    ends.dedup();
    ends
}

/// The token in front of a text: Llama's, unless the file says otherwise; Qwen has none.
pub(super) fn begin(file: &Gguf) -> Option<u32> {
    let wanted = file.flag("tokenizer.ggml.add_bos_token").unwrap_or(file.family == "llama");
    file.number("tokenizer.ggml.bos_token_id").filter(|_| wanted).map(|id| id as u32)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or("unreadable").to_string()
}
