//! Each fused operation against its plain differentiable form, forward and backward, on every set of instructions that
//! this processor has, for sizes that are no multiple of any tile; and the same bits for any number of threads.

use candle_core::{DType, Device, Result, Tensor, Var};
use lafter::classify::{Head, TextClassifier};
use lafter::clip::Clip;
use lafter::nn::{Activation, Attention, Block, Isa, LayerNorm, Linear, Precision};
use lafter::rng::Rng;
use lafter::tune::{FinetuneConfig, Finetuner};
use proptest::prelude::*;

/// Largest difference relative to the largest value.
fn distance(a: &Tensor, b: &Tensor) -> f32 {
    let largest = |t: &Tensor| t.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    largest(&(a - b).unwrap()) / largest(b).max(1e-6)
}

fn normal(rng: &mut Rng, shape: &[usize], std: f32) -> Tensor {
    rng.normal_tensor(shape, std, &Device::Cpu).unwrap()
}

fn linear(rng: &mut Rng, inputs: usize, outputs: usize) -> Linear {
    let std = (inputs as f32).powf(-0.5);
    Linear::new(normal(rng, &[outputs, inputs], std), Some(normal(rng, &[outputs], 0.2)))
}

/// A norm that learns, and its variables.
fn norm(rng: &mut Rng, width: usize) -> (LayerNorm, [Var; 2]) {
    let weight = Var::from_tensor(&(normal(rng, &[width], 0.2) + 1.0).unwrap()).unwrap();
    let bias = Var::from_tensor(&normal(rng, &[width], 0.2)).unwrap();
    (LayerNorm::new(weight.as_tensor().clone(), bias.as_tensor().clone(), 1e-5), [weight, bias])
}

/// A block with frozen layers and norms that learn: what LaFTer tunes.
fn block(rng: &mut Rng, width: usize, heads: usize, hidden: usize, causal: bool, activation: Activation) -> (Block, Vec<Var>) {
    let ((norm1, first), (norm2, second)) = (norm(rng, width), norm(rng, width));
    let mut layer = || linear(rng, width, width);
    let attention = Attention { query: layer(), key: layer(), value: layer(), output: layer(), heads, causal };
    let block = Block { norm1, attention, norm2, fc1: linear(rng, width, hidden), fc2: linear(rng, hidden, width), activation };
    (block, first.into_iter().chain(second).collect())
}

