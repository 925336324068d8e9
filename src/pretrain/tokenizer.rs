//! A small tokenizer of CLIP's kind, learned from texts: lower case, bytes, pair merges inside words.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use crate::clip::byte_letters;
use crate::error::Result;
use crate::progress::check_interrupt;

/// CLIP's start of text.
pub const START: &str = "<|startoftext|>";
/// CLIP's end of text: the token whose feature is the text's.
pub const END: &str = "<|endoftext|>";

/// CLIP's split into words: contractions, runs of letters, single digits, runs of anything else.
const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Learns byte-pair merges (Sennrich et al. 2016, algorithm 1) and returns a `tokenizer.json`.
///
/// The vocabulary is CLIP's in small: 256 bytes, the same 256 at the end of a word (`</w>`), one entry per merge, start
/// and end of text, so any text can be tokenized. Merging stops at `vocabulary` entries or when no pair occurs twice.
/// Ties go to the pair that comes first in order, so the same texts give the same file. (The trainer of `tokenizers` does not
/// promise that: the ids of letters at the end of a word, which decide its ties, come in the order of a hash map.)
///
/// ```
/// let json = lafter::pretrain::train_tokenizer(["a red car", "a red boat"], 1024)?;
/// assert!(json["model"]["vocab"]["red</w>"].is_u64());
/// # Ok::<(), lafter::Error>(())
/// ```
///
/// # Errors
/// [`Error::Interrupted`](crate::Error::Interrupted).
pub fn train_tokenizer<'a>(texts: impl IntoIterator<Item = &'a str>, vocabulary: usize) -> Result<Value> {
    let alphabet = byte_letters();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for text in texts {
        for word in words(&text.to_lowercase()) {
            *counts.entry(word).or_default() += 1;
        }
    }
    let spell = |word: &String| {
        let mut symbols: Vec<String> = word.bytes().map(|byte| alphabet[byte as usize].to_string()).collect();
        if let Some(last) = symbols.last_mut() {
            last.push_str("</w>");
        }
        symbols
    };
    let mut spelled: Vec<(Vec<String>, usize)> = counts.iter().map(|(word, &n)| (spell(word), n)).collect();

    let mut vocab: Vec<String> = alphabet.iter().map(char::to_string).collect();
    vocab.extend(alphabet.iter().map(|c| format!("{c}</w>")));
    let mut merges: Vec<(String, String)> = Vec::new();
    while vocab.len() + 2 < vocabulary {
        check_interrupt("the tokenizer was not learned, nothing was written")?;
        let mut pairs: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for (symbols, n) in &spelled {
            for pair in symbols.windows(2) {
                *pairs.entry((&pair[0], &pair[1])).or_default() += n;
            }
        }
        // `max_by_key` takes the last of equals, so count down to prefer the first
        let best = pairs.into_iter().rev().max_by_key(|(_, n)| *n);
        let Some(((left, right), 2..)) = best else { break };
        let (left, right) = (left.to_string(), right.to_string());
        for (symbols, _) in &mut spelled {
            merge(symbols, &left, &right);
        }
        vocab.push(format!("{left}{right}"));
        merges.push((left, right));
    }
    vocab.push(START.into());
    vocab.push(END.into());
    let ids: serde_json::Map<String, Value> = vocab.into_iter().enumerate().map(|(id, token)| (token, json!(id))).collect();
    Ok(layout(ids, &merges))
}

/// Joins each neighboring `left`, `right`.
fn merge(symbols: &mut Vec<String>, left: &str, right: &str) {
    let mut i = 0;
    while i + 1 < symbols.len() {
        if symbols[i] == left && symbols[i + 1] == right {
            let tail = symbols.remove(i + 1);
            symbols[i].push_str(&tail);
        }
        i += 1;
    }
}

/// The words of [`WORDS`] for plain English text: letters, single digits, runs of other signs.
fn words(text: &str) -> Vec<String> {
    let kind = |c: char| {
        if c.is_alphabetic() {
            0
        } else if c.is_numeric() {
            1
        } else {
            2
        }
    };
    let mut words: Vec<String> = Vec::new();
    for chunk in text.split_whitespace() {
        let mut last = None;
        for c in chunk.chars() {
            match words.last_mut() {
                Some(word) if last == Some(kind(c)) && kind(c) != 1 => word.push(c),
                _ => words.push(c.to_string()),
            }
            last = Some(kind(c));
        }
    }
    words
}

