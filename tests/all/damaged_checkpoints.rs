//! Checkpoints that are torn, damaged or cannot be: refused with the file, the fault, and the way on.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use lafter::classify::{Head, TextClassifier, TextClassifierConfig, TextTrainer};
use lafter::clip::{Clip, read_tensors, save_tensors};
use lafter::rng::Rng;
use lafter::tune::{FinetuneConfig, Finetuner, Run, StrongConfig};
use lafter::{Error, Result};
use serde_json::Value;

fn refused(result: Result<()>, words: &[&str]) {
    let error = result.expect_err(&format!("{words:?}"));
    let text = error.to_string();
    assert!(matches!(error, Error::Checkpoint(_)) && !text.contains('\n'), "{text}");
    assert!(text.contains("checkpoint.safetensors") && text.contains("start without --resume") && !text.contains("download"), "{text}");
    for word in words {
        assert!(text.contains(word), "\"{text}\" does not say \"{word}\"");
    }
}

/// Writes the checkpoint back with its tensors and its state changed, without a checksum, as earlier versions wrote it.
fn change(path: &Path, kind: &str, change: impl FnOnce(&mut HashMap<String, Tensor>, &mut Value)) {
    let (mut tensors, mut metadata) = read_tensors(path, &Device::Cpu).unwrap();
    metadata.remove("checksum").unwrap();
    let mut state: Value = serde_json::from_str(&metadata[kind]).unwrap();
    change(&mut tensors, &mut state);
    metadata.insert(kind.into(), state.to_string());
    save_tensors(path, &tensors.into_iter().collect::<Vec<_>>(), metadata).unwrap();
}

fn filled(tensor: &Tensor, value: f32) -> Tensor {
    Tensor::full(value, tensor.shape(), &Device::Cpu).unwrap()
}

fn trainer() -> TextTrainer {
    let features = Rng::new(1).normal_tensor((10, 6), 1.0, &Device::Cpu).unwrap();
    let labels: Vec<usize> = (0..10).map(|i| i % 3).collect();
    let config = TextClassifierConfig { epochs: 5, batch_size: Some(4), ..TextClassifierConfig::official() };
    TextTrainer::new(&features, &labels, config, &mut Rng::new(2)).unwrap()
}

#[test]
fn text_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text_checkpoint.safetensors");
    let mut whole = trainer();
    whole.epoch().unwrap();
    whole.epoch().unwrap();
    whole.checkpoint(&path).unwrap();
    let good = std::fs::read(&path).unwrap();
    trainer().resume(&path).unwrap();

    for length in [0, 5, 100, good.len() - 3] {
        std::fs::write(&path, &good[..length]).unwrap();
        refused(trainer().resume(&path), &["truncated"]);
    }
    let mut damaged = good.clone();
    let last = damaged.len() - 2;
    damaged[last] ^= 0x40; // of the exponent of a value that may be
    std::fs::write(&path, damaged).unwrap();
    refused(trainer().resume(&path), &["checksum does not fit", "start without --resume"]);
    std::fs::write(&path, [&good[..], b"tail"].concat()).unwrap();
    refused(trainer().resume(&path), &["bytes"]);

    let kind = "text_classifier";
    let spoiled = |words: &[&str], f: &dyn Fn(&mut HashMap<String, Tensor>, &mut Value)| {
        std::fs::write(&path, &good).unwrap();
        change(&path, kind, f);
        let mut fresh = trainer();
        refused(fresh.resume(&path), words);
        // a refused file has changed nothing
        assert_eq!(fresh.epoch().unwrap(), trainer().epoch().unwrap());
    };
    for name in ["head.0.weight", "first.head.0.weight", "second.head.0.weight"] {
        spoiled(&[name, "not finite"], &|tensors, _| drop(tensors.insert(name.into(), filled(&tensors[name], f32::NAN))));
        spoiled(&[name, "lacks"], &|tensors, _| drop(tensors.remove(name)));
    }
    let squares = "second.head.0.weight";
    spoiled(&[squares], &|tensors, _| drop(tensors.insert(squares.into(), filled(&tensors[squares], -1.0))));
    spoiled(&["history", "600000000000"], &|_, state| state["state"]["history"][1]["accuracy"] = 6e11.into());
    spoiled(&["history"], &|_, state| state["state"]["history"][0]["epoch"] = 7.into());
    spoiled(&["history"], &|_, state| state["state"]["history"][0]["loss"] = (-5.0).into());
    spoiled(&["sums"], &|_, state| state["state"]["sums"]["correct"] = 100.into());
    spoiled(&["sums"], &|_, state| state["state"]["sums"]["steps"] = 90.into());
    spoiled(&["sums"], &|_, state| state["state"]["sums"]["loss"] = 1e300.into());
    spoiled(&["steps"], &|_, state| state["optimizer_steps"] = 3.into());
    spoiled(&["steps"], &|_, state| state["optimizer_steps"] = u64::MAX.into());
    spoiled(&["unreadable state"], &|_, state| drop(state["state"].as_object_mut().unwrap().remove("sums")));
}

