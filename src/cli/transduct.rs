//! `transduct`, and `predict --transduct`: answers for many pictures together, without training.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{Device, Tensor};
use clap::Args;
use clap::builder::PossibleValuesParser;
use lafter::clip::{Clip, read_tensors, save_tensors};
use lafter::data::Dataset;
use lafter::embed::{Keep, Pass};
use lafter::error::cut;
use lafter::eval::unique_names;
use lafter::inputs::Inputs;
use lafter::predictions::{Answers, ClassFolders, Partial, Predicted, PredictionRow, Rows, TableFormat, UNKNOWN, save_table};
use lafter::ranks::Ranks;
use lafter::transduct::{Features, Transduct, directions};
use lafter::{Error, Result, ZeroShotClassifier};

use super::answers::{RowArgs, names_of};
use super::args::Common;
use super::bars::Bars;
use super::commands::safetensors;
use super::predict::{Output, finish};
use super::predict_args::PredictArgs;
use super::say::note;
use super::{check, keep, overwrite};

pub const EXAMPLES: &str = "\
Answers from features that `lafter embed` made: no tower runs, nothing is trained. They are transductive: each depends
on the other pictures. Where classes are absent, stata loses less than transclip and zlap, and these two say so if texts name
too few; neighbors is the plainest.

The texts are one line a class in the order of --classes, or as many lines a class for each, class after class.

Examples:
  lafter embed --model M --images photos/ --out images.safetensors
  # a line a class: \"a photo of an owl\"
  lafter embed --model M --texts prompts.txt --out texts.safetensors
  lafter transduct --features images.safetensors --texts texts.safetensors \\
    --classes names.txt --out predictions.csv
  # a teacher for a run
  lafter transduct --features images.safetensors --texts texts.safetensors \\
    --classes names.txt --method transclip --answers answers.safetensors";

#[derive(Args)]
pub struct TransductArgs {
    /// Features of the pictures: the safetensors file of `lafter embed --images`, tensor `features` [n, d]
    #[arg(long, value_name = "FILE")]
    pub features: PathBuf,
    /// Features of the texts, of the same CLIP: the file of `lafter embed --texts`
    #[arg(long, value_name = "FILE")]
    pub texts: PathBuf,
    /// Class names, one per line, in the order of the texts [default: the numbers of the texts]
    #[arg(long, value_name = "FILE")]
    pub classes: Option<PathBuf>,
    /// How to answer: stata (loses less than the next two where classes are absent), transclip, zlap, neighbors
    #[arg(long, value_name = "METHOD", default_value = "stata", value_parser = PossibleValuesParser::new(Transduct::NAMES))]
    pub method: String,
    /// What cosines are multiplied with before the softmax [default: the CLIP's logit scale as --features has it, else 100]
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub scale: Option<f64>,
    #[command(flatten)]
    pub rows: RowArgs,
    /// The answers as a safetensors file that a run can take as its teacher: tensor `probabilities` [n, C], and in the metadata the
    /// pictures (`names`) and `classes` as JSON lists
    #[arg(long, value_name = "FILE", requires = "classes")]
    pub answers: Option<PathBuf>,
}

/// From files of features.
pub fn transduct(args: TransductArgs, common: &Common) -> Result<()> {
    check_threshold(args.rows.threshold)?;
    if let Some(scale) = args.scale.filter(|scale| !is_scale(scale)) {
        return Err(Error::Usage(format!("--scale is a number above 0 and up to 1e6, got {scale:?}")));
    }
    if common.device != "cpu" || common.tf32 {
        return Err(Error::Usage("transduct computes on the CPU: leave --device and --tf32 out".into()));
    }
    args.rows.out.as_deref().map(TableFormat::of).transpose()?;
    let files = || [&args.features, &args.texts].into_iter().chain(&args.classes).map(PathBuf::as_path);
    for written in [&args.rows.out, &args.answers].into_iter().flatten() {
        overwrite::check(written, files())?;
    }
    overwrite::differ(&args.rows.out, &args.answers)?;
    args.answers.as_deref().map_or(Ok(()), safetensors)?;
    let mut bars = Bars::new(common.json);
    let (images, about) = read(&args.features)?;
    let (texts, of_texts) = read(&args.texts)?;
    check_not_swapped(&args, &about, &of_texts)?;
    let model = |about: &HashMap<String, String>| about.get("weights_hash").cloned();
    if let (Some(a), Some(b)) = (model(&about), model(&of_texts))
        && a != b
    {
        let (a, b) = (args.features.display(), args.texts.display());
        return Err(Error::Usage(format!("{a} and {b} were made by two models: embed pictures and texts with one")));
    }
    let names = match &args.classes {
        Some(file) => names_of(file, &mut bars)?,
        None => (0..texts.dim(0)?).map(|class| class.to_string()).collect(),
    };
    check_unknown(args.rows.threshold, &names)?;
    let (lines, classes) = (texts.dim(0)?, names.len());
    if lines > classes && classes > 0 && lines.is_multiple_of(classes) {
        let each = lines / classes;
        bars.show(&lafter::progress::Event::Notice(format!(
            "{lines} texts for {classes} {}: {each} for each, the first {each} are those of {}",
            if classes == 1 { "class" } else { "classes" },
            names[0]
        )));
    }
    let scale = match (args.scale, about.get("logit_scale")) {
        (Some(scale), _) => scale,
        (None, None) => 100.0,
        (None, Some(text)) => text.parse().ok().filter(is_scale).ok_or_else(|| {
            let (file, text) = (args.features.display(), text.chars().take(40).collect::<String>());
            Error::Data(format!(
                "{file}: logit_scale in its metadata is \"{text}\", no number above 0 and up to 1e6: give --scale, or embed again"
            ))
        })?,
    };
    let features = Features::new(&images, &prototypes_of(&texts, names.len(), &args.texts)?, scale)?;
    let pictures = picture_names(&about, features.pictures(), &args.features)?;
    if args.answers.is_some() {
        check_names(&about, &pictures, &args.features)?;
    }
    let mut out = Output::new(&args.rows.out, args.rows.threshold, common, &names, None);
    let form = Rows { classes: &names, threshold: args.rows.threshold, top: args.rows.top };
    let wanted = Wanted { method: &args.method, table: args.rows.out.as_deref(), answers: args.answers.as_deref() };
    let indices: Vec<usize> = (0..features.pictures()).collect();
    wanted.answer(&features, &indices, &|index| pictures[index].clone(), Vec::new(), form, &mut out, common, &mut bars)?;
    Ok(())
}

