//! Each fused operation against its plain differentiable form in f64, forward and every gradient, within 1e-5, on every set of
//! instructions that this processor has, for sizes that are not a multiple of any tile; and the same bits for any number of
//! threads. The loss of the text classifier has a file of its own (`tests/all/text_loss.rs`).

use candle_core::{D, DType, Device, Result, Tensor, Var};
use lafter::classify::{Head, TextClassifier};
use lafter::clip::Clip;
use lafter::nn::{Activation, Attention, Block, Isa, LayerNorm, Linear, Precision, softmax};
use lafter::rng::Rng;
use lafter::tune::{FinetuneConfig, Finetuner};
use proptest::prelude::*;

fn f64s(tensor: &Tensor) -> Tensor {
    tensor.to_dtype(DType::F64).unwrap()
}

/// ‖a − b‖ / ‖b‖, in f64 and Euclidean; no floor hides a gradient that is small.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let length = |t: &Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
    let (a, b) = (f64s(a), f64s(b));
    match length(&(a - &b).unwrap()) {
        0.0 => 0.0, // both may be nothing at all
        difference => difference / length(&b),
    }
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

/// The same layers in f64: their plain forms are the reference, since those in f32 are off by as much as the fused ones.
/// Gradients flow through the conversion to the variables in f32.
mod wide {
    use super::*;

    pub fn linear(layer: &Linear) -> Linear {
        Linear::new(f64s(&layer.weight.tensor()), layer.bias.as_ref().map(f64s))
    }

    pub fn norm(norm: &LayerNorm) -> LayerNorm {
        LayerNorm::new(f64s(&norm.weight), f64s(&norm.bias), norm.eps)
    }

    pub fn attention(attention: &Attention) -> Attention {
        let Attention { query, key, value, output, heads, causal } = attention;
        let [query, key, value, output] = [query, key, value, output].map(linear);
        Attention { query, key, value, output, heads: *heads, causal: *causal }
    }

    pub fn block(block: &Block) -> Block {
        Block {
            norm1: norm(&block.norm1),
            attention: attention(&block.attention),
            norm2: norm(&block.norm2),
            fc1: linear(&block.fc1),
            fc2: linear(&block.fc2),
            activation: block.activation,
        }
    }
}

/// Forward within `tolerance`, and the gradient of every variable.
fn same(what: &str, vars: &[Var], fused: &Tensor, plain: &Tensor, tolerance: f64) {
    assert_eq!((fused.dims(), plain.dtype()), (plain.dims(), DType::F64), "{what}");
    let d = distance(fused, plain);
    assert!(d < tolerance, "{what}, forward: {d:.2e}");
    let weights = normal(&mut Rng::new(99), plain.dims(), 1.0);
    let grads = |y: &Tensor| -> Result<_> { (y * weights.to_dtype(y.dtype())?)?.sum_all()?.backward() };
    let (fused, plain) = (grads(fused).unwrap(), grads(plain).unwrap());
    for (i, var) in vars.iter().enumerate() {
        let d = distance(fused.get(var).unwrap(), plain.get(var).unwrap());
        assert!(d < tolerance, "{what}, gradient {i} {:?}: {d:.2e}", var.dims());
    }
}

fn variable(rng: &mut Rng, shape: &[usize], std: f32) -> Var {
    Var::from_tensor(&normal(rng, shape, std)).unwrap()
}

