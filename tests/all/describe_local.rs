//! The local back end against transformers: the same tokens from the same weights, by `cargo test --features llm`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::hub_stub::{Fault, Hub};
use candle_core::Device;
use candle_core::quantized::QTensor;
use candle_core::quantized::gguf_file::{self, Value};
use lafter::describe::generate::{Api, Cleaner, Finish, Generator, LocalModel, Plan, Queries, Request, Settings, describe};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llm").join(name)
}

fn expected() -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(fixture("expected.json")).unwrap()).unwrap()
}

fn ids(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn model(family: &str) -> LocalModel {
    LocalModel::open(fixture(&format!("{family}.gguf")), &Device::Cpu).unwrap()
}

fn completion() -> Settings {
    Settings { api: Api::Completion, stop: Vec::new(), ..Settings::chat() }
}

#[test]
fn the_same_tokens_as_transformers() {
    let expected = expected();
    for family in ["llama", "qwen2", "qwen3"] {
        let (model, expected) = (model(family), &expected[family]);
        for case in expected["cases"].as_array().unwrap() {
            let (prompt, tokens) = (ids(&case["ids"]), ids(&case["tokens"]));
            assert_eq!(model.greedy(&prompt, tokens.len()).unwrap(), tokens, "{family}: {}", case["text"]);
            // the same from the text, through tokenizer, sampling at temperature 0 and back
            let request = Request::new(case["text"].as_str().unwrap(), &completion());
            assert_eq!(model.tokens(&request).unwrap(), prompt, "{family}");
        }
        let first = &expected["cases"][0];
        let settings = Settings { temperature: 0.0, max_tokens: ids(&first["tokens"]).len(), ..completion() };
        let answer = model.generate(&Request::new(first["text"].as_str().unwrap(), &settings)).unwrap();
        assert_eq!((answer.text.as_str(), answer.finish), (expected["decoded"].as_str().unwrap(), Finish::Length));
    }
}

#[test]
fn texts_and_chats_become_the_same_ids() {
    let expected = expected();
    for family in ["llama", "qwen2", "qwen3"] {
        let (model, expected) = (model(family), &expected[family]);
        for (text, wanted) in expected["texts"].as_object().unwrap() {
            let mut got = model.tokens(&Request::new(text, &completion())).unwrap();
            if family == "llama" {
                got.remove(0); // begin of text
            }
            assert_eq!(got, ids(wanted), "{family}: {text:?}");
        }
        assert!(model.has_chat_template());
        let chat = model.tokens(&Request::new(" Describe {{ an owl }}. ", &Settings::chat())).unwrap();
        assert_eq!(chat, ids(&expected["chat_ids"]), "{family}: {}", expected["chat"]);
    }
}

#[test]
fn a_tokenizer_beside_the_file_comes_first() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("qwen2.gguf"), dir.path().join("m.gguf")).unwrap();
    std::fs::copy(fixture("qwen2.tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    let sibling = LocalModel::open(dir.path().join("m.gguf"), &Device::Cpu).unwrap();
    for (text, wanted) in expected()["qwen2"]["texts"].as_object().unwrap() {
        assert_eq!(sibling.tokens(&Request::new(text, &completion())).unwrap(), ids(wanted));
    }
    let json = std::fs::read_to_string(dir.path().join("tokenizer.json")).unwrap();
    let mut other: serde_json::Value = serde_json::from_str(&json).unwrap();
    let words = other["model"]["vocab"].as_object_mut().unwrap();
    let last = words.len() - 1;
    words.values_mut().for_each(|id| *id = (last - id.as_u64().unwrap() as usize).into());
    let other = other.to_string();
    std::fs::write(dir.path().join("tokenizer.json"), other).unwrap();
    let error = LocalModel::open(dir.path().join("m.gguf"), &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json is another model's") && error.contains("remove it"), "{error}");
    std::fs::write(dir.path().join("tokenizer.json"), "{").unwrap();
    let error = LocalModel::open(dir.path().join("m.gguf"), &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json") && error.lines().count() == 1, "{error}");
}

/// A fixture with other metadata.
fn with_metadata(folder: &Path, family: &str, change: impl FnOnce(&mut HashMap<String, Value>)) -> lafter::Result<LocalModel> {
    let mut file = std::fs::File::open(fixture(&format!("{family}.gguf"))).unwrap();
    let mut content = gguf_file::Content::read(&mut file).unwrap();
    let names: Vec<String> = content.tensor_infos.keys().cloned().collect();
    let tensors: Vec<_> = names.iter().map(|name| (name.as_str(), content.tensor(&mut file, name, &Device::Cpu).unwrap())).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    change(&mut content.metadata);
    let metadata: Vec<(&str, &Value)> = content.metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let path = folder.join("m.gguf");
    gguf_file::write(&mut std::fs::File::create(&path).unwrap(), &metadata, &tensors).unwrap();
    LocalModel::open(path, &Device::Cpu)
}

#[test]
fn words_are_split_as_the_file_says() {
    let dir = tempfile::tempdir().unwrap();
    let ids = |pre: &str, text: &str| {
        let model = with_metadata(dir.path(), "qwen2", |metadata| {
            metadata.insert("tokenizer.ggml.pre".into(), Value::String(pre.into()));
        });
        model.unwrap().tokens(&Request::new(text, &completion())).unwrap()
    };
    let text = "A cat, 12 long-haired cats (small).\nIt's 3.";
    assert_eq!(ids("deepseek-r1-qwen", text), ids("qwen2", text));
    let other = with_metadata(dir.path(), "qwen2", |metadata| drop(metadata.remove("tokenizer.ggml.pre")));
    assert!(other.unwrap_err().to_string().contains("put the model's tokenizer.json next to it"));
}

#[test]
fn llama_3_keeps_whole_words_whatever_the_merges_say() {
    let dir = tempfile::tempdir().unwrap();
    let model = with_metadata(dir.path(), "llama", |metadata| {
        let mut set = |key: &str, value: Value| match metadata.get_mut(key) {
            Some(Value::Array(tokens)) => tokens[317] = value, // in place of a mark
            _ => panic!("{key}"),
        };
        set("tokenizer.ggml.tokens", Value::String("qzxvw".into()));
        set("tokenizer.ggml.token_type", Value::I32(1));
    });
    let ids = model.unwrap().tokens(&Request::new("qzxvw", &completion())).unwrap();
    assert_eq!(ids[1..], [317]);
}

#[test]
fn marks_of_thoughts_are_text_and_other_marks_are_not() {
    let dir = tempfile::tempdir().unwrap();
    for (kind, mark, shown) in [(4, "</think>", true), (3, "</think>", true), (3, "<|pad|>", false), (4, "<tool>", true)] {
        let id = 318; // in place of a mark
        let model = with_metadata(dir.path(), "qwen2", |metadata| {
            let Some(Value::Array(tokens)) = metadata.get_mut("tokenizer.ggml.tokens") else { panic!() };
            tokens[id] = Value::String(mark.into());
            let mut types = vec![Value::I32(1); tokens.len()];
            types[id] = Value::I32(kind);
            metadata.insert("tokenizer.ggml.token_type".into(), Value::Array(types));
        });
        let model = model.unwrap();
        assert_eq!(model.tokens(&Request::new(mark, &completion())).unwrap(), [id as u32], "{mark}");
        assert_eq!(model.text(&[id as u32]).unwrap() == mark, shown, "{kind} {mark}");
    }
}

#[test]
fn a_chat_template_that_fails_or_leaves_the_query_out_says_what_helps() {
    let dir = tempfile::tempdir().unwrap();
    for (template, word) in [("{{ raise_exception('no way') }}", "no way"), ("Say something.", "leaves the query out")] {
        let model = with_metadata(dir.path(), "qwen2", |metadata| {
            metadata.insert("tokenizer.chat_template".into(), Value::String(template.into()));
        });
        let error = model.unwrap().tokens(&Request::new("An owl?", &Settings::chat())).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("--api completion") && error.contains("--endpoint"), "{error}");
    }
}

#[test]
fn a_seed_gives_the_same_text_in_any_order() {
    let model = model("qwen3");
    let settings = Settings { max_tokens: 16, top_p: 0.9, ..completion() };
    let request = |completion: usize| Request { completion, ..Request::new("A boat", &settings) };
    let answer = |request: &Request| model.generate(request).unwrap().text;
    let forward: Vec<String> = (0..4).map(|i| answer(&request(i))).collect();
    let backward: Vec<String> = (0..4).rev().map(|i| answer(&request(i))).collect();
    assert_eq!(forward, backward.into_iter().rev().collect::<Vec<_>>());
    assert!(forward[0] != forward[1] && forward[1] != forward[2]);
    let other = Request::new("A boat", &Settings { seed: 8, ..settings.clone() });
    assert_ne!(answer(&other), forward[0]);
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(one.install(|| answer(&request(2))), forward[2]);
}

#[test]
fn answers_end_at_a_stop_and_fit_the_context() {
    let model = model("llama");
    let long = Settings { temperature: 0.0, max_tokens: 20, ..completion() };
    let whole = model.generate(&Request::new("Describe what an owl looks like.", &long)).unwrap().text;
    let middle: String = whole.chars().skip(whole.chars().count() / 2).take(2).collect();
    let stopped = Settings { stop: vec!["never".into(), middle.clone()], ..long.clone() };
    let answer = model.generate(&Request::new("Describe what an owl looks like.", &stopped)).unwrap();
    assert_eq!((answer.text.as_str(), answer.finish), (&whole[..whole.find(&middle).unwrap()], Finish::Stop));
    let error = model.generate(&Request::new("boat ".repeat(300), &long)).unwrap_err();
    assert!(matches!(&error, lafter::Error::Unanswered(why) if why.contains("does not fit")), "{error}");
    for max_tokens in [5000, usize::MAX] {
        let error = model.generate(&Request::new("An owl", &Settings { max_tokens, ..long.clone() })).unwrap_err();
        assert!(matches!(&error, lafter::Error::Llm(why) if why.contains("lower --max-tokens")), "{error}");
    }
    let error = model.greedy(&[1_000_000], 1).unwrap_err().to_string();
    assert!(error.contains("token 1000000 is none of its"), "{error}");
}

#[test]
fn broken_files_are_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let whole = std::fs::read(fixture("llama.gguf")).unwrap();
    let find = |needle: &[u8]| whole.windows(needle.len()).position(|window| window == needle).unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut copy = whole.clone();
        copy[at..at + bytes.len()].copy_from_slice(bytes);
        copy
    };
    let after = |key: &[u8]| find(key) + key.len() + 4;
    let heads = after(b"llama.attention.head_count");
    let kind = after(b"blk.0.attn_q.weight") + 16; // behind the two dimensions
    for (bytes, word) in [
        (b"not a model".to_vec(), "not a GGUF file"),
        (whole[..100].to_vec(), "broken"),
        (whole[..whole.len() - 100].to_vec(), "cut off"),
        (with(find(b"general.architecture") + b"general.architecture".len() + 12, b"gemma"), "gemma"),
        (with(heads, &0u32.to_le_bytes()), "head_count"),
        (with(heads, &3u32.to_le_bytes()), "broken"),
        (with(find(b"gpt2"), b"spm2"), "tokenizer.json"),
        (with(find(b"llama-bpe"), b"llama-xyz"), "\"llama-xyz\"): put the model's tokenizer.json next to it"),
        (with(after(b"llama.embedding_length"), &4096u32.to_le_bytes()), "other sizes"),
        (with(after(b"llama.block_count"), &u32::MAX.to_le_bytes()), "cannot be used"),
        (with(after(b"token_embd.weight"), &(1u64 << 60).to_le_bytes()), "has no end"),
        (with(kind, &23u32.to_le_bytes()), "IQ4_XS, which is not read here"),
        (with(kind, &99u32.to_le_bytes()), "broken"),
        (with(kind + 4, &u64::MAX.to_le_bytes()), "has no end"),
        (with(find(b"blk.1.ffn_up.weight"), b"blk.1.ffn_oh.weight"), "ffn_up"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = LocalModel::open(&path, &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains(word) && error.lines().count() == 1, "\"{error}\" does not say \"{word}\"");
    }
    let mut metadata = gguf_file::Content::read(&mut std::fs::File::open(fixture("llama.gguf")).unwrap()).unwrap().metadata;
    metadata.insert("general.alignment".into(), Value::U32(0));
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    gguf_file::write(&mut std::fs::File::create(&path).unwrap(), &metadata, &[]).unwrap();
    let error = LocalModel::open(&path, &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("broken") && error.lines().count() == 1, "{error}");
    let error = LocalModel::load("no-such.gguf", &Device::Cpu, |_| {}).unwrap_err();
    assert!(error.is_usage());
}

#[test]
fn a_plan_through_the_local_model() {
    let model = model("qwen2");
    let settings = Settings { max_tokens: 12, ..completion() };
    let plan = Plan::new(&["owl", "boat"], Queries::new(["A caption of {article} {}:"]).unwrap(), 2, settings).unwrap();
    match describe(&model, &plan, &Cleaner::default(), |_| {}) {
        Ok((descriptions, collected)) => assert!(descriptions.sentence_count() == collected.counts.kept),
        Err(error) => assert!(error.to_string().contains("none of 4 answers"), "{error}"), // random weights write what they like
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("names.txt"), "owl\nboat\n").unwrap();
    let output = crate::common::program()
        .args(["describe", "--classes"])
        .arg(dir.path().join("names.txt"))
        .arg("--out")
        .arg(dir.path().join("texts.json"))
        .arg("--llm")
        .arg(fixture("qwen2.gguf"))
        .args(["--completions", "1", "--max-tokens", "8", "--api", "completion"])
        .output()
        .unwrap();
    let journal = std::fs::read_to_string(dir.path().join("texts.journal.jsonl")).unwrap();
    assert_eq!(journal.lines().count(), 10, "{}", String::from_utf8_lossy(&output.stderr));
    assert!(journal.contains("qwen2.gguf@"));
}

#[test]
fn a_model_of_the_hub_is_downloaded_once() {
    let dir = tempfile::tempdir().unwrap();
    let files = vec![("m-q4_k_m.gguf", fixture("qwen2.gguf")), ("tokenizer.json", fixture("qwen2.tokenizer.json"))];
    let hub = Hub::start("somebody/tiny-GGUF", files, Fault::None);
    std::fs::write(dir.path().join("names.txt"), "owl\n").unwrap();
    let describe = |out: &str| {
        let mut command = crate::common::program();
        command.current_dir(dir.path()).env("HF_ENDPOINT", &hub.address).env("HF_HUB_CACHE", dir.path().join("hub"));
        command.env("HF_HUB_OFFLINE", "0").env_remove("TRANSFORMERS_OFFLINE");
        command.args(["describe", "--classes", "names.txt", "--llm", "somebody/tiny-GGUF", "--out", out]);
        let output = command.args(["--completions", "1", "--max-tokens", "4", "--api", "completion"]).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let shown = describe("a.json");
    for name in ["downloading m-q4_k_m.gguf", "downloading tokenizer.json"] {
        assert!(shown.contains(name), "{shown}");
    }
    let asked = hub.requests.lock().unwrap().len();
    let again = describe("b.json");
    assert!(!again.contains("downloading") && dir.path().join("b.journal.jsonl").exists(), "{again}");
    assert_eq!(hub.requests.lock().unwrap().len(), asked);
}
