//! The whole pipeline on real photographs against PyTorch on the same weights (fixtures/real_images.py makes the numbers).
//!
//! LAFTER_TEST_DATA=DIR cargo test --test all real_images:: -- --ignored --nocapture (tests/README.md)

use std::path::{Path, PathBuf};

use crate::common::test_data;
use candle_core::Tensor;
use lafter::LaFTer;
use lafter::classify::{TextClassifier, TextClassifierConfig, ZeroShotClassifier};
use lafter::clip::Clip;
use lafter::data::{self, Dataset, OpenOptions};
use lafter::describe::{Descriptions, Templates, TextSet};
use lafter::embed::{self, Encoded};
use lafter::rng::Rng;
use lafter::tune::Run;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The fixture and the folder with the data that it was made from.
fn reference() -> (Value, PathBuf) {
    let fixture: Value = serde_json::from_str(include_str!("../fixtures/real_images.json")).unwrap();
    let files = [
        ("weights", "mini-clip/model.safetensors"),
        ("train", "cifar10/train-00000-of-00001.parquet"),
        ("test", "cifar10/test-00000-of-00001.parquet"),
        ("descriptions", "descriptions/cifar10_lafter.json"),
    ];
    for (name, file) in files {
        let bytes = std::fs::read(test_data(file)).unwrap();
        let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let made_from = fixture["sha256"][name].as_str().unwrap();
        assert_eq!(hash, made_from, "{file}: not the file that the expected numbers were made from, see tests/README.md");
    }
    (fixture, test_data(""))
}

fn clip(folder: &Path) -> Clip {
    Clip::from_dir(folder.join("mini-clip")).unwrap()
}

fn pictures(folder: &Path, split: &str) -> Dataset {
    let path = folder.join(format!("cifar10/{split}-00000-of-00001.parquet"));
    data::open(path.to_str().unwrap(), &OpenOptions::default()).unwrap()
}

fn features(clip: &Clip, dataset: &Dataset) -> Encoded {
    embed::images(dataset, clip.preprocess(), clip.device(), embed::BATCH, "features", |_| {}, |pixels| clip.encode_image(pixels)).unwrap()
}

