//! Answers without training: `cargo bench --bench transduct`. Each method next to the matrix products that it contains, which are its
//! bound: StatA and TransCLIP take at most twice as long.
//!
//! | row | what |
//! |---|---|
//! | stata_small, transclip_small, … | 5,000 features of width 512, 1,000 classes |
//! | stata, transclip, … | 50,000 features; only when named |
//! | …_products | the products alone, with the crate's own product and Candle's |
//!
//! The authors' formula in PyTorch, with n × C × d in pieces and n × n whole: `python benches/transduct.py --pictures 5000`.

mod common;

use candle_core::{Device, Tensor};
use lafter::nn::{Isa, Linear, Precision};
use lafter::rng::Rng;
use lafter::transduct::{Features, Transduct};

#[global_allocator]
static ALLOCATOR: lafter::allocator::MiMalloc = lafter::allocator::MiMalloc;

const WIDTH: usize = 512;
const CLASSES: usize = 1_000;

/// The products of `updates` updates and one assignment more, each over `inner` numbers, and those of all pairs of pictures.
fn products(features: &Features, inner: usize, updates: usize) -> lafter::Result<()> {
    let x = Tensor::cat(&vec![&features.images; inner / WIDTH], 1)?; // [n, inner]
    let weight = Tensor::cat(&vec![&features.texts; inner / WIDTH], 1)?.contiguous()?; // [C, inner]
    let mut z = Linear::new(features.texts.clone(), None).packed(Precision::F32, Isa::best())?.forward(&features.images)?;
    for update in 0..=updates {
        z = Linear::new(weight.clone(), None).packed(Precision::F32, Isa::best())?.forward(&x)?;
        if update < updates {
            z.t()?.matmul(&x)?;
        }
    }
    let n = features.pictures();
    for first in (0..n).step_by(1024) {
        let block = features.images.narrow(0, first, 1024.min(n - first))?;
        for from in (0..n).step_by(4096) {
            block.matmul(&features.images.narrow(0, from, 4096.min(n - from))?.t()?)?;
        }
    }
    drop(z);
    Ok(())
}

fn main() -> lafter::Result<()> {
    lafter::allocator::keep_freed_memory();
    let bench = common::Bench::from_args(3)?;
    for (size, n) in [("_small", 5_000), ("", 50_000)] {
        let rows =
            ["stata", "transclip", "zlap", "neighbors"].map(|name| (name, format!("{name}{size}"), format!("{name}_products{size}")));
        if size.is_empty() && !rows.iter().any(|(_, row, products)| bench.named(row) || bench.named(products)) {
            continue;
        }
        let mut rng = Rng::new(1);
        let mut random = |rows| rng.normal_tensor((rows, WIDTH), 1.0, &Device::Cpu);
        let features = Features::new(&random(n)?, &random(CLASSES)?, 100.0)?;
        for (name, row, products_row) in rows {
            let asked = !size.is_empty() || bench.named(&row);
            if asked {
                let method = Transduct::named(name)?;
                bench.row(&row, n, || method.probabilities(&features, |_| {}).map(drop))?;
            }
            let inner = match name {
                "stata" => 2 * WIDTH,
                "transclip" => WIDTH,
                _ => continue,
            };
            if !size.is_empty() || bench.named(&products_row) {
                bench.row(&products_row, n, || products(&features, inner, 10))?;
            }
        }
    }
    Ok(())
}
