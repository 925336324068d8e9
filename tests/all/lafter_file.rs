//! LaFTer weights: what is whole comes back, in f16 too; what lacks, adds or spoils a tensor is refused by its name.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use lafter::classify::{Head, TextClassifier};
use lafter::clip::{Clip, ClipLoader, read_tensors, save_tensors};
use lafter::data::Dataset;
use lafter::data::scenes::{Domain, Scenes, class_names};
use lafter::describe::{Templates, TextSet};
use lafter::experiment::Experiment;
use lafter::nn::Precision;
use lafter::rng::Rng;
use lafter::tune::{FinetuneConfig, Finetuner, Tuned, VisualPrompts};
use lafter::{LaFTer, Preset};

const CLASSES: [&str; 3] = ["fish", "house", "boat"];
const MINI: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/parity/quick");

fn view(clip: &Clip, seed: u64) -> Tensor {
    let side = clip.config().vision.image_size;
    Rng::new(seed).normal_tensor((4, 3, side, side), 1.0, &Device::Cpu).unwrap()
}

/// A CLIP, LaFTer weights over it after one step, and what it answers.
fn tuned(folder: &Path, config: FinetuneConfig, mlp: bool) -> (Clip, PathBuf, Tuned) {
    let clip = Clip::from_dir(MINI).unwrap();
    let (width, rng) = (clip.config().projection, &mut Rng::new(1));
    let head = if mlp { Head::mlp(width, 5, 3, rng, &Device::Cpu) } else { Head::linear(width, 3, rng, &Device::Cpu) }.unwrap();
    let mut tuner = Finetuner::new(&clip, &TextClassifier { head }, FinetuneConfig { prompts: 2, ..config }, rng).unwrap();
    tuner.step(&view(&clip, 1), &view(&clip, 2)).unwrap();
    let mut lafter = LaFTer::new(clip.clone(), &CLASSES).preset(Preset::Official);
    lafter.set_tuned(tuner.tuned());
    let path = folder.join("lafter.safetensors");
    lafter.save(&path).unwrap();
    (clip, path, tuner.tuned())
}

type Tensors = HashMap<String, Tensor>;

/// The file with its tensors changed.
fn changed(path: &Path, change: impl FnOnce(&mut Tensors)) -> PathBuf {
    let (mut tensors, metadata) = read_tensors(path, &Device::Cpu).unwrap();
    change(&mut tensors);
    let to = path.with_file_name("changed.safetensors");
    save_tensors(&to, &tensors.into_iter().collect::<Vec<_>>(), metadata).unwrap();
    to
}

fn refused(clip: &Clip, path: &Path, words: &[&str], change: impl FnOnce(&mut Tensors)) {
    let error = Tuned::load(changed(path, change), clip).expect_err(&format!("{words:?}")).to_string();
    assert!(error.contains("changed.safetensors") && !error.contains('\n'), "{error}");
    for word in words {
        assert!(error.contains(word), "\"{error}\" does not say \"{word}\"");
    }
}

