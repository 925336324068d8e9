//! The same code on a GPU: operations, a tuning step, a text epoch and a whole run agree with the CPU to 1e-3; times are printed.
//!
//! ```text
//! cargo test --release --features cuda --test cuda -- --nocapture
//! cargo test --release --features cuda --test cuda -- --nocapture --include-ignored     # also at the sizes of the paper
//! ```
//! Each test fails without a GPU: one that passes has run on one. Without the feature there is nothing to compile.
#![cfg(feature = "cuda")]

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use candle_core::cuda::set_gemm_reduced_precision_f32 as allow_tf32;
use candle_core::{DType, Device, Tensor, Var};
use lafter::ablate::Ablation;
use lafter::augment::{Preprocess, RgbImage};
use lafter::classify::{Head, NoisyTexts, TextClassifier, TextClassifierConfig, TextTrainer, normalize};
use lafter::classify::{smoothed_cross_entropy, smoothed_cross_entropy_rows};
use lafter::clip::{Clip, ClipLoader, VisionConfig, save_tensors};
use lafter::data::Dataset;
use lafter::data::scenes::{Domain, Scenes};
use lafter::experiment::Experiment;
use lafter::nn::{Activation, AdamW, AdamWConfig, Attention, Block, Isa, LayerNorm, Linear, Param, ParamGroup, Precision, argmax, softmax};
use lafter::pretrain::{PretrainConfig, Pretrainer};
use lafter::progress::silent;
use lafter::ranks::Ranks;
use lafter::rng::Rng;
use lafter::tune::{FinetuneConfig, Finetuner, Run, Targets, Views};
use serde_json::{Value, json};

#[path = "cuda/strong_views.rs"]
mod strong_views;

/// One test at a time: whether products may round to TF32 is a switch of the whole process, and times are printed.
static ONE: Mutex<()> = Mutex::new(());

/// The first GPU with exact f32.
fn gpu() -> (Device, MutexGuard<'static, ()>) {
    let turn = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    allow_tf32(false);
    (lafter::device::open("cuda").expect("a GPU, which these tests need"), turn)
}

fn normal(shape: impl Into<candle_core::Shape>, seed: u64) -> Tensor {
    Rng::new(seed).normal_tensor(shape, 1.0, &Device::Cpu).unwrap()
}

fn close_to(name: &str, gpu: &Tensor, cpu: &Tensor, tolerance: f32) {
    let f32s = |t: &Tensor| t.to_device(&Device::Cpu).unwrap().to_dtype(DType::F32).unwrap();
    let (gpu, cpu) = (f32s(gpu), f32s(cpu));
    assert_eq!(gpu.dims(), cpu.dims(), "{name}");
    let largest = |t: &Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
    let distance = largest(&(&gpu - &cpu).unwrap()) / largest(&cpu).max(1e-6);
    assert!(distance < tolerance, "{name}: differs by {distance:.2e} of its largest value");
}

fn close(name: &str, gpu: &Tensor, cpu: &Tensor) {
    close_to(name, gpu, cpu, 1e-3);
}

/// Result and gradients of `f` at the same point on both devices; the result is weighted, so that no gradient cancels. The
/// reference is f32 throughout, on the rounded inputs: Candle's sums in bf16 are bf16 on the CPU.
fn agrees(name: &str, device: &Device, inputs: &[&Tensor], tolerance: f32, f: impl Fn(&[Tensor]) -> Tensor) {
    let run = |device: &Device| {
        let on = |x: &Tensor| if device.is_cpu() { x.to_dtype(DType::F32).unwrap() } else { x.to_device(device).unwrap() };
        let vars: Vec<Var> = inputs.iter().map(|x| Var::from_tensor(&on(x)).unwrap()).collect();
        let y = f(&vars.iter().map(|var| var.as_tensor().clone()).collect::<Vec<_>>());
        let weights = normal(y.shape(), 99).to_device(device).unwrap().to_dtype(y.dtype()).unwrap();
        let grads = (&y * weights).unwrap().to_dtype(DType::F32).unwrap().sum_all().unwrap().backward().unwrap();
        (y.detach(), vars.iter().map(|var| grads.get(var).unwrap().clone()).collect::<Vec<_>>())
    };
    let ((y, gradients), (expected, expected_gradients)) = (run(device), run(&Device::Cpu));
    close_to(name, &y, &expected, tolerance);
    for (i, (ours, cpu)) in gradients.iter().zip(&expected_gradients).enumerate() {
        close_to(&format!("gradient {i} of {name}"), ours, cpu, tolerance);
    }
}

