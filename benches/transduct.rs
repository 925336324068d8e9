//! Answers without training: `cargo bench --bench transduct`. Each method in turns with the matrix products that it contains, which are
//! its bound: StatA and TransCLIP take at most twice as long.
//!
//! | row | what |
//! |---|---|
//! | stata_small, transclip_small, zlap_small, neighbors_small | 5,000 features of width 512, 1,000 classes |
//! | stata, transclip, zlap, neighbors | 50,000 features; only if named |
//!
//! It prints one line of JSON a row: `seconds` and `products_seconds` (medians), `times` (the median of their ratios, each of two runs
//! that follow one another), `cpu_times` (the same of processor seconds, which other programs hardly blur), `extra_rss_bytes` (what the
//! first method of the call took beyond the features), `arrays` (that in arrays n × C). ZLaP's sparse products are not a bound; its row has
//! none.
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

/// x Wᵀ as the crate multiplies.
fn product(x: &Tensor, weight: &Tensor) -> candle_core::Result<Tensor> {
    Linear::new(weight.contiguous()?, None).packed(Precision::F32, Isa::best())?.forward(x)
}

/// The products of a method: of all pairs of pictures, each pair once; the texts' answer; then one over `inner` numbers an assignment, and
/// its transpose an update, of which there is one less.
fn products(features: &Features, inner: usize, assignments: usize) -> lafter::Result<()> {
    let (n, tile) = (features.pictures(), 1024);
    for from in (0..n).step_by(tile) {
        let keys = features.images.narrow(0, from, tile.min(n - from))?.contiguous()?;
        let keys = Linear::new(keys, None).packed(Precision::F32, Isa::best())?;
        for first in (from..n).step_by(tile) {
            keys.forward(&features.images.narrow(0, first, tile.min(n - first))?)?;
        }
    }
    product(&features.images, &features.texts)?;
    if inner == 0 {
        return Ok(());
    }
    let x = Tensor::cat(&vec![&features.images; inner / WIDTH], 1)?; // [n, inner]
    let weight = Tensor::cat(&vec![&features.texts; inner / WIDTH], 1)?; // [C, inner]
    for assignment in 0..assignments {
        let z = product(&x, &weight)?;
        if assignment + 1 < assignments {
            z.t()?.matmul(&x)?;
        }
    }
    Ok(())
}

/// Seconds and processor seconds of a method, and of the products that bound it.
type Run = ([f64; 2], Option<[f64; 2]>);

fn measure(bench: &common::Bench, row: &str, name: &str, features: &Features) -> lafter::Result<()> {
    let method = Transduct::named(name)?;
    let answer = || method.probabilities(features, |_| {}).map(drop);
    let bound = match name {
        "stata" => Some((2 * WIDTH, 11)),
        "transclip" => Some((WIDTH, 11)),
        "neighbors" => Some((0, 0)),
        _ => None,
    };
    let peak = || lafter::eval::peak_rss_bytes().unwrap_or(0);
    let (before, mut extra, mut runs) = (peak(), 0, Vec::new());
    for _ in 0..bench.repetitions() {
        let ours = common::timed(answer)?;
        if runs.is_empty() {
            extra = peak() - before;
        }
        runs.push((ours, bound.map(|(inner, assignments)| common::timed(|| products(features, inner, assignments))).transpose()?));
    }
    let median = |of: &dyn Fn(&Run) -> Option<f64>| {
        let mut values: Vec<f64> = runs.iter().filter_map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    let n = features.pictures();
    let line = serde_json::json!({
        "row": row, "seconds": median(&|(ours, _)| Some(ours[0])), "products_seconds": median(&|(_, products)| Some((*products)?[0])),
        "times": median(&|(ours, products)| Some(ours[0] / (*products)?[0])),
        "cpu_seconds": median(&|(ours, _)| Some(ours[1])), "cpu_times": median(&|(ours, products)| Some(ours[1] / (*products)?[1])),
        "items": n, "repetitions": runs.len(), "threads": rayon::current_num_threads(),
        "extra_rss_bytes": extra, "arrays": extra as f64 / (4 * n * features.classes()) as f64,
    });
    println!("{line}");
    Ok(())
}

fn main() -> lafter::Result<()> {
    lafter::allocator::keep_freed_memory();
    let bench = common::Bench::from_args(3)?;
    let features = |n| -> lafter::Result<Features> {
        let mut rng = Rng::new(1);
        let mut random = |rows| rng.normal_tensor((rows, WIDTH), 1.0, &Device::Cpu);
        Features::new(&random(n)?, &random(CLASSES)?, 100.0)
    };
    products(&features(CLASSES)?, WIDTH, 2)?; // wakes the threads
    for (size, n, unasked) in [("_small", 5_000, true), ("", 50_000, false)] {
        for name in Transduct::NAMES {
            let row = format!("{name}{size}");
            if bench.named(&row) || unasked && bench.takes_all() {
                measure(&bench, &row, name, &features(n)?)?;
            }
        }
    }
    Ok(())
}
