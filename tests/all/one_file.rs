//! `examples/lafter_in_one_file.rs` against the library: the same features, losses, gradients and steps; and a run on files.

#[allow(dead_code)]
#[path = "../../examples/lafter_in_one_file.rs"]
mod example;

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use lafter::classify::{Head, NoisyTexts, TextClassifier};
use lafter::clip::Clip;
use lafter::data::scenes::{self, CLASSES, Domain, Scenes};
use lafter::data::{Dataset, ImageSource};
use lafter::nn::Param;
use lafter::rng::Rng;
use lafter::tune::{FinetuneConfig, Finetuner, Views};

/// The embedded CLIP, as files.
fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/clip/demo")
}

/// Largest difference relative to the largest value.
fn distance(a: &Tensor, b: &Tensor) -> f32 {
    let largest = |t: Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
    largest((a - b).unwrap()) / largest(b.clone()).max(1e-12)
}

fn views(clip: &Clip, domain: Domain, seed: u64) -> Tensor {
    let scenes = Scenes::new(domain, 24, seed);
    let pictures: Vec<_> = (0..24).map(|i| scenes.image(i).unwrap()).collect();
    clip.preprocess().batch(&pictures, clip.device()).unwrap()
}

#[test]
fn features_are_the_librarys() {
    let (clip, own) = (Clip::from_dir(demo()).unwrap(), example::Clip::load(&demo()).unwrap());
    let pixels = views(&clip, Domain::Source, 1);
    assert!(distance(&own.vision.forward(&pixels).unwrap(), &clip.encode_image(&pixels).unwrap()) < 1e-5);
    let long = "a drawing of a house beside a river with many boats, some of them red, others blue or green, under a grey sky ".repeat(2);
    let texts = ["a photo of a house".to_string(), "été, 42!".to_string(), long];
    assert!(distance(&own.text.encode(&texts).unwrap(), &clip.encode_text(&texts).unwrap()) < 1e-5);
    assert!((own.scale - clip.logit_scale()).abs() < 1e-5 * own.scale);
}