#[test]
fn operations_agree_with_the_cpu() {
    let (device, _turn) = gpu();
    for (rows, width) in [(37, 48), (1, 33), (5, 7), (130, 768)] {
        let (x, scale, shift) = (normal((rows, width), 1), normal(width, 2), normal(width, 3));
        let (weight, bias) = (normal((24, width), 4), normal(24, 5));
        agrees("layer norm", &device, &[&x, &scale, &shift], 1e-3, |t| {
            LayerNorm::new(t[1].clone(), t[2].clone(), 1e-5).forward(&t[0]).unwrap()
        });
        agrees("linear that learns", &device, &[&x, &weight, &bias], 1e-3, |t| {
            Linear::new(t[1].clone(), Some(t[2].clone())).forward(&t[0]).unwrap()
        });
        agrees("frozen linear", &device, &[&x], 1e-3, |t| {
            let on = |frozen: &Tensor| frozen.to_device(t[0].device()).unwrap();
            Linear::new(on(&weight), Some(on(&bias))).forward(&t[0]).unwrap()
        });
        agrees("frozen linear without bias", &device, &[&x], 1e-3, |t| {
            Linear::new(weight.to_device(t[0].device()).unwrap(), None).forward(&t[0]).unwrap()
        });
        let labels = Tensor::from_iter((0..rows as u32).map(|i| i % width as u32), &Device::Cpu).unwrap();
        agrees("smoothed cross entropy", &device, &[&x], 1e-3, |t| {
            smoothed_cross_entropy(&t[0], &labels.to_device(t[0].device()).unwrap(), 0.1).unwrap().reshape(1).unwrap()
        });
        let rounded = x.to_dtype(DType::BF16).unwrap();
        for (kind, x, tolerance) in [("f32", &x, 1e-3), ("bf16", &rounded, 3e-2)] {
            agrees(&format!("softmax in {kind}"), &device, &[x], tolerance, |t| softmax(&t[0]).unwrap());
            for activation in [Activation::QuickGelu, Activation::Gelu] {
                agrees(&format!("{activation:?} in {kind}"), &device, &[x], tolerance, |t| activation.forward(&t[0]).unwrap());
            }
        }
    }
}

/// What the CPU says of equal values, of values that are not finite, of sums in half precision.
#[test]
fn edges_are_those_of_the_cpu() {
    let (device, _turn) = gpu();
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let mut wide = vec![0.0f32; 2000];
    [5, 700, 1029].into_iter().for_each(|at| wide[at] = 1.0);
    let equal = vec![vec![0.0, 0.5, 0.5, 0.0], vec![0.0, 0.0, 1.0, 1.0, 1.0], vec![0.25; 40], vec![-inf; 3], wide];
    for (row, first) in equal.into_iter().zip([1, 2, 0, 0, 5]) {
        let x = Tensor::new(&row[..], &device).unwrap().unsqueeze(0).unwrap().repeat((2, 1)).unwrap();
        let answers = Targets::new(x.clone(), x.clone()).unwrap();
        let warm = Targets::of_logits(x.clone(), &x, 2.0).unwrap();
        let again = warm.clone().with_probabilities(x.clone()).unwrap();
        for labels in [answers.labels, warm.labels, again.labels, argmax(&x.to_dtype(DType::F16).unwrap()).unwrap()] {
            assert_eq!(labels.to_vec1::<u32>().unwrap(), [first; 2], "{row:?}");
        }
    }
    for row in [[nan, 1.0, 2.0], [1.0, nan, 2.0], [1.0, 3.0, nan], [nan; 3]] {
        let x = Tensor::new(&row, &Device::Cpu).unwrap();
        let ours = argmax(&x.to_device(&device).unwrap()).unwrap().to_scalar::<u32>().unwrap();
        assert_eq!(ours, x.argmax(0).unwrap().to_scalar::<u32>().unwrap(), "{row:?}");
    }
    let x = Tensor::new(&[-inf, -200.0, 0.0, inf], &Device::Cpu).unwrap();
    for activation in [Activation::QuickGelu, Activation::Gelu] {
        let ends = |x: &Tensor| activation.forward(x).unwrap().to_vec1::<f32>().unwrap();
        let ours = ends(&x.to_device(&device).unwrap());
        assert_eq!((ours[0], ours[3]), (ends(&x)[0], inf), "{activation:?}");
    }
    let x = normal((4, 577), 1).to_dtype(DType::F16).unwrap();
    close_to("softmax in f16", &softmax(&x.to_device(&device).unwrap()).unwrap(), &softmax(&x).unwrap(), 1e-3);
}

#[test]
fn no_rows_give_no_rows() {
    let (device, _turn) = gpu();
    let x = normal((3, 6), 1).to_device(&device).unwrap().narrow(0, 0, 0).unwrap();
    let (weight, bias) = (normal((4, 6), 2).to_device(&device).unwrap(), normal(4, 3).to_device(&device).unwrap());
    let scale = normal(6, 4).to_device(&device).unwrap();
    let learns = Var::from_tensor(&weight).unwrap();
    for (width, y) in [
        (6, softmax(&x)),
        (6, normalize(&x)),
        (6, LayerNorm::new(scale.clone(), scale, 1e-5).forward(&x)),
        (6, Activation::QuickGelu.forward(&x)),
        (6, Activation::Gelu.forward(&x)),
        (4, Linear::new(weight.clone(), Some(bias.clone())).forward(&x)),
        (4, Linear::new(weight, None).forward(&x)),
        (4, Linear::new(learns.as_tensor().clone(), Some(bias)).forward(&x)),
    ] {
        assert_eq!(y.unwrap().dims(), [0, width]);
    }
    let (clip, cpu) = (demo(&device), demo(&Device::Cpu));
    let side = clip.config().vision.image_size;
    let none = |clip: &Clip| clip.encode_image(&views(clip, 1, 1).narrow(0, 0, 0).unwrap()).unwrap().dims().to_vec();
    assert_eq!(none(&clip), none(&cpu));
    let tuned = tuner(&clip, 12, FinetuneConfig { prompts: 4, ..FinetuneConfig::official() }).tuned();
    assert_eq!(tuned.logits(&views(&clip, 1, 1).narrow(0, 0, 0).unwrap()).unwrap().dims(), [0, 12]);
    assert!(clip.encode_image(&x.reshape((0, 3, side, 5)).unwrap()).is_err());
}

