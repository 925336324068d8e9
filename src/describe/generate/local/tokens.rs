//! The tokenizer of a GGUF model: next to the file, or in it.

use std::collections::HashSet;
use std::path::Path;

use candle_core::quantized::gguf_file::Value;
use candle_core::quantized::tokenizer::TokenizerFromGguf;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use super::gguf::Gguf;
use crate::catch_panic::catch_panic;
use crate::describe::generate::thoughts::is_tag;
use crate::error::{Error, Result};

/// Pieces that end an answer in these families, in addition to what the file names.
const ENDS: [&str; 6] = ["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "</s>"];
const PRE: &str = "tokenizer.ggml.pre";
const IGNORE_MERGES: &str = "tokenizer.ggml.ignore_merges";
const TYPES: &str = "tokenizer.ggml.token_type";
const TOKENS: &str = "tokenizer.ggml.tokens";
/// How Mistral's Tekken splits words.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// `tokenizer.json` next to the file, else the byte-pair vocabulary in it.
pub(super) fn tokenizer(path: &Path, file: &mut Gguf) -> Result<Tokenizer> {
    let sibling = path.with_file_name("tokenizer.json");
    if sibling.is_file() {
        let tokenizer =
            Tokenizer::from_file(&sibling).map_err(|e| Error::Llm(format!("{}: {}", sibling.display(), first_line(&e.to_string()))))?;
        let (foreign, all) = foreign(&tokenizer, file);
        if foreign * 100 > all {
            let (sibling, path) = (sibling.display(), path.display());
            return Err(Error::Llm(format!("{sibling} is another model's ({foreign} of {all} tokens are not those of {path}): remove it")));
        }
        return Ok(tokenizer);
    }
    let none = |why: &str| {
        Error::Llm(format!(
            "{} holds no byte-pair tokenizer that is read here ({why}): put the model's tokenizer.json next to it",
            path.display()
        ))
    };
    let pre = file.text(PRE).unwrap_or_default();
    if file.text("tokenizer.ggml.model").is_some_and(|model| model == "gpt2") {
        let (name, whole_words) = known_split(&pre).ok_or_else(|| none(&format!("{PRE} is \"{pre}\"")))?;
        file.content.metadata.insert(PRE.into(), Value::String(name.into()));
        if whole_words {
            file.content.metadata.entry(IGNORE_MERGES.into()).or_insert(Value::Bool(true));
        }
    }
    let added = make_normal(file);
    let built = catch_panic(|| Tokenizer::from_gguf(&file.content));
    let built = built.unwrap_or_else(|| Err(candle_core::Error::msg("it is damaged")));
    let mut tokenizer = built.map_err(|e| none(&Error::from(e).to_string()))?;
    let added: Vec<AddedToken> = added.into_iter().map(|text| AddedToken::from(text, false).normalized(false)).collect();
    tokenizer.add_tokens(added).map_err(|e| none(&first_line(&e.to_string())))?;
    if let Some(split) = own_split(&pre).map_err(|e| none(&first_line(&e.to_string())))? {
        tokenizer.with_pre_tokenizer(Some(split));
    }
    Ok(tokenizer)
}

/// What Candle calls the way to split words that llama.cpp calls `pre`, and whether a whole word that is a token stays one,
/// whatever the merges say. `None` if it is not known here: a wrong split gives wrong tokens, in silence.
fn known_split(pre: &str) -> Option<(&'static str, bool)> {
    match pre {
        "qwen2" | "deepseek-r1-qwen" | "kormo" | "megrez" | "stablelm2" => Some(("qwen2", false)),
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2" | "tekken" => {
            Some(("llama3", true))
        }
        "smaug-bpe" | "dbrx" => Some(("llama3", false)),
        _ if matches!(own_split(pre), Ok(Some(_))) => Some(("gpt-2", false)),
        _ => None,
    }
}

