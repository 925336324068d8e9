//! The pictures of a run: curves, confusion, classes before and after, views, words, both modalities in one plane, attention,
//! confidence, one page.

mod attention;
mod confidence;
mod contact;
mod mistakes;
mod sheet;
mod signals;
mod texts;

pub use attention::{class_attention, prompt_attention};
pub use confidence::{confidence, teacher_confidences};
pub use contact::class_pictures;
pub use mistakes::confident_mistakes;
pub use sheet::{SampleSheet, sample_sheet};
pub use texts::nearest_texts;

use std::path::Path;

use candle_core::Tensor;

use crate::data::Dataset;
use crate::embed;
use crate::error::{Error, Result, noun};
use crate::eval::{Evaluation, Report, Select, Selection, unique_names, unread};
use crate::experiment::{Experiment, Outcome};
use crate::files::save_atomically;
use crate::plot::{self, Figure, Panel, Series, Sort};
use crate::progress::silent;
use crate::rng::Rng;
use crate::tune::TeacherKind;

/// More texts than this are thinned before they are embedded for the picture.
const MOST_TEXTS: usize = 1000;
/// Of more classes than this, those that gained and lost most are drawn.
const MOST_CLASSES: usize = 200;

/// A figure with the name of its file and its caption.
#[derive(Clone, Debug)]
pub struct NamedFigure {
    /// Name of its file, without the ending.
    pub name: &'static str,
    /// What it shows, in a sentence.
    pub caption: String,
    /// The drawing.
    pub figure: Figure,
}

