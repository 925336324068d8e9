//! The tower in bf16 as a GPU runs it, here on the CPU's plain operations: close to f32, its trainable parts f32, nothing lost.

use candle_core::{DType, Device, Tensor, Var};
use lafter::clip::{Clip, VisionTower};
use lafter::nn::{Linear, Param};
use lafter::rng::Rng;
use lafter::tune::VisualPrompts;

fn normal(shape: impl Into<candle_core::Shape>, seed: u64) -> Tensor {
    Rng::new(seed).normal_tensor(shape, 1.0, &Device::Cpu).unwrap()
}

/// |a − b| / |b|, Euclidean.
fn apart(a: &Tensor, b: &Tensor) -> f32 {
    let length = |t: &Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
    length(&(a - b).unwrap()) / length(b)
}

/// What `VisionTower::packed` makes of a tower on a GPU.
fn rounded(mut tower: VisionTower) -> VisionTower {
    for block in &mut tower.blocks {
        let attention = &mut block.attention;
        for layer in [&mut attention.query, &mut attention.key, &mut attention.value, &mut attention.output, &mut block.fc1, &mut block.fc2]
        {
            *layer = layer.rounded().unwrap();
            assert_eq!(layer.weight.dtype(), DType::BF16);
        }
    }
    tower.projection = tower.projection.rounded().unwrap();
    tower
}

#[test]
fn a_rounded_layer_answers_in_the_type_of_its_input_and_gives_the_inputs_gradient() {
    let (weight, bias, x) = (normal((24, 40), 1), normal(24, 2), Var::from_tensor(&normal((3, 5, 40), 3)).unwrap());
    for bias in [None, Some(bias)] {
        let plain = Linear::new(weight.clone(), bias.clone());
        let run = |layer: &Linear| {
            let y = layer.forward(x.as_tensor()).unwrap();
            let grads = (&y * normal((3, 5, 24), 4)).unwrap().sum_all().unwrap().backward().unwrap();
            (y, grads.get(&x).unwrap().clone())
        };
        let ((y, dx), (expected, expected_dx)) = (run(&plain.rounded().unwrap()), run(&plain));
        assert_eq!((y.dtype(), dx.dtype()), (DType::F32, DType::F32));
        assert!(apart(&y, &expected) < 1e-2 && apart(&dx, &expected_dx) < 1e-2, "{} {}", apart(&y, &expected), apart(&dx, &expected_dx));
    }
    // a layer that learns is left alone
    let learns = Linear::new(Var::from_tensor(&weight).unwrap().as_tensor().clone(), None);
    assert_eq!(learns.rounded().unwrap().weight.dtype(), DType::F32);
}

/// The frozen layer's path for other types and devices, in f64: against the layer that learns.
#[test]
fn a_frozen_product_equals_the_plain_one() {
    let f64s = |t: Tensor| t.to_dtype(DType::F64).unwrap();
    let (weight, bias, x) = (f64s(normal((7, 9), 1)), f64s(normal(7, 2)), Var::from_tensor(&f64s(normal((2, 3, 9), 3))).unwrap());
    let layer = Linear::new(weight, Some(bias));
    let run = |y: Tensor| {
        let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        [values(&y), values(grads.get(&x).unwrap())]
    };
    let (ours, plain) = (run(layer.forward(x.as_tensor()).unwrap()), run(layer.forward_plain(x.as_tensor()).unwrap()));
    for (ours, plain) in ours.iter().flatten().zip(plain.iter().flatten()) {
        assert!((ours - plain).abs() < 1e-12 * plain.abs().max(1.0), "{ours} {plain}");
    }
}

#[test]
fn the_rounded_tower_keeps_every_gradient() {
    let clip = Clip::demo().unwrap();
    let side = clip.config().vision.image_size;
    let pixels = normal((6, 3, side, side), 1);
    let prompts = VisualPrompts::shallow(3, clip.config().vision.width, &mut Rng::new(2), &Device::Cpu).unwrap();
    let run = |mut tower: VisionTower| {
        let (prompts, mut params) = prompts.trainable().unwrap();
        for (name, norm) in tower.norms_mut() {
            for (kind, tensor) in [("weight", &mut norm.weight), ("bias", &mut norm.bias)] {
                let var = Var::from_tensor(&tensor.copy().unwrap()).unwrap();
                *tensor = var.as_tensor().clone();
                params.push(Param { name: format!("{name}.{kind}"), var, decay: true });
            }
        }
        let features = prompts.forward(&tower, &pixels).unwrap();
        assert_eq!(features.dtype(), DType::F32);
        let weights = normal(features.shape(), 3);
        let grads = (&features * weights).unwrap().sum_all().unwrap().backward().unwrap();
        let gradient = |Param { name, var, .. }: Param| {
            let gradient = grads.get(&var).unwrap_or_else(|| panic!("{name} has no gradient")).clone();
            assert_eq!(gradient.dtype(), DType::F32, "{name}");
            (name, gradient)
        };
        (features.detach(), params.into_iter().map(gradient).collect::<Vec<_>>())
    };
    // frozen and not packed, as on a GPU
    let plain = clip.vision().detached();
    let ((features, gradients), (expected, expected_gradients)) = (run(rounded(plain.clone())), run(plain));
    let off = apart(&features, &expected);
    assert!(off > 1e-5 && off < 3e-2, "features differ by {off}: bf16 has eight bits");
    for ((name, ours), (_, exact)) in gradients.iter().zip(&expected_gradients) {
        assert!(apart(ours, exact) < 0.1, "gradient of {name} differs by {}", apart(ours, exact));
    }
}
