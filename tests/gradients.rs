//! Gradients are tested, never assumed: every block of `nn` against finite differences (`tests/fused.rs`: against plain forms).

use candle_core::{DType, Device, Result, Tensor, Var};
use lafter::nn::{Activation, Attention, Block, LayerNorm, Linear, softmax};
use lafter::rng::Rng;

fn random(rng: &mut Rng, shape: &[usize]) -> Var {
    Var::from_tensor(&rng.normal_tensor(shape, 1.0, &Device::Cpu).unwrap()).unwrap()
}

/// Σ y·r with fixed random r: a scalar whose gradient reaches every output.
fn weighed(y: &Tensor) -> Result<Tensor> {
    (y * Rng::new(99).normal_tensor(y.shape(), 1.0, &Device::Cpu)?)?.sum_all()
}

/// Compares the gradient of every variable with central differences along random directions.
fn check(name: &str, vars: &[Var], f: impl Fn() -> Result<Tensor>) {
    let grads = weighed(&f().unwrap()).unwrap().backward().unwrap();
    for (i, var) in vars.iter().enumerate() {
        let grad = grads.get(var).unwrap_or_else(|| panic!("{name}: variable {i} has no gradient"));
        for trial in 0..3 {
            let direction = Rng::new(1000 + trial).normal_tensor(var.shape(), 1.0, &Device::Cpu).unwrap();
            let expected = (grad * &direction).unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
            let before = var.as_tensor().copy().unwrap();
            let h = 1e-2f64;
            let at = |sign: f64| {
                var.set(&(&before + (&direction * (sign * h)).unwrap()).unwrap()).unwrap();
                let value = weighed(&f().unwrap()).unwrap().to_dtype(DType::F64).unwrap().to_scalar::<f64>().unwrap();
                var.set(&before).unwrap();
                value
            };
            let measured = ((at(1.0) - at(-1.0)) / (2.0 * h)) as f32;
            let scale = grad.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt() * (direction.elem_count() as f32).sqrt();
            assert!((expected - measured).abs() < 5e-3 * scale.max(1.0), "{name}: variable {i}: gradient {expected}, measured {measured}");
        }
    }
}

/// Largest difference relative to the largest value.
fn distance(a: &Tensor, b: &Tensor) -> f32 {
    let largest = |t: &Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
    largest(&(a - b).unwrap()) / largest(b).max(1e-6)
}

fn linear(rng: &mut Rng, inputs: usize, outputs: usize) -> (Linear, Vec<Var>) {
    let (weight, bias) = (random(rng, &[outputs, inputs]), random(rng, &[outputs]));
    (Linear::new(weight.as_tensor().clone(), Some(bias.as_tensor().clone())), vec![weight, bias])
}

fn norm(rng: &mut Rng, width: usize) -> (LayerNorm, Vec<Var>) {
    let (weight, bias) = (random(rng, &[width]), random(rng, &[width]));
    (LayerNorm::new(weight.as_tensor().clone(), bias.as_tensor().clone(), 1e-5), vec![weight, bias])
}

#[test]
fn every_block_against_finite_differences() {
    let mut rng = Rng::new(5);
    let x = random(&mut rng, &[2, 5, 12]);
    check("softmax", std::slice::from_ref(&x), || softmax(&x));
    check("quick-gelu", std::slice::from_ref(&x), || Activation::QuickGelu.forward(&x));
    check("gelu", std::slice::from_ref(&x), || Activation::Gelu.forward(&x));
    let (layer_norm, mut vars) = norm(&mut rng, 12);
    vars.push(x.clone());
    check("layer norm", &vars, || layer_norm.forward(&x));
    let (layer, mut vars) = linear(&mut rng, 12, 7);
    vars.push(x.clone());
    check("linear", &vars, || layer.forward(&x));
}

fn block(rng: &mut Rng, width: usize) -> (Block, Vec<Var>) {
    let mut vars = Vec::new();
    let mut layer = |inputs: usize, outputs: usize| {
        let (layer, parts) = linear(rng, inputs, outputs);
        vars.extend(parts);
        layer
    };
    let attention = Attention {
        query: layer(width, width),
        key: layer(width, width),
        value: layer(width, width),
        output: layer(width, width),
        heads: 2,
        causal: false,
    };
    let (fc1, fc2) = (layer(width, 2 * width), layer(2 * width, width));
    for var in &vars {
        var.set(&(var.as_tensor() * 0.2).unwrap()).unwrap();
    }
    let ((norm1, one), (norm2, two)) = (norm(rng, width), norm(rng, width));
    vars.extend(one.into_iter().chain(two));
    (Block { norm1, attention, norm2, fc1, fc2, activation: Activation::QuickGelu }, vars)
}

#[test]
fn a_whole_block_and_its_class_token_form() {
    let mut rng = Rng::new(6);
    let x = random(&mut rng, &[2, 5, 8]);
    let (block, mut vars) = block(&mut rng, 8);
    vars.push(x.clone());
    check("block", &vars, || block.forward(&x));
    check("block, class token", &vars, || block.forward_class(&x));
    let full = block.forward(&x).unwrap().narrow(1, 0, 1).unwrap();
    assert!(distance(&block.forward_class(&x).unwrap(), &full) < 1e-5);
}

#[test]
fn a_frozen_block_records_no_graph_and_sees_updates() {
    let mut rng = Rng::new(7);
    let x = rng.normal_tensor((1, 3, 8), 1.0, &Device::Cpu).unwrap();
    let (block, vars) = block(&mut rng, 8);
    let frozen = block.frozen();
    let before = frozen.forward(&x).unwrap();
    assert!(!before.track_op());
    vars[0].set(&(vars[0].as_tensor() * 2.0).unwrap()).unwrap();
    assert!(distance(&frozen.forward(&x).unwrap(), &block.forward(&x).unwrap()) == 0.0);
    assert!(distance(&frozen.forward(&x).unwrap(), &before) > 0.0);
}

#[test]
fn a_frozen_weight_gets_no_gradient() {
    let mut rng = Rng::new(8);
    let x = random(&mut rng, &[4, 6]);
    let (layer, vars) = linear(&mut rng, 6, 3);
    let grads = layer.frozen().forward(&x).unwrap().sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&x).is_some() && vars.iter().all(|var| grads.get(var).is_none()));
}