/// Draws what a run's outcome shows, in the order of the method.
///
/// # Errors
/// [`Error::Usage`] if no training picture can be read or a value is not finite; [`Error::Interrupted`] after an
/// interrupt; [`Error::Candle`] if a tower fails.
pub fn draw(experiment: &Experiment, outcome: &Outcome) -> Result<Vec<NamedFigure>> {
    let mut pictures = Vec::new();
    let mut add = |name, caption: &str, figure: Figure| pictures.push(NamedFigure { name, caption: caption.to_string(), figure });
    add(
        "views",
        match experiment.config.tune.augment {
            true => "The same training pictures as the teacher sees them (weak view) and as the student does (strong views).",
            false => {
                "The same training pictures as the teacher sees them and as the student does, without strong views (tune.augment is off)."
            }
        },
        views(experiment)?,
    );
    let texts = &experiment.texts;
    let names = unique_names(texts.classes());
    add(
        "words",
        "What the texts say of each class: how long they are, and words that few classes use, by how often this class does (tf-idf).",
        plot::word_counts("Words by class", &names, texts.sentences(), texts.labels())?,
    );
    // class means have no epochs to show
    if !outcome.text_history.is_empty() {
        add(
            "text-classifier",
            "Stage one: the classifier learns on noisy text features (eq. 2).",
            plot::panels(
                "Text classifier",
                "epoch",
                &[
                    Panel::new("loss", vec![Series::new("loss on texts", outcome.text_history.iter().map(|e| e.loss))]),
                    Panel::new("percent", vec![Series::new("accuracy on noisy texts", outcome.text_history.iter().map(|e| e.accuracy))]),
                ],
            )?,
        );
    }
    if let Some(rows) = Rows::of(experiment, outcome)? {
        add(
            "features",
            "Texts and test images in one plane: do the classes meet, and how far apart are the modalities?",
            rows.scatter(&names)?,
        );
        // a handful of features has no neighborhoods and no spread of cosines to show
        if rows.texts.len() >= 4 && rows.images.len() >= 4 {
            // features that are all alike, as of a damaged tower, have no neighbors; the run is over, and its other figures say so
            let neighbors = plot::scatter_tsne(&rows.texts, &rows.text_labels, &rows.images, &rows.image_labels, &names, 30.0);
            if let Ok(figure) = neighbors {
                add("neighbors", "The same features by t-SNE: who is whose neighbor.", figure);
            }
            add(
                "modality-gap",
                "Cosines within and across the modalities. The further the text–image cosines lie to the left of the other two, the wider the gap.",
                plot::modality_gap("The modality gap", &rows.texts, &rows.images)?,
            );
        }
    }
    if !outcome.history.is_empty() {
        add(
            "tuning",
            match outcome.history.iter().any(|epoch| epoch.test_top1.or(epoch.pseudo_label_accuracy).is_some()) {
                true => {
                    "Stage two: learning from one's own pseudo-labels (eq. 3 and 4). Labels are read to count what is right, not to learn."
                }
                false => "Stage two: learning from one's own pseudo-labels (eq. 3 and 4). No label is read.",
            },
            tuning(outcome)?,
        );
    }
    if let Some(figure) = signals::signals(outcome)? {
        add(
            "signals",
            "What can be said without a label, before tuning (epoch 0) and after each epoch. Mutual information and balance that fall tell of a \
             collapse; confidence rises in almost every tuning.",
            figure,
        );
    }
    if let Some((caption, figure)) = signals::answers(&outcome.report)? {
        add("answers", &caption, figure);
    }
    if let Some(predicted) = &outcome.predicted
        && let Some((caption, figure)) = contact::all_classes(&predicted.picks, &experiment.train, texts.classes().len())?
    {
        add("pictures", &caption, figure);
    }
    if let Some(tuned) = outcome.lafter.tuned().filter(|_| outcome.report.is_tuned()) {
        match teacher_confidences(experiment, &outcome.lafter) {
            Err(Error::Data(_)) => {} // none of the pictures can be read any more; the run is over
            values => {
                let (before, after) = values?;
                let caption = match experiment.config.tune.teacher {
                    TeacherKind::Ema(_) | TeacherKind::Bank(_) | TeacherKind::Labeler(_) | TeacherKind::Transduct(_) => {
                        "How sure the tower is of its own pseudo-labels (eq. 3), before and after tuning; the run's teacher was another."
                    }
                    _ => "How sure the teacher is of its pseudo-labels (eq. 3), before and after tuning.",
                };
                add("confidence", caption, confidence(&before, &after)?);
            }
        }
        let pictures = attention::of_three_classes(experiment);
        if !pictures.is_empty() {
            add(
                "attention",
                "Where the class token looks, block by block: above before tuning, below after.",
                class_attention("Attention of the class token", &experiment.clip, Some(tuned), &pictures)?,
            );
        }
        if let (true, Some(picture)) = (tuned.prompts.count() > 0, pictures.first()) {
            let last = experiment.clip.vision().blocks.len().saturating_sub(1);
            add(
                "prompts",
                "Where each learned visual prompt looks, in the last block.",
                prompt_attention("Attention of the visual prompts", &experiment.clip, tuned, picture, last)?,
            );
        }
    }
    if let Some((shown, when)) = of_result(outcome) {
        add(
            "confusion",
            &format!("True classes in rows, answers in columns{when}."),
            plot::confusion(&shown.confusion, &shown.class_names())?,
        );
        if let (Some(zero_shot), Some(text_classifier)) = (&outcome.zero_shot, &outcome.text_classifier) {
            let (mut caption, figure) = classes(zero_shot, text_classifier, outcome.tuned.as_ref())?;
            if outcome.tuned.is_some() && !is_tuned(outcome) {
                caption += " LaFTer's bars are those of the last epoch, which is not the result.";
            }
            add("classes", &caption, figure);
        }
        if let (Some(encoded), Some(test)) = (&outcome.test_features, &experiment.test)
            && let Some(figure) = confident_mistakes(shown, &encoded.indices, test)?
        {
            let look = "look here for wrong labels, and for classes that overlap";
            add("mistakes", &format!("The surest wrong answers on the test set{when}: {look}."), figure);
        }
        let caption = format!("How often an answer of a given confidence is right{when}.");
        add("reliability", &caption, plot::reliability("Reliability", &shown.calibration)?);
    }
    Ok(pictures)
}

/// Writes the figures as SVG into `out/figures`, and `out/index.html` that holds them all.
///
/// # Errors
/// As [`draw`]; [`Error::Io`] with the path that cannot be written.
pub fn write(experiment: &Experiment, outcome: &Outcome, title: &str, out: &Path) -> Result<()> {
    let pictures = draw(experiment, outcome)?;
    let folder = out.join("figures");
    std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
    for picture in &pictures {
        picture.figure.save(folder.join(picture.name).with_extension("svg"))?;
    }
    let chosen = outcome.report.selection.as_ref().and_then(Selection::said);
    let learned = outcome
        .report
        .trainable
        .filter(|_| outcome.report.is_tuned())
        .map_or(String::new(), |t| format!(" Stage two changed {} numbers, {:.2} % of the model.", t.count, 100.0 * t.share));
    let (classes, texts, all) = (experiment.texts.classes().len(), experiment.texts.len(), experiment.train.len());
    let used = outcome.report.images.as_ref().map_or(all, |images| images.train);
    let chosen = chosen.map_or_else(String::new, |said| format!(" <strong>{}</strong>.", sentence(&said)));
    let intro = format!(
        "<p>A CLIP was adapted to {classes} {} with {texts} {} and {used} unlabeled {}{}; no label was used to train.{learned}{chosen} \
         {}</p>",
        noun(classes, "class"),
        noun(texts, "text"),
        noun(used, "image"),
        left_out(all, used),
        accuracies(&outcome.report, experiment.test.as_ref().map_or(0, Dataset::len)),
    );
    let figures: Vec<(String, Figure)> = pictures.into_iter().map(|picture| (picture.caption, picture.figure)).collect();
    let mut tables = outcome.report.table().to_html();
    if let Some(predicted) = &outcome.predicted {
        let nearest = nearest_texts(experiment, &predicted.picks)?;
        tables += &format!("\n<h2>Texts nearest to what was called so</h2>\n{}", nearest.to_html());
    }
    let page = plot::index_html(title, &intro, &figures, &tables);
    save_atomically(out.join("index.html"), page.as_bytes())
}

