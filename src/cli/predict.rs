//! `predict`: answers for pictures without labels.

use std::path::{Path, PathBuf};

use candle_core::Tensor;
use lafter::clip::Clip;
use lafter::describe::{Templates, read_class_names};
use lafter::embed::Keep;
use lafter::inputs::Inputs;
use lafter::predictions::{Answers, ClassFolders, How, Partial, Predicted, Predicting, PredictionRow, TableFormat, save_table};
use lafter::{Error, LaFTer, LafterConfig, Result, TextClassifier, ZeroShotClassifier};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::args::Common;
use super::bars::Bars;
use super::commands::{load, print};
use super::inputs::data;
use super::predict_args::PredictArgs;
use super::say::{note, say};
use super::{check, keep};

/// Pictures per batch: a stop loses no more than these.
const BATCH: usize = 16;

/// Who answers.
enum Classifier {
    Tuned { lafter: Box<LaFTer>, zero_shot: Option<ZeroShotClassifier> },
    Text(TextClassifier),
    ZeroShot(ZeroShotClassifier),
}

impl Classifier {
    fn answers(&self, clip: &Clip, pixels: &Tensor) -> Result<Answers> {
        match self {
            Self::Tuned { lafter, zero_shot } => {
                let zero_shot = match zero_shot {
                    Some(zero_shot) => Some(zero_shot.logits(&clip.encode_image(pixels)?)?),
                    None => None,
                };
                Ok(Answers { zero_shot, ..lafter.logits(pixels)?.into() })
            }
            Self::Text(classifier) => Ok(classifier.logits(&clip.encode_image(pixels)?)?.into()),
            Self::ZeroShot(zero_shot) => Ok(zero_shot.logits(&clip.encode_image(pixels)?)?.into()),
        }
    }

    /// What it is, for whoever goes on with its answers.
    fn fingerprint(&self, args: &PredictArgs) -> Result<String> {
        match (self, &args.weights) {
            (Self::ZeroShot(zero_shot), _) => Ok(format!("zero-shot {}", Keep::fingerprint([&zero_shot.weights])?)),
            (Self::Text(text), _) => {
                let tensors = text.head.tensors();
                Ok(format!("text {}", Keep::fingerprint(tensors.iter().map(|(_, tensor)| tensor))?))
            }
            (Self::Tuned { .. }, Some(weights)) => {
                let bytes = std::fs::read(weights).map_err(|e| Error::io(weights, e))?;
                Ok(format!("lafter {:x}", Sha256::digest(bytes)))
            }
            (Self::Tuned { .. }, None) => Ok("lafter".into()),
        }
    }
}

pub fn predict(args: PredictArgs, common: &Common) -> Result<()> {
    if !(0.0..=1.0).contains(&args.threshold) {
        return Err(Error::Usage(format!("--threshold is a probability, 0 to 1, got {}", args.threshold)));
    }
    if args.weights.is_none() && args.classes.classes.is_none() {
        return Err(Error::Usage("give --weights FILE of an earlier run, or --classes FILE with the class names".into()));
    }
    args.out.as_deref().map(TableFormat::of).transpose()?; // a wrong ending is known before anything is computed
    let mut folders =
        args.link_into.as_ref().map(|root| ClassFolders::new(root, if args.copy { How::Copy } else { How::Link })).transpose()?;
    let mut bars = Bars::new(common.json);
    let dataset = data(&args.images, &args.split, &mut bars)?;
    if let (Some(_), false) = (&folders, dataset.is_empty() || Path::new(&dataset.name(0)).exists()) {
        let name = dataset.name(0);
        return Err(Error::Usage(format!("--link-into: {name} is not a file of its own, so it cannot be linked or copied: leave it out")));
    }
    let clip = load(&args.model, common, &mut bars)?;
    let (classifier, classes) = classifier(&args, &clip, common, &mut bars)?;
    check::show(&Inputs::new(&clip).with_set("pictures", &dataset).with_prompts(&classes, &[]), common);

    let predicting =
        Predicting { threshold: args.threshold, top: args.top.max(1), batch_size: BATCH, ..Predicting::new(&dataset, &classes, &clip) };
    let decisive = deciding(&predicting, &clip, &classifier.fingerprint(&args)?, args.compare)?;
    let mut partial = Partial::open(&partial_file(&args, &decisive)?, &decisive)?;
    let mut out = Output { args: &args, json: common.json, first: true, folders: &mut folders };
    out.begin();
    let result = predicting.run(&mut partial, |event| bars.show(event), |pixels| classifier.answers(&clip, pixels), |row| out.row(row));
    let predicted = result.map_err(keep::go_on)?;
    out.end();
    if let Some(path) = &args.out {
        save_table(path, &partial)?;
    }
    finish(&args, &predicted, &classes, common);
    partial.remove();
    match (predicted.skipped.len(), dataset.len()) {
        (0, _) => Ok(()),
        (n, total) => Err(Error::Image(format!("{n} of {total} pictures could not be read: see the lines above"))),
    }
}