/// The sentences of the fixture's first stage: the template ensemble where wanted, and the descriptions.
fn texts(folder: &Path, classes: &[String], templates: bool) -> TextSet {
    let mut texts = TextSet::new(classes).unwrap();
    if templates {
        texts = texts.with_templates(&Templates::clip_ensemble());
    }
    texts.with_descriptions(&Descriptions::read(folder.join("descriptions/cifar10_lafter.json")).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// ‖ours − theirs‖ / ‖theirs‖ of the worst row.
fn worst_row(ours: &Tensor, theirs: &Value) -> f64 {
    let rows = ours.to_vec2::<f32>().unwrap();
    let theirs = theirs.as_array().unwrap();
    assert_eq!(rows.len(), theirs.len());
    let error = |(ours, theirs): (&Vec<f32>, &Value)| {
        let theirs = numbers(theirs);
        assert_eq!(ours.len(), theirs.len());
        let difference: f64 = ours.iter().zip(&theirs).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
        (difference / theirs.iter().map(|b| b * b).sum::<f64>()).sqrt()
    };
    rows.iter().zip(theirs).map(error).fold(0.0, f64::max)
}

/// Checks that the mean of our runs lies within three of PyTorch's standard deviations and `slack` points of PyTorch's mean.
fn agrees(what: &str, ours: &[f64], theirs: &Value, slack: f64) {
    let mean = ours.iter().sum::<f64>() / ours.len() as f64;
    let (expected, std) = (theirs["mean"].as_f64().unwrap(), theirs["std"].as_f64().unwrap());
    println!("{what}: {mean:.2} {ours:.2?}; PyTorch {expected:.2} ± {std:.2}");
    assert!((mean - expected).abs() <= 3.0 * std + slack, "{what}: {mean:.2} against {expected:.2} ± {std:.2}");
}

#[test]
#[ignore = "needs LAFTER_TEST_DATA, see tests/README.md"]
fn features_and_zero_shot_answers_are_those_of_pytorch() {
    let (expected, folder) = reference();
    let clip = clip(&folder);
    let test = pictures(&folder, "test");
    let texts: Vec<String> = test.classes().iter().map(|class| Templates::single().fill(class).concat()).collect();
    let text_error = worst_row(&clip.encode_text(&texts).unwrap(), &expected["text_features"]);
    assert!(text_error < 1e-4, "text features: {text_error:e}");

    let outputs = features(&clip, &test);
    assert!(outputs.skipped.is_empty());
    let image_error = worst_row(&outputs.rows.narrow(0, 0, 8).unwrap(), &expected["image_features"]);
    println!("relative errors: text {text_error:.1e}, image {image_error:.1e}");
    // The photographs are JPEG, and two decoders differ by up to 3 of 255 levels in a pixel (tests/all/decode.rs); on equal
    // pixels features agree to 1e-4 (tests/all/parity.rs).
    assert!(image_error < 0.05, "image features: {image_error:e}");

    let expected = &expected["zero_shot"];
    assert!((clip.logit_scale() - expected["logit_scale"].as_f64().unwrap()).abs() < 1e-4);
    let classifier = ZeroShotClassifier::fit(&clip, test.classes(), &Templates::single()).unwrap();
    let logits = classifier.logits(&outputs.rows).unwrap();
    let answers = logits.argmax(1).unwrap().to_vec1::<u32>().unwrap();
    let first = numbers(&expected["first_predictions"]);
    let differ = first.iter().zip(&answers).filter(|(theirs, ours)| **theirs != f64::from(**ours)).count();
    println!("{differ} of the first {} answers differ", first.len());
    assert!(differ <= 4);

    let labels = test.labels().unwrap();
    let mut correct = vec![0f64; test.classes().len()];
    answers.iter().zip(&labels).filter(|(answer, label)| **answer as usize == **label).for_each(|(_, label)| correct[*label] += 1.0);
    let theirs = numbers(&expected["correct_per_class"]);
    // as above: decoders differ, and images whose two best classes lie close together change sides
    let apart: f64 = correct.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).sum();
    println!("correct per class: {correct:?}; PyTorch {theirs:?}");
    assert!(apart <= 20.0, "{correct:?} against {theirs:?}");
}

#[test]
#[ignore = "needs LAFTER_TEST_DATA, see tests/README.md"]
fn text_classifier_is_as_good_as_pytorchs() {
    let (expected, folder) = reference();
    let clip = clip(&folder);
    let test = pictures(&folder, "test");
    let outputs = features(&clip, &test);
    for (name, templates) in [("templates_and_descriptions", true), ("descriptions", false)] {
        let expected = &expected["text_classifier"][name];
        let texts = texts(&folder, test.classes(), templates);
        let counts = texts.counts();
        assert_eq!(expected["kept"], texts.len());
        assert_eq!((&expected["empty"], &expected["duplicates"]), (&counts.dropped_empty.into(), &counts.dropped_duplicates.into()));
        assert_eq!(expected["cut"], clip.tokenizer().encode(texts.sentences()).unwrap().cut);
        let rows = texts.embed(&clip).unwrap();
        let (mut top1, mut loss) = (Vec::new(), Vec::new());
        for seed in 0..5 {
            let config = TextClassifierConfig::official();
            let (classifier, history) = TextClassifier::fit(&rows, texts.labels(), &config, &mut Rng::new(seed)).unwrap();
            let logits = classifier.logits(&outputs.rows).unwrap();
            top1.push(Encoded { rows: logits, ..outputs.clone() }.evaluate(&test).unwrap().top1);
            loss.push(f64::from(history.last().unwrap().loss));
        }
        agrees(&format!("{name}: top-1"), &top1, &expected["top1"], 0.5);
        agrees(&format!("{name}: last loss"), &loss, &expected["last_loss"], 0.0);
    }
}

/// Runs both stages for each seed and compares every epoch with PyTorch's.
fn tuning(setting: &str, seeds: u64) {
    let (expected, folder) = reference();
    let expected = &expected["tuning"][setting];
    let clip = clip(&folder);
    let test = pictures(&folder, "test").cached(1 << 30);
    let train = pictures(&folder, "train").take(expected["images"].as_u64().unwrap() as usize).cached(1 << 30);
    let texts = texts(&folder, test.classes(), true);
    let epochs = expected["epochs"].as_u64().unwrap() as usize;
    let mut runs = Vec::new();
    for seed in 0..seeds {
        let mut lafter = LaFTer::new(clip.clone(), test.classes());
        lafter.config.seed = seed;
        lafter.config.tune.epochs = epochs;
        lafter.fit_text(&texts).unwrap();
        let mut run = Run::new(lafter.finetuner().unwrap());
        for _ in 0..epochs {
            run.fit_epoch(&train, |_| {}).unwrap();
            let top1 = run.evaluate(&test).unwrap().top1;
            run.note_test_accuracy(top1);
        }
        runs.push(run.history().to_vec());
    }
    for epoch in 0..epochs {
        let expected = &expected["per_epoch"][epoch];
        let of = |f: fn(&lafter::tune::EpochRecord) -> f64| runs.iter().map(|run| f(&run[epoch])).collect::<Vec<_>>();
        let name = |what: &str| format!("{setting}, epoch {}: {what}", epoch + 1);
        agrees(&name("loss"), &of(|e| e.loss), &expected["loss"], 0.01);
        agrees(&name("agreement"), &of(|e| e.agreement), &expected["agreement"], 0.5);
        agrees(&name("pseudo-labels"), &of(|e| e.pseudo_label_accuracy.unwrap()), &expected["pseudo_label_accuracy"], 0.5);
        agrees(&name("top-1"), &of(|e| e.test_top1.unwrap()), &expected["top1"], 0.5);
    }
}

#[test]
#[ignore = "needs LAFTER_TEST_DATA, see tests/README.md"]
fn short_tuning_goes_as_pytorchs() {
    tuning("short", 1);
}
