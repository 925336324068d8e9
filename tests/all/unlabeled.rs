//! A run on pictures and class names alone: no label anywhere.

use lafter::classify::{Head, TextClassifier, ZeroShotClassifier};
use lafter::clip::Clip;
use lafter::data::scenes::{self, Domain, Scenes, class_names};
use lafter::data::{Dataset, ImageSource};
use lafter::describe::Templates;
use lafter::eval::Select;
use lafter::experiment::Experiment;
use lafter::predictions::TableFormat;
use lafter::progress::{self, Event};
use lafter::rng::Rng;
use lafter::tune::{Tuned, VisualPrompts};
use lafter::{LaFTer, LafterConfig, Preset};

use crate::common::{lafter, pictures, text};

/// The head that is tuned has a temperature; so has the one that is reported and saved where nothing is tuned.
#[test]
fn a_cosine_head_is_one_before_tuning_too() {
    let root = pictures(Domain::Source, 24);
    for (epochs, select) in [(0, "last"), (1, "signals")] {
        let line = format!("run --model demo --preset dpa --train photos --classes names.txt --epochs {epochs} --batch-size 8 --out out");
        let output = lafter(root.path(), &format!("{line} --select {select} --set tune.learning_rate=1e-9 --json")).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let table = std::fs::read_to_string(root.path().join("out/predictions.csv")).unwrap();
        let sure = |table: &str| -> f64 {
            let probabilities = table.lines().skip(1).map(|line| line.split(',').nth(2).unwrap().parse::<f64>().unwrap());
            probabilities.sum::<f64>() / 24.0
        };
        assert!(sure(&table) > 0.5, "{} of 12 classes at random is 0.08", sure(&table));
        let again = "predict --model demo --weights out/lafter.safetensors photos --out again.csv";
        assert!(lafter(root.path(), again).output().unwrap().status.success());
        let again = std::fs::read_to_string(root.path().join("again.csv")).unwrap();
        assert!((sure(&table) - sure(&again)).abs() < 1e-4);
        if let Some(before) = report["selection"]["start"]["confidence"].as_f64() {
            assert!((before - sure(&table)).abs() < 0.05, "{before} {}", sure(&table));
        }
    }
}

/// Class folders come one after another, so the first pictures of each batch would be of few classes.
#[test]
fn the_teacher_is_asked_on_pictures_spread_over_the_sample() {
    let root = tempfile::tempdir().unwrap();
    assert!(lafter(root.path(), "scenes --count 64 --seed 7 --out photos").output().unwrap().status.success());
    let still = "--text-epochs 20 --epochs 1 --batch-size 16 --prompts 8 --set tune.learning_rate=1e-9 --select last --out out --json";
    let output = lafter(root.path(), &format!("run --model demo --preset demo --train photos {still}")).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let table = std::fs::read_to_string(root.path().join("out/predictions.csv")).unwrap();
    let columns = |line: &str| line.split(',').map(str::to_string).collect::<Vec<_>>();
    let (head, rows) = (columns(table.lines().next().unwrap()), table.lines().skip(1).map(columns).collect::<Vec<_>>());
    let at = |name: &str| head.iter().position(|column| column == name).unwrap();
    let (student, teacher) = (at("class"), at("text_classifier"));
    // every fourth of a batch of fifty
    let asked: Vec<&Vec<String>> = rows.chunks(50).flat_map(|batch| batch.iter().step_by(4)).collect();
    let equal = asked.iter().filter(|row| row[student] == row[teacher]).count() as f64 / asked.len() as f64;
    let signal = report["history"][0]["signals"]["as_teacher"].as_f64().unwrap();
    assert!((signal - equal).abs() < 1e-6 && asked.len() == 17, "{signal} {equal}");
    let classes = asked.iter().map(|row| &row[0][..row[0].rfind('/').unwrap()]).collect::<std::collections::BTreeSet<_>>();
    assert!(classes.len() >= 10, "{classes:?}");
}

const RUN: &str =
    "run --model demo --preset demo --train photos --classes names.txt --text-epochs 20 --epochs 2 --prompts 2 --batch-size 8";

