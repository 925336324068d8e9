//! The files of a CLIP: configurations, weights, tokenizers, the hub's cache.

use std::path::Path;
use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor};
use image::{Rgb, RgbImage};
use lafter::clip::{ClipLoader, Tokenizer, Weights, hub, read_tensors};
use lafter::data::{self, OpenOptions};
use lafter::hub::HubOptions;
use lafter::progress::silent;
use lafter::{Clip, Result};

use crate::torch_file::{self, Item, flat, nested};
use crate::{Form, Loader, fixture, root, write};

/// A small CLIP of the fixtures, loaded once.
pub fn clip() -> &'static Clip {
    static CLIP: OnceLock<Clip> = OnceLock::new();
    CLIP.get_or_init(|| {
        let folder = root().join("clip");
        quick().into_iter().for_each(|(name, bytes)| write(&folder.join(name), &bytes));
        Clip::from_dir(folder).expect("the fixture")
    })
}

/// The files of that CLIP.
fn quick() -> Vec<(&'static str, Vec<u8>)> {
    let names = ["config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"];
    names.into_iter().map(|name| (name, fixture(&format!("parity/quick/{name}")))).collect()
}

/// A picture that is neither square nor flat.
pub fn picture() -> RgbImage {
    RgbImage::from_fn(21, 30, |x, y| Rgb([10 * x as u8, 7 * y as u8, (x * y) as u8]))
}

pub fn assert_finite(tensor: &Tensor, what: &str) -> Result<()> {
    let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    assert!(values.iter().all(|value| value.is_finite()), "{what} not finite");
    Ok(())
}

/// Both towers of what was accepted.
fn works(clip: &Clip) -> Result<()> {
    let texts = clip.encode_text(&["a photo of a dog", "a é 日本, and so on, and so on, and so on"])?;
    assert_eq!(texts.dims(), [2, clip.config().projection]);
    assert_finite(&texts, "text features")?;
    let pixels = clip.preprocess().batch(&[picture()], &Device::Cpu)?;
    assert_finite(&pixels, "pixels")?;
    let pictures = clip.encode_image(&pixels)?;
    assert_eq!(pictures.dims(), [1, clip.config().projection]);
    assert_finite(&pictures, "picture features")
}

/// A file of a CLIP's folder, whose other files are `others`; all that is accepted must compute.
fn clip_file(name: &'static str, file: &str, form: Form, seeds: Vec<Vec<u8>>, mut others: Vec<(&'static str, Vec<u8>)>) {
    others.retain(|(name, _)| *name != file);
    Loader { name, inputs: 250, file, form, seeds, others }.check(|folder| works(&ClipLoader::from_dir(folder).load(silent)?));
}

fn open_clip() -> Vec<(&'static str, Vec<u8>)> {
    let names = ["open_clip_config.json", "open_clip_model.safetensors"];
    let files = names.into_iter().map(|name| (name, fixture(&format!("parity/open_clip_quick/{name}"))));
    files.chain([("tokenizer.json", fixture("parity/quick/tokenizer.json"))]).collect()
}

#[test]
fn config_json() {
    clip_file("config_json", "config.json", Form::Json, vec![fixture("parity/quick/config.json")], quick());
}

#[test]
fn open_clip_config_json() {
    clip_file(
        "open_clip_config_json",
        "open_clip_config.json",
        Form::Json,
        vec![fixture("parity/open_clip_quick/open_clip_config.json")],
        open_clip(),
    );
}

#[test]
fn preprocessor_config_json() {
    let newer = br#"{"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}, "resample": 3, "do_resize": true, "do_center_crop": true,
        "do_rescale": true, "rescale_factor": 0.00392156862745098, "do_normalize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}"#;
    let seeds = vec![fixture("parity/quick/preprocessor_config.json"), newer.to_vec()];
    clip_file("preprocessor_config_json", "preprocessor_config.json", Form::Json, seeds, quick());
}

#[test]
fn processor_config_json() {
    let seed = br#"{"image_processor": {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}, "resample": 3,
        "do_convert_rgb": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}, "processor_class": "CLIPProcessor"}"#;
    let mut others = quick();
    others.retain(|(name, _)| *name != "preprocessor_config.json");
    clip_file("processor_config_json", "processor_config.json", Form::Json, vec![seed.to_vec()], others);
}

#[test]
fn tokenizer_json() {
    clip_file("tokenizer_json", "tokenizer.json", Form::Json, vec![fixture("tokenizer/json/tokenizer.json")], quick());
}

