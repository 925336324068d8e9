//! The commands around a run: zero-shot, evaluate, predict, embed, pretrain-demo.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use lafter::clip::{Clip, ClipLoader, save_tensors};
use lafter::data::{self, Dataset, OpenOptions, Split};
use lafter::describe::{Templates, read_class_names};
use lafter::embed::{self as embedding, Keep, Kept, Pass};
use lafter::eval::Evaluation;
use lafter::files::read_text;
use lafter::inputs::Inputs;
use lafter::progress::{Event, interrupted};
use lafter::{Error, LaFTer, Result, ZeroShotClassifier};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::args::{Common, EmbedArgs, EvaluateArgs, ModelArgs, PredictArgs, PretrainArgs, TestArgs, ZeroShotArgs};
use super::bars::Bars;
use super::check;
use super::inputs::pictures;
use super::keep;
use super::say::{note, say};

/// The device that was chosen; on a GPU with TF32 if that was chosen, too.
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

/// Opens what is tested on, under the user's class names if there are any.
fn open(args: &TestArgs, bars: &mut Bars) -> Result<Dataset> {
    let dataset = data::open_with(&args.test, &args.split.options(Some(Split::Test)), |event| bars.show(event))?;
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
    let function = format!("zero-shot {} {}", Keep::fingerprint([&classifier.weights])?, classifier.scale);
    let keep = keep::in_cache(&args.keep, &Keep::decisive(&clip, &test, &function));
    let pass = Pass { keep: keep.as_ref(), ..Pass::new(&test, &clip, "zero-shot") };
    let outputs = pass.run(|event| bars.show(event), |pixels| Ok(classifier.logits(&clip.encode_image(pixels)?)?));
    print_evaluation("zero_shot", &keep::or_go_on(outputs, keep.is_some())?.evaluate(&test)?, common)?;
    keep.iter().for_each(Keep::remove);
    Ok(())
}

pub fn evaluate(args: EvaluateArgs, common: &Common) -> Result<()> {
    let mut bars = Bars::new(common.json);
    let lafter = LaFTer::load(&args.weights, load(&args.model, common, &mut bars)?)?;
    let names = lafter::describe::ClassNames::new(lafter.classes())?;
    let test = open(&args.test, &mut bars)?.with_classes(&names)?;
    test.require_labels()?;
    check::show(&Inputs::new(lafter.clip()).with_set("test", &test), common);
    let weights = std::fs::read(&args.weights).map_err(|e| Error::io(&args.weights, e))?;
    let function = format!("lafter {:x}", Sha256::digest(weights));
    let keep = keep::in_cache(&args.keep, &Keep::decisive(lafter.clip(), &test, &function));
    let pass = Pass { keep: keep.as_ref(), ..Pass::new(&test, lafter.clip(), "evaluating") };
    let outputs = pass.run(|event| bars.show(event), |pixels| lafter.logits(pixels));
    print_evaluation("lafter", &keep::or_go_on(outputs, keep.is_some())?.evaluate(&test)?, common)?;
    keep.iter().for_each(Keep::remove);
    Ok(())
}

/// What decides the probabilities of pictures: model, weights, and the files as they are.
fn deciding_predictions(lafter: &LaFTer, args: &PredictArgs) -> Result<String> {
    let weights = std::fs::read(&args.weights).map_err(|e| Error::io(&args.weights, e))?;
    let file = |path: &PathBuf| {
        let data = std::fs::metadata(path).ok();
        format!("{path:?} {:?} {:?}", data.as_ref().map(|data| data.len()), data.and_then(|data| data.modified().ok()))
    };
    let (clip, files) = (lafter.clip(), args.images.iter().map(file).collect::<Vec<_>>());
    let (device, weights) = (format!("{:?}", clip.device().location()), format!("{:x}", Sha256::digest(weights)));
    Ok(json!([clip.weights_hash(), clip.preprocess(), device, weights, files]).to_string())
}

pub fn predict(args: PredictArgs, common: &Common) -> Result<()> {
    let mut bars = Bars::new(common.json);
    let args = PredictArgs { images: pictures(&args.images, &mut bars)?, ..args };
    let lafter = LaFTer::load(&args.weights, load(&args.model, common, &mut bars)?)?;
    let keep = keep::in_cache(&args.keep, &deciding_predictions(&lafter, &args)?);
    let mut kept = Kept::open(keep.as_ref());
    check::show(&Inputs::new(lafter.clip()).with_prompts(lafter.classes(), &[]), common);
    let (known, done, total) = (kept.known()?, kept.batches, args.images.len());
    if done > 0 {
        bars.show(&Event::Notice(format!("predicting: {done} of {total} pictures were done before and are kept")));
    }
    let mut results = Vec::new();
    let mut unreadable = 0;
    for (at, path) in args.images.iter().enumerate() {
        let probabilities = match known.get(&at) {
            Some(row) => row.clone(),
            None => {
                if interrupted() {
                    let kept = kept.keeps() && kept.save(0.0).is_ok();
                    return keep::or_go_on(
                        Err(Error::Interrupted(format!("interrupted: predicting: {at} of {total} pictures are done"))),
                        kept,
                    );
                }
                let picture = match data::decode::decode_file(path) {
                    Ok(picture) => picture,
                    Err(error) => {
                        note(format_args!("skipped: {error}"));
                        unreadable += 1;
                        kept.batches = kept.batches.max(at + 1);
                        continue;
                    }
                };
                let Some(prediction) = lafter.predict(&[picture])?.pop() else { continue };
                let row = &prediction.probabilities;
                kept.rows.push(Tensor::from_slice(row, (1, row.len()), &Device::Cpu)?);
                kept.indices.push(at);
                kept.batches = kept.batches.max(at + 1);
                let _ = kept.save_if_due(0.0); // the pictures themselves need no file
                prediction.probabilities
            }
        };
        let mut order: Vec<usize> = (0..probabilities.len()).collect();
        order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a])); // stable: of equal ones the first, as `predict` has it
        order.truncate(args.top.max(1));
        let percent = |i: &usize| 100.0 * f64::from(probabilities[*i]);
        if common.json {
            let top: Vec<_> = order.iter().map(|i| json!({ "class": lafter.classes()[*i], "percent": percent(i) })).collect();
            results.push(json!({ "image": shown(path), "class": lafter.classes()[order[0]], "top": top }));
        } else {
            let top: Vec<String> = order.iter().map(|i| format!("{} {:.1} %", lafter.classes()[*i], percent(i))).collect();
            let line = format!("{}: {}", path.display(), top.join(", "));
            say(line.replace(|c: char| c.is_control(), " ")); // a name may hold a line break
        }
    }
    keep.iter().for_each(Keep::remove);
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
            let dataset = data::open_with(spec, &OpenOptions { labeled: false, ..args.split.options(None) }, |event| bars.show(event))?;
            check::show(&Inputs::new(&clip).with_set("images", &dataset), common);
            let keep = keep::next_to(&args.keep, &args.out, &Keep::decisive(&clip, &dataset, "features"));
            let pass = Pass { keep: Some(&keep), ..Pass::new(&dataset, &clip, "embedding images") };
            let outputs = pass.run(|event| bars.show(event), |pixels| clip.encode_image(pixels)).map_err(keep::go_on)?;
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
            let cache = keep::texts_next_to(&args.keep, &args.out);
            embedding::texts(&clip, &lines, Some(&cache), |event| bars.show(event)).map_err(keep::go_on)?
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
    keep::next_to(&args.keep, &args.out, "").remove();
    keep::texts_next_to(&args.keep, &args.out).remove(&clip);
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
