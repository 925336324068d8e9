//! Blocks in hands other than the run's: each answers as its documentation says, or refuses.

use candle_core::{DType, Device, IndexOp, Tensor, Var};
use lafter::classify::{Head, NoisyTexts, TextClassifier, normalize, smoothed_cross_entropy, smoothed_cross_entropy_rows};
use lafter::clip::Clip;
use lafter::nn::{AdamW, AdamWConfig, LayerNorm, Linear, LowRank, ParamGroup};
use lafter::predictions::{Answers, Rows};
use lafter::rng::Rng;
use lafter::transduct::nearest;
use lafter::tune::{FinetuneConfig, Finetuner, Targets, Views, candidates};

fn normal(shape: impl Into<candle_core::Shape>, seed: u64) -> Tensor {
    Rng::new(seed).normal_tensor(shape, 1.0, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn off(a: &Tensor, b: &Tensor) -> f32 {
    values(a).iter().zip(values(b)).fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}

/// The layer with a change of rank 2.
fn changed(mut layer: Linear, seed: u64) -> Linear {
    let [outputs, inputs] = *layer.weight.dims() else { panic!() };
    layer.tuning.low_rank =
        Some(LowRank { down: normal((2, inputs), seed), up: normal((outputs, 2), seed + 1), scale: 0.1, folded: false });
    layer
}

#[test]
fn a_tower_with_a_change_of_low_rank_is_saved_with_it() {
    let clip = Clip::demo().unwrap();
    let mut vision = clip.vision().clone();
    for block in &mut vision.blocks {
        block.attention.query = changed(block.attention.query.clone(), 3);
        block.fc2 = changed(block.fc2.clone(), 5);
    }
    let folder = tempfile::tempdir().unwrap();
    clip.save_with(&vision, folder.path()).unwrap();
    let read = Clip::from_dir(folder.path()).unwrap();
    let side = clip.preprocess().crop as usize;
    let pixels = normal((2, 3, side, side), 9);
    let tuned = vision.forward(&pixels).unwrap();
    assert!(off(&read.encode_image(&pixels).unwrap(), &tuned) < 1e-4);
    assert!(off(&clip.encode_image(&pixels).unwrap(), &tuned) > 1e-2);
}

#[test]
fn a_head_with_a_change_of_low_rank_is_that_head_in_every_form() {
    let plain = Head::linear(6, 4, &mut Rng::new(1), &Device::Cpu).unwrap();
    let head = Head::new(vec![changed(plain.layers[0].clone(), 7)]);
    let (x, labels) = (normal((5, 6), 2), [0, 1, 2, 3, 0]);
    for head in [head.clone(), head.clone().cosine(20.0).unwrap()] {
        let wanted = head.forward(&x).unwrap();
        assert!(off(&wanted, &Head { scale: head.scale, ..plain.clone() }.forward(&x).unwrap()) > 1e-3);
        let read = Head { scale: head.scale, ..Head::from_tensors(&head.tensors().into_iter().collect()).unwrap() };
        for other in [head.copy().unwrap(), head.trainable().unwrap().0, read] {
            assert!(off(&other.forward(&x).unwrap(), &wanted) < 1e-5);
        }
    }
    let texts = NoisyTexts::new(x, &labels, 0.0, 0.1).unwrap();
    let losses = [texts.loss(&head, None, &mut Rng::new(4)), texts.loss_plain(&head, None, &mut Rng::new(4))];
    let [fused, reference] = losses.map(|loss| loss.unwrap().0.to_scalar::<f32>().unwrap());
    assert!((fused - reference).abs() < 1e-6, "{fused} {reference}");
    assert!(texts.loss(&plain, Some(&[]), &mut Rng::new(4)).unwrap_err().to_string().contains("no text"));
    let two = Head { scale: Some(1.0), ..Head::mlp(6, 3, 4, &mut Rng::new(1), &Device::Cpu).unwrap() };
    assert!(two.forward(&normal((1, 6), 1)).unwrap_err().to_string().contains("cosine head"));
}

/// Rules that begin after some steps begin in a loop that counts none, too.
#[test]
fn a_loop_of_ones_own_takes_the_steps_that_rules_wait_for() {
    let clip = Clip::demo().unwrap();
    let head = Head::linear(clip.config().projection, 3, &mut Rng::new(1), &Device::Cpu).unwrap();
    let align = serde_json::from_value(serde_json::json!([{"align": {"start_after": 1}}])).unwrap();
    let config = FinetuneConfig { prompts: 2, refine: align, ..FinetuneConfig::official() };
    let mut tuner = Finetuner::new(&clip, &TextClassifier { head }, config, &mut Rng::new(7)).unwrap();
    let side = clip.config().vision.image_size;
    let view = normal((2, 3, side, side), 2);
    for aligned in [false, true] {
        let views = Views::new(view.clone(), view.clone());
        let targets = tuner.targets(&views).unwrap();
        assert_eq!(off(&targets.probabilities, &targets.sources[0]) > 1e-3, aligned);
        let (loss, _) = tuner.loss(&views, &targets).unwrap();
        tuner.apply(&loss).unwrap();
    }
}

/// A temperature makes pseudo-labels surer or less sure, and changes none, also where f32 cannot tell the probabilities apart.
#[test]
fn a_temperature_changes_no_pseudo_label() {
    let (logits, features) = ((normal((20, 5), 3) * 0.01).unwrap(), normal((20, 4), 4));
    let of = |temperature| Targets::of_logits(features.clone(), &logits, temperature).unwrap();
    let labels = of(1.0).labels.to_vec1::<u32>().unwrap();
    for temperature in [1e-6, 0.5, 1e6] {
        assert_eq!(of(temperature).labels.to_vec1::<u32>().unwrap(), labels, "{temperature}");
    }
    for temperature in [1e-40, 1e8] {
        let fault = FinetuneConfig { temperature, ..FinetuneConfig::official() }.validate().unwrap_err().to_string();
        assert!(fault.contains("temperature must lie in [1e-6, 1e6]"), "{fault}");
    }
}

#[test]
fn rows_of_half_precision_get_unit_length() {
    for (kind, within) in [(DType::BF16, 0.01), (DType::F16, 0.002)] {
        let rows = normalize(&normal((3, 1024), 6).to_dtype(kind).unwrap()).unwrap();
        assert_eq!(rows.dtype(), kind);
        for row in rows.to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap() {
            let length = row.iter().map(|v| v * v).sum::<f32>().sqrt();
            assert!((length - 1.0).abs() < within, "{kind:?} {length}");
        }
    }
}

#[test]
fn a_label_that_is_no_class_is_an_error_and_a_column_of_labels_is_not() {
    let logits = normal((2, 3), 8);
    for bad in [3, u32::MAX] {
        let labels = Tensor::new(&[0u32, bad], &Device::Cpu).unwrap();
        for loss in [smoothed_cross_entropy(&logits, &labels, 0.1), smoothed_cross_entropy_rows(&logits, &labels, 0.1)] {
            assert!(loss.unwrap_err().to_string().contains(&format!("label {bad} is none of 3 classes")));
        }
    }
    for short in [Tensor::new(&[0u32], &Device::Cpu), Tensor::new(&[[0u32, 1]], &Device::Cpu)].map(Result::unwrap) {
        for loss in [smoothed_cross_entropy(&logits, &short, 0.1), smoothed_cross_entropy_rows(&logits, &short, 0.1)] {
            assert!(loss.unwrap_err().to_string().contains("one label per row"));
        }
    }
    let column = Tensor::new(&[[0u32, 9], [2, 9]], &Device::Cpu).unwrap().i((.., 0)).unwrap();
    let row = Tensor::new(&[0u32, 2], &Device::Cpu).unwrap();
    let loss = |labels| smoothed_cross_entropy(&logits, labels, 0.1).unwrap().to_scalar::<f32>().unwrap();
    assert_eq!(loss(&column), loss(&row));
}

#[test]
fn a_layer_norm_takes_columns_of_a_matrix() {
    let (both, x) = (normal((8, 2), 3), normal((4, 8), 4));
    let [weight, bias] = [0, 1].map(|column| both.i((.., column)).unwrap());
    let whole = LayerNorm::new(weight.contiguous().unwrap(), bias.contiguous().unwrap(), 1e-5).forward(&x).unwrap();
    assert!(off(&LayerNorm::new(weight, bias, 1e-5).forward(&x).unwrap(), &whole) < 1e-5);
}

#[test]
fn what_fits_nothing_is_refused() {
    let var = Var::from_tensor(&normal(3, 1).to_dtype(DType::BF16).unwrap()).unwrap();
    let group = ParamGroup { params: vec![("w".into(), var)], weight_decay: 0.0, lr_factor: 1.0 };
    assert!(AdamW::new(vec![group], AdamWConfig::default()).err().unwrap().to_string().contains("w is BF16"));

    let lost = Tensor::new(&[[1f32, 0.], [f32::NAN, 0.], [0., 1.]], &Device::Cpu).unwrap();
    let found = nearest(&lost, &lost, 2, false, |_| Ok::<_, candle_core::Error>(()));
    assert!(found.err().unwrap().to_string().contains("not finite"));

    let classes = ["a".to_string(), "b".into()];
    let rows = Rows { classes: &classes, threshold: 0.0, top: 1 };
    let answers = Answers { zero_shot: Some(normal((1, 2), 1)), ..normal((2, 2), 1).into() };
    for (indices, answers) in [(&[0, 1][..], answers), (&[0, 1, 2], normal((2, 2), 1).into())] {
        let error = rows.of(indices, |index| index.to_string(), &answers).unwrap_err().to_string();
        assert!(error.contains("rows of logits for"), "{error}");
    }

    // out of its range, a share is the nearest within
    let p = [0.7, 0.3, 0.4, 0.6];
    assert_eq!(candidates(&p, 2, 60.0, -1.0), candidates(&p, 2, 1.0, 0.0));
}
