//! `run` and `demo`: an experiment set up, run, printed, drawn.

use std::path::Path;
use std::time::Duration;

use lafter::clip::ClipLoader;
use lafter::data::{self, Dataset, PictureCache, Split, scenes};
use lafter::describe::{ClassNames, Descriptions, Templates, TextSet, read_class_names};
use lafter::embed::FeatureCache;
use lafter::eval::Select;
use lafter::experiment::{DEMO_PICTURES, Experiment, Outcome};
use lafter::export::{Card, CardOutcome, license_of};
use lafter::progress::{Event, in_words};
use lafter::{Error, Result, gallery};

use super::args::{Common, DemoArgs, RunArgs, SetupArgs};
use super::bars::Bars;
use super::check::{self, with_classes_or_unlabeled};
use super::commands::{device, load};
use super::data_args::DataArgs;
use super::keep::cache_folder;
use super::say::{note, said, say};
use super::settings;
use super::together::{first_downloads, together};

/// Bytes of encoded pictures that stay in memory where memory is short.
const PAGES: usize = 64 << 20;

/// What to do after a run whose processes could not all end.
const AGAIN: &str = "repeat the command with --resume to go on from the last checkpoint";

pub fn run(mut args: RunArgs, common: &Common) -> Result<()> {
    args.setup.data.split.memory_limit = args.memory_gib.map(|_| PAGES);
    together(AGAIN, |ranks| {
        let mut bars = Bars::of(&**ranks, common.json);
        let names = [Some(&args.setup.model.model), args.setup.data.train.as_ref(), args.setup.data.test.as_ref()];
        let names = names.into_iter().flatten().map(String::as_str);
        let mut experiment = Experiment {
            out: Some(args.out.clone()),
            resume: args.resume,
            checkpoint_every: Duration::from_secs(args.checkpoint_every),
            table: args.table.into(),
            select: args.select.map_or_else(|| default_select(&args.setup), Into::into),
            ranks: ranks.clone(),
            ..first_downloads(&**ranks, names, || set_up(&args.setup, common, &mut bars))?
        };
        if let Some(gib) = args.memory_gib {
            if experiment.config.tune.micro_batch.is_some() {
                return Err(Error::Usage("--memory-gib and --set tune.micro_batch are the same choice: leave one out".into()));
            }
            let pictures = experiment.train.len();
            bars.show(&Event::Notice(experiment.config.tune.fit_memory(&experiment.clip, pictures, gib, ranks.size())?));
        }
        finish(&experiment, &args.out, "LaFTer on your data", common, &mut bars)
    })
}

/// The published presets end with the last epoch. Without labels nobody sees whether that helped, so the signals choose.
fn default_select(args: &SetupArgs) -> Select {
    let labeled = args.data.test.is_some() || args.data.train.is_none();
    if labeled { Select::Last } else { Select::Signals }
}

/// The experiment that the options describe, on the user's data or on the demo's.
pub fn set_up(args: &SetupArgs, common: &Common, bars: &mut Bars) -> Result<Experiment> {
    let changes = settings::changes(args)?; // what is wrong with them is said before a model is loaded
    let clip = load(&args.model, common, bars)?;
    let mut experiment = match (&args.data.train, &args.data.test) {
        (Some(train), test) => {
            let (train, test, names) = open(args, train, test.as_deref(), bars)?;
            let texts = TextSet::new(names.names())?.with_templates(&Templates::clip_ensemble());
            let mut experiment = Experiment::new(clip, texts, train, test);
            experiment.config.seed = common.seed;
            experiment
        }
        (None, None) if args.model.model == "demo" => {
            args.data.refuse_own()?;
            let (train, test) = scenes::demo_sets(DEMO_PICTURES); // without the cache that `demo` gives them: theirs is below
            Experiment { train, test: Some(test), ..Experiment::demo(clip, common.seed)? }
        }
        _ => return Err(Error::Usage("there are no images to tune on: give --train DATA (or --model demo)".into())),
    };
    let cache = picture_cache(args)?;
    // labels say which test images stand for all; training images are chosen without them
    let train = args.limit_train.map_or(experiment.train.clone(), |n| experiment.train.spread(n));
    let test = experiment.test.map(|test| args.limit_test.map_or(test.clone(), |n| test.sample(n)));
    (experiment.train, experiment.test) = (train.cached_in(&cache), test.map(|test| test.cached_in(&cache)));
    if args.data.templates.is_some() || args.data.descriptions.is_some() {
        experiment.texts = texts(&args.data, experiment.texts.classes())?;
    }
    changes.apply(&mut experiment.config)?;
    if let Some(notice) = cache_is_small(&experiment, args.cache_gib) {
        bars.show(&Event::Notice(notice));
    }
    if cfg!(debug_assertions) && args.data.train.is_some() {
        let slow = "this program was built without --release: `cargo install --locked --path .` makes a faster one";
        bars.show(&Event::Notice(slow.into()));
    }
    experiment.cache = args.cache.clone().or_else(cache_folder).map(FeatureCache::new);
    if bars.speaks() {
        check::show(&experiment.inputs(), common);
    }
    Ok(experiment)
}

