//! Pre-training of the demo CLIP: scenes, captions, the loop, the files.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::END;
use super::tokenizer::{encode, train_tokenizer};
use super::trainer::Pretrainer;
use crate::augment::{CLIP_MEAN, CLIP_STD, Preprocess};
use crate::classify::ZeroShotClassifier;
use crate::clip::{ClipConfig, EndOfText, TextConfig, VisionConfig, save_tensors};
use crate::data::ImageSource;
use crate::data::scenes::{CLASSES, DESCRIPTIONS, Domain, Scenes, captions};
use crate::error::{Error, Result};
use crate::eval::as_written;
use crate::files::save_atomically;
use crate::nn::{Activation, LrSchedule, argmax};
use crate::progress::{self, Event, Stage};
use crate::rng::Rng;

/// What is trained, on what, for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct PretrainConfig {
    /// Sizes of both towers; the vocabulary is set from the tokenizer.
    pub clip: ClipConfig,
    /// Seed of weights, scenes and captions.
    pub seed: u64,
    /// Training steps (default 5,000).
    pub steps: usize,
    /// Pairs per step.
    pub batch_size: usize,
    /// AdamW's greatest learning rate.
    pub learning_rate: f64,
    /// On matrices only; biases, norms and the temperature are exempt.
    pub weight_decay: f64,
    /// Steps of linear warm-up before the cosine.
    pub warmup: usize,
    /// Scenes of the source domain to learn from; each gets a new caption whenever it is drawn.
    pub scenes: usize,
    /// Scenes of each domain to measure zero-shot accuracy on after training.
    pub test_scenes: usize,
    /// Most entries of the tokenizer's vocabulary.
    pub vocabulary: usize,
}

impl Default for PretrainConfig {
    fn default() -> Self {
        Self::demo()
    }
}

impl PretrainConfig {
    /// The settings of the committed demo CLIP.
    pub fn demo() -> Self {
        let activation = Activation::QuickGelu;
        let vision =
            VisionConfig { image_size: 40, patch_size: 8, width: 64, layers: 4, heads: 4, hidden: 256, activation, norm_eps: 1e-5 };
        let text = TextConfig {
            vocabulary: 1024,
            context: 32,
            width: 64,
            layers: 2,
            heads: 4,
            hidden: 256,
            activation,
            norm_eps: 1e-5,
            end_of_text: EndOfText::HighestId,
        };
        Self {
            clip: ClipConfig { vision, text, projection: 64 },
            seed: 7777,
            steps: 5000,
            batch_size: 64,
            learning_rate: 3e-3,
            weight_decay: 0.05,
            warmup: 100,
            scenes: 24_000,
            test_scenes: 960,
            vocabulary: 1024,
        }
    }

    /// Refuses settings that cannot work.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the setting that is out of range.
    pub fn validate(&self) -> Result<()> {
        let least = [
            ("steps", self.steps, 1),
            ("batch size", self.batch_size, 2),
            ("scenes", self.scenes, 1),
            ("test scenes", self.test_scenes, 1),
            ("vocabulary", self.vocabulary, 514),
        ];
        for (name, value, least) in least {
            if value < least {
                return Err(Error::Usage(format!("{name} is {value}: pre-training needs at least {least}")));
            }
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return Err(Error::Usage(format!("learning rate is {}: take a positive number", self.learning_rate)));
        }
        Ok(())
    }
}

/// What pre-training reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PretrainSummary {
    /// Training steps.
    pub steps: usize,
    /// Time for everything, in seconds.
    pub seconds: f64,
    /// Mean contrastive loss of the last 100 steps.
    pub loss: f64,
    /// exp of the learnt log scale: the inverse temperature.
    pub logit_scale: f64,
    /// Zero-shot top-1 accuracy on new source scenes in percent, with the one template "a photo of a {}".
    pub source_top1: f64,
    /// The same on the target domain.
    pub target_top1: f64,
    /// Numbers in both towers, temperature included.
    pub parameters: usize,
}

impl std::fmt::Display for PretrainSummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { steps, seconds, loss, logit_scale, source_top1, target_top1, parameters } = self;
        writeln!(f, "{parameters} parameters, {steps} steps in {seconds:.0} s, loss {loss:.3}, logit scale {logit_scale:.1}")?;
        write!(f, "zero-shot top-1: {source_top1:.1} % on clean scenes, {target_top1:.1} % on the target domain")
    }
}