/// Forward within `tolerance`, and the gradient of every variable.
fn same(what: &str, vars: &[Var], fused: &Tensor, plain: &Tensor, tolerance: f32) {
    assert_eq!(fused.dims(), plain.dims(), "{what}");
    let d = distance(fused, plain);
    assert!(d < tolerance, "{what}, forward: {d}");
    let weights = normal(&mut Rng::new(99), plain.dims(), 1.0);
    let grads = |y: &Tensor| -> Result<_> { (y * &weights)?.sum_all()?.backward() };
    let (fused, plain) = (grads(fused).unwrap(), grads(plain).unwrap());
    for (i, var) in vars.iter().enumerate() {
        let d = distance(fused.get(var).unwrap(), plain.get(var).unwrap());
        assert!(d < tolerance, "{what}, gradient {i} {:?}: {d}", var.dims());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_packed_block_equals_its_plain_form(
        batch in 1usize..9,
        tokens in 1usize..40,
        heads in 1usize..4,
        d in 1usize..20,
        hidden in 1usize..150,
        causal: bool,
        gelu: bool,
        seed in 0u64..1000,
    ) {
        // norms of few numbers are ill-conditioned in f32, whoever computes them
        let width = heads * d.max(8 / heads);
        let mut rng = Rng::new(seed);
        let activation = if gelu { Activation::Gelu } else { Activation::QuickGelu };
        let (block, mut vars) = block(&mut rng, width, heads, hidden, causal, activation);
        let x = Var::from_tensor(&normal(&mut rng, &[batch, tokens, width], 1.0)).unwrap();
        vars.push(x.clone());
        let plain = block.forward_plain(&x).unwrap();
        for isa in Isa::available() {
            let packed = block.packed(Precision::F32, isa).unwrap();
            same(&format!("{isa:?}"), &vars, &packed.forward(&x).unwrap(), &plain, 1e-5);
            let class = plain.narrow(1, 0, 1).unwrap();
            if !causal {
                same(&format!("{isa:?}, class token"), &vars, &packed.forward_class(&x).unwrap(), &class, 1e-5);
            }
            let half = block.packed(Precision::Bf16, isa).unwrap();
            assert!(distance(&half.forward(&x).unwrap(), &plain) < 3e-2, "{isa:?} in bf16");
        }
    }

    #[test]
    fn a_packed_layer_equals_its_plain_form(rows in 1usize..250, inputs in 1usize..1100, outputs in 1usize..90, seed in 0u64..1000) {
        let mut rng = Rng::new(seed);
        let layer = linear(&mut rng, inputs, outputs);
        let x = Var::from_tensor(&normal(&mut rng, &[rows, inputs], 1.0)).unwrap();
        let plain = layer.forward_plain(&x).unwrap();
        for isa in Isa::available() {
            let packed = layer.packed(Precision::F32, isa).unwrap();
            same(&format!("{isa:?}"), std::slice::from_ref(&x), &packed.forward(&x).unwrap(), &plain, 1e-5);
        }
    }

    #[test]
    fn activations_and_norms_equal_their_plain_forms(rows in 1usize..300, width in 8usize..200, seed in 0u64..1000) {
        let mut rng = Rng::new(seed);
        let x = Var::from_tensor(&normal(&mut rng, &[rows, width], 2.0)).unwrap();
        for activation in [Activation::QuickGelu, Activation::Gelu] {
            let plain = activation.forward_plain(&x).unwrap();
            same(&format!("{activation:?}"), std::slice::from_ref(&x), &activation.forward(&x).unwrap(), &plain, 1e-5);
        }
        let (norm, [weight, bias]) = norm(&mut rng, width);
        let vars = [weight, bias, x.clone()];
        same("layer norm", &vars, &norm.forward(&x).unwrap(), &norm.forward_plain(&x).unwrap(), 1e-5);
    }
}

#[test]
fn the_gradients_of_bf16_layers_point_where_those_of_f32_point() {
    let mut rng = Rng::new(3);
    let (block, mut vars) = block(&mut rng, 96, 3, 200, false, Activation::QuickGelu);
    let x = Var::from_tensor(&normal(&mut rng, &[3, 20, 96], 1.0)).unwrap();
    vars.push(x.clone());
    for isa in Isa::available() {
        let packed = block.packed(Precision::Bf16, isa).unwrap();
        same(&format!("{isa:?}"), &vars, &packed.forward(&x).unwrap(), &block.forward_plain(&x).unwrap(), 3e-2);
    }
}

#[test]
fn a_weight_that_learns_is_not_packed() {
    let mut rng = Rng::new(4);
    let weight = Var::from_tensor(&normal(&mut rng, &[5, 6], 1.0)).unwrap();
    let layer = Linear::new(weight.as_tensor().clone(), None).packed(Precision::F32, Isa::best()).unwrap();
    let x = normal(&mut rng, &[4, 6], 1.0);
    let grads = layer.forward(&x).unwrap().sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&weight).is_some());
    assert_eq!(layer.packed_bytes(), 0);
}

#[test]
fn packing_happens_when_it_is_used_and_only_for_the_directions_used() {
    let mut rng = Rng::new(5);
    let layer = linear(&mut rng, 64, 96).packed(Precision::F32, Isa::best()).unwrap();
    assert_eq!(layer.packed_bytes(), 0);
    let x = normal(&mut rng, &[4, 64], 1.0);
    layer.forward(&x).unwrap();
    let once = layer.packed_bytes();
    assert!((64 * 96 * 4..64 * 128 * 4).contains(&once), "{once}");
    let x = Var::from_tensor(&x).unwrap();
    layer.forward(&x).unwrap().sum_all().unwrap().backward().unwrap();
    assert!(layer.packed_bytes() > once);
    // a clone shares what is packed
    assert_eq!(layer.clone().packed_bytes(), layer.packed_bytes());
}

/// Every number that a few steps of tuning end in, on a pool of so many threads.
fn tuned_on(threads: usize, precision: Precision) -> Vec<u32> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let clip = Clip::demo().unwrap();
        let head = Head::linear(clip.config().projection, 6, &mut Rng::new(1), &Device::Cpu).unwrap();
        let config = FinetuneConfig { prompts: 5, precision, ..FinetuneConfig::official() };
        let mut tuner = Finetuner::new(&clip, &TextClassifier { head }, config, &mut Rng::new(2)).unwrap();
        let side = clip.config().vision.image_size;
        // large enough that the loops are handed to all threads
        let view = |seed| Rng::new(seed).normal_tensor((64, 3, side, side), 1.0, &Device::Cpu).unwrap();
        for step in 0..2 {
            tuner.step(&view(10 + step), &view(20 + step)).unwrap();
        }
        let bits = |var: &Var| -> Vec<u32> {
            let values = var.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
            values.into_iter().map(f32::to_bits).collect()
        };
        tuner.trainable().params.iter().flat_map(|(_, var)| bits(var)).collect()
    })
}

#[test]
fn the_bits_do_not_depend_on_the_number_of_threads() {
    for precision in [Precision::F32, Precision::Bf16] {
        let one = tuned_on(1, precision);
        for threads in [2, 3, 8] {
            assert!(one == tuned_on(threads, precision), "{threads} threads, {precision:?}");
        }
    }
}
