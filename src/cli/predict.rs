//! `predict`: answers for pictures without labels.

use std::path::{Path, PathBuf};

use candle_core::Tensor;
use lafter::adapt::{self, Adapt, ManyViews};
use lafter::clip::Clip;
use lafter::data::Dataset;
use lafter::describe::Templates;
use lafter::embed::Keep;
use lafter::eval::unique_names;
use lafter::files::sha256_of;
use lafter::inputs::Inputs;
use lafter::predictions::{Answers, ClassFolders, How, Partial, Predicted, Predicting, PredictionRow, TableFormat, save_table};
use lafter::progress::Event;
use lafter::ranks::{Alone, Ranks};
use lafter::{Error, LaFTer, Result, TextClassifier, ZeroShotClassifier};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::args::Common;
use super::bars::Bars;
use super::commands::{load, print};
use super::inputs::data;
use super::predict_args::PredictArgs;
use super::say::{note, reader_left, say};
use super::together::{agreed, first_downloads, refused, together};
use super::{check, keep, overwrite, transduct};

/// Pictures per batch: a stop loses no more than these.
const BATCH: usize = 16;
/// Pictures per batch where a batch is what is adapted to.
const ADAPTING: usize = 64;

/// Who answers.
enum Classifier {
    Tuned {
        lafter: Box<LaFTer>,
        zero_shot: Option<ZeroShotClassifier>,
    },
    Text {
        classifier: TextClassifier,
        zero_shot: Option<ZeroShotClassifier>,
    },
    ZeroShot(ZeroShotClassifier),
    /// With a hash of the texts or weights that it starts from.
    Adapting(Box<dyn Adapt>, String),
}

impl Classifier {
    fn answers(&mut self, clip: &Clip, pixels: &Tensor) -> Result<Answers> {
        match self {
            Self::Tuned { lafter, zero_shot } => {
                let zero_shot = match zero_shot {
                    Some(zero_shot) => Some(zero_shot.logits(&clip.encode_image(pixels)?)?),
                    None => None,
                };
                Ok(Answers { zero_shot, ..lafter.logits(pixels)?.into() })
            }
            Self::Text { classifier, zero_shot } => {
                let features = clip.encode_image(pixels)?;
                let zero_shot = zero_shot.as_ref().map(|zero_shot| zero_shot.logits(&features)).transpose()?;
                Ok(Answers { zero_shot, ..classifier.logits(&features)?.into() })
            }
            Self::ZeroShot(zero_shot) => Ok(zero_shot.logits(&clip.encode_image(pixels)?)?.into()),
            Self::Adapting(adapt, _) => Ok(adapt.answer(pixels)?.into()),
        }
    }

    /// What it is, for whoever goes on with its answers.
    fn fingerprint(&self, args: &PredictArgs, common: &Common) -> Result<String> {
        match (self, &args.who.weights) {
            (Self::Adapting(adapt, texts), _) => Ok(format!("{} {texts} {}", adapt.name(), common.seed)),
            (Self::ZeroShot(zero_shot), _) => Ok(format!("zero-shot {}", Keep::fingerprint([&zero_shot.weights])?)),
            (Self::Text { classifier, .. }, _) => {
                let tensors = classifier.head.tensors();
                Ok(format!("text {}", Keep::fingerprint(tensors.iter().map(|(_, tensor)| tensor))?))
            }
            (Self::Tuned { .. }, Some(weights)) => tuned_by(weights),
            (Self::Tuned { .. }, None) => Ok("lafter".into()),
        }
    }
}

/// Names what a file of weights holds.
fn tuned_by(weights: &Path) -> Result<String> {
    Ok(format!("lafter {}", sha256_of(weights)?))
}

pub fn predict(args: PredictArgs, common: &Common) -> Result<()> {
    transduct::check_threshold(args.rows.threshold)?;
    args.who.check()?;
    if args.compare && args.who.weights.is_none() && args.who.descriptions.is_none() && args.transduct.is_none() {
        return Err(Error::Usage("--compare: zero-shot is what answers: leave it out, or give --weights or --descriptions".into()));
    }
    if let Some(out) = &args.rows.out {
        TableFormat::of(out)?; // a wrong ending is known before anything is computed
        overwrite::check(out, args.who.files().chain(args.model.files()).chain(args.images.iter().map(PathBuf::as_path)))?;
    }
    if args.images.iter().any(|path| path.as_os_str() == "-") {
        refused("predict -", "paths on standard input reach one process alone: give files or folders")?;
    }
    together(keep::AGAIN, |ranks| predict_among(&**ranks, args, common))
}

