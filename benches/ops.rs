//! Each fused operation next to the same out of Candle's own operations, forward and backward: `cargo bench --bench ops`.
//!
//! The sizes are those of a tuning step of ViT-B/32 with 32 images and 49 visual prompts: 32 sequences of 99 tokens of width
//! 768, 12 heads. Both forms also pay for a sum over the result, from which the gradient comes. Rows can be named:
//! `cargo bench --bench ops -- layer_norm layer_norm_candle --repetitions 9`.
//!
//! | row | what |
//! |---|---|
//! | layer_norm, softmax | on [32, 99, 768]: gradients of all inputs |
//! | quick_gelu, gelu | on [32, 99, 3072] |
//! | linear | 768 → 3,072, frozen and packed, gradient of the input |
//! | attention | with its four layers of width 768, which are packed in both forms; gradient of the input |
//! | block | a whole block: attention branch and MLP branch, frozen but for their norms |
//! | text_loss | noise, linear head, smoothed cross entropy and gradient for 10,000 texts of width 512 and 1,000 classes |
//! | …_candle | the same out of Candle's own operations |
//! | fma | this machine's limit and the share of it that products with packed layers reach: see `common/fma.rs`; only if it is named |

mod common;

use candle_core::{D, DType, Device, Tensor, Var};
use lafter::Result;
use lafter::classify::{Head, NoisyTexts};
use lafter::nn::{Activation, Attention, Block, Isa, LayerNorm, Linear, Precision, softmax};
use lafter::rng::Rng;

#[global_allocator]
static ALLOCATOR: lafter::allocator::MiMalloc = lafter::allocator::MiMalloc;

const TOKENS: [usize; 2] = [32, 99];
const WIDTH: usize = 768;

fn normal(shape: &[usize], std: f32) -> Result<Tensor> {
    Ok(Rng::new(shape.iter().sum::<usize>() as u64).normal_tensor(shape, std, &Device::Cpu)?)
}

fn variable(width: usize) -> Result<Var> {
    Ok(Var::from_tensor(&normal(&[TOKENS[0], TOKENS[1], width], 1.0)?)?)
}

fn linear(inputs: usize, outputs: usize) -> Result<Linear> {
    Ok(Linear::new(normal(&[outputs, inputs], (inputs as f32).powf(-0.5))?, Some(normal(&[outputs], 0.1)?)))
}

fn norm() -> Result<LayerNorm> {
    let learns = |values: Tensor| -> Result<Tensor> { Ok(Var::from_tensor(&values)?.into_inner()) };
    let ones = Tensor::ones(WIDTH, DType::F32, &Device::Cpu)?;
    Ok(LayerNorm::new(learns(ones.clone())?, learns(ones.zeros_like()?)?, 1e-5))
}

fn main() -> Result<()> {
    lafter::allocator::keep_freed_memory();
    let bench = common::Bench::from_args(5)?;
    if bench.named("fma") {
        return products_of_the_limit(&bench);
    }
    let (x, wide) = (variable(WIDTH)?, variable(4 * WIDTH)?);
    type Form<'a> = &'a dyn Fn() -> candle_core::Result<Tensor>;
    // forward, sum, backward
    let both_of = |row: &str, items: usize, fused: Form, plain: Form| -> Result<()> {
        bench.row(row, items, || Ok(fused()?.sum_all()?.backward().map(drop)?))?;
        bench.row(&format!("{row}_candle"), items, || Ok(plain()?.sum_all()?.backward().map(drop)?))
    };
    let both = |row: &str, fused: Form, plain: Form| both_of(row, TOKENS[0] * TOKENS[1], fused, plain);
    let (isa, f32s) = (Isa::best(), Precision::F32);

    let layer_norm = norm()?;
    both("layer_norm", &|| layer_norm.forward(&x), &|| layer_norm.forward_plain(&x))?;
    both("softmax", &|| softmax(&x), &|| candle_nn::ops::softmax(&x, D::Minus1))?;
    for (row, activation) in [("quick_gelu", Activation::QuickGelu), ("gelu", Activation::Gelu)] {
        both(row, &|| activation.forward(&wide), &|| activation.forward_plain(&wide))?;
    }
    let layer = linear(WIDTH, 4 * WIDTH)?;
    let packed = layer.packed(f32s, isa)?;
    both("linear", &|| packed.forward(&x), &|| layer.forward_plain(&x))?;
    let [query, key, value, output] = [0; 4].map(|_| linear(WIDTH, WIDTH));
    let attention = Attention { query: query?, key: key?, value: value?, output: output?, heads: 12, causal: false };
    let packed = attention.packed(f32s, isa)?;
    both("attention", &|| packed.forward(&x), &|| packed.attend_plain(&x, &x))?;
    let (fc1, fc2) = (linear(WIDTH, 4 * WIDTH)?, linear(4 * WIDTH, WIDTH)?);
    let block = Block { norm1: norm()?, attention, norm2: norm()?, fc1, fc2, activation: Activation::QuickGelu };
    let packed = block.packed(f32s, isa)?;
    both("block", &|| packed.forward(&x), &|| block.forward_plain(&x))?;

    let (texts, classes) = (10_000, 1_000);
    let labels: Vec<usize> = (0..texts).map(|text| text % classes).collect();
    let step = NoisyTexts::new(normal(&[texts, 512], 1.0)?, &labels, 0.1, 0.1)?;
    let (head, _) = Head::linear(512, classes, &mut Rng::new(1), &Device::Cpu)?.trainable()?;
    let loss = |plain: bool| match plain {
        true => Ok(step.loss_plain(&head, None, &mut Rng::new(2))?.0),
        false => Ok(step.loss(&head, None, &mut Rng::new(2))?.0),
    };
    both_of("text_loss", texts, &|| loss(false), &|| loss(true))
}

/// Products of a tuning step's shapes with layers that are packed, in turns with loops of nothing but FMA.
fn products_of_the_limit(bench: &common::Bench) -> Result<()> {
    let rows = TOKENS[0] * TOKENS[1];
    for isa in Isa::available().into_iter().filter(|isa| isa.level() <= Isa::best().level()) {
        let Some(limit) = common::fma::Limit::of(isa) else { continue };
        let mut products = Vec::new();
        for (inputs, outputs) in [(WIDTH, WIDTH), (WIDTH, 3 * WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)] {
            let x = normal(&[rows, inputs], 1.0)?;
            products.push((inputs, outputs, x, linear(inputs, outputs)?.packed(Precision::F32, isa)?));
        }
        let mut best = common::fma::Best::new(products.len());
        for _ in 0..bench.repetitions() {
            best.note_limit(&limit);
            for (place, (inputs, outputs, x, layer)) in products.iter().enumerate() {
                best.note(place, 2.0 * (rows * inputs * outputs) as f64, || layer.forward(x).map(drop))?;
            }
        }
        for (place, (inputs, outputs, ..)) in products.iter().enumerate() {
            best.print(&format!("{:?}", isa.level()), place, &format!("{rows} x {inputs} x {outputs}"));
        }
    }
    Ok(())
}