/// A block of random layers, packed for its device.
fn block(device: &Device, [width, heads, hidden]: [usize; 3], causal: bool, precision: Precision) -> (Block, Vec<Var>) {
    let mut seed = 10;
    let mut tensor = |shape: &[usize], scale: f64| {
        seed += 1;
        (normal(shape, seed) * scale).unwrap().to_device(device).unwrap()
    };
    let mut linear = |inputs: usize, outputs: usize| {
        Linear::new(tensor(&[outputs, inputs], 1.0 / (inputs as f64).sqrt()), Some(tensor(&[outputs], 0.5)))
    };
    let [query, key, value, output] = [0; 4].map(|_| linear(width, width));
    let (fc1, fc2) = (linear(width, hidden), linear(hidden, width));
    let vars: Vec<Var> = (0..4).map(|_| Var::from_tensor(&(tensor(&[width], 0.3) + 1.0).unwrap()).unwrap()).collect();
    let norm = |i: usize| LayerNorm::new(vars[i].as_tensor().clone(), vars[i + 1].as_tensor().clone(), 1e-5);
    let attention = Attention { query, key, value, output, heads, causal };
    let block = Block { norm1: norm(0), attention, norm2: norm(2), fc1, fc2, activation: Activation::QuickGelu };
    (block.packed(precision, Isa::best()).unwrap(), vars)
}

/// A block's two branches, all tokens and the first alone, on sizes that are no multiple of anything: values and gradients of the
/// input and of the norms; the same bits twice.
#[test]
fn blocks_agree_with_the_cpu_and_repeat() {
    let (device, _turn) = gpu();
    for (sizes @ [width, ..], batch, tokens, causal) in
        [([33, 3, 41], 3, 7, false), ([40, 5, 23], 2, 13, true), ([64, 1, 130], 1, 1, false)]
    {
        let x = normal((batch, tokens, width), 3);
        for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 3e-2)] {
            for first in [false, true] {
                let run = |device: &Device, precision| {
                    let (block, vars) = block(device, sizes, causal, precision);
                    let x = Var::from_tensor(&x.to_device(device).unwrap()).unwrap();
                    let y = if first { block.forward_class(&x) } else { block.forward(&x) }.unwrap();
                    let weights = normal(y.shape(), 99).to_device(device).unwrap();
                    let grads = (&y * weights).unwrap().sum_all().unwrap().backward().unwrap();
                    let mut all = vec![("y".to_string(), y.detach()), ("x".to_string(), grads.get(&x).unwrap().clone())];
                    all.extend(vars.iter().enumerate().map(|(i, var)| (format!("norm {i}"), grads.get(var).unwrap().clone())));
                    let frozen = if first { block.detached().forward_class(&x.detach()) } else { block.detached().forward(&x.detach()) };
                    all.push(("y without a graph".to_string(), frozen.unwrap()));
                    all
                };
                let (ours, again, cpu) = (run(&device, precision), run(&device, precision), run(&Device::Cpu, Precision::F32));
                for (((name, ours), (_, again)), (_, cpu)) in ours.iter().zip(&again).zip(&cpu) {
                    close_to(&format!("{name} of {sizes:?}, {tokens} tokens, first {first}, {precision:?}"), ours, cpu, tolerance);
                    let bits = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                    assert_eq!(bits(ours), bits(again), "{name}");
                }
            }
        }
    }
}

/// Bytes to planes, planes to patches: the CPU's bits.
#[test]
fn views_have_the_bits_of_the_cpu() {
    let (device, _turn) = gpu();
    let weak = Preprocess::clip(35);
    let pictures: Vec<RgbImage> = (0..7u32)
        .map(|i| RgbImage::from_fn(35, 35, |x, y| image::Rgb([(x * y + i) as u8, (37 * x + i) as u8, (x ^ (y * i)) as u8])))
        .collect();
    let cpu = weak.batch(&pictures, &Device::Cpu).unwrap();
    let levels = RgbImage::from_fn(256, 1, |level, _| image::Rgb([level as u8; 3]));
    let table = lafter::augment::ops::normalize(&levels, weak.mean, weak.std, weak.rescale);
    let mut upload = lafter_fast::Upload::new(&device, &table).unwrap().unwrap();
    let bits = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let one = lafter_fast::ViewTaps::copy(1);
    let recipe = lafter_fast::ViewRecipe {
        pixels: vec![1, 2, 3],
        width: 1,
        height: 1,
        rows_first: false,
        columns: one.clone(),
        rows: one,
        steps: Vec::new(),
    };
    let many = upload.views(&vec![recipe; 65_537], 1).unwrap(); // more than blocks fit along y
    assert_eq!(many.flatten_from(1).unwrap().to_vec2::<f32>().unwrap()[65_536], [table[1], table[256 + 2], table[512 + 3]]);
    for few in [7, 7, 3, 7, 7, 1, 7] {
        let bytes: Vec<Vec<u8>> = pictures.iter().take(few).map(|picture| picture.as_raw().clone()).collect();
        let ours = upload.planes(&bytes, 35, 35).unwrap();
        assert_eq!(bits(&ours), bits(&cpu.narrow(0, 0, few).unwrap()));
        for side in [5, 7, 35, 1] {
            let cut = lafter::clip::patches(&ours, side).unwrap();
            assert_eq!(bits(&cut), bits(&lafter::clip::patches(&cpu.narrow(0, 0, few).unwrap(), side).unwrap()));
        }
    }
    assert!(upload.planes(&[vec![0; 5]], 35, 35).is_err() && upload.planes(&[], 35, 35).is_err());
}