/// Pre-trains the demo CLIP and writes config.json, model.safetensors (f16), tokenizer.json, preprocessor_config.json and
/// summary.json to `out_dir`.
///
/// # Errors
/// [`Error::Usage`] as [`PretrainConfig::validate`]; [`Error::Interrupted`] after an interrupt; [`Error::Io`] if a file
/// cannot be written.
pub fn demo(config: &PretrainConfig, out_dir: impl AsRef<Path>, mut events: impl FnMut(&Event)) -> Result<PretrainSummary> {
    config.validate()?;
    check_place(out_dir.as_ref())?;
    let mut events = progress::watched(&mut events);
    let started = Instant::now();
    let device = Device::Cpu;
    let rng = Rng::new(config.seed);

    let json = train_tokenizer(texts(&rng).iter().map(String::as_str), config.vocabulary)?;
    let tokenizer: tokenizers::Tokenizer = json.to_string().parse().map_err(|e| Error::Tokenizer(format!("demo tokenizer: {e}")))?;
    let mut config = config.clone();
    config.clip.text.vocabulary = tokenizer.get_vocab_size(true);
    config.clip.text.end_of_text = EndOfText::First(tokenizer.token_to_id(END).unwrap_or_default());

    let scenes = Scenes::new(Domain::Source, config.scenes, rng.fork(1).next_u64());
    let view = Preprocess::transformers(config.clip.vision.image_size); // as the trained CLIP will see its pictures
    let images = render(&scenes, &view, "rendering scenes", &mut events)?;
    let mut trainer = Pretrainer::new(&config, &mut rng.fork(2), &device)?;
    let mut draws = rng.fork(3);
    let schedule = LrSchedule::Cosine { warmup: config.warmup, floor: 0.0 };
    let stage = Stage::from("pre-training");
    events(&Event::Started { stage: stage.clone(), total: config.steps, unit: "steps".into() });
    let mut losses = Vec::with_capacity(config.steps);
    for step in 0..config.steps {
        progress::check_interrupt("pre-training stopped, nothing was written")?;
        let picks: Vec<usize> = (0..config.batch_size).map(|_| draws.below(scenes.len())).collect();
        let pixels = batch(&images, &picks, &view, &device)?;
        let texts: Vec<String> = picks.iter().map(|&i| captions::caption(&scenes.scene(i), &mut draws)).collect();
        let (ids, ends) = encode(&tokenizer, &texts, config.clip.text.context)?;
        // one step more than there are: the floor of 0 would waste the last
        let factor = schedule.factor(step, config.steps + 1);
        let loss = trainer.step(&pixels, &Tensor::new(ids, &device)?, &ends, &texts, factor)?;
        losses.push(f64::from(loss));
        events(&Event::Advanced { stage: stage.clone(), done: step + 1, total: config.steps, loss: Some(loss), accuracy: None });
    }
    events(&Event::Finished { stage, seconds: started.elapsed().as_secs_f64() });

    let mut top1 = |domain, label| -> Result<f64> {
        let test = Scenes::new(domain, config.test_scenes, rng.fork(label).next_u64());
        zero_shot(&trainer, &tokenizer, &test, &view, config.clip.text.context, &device, &mut events)
    };
    let (source_top1, target_top1) = (top1(Domain::Source, 4)?, top1(Domain::Target, 5)?);
    let tensors = trainer.tensors();
    let last = &losses[losses.len().saturating_sub(100)..];
    let scale = tensors.iter().find(|(name, _)| name == "logit_scale").map(|(_, t)| t.to_scalar::<f32>()).transpose()?;
    let summary = PretrainSummary {
        steps: config.steps,
        seconds: started.elapsed().as_secs_f64(),
        loss: last.iter().sum::<f64>() / last.len() as f64,
        logit_scale: f64::from(scale.unwrap_or_default().exp()),
        source_top1,
        target_top1,
        parameters: tensors.iter().map(|(_, t)| t.elem_count()).sum(),
    };
    let files = [
        ("config.json", config.clip.to_transformers()),
        ("tokenizer.json", json),
        ("preprocessor_config.json", preprocessor(view.side())),
        ("summary.json", json!(summary)),
    ];
    write(out_dir.as_ref(), &tensors, &files)?;
    Ok(summary)
}

/// Finds out before the training whether the folder can be written; it is left as it was, also where it was not.
fn check_place(folder: &Path) -> Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    let made = std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder)).map(drop);
    missing.iter().for_each(|path| drop(std::fs::remove_dir(path)));
    made.map_err(|e| Error::io(folder, e))
}

