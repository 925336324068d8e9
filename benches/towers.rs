//! The vision tower and the tuning step of a ViT-B/32 with random weights: `cargo bench --bench towers`.
//!
//! Each row runs in a process of its own, so that its peak memory is its own, and prints one line of JSON:
//! `{"row", "seconds" (least of the repetitions), "median", "repetitions", "peak_rss_bytes", "threads"}`. Rows can be named:
//! `cargo bench --bench towers -- tuning_step_f32 --repetitions 9`; the last rows run only when named. On a GPU:
//! `cargo bench --features cuda --bench towers -- tuning_step_50_bf16 --device cuda`; then `"peak_device_bytes"`, too.
//!
//! | row | what |
//! |---|---|
//! | vision_forward_f32, vision_forward_bf16 | 64 images through the packed tower |
//! | tuning_step_f32, tuning_step_bf16 | pseudo-labels, loss, backward and AdamW for 32 images, 50 visual prompts, 100 classes |
//! | demo_step | the same for 50 images and the embedded tiny CLIP, where threads cost more than they give |
//! | vision_forward_avx512, vision_forward_avx2, vision_forward_portable | the forward pass on narrower instructions |
//! | vision_forward_candle, tuning_step_candle | the forward pass and the step with blocks built from Candle's own operations |
//! | tuning_step_50_f32, tuning_step_50_tf32, tuning_step_50_bf16 | the step for 50 images, the published setting |
//! | tuning_step_50_in_10 | the same in f32, taken in parts of 10 images |
//! | vision_forward_tf32 | as vision_forward_f32; both tf32 rows round the factors of products on a GPU only |
//! | clip_loaded, clip_features | both towers of a whole ViT-B/32: read from its file, and then 64 images and 64 texts; for their memory |

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use candle_core::{D, Device, Tensor};
use lafter::classify::{Head, TextClassifier, normalize, smoothed_cross_entropy};
use lafter::clip::{Clip, ClipLoader, TextConfig, VisionConfig, VisionTower, save_tensors};
use lafter::eval::peak_rss_bytes;
use lafter::nn::{Activation, AdamW, AdamWConfig, Isa, ParamGroup, Precision};
use lafter::pretrain::{PretrainConfig, Pretrainer};
use lafter::progress::silent;
use lafter::rng::Rng;
use lafter::tune::{FinetuneConfig, Finetuner, VisualPrompts};

#[global_allocator]
static ALLOCATOR: lafter::allocator::MiMalloc = lafter::allocator::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const ROWS: [&str; 5] = ["vision_forward_f32", "vision_forward_bf16", "tuning_step_f32", "tuning_step_bf16", "demo_step"];
const CLASSES: usize = 100;

fn main() -> Result<()> {
    lafter::allocator::keep_freed_memory();
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (mut rows, mut repetitions, mut model, mut device) = (Vec::new(), 5, None, "cpu".to_string());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--repetitions" => repetitions = arguments.next().ok_or("--repetitions needs a number")?.parse()?,
            "--model" => model = arguments.next(),
            "--device" => device = arguments.next().ok_or("--device needs cpu, cuda or cuda:N")?,
            _ => rows.push(argument),
        }
    }
    if let (Some(model), [row]) = (&model, &rows[..]) {
        return measure(row, Path::new(model), &lafter::device::open(&device)?, repetitions);
    }
    let folder = tempfile::tempdir()?;
    write_model(folder.path(), rows.iter().any(|row| row.starts_with("clip_")))?;
    let rows = if rows.is_empty() { ROWS.map(String::from).to_vec() } else { rows };
    for row in rows {
        let mut child = Command::new(std::env::current_exe()?);
        child.arg(&row).args(["--repetitions", &repetitions.to_string(), "--device", &device, "--model"]).arg(folder.path());
        if !child.status()?.success() {
            return Err(format!("{row} failed").into());
        }
    }
    Ok(())
}

/// A CLIP in transformers' layout, all random: the vision tower of ViT-B/32, and a small text tower or the whole one.
fn write_model(folder: &Path, whole: bool) -> Result<()> {
    let mut config = PretrainConfig::demo();
    config.clip.projection = 512;
    config.clip.vision = VisionConfig {
        image_size: 224,
        patch_size: 32,
        width: 768,
        layers: 12,
        heads: 12,
        hidden: 3072,
        activation: Activation::QuickGelu,
        norm_eps: 1e-5,
    };
    if whole {
        let small = config.clip.text;
        config.clip.text = TextConfig { vocabulary: 49_408, context: 77, width: 512, layers: 12, heads: 8, hidden: 2048, ..small };
    }
    let tensors = Pretrainer::new(&config, &mut Rng::new(1), &Device::Cpu)?.tensors();
    save_tensors(folder.join("model.safetensors"), &tensors, [].into())?;
    std::fs::write(folder.join("config.json"), config.clip.to_transformers().to_string())?;
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer/json/tokenizer.json");
    std::fs::copy(tokenizer, folder.join("tokenizer.json"))?;
    Ok(())
}