/// Batches staged while the GPU is behind keep their bytes: no buffer is filled again or given back before its copy is done. Only a
/// card can show it: an emulator is never behind.
#[test]
fn batches_staged_ahead_of_the_gpu_keep_their_bytes() {
    let (device, _turn) = gpu();
    let table: Vec<f32> = (0..3 * 256).map(|level| (level % 256) as f32).collect();
    let mut upload = lafter_fast::Upload::new(&device, &table).unwrap().unwrap();
    let mut staged = |level: u8| upload.planes(&vec![vec![level; 3 * 64 * 64]; 4], 64, 64).unwrap();
    (0..4).for_each(|level| drop(staged(level))); // every buffer and kernel, which the driver makes in its own time
    device.synchronize().unwrap();
    let stream = device.as_cuda_device().unwrap().cuda_stream();
    let mut memory = stream.alloc_zeros::<u8>(1 << 28).unwrap();
    let mut behind = || (0..40).for_each(|_| stream.memset_zeros(&mut memory).unwrap()); // milliseconds
    behind();
    let mut all: Vec<Tensor> = (10..19).map(&mut staged).collect();
    behind();
    all.extend((19..22).map(&mut staged));
    drop(upload);
    for (level, planes) in (10..22u8).zip(&all) {
        let found = planes.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(found.iter().all(|found| *found == f32::from(level)), "{} in the place of {level}", found[0]);
    }
}

/// Two devices of one GPU would be two streams, between which nothing is ordered.
#[test]
fn a_gpu_is_opened_once() {
    let (device, _turn) = gpu();
    assert!(device.same_device(&lafter::device::open("cuda:0").unwrap()));
    let error = lafter::device::open("cuda:99").unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("--device cuda:99: there is no such GPU"), "{error}");
    assert!(lafter::device::arithmetic(&device).unwrap().starts_with("cuda "));
}

/// What fits nowhere is an error, as on the CPU, and so is a layer that lies elsewhere than its input.
#[test]
fn what_cannot_work_is_an_error() {
    let (device, _turn) = gpu();
    for (device, other) in [(&device, &Device::Cpu), (&Device::Cpu, &device)] {
        let (block, _) = block(device, [16, 2, 24], false, Precision::F32);
        let x = normal((2, 3, 16), 1);
        assert!(block.forward(&x.to_device(device).unwrap()).is_ok());
        assert!(block.forward(&x.to_device(other).unwrap()).is_err());
        let error = block.fc1.forward(&x.to_device(other).unwrap()).unwrap_err().to_string();
        assert!(error.contains("different devices"), "{error}");
        for heads in [0, 3] {
            let mut bad = block.clone();
            bad.attention.heads = heads;
            let error = bad.forward(&x.to_device(device).unwrap()).unwrap_err().to_string();
            assert!(error.contains(&format!("{heads} heads")), "{error}");
        }
    }
}

fn demo(device: &Device) -> Clip {
    ClipLoader::new("demo").device(device).load(silent).unwrap()
}

#[test]
fn towers_agree_with_the_cpu() {
    let (device, _turn) = gpu();
    let (ours, cpu) = (demo(&device), demo(&Device::Cpu));
    let side = cpu.config().vision.image_size;
    let pixels = normal((5, 3, side, side), 2);
    let expected = cpu.encode_image(&pixels).unwrap();
    let pixels = pixels.to_device(&device).unwrap();
    close("image features", &ours.encode_image(&pixels).unwrap(), &expected);
    let rounded = ours.vision().packed(Precision::Bf16).unwrap();
    close_to("image features in bf16", &rounded.forward(&pixels).unwrap(), &expected, 5e-2);
    let texts = ["a photo of a house", "a red boat with two sails on the water", "fish"];
    close("text features", &ours.encode_text(&texts).unwrap(), &cpu.encode_text(&texts).unwrap());
}

fn tuner(clip: &Clip, classes: usize, config: FinetuneConfig) -> Finetuner {
    let head = Head::linear(clip.config().projection, classes, &mut Rng::new(1), clip.device()).unwrap();
    Finetuner::new(clip, &TextClassifier { head }, config, &mut Rng::new(7777)).unwrap()
}

fn views(clip: &Clip, batch: usize, seed: u64) -> Tensor {
    let side = clip.config().vision.image_size;
    normal((batch, 3, side, side), seed).to_device(clip.device()).unwrap()
}

/// Loss and every gradient of eq. 4, then the losses of three steps.
fn tuned(device: &Device, precision: Precision) -> (Vec<(String, Tensor)>, Vec<f32>) {
    let clip = demo(device);
    let mut tuner = tuner(&clip, 12, FinetuneConfig { prompts: 4, precision, ..FinetuneConfig::official() });
    let labels = Tensor::from_iter((0..50u32).map(|i| i % 12), device).unwrap();
    let both = Views::new(views(&clip, 50, 1), views(&clip, 50, 1));
    let targets = Targets { labels, ..tuner.targets(&both).unwrap() };
    let (loss, _) = tuner.loss(&both, &targets).unwrap();
    let (grads, handed) = (loss.backward().unwrap(), lafter_fast::backward(&loss).unwrap());
    let values = |grad: Option<&Tensor>| grad.unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let mut named = vec![("loss".to_string(), loss.detach().reshape(1).unwrap())];
    for Param { name, var, .. } in &tuner.trainable().params {
        assert_eq!(var.dtype(), DType::F32, "{name}");
        assert_eq!(values(grads.get(var)), values(handed.get(var)), "{name}: handed over, and added to zeros");
        named.push((name.clone(), grads.get(var).unwrap().clone()));
    }
    let losses = (0..3).map(|step| tuner.step(&views(&clip, 50, 2 * step), &views(&clip, 50, 2 * step + 1)).unwrap().loss).collect();
    let started = Instant::now();
    for _ in 0..10 {
        tuner.step(&views(&clip, 50, 100), &views(&clip, 50, 101)).unwrap();
    }
    let milliseconds = started.elapsed().as_secs_f64() * 100.0;
    println!("tuning step of the demo CLIP, batch 50, {precision:?}, {device:?}: {milliseconds:.2} ms with drawing the views");
    (named, losses)
}

