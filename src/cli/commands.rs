//! The commands around a run: zero-shot, evaluate, embed, pretrain-demo.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use lafter::clip::{Clip, ClipLoader, save_tensors};
use lafter::data::{self, Dataset, OpenOptions, Split};
use lafter::describe::{Templates, read_class_names};
use lafter::embed::{self as embedding, Keep, Pass};
use lafter::eval::Evaluation;
use lafter::files::{read_text, sha256_of};
use lafter::inputs::Inputs;
use lafter::ranks::{Alone, Ranks};
use lafter::tune::Bank;
use lafter::{Error, LaFTer, Result, ZeroShotClassifier};
use serde_json::json;

use super::answers::names_of;
use super::args::{Common, EmbedArgs, EvaluateArgs, ModelArgs, PretrainArgs, ZeroShotArgs};
use super::bars::Bars;
use super::check;
use super::data_args::TestArgs;
use super::keep;
use super::overwrite;
use super::say::say;
use super::together::{agreed, first_downloads, together};

/// The device that was chosen; on a GPU with TF32 if that was chosen, too.
pub fn device(common: &Common) -> Result<Device> {
    candle_core::cuda::set_gemm_reduced_precision_f32(common.tf32);
    lafter::device::open(&lafter::ranks::device_of(&common.device))
}

pub fn load(model: &ModelArgs, common: &Common, bars: &mut Bars) -> Result<Clip> {
    let mut loader = ClipLoader::new(&model.model).device(&device(common)?);
    if let Some(revision) = &model.revision {
        loader = loader.revision(revision);
    }
    loader.load(|event| bars.show(event)).map_err(|error| match error {
        Error::Usage(text) if text.starts_with(&model.model) => Error::Usage(format!("--model {text}")),
        other => other,
    })
}

/// Opens what is tested on, under the user's class names if there are any.
fn open(args: &TestArgs, bars: &mut Bars) -> Result<Dataset> {
    let dataset = data::open_with(&args.test, &args.split.options(Some(Split::Test)), |event| bars.show(event))?;
    args.split.check([&dataset])?;
    match &args.classes.classes {
        None => Ok(dataset),
        Some(file) => dataset.with_classes(&read_class_names(file)?),
    }
}

/// A path as JSON can hold it: bytes that are not UTF-8 become U+FFFD.
pub fn shown(path: &std::path::Path) -> String {
    path.display().to_string()
}

/// Refuses a name that says another kind of file than is written.
pub fn ends_in(out: &Path, ending: &str, kind: &str) -> Result<()> {
    match out.extension().is_some_and(|own| own.eq_ignore_ascii_case(ending)) {
        true => Ok(()),
        false => Err(Error::Usage(format!("{}: the file is {kind} file: end its name in .{ending}", out.display()))),
    }
}

/// The same for safetensors.
pub fn safetensors(out: &Path) -> Result<()> {
    ends_in(out, "safetensors", "a safetensors")
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
    together(keep::AGAIN, |ranks| zero_shot_among(&**ranks, args, common))
}

fn zero_shot_among(ranks: &dyn Ranks, args: ZeroShotArgs, common: &Common) -> Result<()> {
    let mut bars = Bars::of(ranks, common.json);
    let (clip, test) = first_downloads(ranks, [&*args.model.model, &*args.test.test], || {
        Ok((load(&args.model, common, &mut bars)?, open(&args.test, &mut bars)?))
    })?;
    test.require_labels()?;
    let templates = args.templates.as_ref().map_or_else(|| Ok(Templates::single()), Templates::read)?;
    let inputs = Inputs::new(&clip).with_set("test", &test).with_prompts(test.classes(), &check::prompts(&templates, test.classes()));
    if bars.speaks() {
        check::show(&inputs, common);
    }
    agreed(ranks, &clip, Some(&test), || Ok(format!("{:?} {templates:?}", test.classes())))?;
    let classifier = ZeroShotClassifier::fit_among(ranks, &clip, test.classes(), &templates, |event| bars.show(event))?;
    let function = format!("zero-shot {} {}", Keep::fingerprint([&classifier.weights])?, classifier.scale);
    let keep = keep::in_cache(&args.keep, &Keep::decisive(&clip, &test, &function));
    let pass = Pass { keep: keep.as_ref(), ..Pass::new(&test, &clip, "zero-shot") };
    let outputs = pass.run_among(ranks, |event| bars.show(event), |pixels| Ok(classifier.logits(&clip.encode_image(pixels)?)?));
    let evaluation = keep::or_go_on(outputs, keep.is_some())?.evaluate(&test)?;
    if bars.speaks() {
        print_evaluation("zero_shot", &evaluation, common)?;
    }
    keep.iter().for_each(Keep::remove);
    Ok(())
}

pub fn evaluate(args: EvaluateArgs, common: &Common) -> Result<()> {
    together(keep::AGAIN, |ranks| evaluate_among(&**ranks, args, common))
}

