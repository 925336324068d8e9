//! Gradients are tested, never assumed: a whole block against finite differences in f64. Each operation alone is compared with
//! its plain form in `tests/all/fused.rs`.

use candle_core::{DType, Device, Result, Tensor, Var};
use lafter::nn::{Activation, Attention, Block, LayerNorm, Linear};
use lafter::rng::Rng;

/// How far a gradient may be from the measured one, relative to its own length.
const TOLERANCE: f64 = 1e-3;

/// Σ y·r with fixed random r: a scalar whose gradient reaches every output.
fn weighed(y: &Tensor) -> Result<Tensor> {
    (y * Rng::new(99).normal_tensor(y.shape(), 1.0, &Device::Cpu)?.to_dtype(y.dtype())?)?.sum_all()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// Every number of every gradient in f32 against the central difference of the same function in f64.
fn check(name: &str, inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let vars: Vec<Var> = inputs.iter().map(|input| Var::from_tensor(input).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let grads = weighed(&f(&tensors).unwrap()).unwrap().backward().unwrap();
    let mut wide: Vec<Tensor> = inputs.iter().map(|input| input.to_dtype(DType::F64).unwrap()).collect();
    for (i, var) in vars.iter().enumerate() {
        let ours = values(grads.get(var).unwrap_or_else(|| panic!("{name}: input {i} has no gradient")));
        let (start, h) = (wide[i].clone(), 1e-5);
        let at = |j: usize, h: f64, wide: &mut [Tensor]| {
            let mut moved = values(&start);
            moved[j] += h;
            wide[i] = Tensor::from_vec(moved, start.shape(), &Device::Cpu).unwrap();
            weighed(&f(wide).unwrap()).unwrap().to_scalar::<f64>().unwrap()
        };
        let measured: Vec<f64> = (0..ours.len()).map(|j| (at(j, h, &mut wide) - at(j, -h, &mut wide)) / (2.0 * h)).collect();
        wide[i] = start.clone();
        let length = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
        let off = length(&mut ours.iter().zip(&measured).map(|(a, b)| a - b));
        // the key's bias shifts every score of a row alike: its true gradient is 0
        let allowed = TOLERANCE * length(&mut measured.iter().copied()) + 1e-5;
        assert!(off < allowed, "{name}: the gradient of input {i} {:?} is off by {off:.2e}, allowed {allowed:.2e}", var.dims());
    }
}

/// What [`block`] is made of: weight and bias of six layers and of two norms.
fn parameters(rng: &mut Rng, width: usize) -> Vec<Tensor> {
    let hidden = 2 * width;
    let layers = [(width, width); 4].into_iter().chain([(width, hidden), (hidden, width)]);
    let shapes = layers.flat_map(|(inputs, outputs)| [vec![outputs, inputs], vec![outputs]]);
    let mut tensors: Vec<Tensor> = shapes.map(|shape| rng.normal_tensor(shape, 0.3, &Device::Cpu).unwrap()).collect();
    tensors.extend((0..4).map(|_| rng.normal_tensor(width, 1.0, &Device::Cpu).unwrap()));
    tensors
}

fn block(tensors: &[Tensor], activation: Activation) -> Block {
    let linear = |i: usize| Linear::new(tensors[2 * i].clone(), Some(tensors[2 * i + 1].clone()));
    let norm = |i: usize| LayerNorm::new(tensors[2 * i].clone(), tensors[2 * i + 1].clone(), 1e-5);
    let attention = Attention { query: linear(0), key: linear(1), value: linear(2), output: linear(3), heads: 2, causal: false };
    Block { norm1: norm(6), attention, norm2: norm(7), fc1: linear(4), fc2: linear(5), activation }
}

/// Largest difference relative to the largest value.
fn distance(a: &Tensor, b: &Tensor) -> f32 {
    let largest = |t: &Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
    largest(&(a - b).unwrap()) / largest(b).max(1e-6)
}

#[test]
fn a_whole_block_and_its_class_token_form() {
    let mut rng = Rng::new(6);
    let mut inputs = vec![rng.normal_tensor((2, 5, 8), 1.0, &Device::Cpu).unwrap()];
    inputs.extend(parameters(&mut rng, 8));
    for activation in [Activation::QuickGelu, Activation::Gelu] {
        check(&format!("block, {activation:?}"), &inputs, |t| block(&t[1..], activation).forward(&t[0]));
        check(&format!("class token, {activation:?}"), &inputs, |t| block(&t[1..], activation).forward_class(&t[0]));
    }
    let block = block(&inputs[1..], Activation::Gelu);
    let full = block.forward(&inputs[0]).unwrap().narrow(1, 0, 1).unwrap();
    assert!(distance(&block.forward_class(&inputs[0]).unwrap(), &full) < 1e-5);
}

#[test]
fn a_frozen_block_records_no_graph_and_sees_updates() {
    let mut rng = Rng::new(7);
    let x = rng.normal_tensor((1, 3, 8), 1.0, &Device::Cpu).unwrap();
    let vars: Vec<Var> = parameters(&mut rng, 8).iter().map(|tensor| Var::from_tensor(tensor).unwrap()).collect();
    let block = block(&vars.iter().map(|var| var.as_tensor().clone()).collect::<Vec<_>>(), Activation::QuickGelu);
    let frozen = block.detached();
    let before = frozen.forward(&x).unwrap();
    assert!(!before.track_op());
    vars[0].set(&(vars[0].as_tensor() * 2.0).unwrap()).unwrap();
    assert!(distance(&frozen.forward(&x).unwrap(), &block.forward(&x).unwrap()) == 0.0);
    assert!(distance(&frozen.forward(&x).unwrap(), &before) > 0.0);
}

#[test]
fn a_frozen_weight_gets_no_gradient() {
    let mut rng = Rng::new(8);
    let mut random = |shape: [usize; 2]| Var::from_tensor(&rng.normal_tensor(&shape, 1.0, &Device::Cpu).unwrap()).unwrap();
    let (x, weight) = (random([4, 6]), random([3, 6]));
    let layer = Linear::new(weight.as_tensor().clone(), None);
    let grads = layer.detached().forward(&x).unwrap().sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&x).is_some() && grads.get(&weight).is_none());
}
