//! The commands around a run: zero-shot, evaluate, predict, embed, pretrain-demo.

use std::collections::HashMap;

use candle_core::{DType, Device};
use lafter::clip::{Clip, ClipLoader, save_tensors};
use lafter::data::{self, Dataset, OpenOptions, Split};
use lafter::describe::{Templates, read_class_names};
use lafter::eval::Evaluation;
use lafter::files::read_text;
use lafter::inputs::Inputs;
use lafter::{Error, LaFTer, Result, ZeroShotClassifier, embed as embedding};
use serde_json::json;

use super::args::{Common, EmbedArgs, EvaluateArgs, ModelArgs, PredictArgs, PretrainArgs, TestArgs, ZeroShotArgs};
use super::bars::Bars;
use super::check;
use super::say::{note, say};

/// The device that was chosen; on a GPU with TF32 where that was chosen, too.
pub fn device(common: &Common) -> Result<Device> {
    candle_core::cuda::set_gemm_reduced_precision_f32(common.tf32);
    lafter::device::open(&common.device)
}

pub fn load(model: &ModelArgs, common: &Common, bars: &mut Bars) -> Result<Clip> {
    let mut loader = ClipLoader::new(&model.model).device(&device(common)?);
    if let Some(revision) = &model.revision {
        loader = loader.revision(revision);
    }
    loader.load(|event| bars.show(event))
}

/// Opens what is tested on, under the user's class names where there are any.
fn open(args: &TestArgs, bars: &mut Bars) -> Result<Dataset> {
    let options = OpenOptions { split_file: args.split.split.clone(), ..OpenOptions::split(Split::Test) };
    let dataset = data::open_with(&args.test, &options, |event| bars.show(event))?;
    match &args.classes.classes {
        None => Ok(dataset),
        Some(file) => dataset.with_classes(&read_class_names(file)?),
    }
}

/// A path as JSON can hold it: bytes that are not UTF-8 become U+FFFD.
pub fn shown(path: &std::path::Path) -> String {
    path.display().to_string()
}

pub fn print(value: &serde_json::Value) {
    say(format_args!("{value:#}"));
}

fn print_evaluation(name: &str, evaluation: &Evaluation, common: &Common) -> Result<()> {
    if common.json {
        print(&json!({ name: evaluation }));
    } else {
        say(evaluation);
    }
    Ok(())
}

pub fn zero_shot(args: ZeroShotArgs, common: &Common) -> Result<()> {
    let mut bars = Bars::new(common.json);
    let clip = load(&args.model, common, &mut bars)?;
    let test = open(&args.test, &mut bars)?;
    test.require_labels()?;
    let templates = args.templates.as_ref().map_or_else(|| Ok(Templates::single()), Templates::read)?;
    let inputs = Inputs::new(&clip).with_set("test", &test).with_prompts(test.classes(), &check::prompts(&templates, test.classes()));
    check::show(&inputs, common);
    let classifier = ZeroShotClassifier::fit(&clip, test.classes(), &templates)?;
    let logits = |pixels: &candle_core::Tensor| classifier.logits(&clip.encode_image(pixels)?);
    let outputs = embedding::images(&test, clip.preprocess(), clip.device(), embedding::BATCH, "zero-shot", |e| bars.show(e), logits)?;
    print_evaluation("zero_shot", &outputs.evaluate(&test)?, common)
}

pub fn evaluate(args: EvaluateArgs, common: &Common) -> Result<()> {
    let mut bars = Bars::new(common.json);
    let lafter = LaFTer::load(&args.weights, load(&args.model, common, &mut bars)?)?;
    let names = lafter::describe::ClassNames::new(lafter.classes())?;
    let test = open(&args.test, &mut bars)?.with_classes(&names)?;
    test.require_labels()?;
    check::show(&Inputs::new(lafter.clip()).with_set("test", &test), common);
    print_evaluation("lafter", &lafter.evaluate(&test, |event| bars.show(event))?, common)
}