/// What the page says of images that could not be read.
fn left_out(all: usize, used: usize) -> String {
    unread(all, used).map_or_else(String::new, |unread| format!(" ({unread})"))
}

/// What the page says of accuracies on some of `test` images; without any, what else there is to look at.
fn accuracies(report: &Report, test: usize) -> String {
    let Some(zero_shot) = &report.zero_shot else {
        let look = match (report.selection.is_some(), !report.answers.is_empty()) {
            (true, true) => ": look at the signals and at the answers",
            (true, false) => ": look at the signals",
            (false, true) => ": look at the answers",
            (false, false) => "",
        };
        return format!("There are no labels to compare with, so there are no accuracies{look}.");
    };
    let last = if report.lafter.is_some() { "; LaFTer's is that of the last epoch" } else { "" };
    let n = zero_shot.n;
    format!("Accuracies are on {n} test {}{}{last}.", noun(n, "image"), left_out(test, n))
}

/// With a capital letter.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Four training pictures: the weak view and four strong views of each; without strong views what the student sees in their place.
fn views(experiment: &Experiment) -> Result<Figure> {
    let (weak, tune, train) = (experiment.clip.preprocess(), &experiment.config.tune, &experiment.train);
    let strong = tune.strong_view(weak);
    let mut rng = Rng::new(experiment.config.seed).fork(3);
    let mut rows = Vec::new();
    for index in 0..train.len() {
        let Ok(picture) = train.image(index) else { continue };
        let teacher = tune.weak_crop.view(weak, train, index, &picture, &rng.fork(index as u64))?;
        let mut row = vec![("weak view".to_string(), teacher)];
        match tune.augment {
            true => row.extend((1..=4).map(|i| (format!("strong view {i}"), strong.image(&picture, &mut rng)))),
            false => row.push(("student's view".into(), weak.image(&picture))),
        }
        rows.push(row);
        if rows.len() == 4 {
            break;
        }
    }
    plot::views("Two views", &rows)
}

/// Features of texts (thinned) and test images with their labels, from the untouched towers.
struct Rows {
    texts: Vec<Vec<f32>>,
    text_labels: Vec<usize>,
    images: Vec<Vec<f32>>,
    image_labels: Vec<usize>,
}

impl Rows {
    fn of(experiment: &Experiment, outcome: &Outcome) -> Result<Option<Self>> {
        let (Some(images), Some(test)) = (&outcome.test_features, &experiment.test) else { return Ok(None) };
        let texts = &experiment.texts;
        let chosen = plot::drawn(texts.len(), MOST_TEXTS);
        let sentences: Vec<String> = chosen.iter().map(|i| texts.sentences()[*i].clone()).collect();
        let rows = |tensor: &Tensor| -> Result<Vec<Vec<f32>>> { Ok(tensor.to_device(&candle_core::Device::Cpu)?.to_vec2::<f32>()?) };
        Ok(Some(Self {
            texts: rows(&embed::texts(&experiment.clip, &sentences, experiment.cache.as_ref(), silent)?)?,
            text_labels: chosen.iter().map(|i| texts.labels()[*i]).collect(),
            images: rows(&images.rows)?,
            image_labels: images.indices.iter().filter_map(|i| test.label(*i)).collect(),
        }))
    }

    fn scatter(&self, classes: &[String]) -> Result<Figure> {
        plot::scatter(&self.texts, &self.text_labels, &self.images, &self.image_labels, classes)
    }
}