#[test]
fn tuning_steps_agree_with_the_cpu() {
    let (device, _turn) = gpu();
    let (expected, expected_losses) = tuned(&Device::Cpu, Precision::F32);
    let compare = |what: &str, precision, tolerance: f32| {
        let (found, losses) = tuned(&device, precision);
        for ((name, ours), (_, cpu)) in found.iter().zip(&expected) {
            close_to(&format!("{name} in {what}"), ours, cpu, tolerance);
        }
        for (ours, cpu) in losses.iter().zip(&expected_losses) {
            assert!((ours - cpu).abs() < tolerance * cpu.abs(), "losses {losses:?} and {expected_losses:?} in {what}");
        }
    };
    compare("f32", Precision::F32, 1e-3);
    // eight bits of mantissa through twelve products: what is compared is that nothing is lost
    compare("bf16", Precision::Bf16, 0.1);
    allow_tf32(true);
    compare("TF32", Precision::F32, 2e-2);
}

/// In chunks, for a linear head and for an MLP, with and without a choice of rows; a different noise would show in all.
#[test]
fn the_text_loss_agrees_with_the_cpu() {
    let (device, _turn) = gpu();
    let labels: Vec<usize> = (0..20_000).map(|i| i * 7 % 101).collect();
    let features = normal((20_000, 63), 3); // more than one chunk, and an odd width
    let rows: Vec<u32> = (0..1234).map(|i| i * 13 % 20_000).collect();
    for (hidden, rows) in [(None, None), (None, Some(&rows[..])), (Some(32), None), (Some(32), Some(&rows[..]))] {
        let run = |device: &Device| {
            let head = match hidden {
                None => Head::linear(63, 101, &mut Rng::new(1), device),
                Some(hidden) => Head::mlp(63, hidden, 101, &mut Rng::new(1), device),
            };
            let (head, params) = head.unwrap().trainable().unwrap();
            let texts = NoisyTexts::new(features.to_device(device).unwrap(), &labels, 0.5, 0.1).unwrap();
            let mut rng = Rng::new(5);
            let (loss, right) = texts.loss(&head, rows, &mut rng).unwrap();
            let grads = loss.backward().unwrap();
            let gradients: Vec<Tensor> = params.iter().map(|param| grads.get(&param.var).unwrap().clone()).collect();
            (loss.detach().reshape(1).unwrap(), right.to_scalar::<f32>().unwrap(), gradients, rng)
        };
        let (ours, cpu) = (run(&device), run(&Device::Cpu));
        close("loss", &ours.0, &cpu.0);
        assert!((ours.1 - cpu.1).abs() <= 3.0, "{} and {} right", ours.1, cpu.1); // ties within rounding
        ours.2.iter().zip(&cpu.2).for_each(|(ours, cpu)| close("gradient", ours, cpu));
        assert_eq!(ours.3, cpu.3, "both draw equally many numbers");
    }
}

#[test]
fn a_text_epoch_agrees_with_the_cpu() {
    let (device, _turn) = gpu();
    let features = normal((600, 64), 3);
    let labels: Vec<usize> = (0..600).map(|i| i % 20).collect();
    for (hidden, batch_size) in [(None, None), (None, Some(100)), (Some(16), None)] {
        let run = |device: &Device| {
            let config = TextClassifierConfig { epochs: 3, hidden, batch_size, ..TextClassifierConfig::official() };
            let mut trainer = TextTrainer::new(&features.to_device(device).unwrap(), &labels, config, &mut Rng::new(5)).unwrap();
            let started = Instant::now();
            let classifier = trainer.fit(silent).unwrap();
            println!("three text epochs of 600 × 64, {device:?}: {:.2} ms", started.elapsed().as_secs_f64() * 1e3);
            (classifier.head.layers[0].weight.tensor(), trainer.history()[2].loss)
        };
        let ((weight, loss), (expected, expected_loss)) = (run(&device), run(&Device::Cpu));
        close_to("head", &weight, &expected, 5e-3); // AdamW takes the sign of a gradient near zero for whole
        assert!((loss - expected_loss).abs() < 1e-3 * expected_loss);
    }
}