fn predict_among(ranks: &dyn Ranks, args: PredictArgs, common: &Common) -> Result<()> {
    let mut bars = Bars::of(ranks, common.json);
    let names = args.images.iter().filter_map(|path| path.to_str()).chain([&*args.model.model]);
    let (mut folders, dataset, clip) = first_downloads(ranks, names, || {
        let dataset = data(&args.images, &args.split, args.rows.out.as_deref(), args.link_into.as_deref(), &mut bars)?;
        let how = if args.copy { How::Copy } else { How::Link };
        let folders = args.link_into.as_ref().filter(|_| ranks.rank() == 0).map(|root| ClassFolders::new(root, how)).transpose()?;
        if let (Some(_), None, false) = (&folders, dataset.file(0), dataset.is_empty()) {
            let name = dataset.name(0);
            return Err(Error::Usage(format!(
                "--link-into: {name} is not a file of its own, so it cannot be linked or copied: leave it out"
            )));
        }
        Ok((folders, dataset, load(&args.model, common, &mut bars)?))
    })?;
    agreed(ranks, &clip, Some(&dataset), || args.who.content())?;
    if let Some(method) = &args.transduct {
        return transduct::pictures(ranks, method, &args, &clip, &dataset, &mut folders, common, &mut bars);
    }
    let (mut classifier, classes) = classifier(ranks, &args, &clip, common, &mut bars)?;
    transduct::check_unknown(args.rows.threshold, &classes)?;
    if bars.speaks() {
        let own = args.adapt.as_deref() == Some("watt"); // it has templates of its own
        let prompts = if own { Vec::new() } else { args.who.prompts(&classes)? };
        check::show(&Inputs::new(&clip).with_set("pictures", &dataset).with_prompts(&classes, &prompts), common);
    }

    let mut predicting =
        Predicting { threshold: args.rows.threshold, top: args.rows.top, batch_size: BATCH, ..Predicting::new(&dataset, &classes, &clip) };
    let (mut views, mut remembers) = (None, false);
    if let Classifier::Adapting(adapt, _) = &classifier {
        remembers = adapt.remembers();
        views = (adapt.views() > 1).then(|| ManyViews::new(adapt.views(), clip.preprocess(), common.seed));
        predicting.batch_size = args.adapt_batch.unwrap_or(if views.is_some() { 1 } else { ADAPTING });
    }
    predicting.views = views.as_ref();
    let among: &dyn Ranks = if remembers { &Alone } else { ranks };
    if remembers && ranks.size() > 1 {
        bars.show(&Event::Notice("an answer depends on the pictures before it: the first process answers all alone".into()));
        if !bars.speaks() {
            return Ok(());
        }
    }
    let decisive = deciding(&predicting, &clip, &classifier.fingerprint(&args, common)?, args.compare)?;
    let scratch = if bars.speaks() { None } else { Some(tempfile::tempdir().map_err(|e| Error::io(std::env::temp_dir(), e))?) };
    let mut partial = match &scratch {
        Some(scratch) => Partial::open(&scratch.path().join("rows.jsonl"), &decisive)?, // the first writes
        None => open_partial(args.rows.out.as_deref(), &decisive)?,
    };
    if remembers && partial.batches > 0 {
        // what it had learned of the pictures that are done is gone
        bars.show(&Event::Notice("an answer depends on the pictures before it: a stopped pass begins anew".into()));
        partial.remove();
        partial = open_partial(args.rows.out.as_deref(), &decisive)?;
    }
    let sorted = folders.as_mut().zip(Some(&dataset));
    let mut out = Output::new(&args.rows.out, args.rows.threshold, common, &classes, sorted).of(&bars);
    out.begin();
    let answer = |pixels: &Tensor| classifier.answers(&clip, pixels);
    let result = predicting.run_among(
        among,
        &mut partial,
        |event| bars.show(event),
        answer,
        |row| {
            if out.is_for_nobody() {
                return Err(Error::Interrupted("nobody reads the answers".into()));
            }
            out.row(row)
        },
    );
    if out.is_for_nobody() {
        partial.remove();
        return Ok(());
    }
    let predicted = result.map_err(keep::go_on)?;
    out.end();
    if !bars.speaks() {
        return Ok(()); // the first still writes
    }
    if let Some(path) = &args.rows.out {
        save_table(path, &partial)?;
    }
    finish(args.rows.out.as_deref(), &predicted, &classes, None, common);
    partial.remove();
    out.all_done(&predicted, dataset.len())
}