fn tuning(outcome: &Outcome) -> Result<Figure> {
    let history = &outcome.history;
    let epochs = |f: fn(&crate::tune::EpochRecord) -> Option<f64>| {
        history.iter().filter_map(|record| Some((record.epoch as f64, f(record)?))).collect::<Vec<(f64, f64)>>()
    };
    let mut shares = vec![
        Series::at("top-1 on the test set", epochs(|e| e.test_top1)),
        Series::at("pseudo-labels that are right", epochs(|e| e.pseudo_label_accuracy)),
        Series::at("student agrees with teacher", epochs(|e| Some(e.agreement))),
        Series::at("mean confidence of pseudo-labels", epochs(|e| Some(e.confidence))),
    ];
    shares.retain(|series| !series.points.is_empty());
    let loss = if outcome.lafter.config.tune.augment { "loss on strong views" } else { "loss on the student's views" };
    let mut losses = vec![Series::at(loss, epochs(|e| Some(e.loss)))];
    let names: std::collections::BTreeSet<&String> = history.iter().flat_map(|record| record.terms.keys()).collect();
    for name in names {
        let points = history.iter().filter_map(|record| Some((record.epoch as f64, *record.terms.get(name)?)));
        losses.push(Series::at(format!("term {name}"), points));
    }
    plot::panels("Tuning", "epoch", &[Panel::new("loss", losses), Panel::new("percent", shares)])
}

/// The evaluation of the result; of one that was not evaluated that of the last epoch, with what captions have to say of it.
fn of_result(outcome: &Outcome) -> Option<(&Evaluation, &'static str)> {
    let last = outcome.tuned.as_ref().or(outcome.text_classifier.as_ref())?;
    let result = match &outcome.report.selection {
        Some(selection) if selection.result == Select::Signals => match selection.selected {
            _ if selection.zero_shot_selected => outcome.zero_shot.as_ref(),
            0 if selection.mean_selected => None,
            0 => outcome.text_classifier.as_ref(),
            epoch => Some(last).filter(|_| epoch == selection.last),
        },
        _ => Some(last),
    };
    Some(result.map_or((last, ", after the last epoch, which is not the result"), |result| (result, "")))
}

/// Whether the tuned tower of the last epoch is the result.
fn is_tuned(outcome: &Outcome) -> bool {
    of_result(outcome)
        .is_some_and(|(shown, when)| when.is_empty() && outcome.tuned.as_ref().is_some_and(|tuned| std::ptr::eq(tuned, shown)))
}

