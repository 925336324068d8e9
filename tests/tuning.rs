//! The tuning step against PyTorch: loss, every gradient, every parameter after AdamW; and what must not move.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use lafter::classify::{Head, TextClassifier, smoothed_cross_entropy};
use lafter::clip::Clip;
use lafter::nn::{AdamW, AdamWConfig, Linear, ParamGroup};
use lafter::rng::Rng;
use lafter::tune::{FinetuneConfig, Finetuner};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity").join(name)
}

fn tensors(name: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(fixture(name), &Device::Cpu).unwrap()
}

/// Largest difference relative to the largest value.
fn distance(a: &Tensor, b: &Tensor) -> f32 {
    let largest = |t: Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
    largest((a - b).unwrap()) / largest(b.clone()).max(1e-6)
}

fn close(name: &str, ours: &Tensor, theirs: &Tensor) {
    assert_eq!(ours.dims(), theirs.dims(), "{name}");
    let d = distance(ours, theirs);
    assert!(d < 1e-4, "{name}: differs by {d:.2e} of its largest value");
}

/// A CLIP of the fixtures; those without a tokenizer of their own get one, which tuning does not use.
fn base(name: &str) -> Clip {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer/json/tokenizer.json");
    std::fs::copy(tokenizer, folder.path().join("tokenizer.json")).unwrap();
    for file in ["config.json", "model.safetensors", "preprocessor_config.json"] {
        std::fs::copy(fixture(name).join(file), folder.path().join(file)).unwrap();
    }
    Clip::from_dir(folder.path()).unwrap()
}

/// The fixture calls the head's weight `head` and the prompts `prompts`.
fn theirs(name: &str) -> String {
    name.replace("head.0.weight", "head").replace("prompts.0", "prompts")
}

fn steps_agree(model: &str, file: &str, config: FinetuneConfig) {
    let data = tensors(file);
    let clip = base(model);
    let head = Head { layers: vec![Linear::new(data["head"].clone(), None)] };
    let config = FinetuneConfig { prompts: data["prompts"].dim(0).unwrap(), ..config };
    let mut tuner = Finetuner::new(&clip, &TextClassifier { head }, config, &mut Rng::new(1)).unwrap();
    let params = tuner.trainable().params.clone();
    let (_, prompts) = params.iter().find(|(name, _)| name == "prompts.0").unwrap();
    prompts.set(&data["prompts"]).unwrap();
    for step in [1, 2] {
        let get = |name: &str| &data[&format!("step{step}.{name}")];
        let (weak, strong) = (&data[&format!("weak{step}")], &data[&format!("strong{step}")]);
        let (labels, _) = tuner.pseudo_labels(weak).unwrap();
        assert_eq!(labels.to_dtype(DType::I64).unwrap().to_vec1::<i64>().unwrap(), get("labels").to_vec1::<i64>().unwrap());
        let (loss, logits) = tuner.loss(strong, &labels).unwrap();
        close("logits", &logits, get("logits"));
        close("loss", &loss, get("loss"));
        let grads = loss.backward().unwrap();
        for (name, var) in &params {
            close(&format!("step {step}, gradient of {name}"), grads.get(var).unwrap(), get(&format!("grad.{}", theirs(name))));
        }
        tuner.step(weak, strong).unwrap();
        for (name, var) in &params {
            close(&format!("step {step}, {name}"), var, get(&format!("after.{}", theirs(name))));
        }
    }
}

#[test]
fn the_released_codes_step_agrees_with_pytorch() {
    steps_agree("quick", "tuning_official.safetensors", FinetuneConfig::official());
}

#[test]
fn the_papers_step_agrees_with_pytorch() {
    steps_agree("gelu", "tuning_paper.safetensors", FinetuneConfig::paper());
}

#[test]
fn the_text_classifiers_step_agrees_with_pytorch() {
    let data = tensors("text_classifier.safetensors");
    let (head, params) = Head { layers: vec![Linear::new(data["weight"].clone(), None)] }.trainable().unwrap();
    let group = ParamGroup { params: params.clone(), weight_decay: 0.01, rate: 1.0 };
    let mut optimiser = AdamW::new(vec![group], AdamWConfig::default()).unwrap();
    let unit = lafter::classify::normalise(&data["features"]).unwrap();
    let labels = data["labels"].to_dtype(DType::U32).unwrap();
    for step in [1, 2] {
        let logits = head.forward(&(&unit + &data[&format!("noise{step}")]).unwrap()).unwrap();
        let loss = smoothed_cross_entropy(&logits, &labels, 0.1).unwrap();
        close("loss", &loss, &data[&format!("loss{step}")]);
        let grads = loss.backward().unwrap();
        close("gradient", grads.get(&params[0].1).unwrap(), &data[&format!("grad{step}")]);
        optimiser.step(&grads, 1.0).unwrap();
        close("weight", &params[0].1, &data[&format!("weight{step}")]);
    }
}