/// From pictures, whose features are made first, by all processes; the first answers.
#[allow(clippy::too_many_arguments)]
pub fn pictures(
    ranks: &dyn Ranks,
    method: &str,
    args: &PredictArgs,
    clip: &Clip,
    dataset: &Dataset,
    folders: &mut Option<ClassFolders>,
    common: &Common,
    bars: &mut Bars,
) -> Result<()> {
    let names = args.who.names(bars)?;
    check_unknown(args.rows.threshold, &names)?;
    if names.len() < 2 {
        return Err(Error::Usage("--transduct needs at least two classes: give --classes all that pictures may show".into()));
    }
    let ZeroShotClassifier { weights, scale } = args.who.prototypes(ranks, clip, &names, bars)?;
    if bars.speaks() {
        check::show(&Inputs::new(clip).with_set("pictures", dataset).with_prompts(&names, &args.who.prompts(&names)?), common);
    }
    let keep = keep::in_cache(&args.keep, &Keep::decisive(clip, dataset, "features"));
    let pass = Pass { keep: keep.as_ref(), max_unreadable: 1.0, ..Pass::new(dataset, clip, "embedding pictures") };
    let encoded = pass.run_among(ranks, |event| bars.show(event), |pixels| clip.encode_image(pixels));
    let encoded = keep::or_go_on(encoded, keep.is_some())?;
    if !bars.speaks() {
        return Ok(());
    }
    let features = Features::new(&encoded.rows, &weights.to_device(&Device::Cpu)?, scale)?;
    let form = Rows { classes: &names, threshold: args.rows.threshold, top: args.rows.top };
    let mut out = Output::new(&args.rows.out, args.rows.threshold, common, &names, folders.as_mut().zip(Some(dataset)));
    let wanted = Wanted { method, table: args.rows.out.as_deref(), answers: None };
    let name = |index: usize| dataset.name(index);
    let predicted = wanted.answer(&features, &encoded.indices, &name, encoded.skipped, form, &mut out, common, bars)?;
    keep.iter().for_each(Keep::remove);
    out.all_done(&predicted, dataset.len())
}

/// Logits of a larger scale leave what f32 can tell apart.
fn is_scale(scale: &f64) -> bool {
    *scale > 0.0 && *scale <= 1e6
}

pub fn check_threshold(threshold: f64) -> Result<()> {
    match (0.0..=1.0).contains(&threshold) {
        true => Ok(()),
        false => Err(Error::Usage(format!("--threshold is a probability, 0 to 1, got {threshold}"))),
    }
}

/// A class called as unsure pictures are could not be told from them.
pub fn check_unknown(threshold: f64, classes: &[String]) -> Result<()> {
    match threshold > 0.0 && unique_names(classes).iter().any(|name| name == UNKNOWN) {
        true => Err(Error::Usage(format!(
            "--threshold calls unsure pictures \"{UNKNOWN}\", and a class is called so: leave it out, or call the class something else"
        ))),
        false => Ok(()),
    }
}

/// What is to be made of the answers.
struct Wanted<'a> {
    method: &'a str,
    table: Option<&'a Path>,
    answers: Option<&'a Path>,
}

