//! The same code on a GPU: operations, a tuning step and a text epoch agree with the CPU to 1e-3; times are printed.
//!
//! ```text
//! cargo test --release --features cuda --test cuda -- --nocapture
//! ```
//! Without a GPU each test says so and passes; without the feature there is nothing to compile.
#![cfg(feature = "cuda")]

use std::time::Instant;

use candle_core::{Device, Tensor, Var};
use lafter::classify::{Head, TextClassifier, TextClassifierConfig, TextTrainer, smoothed_cross_entropy};
use lafter::clip::{Clip, ClipLoader};
use lafter::nn::{Activation, AdamW, AdamWConfig, LayerNorm, Linear, ParamGroup, softmax};
use lafter::progress::silent;
use lafter::rng::Rng;
use lafter::tune::{FinetuneConfig, Finetuner};

/// The first GPU; `None`, with the reason printed, where there is none.
fn gpu() -> Option<Device> {
    // without a driver the loader's error is a panic
    let device = std::panic::catch_unwind(|| Device::new_cuda(0));
    match device {
        Ok(Ok(device)) => Some(device),
        Ok(Err(error)) => skip(&error.to_string()),
        Err(_) => skip("the CUDA driver cannot be loaded"),
    }
}

fn skip(reason: &str) -> Option<Device> {
    println!("skipped: no GPU ({})", reason.lines().next().unwrap_or_default());
    None
}

fn close(name: &str, gpu: &Tensor, cpu: &Tensor) {
    let gpu = gpu.to_device(&Device::Cpu).unwrap();
    assert_eq!(gpu.dims(), cpu.dims(), "{name}");
    let largest = |t: &Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
    let distance = largest(&(&gpu - cpu).unwrap()) / largest(cpu).max(1e-6);
    assert!(distance < 1e-3, "{name}: differs by {distance:.2e} of its largest value");
}

/// Forward and gradient of `f` at the same point on both devices.
fn agrees(name: &str, device: &Device, x: &Tensor, f: impl Fn(&Tensor, &Device) -> Tensor) {
    let run = |device: &Device| {
        let x = Var::from_tensor(&x.to_device(device).unwrap()).unwrap();
        let y = f(x.as_tensor(), device);
        let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        (y.detach(), grads.get(&x).unwrap().clone())
    };
    let ((y, dx), (expected, expected_dx)) = (run(device), run(&Device::Cpu));
    close(name, &y, &expected);
    close(&format!("gradient of {name}"), &dx, &expected_dx);
}

#[test]
fn operations_agree_with_the_cpu() {
    let Some(device) = gpu() else { return };
    let mut rng = Rng::new(1);
    let mut draw = |shape: (usize, usize)| rng.normal_tensor(shape, 1.0, &Device::Cpu).unwrap();
    let (x, weight, bias, scale) =
        (draw((37, 48)), draw((24, 48)), draw((1, 24)).flatten_all().unwrap(), draw((1, 48)).flatten_all().unwrap());
    let shift = scale.affine(0.5, 0.1).unwrap();
    agrees("linear", &device, &x, |x, device| {
        Linear::new(weight.to_device(device).unwrap(), Some(bias.to_device(device).unwrap())).forward(x).unwrap()
    });
    agrees("layer norm", &device, &x, |x, device| {
        LayerNorm::new(scale.to_device(device).unwrap(), shift.to_device(device).unwrap(), 1e-5).forward(x).unwrap()
    });
    for activation in [Activation::QuickGelu, Activation::Gelu] {
        agrees(&format!("{activation:?}"), &device, &x, |x, _| activation.forward(x).unwrap());
    }
    agrees("softmax", &device, &x, |x, _| softmax(x).unwrap());
    let labels = Tensor::from_iter((0..37u32).map(|i| i % 48), &Device::Cpu).unwrap();
    agrees("smoothed cross entropy", &device, &x, |x, device| {
        smoothed_cross_entropy(x, &labels.to_device(device).unwrap(), 0.1).unwrap().reshape(1).unwrap()
    });
}

fn demo(device: &Device) -> Clip {
    ClipLoader::new("demo").device(device).load(silent).unwrap()
}

#[test]
fn towers_agree_with_the_cpu() {
    let Some(device) = gpu() else { return };
    let (ours, cpu) = (demo(&device), demo(&Device::Cpu));
    let side = cpu.config().vision.image_size;
    let pixels = Rng::new(2).normal_tensor((5, 3, side, side), 1.0, &Device::Cpu).unwrap();
    close("image features", &ours.encode_image(&pixels.to_device(&device).unwrap()).unwrap(), &cpu.encode_image(&pixels).unwrap());
    let texts = ["a photo of a house", "a red boat with two sails on the water", "fish"];
    close("text features", &ours.encode_text(&texts).unwrap(), &cpu.encode_text(&texts).unwrap());
}