fn evaluate_among(ranks: &dyn Ranks, args: EvaluateArgs, common: &Common) -> Result<()> {
    let mut bars = Bars::of(ranks, common.json);
    let (lafter, test) = first_downloads(ranks, [&*args.model.model, &*args.test.test], || {
        let lafter = LaFTer::load(&args.weights, load(&args.model, common, &mut bars)?)?;
        let names = lafter::describe::ClassNames::new(lafter.classes())?;
        Ok((lafter, open(&args.test, &mut bars)?.with_classes(&names)?))
    })?;
    test.require_labels()?;
    if bars.speaks() {
        check::show(&Inputs::new(lafter.clip()).with_set("test", &test), common);
    }
    let function = format!("lafter {}", sha256_of(&args.weights)?);
    agreed(ranks, lafter.clip(), Some(&test), || Ok(function.clone()))?;
    let keep = keep::in_cache(&args.keep, &Keep::decisive(lafter.clip(), &test, &function));
    let pass = Pass { keep: keep.as_ref(), ..Pass::new(&test, lafter.clip(), "evaluating") };
    let outputs = pass.run_among(ranks, |event| bars.show(event), |pixels| lafter.logits(pixels));
    let evaluation = keep::or_go_on(outputs, keep.is_some())?.evaluate(&test)?;
    if bars.speaks() {
        print_evaluation("lafter", &evaluation, common)?;
    }
    keep.iter().for_each(Keep::remove);
    Ok(())
}

pub fn embed(args: EmbedArgs, common: &Common) -> Result<()> {
    let files = [&args.input.texts, &args.classes, &args.templates].into_iter().flatten().map(PathBuf::as_path);
    overwrite::check(&args.out, files.chain(args.input.images.as_deref().map(Path::new)).chain(args.model.files()))?;
    safetensors(&args.out)?;
    together(keep::AGAIN, |ranks| embed_among(&**ranks, args, common))
}

fn embed_among(ranks: &dyn Ranks, args: EmbedArgs, common: &Common) -> Result<()> {
    let mut bars = Bars::of(ranks, common.json);
    let classes = args.classes.as_ref().map(|file| names_of(file, &mut bars)).transpose()?;
    let templates = args.templates.as_ref().map_or_else(|| Ok(Templates::single()), Templates::read)?;
    let spec = args.input.images.as_deref();
    let (clip, dataset) = first_downloads(ranks, spec.into_iter().chain([&*args.model.model]), || {
        let options = OpenOptions { labeled: false, ..args.split.options(None) };
        let clip = load(&args.model, common, &mut bars)?;
        let dataset = spec.map(|spec| data::open_with(spec, &options, |event| bars.show(event))).transpose()?;
        args.split.check(&dataset)?;
        Ok((clip, dataset))
    })?;
    let mut names = None;
    let features = match (dataset, &args.input.texts) {
        (Some(dataset), _) => {
            if bars.speaks() {
                check::show(&Inputs::new(&clip).with_set("images", &dataset), common);
            }
            agreed(ranks, &clip, Some(&dataset), || Ok(String::new()))?;
            let keep = keep::next_to(&args.keep, &args.out, &Keep::decisive(&clip, &dataset, "features"));
            let pass = Pass { keep: Some(&keep), ..Pass::new(&dataset, &clip, "embedding images") };
            let outputs = pass.run_among(ranks, |event| bars.show(event), |pixels| clip.encode_image(pixels)).map_err(keep::go_on)?;
            if let Some((name, reason)) = outputs.skipped.first() {
                // rows are in input order, so a silent gap would shift every later row
                return Err(Error::Image(format!(
                    "{name} cannot be read ({reason}): remove it, since rows stand for images in input order"
                )));
            }
            names = Some((0..dataset.len()).map(|index| dataset.name(index)).collect::<Vec<_>>());
            outputs.rows
        }
        (None, Some(file)) => {
            let lines: Vec<String> = read_text(file)?.lines().map(str::to_string).collect();
            if lines.is_empty() {
                return Err(Error::Text(format!("{} holds no line: write one text per line", file.display())));
            }
            agreed(ranks, &clip, None, || sha256_of(file))?;
            let cache = keep::texts_next_to(&args.keep, &args.out);
            embedding::texts_among(ranks, &clip, &lines, Some(&cache), |event| bars.show(event)).map_err(keep::go_on)?
        }
        (None, None) => return Err(Error::Usage("embed needs --images DATA or --texts FILE".into())),
    };
    let shape = features.dims().to_vec();
    if !features.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?.is_finite() {
        let model = clip.id();
        return Err(Error::Weights(format!("features of {model} are not finite: its weights are damaged: download or copy them again")));
    }
    if !bars.speaks() {
        return Ok(()); // the first writes
    }
    let metadata = HashMap::from([
        ("model".to_string(), clip.id().to_string()),
        ("weights_hash".to_string(), clip.weights_hash().to_string()),
        ("logit_scale".to_string(), clip.logit_scale().to_string()),
    ]);
    let mut tensors = vec![("features".to_string(), features)];
    if let Some(classes) = &classes {
        let classifier = ZeroShotClassifier::fit_among(&Alone, &clip, classes, &templates, |event| bars.show(event))?;
        let logits = classifier.logits(&tensors[0].1.to_device(clip.device())?)?;
        tensors.push(("logits".into(), logits));
    }
    match names {
        Some(names) => Bank::save(&args.out, &names, classes.as_deref(), &tensors, metadata)?,
        None => save_tensors(&args.out, &tensors, metadata)?,
    }
    keep::next_to(&args.keep, &args.out, "").remove();
    keep::texts_next_to(&args.keep, &args.out).remove(&clip);
    if common.json {
        print(&json!({ "features": shape, "file": shown(&args.out) }));
    } else {
        let also = classes.map_or(String::new(), |classes| format!(" and zero-shot logits of {} classes", classes.len()));
        say(format_args!("features {shape:?}{also} written to {}", args.out.display()));
    }
    Ok(())
}

pub fn pretrain_demo(args: PretrainArgs, common: &Common) -> Result<()> {
    if common.device != "cpu" {
        return Err(Error::Usage(format!("--device {}: pre-training runs on the CPU alone: leave --device out", common.device)));
    }
    overwrite::new_or_empty(&args.out)?;
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