impl Wanted<'_> {
    #[allow(clippy::too_many_arguments)]
    fn answer(
        &self,
        features: &Features,
        indices: &[usize],
        name: &dyn Fn(usize) -> String,
        skipped: Vec<(String, String)>,
        form: Rows,
        out: &mut Output,
        common: &Common,
        bars: &mut Bars,
    ) -> Result<Predicted> {
        let started = Instant::now();
        let probabilities = Transduct::named(self.method)?.probabilities(features, |event| bars.show(event))?;
        let logits = probabilities.maximum(f64::from(f32::MIN_POSITIVE))?.log()?;
        let answers = Answers { zero_shot: Some(features.text_logits()?), ..logits.into() };
        let rows = form.of(indices, name, &answers)?;
        let predicted = Predicted::of(&rows, form.classes, skipped, started.elapsed().as_secs_f64());
        out.begin();
        rows.iter().try_for_each(|row| out.row(row))?;
        out.end();
        if let Some(path) = self.table {
            table(path, &rows)?;
        }
        if let Some(path) = self.answers {
            save_answers(path, &probabilities, &rows, form.classes)?;
            if !common.json {
                note(format_args!("answers for training: {}", path.display()));
            }
        }
        finish(self.table, &predicted, form.classes, Some(self.method), common);
        Ok(predicted)
    }
}

/// Writes all rows as a table. They were made at once and are never gone on with, so they are in no file that another pass may have.
fn table(path: &Path, rows: &[PredictionRow]) -> Result<()> {
    let scratch = tempfile::tempdir().map_err(|e| Error::io(std::env::temp_dir(), e))?;
    let mut partial = Partial::open(&scratch.path().join("rows.jsonl"), "transduct")?;
    for rows in rows.chunks(10_000) {
        partial.add(rows, Vec::new())?;
    }
    save_table(path, &partial)
}

/// Stored answers, as a teacher reads them.
fn save_answers(path: &Path, probabilities: &Tensor, rows: &[PredictionRow], classes: &[String]) -> Result<()> {
    let names: Vec<&str> = rows.iter().map(|row| row.picture.as_str()).collect();
    let metadata = HashMap::from([
        ("names".to_string(), serde_json::json!(names).to_string()),
        ("classes".to_string(), serde_json::json!(classes).to_string()),
    ]);
    save_tensors(path, &[("probabilities".to_string(), probabilities.clone())], metadata)
}

/// The tensor `features`, and what the file says of itself.
fn read(path: &Path) -> Result<(Tensor, HashMap<String, String>)> {
    let (mut tensors, about) = read_tensors(path, &Device::Cpu)?;
    match tensors.remove("features") {
        Some(features) if features.rank() == 2 => Ok((features, about)),
        Some(features) => {
            Err(Error::Data(format!("{}: features {:?}, expected [n, d]: make it with `lafter embed`", path.display(), features.dims())))
        }
        None => Err(Error::Data(format!("{}: holds no tensor `features`: make it with `lafter embed`", path.display()))),
    }
}

/// `lafter embed` notes names with features of pictures only.
fn check_not_swapped(args: &TransductArgs, about: &HashMap<String, String>, of_texts: &HashMap<String, String>) -> Result<()> {
    let remedy = "--features takes what `lafter embed --images` wrote, --texts what `lafter embed --texts` wrote";
    if of_texts.contains_key("names") {
        return Err(Error::Usage(format!("--texts {} holds features of pictures: {remedy}", args.texts.display())));
    }
    if about.contains_key("weights_hash") && !about.contains_key("names") {
        return Err(Error::Usage(format!("--features {} holds features of texts: {remedy}", args.features.display())));
    }
    Ok(())
}

/// One row a class: of several lines a class their unit mean.
fn prototypes_of(texts: &Tensor, classes: usize, path: &Path) -> Result<Tensor> {
    let lines = texts.dim(0)?;
    if classes == 0 || !lines.is_multiple_of(classes) {
        let path = path.display();
        return Err(Error::Usage(format!("{path}: {lines} texts for {classes} classes: give each class one line, or equally many")));
    }
    let labels: Vec<usize> = (0..lines).map(|line| line / (lines / classes)).collect();
    let texts = directions(texts, |line| format!("line {} of {}", line + 1, path.display()))?;
    Ok(ZeroShotClassifier::from_features(&texts, &labels, 1.0)?.weights)
}

/// The pictures' names, if the file knows them.
fn picture_names(about: &HashMap<String, String>, n: usize, path: &Path) -> Result<Vec<String>> {
    let Some(json) = about.get("names") else { return Ok((0..n).map(|row| format!("row {row}")).collect()) };
    match serde_json::from_str::<Vec<String>>(json) {
        Ok(names) if names.len() == n => Ok(names),
        Ok(names) => Err(Error::Data(format!("{}: {} names for {n} features: embed the pictures again", path.display(), names.len()))),
        Err(e) => Err(Error::Data(format!("{}: names: {e}: embed the pictures again", path.display()))),
    }
}

/// What a run asks of its teacher's file: a name of its own for each picture.
fn check_names(about: &HashMap<String, String>, names: &[String], path: &Path) -> Result<()> {
    let path = path.display();
    if !about.contains_key("names") {
        return Err(Error::Data(format!("{path}: does not name its pictures, as --answers must: make it with `lafter embed --images`")));
    }
    let mut seen = HashSet::new();
    match names.iter().find(|name| !seen.insert(*name)) {
        Some(twice) => Err(Error::Data(format!("{path}: two pictures are called {}, and --answers needs names of their own", cut(twice)))),
        None => Ok(()),
    }
}