#[test]
fn a_folder_and_names_are_enough() {
    let root = pictures(Domain::Target, 64);
    let output = lafter(root.path(), &format!("{RUN} --out out --json")).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(text(&output.stdout), std::fs::read_to_string(root.path().join("out/report.json")).unwrap());
    assert!(report["zero_shot"].is_null() && report["lafter"].is_null(), "an accuracy without labels");
    let history = report["history"].as_array().unwrap();
    assert!(history.len() == 2 && history.iter().all(|epoch| epoch["signals"]["balance"].as_f64().unwrap() > 0.0), "{history:?}");
    for name in ["as_before", "as_teacher", "as_class_means"] {
        assert!(history.iter().all(|epoch| (0.0..=1.0).contains(&epoch["signals"][name].as_f64().unwrap())), "{name}: {history:?}");
    }
    assert!(history[1]["signals"]["texts_right"].is_null()); // no text was kept out
    let selection = &report["selection"];
    assert_eq!((&selection["result"], &selection["last"]), (&"signals".into(), &2.into()));
    let zero_shot = selection["zero_shot_selected"] == true;
    let (mean, selected) = (selection["mean_selected"] == true, selection["selected"].as_u64().unwrap());
    assert!(selection["zero_shot"]["as_class_means"].is_f64(), "{selection}");
    assert!([zero_shot, mean, selected > 0].into_iter().filter(|chosen| *chosen).count() <= 1, "{selection}");
    let fits = &selection["fits"];
    assert_eq!(fits["pictures"], 64, "{selection}");
    for name in ["zero_shot", "text_classifier", "mean"] {
        assert!((0.0..=1.0).contains(&fits[name].as_f64().unwrap()), "{name}: {fits}");
    }
    assert_eq!(fits["epoch"].is_null(), fits["tuned"].is_null(), "{fits}");
    // every picture has its answers, before and after
    let table = std::fs::read_to_string(root.path().join("out/predictions.csv")).unwrap();
    assert_eq!(table.lines().count(), 65);
    let counts: Vec<[u64; 3]> = serde_json::from_value(report["answers"].as_object().unwrap().values().cloned().collect()).unwrap();
    for which in 0..3 {
        assert_eq!(counts.iter().map(|counts| counts[which]).sum::<u64>(), 64);
    }
    let changed = table.lines().filter(|line| line.ends_with(",true")).count();
    assert_eq!(changed == 0, (selected == 0 && !zero_shot && !mean) || table.lines().skip(1).all(|line| line.ends_with(",false")));
    let page = std::fs::read_to_string(root.path().join("out/index.html")).unwrap();
    assert!(page.contains("no labels") && page.contains("Signals without labels") && page.contains("Answers by class"));
    assert!(page.contains("Texts nearest to what was called so"));
    // and what the run leaves answers as it did, whoever was chosen
    let answered: Vec<String> = table.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().to_string()).collect();
    let again = lafter(root.path(), "predict --model demo --weights out/lafter.safetensors photos --out again.csv").output().unwrap();
    assert!(again.status.success(), "{}", text(&again.stderr));
    let again = std::fs::read_to_string(root.path().join("again.csv")).unwrap();
    assert_eq!(again.lines().skip(1).map(|line| line.split(',').nth(1).unwrap()).collect::<Vec<_>>(), answered);
    let left: Vec<_> = std::fs::read_dir(root.path().join("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("partial")), "{left:?}");
    // labels only add accuracies: the same signals and answers
    let same = format!("{RUN} --out labeled --json --select signals --test scenes");
    let test = Scenes::new(Domain::Target, 24, 5);
    for i in 0..24 {
        let folder = root.path().join("scenes").join(&class_names()[test.label(i).unwrap()]);
        std::fs::create_dir_all(&folder).unwrap();
        test.image(i).unwrap().save(folder.join(format!("{i}.png"))).unwrap();
    }
    let output = lafter(root.path(), &same).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let labeled: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(labeled["lafter"]["top1"].is_number());
    assert_eq!(labeled["answers"], report["answers"]);
    assert_eq!(labeled["lafter"]["history"][1]["signals"], report["history"][1]["signals"]);
    assert_eq!(std::fs::read_to_string(root.path().join("labeled/predictions.csv")).unwrap(), table);
}

#[test]
fn a_grid_without_labels_compares_signals() {
    let root = pictures(Domain::Target, 24);
    let line = "ablate --model demo --preset demo --train photos --classes names.txt --text-epochs 5 --epochs 1 --batch-size 8 --vary tune.prompts=0,2 --out study";
    let output = lafter(root.path(), line).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.contains("information before") && said.contains("balance") && !said.contains("zero-shot"), "{said}");
    assert!(root.path().join("study/study.svg").exists());
    // what is done is kept
    let again = lafter(root.path(), line).output().unwrap();
    assert!(text(&again.stderr).contains("6 of 6 runs were done before"), "{}", text(&again.stderr));
    assert_eq!(text(&again.stdout), said);
    let json = lafter(root.path(), &format!("{line} --json")).output().unwrap();
    assert_eq!(text(&json.stdout), std::fs::read_to_string(root.path().join("study/study.json")).unwrap());
}

