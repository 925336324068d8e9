//! Weights in every layout and kind of file, and what is said if they do not fit.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use lafter::clip::{ClipConfig, Weights};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity").join(name)
}

fn load(name: &str) -> Weights {
    Weights::load(fixture(name), DType::F32, &Device::Cpu).unwrap()
}

fn config(name: &str) -> ClipConfig {
    let read = |file: &str| std::fs::read(fixture(name).join(file)).ok().map(|bytes| serde_json::from_slice(&bytes).unwrap());
    match (read("config.json"), read("open_clip_config.json")) {
        (Some(json), _) => ClipConfig::from_transformers(&json).unwrap(),
        (None, json) => ClipConfig::from_open_clip(&json.unwrap()).unwrap(),
    }
}

/// A folder with a copy of the micro model's files.
fn copy(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in files {
        std::fs::copy(fixture("micro").join(name), folder.path().join(name)).unwrap();
    }
    folder
}

fn fail(folder: &Path) -> String {
    let error = Weights::load(folder, DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

#[test]
fn every_layout_and_file_gives_the_same_tensors() {
    for names in [&["quick", "open_clip_quick"][..], &["micro", "micro_sharded", "micro_bin", "open_clip_gelu"]] {
        let first = load(names[0]);
        let layout = config(names[0]);
        for name in names {
            let weights = load(name);
            weights.check(&layout).unwrap();
            assert_eq!(weights.hash().unwrap(), first.hash().unwrap(), "{name}");
            assert_eq!(weights.names().collect::<Vec<_>>(), first.names().collect::<Vec<_>>());
            assert_eq!(weights.parameter_count(), first.parameter_count());
            assert_eq!(weights.log_scale().unwrap(), 2.5);
        }
        assert!(load(names[names.len() - 1]).names().all(|name| !name.contains("position_ids")));
    }
    assert_ne!(load("quick").hash().unwrap(), load("gelu").hash().unwrap());
    assert_eq!(load("quick").hash().unwrap().len(), 64);
}

#[test]
fn both_configurations_describe_the_same_sizes() {
    let (transformers, open_clip) = (config("quick"), config("open_clip_quick"));
    assert_eq!(transformers, open_clip);
}

#[test]
fn narrow_files_widen_and_wide_files_narrow() {
    for (name, dtype) in [("micro_f16", DType::F16), ("micro_bf16", DType::BF16)] {
        let wide = load(name);
        wide.check(&config(name)).unwrap();
        assert!(wide.names().all(|tensor| wide.get(tensor).unwrap().dtype() == DType::F32));
        let exact = load("micro");
        assert_ne!(wide.hash().unwrap(), exact.hash().unwrap(), "rounded values are other weights");
        // the same base model is recognized whatever dtype it is asked for in
        let narrow = Weights::load(fixture("micro"), dtype, &Device::Cpu).unwrap();
        assert_eq!(narrow.hash().unwrap(), exact.hash().unwrap());
        let key = "visual_projection.weight";
        assert_eq!(narrow.get(key).unwrap().dtype(), dtype);
        let widened = narrow.get(key).unwrap().to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(widened, wide.get(key).unwrap().to_vec2::<f32>().unwrap());
    }
    let doubled = load("micro");
    let tensors = doubled.names().map(|name| (name.to_string(), doubled.get(name).unwrap().to_dtype(DType::F64).unwrap()));
    let narrowed = Weights::from_tensors(tensors, "memory", DType::F32, &Device::Cpu).unwrap();
    assert_eq!(narrowed.hash().unwrap(), doubled.hash().unwrap());
}

#[test]
fn embedded_bytes_load_like_a_file() {
    let bytes = std::fs::read(fixture("micro/model.safetensors")).unwrap();
    let weights = Weights::from_bytes(&bytes, "embedded", DType::F32, &Device::Cpu).unwrap();
    assert_eq!(weights.hash().unwrap(), load("micro").hash().unwrap());
    let shown = format!("{weights:?}");
    assert!(shown.starts_with("Weights(embedded: ") && shown.len() < 80, "{shown}");
}

#[test]
fn missing_files_are_named() {
    let error = fail(&fixture("no-such-folder"));
    assert!(error.contains("not a directory"), "{error}");
    let empty = copy(&["config.json"]);
    let error = fail(empty.path());
    for name in ["model.safetensors", "open_clip_pytorch_model.bin", &empty.path().display().to_string()] {
        assert!(error.contains(name), "{error}");
    }
    let sharded = copy(&["config.json"]);
    std::fs::copy(fixture("micro_sharded/model.safetensors.index.json"), sharded.path().join("model.safetensors.index.json")).unwrap();
    assert!(fail(sharded.path()).contains("model-00001-of-00003.safetensors, which is not there"));
}

#[test]
fn broken_files_are_recognized() {
    let folder = copy(&["model.safetensors"]);
    let path = folder.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 5, 100, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = fail(folder.path());
        assert!(error.contains("truncated") && error.contains("download"), "{error}");
    }
    std::fs::write(&path, [&whole[..], b"more"].concat()).unwrap();
    assert!(fail(folder.path()).contains("where its header says"));
    std::fs::write(&path, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n").unwrap();
    assert!(fail(folder.path()).contains("git lfs pull"));
    std::fs::write(&path, "<html>this is an error page of some proxy</html>").unwrap();
    assert!(fail(folder.path()).contains("not a safetensors file"));
    let mut garbled = whole.clone();
    garbled[8] = b'x';
    std::fs::write(&path, garbled).unwrap();
    assert!(fail(folder.path()).contains("unreadable header"));

    let folder = tempfile::tempdir().unwrap();
    let pickle = std::fs::read(fixture("micro_bin/pytorch_model.bin")).unwrap();
    let path = folder.path().join("pytorch_model.bin");
    for length in [0, 3, 2000, pickle.len() - 1000] {
        std::fs::write(&path, &pickle[..length]).unwrap();
        let error = fail(folder.path());
        assert!(error.contains("PyTorch file") && error.contains("safetensors"), "{error}");
    }
}

#[test]
fn weights_that_contradict_the_configuration_are_refused() {
    let weights = load("micro");
    let one_line = |weights: &Weights, config: &ClipConfig| {
        let error = weights.check(config).unwrap_err().to_string();
        assert_eq!(error.lines().count(), 1);
        error
    };
    let mut wide = config("micro");
    wide.projection = 13;
    let error = one_line(&weights, &wide);
    assert!(error.contains("the config says [13, 8], the weights say [12, 8]"), "{error}");
    let mut deep = config("micro");
    deep.vision.layers = 2;
    let error = one_line(&weights, &deep);
    assert!(error.contains("16 of") && error.contains("vision_model.encoder.layers.1.") && error.contains("and 13 more"), "{error}");
    let mut shallow = config("quick");
    shallow.text.layers = 1;
    let error = one_line(&load("quick"), &shallow);
    assert!(error.contains("text_model.encoder.layers.1.") && error.contains("fewer layers"), "{error}");

    // Long-CLIP reads positions from 20 on from a second table
    let all = weights.names().map(|name| (name.to_string(), weights.get(name).unwrap().clone()));
    let table = ("positional_embedding_res".to_string(), Tensor::zeros(4, DType::F32, &Device::Cpu).unwrap());
    let long = Weights::from_tensors(all.chain([table]), "memory", DType::F32, &Device::Cpu).unwrap();
    let error = one_line(&long, &config("micro"));
    assert!(error.contains("positional_embedding_res") && error.contains("or another CLIP"), "{error}");

    let without = weights.names().filter(|name| *name != "logit_scale").map(|name| (name.to_string(), weights.get(name).unwrap().clone()));
    let without = Weights::from_tensors(without, "memory", DType::F32, &Device::Cpu).unwrap();
    assert!(without.log_scale().unwrap_err().to_string().contains("logit_scale"));
    let strange = [("resnet.conv1".to_string(), Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap())];
    let error = Weights::from_tensors(strange, "memory", DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("no tensor of a CLIP"), "{error}");
}