#[test]
fn tuning_checkpoints() {
    let clip = Clip::from_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/parity/quick")).unwrap();
    let head = Head::linear(clip.config().projection, 3, &mut Rng::new(1), &Device::Cpu).unwrap();
    let (classifier, config) = (TextClassifier { head }, FinetuneConfig { prompts: 2, ..FinetuneConfig::official() });
    let run = || Run::new(Finetuner::new(&clip, &classifier, config.clone(), &mut Rng::new(4)).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let mut whole = run();
    let side = clip.config().vision.image_size;
    let view = Rng::new(2).normal_tensor((4, 3, side, side), 1.0, &Device::Cpu).unwrap();
    whole.tuner.step(&view, &view).unwrap();
    whole.checkpoint(&path).unwrap();
    let good = std::fs::read(&path).unwrap();
    run().resume(&path).unwrap();

    std::fs::write(&path, &good[..good.len() / 2]).unwrap();
    refused(run().resume(&path), &["truncated"]);
    let spoiled = |words: &[&str], f: &dyn Fn(&mut HashMap<String, Tensor>, &mut Value)| {
        std::fs::write(&path, &good).unwrap();
        change(&path, "tuning", f);
        refused(run().resume(&path), words);
    };
    spoiled(&["prompts.0", "not finite"], &|tensors, _| drop(tensors.insert("prompts.0".into(), filled(&tensors["prompts.0"], f32::NAN))));
    for (key, value) in [("agreed", 5), ("right", 5), ("labeled", 5), ("images", 5)] {
        spoiled(&["sums", key], &|_, state| state["state"]["sums"][key] = value.into());
    }
    for (key, value) in [("loss", 1e308), ("confidence", 1e9), ("seconds", -1.0)] {
        let value = if key == "loss" { -1e300 } else { value };
        spoiled(&["sums", key], &|_, state| state["state"]["sums"][key] = value.into());
    }
    let record = serde_json::json!({"epoch": 1, "loss": 0.5, "agreement": 50.0, "confidence": 50.0, "pseudo_label_accuracy": null,
        "test_top1": 6e200, "images": 4, "steps": 1, "seconds": 1.0});
    spoiled(&["history"], &|_, state| state["state"]["history"] = serde_json::json!([record.clone()]));
}

#[test]
fn a_checkpoint_of_an_earlier_version_is_read() {
    let clip = Clip::from_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/parity/quick")).unwrap();
    let head = Head::linear(clip.config().projection, 3, &mut Rng::new(1), &Device::Cpu).unwrap();
    let (classifier, strong) = (TextClassifier { head }, StrongConfig { scale: (0.5, 1.0), ..StrongConfig::simsiam() });
    let config = FinetuneConfig { prompts: 2, strong, ..FinetuneConfig::official() };
    let run = || Run::new(Finetuner::new(&clip, &classifier, config.clone(), &mut Rng::new(4)).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let older = |crop_scale: f64| {
        run().checkpoint(&path).unwrap();
        change(&path, "tuning", |_, state| {
            let settings = state["state"]["config"].as_object_mut().unwrap();
            for newer in ["strong", "teacher", "temperature", "refine", "objective"] {
                settings.remove(newer).unwrap();
            }
            settings.insert("crop_scale".into(), serde_json::json!([crop_scale, 1.0]));
            settings.insert("blur_probability".into(), 1.0.into());
            settings.insert("blur_sigma".into(), serde_json::json!([0.1, 2.0]));
        });
        run().resume(&path)
    };
    older(0.5).unwrap();
    assert!(older(0.25).unwrap_err().is_usage(), "a run with other views is another run");
}