fn logits(tuned: &Tuned, pixels: &Tensor) -> Vec<f32> {
    tuned.logits(pixels).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn spoil(tensors: &mut Tensors, name: &str, value: f32) {
    let tensor = tensors[name].clone();
    let mut values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values[1] = value;
    tensors.insert(name.into(), Tensor::from_vec(values, tensor.shape(), &Device::Cpu).unwrap());
}

#[test]
fn a_whole_file_comes_back_and_one_in_f16_nearly() {
    let folder = tempfile::tempdir().unwrap();
    for (deep_prompts, mlp) in [(false, false), (true, true)] {
        let (clip, path, before) = tuned(folder.path(), FinetuneConfig { deep_prompts, ..FinetuneConfig::official() }, mlp);
        let pixels = view(&clip, 3);
        let (loaded, info) = Tuned::load(&path, &clip).unwrap();
        assert_eq!(logits(&loaded, &pixels), logits(&before, &pixels));
        assert_eq!((info.precision, info.classes.as_slice()), (Some(Precision::F32), CLASSES.map(String::from).as_slice()));
        let half = changed(&path, |tensors| tensors.values_mut().for_each(|tensor| *tensor = tensor.to_dtype(DType::F16).unwrap()));
        let half = Tuned::load(half, &clip).unwrap().0;
        for (ours, exact) in logits(&half, &pixels).iter().zip(logits(&before, &pixels)) {
            assert!((ours - exact).abs() < 0.02, "{ours} {exact}");
        }
    }
}

#[test]
fn what_is_missing_or_too_much_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (clip, path, _) = tuned(folder.path(), FinetuneConfig::official(), true);
    let norm = "vision_model.encoder.layers.0.layer_norm1";
    for kind in ["weight", "bias"] {
        let name = format!("{norm}.{kind}");
        refused(&clip, &path, &[&name, "missing"], |tensors| drop(tensors.remove(&name)));
    }
    for name in ["head.0.weight", "head.0.bias", "head.1.bias"] {
        refused(&clip, &path, &[name], |tensors| drop(tensors.remove(name)));
    }
    refused(&clip, &path, &["of"], |tensors| drop(tensors.remove("prompts.0")));
    refused(&clip, &path, &["head"], |tensors| drop(tensors.remove("head.1.weight")));
    refused(&clip, &path, &["tensors"], |tensors| tensors.retain(|name, _| !(name.starts_with("head") && name.ends_with("bias"))));
    refused(&clip, &path, &["prompts.7", "no place"], |tensors| drop(tensors.insert("prompts.7".into(), tensors["prompts.0"].clone())));
    refused(&clip, &path, &["extra.weight"], |tensors| drop(tensors.insert("extra.weight".into(), tensors["prompts.0"].clone())));

    let deep = FinetuneConfig { deep_prompts: true, ..FinetuneConfig::official() };
    let (clip, path, _) = tuned(folder.path(), deep, false);
    assert_eq!(clip.config().vision.layers, 2);
    refused(&clip, &path, &["visual prompts", "3 blocks", "all 2"], |tensors| {
        drop(tensors.insert("prompts.2".into(), tensors["prompts.0"].clone()));
    });
    refused(&clip, &path, &["prompts.1", "no place"], |tensors| drop(tensors.remove("prompts.0")));
    // what is left looks like shallow prompts, but the file says how many tensors it had
    refused(&clip, &path, &["tensors"], |tensors| drop(tensors.remove("prompts.1")));
}

#[test]
fn values_that_changed_on_disk_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (clip, path, _) = tuned(folder.path(), FinetuneConfig::official(), false);
    refused(&clip, &path, &["not those that were saved", "\"checksum\""], |tensors| spoil(tensors, "head.0.weight", 0.0));
}

#[test]
fn a_scale_that_is_none_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (clip, path, mut tuned) = tuned(folder.path(), FinetuneConfig::official(), false);
    let info = Tuned::load(&path, &clip).unwrap().1;
    tuned.head.scale = Some(-5.0);
    tuned.save(&path, &info).unwrap();
    let error = Tuned::load(&path, &clip).unwrap_err().to_string();
    assert!(error.contains("the scale of its head is -5, not a number above 0"), "{error}");
}

#[test]
fn prompts_that_a_tower_would_pass_over_are_an_error() {
    let clip = Clip::from_dir(MINI).unwrap();
    let prompts = |shapes: &[usize]| VisualPrompts {
        layers: shapes.iter().map(|n| Tensor::zeros((*n, clip.config().vision.width), DType::F32, &Device::Cpu).unwrap()).collect(),
    };
    let forward = |shapes: &[usize]| prompts(shapes).forward(clip.vision(), &view(&clip, 1)).map(drop);
    for good in [&[][..], &[3][..], &[3, 3][..]] {
        forward(good).unwrap();
    }
    for (bad, word) in [(&[3, 3, 3][..], "3 blocks"), (&[3, 2][..], "block 1")] {
        let error = forward(bad).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        assert!(prompts(bad).attention(clip.vision(), &view(&clip, 1), 0).is_err());
    }
}

#[test]
fn a_report_says_what_the_clip_was_loaded_in() {
    let scenes = |count, seed| Dataset::new(Scenes::new(Domain::Target, count, seed));
    for (precision, loaded) in [(Precision::F32, false), (Precision::Bf16, true)] {
        let clip = ClipLoader::new("demo").precision(precision).load(lafter::progress::silent).unwrap();
        let texts = TextSet::new(&class_names()).unwrap().with_templates(&Templates::clip_ensemble());
        let mut experiment = Experiment::new(clip, texts, scenes(8, 1), scenes(8, 2));
        experiment.config.text.epochs = 1;
        experiment.config.tune = FinetuneConfig { epochs: 1, batch_size: 4, prompts: 2, ..FinetuneConfig::official() };
        let report = experiment.run(lafter::progress::silent).unwrap().report;
        assert_eq!(report.precision, Some(Precision::F32), "the settings ask for f32");
        assert_eq!(report.config.get("loaded").is_some(), loaded, "{}", report.config);
    }
}