/// AdamW moves a parameter by at most the learning rate, so a hundred steps show a wrong moment; half of them after a restore. Several
/// parameters of odd sizes, with and without decay: each has its own place in the flat moments.
#[test]
fn adamw_agrees_with_the_cpu() {
    let (device, _turn) = gpu();
    let run = |device: &Device| {
        let var = |shape: &[usize], seed| Var::from_tensor(&normal(shape, seed).to_device(device).unwrap()).unwrap();
        let all = [var(&[8, 9], 4), var(&[1], 5), var(&[7], 6), var(&[3, 5, 11], 7), var(&[300], 8)];
        let optimizer = || {
            let group = |part: &[Var], weight_decay, lr_factor| {
                let params = part.iter().enumerate().map(|(i, var)| (format!("{lr_factor} {i}"), var.clone())).collect();
                ParamGroup { params, weight_decay, lr_factor }
            };
            let config = AdamWConfig { learning_rate: 0.01, ..Default::default() };
            AdamW::new(vec![group(&all[..2], 0.01, 1.0), group(&all[2..], 0.0, 0.5)], config).unwrap()
        };
        let mut first = optimizer();
        let step = |optimizer: &mut AdamW| {
            let squares = all.iter().map(|var| var.sqr().unwrap().sum_all().unwrap());
            let loss = squares.reduce(|a, b| (a + b).unwrap()).unwrap();
            optimizer.step(&loss.backward().unwrap(), 1.0).unwrap();
        };
        (0..50).for_each(|_| step(&mut first));
        let mut second = optimizer();
        second.restore(first.steps(), &first.state().into_iter().collect()).unwrap();
        (0..50).for_each(|_| step(&mut second));
        let moments = second.state();
        let values = all.iter().map(|var| ("parameter".to_string(), var.as_detached_tensor()));
        values.chain(moments).collect::<Vec<_>>()
    };
    for ((name, ours), (_, cpu)) in run(&device).iter().zip(&run(&Device::Cpu)) {
        close(name, ours, cpu);
    }
}

/// A clone goes its own way, and so does an optimizer that took over another's state: on a GPU a step changes moments where they lie.
#[test]
fn copies_of_an_optimizer_have_moments_of_their_own() {
    let (device, _turn) = gpu();
    let run = |device: &Device| {
        let var = Var::from_tensor(&normal(33, 4).to_device(device).unwrap()).unwrap();
        let optimizer = || {
            let group = ParamGroup { params: vec![("x".into(), var.clone())], weight_decay: 0.01, lr_factor: 1.0 };
            AdamW::new(vec![group], AdamWConfig { learning_rate: 0.01, ..Default::default() }).unwrap()
        };
        let step = |optimizer: &mut AdamW| optimizer.step(&var.sqr().unwrap().sum_all().unwrap().backward().unwrap(), 1.0).unwrap();
        let mut first = optimizer();
        (0..3).for_each(|_| step(&mut first));
        let (mut clone, idle, mut restored) = (first.clone(), first.clone(), optimizer());
        restored.restore(first.steps(), &first.state().into_iter().collect()).unwrap();
        (0..2).for_each(|_| [&mut first, &mut clone, &mut restored].into_iter().for_each(step));
        [first, clone, idle, restored].iter().flat_map(AdamW::state).collect::<Vec<_>>()
    };
    for (i, ((name, ours), (_, cpu))) in run(&device).iter().zip(&run(&Device::Cpu)).enumerate() {
        close(&format!("{name} of optimizer {}", i / 2), ours, cpu);
    }
}

/// The same seed gives the same bits on one device: no sum depends on which thread comes first.
#[test]
fn the_same_seed_gives_the_same_bits() {
    let (device, _turn) = gpu();
    let values = |named: &[(String, Tensor)]| -> Vec<Vec<f32>> {
        named.iter().map(|(_, tensor)| tensor.flatten_all().unwrap().to_vec1().unwrap()).collect()
    };
    let run = || tuned(&device, Precision::F32);
    let ((first, losses), (second, again)) = (run(), run());
    assert_eq!(values(&first), values(&second));
    assert_eq!(losses, again);
}

/// The demo on a few pictures, both stages.
fn short(clip: Clip) -> Experiment {
    let mut experiment = Experiment::demo(clip, 1).unwrap();
    (experiment.train, experiment.test) = (experiment.train.take(16), experiment.test.map(|test| test.take(12)));
    experiment.config.text.epochs = 4;
    (experiment.config.tune.epochs, experiment.config.tune.batch_size) = (2, 8);
    experiment
}

/// A whole run: features, three classifiers, signals, predictions, files; stopped after an epoch and resumed, it ends the same.
#[test]
fn a_whole_run_agrees_with_the_cpu_and_resumes() {
    let (device, _turn) = gpu();
    let folder = tempfile::tempdir().unwrap();
    let run = |experiment: Experiment, name: &str, resume| {
        Experiment { out: Some(folder.path().join(name)), resume, ..experiment }.run(silent).unwrap()
    };
    let (ours, cpu) = (run(short(demo(&device)), "gpu", false), run(short(demo(&Device::Cpu)), "cpu", false));
    for (ours, cpu) in ours.history.iter().zip(&cpu.history) {
        assert!((ours.loss - cpu.loss).abs() < 1e-2 * cpu.loss, "losses {} and {}", ours.loss, cpu.loss);
    }
    let features = |outcome: &lafter::experiment::Outcome| outcome.test_features.as_ref().unwrap().rows.clone();
    close("test features", &features(&ours), &features(&cpu));
    assert_eq!((ours.report.device.as_str(), ours.report.tf32), ("cuda:0", false));
    assert!(ours.predicted.is_some() && ours.zero_shot.is_some() && ours.text_classifier.is_some());
    let mut first = short(demo(&device));
    first.config.tune.epochs = 1;
    run(first, "stopped", false);
    let out = Some(folder.path().join("stopped"));
    let elsewhere = Experiment { out, resume: true, ..short(demo(&Device::Cpu)) };
    let error = elsewhere.run(silent).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("was made on cuda, and cpu rounds otherwise"), "{error}");
    let resumed = run(short(demo(&device)), "stopped", true);
    let losses = |outcome: &lafter::experiment::Outcome| outcome.history.iter().map(|epoch| epoch.loss.to_bits()).collect::<Vec<_>>();
    assert_eq!(losses(&ours), losses(&resumed));
    let weights = folder.path().join("gpu/lafter.safetensors");
    let loaded = lafter::LaFTer::load(&weights, demo(&device)).unwrap();
    let test = short(demo(&device)).test.unwrap();
    assert_eq!(loaded.evaluate(&test, silent).unwrap().top1, ours.tuned.unwrap().top1);
    let pictures: Vec<RgbImage> = (0..test.len()).map(|index| test.image(index).unwrap()).collect();
    let on_cpu = lafter::LaFTer::load(&weights, demo(&Device::Cpu)).unwrap().predict(&pictures).unwrap();
    for (ours, cpu) in loaded.predict(&pictures).unwrap().iter().zip(&on_cpu) {
        let pairs = ours.probabilities.iter().zip(&cpu.probabilities);
        assert!(ours.probabilities.len() == cpu.probabilities.len() && pairs.into_iter().all(|(ours, cpu)| (ours - cpu).abs() < 1e-3));
    }
}