/// A layer that learns, and its variables.
fn learner(rng: &mut Rng, inputs: usize, outputs: usize, bias: bool) -> (Linear, Vec<Var>) {
    let mut vars = vec![variable(rng, &[outputs, inputs], (inputs as f32).powf(-0.5))];
    vars.extend(bias.then(|| variable(rng, &[outputs], 0.2)));
    (Linear::new(vars[0].as_tensor().clone(), vars.get(1).map(|bias| bias.as_tensor().clone())), vars)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Both branches of a block, attention with its projections and norm, the MLP with its norm: each is one operation.
    #[test]
    fn a_packed_block_equals_its_plain_form(
        batch in 1usize..9,
        tokens in 1usize..40,
        heads in 1usize..4,
        d in 1usize..20,
        hidden in prop_oneof![3 => 1usize..150, 1 => 700usize..1700], // the MLP takes 768 at a time
        causal: bool,
        gelu: bool,
        seed in 0u64..1000,
    ) {
        // norms of few numbers are ill-conditioned in f32, whoever computes them
        let width = heads * d.max(8 / heads);
        let mut rng = Rng::new(seed);
        let activation = if gelu { Activation::Gelu } else { Activation::QuickGelu };
        let (block, mut vars) = block(&mut rng, width, heads, hidden, causal, activation);
        let x = variable(&mut rng, &[batch, tokens, width], 1.0);
        vars.push(x.clone());
        let plain = wide::block(&block).forward_plain(&f64s(&x)).unwrap();
        same("not packed", &vars, &block.forward(&x).unwrap(), &plain, 1e-5);
        for isa in Isa::available() {
            let packed = block.packed(Precision::F32, isa).unwrap();
            same(&format!("{isa:?}"), &vars, &packed.forward(&x).unwrap(), &plain, 1e-5);
            let class = plain.narrow(1, 0, 1).unwrap();
            if !causal {
                same(&format!("{isa:?}, class token"), &vars, &packed.forward_class(&x).unwrap(), &class, 1e-5);
            }
            // between two products each number is rounded to eight bits, which a norm of few numbers does not average out
            if width >= 16 {
                let half = block.packed(Precision::Bf16, isa).unwrap();
                same(&format!("{isa:?} in bf16"), &vars, &half.forward(&x).unwrap(), &plain, 2e-2);
            }
        }
    }

    #[test]
    fn a_packed_layer_equals_its_plain_form(
        rows in 1usize..200, inputs in 1usize..2300, outputs in 1usize..90, bias: bool, seed in 0u64..1000,
    ) {
        let mut rng = Rng::new(seed);
        let layer = linear(&mut rng, inputs, outputs);
        let layer = Linear::new(layer.weight.tensor(), layer.bias.filter(|_| bias));
        let x = variable(&mut rng, &[rows, inputs], 1.0);
        let plain = wide::linear(&layer).forward_plain(&f64s(&x)).unwrap();
        same("not packed", std::slice::from_ref(&x), &layer.forward(&x).unwrap(), &plain, 1e-5);
        for isa in Isa::available() {
            let packed = layer.packed(Precision::F32, isa).unwrap();
            same(&format!("{isa:?}"), std::slice::from_ref(&x), &packed.forward(&x).unwrap(), &plain, 1e-5);
        }
    }

    /// The inner dimension of the gradient is cut into pieces that stay in the cache, as that of the forward product is.
    #[test]
    fn a_packed_layer_of_many_outputs_equals_its_plain_form(
        rows in 1usize..30, inputs in 1usize..60, outputs in 1000usize..2400, bf16: bool, seed in 0u64..1000,
    ) {
        let mut rng = Rng::new(seed);
        let layer = linear(&mut rng, inputs, outputs);
        let x = variable(&mut rng, &[rows, inputs], 1.0);
        let plain = wide::linear(&layer).forward_plain(&f64s(&x)).unwrap();
        let (precision, tolerance) = if bf16 { (Precision::Bf16, 1e-2) } else { (Precision::F32, 1e-5) };
        for isa in Isa::available() {
            let packed = layer.packed(precision, isa).unwrap();
            same(&format!("{isa:?}"), std::slice::from_ref(&x), &packed.forward(&x).unwrap(), &plain, tolerance);
        }
    }

    /// Products of bf16 are exact in f32: a layer in bf16 is the plain form of the rounded numbers, as closely as in f32.
    #[test]
    fn a_layer_in_bf16_equals_the_plain_form_of_its_rounded_numbers(
        rows in 1usize..200, pairs in 1usize..1200, outputs in 1usize..90, seed in 0u64..1000,
    ) {
        let (mut rng, inputs) = (Rng::new(seed), 2 * pairs); // an odd width stays in f32
        let (layer, x) = (linear(&mut rng, inputs, outputs), variable(&mut rng, &[rows, inputs], 1.0));
        let g = normal(&mut rng, &[rows, outputs], 1.0);
        for isa in Isa::available() {
            let round = |t: &Tensor| if isa.multiplies_bf16() { f64s(&t.to_dtype(DType::BF16).unwrap()) } else { f64s(t) };
            let y = layer.packed(Precision::Bf16, isa).unwrap().forward(&x).unwrap();
            let weight = round(&layer.weight.tensor());
            let plain = Linear::new(weight.clone(), layer.bias.as_ref().map(f64s)).forward_plain(&round(&x)).unwrap();
            let grads = (&y * &g).unwrap().sum_all().unwrap().backward().unwrap();
            let d = [distance(&y, &plain), distance(grads.get(&x).unwrap(), &round(&g).matmul(&weight).unwrap())];
            prop_assert!(d.iter().all(|d| *d < 1e-5), "{isa:?}: forward and gradient off by {d:?}");
        }
    }

    #[test]
    fn activations_norms_and_softmax_equal_their_plain_forms(rows in 1usize..300, width in 8usize..200, seed in 0u64..1000) {
        let mut rng = Rng::new(seed);
        let x = variable(&mut rng, &[rows, width], 2.0);
        let only = std::slice::from_ref(&x);
        for activation in [Activation::QuickGelu, Activation::Gelu] {
            let plain = activation.forward_plain(&f64s(&x)).unwrap();
            same(&format!("{activation:?}"), only, &activation.forward(&x).unwrap(), &plain, 1e-5);
        }
        same("softmax", only, &softmax(&x).unwrap(), &candle_nn::ops::softmax(&f64s(&x), D::Minus1).unwrap(), 1e-5);
        let (norm, [weight, bias]) = norm(&mut rng, width);
        let vars = [weight, bias, x.clone()];
        same("layer norm", &vars, &norm.forward(&x).unwrap(), &wide::norm(&norm).forward_plain(&f64s(&x)).unwrap(), 1e-5);
    }

    #[test]
    fn a_layer_that_learns_equals_its_plain_form(
        rows in 1usize..500, inputs in 1usize..200, outputs in 1usize..70, bias: bool, seed in 0u64..1000,
    ) {
        let mut rng = Rng::new(seed);
        let (layer, mut vars) = learner(&mut rng, inputs, outputs, bias);
        let x = variable(&mut rng, &[rows, inputs], 1.0);
        vars.push(x.clone());
        same("linear", &vars, &layer.forward(&x).unwrap(), &wide::linear(&layer).forward_plain(&f64s(&x)).unwrap(), 1e-5);
    }

    /// The operation between layers that all learn; one key would leave scores without a gradient.
    #[test]
    fn attention_equals_its_plain_form(
        batch in 1usize..5, n in 1usize..40, m in 2usize..40, heads in 1usize..4, d in 3usize..20, causal: bool, seed in 0u64..1000,
    ) {
        let (mut rng, width, n) = (Rng::new(seed), heads * d, if causal { m } else { n });
        let (mut layers, mut vars) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            let (layer, parts) = learner(&mut rng, width, width, true);
            layers.push(layer);
            vars.extend(parts);
        }
        // the key's bias shifts every score of a row alike: its true gradient is 0, and only rounding would be compared
        vars.remove(3);
        let [query, key, value, output] = layers.try_into().unwrap();
        let attention = Attention { query, key, value, output, heads, causal };
        let (x, context) = (variable(&mut rng, &[batch, n, width], 1.0), variable(&mut rng, &[batch, m, width], 1.0));
        vars.extend([x.clone(), context.clone()]);
        let plain = wide::attention(&attention).attend_plain(&f64s(&x), &f64s(&context)).unwrap();
        same("attention", &vars, &attention.attend(&x, &context).unwrap(), &plain, 1e-5);
    }
}

