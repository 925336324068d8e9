//! What the blocks after LaFTer add to a step: `cargo bench --bench blocks`.
//!
//! The same step with LaFTer's settings and with all of DPA's blocks (alignment over a window, image prototypes out of a memory of
//! 50,000 pictures, relative weights; fairness and alignment terms; a cosine head), in turns, so that a busy machine slows both. It
//! prints one line of JSON a row: `{"row", "lafter_seconds", "blocks_seconds" (medians), "more_percent", "repetitions", "threads"}`.
//! Rows: `demo`, 50 images through the embedded tiny CLIP, with 12 classes; `demo_100`, the same with 100 classes. A step through a
//! larger tower takes longer, the blocks do not.

use std::time::Instant;

use candle_core::Tensor;
use lafter::classify::{Head, TextClassifier, normalize};
use lafter::clip::Clip;
use lafter::rng::Rng;
use lafter::tune::{FinetuneConfig, Finetuner, Pass, Views};
use lafter::{LafterConfig, Preset};

#[global_allocator]
static ALLOCATOR: lafter::allocator::MiMalloc = lafter::allocator::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const IMAGES: usize = 50;
const PICTURES: usize = 50_000;

fn main() -> Result<()> {
    lafter::allocator::keep_freed_memory();
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (mut rows, mut repetitions) = (Vec::new(), 60);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--repetitions" => repetitions = arguments.next().ok_or("--repetitions needs a number")?.parse()?,
            _ => rows.push(argument),
        }
    }
    for (row, classes) in [("demo", 12), ("demo_100", 100)] {
        if rows.is_empty() || rows.iter().any(|named| named == row) {
            measure(row, classes, repetitions)?;
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
    let step = |tuner: &mut Finetuner| -> Result<f32> {
        let targets = tuner.targets(&views)?;
        let (loss, _) = tuner.loss(&views, &targets)?;
        tuner.apply(&loss)?;
        Ok(Tensor::to_scalar(&loss)?)
    };
    let mut seconds = [Vec::new(), Vec::new()];
    for repetition in 0..=repetitions.max(1) {
        for (tuner, seconds) in tuners.iter_mut().zip(&mut seconds) {
            let started = Instant::now();
            step(tuner)?;
            if repetition > 0 {
                seconds.push(started.elapsed().as_secs_f64()); // the first packs and warms the caches
            }
        }
    }
    let [lafter, blocks] = seconds.map(|mut seconds| {
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    });
    let line = serde_json::json!({
        "row": row, "lafter_seconds": lafter, "blocks_seconds": blocks, "more_percent": 100.0 * (blocks / lafter - 1.0),
        "repetitions": repetitions, "threads": rayon::current_num_threads(),
    });
    println!("{line}");
    Ok(())
}
