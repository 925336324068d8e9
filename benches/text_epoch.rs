//! One epoch of the text classifier at ImageNet's size, 130,000 features of width 512 and 1,000 classes, with noise, smoothed
//! cross entropy and AdamW: `cargo bench --bench text_epoch`.
//!
//! | row | what |
//! |---|---|
//! | text_epoch | all texts in one step, the official setting |
//! | text_epoch_batches | 13 steps of 10,000 |

mod common;

use candle_core::{Device, Tensor};
use lafter::classify::{TextClassifier, TextClassifierConfig};
use lafter::rng::Rng;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> lafter::Result<()> {
    let bench = common::Bench::from_args(5);
    let (texts, width, classes) = (130_000, 512, 1_000);
    let features = Rng::new(1).normal_tensor((texts, width), 1.0, &Device::Cpu)?;
    let labels: Vec<usize> = (0..texts).map(|text| text % classes).collect();
    bench.row("text_epoch", texts, || epoch(&features, &labels, None))?;
    bench.row("text_epoch_batches", texts, || epoch(&features, &labels, Some(10_000)))
}

/// The official setting but for the length; the head is made anew each time, which costs little.
fn epoch(features: &Tensor, labels: &[usize], batch_size: Option<usize>) -> lafter::Result<()> {
    let config = TextClassifierConfig { epochs: 1, batch_size, ..TextClassifierConfig::official() };
    TextClassifier::fit(features, labels, &config, &mut Rng::new(2)).map(|_| ())
}