#[test]
fn scenes_become_files() {
    let root = tempfile::tempdir().unwrap();
    for (line, classes) in
        [("scenes --out set --count 30", 12), ("scenes --out flat --count 30 --flat --shift noise=0.2 --domain source", 0)]
    {
        let output = lafter(root.path(), line).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let set = Dataset::open(root.path().join(line.split(' ').nth(2).unwrap())).unwrap();
        assert_eq!((set.len(), set.classes().len()), (30, classes));
    }
    let scenes = Scenes::new(Domain::Target, 30, 7777);
    let first = root.path().join("set").join(&class_names()[scenes.label(0).unwrap()]).join("00.png");
    assert_eq!(lafter::data::decode::decode_file(first).unwrap(), scenes.image(0).unwrap());
    for (line, words) in [
        ("scenes --out set", "not empty"),
        ("scenes --out new --shift fog=1", "clutter"),
        ("scenes --out new --shift noise=x", "number"),
        ("scenes --out new --shift noise=-3", "noise must be 0 to 1, got -3"),
        ("scenes --out new --shift noise=1e39", "noise must be 0 to 1"),
        ("scenes --out new --shift contrast=[5,1]", "the smaller first, got [5.0,1.0]"),
        ("scenes --out new --shift clutter=100000000", "clutter must be 0 to 1000"),
        ("scenes --out new --count 0", "--count"),
    ] {
        let output = lafter(root.path(), line).output().unwrap();
        assert!(output.status.code() == Some(2) && text(&output.stderr).contains(words), "{}", text(&output.stderr));
    }
    assert!(!root.path().join("new").exists(), "a folder of what was refused");
}

#[test]
fn without_names_or_pictures_it_says_what_to_give() {
    let root = pictures(Domain::Target, 3);
    std::fs::create_dir(root.path().join("empty")).unwrap();
    std::fs::write(root.path().join("one.txt"), "boat").unwrap();
    for (line, words) in [
        ("run --model demo --train photos --classes one.txt", "at least two names"),
        ("run --model demo --train photos", "--classes"),
        ("run --model demo --train empty --classes names.txt", "empty"),
        ("ablate --model demo --train photos --vary text.noise=0,1", "--classes"),
    ] {
        let output = lafter(root.path(), line).output().unwrap();
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains(words), "{line}: {said}");
        assert_eq!(said.lines().filter(|line| line.starts_with("error")).count(), 1, "{said}");
    }
}

fn short(train: Dataset) -> Experiment {
    let mut run = Experiment::new(Clip::demo().unwrap(), scenes::text_set().unwrap(), train, None);
    run.config = LafterConfig::new(Preset::Demo);
    (run.config.text.epochs, run.config.tune.epochs) = (60, 3);
    run
}

#[test]
fn labels_of_other_classes_are_refused() {
    let (train, test) = scenes::demo_sets(3);
    let mut names: Vec<String> = test.classes().to_vec();
    names.swap(0, 1);
    let other = test.with_classes(&lafter::describe::ClassNames::new(&names).unwrap()).unwrap().take(8);
    let mut run = short(train.take(8));
    run.test = Some(other.clone());
    let error = run.run(|_| {}).unwrap_err().to_string();
    assert!(error.contains("the test set calls class 0"), "{error}");
    let error = short(other.clone()).run(|_| {}).unwrap_err().to_string();
    assert!(error.contains("the training set calls class 0"), "{error}");
    let lafter = LaFTer::new(Clip::demo().unwrap(), test.classes());
    assert!(lafter.evaluate(&other, |_| {}).unwrap_err().to_string().contains("the test set calls class 0"));
}

/// Nine of ten pictures show one class: that is so before tuning, too, and no reason for an alarm.
#[test]
fn a_truly_unbalanced_set_gives_no_false_alarm() {
    let all = Dataset::new(Scenes::new(Domain::Source, 1200, 4));
    let of_first: Vec<usize> = (0..1200).filter(|i| all.label(*i) == Some(0)).take(90).collect();
    let others: Vec<usize> = (0..1200).filter(|i| all.label(*i) != Some(0)).take(of_first.len() / 9).collect();
    let train = all.subset(&[of_first, others].concat()).unwrap().unlabeled();
    let mut said = Vec::new();
    short(train)
        .run(|event| {
            if let Event::Notice(notice) = event {
                said.push(notice.clone());
            }
        })
        .unwrap();
    assert!(
        !said.iter().any(|notice| notice.contains("tuning is losing") || notice.contains("crowd") || notice.contains("collapse")),
        "{said:?}"
    );
}