/// The methods after LaFTer, their blocks in a few lists, two epochs on a few pictures each: losses, their terms and what the rules
/// left in are those of the CPU.
#[test]
fn the_later_methods_agree_with_the_cpu() {
    let (device, _turn) = gpu();
    let pictures = Dataset::new(Scenes::new(Domain::Target, 9, 3));
    let run = |device: &Device, settings: &Value| {
        let clip = demo(device);
        let base = FinetuneConfig { prompts: 2, epochs: 2, batch_size: 4, learning_rate: 1e-3, ..FinetuneConfig::official() };
        let mut config = serde_json::to_value(base).unwrap();
        config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let config = serde_json::from_value(config).unwrap();
        let head = Head::linear(clip.config().projection, pictures.classes().len(), &mut Rng::new(5), clip.device()).unwrap();
        let tuner = Finetuner::new(&clip, &TextClassifier { head }, config, &mut Rng::new(7)).unwrap();
        Run::new(tuner).fit(&pictures, silent).unwrap()
    };
    for settings in [
        json!({
            "head_form": {"cosine": {"scale": 20.0}}, "teacher_head": "shared", "keep_last": true, "prompts": 0,
            "refine": [{"align": {"window": 2}}, {"prototypes": {"scale": 20.0}}, "relative"],
            "objective": [[1.0, "cross_entropy"], [0.5, "fairness"], [0.1, {"alignment": {"scale": 5.0}}]],
        }),
        json!({"refine": [{"align": {"momentum": 0.9}}, "free_match", {"top_share": {"share": 0.75}}], "low_rank": {"rank": 2}}),
        json!({"temperature": 0.1, "refine": [{"flex_match": {"above": 0.3}}, {"threshold": {"above": 0.1, "over": "kept"}}]}),
        json!({"temperature": 0.25, "refine": [{"candidates": {"every": 1, "gamma": 3.0}}], "objective": [[1.0, "candidates"]]}),
        json!({"teacher": {"transduct": "stata"}, "refine": ["prototypes"], "tune_biases": true}),
        json!({"teacher": {"labeler": {"epochs": 3}}, "refine": [{"top_k": {"rule": "nola", "k": 1, "share": 0.0}}], "keep_last": true}),
        json!({
            "teacher": {"ema": {"start": 0.5, "end": 0.9, "warm": 4, "prompts": true}},
            "objective": [[1.0, "cross_entropy"], [1.0, {"fairness": {"averaged": true}}]],
        }),
        json!({"teacher": "untuned", "tune_head": false, "objective": [[1.0, {"information": {"weighted": true}}]]}),
    ] {
        let (ours, cpu) = (run(&device, &settings), run(&Device::Cpu, &settings));
        assert_eq!(ours.len(), cpu.len());
        let near = |ours: f64, cpu: f64| (ours - cpu).abs() < 1e-3 * cpu.abs().max(1.0);
        for (ours, cpu) in ours.iter().zip(&cpu) {
            let pairs = ours.terms.values().zip(cpu.terms.values()).map(|(ours, cpu)| (*ours, *cpu));
            let weights = [(ours.loss, cpu.loss), (ours.mean_weight.unwrap_or(1.0), cpu.mean_weight.unwrap_or(1.0))];
            assert!(ours.steps > 0 && pairs.chain(weights).all(|(ours, cpu)| near(ours, cpu)), "{settings}: {ours:?} and {cpu:?}");
            assert_eq!((ours.images, ours.kept, ours.classes_named), (cpu.images, cpu.kept, cpu.classes_named), "{settings}");
        }
    }
}

#[test]
fn a_grid_runs_one_after_another() {
    let (device, _turn) = gpu();
    let mut base = short(demo(&device));
    (base.config.tune.epochs, base.predictions) = (0, false);
    let grid = |base: &Experiment, jobs| Ablation::new(base.clone()).vary("noise", [0.0f32, 0.1], |c, v| c.text.noise = v).jobs(jobs);
    let error = grid(&base, 2).run(silent).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("one GPU"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    // none takes another's numbers for its own
    for (device, tf32, runs) in [(&Device::Cpu, false, 2), (&device, false, 4), (&device, true, 6)] {
        allow_tf32(tf32);
        base.clip = demo(device);
        assert!(grid(&base, 1).out(folder.path()).run(silent).is_ok());
        assert_eq!(folder.path().join("runs").read_dir().unwrap().count(), runs);
    }
}

/// The first of two processes; the other says the same but for its device, the CPU.
#[derive(Debug)]
struct BesideACpu(String);

impl Ranks for BesideACpu {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        2
    }

    fn all_gather(&self, own: &[u8]) -> lafter::Result<Vec<Vec<u8>>> {
        Ok(vec![own.to_vec(), String::from_utf8_lossy(own).replace(&self.0, "cpu").into()])
    }
}