/// The classifier that was asked for, and its class names.
fn classifier(ranks: &dyn Ranks, args: &PredictArgs, clip: &Clip, common: &Common, bars: &mut Bars) -> Result<(Classifier, Vec<String>)> {
    let compared = |classes: &[String], templates: &Templates, bars: &mut Bars| {
        let zero_shot = || ZeroShotClassifier::fit_among(ranks, clip, classes, templates, |event| bars.show(event));
        args.compare.then(zero_shot).transpose()
    };
    if let Some(weights) = &args.who.weights {
        let lafter = LaFTer::load(weights, clip.clone())?;
        let classes = lafter.classes().to_vec();
        if let (Some(method), Some(tuned)) = (&args.adapt, lafter.tuned()) {
            return Ok((Classifier::Adapting(adapt::named_tuned(method, clip, tuned)?, tuned_by(weights)?), classes));
        }
        let zero_shot = compared(&classes, &Templates::single(), bars)?;
        return Ok((Classifier::Tuned { lafter: Box::new(lafter), zero_shot }, classes));
    }
    let classes = args.who.names(bars)?;
    if let Some(method) = &args.adapt {
        if method == "watt" && (args.who.templates.is_some() || args.who.descriptions.is_some()) {
            return Err(Error::Usage("--adapt watt has eight templates of its own: leave --templates and --descriptions out".into()));
        }
        let zero_shot = args.who.prototypes(ranks, clip, &classes, bars)?;
        let texts = Keep::fingerprint([&zero_shot.weights])?;
        return Ok((Classifier::Adapting(adapt::named(method, clip, &zero_shot, &classes)?, texts), classes));
    }
    if let Some(lafter) = args.who.trained(ranks, clip, &classes, common, bars)? {
        let zero_shot = compared(&classes, &args.who.templates()?, bars)?;
        return Ok((Classifier::Text { classifier: lafter.text_classifier()?.clone(), zero_shot }, classes));
    }
    Ok((Classifier::ZeroShot(args.who.prototypes(ranks, clip, &classes, bars)?), classes))
}

/// Everything that decides the rows: model, classifier, names, pictures as they are.
fn deciding(predicting: &Predicting, clip: &Clip, classifier: &str, compare: bool) -> Result<String> {
    let Predicting { dataset, classes, threshold, top, batch_size, .. } = predicting;
    let pictures = Keep::decisive(clip, dataset, classifier);
    let all = json!([pictures, classes, threshold, top, batch_size, compare]).to_string();
    Ok(format!("{:x}", Sha256::digest(all)))
}

/// Where rows are until the pass is over: next to the table; without one in the cache, or where that cannot be written in the system's
/// temporary folder. There a pass that another command makes at the same time has a file of its own.
fn open_partial(out: Option<&Path>, decisive: &str) -> Result<Partial> {
    if let Some(out) = out {
        let mut name = out.as_os_str().to_owned();
        name.push(".partial");
        return Partial::open(Path::new(&name), decisive);
    }
    let hash: String = decisive.chars().take(16).collect();
    let in_folder = |folder: &Path| {
        let mut number = 1;
        loop {
            let name = if number == 1 { format!("rows-{hash}.jsonl") } else { format!("rows-{hash}-{number}.jsonl") };
            match Partial::open(&folder.join(name), decisive) {
                Err(error) if error.is_usage() && number < 1000 => number += 1, // another command has it
                opened => return opened,
            }
        }
    };
    let cache = keep::cache_folder().map(|folder| in_folder(&folder.join("partial")));
    match cache {
        Some(Ok(partial)) => Ok(partial),
        _ => in_folder(&std::env::temp_dir().join("lafter-partial")),
    }
}

/// What becomes of each row.
pub struct Output<'a> {
    /// Whether rows go to standard output.
    prints: bool,
    threshold: f64,
    json: bool,
    first: bool,
    /// Where pictures are sorted to, and the pictures.
    sorted: Option<(&'a mut ClassFolders, &'a Dataset)>,
    /// Pictures that somebody took away before they could be sorted.
    gone: usize,
}

impl<'a> Output<'a> {
    /// Rows are printed if they go into no table.
    pub fn new(
        table: &Option<PathBuf>,
        threshold: f64,
        common: &Common,
        classes: &[String],
        mut sorted: Option<(&'a mut ClassFolders, &'a Dataset)>,
    ) -> Self {
        if let Some((folders, _)) = &mut sorted {
            folders.name(&unique_names(classes));
        }
        Self { prints: table.is_none(), threshold, json: common.json, first: true, sorted, gone: 0 }
    }