/// A tokenizer by itself: its ids must lie within the vocabulary that it was checked against.
fn tokenizer(name: &'static str, file: &str, form: Form, others: Vec<(&'static str, Vec<u8>)>, seed: Vec<u8>) {
    Loader { name, inputs: 250, file, form, seeds: vec![seed], others }.check(|folder| {
        let (context, vocabulary) = (16, 640);
        let tokenizer = Tokenizer::from_dir(folder, context)?;
        tokenizer.check_vocabulary(vocabulary)?;
        let texts = ["a photo of a dog", "", "é 日本 e\u{301}", &"long ".repeat(50)];
        let tokens = tokenizer.encode(&texts)?;
        let (ids, [rows, length]) = tokens.padded(0, None)?;
        assert!(rows == texts.len() && length <= context, "{rows} rows of {length} tokens");
        assert!(ids.iter().all(|id| (*id as usize) < vocabulary), "ids beyond the vocabulary");
        Ok(())
    });
}

#[test]
fn vocab_json() {
    tokenizer(
        "vocab_json",
        "vocab.json",
        Form::Json,
        vec![("merges.txt", fixture("tokenizer/files/merges.txt"))],
        fixture("tokenizer/files/vocab.json"),
    );
}

#[test]
fn merges_txt() {
    tokenizer(
        "merges_txt",
        "merges.txt",
        Form::Lines,
        vec![("vocab.json", fixture("tokenizer/files/vocab.json"))],
        fixture("tokenizer/files/merges.txt"),
    );
}

#[test]
fn merge_list_gz() {
    let file = "bpe_simple_vocab_16e6.txt.gz";
    tokenizer("merge_list_gz", file, Form::Bytes, vec![], fixture("tokenizer/openai/bpe_simple_vocab_16e6.txt.gz"));
}

/// Weights by themselves: every number finite, every shape as the configuration says.
fn weights(name: &'static str, file: &str, form: Form, seeds: Vec<Vec<u8>>, mut others: Vec<(&'static str, Vec<u8>)>) {
    others.extend([("config.json", fixture("parity/micro/config.json")), ("tokenizer.json", fixture("tokenizer/json/tokenizer.json"))]);
    Loader { name, inputs: 400, file, form, seeds, others }.check(|folder| {
        let json = serde_json::from_slice(&fixture("parity/micro/config.json")).expect("the fixture");
        let weights = Weights::load(folder, DType::F32, &Device::Cpu)?;
        weights.check(&lafter::clip::ClipConfig::from_transformers(&json)?)?;
        assert!(weights.log_scale()?.is_finite(), "scale not finite");
        weights.names().filter_map(|name| weights.get(name)).try_for_each(|tensor| assert_finite(tensor, "weights"))
    });
}

#[test]
fn safetensors() {
    let seeds = ["micro", "micro_f16", "micro_bf16"].map(|name| fixture(&format!("parity/{name}/model.safetensors")));
    weights("safetensors", "model.safetensors", Form::Safetensors, seeds.to_vec(), vec![]);
}

/// What PyTorch writes: weights alone, a training's checkpoint, a whole module, TorchScript.
#[test]
fn pickle() {
    let folder = root().join("pickle-seeds");
    let (file, micro) = (folder.join("model.safetensors"), fixture("parity/micro/model.safetensors"));
    write(&file, &micro);
    let mut tensors: Vec<(String, Tensor)> = read_tensors(&file, &Device::Cpu).expect("the fixture").0.into_iter().collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let checkpoint = Item::Map(vec![("epoch".into(), Item::Number(7)), ("state_dict".into(), flat(&tensors, "module."))]);
    let forms = [(checkpoint, &[][..]), (nested(&tensors, false), &[]), (nested(&tensors, true), &[("constants.pkl", &b"\x80\x02)."[..])])];
    let written = forms.iter().map(|(value, extra)| {
        torch_file::write(&folder.join("seed"), value, extra);
        std::fs::read(folder.join("seed")).expect("a seed")
    });
    let seeds = [fixture("parity/micro_bin/pytorch_model.bin")].into_iter().chain(written).collect();
    weights("pickle", "pytorch_model.bin", Form::Zip, seeds, vec![]);
}

#[test]
fn shard_index() {
    let shards = ["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"];
    let others = shards.map(|name| (name, fixture(&format!("parity/micro_sharded/{name}")))).to_vec();
    let file = "model.safetensors.index.json";
    weights("shard_index", file, Form::Json, vec![fixture(&format!("parity/micro_sharded/{file}"))], others);
}

