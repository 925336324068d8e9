//! CLIP's byte-level BPE from older vocabulary files, as the contents of a `tokenizer.json`.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{END, START};
use crate::error::{Error, Result, cut};

/// Merges that CLIP reads from its list (its vocabulary has 512 + 48,894 + 2 = 49,408 ids).
const MERGES: usize = 49_152 - 256 - 2;

/// Words, digits and runs of other marks; the special tokens stay whole.
const PATTERN: &str = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// From `vocab.json`, token to id, and `merges.txt`, one pair per line.
pub(super) fn from_files(vocabulary: &Path, json: &[u8], merges: &Path, lines: &[u8]) -> Result<Vec<u8>> {
    let tokens: Map<String, Value> = serde_json::from_slice(json)
        .map_err(|e| Error::Tokenizer(format!("{} is not a vocabulary ({e}): download it again", vocabulary.display())))?;
    let pairs = pairs(merges, lines)?;
    if let Some(token) = without_merge(&tokens, &pairs) {
        let (vocabulary, merges) = (vocabulary.display(), merges.display());
        return Err(Error::Tokenizer(format!("{merges} lacks the merge that makes {token:?} of {vocabulary}: download both again")));
    }
    Ok(tokenizer_json(tokens, &pairs).to_string().into_bytes())
}

/// A token of several letters that no merge makes, as where the end of a list is missing; special ones (`<pad>`) need none.
fn without_merge<'a>(tokens: &'a Map<String, Value>, merges: &[(String, String)]) -> Option<&'a String> {
    let made: HashSet<String> = merges.iter().map(|(first, second)| format!("{first}{second}")).collect();
    let letters = |token: &str| token.strip_suffix("</w>").filter(|rest| !rest.is_empty()).unwrap_or(token).chars().count();
    let special = |token: &str| token.starts_with('<') && token.ends_with('>');
    tokens.keys().find(|token| letters(token) > 1 && !special(token) && !made.contains(*token))
}

/// From OpenAI's gzipped list of merges alone: the order of the vocabulary is a convention.
pub(super) fn from_merge_list(path: &Path, packed: &[u8]) -> Result<Vec<u8>> {
    Ok(of_merge_list(path, packed)?.to_string().into_bytes())
}

/// The same for transformers, which lets the file put start- and end-of-text around a text and turn ids back into text.
pub(super) fn for_transformers(path: &Path, packed: &[u8], [start, end]: [u32; 2]) -> Result<Vec<u8>> {
    let mut json = of_merge_list(path, packed)?;
    json["post_processor"] =
        json!({ "type": "RobertaProcessing", "sep": [END, end], "cls": [START, start], "trim_offsets": false, "add_prefix_space": false });
    json["decoder"] = json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true });
    Ok(json.to_string().into_bytes())
}

fn of_merge_list(path: &Path, packed: &[u8]) -> Result<Value> {
    let mut lines = Vec::new();
    flate2::read::GzDecoder::new(packed)
        .read_to_end(&mut lines)
        .map_err(|e| Error::Tokenizer(format!("{} cannot be unpacked ({e}): download it again", path.display())))?;
    let mut merges = pairs(path, &lines)?;
    merges.truncate(MERGES);
    let mut letters = byte_letters();
    letters.sort_unstable(); // CLIP's ids: the bytes that print, then the others
    let ends = letters.iter().map(|letter| format!("{letter}</w>"));
    let merged = merges.iter().map(|(first, second)| format!("{first}{second}"));
    let tokens = letters.iter().map(char::to_string).chain(ends).chain(merged).chain([START.to_string(), END.to_string()]);
    let vocabulary = tokens.enumerate().map(|(id, token)| (token, json!(id))).collect();
    Ok(tokenizer_json(vocabulary, &merges))
}

/// The pairs of a list of merges; its first line names the version.
fn pairs(path: &Path, lines: &[u8]) -> Result<Vec<(String, String)>> {
    let text = std::str::from_utf8(lines).map_err(|_| Error::Tokenizer(format!("{} is not UTF-8: download it again", path.display())))?;
    let wanted = text.lines().enumerate().filter(|(i, line)| !(line.is_empty() || *i == 0 && line.contains("#version")));
    wanted
        .map(|(i, line)| {
            let pair = line.split_once(' ').filter(|(_, second)| !second.contains(' '));
            let (first, second) = pair.ok_or_else(|| {
                Error::Tokenizer(format!("{}, line {}: expected two tokens, got {:?}: download it again", path.display(), i + 1, cut(line)))
            })?;
            Ok((first.to_string(), second.to_string()))
        })
        .collect()
}

/// The printable letter of each byte (GPT-2's table): those that print stand for themselves, the others for U+0100 and up.
pub(crate) fn byte_letters() -> [char; 256] {
    let mut next = 0x100;
    std::array::from_fn(|byte| match byte as u8 {
        byte @ (b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) => char::from(byte),
        _ => {
            next += 1;
            char::from_u32(next - 1).unwrap_or_default()
        }
    })
}

fn tokenizer_json(vocabulary: Map<String, Value>, merges: &[(String, String)]) -> Value {
    let special = |token: &str| {
        let id = vocabulary.get(token)?;
        Some(
            json!({ "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true }),
        )
    };
    let added: Vec<Value> = [START, END].into_iter().filter_map(special).collect();
    let normalizers = json!([
        { "type": "NFC" },
        { "type": "Replace", "pattern": { "Regex": r"\s+" }, "content": " " },
        { "type": "Lowercase" },
    ]);
    let pretokenizers = json!([
        { "type": "Split", "pattern": { "Regex": PATTERN }, "behavior": "Removed", "invert": true },
        { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
    ]);
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": { "type": "Sequence", "normalizers": normalizers },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": pretokenizers },
        "post_processor": null, "decoder": null,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": END, "continuing_subword_prefix": "", "end_of_word_suffix": "</w>",
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocabulary,
            "merges": merges.iter().map(|(first, second)| json!([first, second])).collect::<Vec<_>>(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_letter_of_its_own() {
        let letters = byte_letters();
        assert_eq!(
            [0, b' ', b'!', 0x7f, 0xa1, 0xad].map(|byte| letters[byte as usize]),
            ['\u{100}', '\u{120}', '!', '\u{121}', '¡', '\u{143}']
        );
        assert_eq!(letters.iter().collect::<std::collections::BTreeSet<_>>().len(), 256);
    }

    #[test]
    fn a_list_of_merges_without_its_end_is_refused() {
        let json = br#"{"a":0,"b":1,"a</w>":2,"b</w>":3,"ab</w>":4,"ba":5,"<|endoftext|>":6}"#;
        let read = |merges: &[u8]| from_files(Path::new("vocab.json"), json, Path::new("merges.txt"), merges).map(drop);
        read(b"#version: 0.2\na b</w>\nb a\n").unwrap();
        let error = read(b"#version: 0.2\na b</w>\n").unwrap_err().to_string();
        assert_eq!(error, "merges.txt lacks the merge that makes \"ba\" of vocab.json: download both again");
    }

    #[test]
    fn a_broken_list_of_merges_names_its_line() {
        let error = pairs(Path::new("merges.txt"), b"#version: 0.2\na b\nc\n").unwrap_err();
        assert_eq!(error.to_string(), "merges.txt, line 3: expected two tokens, got \"c\": download it again");
    }
}