/// The file as the `tokenizers` library reads it.
fn layout(vocab: serde_json::Map<String, Value>, merges: &[(String, String)]) -> Value {
    let special = |content: &str| {
        json!({"id": vocab[content], "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let (start, end) = (special(START), special(END));
    let named = |token: &Value| {
        let name = token["content"].clone();
        (name.clone(), json!({"id": name, "ids": [token["id"]], "tokens": [name]}))
    };
    let ((start_name, start_entry), (end_name, end_entry)) = (named(&start), named(&end));
    let piece = |name: &Value| json!({"SpecialToken": {"id": name, "type_id": 0}});
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [start, end],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [piece(&start_name), {"Sequence": {"id": "A", "type_id": 0}}, piece(&end_name)],
            "pair": [piece(&start_name), {"Sequence": {"id": "A", "type_id": 0}}, piece(&end_name),
                     {"Sequence": {"id": "B", "type_id": 0}}, piece(&end_name)],
            "special_tokens": {START: start_entry, END: end_entry},
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": END, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "</w>", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocab, "merges": merges},
    })
}

/// Token ids of texts by a trained tokenizer, cut at `context` with the end kept, and padded with the end.
///
/// # Shapes
/// n texts → n rows of `context` ids, and the position of each row's end.
pub(super) fn encode(tokenizer: &tokenizers::Tokenizer, texts: &[String], context: usize) -> Result<(Vec<Vec<u32>>, Vec<usize>)> {
    let end = tokenizer.token_to_id(END).unwrap_or_default();
    let mut cache: HashMap<&str, Vec<u32>> = HashMap::new();
    let (mut rows, mut ends) = (Vec::with_capacity(texts.len()), Vec::with_capacity(texts.len()));
    for text in texts {
        if !cache.contains_key(text.as_str()) {
            let encoding = tokenizer.encode_fast(text.as_str(), true).map_err(|e| crate::Error::Tokenizer(e.to_string()))?;
            cache.insert(text, encoding.get_ids().to_vec());
        }
        let mut ids = cache[text.as_str()].clone();
        ids.truncate(context);
        if let Some(last) = ids.last_mut() {
            *last = end;
        }
        ends.push(ids.len().saturating_sub(1));
        rows.push(ids);
    }
    // as long as the longest text of the batch
    let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
    rows.iter_mut().for_each(|row| row.resize(longest, end));
    Ok((rows, ends))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_tokenized_and_whole_words_become_one_token() {
        let json = train_tokenizer(["a red car, a red boat", "a red car"], 1024).unwrap();
        let tokenizer: tokenizers::Tokenizer = json.to_string().parse().unwrap();
        let known = tokenizer.encode("A  red CAR", true).unwrap();
        assert_eq!(known.get_tokens(), [START, "a</w>", "red</w>", "car</w>", END]);
        let strange = tokenizer.encode("été 42 🙂!", true).unwrap();
        let end = tokenizer.token_to_id(END).unwrap();
        assert_eq!(strange.get_ids().iter().filter(|id| **id == end).count(), 1, "unknown bytes in {:?}", strange.get_tokens());
        assert_eq!(end as usize, tokenizer.get_vocab_size(true) - 1);
    }

    #[test]
    fn long_texts_keep_their_end() {
        let tokenizer: tokenizers::Tokenizer = train_tokenizer(["a b"], 1024).unwrap().to_string().parse().unwrap();
        let (rows, ends) = encode(&tokenizer, &["a b a b a b a b".into(), "a".into()], 5).unwrap();
        let end = tokenizer.token_to_id(END).unwrap();
        assert_eq!((rows[0].len(), rows[1].len(), &ends[..]), (5, 5, &[4, 2][..]));
        assert!(rows.iter().zip(&ends).all(|(row, at)| row[*at] == end));
    }
}