#[test]
fn views_are_the_librarys_up_to_rounding() {
    let clip = Clip::from_dir(demo()).unwrap();
    let side = clip.config().vision.image_size;
    let scenes = Scenes::new(Domain::Target, 6, 3);
    for i in 0..6 {
        let picture = image::imageops::thumbnail(&scenes.scene(i).render(200), 150 - 8 * i as u32, 101);
        let own = example::weak_view(&picture, side as u32);
        let differ = own.iter().zip(clip.preprocess().image(&picture).iter()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(differ <= Some(2), "{differ:?}");
        let planes = example::pixels(std::slice::from_ref(&own), side).unwrap().flatten_all().unwrap();
        let expected = Tensor::new(clip.preprocess().planes(&own), &Device::Cpu).unwrap();
        assert!(distance(&planes, &expected) < 1e-6);
        let mut rng = example::Rng::new(1, i as u64);
        assert_eq!(example::strong_view(&picture, side as u32, &mut rng).dimensions(), (side as u32, side as u32));
    }
}

#[test]
fn the_text_loss_and_its_gradient_are_the_librarys() {
    let clip = Clip::from_dir(demo()).unwrap();
    let texts: Vec<String> = CLASSES.iter().map(|class| format!("a photo of a {class}")).collect();
    let (features, labels) = (clip.encode_text(&texts).unwrap(), (0..CLASSES.len()).collect::<Vec<_>>());
    let (head, params) =
        Head::linear(clip.config().projection, CLASSES.len(), &mut Rng::new(1), &Device::Cpu).unwrap().trainable().unwrap();
    let noise = Rng::new(2).normal_tensor(features.shape(), 0.1, &Device::Cpu).unwrap();
    let (loss, _) = NoisyTexts::new(features.clone(), &labels, 0.1, 0.1).unwrap().loss(&head, None, &mut Rng::new(2)).unwrap();
    let labels = Tensor::arange(0u32, CLASSES.len() as u32, &Device::Cpu).unwrap();
    let own = example::text_loss(&features, &noise, &labels, &head.layers[0].weight.tensor()).unwrap();
    assert!(distance(&own, &loss) < 1e-5);
    let gradient = |loss: &Tensor| loss.backward().unwrap().get(&params[0].var).unwrap().clone();
    assert!(distance(&gradient(&own), &gradient(&loss)) < 1e-5);
}

#[test]
fn pseudo_labels_loss_gradients_and_steps_are_the_librarys() {
    let clip = Clip::from_dir(demo()).unwrap();
    let head = Head::linear(clip.config().projection, CLASSES.len(), &mut Rng::new(1), &Device::Cpu).unwrap();
    let classifier = TextClassifier { head };
    let mut tuner = Finetuner::new(&clip, &classifier, FinetuneConfig::official(), &mut Rng::new(2)).unwrap();
    let weights = &classifier.head.layers[0].weight.tensor();
    let student = example::Student::new(example::Clip::load(&demo()).unwrap().vision, weights, &example::OFFICIAL).unwrap();
    let params = tuner.trainable().params.clone();
    assert_eq!(params.len(), student.params.len());
    let pair = |name: &str| student.params.iter().find(|(own, _)| own == name).map(|(_, var)| var.clone()).unwrap();
    for Param { name, var, .. } in &params {
        pair(name).set(&var.copy().unwrap()).unwrap(); // the prompts are drawn by another generator
    }

    let (weak, strong) = (views(&clip, Domain::Source, 1), views(&clip, Domain::Target, 1));
    let views = Views::new(weak.clone(), strong.clone());
    let targets = tuner.targets(&views).unwrap();
    let own = student.pseudo_labels(&weak).unwrap();
    assert_eq!(own.to_vec1::<u32>().unwrap(), targets.labels.to_vec1::<u32>().unwrap());
    let (loss, _) = tuner.loss(&views, &targets).unwrap();
    let own = example::smoothed_cross_entropy(&student.logits(&strong).unwrap(), &own).unwrap();
    assert!(distance(&own, &loss) < 1e-5, "{own} {loss}");
    let (grads, own) = (loss.backward().unwrap(), own.backward().unwrap());
    for Param { name, var, .. } in &params {
        let apart = distance(own.get(&pair(name)).unwrap(), grads.get(var).unwrap());
        assert!(apart < 1e-5, "{name}: gradients {apart} apart");
    }

    let mut optimizer = example::AdamW::new(student.params.clone(), &example::OFFICIAL).unwrap();
    for _ in 0..3 {
        tuner.step(&weak, &strong).unwrap();
        let labels = student.pseudo_labels(&weak).unwrap();
        let loss = example::smoothed_cross_entropy(&student.logits(&strong).unwrap(), &labels).unwrap();
        optimizer.step(&loss.backward().unwrap()).unwrap();
    }
    for Param { name, var, .. } in &params {
        let apart = distance(&pair(name), var);
        assert!(apart < 1e-4, "{name}: parameters {apart} apart");
    }
}

/// Writes a data set to a folder, with a folder for each class if `by_class`.
fn write(set: &Dataset, folder: &Path, by_class: bool) {
    for i in 0..set.len() {
        let class = if by_class { CLASSES[set.label(i).unwrap()] } else { "pictures" };
        std::fs::create_dir_all(folder.join(class)).unwrap();
        set.image(i).unwrap().save(folder.join(class).join(format!("{i}.png"))).unwrap();
    }
}

#[test]
fn it_runs_on_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (train, test) = scenes::demo_sets(7777);
    write(&train.take(150), &path("train"), false);
    write(&test.take(120), &path("test"), true);
    std::fs::write(path("texts.json"), scenes::DESCRIPTIONS).unwrap();
    let settings = example::Settings { text_steps: 200, prompts: 2, epochs: 2, learning_rate: 2e-3 };
    let top1 = example::run(&demo(), &path("train"), &path("test"), Some(&path("texts.json")), &settings).unwrap();
    assert_eq!(top1.len(), 2 + settings.epochs);
    assert!(top1.iter().all(|top1| (40.0..90.0).contains(top1)), "of 12 classes: {top1:?}");
    assert!(example::run(&demo(), &path("texts"), &path("test"), None, &settings).is_err());
}

#[test]
fn it_is_one_file_of_600_lines_without_this_crate() {
    let source = include_str!("../../examples/lafter_in_one_file.rs");
    assert!(source.lines().count() <= 600);
    assert!(!source.contains("lafter::") && !source.contains("lafter_fast"));
}
