//! Whole runs on the demo, shortened: the same seed gives the same bits, a stopped run goes on where it stopped.

use lafter::clip::Clip;
use lafter::eval::Report;
use lafter::experiment::{Experiment, Outcome};
use lafter::export::{Card, CardOutcome};
use lafter::{LaFTer, gallery, progress};

/// The demo on a few pictures, two epochs.
fn short(seed: u64) -> Experiment {
    let mut experiment = Experiment::demo(Clip::demo().unwrap(), seed).unwrap();
    experiment.train = experiment.train.take(120);
    experiment.test = experiment.test.map(|test| test.take(96));
    experiment.config.text.epochs = 30;
    experiment.config.tune.epochs = 2;
    experiment
}

/// The report without what differs from run to run on one machine.
fn report(outcome: &Outcome) -> String {
    outcome.report.without_timing().to_json().unwrap()
}

#[test]
fn the_same_seed_gives_the_same_report_and_another_seed_another() {
    let run = |seed| short(seed).run(progress::silent).unwrap();
    let (a, b, c) = (run(1), run(1), run(2));
    assert_eq!(report(&a), report(&b));
    let losses = |outcome: &Outcome| outcome.history.iter().map(|epoch| epoch.loss.to_bits()).collect::<Vec<_>>();
    assert_eq!(losses(&a), losses(&b));
    assert_ne!(losses(&a), losses(&c));
}

#[test]
fn a_resumed_run_ends_with_the_report_of_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let whole = Experiment { out: Some(folder.path().join("whole")), ..short(1) }.run(progress::silent).unwrap();
    let out = folder.path().join("stopped");
    let mut first = Experiment { out: Some(out.clone()), ..short(1) };
    first.config.tune.epochs = 1;
    first.run(progress::silent).unwrap();
    let resumed = Experiment { out: Some(out.clone()), resume: true, ..short(1) }.run(progress::silent).unwrap();
    assert_eq!(report(&whole), report(&resumed));
    let weights = |run: &str| std::fs::read(folder.path().join(run).join("lafter.safetensors")).unwrap();
    assert!(weights("whole") == weights("stopped"), "the saved files differ");
    let lines = std::fs::read_to_string(out.join("history.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 2);
}

#[test]
fn a_run_leaves_a_report_figures_and_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = Experiment { out: Some(folder.path().to_path_buf()), ..short(3) };
    let outcome = experiment.run(progress::silent).unwrap();
    gallery::write(&experiment, &outcome, "A short run", folder.path()).unwrap();
    let card = || std::fs::read_to_string(folder.path().join("README.md")).unwrap();
    assert_eq!(Card::default().write(folder.path(), false).unwrap(), CardOutcome::Written);
    let top1 = format!("{:.2}", outcome.report.lafter.as_ref().unwrap().evaluation.top1);
    assert!(card().starts_with("---\nlicense: ") && card().contains(&top1) && card().contains("120 pictures"), "{}", card());
    assert_eq!(Card::default().write(folder.path(), false).unwrap(), CardOutcome::Written, "nobody edited it");
    std::fs::write(folder.path().join("README.md"), card().replace("# ", "# My ")).unwrap();
    assert_eq!(Card::default().write(folder.path(), false).unwrap(), CardOutcome::Kept);
    assert!(card().contains("# My "));
    let page = std::fs::read_to_string(folder.path().join("index.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("zero-shot"));
    let first = ["views", "words", "text-classifier", "features", "neighbors", "modality-gap"];
    let second = ["tuning", "confidence", "attention", "prompts", "confusion", "classes", "reliability"];
    for figure in first.into_iter().chain(second) {
        assert!(folder.path().join("figures").join(figure).with_extension("svg").exists(), "{figure}");
    }
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.path().join("report.json")).unwrap()).unwrap();
    for key in ["zero_shot", "text_classifier", "lafter", "timing", "peak_rss_bytes", "trainable", "config", "seed", "device", "version"] {
        assert!(!json[key].is_null(), "{key}");
    }
    assert_eq!(json["lafter"]["per_epoch"].as_array().unwrap().len(), 2);
    let (saved, again) = (folder.path().join("lafter.safetensors"), folder.path().join("again.safetensors"));
    LaFTer::load(&saved, Clip::demo().unwrap()).unwrap().save(&again).unwrap();
    assert!(std::fs::read(saved).unwrap() == std::fs::read(again).unwrap(), "loaded and saved again, a file must stay the same");
}

#[test]
fn a_run_begun_anew_sets_the_one_before_aside_and_resumes_on_its_own_images_only() {
    let folder = tempfile::tempdir().unwrap();
    let out = Some(folder.path().to_path_buf());
    let run = |experiment: Experiment| Experiment { out: out.clone(), ..experiment }.run(progress::silent);
    let fewer = || Experiment { train: short(1).train.take(60), ..short(1) };
    let first = run(short(1)).unwrap();
    let second = run(fewer()).unwrap();
    assert!(report(&second) == report(&fewer().run(progress::silent).unwrap()), "the first run's checkpoints were taken for the second's");
    let previous = Report::load(folder.path().join("previous/report.json")).unwrap();
    assert!(previous.without_timing().to_json().unwrap() == report(&first), "the first run's report is kept");

    let refused = |experiment: Experiment, why: &str| {
        let error = run(Experiment { resume: true, ..experiment }).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains(why), "{error}");
    };
    refused(short(1), "other train images");
    refused(Experiment { test: short(1).test.map(|test| test.take(90)), ..fewer() }, "other test images");
    let mut shorter = fewer();
    shorter.config.tune.epochs = 1;
    refused(shorter, "2 epochs are done");
    let mut shorter = fewer();
    shorter.config.text.epochs = 29;
    refused(shorter, "30 epochs are done");
    let mut tolerant = Experiment { resume: true, ..fewer() };
    (tolerant.config.tune.max_unreadable, tolerant.config.tune.eval_every) = (0.5, 2);
    assert_eq!(run(tolerant).unwrap().report.lafter, second.report.lafter);
}
