//! ONNX files read back: their nodes give this crate's logits, their weights have its bits, their metadata say what they need.

use std::path::Path;

use crate::onnx_file::Model;
use candle_core::{DType, Device, Tensor};
use lafter::augment::{CropRule, Preprocess, ResizeTo};
use lafter::classify::{Head, TextClassifier};
use lafter::clip::Clip;
use lafter::describe::Templates;
use lafter::export::{Answering, Onnx};
use lafter::nn::{Linear, softmax};
use lafter::rng::Rng;
use lafter::tune::{FinetuneConfig, Finetuner, HeadForm, LowRankConfig};
use lafter::{LaFTer, ZeroShotClassifier};

const CLASSES: [&str; 3] = ["fish", "house", "a \"boat\""];

/// A small CLIP of the fixtures; its tokenizer is that of `quick`.
fn clip(name: &str) -> Clip {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity");
    let folder = tempfile::tempdir().unwrap();
    let files = [(name, "config.json"), (name, "model.safetensors"), ("quick", "tokenizer.json"), ("quick", "preprocessor_config.json")];
    for (from, file) in files {
        std::fs::copy(fixtures.join(from).join(file), folder.path().join(file)).unwrap();
    }
    Clip::from_dir(folder.path()).unwrap()
}

fn pixels(clip: &Clip, count: usize, seed: u64) -> Tensor {
    let side = clip.config().vision.image_size;
    Rng::new(seed).normal_tensor((count, 3, side, side), 1.0, &Device::Cpu).unwrap()
}

/// LaFTer after one step, with an MLP or a linear head.
fn tuned(clip: &Clip, config: FinetuneConfig, mlp: bool) -> Answering {
    let (width, rng) = (clip.config().projection, &mut Rng::new(1));
    let head = if mlp { Head::mlp(width, 5, 3, rng, &Device::Cpu) } else { Head::linear(width, 3, rng, &Device::Cpu) }.unwrap();
    let mut tuner = Finetuner::new(clip, &TextClassifier { head }, config, rng).unwrap();
    tuner.step(&pixels(clip, 4, 1), &pixels(clip, 4, 2)).unwrap();
    Answering::Tuned(Box::new(tuner.tuned()))
}

fn ours(clip: &Clip, answering: &Answering, pixels: &Tensor) -> Tensor {
    match answering {
        Answering::Tuned(tuned) => tuned.logits(pixels).unwrap(),
        Answering::Text(classifier) => classifier.logits(&clip.encode_image(pixels).unwrap()).unwrap(),
        Answering::ZeroShot(classifier) => classifier.logits(&clip.encode_image(pixels).unwrap()).unwrap(),
    }
}

fn difference(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

/// Saves, reads back, and compares the logits and probabilities of batches of several sizes.
fn agrees(onnx: &Onnx, within: f32) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let written = onnx.save(&path).unwrap();
    assert_eq!(written.bytes, std::fs::metadata(&path).unwrap().len());
    let model = Model::read(&path);
    model.check_names();
    for count in [1, 3] {
        let pixels = pixels(&onnx.clip, count, 7);
        let (expected, found) = (ours(&onnx.clip, &onnx.answering, &pixels), model.run(&pixels).unwrap());
        assert_eq!(found["logits"].dims(), expected.dims());
        let off = difference(&found["logits"], &expected);
        assert!(off < within, "{}: {off}", onnx.answering.name());
        assert!(difference(&found["probabilities"], &softmax(&expected).unwrap()) < within);
    }
    model
}

#[test]
fn nodes_give_the_logits_of_every_classifier() {
    let deep = FinetuneConfig { prompts: 2, deep_prompts: true, ..FinetuneConfig::official() };
    let shallow = FinetuneConfig { prompts: 3, ..FinetuneConfig::official() };
    let without = FinetuneConfig { prompts: 0, normalize_student: true, ..FinetuneConfig::official() };
    let cosine = FinetuneConfig {
        prompts: 2,
        head_form: HeadForm::Cosine { scale: 100.0 },
        tune_biases: true,
        low_rank: Some(LowRankConfig::default()),
        ..FinetuneConfig::official()
    };
    for name in ["quick", "gelu"] {
        let clip = clip(name);
        agrees(&Onnx::new(clip.clone(), tuned(&clip, cosine.clone(), false), &CLASSES), 1e-3); // logits up to 100
        for (config, mlp) in [(&shallow, false), (&deep, true), (&without, false)] {
            agrees(&Onnx::new(clip.clone(), tuned(&clip, config.clone(), mlp), &CLASSES), 1e-4);
        }
        let Answering::Tuned(like) = tuned(&clip, shallow.clone(), true) else { unreachable!() };
        agrees(&Onnx::new(clip.clone(), Answering::Text(TextClassifier { head: like.head }), &CLASSES), 1e-4);
    }
    let clip = Clip::demo().unwrap();
    let zero_shot = ZeroShotClassifier::fit(&clip, &CLASSES, &Templates::single()).unwrap();
    agrees(&Onnx::new(clip, Answering::ZeroShot(zero_shot), &CLASSES), 1e-3); // logits up to 30
}

