//! What the blocks after LaFTer add to a step: `cargo bench --bench blocks`.
//!
//! The same step with LaFTer's settings and with all of DPA's blocks (alignment over a window, image prototypes out of a memory of
//! 50,000 pictures, relative weights; fairness and alignment terms; a cosine head), in turns, so that a busy machine slows both. It
//! prints one line of JSON a row: `{"row", "lafter_seconds", "blocks_seconds" (medians), "more_percent" (the median over pairs of steps that
//! follow one another), "cpu_more_percent" (the same of processor time), "repetitions", "threads"}`.
//! Rows: `demo`, 50 images through the embedded tiny CLIP, with 12 classes; `demo_100`, the same with 100 classes. A step through a
//! larger tower takes longer, the blocks do not.

mod common;

use lafter::classify::{Head, TextClassifier, normalize};
use lafter::clip::Clip;
use lafter::rng::Rng;
use lafter::tune::{FinetuneConfig, Finetuner, Pass, Views};
use lafter::{LafterConfig, Preset, Result};

#[global_allocator]
static ALLOCATOR: lafter::allocator::MiMalloc = lafter::allocator::MiMalloc;

const IMAGES: usize = 50;
const PICTURES: usize = 50_000;

fn main() -> Result<()> {
    lafter::allocator::keep_freed_memory();
    let bench = common::Bench::from_args(60)?;
    for (row, classes) in [("demo", 12), ("demo_100", 100)] {
        if bench.takes_all() || bench.named(row) {
            measure(row, classes, bench.repetitions())?;
        }
    }
    Ok(())
}

fn measure(row: &str, classes: usize, repetitions: usize) -> Result<()> {
    let clip = Clip::demo()?;
    let dpa = LafterConfig::new(Preset::Dpa(None)).tune;
    let plain = FinetuneConfig { prompts: 2, ..FinetuneConfig::official() };
    let blocks = FinetuneConfig { refine: dpa.refine, objective: dpa.objective, head_form: dpa.head_form, ..plain.clone() };
    let head = Head::linear(clip.config().projection, classes, &mut Rng::new(3), clip.device())?;
    let tuner = |config| Finetuner::new(&clip, &TextClassifier { head: head.clone() }, config, &mut Rng::new(4));
    let mut tuners = [tuner(plain)?, tuner(blocks)?];
    let pass = || {
        let features = normalize(&Rng::new(8).normal_tensor((PICTURES, clip.config().projection), 1.0, clip.device())?)?;
        let probabilities = candle_nn::ops::softmax(&head.forward(&features)?, 1)?;
        Ok(Pass { indices: (0..PICTURES as u32).collect(), features, probabilities })
    };
    for rule in &mut tuners[1].refine {
        rule.prepare(PICTURES, &mut || pass())?;
    }
    let side = clip.config().vision.image_size;
    let view = |seed| Rng::new(seed).normal_tensor((IMAGES, 3, side, side), 1.0, clip.device());
    let views = Views { indices: (0..IMAGES as u32).map(|i| i * 997).collect(), ..Views::new(view(5)?, view(6)?) };
    let step = |tuner: &mut Finetuner| -> Result<()> {
        let targets = tuner.targets(&views)?;
        let (loss, _) = tuner.loss(&views, &targets)?;
        tuner.apply(&loss)?;
        Ok(loss.to_scalar::<f32>().map(drop)?)
    };
    let mut pairs = Vec::new();
    for repetition in 0..=repetitions {
        let [lafter, blocks] = &mut tuners;
        let pair = if repetition % 2 == 0 {
            let lafter = common::timed(|| step(lafter))?;
            [lafter, common::timed(|| step(blocks))?]
        } else {
            let blocks = common::timed(|| step(blocks))?;
            [common::timed(|| step(lafter))?, blocks]
        };
        if repetition > 0 {
            pairs.push(pair); // the first packs and warms the caches
        }
    }
    let median = |of: fn(&[[f64; 2]; 2]) -> f64| {
        let mut values: Vec<f64> = pairs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let line = serde_json::json!({
        "row": row, "lafter_seconds": median(|pair| pair[0][0]), "blocks_seconds": median(|pair| pair[1][0]),
        "more_percent": median(|pair| 100.0 * (pair[1][0] / pair[0][0] - 1.0)),
        "cpu_more_percent": median(|pair| 100.0 * (pair[1][1] / pair[0][1] - 1.0)),
        "repetitions": repetitions, "threads": rayon::current_num_threads(),
    });
    println!("{line}");
    Ok(())
}