fn measure(row: &str, model: &Path, device: &Device, repetitions: usize) -> Result<()> {
    common::device::choose_tf32(row);
    let mut work = work(row, model, device)?;
    let mut run = || work().and_then(|()| Ok(device.synchronize()?));
    run()?; // packs, warms the caches
    let mut seconds = Vec::new();
    for _ in 0..repetitions.max(1) {
        let started = Instant::now();
        run()?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let (least, median, threads) = (seconds[0], seconds[seconds.len() / 2], rayon::current_num_threads());
    let peak = peak_rss_bytes().unwrap_or(0);
    let line = serde_json::json!({
        "row": row, "seconds": least, "median": median, "repetitions": seconds.len(), "peak_rss_bytes": peak, "threads": threads,
        "peak_device_bytes": common::device::peak_bytes(device),
    });
    println!("{line}");
    Ok(())
}

/// One repetition of a row.
fn work(row: &str, model: &Path, device: &Device) -> Result<Box<dyn FnMut() -> Result<()>>> {
    let loader = if row == "demo_step" { ClipLoader::new("demo") } else { ClipLoader::from_dir(model) };
    let clip: Clip = loader.device(device).load(silent)?;
    let side = clip.config().vision.image_size;
    let images = |n: usize, seed| Rng::new(seed).normal_tensor((n, 3, side, side), 1.0, device);
    let forward = |tower: VisionTower| -> Result<Box<dyn FnMut() -> Result<()>>> {
        let pixels = images(64, 2)?;
        Ok(Box::new(move || Ok(tower.forward(&pixels).map(drop)?)))
    };
    let in_parts = |precision, batch, prompts, micro_batch| -> Result<Box<dyn FnMut() -> Result<()>>> {
        let head = Head::linear(clip.config().projection, CLASSES, &mut Rng::new(3), device)?;
        let config = FinetuneConfig { prompts, precision, micro_batch, ..FinetuneConfig::official() };
        let mut tuner = Finetuner::new(&clip, &TextClassifier { head }, config, &mut Rng::new(4))?;
        let (weak, strong) = (images(batch, 5)?, images(batch, 6)?);
        Ok(Box::new(move || Ok(tuner.step(&weak, &strong).map(drop)?)))
    };
    let step = |precision, batch, prompts| in_parts(precision, batch, prompts, None);
    let narrower = |name: &str| -> Result<Isa> {
        let isa = Isa::available().into_iter().find(|isa| format!("{isa:?}").eq_ignore_ascii_case(name));
        Ok(isa.ok_or_else(|| format!("this processor has no {name}"))?)
    };
    match row {
        "vision_forward_f32" | "vision_forward_tf32" => forward(clip.vision().clone()),
        "vision_forward_bf16" => forward(clip.vision().packed(Precision::Bf16)?),
        "tuning_step_f32" => step(Precision::F32, 32, 50),
        "tuning_step_bf16" => step(Precision::Bf16, 32, 50),
        "tuning_step_50_f32" | "tuning_step_50_tf32" => step(Precision::F32, 50, 50),
        "tuning_step_50_in_10" => in_parts(Precision::F32, 50, 50, Some(10)),
        "tuning_step_50_bf16" => step(Precision::Bf16, 50, 50),
        "demo_step" => step(Precision::F32, 50, 8),
        "clip_loaded" => Ok(Box::new(move || {
            std::hint::black_box(&clip);
            Ok(())
        })),
        "clip_features" => {
            let (pixels, texts) = (images(64, 2)?, vec!["a a a a a a a"; 64]);
            Ok(Box::new(move || {
                clip.encode_image(&pixels)?;
                Ok(clip.encode_text(&texts).map(drop)?)
            }))
        }
        "vision_forward_candle" => {
            let (tower, pixels) = (clip.vision().clone(), images(64, 2)?);
            Ok(Box::new(move || {
                let tokens = tower.embed(&pixels)?;
                let encoded: Tensor = tower.blocks.iter().try_fold(tokens, |x, block| block.forward_plain(&x))?;
                Ok(tower.project(&encoded).map(drop)?)
            }))
        }
        "tuning_step_candle" => plain_step(&clip, images(32, 5)?, images(32, 6)?),
        _ => match row.strip_prefix("vision_forward_") {
            Some(name) => forward(clip.vision().packed_for(Precision::F32, narrower(name)?)?),
            None => Err(format!("there is no row {row}").into()),
        },
    }
}

/// The step of `tuning_step_f32` with every block in its plain form.
fn plain_step(clip: &Clip, weak: Tensor, strong: Tensor) -> Result<Box<dyn FnMut() -> Result<()>>> {
    let (tower, mut params) = clip.vision().trainable_norms()?;
    let (prompts, more) = VisualPrompts::shallow(50, tower.config().width, &mut Rng::new(4), clip.device())?.trainable()?;
    let frozen = Head::linear(clip.config().projection, CLASSES, &mut Rng::new(3), clip.device())?;
    let (head, last) = frozen.trainable()?;
    params.extend(more.into_iter().chain(last));
    let mut optimizer = AdamW::new(ParamGroup::decay_weights(&params, 0.01), AdamWConfig::default())?;
    let teacher = tower.detached();
    let encode = |tower: &VisionTower, tokens: Tensor| -> candle_core::Result<Tensor> {
        tower.project(&tower.blocks.iter().try_fold(tokens, |x, block| block.forward_plain(&x))?)
    };
    Ok(Box::new(move || {
        let pseudo = frozen.forward(&normalize(&encode(&teacher, teacher.embed(&weak)?)?)?)?.argmax(D::Minus1)?;
        let logits = head.forward(&encode(&tower, prompts.insert(&tower.embed(&strong)?)?)?)?;
        Ok(optimizer.step(&smoothed_cross_entropy(&logits, &pseudo, 0.1)?.backward()?, 1.0)?)
    }))
}