#[test]
fn shapes_types_and_values_that_cannot_be_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (clip, path, _) = tuned(folder.path(), FinetuneConfig::official(), false);
    let put = |name: &'static str, change: fn(&Tensor) -> Tensor| {
        move |tensors: &mut Tensors| drop(tensors.insert(name.into(), change(&tensors[name])))
    };
    refused(&clip, &path, &["prompts.0", "shape"], put("prompts.0", |t| t.unsqueeze(0).unwrap()));
    refused(&clip, &path, &["prompts.0", "shape"], put("prompts.0", |t| t.narrow(1, 0, 2).unwrap()));
    refused(&clip, &path, &["prompts.0", "shape"], put("prompts.0", |t| t.flatten_all().unwrap()));
    refused(&clip, &path, &["head.0.weight", "shape"], put("head.0.weight", |t| t.flatten_all().unwrap()));
    refused(&clip, &path, &["head", "width"], put("head.0.weight", |t| t.narrow(1, 0, 2).unwrap()));
    refused(&clip, &path, &["head", "2 outputs"], put("head.0.weight", |t| t.narrow(0, 0, 2).unwrap()));
    refused(&clip, &path, &["prompts.0", "U32"], put("prompts.0", |t| t.abs().unwrap().to_dtype(DType::U32).unwrap()));
    let norm = "vision_model.post_layernorm.weight";
    refused(&clip, &path, &[norm, "shape"], put(norm, |t| t.narrow(0, 0, 2).unwrap()));
    for name in ["prompts.0", "head.0.weight", norm] {
        for value in [f32::NAN, f32::INFINITY] {
            refused(&clip, &path, &[name, "not finite"], |tensors| spoil(tensors, name, value));
        }
    }
}

#[test]
fn the_precision_is_that_of_the_settings_and_is_recorded() {
    let load = |precision| ClipLoader::from_dir(MINI).precision(precision).load(lafter::progress::silent).unwrap();
    let (f32s, bf16s) = (load(Precision::F32), load(Precision::Bf16));
    let head = Head::linear(f32s.config().projection, 3, &mut Rng::new(1), &Device::Cpu).unwrap();
    let classifier = TextClassifier { head };
    let make = |clip: &Clip, precision| {
        Finetuner::new(clip, &classifier, FinetuneConfig { prompts: 2, precision, ..FinetuneConfig::official() }, &mut Rng::new(4)).unwrap()
    };
    let pixels = view(&f32s, 3);
    for precision in [Precision::F32, Precision::Bf16] {
        let (a, b) = (make(&f32s, precision).tuned(), make(&bf16s, precision).tuned());
        assert_eq!(a.vision.precision(), b.vision.precision());
        assert_eq!(logits(&a, &pixels), logits(&b, &pixels), "{precision:?}: what the CLIP was loaded in must not matter");
    }
    assert_eq!(make(&bf16s, Precision::F32).tuned().vision.precision(), Some(Precision::F32));

    // a file tuned in bf16 answers as it did, over a CLIP in f32
    let folder = tempfile::tempdir().unwrap();
    let (clip, path, before) = tuned(folder.path(), FinetuneConfig { precision: Precision::Bf16, ..FinetuneConfig::official() }, false);
    let (loaded, info) = Tuned::load(&path, &clip).unwrap();
    assert_eq!((info.precision, loaded.vision.precision()), (before.vision.precision(), before.vision.precision()));
    assert_eq!(logits(&loaded, &pixels), logits(&before, &pixels));
    // weights that are rounded for good cannot be tuned in f32
    let half = ClipLoader::from_dir(MINI).dtype(DType::F16).load(lafter::progress::silent).unwrap();
    let error = Finetuner::new(&half, &classifier, FinetuneConfig::official(), &mut Rng::new(4)).err().unwrap();
    assert!(error.is_usage() && error.to_string().contains("load it in f32"), "{error}");
}