#[test]
fn a_file_says_what_it_takes_and_what_it_is() {
    let clip = clip("quick");
    let answering = tuned(&clip, FinetuneConfig { prompts: 3, ..FinetuneConfig::official() }, false);
    let model = agrees(&Onnx { license: Some("mit".into()), ..Onnx::new(clip.clone(), answering.clone(), &CLASSES) }, 1e-4);
    assert_eq!((model.ir, model.opset), (8, 17));
    let sizes = |sizes: &[&str]| sizes.iter().map(|size| size.to_string()).collect::<Vec<_>>();
    assert_eq!(model.inputs, [("pixels".into(), 1, sizes(&["n", "3", "16", "16"]))]);
    let output = |name: &str| (name.to_string(), 1, sizes(&["n", "3"]));
    assert_eq!(model.outputs, [output("logits"), output("probabilities")]);
    let said = |key: &str| model.metadata[key].as_str();
    assert_eq!(serde_json::from_str::<Vec<String>>(said("classes")).unwrap(), CLASSES);
    assert_eq!(serde_json::from_str::<[f32; 3]>(said("mean")).unwrap(), clip.preprocess().mean);
    assert_eq!(serde_json::from_str::<[f32; 3]>(said("std")).unwrap(), clip.preprocess().std);
    assert_eq!(serde_json::from_str::<Preprocess>(said("preprocess")).unwrap(), *clip.preprocess());
    assert_eq!((said("side"), said("classifier"), said("base_license")), ("16", "LaFTer", "mit"));
    assert_eq!((said("base_model"), said("base_weights")), (clip.id(), clip.weights_hash()));

    // weights have the tower's bits
    let Answering::Tuned(tuned) = answering else { unreachable!() };
    let bits = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let block = &tuned.vision.blocks[1];
    let name = |part: &str| format!("vision_model.encoder.layers.1.{part}");
    assert_eq!(bits(&model.weights[&name("mlp.fc1.weight")].t().unwrap()), bits(&block.fc1.weight.tensor()));
    assert_eq!(bits(&model.weights[&name("layer_norm2.bias")]), bits(&block.norm2.bias));
    assert_eq!(bits(&model.weights["class_and_prompts"].squeeze(0).unwrap().narrow(0, 1, 3).unwrap()), bits(&tuned.prompts.layers[0]));
    assert_eq!(bits(&model.weights["head.0.weight"].t().unwrap()), bits(&tuned.head.layers[0].weight.tensor()));
}

#[test]
fn halves_take_half_the_room() {
    let clip = clip("gelu");
    let whole = Onnx::new(clip.clone(), tuned(&clip, FinetuneConfig { prompts: 2, ..FinetuneConfig::official() }, true), &CLASSES);
    let model = agrees(&Onnx { half: true, ..whole }, 0.05);
    let matrices = model.weights.values().filter(|weight| weight.rank() > 1);
    assert!(matrices.into_iter().all(|weight| weight.dtype() == DType::F16));
    assert_eq!(model.weights["vision_model.post_layernorm.weight"].dtype(), DType::F32);
}

