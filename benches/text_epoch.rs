//! One epoch of the text classifier at ImageNet's size, 130,000 features of width 512 and 1,000 classes, with noise, smoothed
//! cross entropy and AdamW: `cargo bench --bench text_epoch`.
//!
//! | row | what |
//! |---|---|
//! | text_epoch | all texts in one step, the official setting |
//! | text_epoch_batches | 13 steps of 10,000 |
//! | text_epoch_candle | the first row built from Candle's own operations; takes gigabytes; only when named |
//! | text_epochs_f32, text_epochs_tf32 | a hundred epochs as in the first row, for a GPU (`--device cuda`); only when named |

mod common;

use lafter::classify::{Head, NoisyTexts, TextClassifierConfig, TextTrainer};
use lafter::nn::{AdamW, AdamWConfig, ParamGroup};
use lafter::rng::Rng;

#[global_allocator]
static ALLOCATOR: lafter::allocator::MiMalloc = lafter::allocator::MiMalloc;

fn main() -> lafter::Result<()> {
    lafter::allocator::keep_freed_memory();
    let bench = common::Bench::from_args(5)?;
    let (texts, width, classes) = (130_000, 512, 1_000);
    let features = Rng::new(1).normal_tensor((texts, width), 1.0, &bench.device)?;
    let labels: Vec<usize> = (0..texts).map(|text| text % classes).collect();
    for (row, batch_size) in [("text_epoch", None), ("text_epoch_batches", Some(10_000))] {
        let config = TextClassifierConfig { batch_size, ..TextClassifierConfig::official() };
        let mut trainer = TextTrainer::new(&features, &labels, config, &mut Rng::new(2))?;
        bench.row(row, texts, || trainer.epoch().map(drop))?;
    }
    if bench.named("text_epoch_candle") {
        let (head, params) = Head::linear(width, classes, &mut Rng::new(2), &bench.device)?.trainable()?;
        let mut optimizer = AdamW::new(ParamGroup::decay_weights(&params, 0.01), AdamWConfig::default())?;
        let (loss, mut rng) = (NoisyTexts::new(features.clone(), &labels, 0.1, 0.1)?, Rng::new(3));
        bench.row("text_epoch_candle", texts, || Ok(optimizer.step(&loss.loss_plain(&head, None, &mut rng)?.0.backward()?, 1.0)?))?;
    }
    for row in ["text_epochs_f32", "text_epochs_tf32"].into_iter().filter(|row| bench.named(row)) {
        let mut trainer = TextTrainer::new(&features, &labels, TextClassifierConfig::official(), &mut Rng::new(2))?;
        bench.row(row, 100 * texts, || (0..100).try_for_each(|_| trainer.epoch().map(drop)))?;
    }
    Ok(())
}
