//! One epoch of the text classifier at ImageNet's size, 130,000 features of width 512 and 1,000 classes, with noise, smoothed
//! cross entropy and AdamW: `cargo bench --bench text_epoch`.
//!
//! | row | what |
//! |---|---|
//! | text_epoch | all texts in one step, the official setting |
//! | text_epoch_batches | 13 steps of 10,000 |

mod common;

use candle_core::Device;
use lafter::classify::{TextClassifierConfig, TextTrainer};
use lafter::rng::Rng;

#[global_allocator]
static ALLOCATOR: lafter::allocator::MiMalloc = lafter::allocator::MiMalloc;

fn main() -> lafter::Result<()> {
    lafter::allocator::keep_freed_memory();
    let bench = common::Bench::from_args(5);
    let (texts, width, classes) = (130_000, 512, 1_000);
    let features = Rng::new(1).normal_tensor((texts, width), 1.0, &Device::Cpu)?;
    let labels: Vec<usize> = (0..texts).map(|text| text % classes).collect();
    for (row, batch_size) in [("text_epoch", None), ("text_epoch_batches", Some(10_000))] {
        let config = TextClassifierConfig { batch_size, ..TextClassifierConfig::official() };
        let mut trainer = TextTrainer::new(&features, &labels, config, &mut Rng::new(2))?;
        bench.row(row, texts, || trainer.epoch().map(drop))?;
    }
    Ok(())
}