#[test]
fn processes_on_other_devices_are_refused() {
    let (device, _turn) = gpu();
    let ranks = Arc::new(BesideACpu(lafter::device::arithmetic(&device).unwrap()));
    let error = Experiment { ranks, ..short(demo(&device)) }.run(silent).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("process 1 has other device"), "{error}");
}

/// A label that is no class: nothing is read there, and the loss says so.
#[test]
fn a_wrong_label_makes_the_loss_nan() {
    let (device, _turn) = gpu();
    let head = Head::linear(5, 3, &mut Rng::new(1), &device).unwrap();
    let labels = Tensor::new(&[0u32, 3], &device).unwrap();
    let features = normal((2, 5), 1).to_device(&device).unwrap();
    let noise = lafter_fast::Noise { std: 0.0, key: 1, counter: 1, fill: |_, _, _, _| {} };
    let step = lafter_fast::ChunkedLoss { features: &features, labels: &labels, noise, smoothing: 0.1, chunk: 0 };
    let weight = head.layers[0].weight.tensor();
    assert!(step.of(&[lafter_fast::Layer::plain(&weight, None)]).unwrap().0.to_scalar::<f32>().unwrap().is_nan());
    let logits = normal((2, 3), 2).to_device(&device).unwrap();
    for labels in [labels.clone(), (labels.to_dtype(DType::I64).unwrap() * -1.0).unwrap()] {
        let rows = smoothed_cross_entropy_rows(&logits, &labels, 0.1).unwrap().to_vec1::<f32>().unwrap();
        let mean = smoothed_cross_entropy(&logits, &labels, 0.1).unwrap().to_scalar::<f32>().unwrap();
        assert!(rows[0].is_finite() && rows[1].is_nan() && mean.is_nan(), "{rows:?}, {mean}");
    }
}

/// The paper's stage one at the size of ImageNet: 130,000 texts, width 512, 1,000 classes.
#[test]
#[ignore = "takes time: the sizes of the paper"]
fn the_papers_text_epochs_at_full_size() {
    let (device, _turn) = gpu();
    let features = normal((130_000, 512), 6).to_device(&device).unwrap();
    let labels: Vec<usize> = (0..130_000).map(|i| i % 1000).collect();
    for tf32 in [false, true] {
        allow_tf32(tf32);
        let mut trainer = TextTrainer::new(&features, &labels, TextClassifierConfig::paper(), &mut Rng::new(1)).unwrap();
        trainer.epoch().unwrap();
        let started = Instant::now();
        for _ in 0..100 {
            trainer.epoch().unwrap();
        }
        let seconds = started.elapsed().as_secs_f64() / 100.0 * 3000.0;
        println!("3,000 text epochs on {device:?}, TF32 {tf32}: {seconds:.1} s (100 were run)");
    }
}

/// A CLIP in transformers' layout: the vision tower of ViT-B/32, a small text tower, all random.
fn write_vit_b32(folder: &Path) {
    let mut config = PretrainConfig::demo();
    let activation = Activation::QuickGelu;
    config.clip.projection = 512;
    config.clip.vision =
        VisionConfig { image_size: 224, patch_size: 32, width: 768, layers: 12, heads: 12, hidden: 3072, activation, norm_eps: 1e-5 };
    let tensors = Pretrainer::new(&config, &mut Rng::new(1), &Device::Cpu).unwrap().tensors();
    save_tensors(folder.join("model.safetensors"), &tensors, [].into()).unwrap();
    std::fs::write(folder.join("config.json"), config.clip.to_transformers().to_string()).unwrap();
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer/json/tokenizer.json");
    std::fs::copy(tokenizer, folder.join("tokenizer.json")).unwrap();
}

/// The released code's step: batch 50, 50 visual prompts, 1,000 classes, a ViT-B/32 with random weights.
#[test]
#[ignore = "takes time: the sizes of the paper"]
fn a_tuning_step_of_vit_b32_at_batch_50() {
    let (device, _turn) = gpu();
    let folder = tempfile::tempdir().unwrap();
    write_vit_b32(folder.path());
    let clip = ClipLoader::from_dir(folder.path()).device(&device).load(silent).unwrap();
    for (what, precision, tf32) in [("f32", Precision::F32, false), ("TF32", Precision::F32, true), ("bf16", Precision::Bf16, true)] {
        allow_tf32(tf32);
        let mut tuner = tuner(&clip, 1000, FinetuneConfig { precision, ..FinetuneConfig::official() });
        let (weak, strong) = (views(&clip, 50, 1), views(&clip, 50, 2));
        (0..3).for_each(|_| drop(tuner.step(&weak, &strong).unwrap()));
        let started = Instant::now();
        (0..20).for_each(|_| drop(tuner.step(&weak, &strong).unwrap()));
        println!("tuning step of ViT-B/32, batch 50, {what}, {device:?}: {:.2} ms", started.elapsed().as_secs_f64() * 50.0);
    }
}