#[test]
fn the_form_for_pictures_resizes_and_crops_as_the_preprocessing_says() {
    let clip = Clip::demo().unwrap();
    let zero_shot = ZeroShotClassifier::fit(&clip, &CLASSES, &Templates::single()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let written = Onnx { pictures: true, ..Onnx::new(clip, Answering::ZeroShot(zero_shot), &CLASSES) }.save(&path).unwrap();
    assert!(written.input.starts_with("pictures") && written.opset == 18, "{written}");
    let model = Model::read(&path);
    model.check_names();
    assert_eq!(model.inputs[0].1, 2);
    assert_eq!(model.inputs[0].2, ["n", "height", "width", "3"]);
    let resize = model.nodes.iter().find(|node| node.operator == "Resize").unwrap();
    assert_eq!((resize.inputs.len(), resize.texts["mode"].as_str()), (4, "cubic"));
}

/// Noise, on which the order of the two directions shows: Pillow's is vertical first where a picture is tall.
#[test]
fn the_form_for_pictures_resizes_in_pillows_order() {
    let clip = Clip::demo().unwrap();
    let zero_shot = ZeroShotClassifier::fit(&clip, &CLASSES, &Templates::single()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    Onnx { pictures: true, ..Onnx::new(clip.clone(), Answering::ZeroShot(zero_shot.clone()), &CLASSES) }.save(&path).unwrap();
    let (model, mut rng) = (Model::read(&path), Rng::new(3));
    for (width, height) in [(60, 200), (200, 60), (45, 50), (45, 51), (30, 90), (40, 80), (80, 40), (100, 100), (20, 20)] {
        let pixels: Vec<u8> = (0..width * height * 3).map(|_| if rng.below(2) == 0 { 0 } else { 255 }).collect();
        let picture = image::RgbImage::from_raw(width, height, pixels.clone()).unwrap();
        let values = model.run(&Tensor::from_vec(pixels, (1, height as usize, width as usize, 3), &Device::Cpu).unwrap()).unwrap();
        let ours = zero_shot.logits(&clip.encode_image(&clip.preprocess().batch(&[picture], &Device::Cpu).unwrap()).unwrap()).unwrap();
        let off = difference(&values["logits"], &ours);
        assert!(off < 1e-3, "{width} {height}: {off}");
    }
}

/// Pictures that need no resize: cut, scaled and ordered as by our own preprocessing, whatever the margin.
#[test]
fn the_form_for_pictures_cuts_and_scales_as_ours() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity/quick");
    for rule in [CropRule::Torchvision, CropRule::Transformers] {
        let folder = tempfile::tempdir().unwrap();
        for file in ["config.json", "model.safetensors", "tokenizer.json"] {
            std::fs::copy(fixture.join(file), folder.path().join(file)).unwrap();
        }
        let text = std::fs::read_to_string(fixture.join("preprocessor_config.json")).unwrap();
        let mut settings: serde_json::Value = serde_json::from_str(&text).unwrap();
        (settings["crop_rule"], settings["image_mean"]) = (serde_json::json!(rule), serde_json::json!([0.1, 0.2, 0.3]));
        settings["image_std"] = serde_json::json!([0.4, 0.5, 0.6]);
        std::fs::write(folder.path().join("preprocessor_config.json"), settings.to_string()).unwrap();
        let clip = Clip::from_dir(folder.path()).unwrap();
        let weak = clip.preprocess().clone();
        let (ResizeTo::ShortestEdge(side), crop) = (weak.resize, weak.crop) else { panic!("{weak:?}") };
        assert_eq!((side, weak.crop_rule), (crop, rule));
        let zero_shot = ZeroShotClassifier::fit(&clip, &CLASSES, &Templates::single()).unwrap();
        let path = folder.path().join("model.onnx");
        Onnx { pictures: true, ..Onnx::new(clip.clone(), Answering::ZeroShot(zero_shot.clone()), &CLASSES) }.save(&path).unwrap();
        let model = Model::read(&path);
        for (width, height) in (0..9).flat_map(|margin| [(side + margin, side), (side, side + margin)]) {
            let pixel = |x: u32, y: u32| image::Rgb([(7 * x + y) as u8, (x * y) as u8, (3 * y) as u8]);
            let picture = image::RgbImage::from_fn(width, height, pixel);
            let sizes = (1, height as usize, width as usize, 3);
            let values = model.run(&Tensor::from_vec(picture.as_raw().clone(), sizes, &Device::Cpu).unwrap()).unwrap();
            let ours = zero_shot.logits(&clip.encode_image(&weak.batch(&[picture], &Device::Cpu).unwrap()).unwrap()).unwrap();
            assert!(difference(&values["logits"], &ours) < 1e-3, "{rule:?} {width} {height}");
        }
    }
}

#[test]
fn what_a_file_cannot_hold_is_refused_in_one_line() {
    let clip = clip("quick");
    let answering = tuned(&clip, FinetuneConfig { prompts: 0, ..FinetuneConfig::official() }, false);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let error = Onnx::new(clip.clone(), answering, &["fish"]).save(&path).unwrap_err().to_string();
    assert!(error.contains("3 logits for 1 class names") && !error.contains('\n') && !path.exists(), "{error}");
    let head = Head::linear(clip.config().projection, 3, &mut Rng::new(1), &Device::Cpu).unwrap();
    let large = Linear::new((head.layers[0].weight.tensor() * 1e7).unwrap(), None);
    let answering = Answering::Text(TextClassifier { head: Head { layers: vec![large], scale: None } });
    let whole = Onnx::new(clip.clone(), answering, &CLASSES);
    let error = Onnx { half: true, ..whole.clone() }.save(&path).unwrap_err().to_string();
    assert!(error.contains("head.0.weight holds ") && error.ends_with("export without --half") && !path.exists(), "{error}");
    whole.save(&path).unwrap();
    let error = Answering::of(&LaFTer::new(clip, &CLASSES)).unwrap_err();
    assert!(error.to_string().contains("fit_text"), "{error}");
}