/// The ways to split words that Candle does not know. (Its fallback puts a blank before every text, GPT-2's tokenizers do not.)
fn own_split(pre: &str) -> tokenizers::Result<Option<PreTokenizerWrapper>> {
    let bytes = |words: bool| ByteLevel::new(false, true, words);
    Ok(Some(match pre {
        "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" | "gigachat" | "a.x-4.0" | "mellum" | "exaone4" => bytes(true).into(),
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b" => {
            Sequence::new(vec![Digits::new(true).into(), bytes(true).into()]).into()
        }
        "tekken" => {
            let split = Split::new(SplitPattern::Regex(TEKKEN.into()), SplitDelimiterBehavior::Isolated, false)?;
            Sequence::new(vec![split.into(), bytes(false).into()]).into()
        }
        _ => return Ok(None),
    }))
}

/// The tokens that people added to the words: Candle would take them for special ones, which are no part of a text.
fn make_normal(file: &mut Gguf) -> Vec<String> {
    let is_added = |value: &Value| matches!(value, Value::I32(4) | Value::U32(4));
    let Some(Value::Array(types)) = file.content.metadata.get_mut(TYPES) else { return Vec::new() };
    let mut places = Vec::new();
    for (i, value) in types.iter_mut().enumerate().filter(|(_, value)| is_added(value)) {
        *value = Value::U32(1);
        places.push(i);
    }
    let Some(Value::Array(tokens)) = file.content.metadata.get(TOKENS) else { return Vec::new() };
    places.into_iter().filter_map(|i| tokens.get(i)?.to_string().ok().cloned()).collect()
}

/// How many tokens of a tokenizer are not those of the file, and how many it has. Converters change a few.
fn foreign(tokenizer: &Tokenizer, file: &Gguf) -> (usize, usize) {
    let rows = file.rows("token_embd.weight").unwrap_or(usize::MAX);
    let own: &[Value] = match file.content.metadata.get(TOKENS) {
        Some(Value::Array(tokens)) => tokens,
        _ => &[],
    };
    let other = |id: u32, text: &str| own.get(id as usize).and_then(|own| own.to_string().ok()).is_some_and(|own| own != text);
    let all = tokenizer.get_vocab(true);
    (all.iter().filter(|(text, id)| **id as usize >= rows || other(**id, text)).count(), all.len())
}

/// Tokens that are no part of an answer's text: the special ones, but for those around thoughts, which cleaning looks for.
pub(super) fn hidden(tokenizer: &Tokenizer) -> HashSet<u32> {
    let added = tokenizer.get_added_tokens_decoder();
    added.into_iter().filter(|(_, token)| token.special && !is_tag(&token.content)).map(|(id, _)| id).collect()
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

#[cfg(test)]
mod tests {
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    use super::*;

    #[test]
    fn words_are_split_as_llama_cpp_splits_them() {
        let pieces = |pre: &str| {
            let mut text = PreTokenizedString::from("A longHair cat (12), a.");
            own_split(pre).unwrap().unwrap().pre_tokenize(&mut text).unwrap();
            text.get_splits(OffsetReferential::Original, OffsetType::Byte).iter().map(|piece| piece.0.replace('Ġ', "_")).collect::<Vec<_>>()
        };
        assert_eq!(pieces("gpt-2"), ["A", "_longHair", "_cat", "_(", "12", "),", "_a", "."]);
        assert_eq!(pieces("smollm"), ["A", "_longHair", "_cat", "_(", "1", "2", "),", "_a", "."]);
        assert_eq!(pieces("tekken"), ["A", "_long", "Hair", "_cat", "_(", "1", "2", "),", "_a", "."]);
        assert_eq!((known_split("deepseek-r1-qwen"), known_split("smollm")), (Some(("qwen2", false)), Some(("gpt-2", false))));
        assert_eq!((known_split("gpt-4o"), known_split("")), (None, None));
    }
}