/// Pictures that are all alike say nothing, so nothing is better than not to tune; names given twice are told.
#[test]
fn odd_sets_end_well() {
    let scenes = Dataset::new(Scenes::new(Domain::Source, 12, 4));
    let out = tempfile::tempdir().unwrap();
    let mut run = short(scenes.subset(&[3; 40]).unwrap().unlabeled());
    (run.out, run.table) = (Some(out.path().into()), TableFormat::JsonLines);
    run.run(progress::silent).unwrap();
    let files = || ["lafter.safetensors", "predictions.jsonl", "predictions.csv"].map(|name| out.path().join(name).exists());
    assert_eq!(files(), [true, true, false]);
    (run.select, run.resume, run.table) = (Select::Signals, true, TableFormat::Csv);
    let selection = run.run(progress::silent).unwrap().report.selection.unwrap();
    assert_eq!((selection.selected, selection.start.classes_named, selection.mean_selected), (0, 1, false), "{selection:?}");
    assert_eq!(files(), [true, false, true], "the table of the result before is gone");
    let one = Experiment { out: Some(out.path().into()), table: TableFormat::JsonLines, ..short(scenes.take(1).unlabeled()) };
    let mut said = Vec::new();
    let outcome = one.run(|event| {
        if let Event::Notice(notice) = event {
            said.push(notice.clone());
        }
    });
    assert_eq!(outcome.unwrap().predicted.unwrap().counts.iter().sum::<usize>(), 1);
    assert!(!said.iter().any(|notice| notice.contains("watched")), "of one picture 100 % get the same answer: {said:?}");
    assert_eq!(std::fs::read_to_string(out.path().join("predictions.jsonl")).unwrap().lines().count(), 1);
}

/// A learning rate that ruins the tower: the run says so, and the signals keep what was before.
#[test]
fn a_collapse_is_told_and_not_taken() {
    let mut run = short(Dataset::new(Scenes::new(Domain::Target, 300, 6)).unlabeled());
    run.config.tune.learning_rate = 0.2;
    run.select = Select::Signals;
    let mut said = Vec::new();
    let outcome = run.run(|event| {
        if let Event::Notice(notice) = event {
            said.push(notice.clone());
        }
    });
    let outcome = outcome.unwrap();
    assert!(said.iter().any(|notice| notice.contains("classes")), "{said:?}");
    let selection = outcome.report.selection.unwrap();
    assert_eq!((selection.selected, outcome.lafter.tuned().unwrap().prompts.count()), (0, 0), "{selection:?}");
}

/// What is selected in the middle survives a resumed run, and the weights are those of that epoch.
#[test]
fn the_selected_epoch_is_the_one_that_is_saved() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = short(Dataset::new(Scenes::new(Domain::Target, 200, 6)).unlabeled());
    (run.select, run.out) = (Select::Signals, Some(folder.path().join("out")));
    let outcome = run.run(progress::silent).unwrap();
    let selection = outcome.report.selection.clone().unwrap();
    let tuned = selection.selected > 0;
    if tuned {
        // a run that ends there has the same weights
        let mut shorter = Experiment { out: Some(folder.path().join("shorter")), ..run.clone() };
        shorter.config.tune.epochs = selection.selected;
        shorter.run(progress::silent).unwrap();
        let tensors = |name: &str| {
            lafter::clip::read_tensors(folder.path().join(name).join("lafter.safetensors"), &candle_core::Device::Cpu).unwrap().0
        };
        let (a, b) = (tensors("out"), tensors("shorter"));
        assert_eq!(a.len(), b.len());
        for (name, tensor) in a {
            let flat = |tensor: &candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(flat(&tensor), flat(&b[&name]), "{name}");
        }
    }
}

/// The mean of zero-shot and the text classifier is a result like a tuned tower: the untuned one with a head of its own.
#[test]
fn the_mean_of_both_answers_through_the_untuned_tower() {
    let clip = Clip::demo().unwrap();
    let texts = scenes::text_set().unwrap();
    let zero_shot = ZeroShotClassifier::fit(&clip, texts.classes(), &Templates::single()).unwrap();
    let text = TextClassifier { head: Head::linear(clip.config().projection, 12, &mut Rng::new(3), clip.device()).unwrap() };
    let pixels = {
        let scenes = Scenes::new(Domain::Target, 6, 5);
        let pictures: Vec<_> = (0..6).map(|i| scenes.image(i).unwrap()).collect();
        clip.preprocess().batch(&pictures, clip.device()).unwrap()
    };
    let features = clip.encode_image(&pixels).unwrap();
    let mean = text.mean_with(&zero_shot, &features).unwrap().unwrap();
    let (vision, prompts) = (clip.vision().clone(), VisualPrompts::none());
    let tuned = Tuned { vision, prompts, head: mean.head.clone(), normalize: true };
    let difference = (tuned.logits(&pixels).unwrap() - mean.logits(&features).unwrap()).unwrap();
    assert!(difference.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() < 1e-3);
}