/// The texts of the classes: the user's templates or the general ones, and descriptions if there are some.
pub fn texts(data: &DataArgs, classes: &[String]) -> Result<TextSet> {
    text_set(classes, data.templates.as_deref(), data.descriptions.as_deref())
}

/// The texts of the classes: templates, or those of a file, and a file's descriptions.
pub fn text_set(classes: &[String], templates: Option<&Path>, descriptions: Option<&Path>) -> Result<TextSet> {
    let texts = TextSet::new(classes)?.with_templates(&templates.map_or_else(|| Ok(Templates::clip_ensemble()), Templates::read)?);
    match descriptions {
        Some(file) => texts.with_descriptions(&Descriptions::read(file)?),
        None => Ok(texts),
    }
}

/// Opens the sets under one list of classes: the user's, else the test set's, else the training set's folder names.
fn open(args: &SetupArgs, train: &str, test: Option<&str>, bars: &mut Bars) -> Result<(Dataset, Option<Dataset>, ClassNames)> {
    let test = match test {
        Some(test) => Some(data::open_with(test, &args.data.split.options(Some(Split::Test)), |event| bars.show(event))?),
        None => None,
    };
    test.as_ref().map_or(Ok(()), Dataset::require_labels)?;
    let train = data::open_with(train, &args.data.split.options(Some(Split::Train)), |event| bars.show(event))?;
    args.data.split.check(test.iter().chain([&train]))?;
    let names = match (&args.data.classes.classes, test.as_ref().unwrap_or(&train).classes()) {
        (Some(file), _) => read_class_names(file)?,
        (None, []) => {
            return Err(Error::Usage(
                "the pictures have no labels, so their classes are not known: give the names with --classes FILE".into(),
            ));
        }
        (None, classes) => ClassNames::new(classes)?,
    };
    let test = test.map(|test| test.with_classes(&names)).transpose()?;
    let train = with_classes_or_unlabeled(train, &names, |notice| bars.show(&Event::Notice(notice)));
    Ok((train, test, names))
}

/// Next to the text features, because the system's temporary folder is often held in memory.
fn picture_cache(args: &SetupArgs) -> Result<PictureCache> {
    if !(0.0..1e6).contains(&args.cache_gib) {
        return Err(Error::Usage(format!("--cache-gib must be 0 or more, got {}", args.cache_gib)));
    }
    let folder = args.cache.clone().or_else(cache_folder).unwrap_or_else(std::env::temp_dir);
    Ok(PictureCache::new_in(folder, (args.cache_gib * f64::from(1 << 30)) as usize))
}

/// Says so if the weak views of all images do not fit into the cache.
fn cache_is_small(experiment: &Experiment, gib: f64) -> Option<String> {
    let images = experiment.train.len() + experiment.test.as_ref().map_or(0, Dataset::len);
    let needed = (images * 3 * experiment.clip.config().vision.image_size.pow(2)) as f64 / f64::from(1 << 30);
    (gib > 0.0 && needed > gib && experiment.config.tune.epochs > 1)
        .then(|| format!("views of {images} images take {needed:.2} GiB: beyond --cache-gib {gib} they are made anew in every epoch"))
}