#[test]
fn tuning_steps_agree_with_the_cpu() {
    let Some(device) = gpu() else { return };
    let run = |device: &Device| {
        let clip = demo(device);
        let head = Head::linear(clip.config().projection, 12, &mut Rng::new(1), device).unwrap();
        let config = FinetuneConfig { prompts: 4, ..FinetuneConfig::official() };
        let mut tuner = Finetuner::new(&clip, &TextClassifier { head }, config, &mut Rng::new(7777)).unwrap();
        let side = clip.config().vision.image_size;
        let view = |seed| Rng::new(seed).normal_tensor((50, 3, side, side), 1.0, device).unwrap();
        let losses: Vec<f32> = (0..3).map(|step| tuner.step(&view(2 * step), &view(2 * step + 1)).unwrap().loss).collect();
        let started = Instant::now();
        for _ in 0..10 {
            tuner.step(&view(100), &view(101)).unwrap();
        }
        println!("tuning step of the demo CLIP, batch 50, {device:?}: {:.2} ms", started.elapsed().as_secs_f64() * 100.0);
        (losses, tuner.trainable().params.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect::<Vec<_>>())
    };
    let ((losses, _), (expected, _)) = (run(&device), run(&Device::Cpu));
    for (ours, cpu) in losses.iter().zip(&expected) {
        assert!((ours - cpu).abs() < 1e-3 * cpu.abs(), "losses {losses:?} and {expected:?}");
    }
}

#[test]
fn a_text_epoch_agrees_with_the_cpu() {
    let Some(device) = gpu() else { return };
    let features = Rng::new(3).normal_tensor((600, 64), 1.0, &Device::Cpu).unwrap();
    let labels: Vec<usize> = (0..600).map(|i| i % 20).collect();
    let run = |device: &Device| {
        let config = TextClassifierConfig { epochs: 3, ..TextClassifierConfig::official() };
        let mut trainer = TextTrainer::new(&features.to_device(device).unwrap(), &labels, config, &mut Rng::new(5)).unwrap();
        let classifier = trainer.fit(silent).unwrap();
        (classifier.head.layers[0].weight.clone(), trainer.history()[2].loss)
    };
    let ((weight, loss), (expected, expected_loss)) = (run(&device), run(&Device::Cpu));
    close("head", &weight, &expected);
    assert!((loss - expected_loss).abs() < 1e-3 * expected_loss);
}

/// AdamW moves a parameter by at most the learning rate, so a hundred steps show a wrong moment.
#[test]
fn adamw_agrees_with_the_cpu() {
    let Some(device) = gpu() else { return };
    let run = |device: &Device| {
        let x = Var::from_tensor(&Rng::new(4).normal_tensor((8, 8), 1.0, device).unwrap()).unwrap();
        let group = ParamGroup { params: vec![("x".into(), x.clone())], weight_decay: 0.01, rate: 1.0 };
        let mut optimiser = AdamW::new(vec![group], AdamWConfig { learning_rate: 0.01, ..Default::default() }).unwrap();
        for _ in 0..100 {
            optimiser.step(&x.sqr().unwrap().sum_all().unwrap().backward().unwrap(), 1.0).unwrap();
        }
        x.as_detached_tensor()
    };
    close("parameters", &run(&device), &run(&Device::Cpu));
}

/// The paper's stage one at the size of ImageNet: 130,000 texts, width 512, 1,000 classes.
#[test]
#[ignore = "for its time: cargo test --release --features cuda --test cuda -- --ignored --nocapture"]
fn the_papers_text_epochs_at_full_size() {
    let Some(device) = gpu() else { return };
    let features = Rng::new(6).normal_tensor((130_000, 512), 1.0, &device).unwrap();
    let labels: Vec<usize> = (0..130_000).map(|i| i % 1000).collect();
    let mut trainer = TextTrainer::new(&features, &labels, TextClassifierConfig::paper(), &mut Rng::new(1)).unwrap();
    trainer.epoch().unwrap();
    let started = Instant::now();
    for _ in 0..20 {
        trainer.epoch().unwrap();
    }
    println!("3,000 text epochs on {device:?}: {:.1} s", started.elapsed().as_secs_f64() / 20.0 * 3000.0);
}