    /// Of a process that may share the work: one that does not speak prints and links nothing.
    pub fn of(self, bars: &Bars) -> Self {
        Self { prints: self.prints && bars.speaks(), ..self }
    }

    /// Whether rows are only printed, and nobody reads them any more.
    fn is_for_nobody(&self) -> bool {
        self.prints && self.sorted.is_none() && reader_left()
    }

    pub fn begin(&self) {
        if self.json && self.prints {
            say("[");
        }
    }

    pub fn row(&mut self, row: &PredictionRow) -> Result<()> {
        if let Some((folders, dataset)) = &mut self.sorted {
            // a name in a table is text; a file's may not be
            let file = dataset.file(row.index).unwrap_or_else(|| row.picture.clone().into());
            if let Err(error) = folders.add(&file, &row.class) {
                if file.exists() {
                    return Err(error);
                }
                note(format_args!("not sorted: {} is gone", row.picture));
                self.gone += 1;
            }
        }
        if !self.prints {
            return Ok(());
        }
        if self.json {
            let top: Vec<_> = row.top.iter().map(|(class, p)| json!({ "class": class, "percent": 100.0 * p })).collect();
            let line = json!({ "image": row.picture, "class": row.class, "top": top });
            say(format_args!("{}{line}", if self.first { "" } else { ", " }));
        } else {
            let mut top: Vec<String> = row.top.iter().map(|(class, p)| format!("{class} {:.1} %", 100.0 * p)).collect();
            if row.class == lafter::predictions::UNKNOWN && row.probability < self.threshold {
                top.insert(0, row.class.clone());
            }
            let line = format!("{}: {}", row.picture, top.join(", "));
            say(line.replace(|c: char| c.is_control(), " ")); // a name may hold a line break
        }
        self.first = false;
        Ok(())
    }

    /// Pictures left out end the command with status 1, after everything else is done.
    pub fn all_done(&self, predicted: &Predicted, total: usize) -> Result<()> {
        let what = match (predicted.skipped.len(), self.gone) {
            (0, 0) => return Ok(()),
            (0, gone) => format!("{gone} of {total} pictures were gone before they were sorted"),
            (unread, 0) => format!("{unread} of {total} pictures could not be read"),
            (unread, gone) => format!("{unread} of {total} pictures could not be read, {gone} were gone before they were sorted"),
        };
        Err(Error::Image(format!("{what}: see the lines above")))
    }

    pub fn end(&self) {
        if self.json && self.prints {
            say("]");
        }
        if let Some((folders, _)) = self.sorted.as_ref().filter(|(folders, _)| folders.elsewhere() > 0) {
            let (count, root) = (folders.elsewhere(), folders.root().display());
            note(format_args!(
                "note: {count} of the pictures lie in the folder of another class in {root}, too, as an earlier run answered: remove \
                 {root} and repeat the command, or choose another --link-into, to have each once"
            ));
        }
    }
}

/// What was left out, and with a table how many pictures each class got.
pub fn finish(out: Option<&Path>, predicted: &Predicted, classes: &[String], transductive: Option<&str>, common: &Common) {
    for (_, reason) in &predicted.skipped {
        note(format_args!("skipped: {reason}"));
    }
    if let (Some(method), false) = (transductive, common.json) {
        note(format_args!("transductive answers ({method}): each depends on the other pictures"));
    }
    let Some(out) = out else { return };
    let names = unique_names(classes);
    let names = names.iter().map(String::as_str).chain([lafter::predictions::UNKNOWN]);
    let counts: Vec<(&str, usize)> = names.zip(predicted.counts.iter().copied()).filter(|(_, count)| *count > 0).collect();
    if common.json {
        let counts: serde_json::Map<String, serde_json::Value> =
            counts.iter().map(|(name, count)| (name.to_string(), json!(count))).collect();
        let skipped: Vec<_> = predicted.skipped.iter().map(|(name, reason)| json!({ "image": name, "reason": reason })).collect();
        let mut result = json!({ "file": out.display().to_string(), "counts": counts, "skipped": skipped });
        if let Some(method) = transductive {
            result["transductive"] = json!(method);
        }
        print(&result);
        return;
    }
    for (name, count) in &counts {
        say(format_args!("{count:>8}  {name}"));
    }
    let total: usize = predicted.counts.iter().sum();
    say(format_args!("{total} answers written to {}", out.display()));
}