pub fn predict(args: PredictArgs, common: &Common) -> Result<()> {
    let mut bars = Bars::new(common.json);
    let lafter = LaFTer::load(&args.weights, load(&args.model, common, &mut bars)?)?;
    let mut results = Vec::new();
    let mut unreadable = 0;
    for path in &args.images {
        lafter::progress::check_interrupt("predicting")?;
        let picture = match data::decode::decode_file(path) {
            Ok(picture) => picture,
            Err(error) => {
                note(format_args!("skipped: {error}"));
                unreadable += 1;
                continue;
            }
        };
        let Some(prediction) = lafter.predict(&[picture])?.pop() else { continue };
        let mut order: Vec<usize> = (0..prediction.probabilities.len()).collect();
        order.sort_by(|a, b| prediction.probabilities[*b].total_cmp(&prediction.probabilities[*a]));
        order.truncate(args.top.max(1));
        let percent = |i: &usize| 100.0 * f64::from(prediction.probabilities[*i]);
        if common.json {
            let top: Vec<_> = order.iter().map(|i| json!({ "class": lafter.classes()[*i], "percent": percent(i) })).collect();
            results.push(json!({ "image": shown(path), "class": prediction.class, "top": top }));
        } else {
            let top: Vec<String> = order.iter().map(|i| format!("{} {:.1} %", lafter.classes()[*i], percent(i))).collect();
            say(format_args!("{}: {}", path.display(), top.join(", ")));
        }
    }
    if common.json {
        print(&json!(results));
    }
    match unreadable {
        0 => Ok(()),
        n => Err(Error::Image(format!("{n} of {} pictures could not be read: see the lines above", args.images.len()))),
    }
}

pub fn embed(args: EmbedArgs, common: &Common) -> Result<()> {
    let mut bars = Bars::new(common.json);
    let clip = load(&args.model, common, &mut bars)?;
    let features = match (&args.input.images, &args.input.texts) {
        (Some(spec), _) => {
            let options = OpenOptions { split_file: args.split.split.clone(), ..OpenOptions::default() };
            let dataset = data::open_with(spec, &options, |event| bars.show(event))?;
            check::show(&Inputs::new(&clip).with_set("images", &dataset), common);
            let encode = |pixels: &candle_core::Tensor| clip.encode_image(pixels);
            let outputs = embedding::images(
                &dataset,
                clip.preprocess(),
                clip.device(),
                embedding::BATCH,
                "embedding images",
                |e| bars.show(e),
                encode,
            )?;
            if let Some((name, reason)) = outputs.skipped.first() {
                // rows are in input order, so a silent gap would shift every later row
                return Err(Error::Image(format!(
                    "{name} cannot be read ({reason}): remove it, since rows stand for images in input order"
                )));
            }
            outputs.rows
        }
        (None, Some(file)) => {
            let lines: Vec<String> = read_text(file)?.lines().map(str::to_string).collect();
            if lines.is_empty() {
                return Err(Error::Text(format!("{} holds no line: write one text per line", file.display())));
            }
            embedding::texts(&clip, &lines, None, |event| bars.show(event))?
        }
        (None, None) => return Err(Error::Usage("embed needs --images DATA or --texts FILE".into())),
    };
    let shape = features.dims().to_vec();
    if !features.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?.is_finite() {
        let model = clip.id();
        return Err(Error::Weights(format!("features of {model} are not finite: its weights are damaged: download or copy them again")));
    }
    let metadata =
        HashMap::from([("model".to_string(), clip.id().to_string()), ("weights_hash".to_string(), clip.weights_hash().to_string())]);
    save_tensors(&args.out, &[("features".to_string(), features)], metadata)?;
    if common.json {
        print(&json!({ "features": shape, "file": shown(&args.out) }));
    } else {
        say(format_args!("features {shape:?} written to {}", args.out.display()));
    }
    Ok(())
}

pub fn pretrain_demo(args: PretrainArgs, common: &Common) -> Result<()> {
    let mut bars = Bars::new(common.json);
    let mut config = lafter::pretrain::PretrainConfig { seed: common.seed, ..Default::default() };
    if let Some(steps) = args.steps {
        config.steps = steps;
    }
    let summary = lafter::pretrain::demo(&config, &args.out, |event| bars.show(event))?;
    if common.json {
        print(&json!(summary));
    } else {
        say(format_args!("{summary}\nwritten to {}", args.out.display()));
    }
    Ok(())
}