/// Any safetensors file, as `lafter embed` writes them.
#[test]
fn tensors() {
    let seeds = vec![fixture("parity/text_classifier.safetensors"), fixture("parity/micro/expected.safetensors")];
    Loader { name: "tensors", inputs: 400, file: "embedded.safetensors", form: Form::Safetensors, seeds, others: vec![] }.check(|folder| {
        let (tensors, _) = read_tensors(folder.join("embedded.safetensors"), &Device::Cpu)?;
        let size = std::fs::metadata(folder.join("embedded.safetensors")).map_or(0, |file| file.len() as usize);
        let held: usize = tensors.values().map(|tensor| tensor.elem_count() * tensor.dtype().size_in_bytes()).sum();
        assert!(held <= size, "more values than the file has");
        Ok(())
    });
}

fn cache(folder: &Path) -> HubOptions {
    HubOptions { endpoint: "http://127.0.0.1:9".into(), cache: folder.into(), token: None, offline: true, retries: 0 }
}

/// A cache with one model and one data set.
fn cached() -> Vec<(&'static str, Vec<u8>)> {
    let snapshot = [
        "models--a--clip/snapshots/abc/config.json",
        "models--a--clip/snapshots/abc/model.safetensors",
        "models--a--clip/snapshots/abc/preprocessor_config.json",
        "models--a--clip/snapshots/abc/tokenizer.json",
    ];
    let data = [
        ("models--a--clip/refs/main", b"abc".to_vec()),
        ("datasets--a--set/refs/main", b"abc".to_vec()),
        ("datasets--a--set/snapshots/abc/data/train-00000-of-00001.parquet", fixture("data/plain.parquet")),
        ("datasets--a--set/snapshots/abc/README.md", CARD.into()),
    ];
    snapshot.into_iter().zip(quick()).map(|(path, (_, bytes))| (path, bytes)).chain(data).collect()
}

const CARD: &str = "---\nlicense: mit\ndataset_info:\n  features:\n  - name: image\n    dtype: image\n  - name: label\n    dtype:\n      class_label:\n        names:\n          '0': house\n          '1': fish\n          '2': boat\n  splits:\n  - name: train\n---\n# A set\n";

fn inside(folder: &Path, found: &Path) {
    let inside = found.canonicalize().is_ok_and(|found| found.starts_with(folder.canonicalize().unwrap_or_default()));
    assert!(inside, "a folder outside the cache: {}", found.display());
}

/// What a cached branch leads to: never a folder outside the cache.
#[test]
fn hub_reference() {
    let mut others = cached();
    others.retain(|(name, _)| *name != "models--a--clip/refs/main");
    let loader = Loader {
        name: "hub_reference",
        inputs: 400,
        file: "models--a--clip/refs/main",
        form: Form::Lines,
        seeds: vec![b"abc\n".to_vec()],
        others,
    };
    loader.check(|folder| {
        inside(folder, &hub::download_with(&cache(folder), "a/clip", None, &mut |_| {})?);
        Ok(())
    });
}

/// The name of something: refused, or looked for in the cache, never anywhere else.
fn named(name: &'static str, seeds: &[&str], open: impl Fn(HubOptions, &str) -> Result<()> + Send + Sync) {
    let seeds = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    Loader { name, inputs: 300, file: "name", form: Form::Lines, seeds, others: cached() }
        .check(|folder| open(cache(folder), &String::from_utf8_lossy(&std::fs::read(folder.join("name")).unwrap_or_default())));
}

#[test]
fn hub_model() {
    named("hub_model", &["a/clip"], |cache, name| {
        inside(&cache.cache, &hub::download_with(&cache, name, None, &mut |_| {})?);
        Ok(())
    });
}

#[test]
fn hub_revision() {
    named("hub_revision", &["main"], |cache, name| {
        inside(&cache.cache, &hub::download_with(&cache, "a/clip", Some(name), &mut |_| {})?);
        Ok(())
    });
}

#[test]
fn hub_data() {
    named("hub_data", &["hf:a/set", "hf:a/set@main:train", "hf:a/set/data"], |cache, name| {
        if name.starts_with("hf:") {
            crate::data::right(&data::open(name, &OpenOptions { hub: Some(cache), ..Default::default() })?)?;
        }
        Ok(())
    });
}

/// The README.md of a data set's repository.
#[test]
fn data_card() {
    let path = "datasets--a--set/snapshots/abc/README.md";
    let mut others = cached();
    others.retain(|(name, _)| *name != path);
    let loader = Loader { name: "data_card", inputs: 300, file: path, form: Form::Lines, seeds: vec![CARD.into()], others };
    loader.check(|folder| crate::data::right(&data::open("hf:a/set", &OpenOptions { hub: Some(cache(folder)), ..Default::default() })?));
}