/// What the tokenizer learns from: captions, descriptions, class names.
fn texts(rng: &Rng) -> Vec<String> {
    let scenes = Scenes::new(Domain::Source, 4000, rng.fork(6).next_u64());
    let mut draws = rng.fork(7);
    let mut texts: Vec<String> = (0..scenes.len()).map(|i| captions::caption(&scenes.scene(i), &mut draws)).collect();
    let descriptions: std::collections::BTreeMap<String, Vec<String>> = serde_json::from_str(DESCRIPTIONS).unwrap_or_default();
    texts.extend(descriptions.into_values().flatten());
    texts.extend(CLASSES.map(|name| format!("a photo of a {name}.")));
    texts
}

/// Scenes that are rendered between two looks for an interrupt.
const CHUNK: usize = 100;

/// All scenes at the tower's resolution, rendered in parallel.
fn render(scenes: &Scenes, view: &Preprocess, stage: &str, events: &mut impl FnMut(&Event)) -> Result<Vec<RgbImage>> {
    let started = Instant::now();
    events(&Event::Started { stage: stage.into(), total: scenes.len(), unit: "images".into() });
    let mut images = Vec::with_capacity(scenes.len());
    for start in (0..scenes.len()).step_by(CHUNK) {
        progress::check_interrupt("rendering stopped, nothing was written")?;
        let end = (start + CHUNK).min(scenes.len());
        let shrunk = |i| Ok(view.image(&scenes.image(i)?));
        let chunk: Vec<RgbImage> = (start..end).into_par_iter().map(shrunk).collect::<Result<_>>()?;
        images.extend(chunk);
        events(&Event::Advanced { stage: stage.into(), done: end, total: scenes.len(), loss: None, accuracy: None });
    }
    events(&Event::Finished { stage: stage.into(), seconds: started.elapsed().as_secs_f64() });
    Ok(images)
}

/// `[picks, 3, side, side]`, normalized.
fn batch(images: &[RgbImage], picks: &[usize], view: &Preprocess, device: &Device) -> Result<Tensor> {
    let values: Vec<f32> = picks.iter().flat_map(|&i| view.planes(&images[i])).collect();
    Ok(Tensor::from_vec(values, (picks.len(), 3, view.side(), view.side()), device)?)
}

/// Zero-shot top-1 accuracy in percent, with "a photo of a {}". (eq. 1)
fn zero_shot(
    trainer: &Pretrainer,
    tokenizer: &tokenizers::Tokenizer,
    scenes: &Scenes,
    view: &Preprocess,
    context: usize,
    device: &Device,
    events: &mut impl FnMut(&Event),
) -> Result<f64> {
    let prompts: Vec<String> = CLASSES.iter().map(|name| format!("a photo of a {name}")).collect();
    let (ids, ends) = encode(tokenizer, &prompts, context)?;
    let texts = trainer.text().forward(&Tensor::new(ids, device)?, &ends)?; // [C, d]
    let labels: Vec<usize> = (0..CLASSES.len()).collect();
    let classifier = ZeroShotClassifier::from_features(&texts, &labels, 1.0)?; // the scale changes no answer
    let (images, vision) = (render(scenes, view, "rendering test scenes", events)?, trainer.vision());
    let mut right = 0;
    for start in (0..images.len()).step_by(100) {
        let picks: Vec<usize> = (start..(start + 100).min(images.len())).collect();
        let logits = classifier.logits(&vision.forward(&batch(&images, &picks, view, device)?)?)?; // [picks, C]
        let answers: Vec<u32> = argmax(&logits)?.to_vec1()?;
        right += answers.iter().zip(&picks).filter(|(answer, i)| scenes.label(**i) == Some(**answer as usize)).count();
    }
    Ok(100.0 * right as f64 / images.len().max(1) as f64)
}

fn preprocessor(side: usize) -> Value {
    json!({
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": true, "size": {"shortest_edge": side}, "resample": 3,
        "do_center_crop": true, "crop_size": {"height": side, "width": side},
        "do_convert_rgb": true, "do_rescale": true, "rescale_factor": 1.0 / 255.0,
        "do_normalize": true, "image_mean": as_written(&CLIP_MEAN), "image_std": as_written(&CLIP_STD),
    })
}

fn write(folder: &Path, tensors: &[(String, Tensor)], files: &[(&str, Value)]) -> Result<()> {
    for (name, value) in files {
        let text = if *name == "tokenizer.json" { value.to_string() } else { format!("{value:#}\n") };
        save_atomically(folder.join(name), text.as_bytes())?;
    }
    let half: Vec<(String, Tensor)> =
        tensors.iter().map(|(name, tensor)| Ok((name.clone(), tensor.to_dtype(DType::F16)?))).collect::<Result<_>>()?;
    save_tensors(folder.join("model.safetensors"), &half, HashMap::new())
}
