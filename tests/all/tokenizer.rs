//! Tokenizer ids against transformers' CLIPTokenizer and open_clip's SimpleTokenizer (tests/fixtures/tokenizer.py).

use std::path::{Path, PathBuf};

use crate::common::test_data;
use lafter::clip::Tokenizer;
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer").join(name)
}

struct Expected {
    json: Value,
    texts: Vec<String>,
    context: usize,
}

impl Expected {
    fn read() -> Self {
        let json: Value = serde_json::from_slice(&std::fs::read(fixture("expected.json")).unwrap()).unwrap();
        let texts = json["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_string()).collect();
        let context = json["context"].as_u64().unwrap() as usize;
        Self { json, texts, context }
    }

    fn ids(value: &Value) -> Vec<Vec<u32>> {
        serde_json::from_value(value.clone()).unwrap()
    }
}

/// Compares text by text, so that a failure names the text.
fn compare(tokenizer: &Tokenizer, texts: &[String], expected: &[Vec<u32>]) {
    let tokens = tokenizer.encode(texts).unwrap();
    assert_eq!((tokens.ids.len(), texts.len()), (texts.len(), expected.len()));
    for ((text, ids), expected) in texts.iter().zip(&tokens.ids).zip(expected) {
        assert_eq!(ids, expected, "{text:?}");
    }
}

#[test]
fn ids_equal_transformers_from_every_kind_of_file() {
    let expected = Expected::read();
    let ids = Expected::ids(&expected.json["transformers"]);
    for folder in ["json", "files", "openai"] {
        let tokenizer = Tokenizer::from_dir(fixture(folder), expected.context).unwrap();
        assert_eq!((tokenizer.start(), tokenizer.end(), tokenizer.context()), (638, 639, 16));
        compare(&tokenizer, &expected.texts, &ids);
        tokenizer.check_vocabulary(640).unwrap();
        let error = tokenizer.check_vocabulary(639).unwrap_err().to_string();
        assert!(error.contains("up to 639") && error.contains("knows 639"), "{error}");
    }
}

#[test]
fn ids_equal_open_clip_s_own_tokenizer() {
    let expected = Expected::read();
    let ids = Expected::ids(&expected.json["open_clip"]);
    let tokenizer = Tokenizer::from_dir(fixture("openai"), expected.context).unwrap();
    // open_clip spells out a special token's name inside a text where transformers reads it as the token
    let plain = |text: &&String| !text.contains("<|");
    let rows: Vec<Vec<u32>> = expected.texts.iter().zip(ids).filter(|(text, _)| plain(text)).map(|(_, ids)| ids).collect();
    let texts: Vec<String> = expected.texts.iter().filter(plain).cloned().collect();
    assert_eq!(texts.len() + 1, expected.texts.len());
    compare(&tokenizer, &texts, &rows);
}

#[test]
#[ignore = "needs LAFTER_TEST_DATA, see tests/README.md"]
fn ids_equal_transformers_on_mini_clip() {
    let expected = Expected::read();
    let tokenizer = Tokenizer::from_dir(test_data("mini-clip"), expected.json["mini_clip"]["context"].as_u64().unwrap() as usize).unwrap();
    tokenizer.check_vocabulary(6144).unwrap();
    compare(&tokenizer, &expected.texts, &Expected::ids(&expected.json["mini_clip"]["ids"]));
}

#[test]
fn long_texts_are_cut_and_counted_and_keep_their_end() {
    let tokenizer = Tokenizer::from_dir(fixture("json"), 6).unwrap();
    let tokens = tokenizer.encode(&["a photo of a river of water", "a cat", "a photo of a", ""]).unwrap();
    assert_eq!(tokens.cut, 1);
    assert_eq!(tokens.ids.iter().map(Vec::len).collect::<Vec<_>>(), [6, 4, 6, 2]);
    assert!(tokens.ids.iter().all(|ids| ids.first() == Some(&638) && ids.last() == Some(&639)));
    let (values, shape) = tokens.padded(639, Some(8)).unwrap();
    assert_eq!((values.len(), shape), (32, [4, 8]));
    assert_eq!(tokens.padded(0, None).unwrap().1, [4, 6]);
    assert!(tokens.padded(0, Some(5)).is_err());
    assert_eq!(tokenizer.encode(&Vec::<String>::new()).unwrap().padded(0, None).unwrap().1, [0, 0]);
}

#[test]
fn texts_are_cleaned_before_they_become_ids() {
    let tokenizer = Tokenizer::from_dir(fixture("json"), 32).unwrap();
    for (given, plain) in [
        ("\u{2018}it\u{2019}s\u{2019} \u{201c}a\u{201d}", "'it's' \"a\""),
        ("it&#39;s a &quot;cat&quot;&nbsp;&amp;amp; a dog", "it's a \"cat\" & a dog"),
        ("a \u{fb01}sh\u{3000}\u{ff21}\u{ff01}", "a fish A!"),
    ] {
        let tokens = tokenizer.encode(&[given, plain]).unwrap();
        assert_eq!(tokens.ids[0], tokens.ids[1], "{given}");
    }
}

/// What transformers before 4.17 saved: `ByteLevel` alone, with which every word but the first gets a stray "Ġ".
#[test]
fn a_tokenizer_json_that_keeps_blanks_gives_way_to_the_older_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut json: Value = serde_json::from_slice(&std::fs::read(fixture("json/tokenizer.json")).unwrap()).unwrap();
    json["pre_tokenizer"] = serde_json::json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true });
    std::fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
    let error = Tokenizer::from_dir(folder.path(), 16).unwrap_err().to_string();
    assert!(error.contains("4.17") && error.contains("add vocab.json and merges.txt") && error.lines().count() == 1, "{error}");
    for name in ["vocab.json", "merges.txt"] {
        std::fs::copy(fixture("files").join(name), folder.path().join(name)).unwrap();
    }
    let tokenizer = Tokenizer::from_dir(folder.path(), 16).unwrap();
    assert!(tokenizer.source().ends_with("vocab.json with merges.txt"), "{}", tokenizer.source());
    assert_eq!(tokenizer.encode(&["a photo of a dog"]).unwrap().ids[0].len(), 7);
}