/// Everything declared trainable gets a finite, non-zero gradient and moves; everything else keeps its bits.
#[test]
fn what_is_declared_trainable_moves_and_nothing_else() {
    let variants = [
        FinetuneConfig::official(),
        FinetuneConfig { deep_prompts: true, ..FinetuneConfig::official() },
        FinetuneConfig { prompts: 0, normalise_student: true, ..FinetuneConfig::official() },
        FinetuneConfig { tune_norms: false, ..FinetuneConfig::paper() },
    ];
    for config in variants {
        let clip = base("quick");
        let side = clip.config().vision.image_size;
        let mut rng = Rng::new(3);
        let head = Head::mlp(clip.config().projection, 10, 4, &mut rng, &Device::Cpu).unwrap();
        let classifier = TextClassifier { head };
        let teacher_before = classifier.head.tensors();
        let config = FinetuneConfig { prompts: config.prompts.min(3), ..config };
        let mut tuner = Finetuner::new(&clip, &classifier, config.clone(), &mut rng).unwrap();
        let params = tuner.trainable().params.clone();
        let expected = if config.tune_norms { 2 * (2 + 2 * clip.config().vision.layers) } else { 0 };
        let prompts = if config.prompts == 0 {
            0
        } else if config.deep_prompts {
            clip.config().vision.layers
        } else {
            1
        };
        assert_eq!(params.len(), expected + prompts + 4, "{config:?}");

        let mut view = || rng.normal_tensor((6, 3, side, side), 1.0, &Device::Cpu).unwrap();
        let (weak, strong) = (view(), view());
        let (labels, _) = tuner.pseudo_labels(&weak).unwrap();
        let grads = tuner.loss(&strong, &labels).unwrap().0.backward().unwrap();
        let before: Vec<Tensor> = params.iter().map(|(_, var)| var.copy().unwrap()).collect();
        for (name, var) in &params {
            let largest = grads.get(var).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
            assert!(largest.is_finite() && largest > 0.0, "{name}: largest gradient {largest}");
        }
        tuner.step(&weak, &strong).unwrap();
        for ((name, var), before) in params.iter().zip(&before) {
            assert!(distance(var, before) > 0.0, "{name} did not move");
        }
        // the user's CLIP and classifier are untouched, bit for bit
        let fresh = base("quick");
        let pixels = view();
        assert_eq!(distance(&clip.encode_image(&pixels).unwrap(), &fresh.encode_image(&pixels).unwrap()), 0.0);
        for ((_, a), (name, b)) in classifier.head.tensors().iter().zip(&teacher_before) {
            assert_eq!(distance(a, b), 0.0, "{name}");
        }
        // inside the tuned tower only the norms differ from the checkpoint
        let (tuned, original) = (tuner.tuned().vision, clip.vision());
        for (a, b) in tuned.blocks.iter().zip(&original.blocks) {
            assert_eq!(distance(&a.fc1.weight, &b.fc1.weight), 0.0);
            assert_eq!(distance(&a.attention.query.weight, &b.attention.query.weight), 0.0);
            assert_eq!(distance(&a.norm1.weight, &b.norm1.weight) > 0.0, config.tune_norms);
        }
        assert_eq!(distance(&tuned.patch_embedding, &original.patch_embedding), 0.0);
        assert_eq!(distance(&tuned.projection.weight, &original.projection.weight), 0.0);
    }
}

#[test]
fn a_resumed_tuner_goes_on_bit_for_bit() {
    let clip = base("quick");
    let side = clip.config().vision.image_size;
    let head = Head::linear(clip.config().projection, 4, &mut Rng::new(2), &Device::Cpu).unwrap();
    let classifier = TextClassifier { head };
    let config = FinetuneConfig { prompts: 3, ..FinetuneConfig::official() };
    let make = || Finetuner::new(&clip, &classifier, config.clone(), &mut Rng::new(4)).unwrap();
    let view = |i: u64| Rng::new(i).normal_tensor((6, 3, side, side), 1.0, &Device::Cpu).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let mut whole = make();
    for i in 0..2 {
        whole.step(&view(i), &view(10 + i)).unwrap();
    }
    whole.checkpoint(&path).unwrap();
    let mut resumed = make();
    resumed.resume(&path).unwrap();
    for i in 2..4 {
        let (a, b) = (whole.step(&view(i), &view(10 + i)).unwrap(), resumed.step(&view(i), &view(10 + i)).unwrap());
        assert_eq!(a.loss.to_bits(), b.loss.to_bits());
    }
    let mut other = Finetuner::new(&clip, &classifier, FinetuneConfig { learning_rate: 1e-3, ..config.clone() }, &mut Rng::new(4)).unwrap();
    let error = other.resume(&path).unwrap_err();
    assert!(error.is_usage() && error.to_string().lines().count() == 1, "{error}");
}