/// Query, key and value packed for one kernel, the output layer for another: each reads rows in a layout of its own.
#[test]
fn attention_packed_in_two_formats_equals_its_plain_form() {
    let mut rng = Rng::new(6);
    let (block, mut vars) = block(&mut rng, 32, 4, 64, false, Activation::Gelu);
    let x = variable(&mut rng, &[3, 7, 32], 1.0);
    vars.push(x.clone());
    let plain = wide::block(&block).forward_plain(&f64s(&x)).unwrap();
    let formats: Vec<_> = Isa::available().into_iter().flat_map(|isa| [(Precision::F32, isa), (Precision::Bf16, isa)]).collect();
    for first in &formats {
        for second in &formats {
            let mut packed = block.packed(first.0, first.1).unwrap();
            packed.attention.output = packed.attention.output.packed(second.0, second.1).unwrap();
            let rounds = [first, second].iter().any(|(precision, isa)| *precision == Precision::Bf16 && isa.multiplies_bf16());
            let tolerance = if rounds { 2e-2 } else { 1e-5 };
            same(&format!("{first:?}, {second:?}"), &vars, &packed.forward(&x).unwrap(), &plain, tolerance);
        }
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
    assert!(layer.weight.plain().is_some());
}

#[test]
fn packing_happens_when_it_is_used_and_only_for_the_directions_used() {
    let mut rng = Rng::new(5);
    let layer = linear(&mut rng, 64, 96).packed(Precision::F32, Isa::best()).unwrap();
    assert_eq!(layer.weight_bytes(), 4 * 64 * 96); // the tensor
    let x = normal(&mut rng, &[4, 64], 1.0);
    layer.forward(&x).unwrap();
    let once = layer.weight_bytes(); // what was packed of it, and no tensor
    assert!((64 * 96 * 4..64 * 128 * 4).contains(&once), "{once}");
    let x = Var::from_tensor(&x).unwrap();
    layer.forward(&x).unwrap().sum_all().unwrap().backward().unwrap();
    assert!((2 * 64 * 96 * 4..2 * 64 * 128 * 4).contains(&layer.weight_bytes()));
    // a clone shares what is packed
    assert_eq!(layer.clone().weight_bytes(), layer.weight_bytes());
}

#[test]
fn a_tower_holds_its_weights_once_and_a_tuned_one_once_for_each_direction() {
    let clip = Clip::demo().unwrap();
    let tower = clip.vision();
    let bytes = || {
        let blocks = tower.blocks.iter();
        let layers = blocks.flat_map(|Block { attention: a, fc1, fc2, .. }| [&a.query, &a.output, fc1, fc2]); // the query's: q, k and v
        layers.chain([&tower.patch_embedding, &tower.projection]).map(Linear::weight_bytes).sum::<usize>()
    };
    let (config, projection) = (tower.config(), clip.config().projection);
    let patch = 3 * config.patch_size.pow(2);
    let numbers = config.layers * config.width * (4 * config.width + 2 * config.hidden) + config.width * (patch + projection);
    assert_eq!(bytes(), 4 * numbers);
    let pixels = Rng::new(1).normal_tensor((4, 3, config.image_size, config.image_size), 1.0, &Device::Cpu).unwrap();
    tower.forward(&pixels).unwrap();
    assert!(bytes() < 4 * numbers * 11 / 10, "{} bytes for {numbers} numbers", bytes()); // tiles are not full at the edges
    assert!(tower.blocks.iter().all(|block| block.fc1.weight.plain().is_none() && block.attention.key.weight.plain().is_none()));
    let head = Head::linear(projection, 3, &mut Rng::new(1), &Device::Cpu).unwrap();
    let config = FinetuneConfig { prompts: 2, ..FinetuneConfig::official() };
    let mut tuner = Finetuner::new(&clip, &TextClassifier { head }, config, &mut Rng::new(2)).unwrap();
    tuner.step(&pixels, &pixels).unwrap();
    assert!((4 * numbers * 3 / 2..8 * numbers * 11 / 10).contains(&bytes()), "{} bytes for {numbers} numbers", bytes());
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
        tuner.trainable().params.iter().flat_map(|param| bits(&param.var)).collect()
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