/// The bars of each class with test pictures; of many those that gained and lost most. With what is shown, in words.
fn classes(zero_shot: &Evaluation, text_classifier: &Evaluation, tuned: Option<&Evaluation>) -> Result<(String, Figure)> {
    let mut all = vec![("zero-shot", zero_shot), ("text classifier", text_classifier)];
    all.extend(tuned.map(|tuned| ("LaFTer", tuned)));
    let names = zero_shot.class_names();
    let accuracy = |evaluation: &Evaluation, class: usize| evaluation.per_class.get(class).and_then(|class| class.accuracy);
    let last = all[all.len() - 1].1;
    let gain = |class: &usize| accuracy(last, *class).unwrap_or(0.0) - accuracy(zero_shot, *class).unwrap_or(0.0);
    let mut shown: Vec<usize> = (0..names.len()).filter(|class| accuracy(last, *class).is_some()).collect();
    let tested = shown.len();
    let mut caption = match names.len() {
        count if count == tested => "Each class before and after.".to_string(),
        count => format!("Each class with test pictures ({tested} of {count}) before and after."),
    };
    if tested > MOST_CLASSES {
        let half = MOST_CLASSES / 2;
        let which = match shown.iter().any(|class| gain(class) != 0.0) {
            true => format!("the {half} that gained most and the {half} that lost most"),
            false => format!("the first {half} and the last {half} (none gained or lost)"),
        };
        caption = format!("Of {tested} classes with test pictures {which}, before and after.");
        shown.sort_by(|a, b| gain(b).total_cmp(&gain(a)));
        shown.drain(half..tested - half);
        shown.sort_unstable();
    }
    let series = |(name, evaluation): &(&str, &Evaluation)| {
        let known = shown.iter().enumerate().filter_map(|(at, class)| Some(((at + 1) as f64, accuracy(evaluation, *class)?)));
        Series::at(*name, known)
    };
    let (series, shown): (Vec<Series>, Vec<String>) =
        (all.iter().map(series).collect(), shown.iter().map(|class| names[*class].clone()).collect());
    Ok((caption, plot::bars("By class", "top-1 %", &shown, &series, Sort::ByGain)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::Clip;

    /// Answers of `count` classes to one picture of each of these.
    fn answers(count: usize, labels: &[usize], right: impl Fn(usize) -> bool) -> Evaluation {
        let names: Vec<String> = (0..count).map(|class| format!("class {class}")).collect();
        let mut logits = vec![0f32; labels.len() * count];
        for (row, label) in labels.iter().enumerate() {
            logits[row * count + if right(*label) { *label } else { (*label + 1) % count }] = 1.0;
        }
        Evaluation::from_logits(&logits, labels, &names).unwrap()
    }

    #[test]
    fn classes_without_test_pictures_take_no_place_among_the_bars() {
        let bars = |count: usize, labels: &[usize]| {
            let (before, after) = (answers(count, labels, |_| false), answers(count, labels, |label| label.is_multiple_of(2)));
            let (caption, figure) = classes(&before, &before, Some(&after)).unwrap();
            (caption, figure.svg().matches("class=\"bar\"").count())
        };
        // none gains or loses, and all lie in the middle
        let (caption, count) = bars(500, &[241, 251, 261]);
        assert!(count == 9 && caption.contains("3 of 500"), "{count}: {caption}");
        let (caption, count) = bars(500, &(100..400).collect::<Vec<_>>());
        assert!(count == 600 && caption.starts_with("Of 300 classes") && caption.contains("the 100 that gained"), "{count}: {caption}");
        assert_eq!(bars(3, &[0, 1, 2]), ("Each class before and after.".into(), 9));
        let (caption, _) = bars(500, &(0..250).map(|class| 2 * class + 1).collect::<Vec<_>>());
        assert!(caption.contains("the first 100 and the last 100 (none gained or lost)"), "{caption}");
    }

    #[test]
    fn what_a_run_did_not_do_is_not_told() {
        let mut report = Report::new(serde_json::Value::Null, 1, "cpu");
        assert!(accuracies(&report, 0).ends_with("so there are no accuracies."));
        report.answers.set("fish", [1, 2, 3]);
        assert!(accuracies(&report, 0).ends_with("no accuracies: look at the answers."));
        report.zero_shot = Some(answers(2, &[0, 1], |_| true));
        assert_eq!(accuracies(&report, 2), "Accuracies are on 2 test images.");
        assert_eq!(accuracies(&report, 6), "Accuracies are on 2 test images (4 could not be read).");
        let mut run = Experiment::demo(Clip::demo().unwrap(), 1).unwrap();
        run.config.tune.augment = false;
        let svg = views(&run).unwrap().svg().to_string();
        assert!(svg.contains("student") && !svg.contains("strong view"));
    }

    #[test]
    fn what_is_drawn_of_the_test_set_is_the_result_or_called_something_else() {
        let mut run = Experiment::demo(Clip::demo().unwrap(), 1).unwrap();
        (run.train, run.test, run.predictions) = (run.train.take(16), run.test.map(|test| test.take(24)), false);
        (run.config.text.epochs, run.config.tune.epochs, run.config.tune.batch_size) = (3, 2, 8);
        let outcome = run.run(silent).unwrap();
        let shown = |result: Select, selected: usize, [zero_shot, mean]: [bool; 2]| {
            let mut outcome = outcome.clone();
            let selection = outcome.report.selection.as_mut().unwrap();
            (selection.result, selection.selected) = (result, selected);
            (selection.zero_shot_selected, selection.mean_selected) = (zero_shot, mean);
            let (evaluation, when) = of_result(&outcome).unwrap();
            assert_eq!(is_tuned(&outcome), result == Select::Last || selected == 2);
            (evaluation.clone(), when.is_empty())
        };
        let of = |evaluation: &Option<Evaluation>, is_result: bool| (evaluation.clone().unwrap(), is_result);
        let neither = [false, false];
        assert_eq!(shown(Select::Last, 1, neither), of(&outcome.tuned, true));
        assert_eq!(shown(Select::Signals, 2, neither), of(&outcome.tuned, true));
        assert_eq!(shown(Select::Signals, 1, neither), of(&outcome.tuned, false));
        assert_eq!(shown(Select::Signals, 0, neither), of(&outcome.text_classifier, true));
        assert_eq!(shown(Select::Signals, 0, [true, false]), of(&outcome.zero_shot, true));
        assert_eq!(shown(Select::Signals, 0, [false, true]), of(&outcome.tuned, false));
    }
}