#[test]
fn faults_are_one_line_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let fail = |part: &str| {
        let error = Tokenizer::from_dir(folder.path(), 16).unwrap_err().to_string();
        assert!(error.contains(part) && error.lines().count() == 1, "{error}");
    };
    fail("looked for tokenizer.json, vocab.json with merges.txt, bpe_simple_vocab_16e6.txt.gz");
    std::fs::write(folder.path().join("bpe_simple_vocab_16e6.txt.gz"), "no archive").unwrap();
    fail("cannot be unpacked");
    std::fs::write(folder.path().join("vocab.json"), "[]").unwrap();
    std::fs::write(folder.path().join("merges.txt"), "#version: 0.2\n").unwrap();
    fail("is not a vocabulary");
    std::fs::write(folder.path().join("vocab.json"), r#"{"a": 0, "a</w>": 1, "<|startoftext|>": 2}"#).unwrap();
    fail("no end-of-text token \"<|endoftext|>\"");
    let whole = std::fs::read_to_string(fixture("json/tokenizer.json")).unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), &whole[..1000]).unwrap();
    fail("is not a tokenizer");
    std::fs::write(folder.path().join("tokenizer.json"), whole.replace("<|endoftext|>", "<|end|>")).unwrap();
    fail("no end-of-text token");
    // a directory may name its own tokens
    std::fs::write(folder.path().join("tokenizer_config.json"), r#"{"eos_token": {"content": "<|end|>"}}"#).unwrap();
    assert_eq!(Tokenizer::from_dir(folder.path(), 16).unwrap().end(), 639);
    assert!(Tokenizer::from_dir(folder.path(), 1).is_err());
    assert_eq!(format!("{:?}", Tokenizer::from_dir(folder.path(), 16).unwrap()), "Tokenizer(640 tokens, context 16)");
}
