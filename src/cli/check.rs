//! `check`: what a run would understand of its inputs, and a sheet of its pictures; and the block that the other commands show.

use std::path::Path;

use lafter::data::{self, Dataset, Split};
use lafter::describe::{ClassNames, Templates, read_class_names};
use lafter::gallery::sample_sheet;
use lafter::inputs::{Inputs, thirds};
use lafter::{Error, Result};
use serde_json::json;

use super::args::{CheckArgs, Common};
use super::bars::Bars;
use super::commands::{load, print};
use super::overwrite;
use super::run::texts;
use super::say::{note, say};

/// The block on standard error, before anything is computed; with --json its notices alone, since they may matter to the result.
pub fn show(inputs: &Inputs, common: &Common) {
    if common.json {
        inputs.notices.iter().for_each(|notice| note(format_args!("note: {notice}")));
    } else {
        note(inputs);
    }
}

/// Prompts as the text tower will read them: of the first, the middle and the last class.
pub fn prompts(templates: &Templates, classes: &[String]) -> Vec<String> {
    thirds(classes.len()).into_iter().filter_map(|i| templates.fill(&classes[i]).into_iter().next()).collect()
}

pub fn check(args: CheckArgs, common: &Common) -> Result<()> {
    let sets = [&args.data.train, &args.data.test].into_iter().flatten().map(Path::new);
    overwrite::check(&args.sheet, sets.chain(args.model.files()))?;
    let mut bars = Bars::new(common.json);
    let clip = load(&args.model, common, &mut bars)?;
    let mut open = |spec: &Option<String>, split| match spec {
        Some(spec) => data::open_with(spec, &args.data.split.options(Some(split)), |event| bars.show(event)).map(Some),
        None => Ok(None),
    };
    let (test, train) = (open(&args.data.test, Split::Test)?, open(&args.data.train, Split::Train)?);
    args.data.split.check(test.iter().chain(&train))?;
    let names = match (&args.data.classes.classes, test.iter().chain(&train).find(|set| !set.classes().is_empty())) {
        (Some(file), _) => Some(read_class_names(file)?),
        (None, Some(set)) => Some(ClassNames::new(set.classes())?),
        (None, None) => None,
    };
    let mut inputs = Inputs::new(&clip);
    if train.is_none() && test.is_none() {
        inputs.notices.extend(names.iter().flat_map(ClassNames::notices).cloned());
    }
    let mut sets: Vec<(&str, Dataset)> = Vec::new();
    if let Some(train) = train {
        let train = match &names {
            Some(names) => with_classes_or_unlabeled(train, names, |notice| inputs.notices.push(notice)),
            None => train,
        };
        inputs = inputs.with_set("train", &train);
        sets.push(("train", train));
    }
    if let Some(test) = test {
        inputs.notices.extend(test.require_labels().err().map(|error| error.to_string()));
        let test = match &names {
            Some(names) => test.with_classes(names)?,
            None => test,
        };
        inputs = inputs.with_set("test", &test);
        inputs = sets.iter().fold(inputs, |inputs, (_, train)| inputs.with_overlap(train, &test));
        sets.push(("test", test));
    }
    match &names {
        Some(names) => inputs = inputs.with_texts(&texts(&args.data, names.names())?),
        None if args.data.descriptions.is_some() || args.data.templates.is_some() => {
            let unknown = "--descriptions and --templates are read for classes: give the names with --classes FILE, or labeled pictures";
            return Err(Error::Usage(unknown.into()));
        }
        None if !sets.is_empty() => inputs.notices.push("the pictures have no labels and no --classes names the classes".into()),
        None => {}
    }
    let sheet = if sets.is_empty() { None } else { Some(sheet(&args, &clip, &sets, &mut inputs)?) };
    if common.json {
        print(&json!({ "inputs": inputs, "sheet": sheet }));
    } else {
        say(&inputs);
        if let Some(path) = sheet {
            say(format_args!("sample sheet: {path}"));
        }
    }
    Ok(())
}

/// Writes the sheet and returns its path; pictures that cannot be read become notices.
fn sheet(args: &CheckArgs, clip: &lafter::Clip, sets: &[(&str, Dataset)], inputs: &mut Inputs) -> Result<String> {
    let sets: Vec<(&str, &Dataset)> = sets.iter().map(|(name, set)| (*name, set)).collect();
    let drawn = sample_sheet(clip, &sets)?;
    inputs.notices.extend(drawn.unreadable);
    drawn.figure.save(&args.sheet)?;
    Ok(args.sheet.display().to_string())
}

/// The training pictures under the class names; labels of training images are for analysis only, so labels that do not fit are
/// no reason to stop.
pub fn with_classes_or_unlabeled(train: Dataset, names: &ClassNames, notice: impl FnOnce(String)) -> Dataset {
    train.with_classes(names).unwrap_or_else(|error| {
        notice(format!("the training images' own labels are left aside: {error}"));
        train.unlabeled()
    })
}