pub fn demo(args: DemoArgs, common: &Common) -> Result<()> {
    together(AGAIN, |ranks| {
        let changes = settings::from_set(&args.set)?;
        let mut bars = Bars::of(&**ranks, common.json);
        let clip = ClipLoader::new("demo").device(&device(common)?).load(|event| bars.show(event))?;
        let (out, ranks) = (Some(args.out.clone()), ranks.clone());
        let mut experiment = Experiment { out, resume: args.resume, ranks, ..Experiment::demo(clip, common.seed)? };
        changes.apply(&mut experiment.config)?;
        if bars.speaks() {
            if !common.json {
                note(what_comes(&experiment));
            }
            check::show(&experiment.inputs(), common);
        }
        finish(&experiment, &args.out, "LaFTer in a minute", common, &mut bars)
    })
}

/// What the demo does and how long it takes, before it begins; the bars then tell the time that is left on this machine.
fn what_comes(experiment: &Experiment) -> String {
    let (images, classes, epochs) = (experiment.train.len(), experiment.texts.classes().len(), experiment.config.tune.epochs);
    // measured with the demo's settings on two cores: evaluation, signals, figures; then each epoch with its evaluation
    let (once, epoch) = if cfg!(debug_assertions) { (18, 3) } else { (4, 2) };
    let took = in_words(Duration::from_secs(once + epoch * epochs as u64));
    format!(
        "A small CLIP that knows drawings of {classes} things learns to name them in a look that it never saw, from {images} unlabeled \
         pictures\nin {epochs} epochs; pictures with labels show what it gains. This takes about {took} on two cores.\n"
    )
}

fn finish(experiment: &Experiment, out: &Path, title: &str, common: &Common, bars: &mut Bars) -> Result<()> {
    let outcome: Outcome = experiment.run(|event| bars.show(event))?;
    if !bars.speaks() {
        return Ok(());
    }
    let mut report = if common.json { outcome.report.to_json()?.trim_end().to_string() } else { outcome.report.to_string() };
    if let (Some(trainable), true, false) = (&outcome.report.trainable, outcome.report.is_tuned(), common.json) {
        report += &format!("\n{} parameters learned ({:.2} % of the model)", trainable.count, 100.0 * trainable.share);
    }
    let said = said(report); // figures and card can be written all the same
    let missing = missing_figures(gallery::write(experiment, &outcome, title, out), out)?;
    let card = Card { base_license: license_of(experiment.clip.id()), ..Card::default() };
    if card.write(out, false)? == CardOutcome::Kept {
        bars.show(&Event::Notice(format!("{}/README.md is not a card of lafter, or was edited: it is left as it is", out.display())));
    }
    said?;
    match missing {
        Some(notice) => bars.show(&Event::Notice(notice)),
        None if common.json => {}
        None => say(format_args!("report, figures and weights: {} (open index.html)", out.display())),
    }
    Ok(())
}

/// What to say where figures cannot be drawn: the run is over, and its numbers were printed. A disk that cannot be written is an error.
fn missing_figures(drawn: Result<()>, out: &Path) -> Result<Option<String>> {
    let kept = format!("report and weights are in {}", out.display());
    let rest = "repeat the command with --resume for the rest";
    match drawn {
        Ok(()) => Ok(None),
        Err(Error::Interrupted(_)) => Err(Error::Interrupted(format!("interrupted: drawing figures; {kept}: {rest}"))),
        Err(error @ Error::Io { .. }) => Err(Error::Data(format!("{error}; {kept}: {rest}"))),
        Err(error) => Ok(Some(format!("the figures could not be drawn ({error}); {kept}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_that_cannot_be_drawn_fail_no_run() {
        let missing = |drawn: Result<()>| missing_figures(drawn, Path::new("out"));
        assert_eq!(missing(Ok(())).unwrap(), None);
        let notice = missing(Err(Error::Usage("there is nothing to draw".into()))).unwrap().unwrap();
        assert!(notice.contains("nothing to draw") && notice.ends_with("report and weights are in out"), "{notice}");
        for error in [Error::Interrupted("now".into()), Error::io("out", std::io::ErrorKind::StorageFull.into())] {
            assert!(missing(Err(error)).unwrap_err().to_string().contains("in out: repeat the command with --resume"));
        }
    }
}
