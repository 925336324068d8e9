//! Tuning: what must move, what must not, and a stopped tuner that goes on bit for bit. Its steps against PyTorch: parity.rs.

use std::path::Path;

use candle_core::{Device, Tensor};
use lafter::classify::{Head, TextClassifier};
use lafter::clip::Clip;
use lafter::nn::Param;
use lafter::rng::Rng;
use lafter::tune::{FinetuneConfig, Finetuner, Run, Views};

/// Largest difference relative to the largest value.
fn distance(a: &Tensor, b: &Tensor) -> f32 {
    let largest = |t: Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
    largest((a - b).unwrap()) / largest(b.clone()).max(1e-6)
}

/// The tiny CLIP that parity.rs compares with PyTorch.
fn tiny() -> Clip {
    Clip::from_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity/quick")).unwrap()
}

/// Everything declared trainable gets a finite, non-zero gradient and moves; everything else keeps its bits.
#[test]
fn what_is_declared_trainable_moves_and_nothing_else() {
    let variants = [
        FinetuneConfig::official(),
        FinetuneConfig { deep_prompts: true, ..FinetuneConfig::official() },
        FinetuneConfig { prompts: 0, normalize_student: true, ..FinetuneConfig::official() },
        FinetuneConfig { tune_norms: false, ..FinetuneConfig::paper() },
    ];
    for config in variants {
        let clip = tiny();
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
        let views = Views::new(weak.clone(), strong.clone());
        let targets = tuner.targets(&views).unwrap();
        let grads = tuner.loss(&views, &targets).unwrap().0.backward().unwrap();
        let before: Vec<Tensor> = params.iter().map(|param| param.var.copy().unwrap()).collect();
        for Param { name, var, .. } in &params {
            let largest = grads.get(var).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
            assert!(largest.is_finite() && largest > 0.0, "{name}: largest gradient {largest}");
        }
        tuner.step(&weak, &strong).unwrap();
        for (Param { name, var, .. }, before) in params.iter().zip(&before) {
            assert!(distance(var, before) > 0.0, "{name} did not move");
        }
        // the user's CLIP and classifier are untouched, bit for bit
        let fresh = tiny();
        let pixels = view();
        assert_eq!(distance(&clip.encode_image(&pixels).unwrap(), &fresh.encode_image(&pixels).unwrap()), 0.0);
        for ((_, a), (name, b)) in classifier.head.tensors().iter().zip(&teacher_before) {
            assert_eq!(distance(a, b), 0.0, "{name}");
        }
        // inside the tuned tower only the norms differ from the checkpoint
        let (tuned, original) = (tuner.tuned().vision, clip.vision());
        for (a, b) in tuned.blocks.iter().zip(&original.blocks) {
            assert_eq!(distance(&a.fc1.weight.tensor(), &b.fc1.weight.tensor()), 0.0);
            assert_eq!(distance(&a.attention.query.weight.tensor(), &b.attention.query.weight.tensor()), 0.0);
            assert_eq!(distance(&a.norm1.weight, &b.norm1.weight) > 0.0, config.tune_norms);
        }
        assert_eq!(distance(&tuned.patch_embedding.weight.tensor(), &original.patch_embedding.weight.tensor()), 0.0);
        assert_eq!(distance(&tuned.projection.weight.tensor(), &original.projection.weight.tensor()), 0.0);
    }
}

#[test]
fn a_resumed_tuner_goes_on_bit_for_bit() {
    let clip = tiny();
    let side = clip.config().vision.image_size;
    let head = Head::linear(clip.config().projection, 4, &mut Rng::new(2), &Device::Cpu).unwrap();
    let classifier = TextClassifier { head };
    let config = FinetuneConfig { prompts: 3, ..FinetuneConfig::official() };
    let new = |config| Run::new(Finetuner::new(&clip, &classifier, config, &mut Rng::new(4)).unwrap());
    let make = || new(config.clone());
    let view = |i: u64| Rng::new(i).normal_tensor((6, 3, side, side), 1.0, &Device::Cpu).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let mut whole = make();
    for i in 0..2 {
        whole.tuner.step(&view(i), &view(10 + i)).unwrap();
    }
    whole.checkpoint(&path).unwrap();
    let mut resumed = make();
    resumed.resume(&path).unwrap();
    for i in 2..4 {
        let (a, b) = (whole.tuner.step(&view(i), &view(10 + i)).unwrap(), resumed.tuner.step(&view(i), &view(10 + i)).unwrap());
        assert_eq!(a.loss.to_bits(), b.loss.to_bits());
    }
    let mut other = new(FinetuneConfig { learning_rate: 1e-3, ..config.clone() });
    let error = other.resume(&path).unwrap_err();
    assert!(error.is_usage() && error.to_string().lines().count() == 1, "{error}");
}
