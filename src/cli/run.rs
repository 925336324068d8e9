//! `run` and `demo`: an experiment set up, run, printed, drawn.

use std::path::{Path, PathBuf};

use lafter::clip::ClipLoader;
use lafter::data::{self, Dataset, OpenOptions, PictureCache, Split};
use lafter::describe::{ClassNames, Descriptions, Templates, TextSet, read_class_names};
use lafter::embed::FeatureCache;
use lafter::experiment::{Experiment, Outcome};
use lafter::lafter::LafterConfig;
use lafter::nn::Precision;
use lafter::{Error, Preset, Result, gallery};

use super::args::{Common, DemoArgs, RunArgs};
use super::bars::Bars;
use super::commands::{device, load};

pub fn run(args: RunArgs, common: &Common) -> Result<()> {
    let mut bars = Bars::new(common.json);
    let clip = load(&args.model, common, &mut bars)?;
    let (train, test) = open(&args)?;
    let mut texts = TextSet::new(test.classes())?;
    texts = texts.with_templates(&args.templates.as_ref().map_or_else(|| Ok(Templates::clip_ensemble()), Templates::read)?);
    if let Some(file) = &args.descriptions {
        texts = texts.with_descriptions(&Descriptions::read(file)?)?;
    }
    let config = configure(&args, common);
    if !common.json {
        eprintln!("{clip:?}\ntrain: {train:?}\ntest:  {test:?}\ntexts: {}", texts.summary());
    }
    let cache = args.cache.clone().or_else(default_cache).map(FeatureCache::new);
    let out = Some(args.out.clone());
    let experiment = Experiment { clip, texts, train, test, config, out, resume: args.resume, cache };
    finish(&experiment, &args.out, "LaFTer on your data", common, &mut bars)
}

/// Opens both sets under one list of classes: the user's, or the test set's own.
fn open(args: &RunArgs) -> Result<(Dataset, Dataset)> {
    let options = |split| OpenOptions { split_file: args.split.clone(), progress: true, ..OpenOptions::split(split) };
    let test = data::open(&args.test, &options(Split::Test))?;
    let train = data::open(&args.train, &options(Split::Train))?;
    let names = match &args.classes.classes {
        Some(file) => read_class_names(file)?,
        None if test.classes().is_empty() => {
            let test = &args.test;
            return Err(Error::Data(format!("--test {test} has no labels: evaluation needs one folder a class, or a label column")));
        }
        None => ClassNames::new(test.classes())?,
    };
    let test = test.with_classes(&names)?;
    // labels of the training images are for analysis only, so labels that do not fit are no reason to stop
    let train = train.with_classes(&names).unwrap_or_else(|error| {
        eprintln!("note: the training images' own labels are left aside: {error}");
        train.unlabeled()
    });
    let limit = |set: Dataset, n: Option<usize>| n.map_or(set.clone(), |n| set.take(n));
    let cache = picture_cache(args)?;
    Ok((limit(train, args.limit_train).cached_in(&cache), limit(test, args.limit_test).cached_in(&cache)))
}

/// Beside the text features, for the system's temporary folder is often held in memory.
fn picture_cache(args: &RunArgs) -> Result<PictureCache> {
    if !(0.0..1e6).contains(&args.cache_gib) {
        return Err(Error::Usage(format!("--cache-gib must be 0 or more, got {}", args.cache_gib)));
    }
    let folder = args.cache.clone().or_else(default_cache).unwrap_or_else(std::env::temp_dir);
    Ok(PictureCache::new_in(folder, (args.cache_gib * f64::from(1 << 30)) as usize))
}

fn configure(args: &RunArgs, common: &Common) -> LafterConfig {
    let mut config = LafterConfig { seed: common.seed, ..LafterConfig::new(Preset::from(args.preset)) };
    let (text, image) = (&mut config.text, &mut config.image);
    text.epochs = args.text_epochs.unwrap_or(text.epochs);
    text.noise = args.noise.unwrap_or(text.noise);
    text.hidden = args.hidden.or(text.hidden);
    image.epochs = args.epochs.unwrap_or(image.epochs);
    image.batch_size = args.batch_size.unwrap_or(image.batch_size);
    image.prompts = args.prompts.unwrap_or(image.prompts);
    image.deep_prompts = args.deep_prompts;
    image.learning_rate = args.learning_rate.unwrap_or(image.learning_rate);
    image.eval_every = args.eval_every;
    image.max_unreadable = args.max_unreadable;
    image.precision = if args.bf16 { Precision::Bf16 } else { Precision::F32 };
    config
}

/// `$XDG_CACHE_HOME/lafter`, or `~/.cache/lafter`.
fn default_cache() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    Some(set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?.join("lafter"))
}

pub fn demo(args: DemoArgs, common: &Common) -> Result<()> {
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        // the demo's matrices are so small that handing work to a second thread costs more than it gives
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build_global();
        one.map_err(|e| Error::Usage(format!("the thread pool cannot be set up: {e}")))?;
    }
    let mut bars = Bars::new(common.json);
    let clip = ClipLoader::new("demo").device(&device(&common.device)?).load(|event| bars.show(event))?;
    let experiment = Experiment { out: Some(args.out.clone()), ..Experiment::demo(clip, common.seed)? };
    if !common.json {
        let Experiment { clip, train, test, texts, .. } = &experiment;
        eprintln!("{clip:?}\ntrain: {train:?}, labels never used\ntest:  {test:?}\ntexts: {}", texts.summary());
    }
    finish(&experiment, &args.out, "LaFTer in a minute", common, &mut bars)
}

fn finish(experiment: &Experiment, out: &Path, title: &str, common: &Common, bars: &mut Bars) -> Result<()> {
    let outcome: Outcome = experiment.run(|event| bars.show(event))?;
    gallery::write(experiment, &outcome, title, out)?;
    if common.json {
        println!("{}", outcome.report.to_json()?);
        return Ok(());
    }
    println!("{}", outcome.report);
    if let Some(trainable) = &outcome.report.trainable {
        println!("{} parameters learned ({:.2} % of the model)", trainable.count, 100.0 * trainable.share);
    }
    println!("report, figures and weights: {} (open index.html)", out.display());
    Ok(())
}