/// The classifier that was asked for, and its class names.
fn classifier(args: &PredictArgs, clip: &Clip, common: &Common, bars: &mut Bars) -> Result<(Classifier, Vec<String>)> {
    if let Some(weights) = &args.weights {
        let lafter = LaFTer::load(weights, clip.clone())?;
        let classes = lafter.classes().to_vec();
        let zero_shot = args.compare.then(|| ZeroShotClassifier::fit(clip, &classes, &Templates::single())).transpose()?;
        return Ok((Classifier::Tuned { lafter: Box::new(lafter), zero_shot }, classes));
    }
    let Some(file) = &args.classes.classes else {
        return Err(Error::Usage("give --weights of an earlier run, or --classes with the class names".into()));
    };
    let classes = read_class_names(file)?.names().to_vec();
    if let Some(descriptions) = &args.descriptions {
        let texts = super::run::text_set(&classes, args.templates.as_deref(), Some(descriptions))?;
        let mut lafter = LaFTer::new(clip.clone(), &classes);
        lafter.config = LafterConfig { seed: common.seed, ..LafterConfig::default() };
        lafter.fit_text_with(&texts, None, |event| bars.show(event))?;
        return Ok((Classifier::Text(lafter.text_classifier()?.clone()), classes));
    }
    let templates = args.templates.as_ref().map_or_else(|| Ok(Templates::single()), Templates::read)?;
    let zero_shot = ZeroShotClassifier::fit(clip, &classes, &templates)?;
    Ok((Classifier::ZeroShot(zero_shot), classes))
}

/// Everything that decides the rows: model, classifier, names, pictures as they are.
fn deciding(predicting: &Predicting, clip: &Clip, classifier: &str, compare: bool) -> Result<String> {
    let Predicting { dataset, classes, threshold, top, batch_size, .. } = predicting;
    let pictures = Keep::decisive(clip, dataset, classifier);
    let all = json!([pictures, classes, threshold, top, batch_size, compare]).to_string();
    Ok(format!("{:x}", Sha256::digest(all)))
}

/// Where rows are until the pass is over: next to the table, in the cache, or for this process only.
fn partial_file(args: &PredictArgs, decisive: &str) -> Result<PathBuf> {
    if let Some(out) = &args.out {
        let mut name = out.as_os_str().to_owned();
        name.push(".partial");
        return Ok(name.into());
    }
    let name = format!("rows-{}.jsonl", &decisive[..16]);
    Ok(keep::cache_folder().map_or_else(std::env::temp_dir, |folder| folder.join("partial")).join(name))
}

/// What becomes of each row.
struct Output<'a> {
    args: &'a PredictArgs,
    json: bool,
    first: bool,
    folders: &'a mut Option<ClassFolders>,
}

impl Output<'_> {
    fn prints(&self) -> bool {
        self.args.out.is_none()
    }

    fn begin(&self) {
        if self.json && self.prints() {
            say("[");
        }
    }

    fn row(&mut self, row: &PredictionRow) -> Result<()> {
        if let Some(folders) = self.folders {
            folders.add(Path::new(&row.picture), &row.class)?;
        }
        if !self.prints() {
            return Ok(());
        }
        if self.json {
            let top: Vec<_> = row.top.iter().map(|(class, p)| json!({ "class": class, "percent": 100.0 * p })).collect();
            let line = json!({ "image": row.picture, "class": row.class, "top": top });
            say(format_args!("{}{line}", if self.first { "" } else { ", " }));
        } else {
            let mut top: Vec<String> = row.top.iter().map(|(class, p)| format!("{class} {:.1} %", 100.0 * p)).collect();
            if row.class == lafter::predictions::UNKNOWN && row.probability < self.args.threshold {
                top.insert(0, row.class.clone());
            }
            let line = format!("{}: {}", row.picture, top.join(", "));
            say(line.replace(|c: char| c.is_control(), " ")); // a name may hold a line break
        }
        self.first = false;
        Ok(())
    }

    fn end(&self) {
        if self.json && self.prints() {
            say("]");
        }
    }
}

/// What was left out, and with a table how many pictures each class got.
fn finish(args: &PredictArgs, predicted: &Predicted, classes: &[String], common: &Common) {
    for (_, reason) in &predicted.skipped {
        note(format_args!("skipped: {reason}"));
    }
    let Some(out) = &args.out else { return };
    let names = classes.iter().map(String::as_str).chain([lafter::predictions::UNKNOWN]);
    let counts: Vec<(&str, usize)> = names.zip(predicted.counts.iter().copied()).filter(|(_, count)| *count > 0).collect();
    if common.json {
        let counts: serde_json::Map<String, serde_json::Value> =
            counts.iter().map(|(name, count)| (name.to_string(), json!(count))).collect();
        let skipped: Vec<_> = predicted.skipped.iter().map(|(name, reason)| json!({ "image": name, "reason": reason })).collect();
        print(&json!({ "file": out.display().to_string(), "counts": counts, "skipped": skipped }));
        return;
    }
    for (name, count) in &counts {
        say(format_args!("{count:>8}  {name}"));
    }
    let total: usize = predicted.counts.iter().sum();
    say(format_args!("{total} answers written to {}", out.display()));
}
