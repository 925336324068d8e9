//! Ablations: finished runs are kept, shards join to the whole, broken grids are refused before anything runs.

use std::path::{Path, PathBuf};

use lafter::ablate::{Ablation, Shard, TextSource};
use lafter::clip::Clip;
use lafter::data::{Dataset, scenes};
use lafter::describe::ClassNames;
use lafter::embed::FeatureCache;
use lafter::error::Result;
use lafter::eval::Report;
use lafter::experiment::Experiment;
use lafter::progress::{Event, silent};

/// Two noises × two numbers of prompts × two seeds on a few of the demo's pictures.
fn grid() -> Ablation {
    let mut base = Experiment::demo(Clip::demo().unwrap(), 1).unwrap();
    (base.train, base.test) = (base.train.take(20), base.test.map(|test| test.take(24)));
    (base.config.text.epochs, base.config.tune.epochs) = (10, 1);
    Ablation::new(base)
        .vary("noise", [0.0, 0.5], |config, noise| config.text.noise = noise)
        .vary("prompts", [0, 2], |config, prompts| config.tune.prompts = prompts)
        .seeds(2)
}

/// Runs a grid and counts the runs that were not done before.
fn count_runs(grid: &Ablation) -> Result<usize> {
    let (mut kept, mut last) = (0, 0);
    grid.run(|event| match event {
        Event::Advanced { done, .. } => last = *done,
        Event::Notice(text) => kept = text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(kept),
        _ => {}
    })?;
    Ok(last - kept)
}

fn reports(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("runs")).unwrap().filter(|run| run.as_ref().unwrap().path().join("report.json").exists()).count()
}

#[test]
fn a_grid_has_a_row_a_setting_with_mean_spread_and_count() {
    let study = grid().run(silent).unwrap();
    assert_eq!((study.rows.len(), study.missing), (4, 0));
    assert_eq!(study.rows[1].levels, ["0", "2"]);
    for row in &study.rows {
        let lafter = row.lafter.unwrap();
        assert!(lafter.n == 2 && lafter.std.is_some() && (0.0..=100.0).contains(&lafter.mean));
        assert_eq!(row.seeds, [1, 2]);
    }
    // the text classifier knows nothing of prompts
    assert_eq!(study.rows[0].text_classifier, study.rows[1].text_classifier);
    assert_ne!(study.rows[0].text_classifier, study.rows[2].text_classifier);
    assert!(study.to_string().contains("±"));
}

#[test]
fn finished_runs_are_kept_and_jobs_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let once = grid().run(silent).unwrap();
    let kept = grid().out(folder.path()).jobs(3);
    assert_eq!(count_runs(&kept).unwrap(), 8);
    assert_eq!(count_runs(&kept).unwrap(), 0);
    assert_eq!(kept.run(silent).unwrap(), once);
    // a grid that grows runs what is new
    let grown = grid().seeds(3).out(folder.path());
    assert_eq!(count_runs(&grown).unwrap(), 4);
    let study = grown.collect().unwrap();
    study.save(folder.path()).unwrap();
    for name in ["table.txt", "table.md", "table.tex", "table.csv", "study.json", "study.svg"] {
        assert!(folder.path().join(name).exists(), "{name}");
    }
    // the CSV carries the numbers, not the words of the table
    let csv = std::fs::read_to_string(folder.path().join("table.csv")).unwrap();
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    assert_eq!(lines.next().unwrap()[..4], ["noise", "prompts", "zero_shot_mean", "zero_shot_std"]);
    for (line, row) in lines.zip(&study.rows) {
        let lafter = row.lafter.unwrap();
        assert_eq!((line[6].parse::<f64>().unwrap(), line[7].parse::<f64>().ok(), *line.last().unwrap()), (lafter.mean, lafter.std, "3"));
    }
}

#[test]
fn shards_join_to_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    assert!(grid().out(folder.path()).collect().unwrap_err().to_string().contains("run it first"));
    let part = |index| grid().out(folder.path()).shard(Shard { index, count: 3 });
    assert_eq!(count_runs(&part(2)).unwrap(), 3);
    let study = part(1).collect().unwrap();
    study.save(folder.path()).unwrap();
    assert_eq!(study.missing, 5);
    assert!(study.figure("Ablation").unwrap().title().contains("3 of 4 settings, 5 runs missing"));
    assert!(std::fs::read_to_string(folder.path().join("table.txt")).unwrap().contains("5 runs of the grid are not done yet"));
    // a ninth shard of eight runs has nothing to do, and may be the first to be done
    let idle = grid().out(folder.path().join("idle")).shard(Shard { index: 9, count: 9 });
    assert_eq!(count_runs(&idle).unwrap(), 0);
    let study = idle.run(silent).unwrap();
    study.save(folder.path().join("idle")).unwrap();
    assert_eq!((study.missing, folder.path().join("idle/study.svg").exists()), (8, false));
    assert_eq!(count_runs(&part(1)).unwrap() + count_runs(&part(3)).unwrap(), 5);
    assert_eq!(reports(folder.path()), 8);
    assert_eq!(grid().out(folder.path()).collect().unwrap(), grid().run(silent).unwrap());
}

#[test]
fn the_table_of_a_shard_has_what_others_did_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let part = |index| grid().out(folder.path()).shard(Shard { index, count: 2 });
    let study = part(1).run(|event| {
        if let Event::Started { .. } = event {
            part(2).run(silent).unwrap();
        }
    });
    assert_eq!(study.unwrap().missing, 0);
}

#[test]
fn a_run_that_cannot_go_on_from_its_checkpoint_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut base = Experiment::demo(Clip::demo().unwrap(), 1).unwrap();
    (base.train, base.test) = (base.train.take(20), base.test.map(|test| test.take(24)));
    (base.config.text.epochs, base.config.tune.epochs) = (10, 1);
    let grid = Ablation::new(base).seeds(2).out(folder.path());
    let study = grid.run(silent).unwrap();
    let runs: Vec<PathBuf> = std::fs::read_dir(folder.path().join("runs")).unwrap().map(|run| run.unwrap().path()).collect();
    // one of other bits, as another processor gives them, and a damaged one
    let checkpoint = |run: &Path| run.join("checkpoint.safetensors");
    std::fs::copy(checkpoint(&runs[0]), checkpoint(&runs[1])).unwrap();
    std::fs::write(checkpoint(&runs[0]), "damaged").unwrap();
    runs.iter().for_each(|run| std::fs::remove_file(run.join("report.json")).unwrap());
    assert_eq!(grid.run(silent).unwrap(), study);
    assert!(runs.len() == 2 && runs.iter().all(|run| checkpoint(&run.join("previous")).exists()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_that_another_process_is_at_is_left_to_that_one_and_looked_at_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut base = Experiment::demo(Clip::demo().unwrap(), 1).unwrap();
    (base.train, base.test) = (base.train.take(20), base.test.map(|test| test.take(24)));
    (base.config.text.epochs, base.config.tune.epochs) = (10, 0);
    for jobs in [1, 2] {
        let grid = Ablation::new(base.clone()).seeds(2).jobs(jobs).out(folder.path());
        let whole = grid.run(silent).unwrap();
        let run = |seed: usize| {
            let runs = std::fs::read_dir(folder.path().join("runs")).unwrap().map(|run| run.unwrap().path());
            runs.into_iter().find(|run| run.file_name().unwrap().to_string_lossy().starts_with(&format!("seed={seed}-"))).unwrap()
        };
        let unfinish = || {
            [1, 2].iter().for_each(|seed| std::fs::remove_file(run(*seed).join("report.json")).unwrap());
            let folder = std::fs::File::open(run(1)).unwrap();
            folder.try_lock().unwrap();
            folder
        };
        let (other, mut told) = (unfinish(), 0);
        let study =
            grid.run(|event| told += usize::from(matches!(event, Event::Notice(text) if text.contains("another process")))).unwrap();
        assert_eq!((study.failed.len(), study.missing, told), (0, 1, 1));
        drop(other);
        assert_eq!(grid.run(silent).unwrap(), whole);
        let mut other = Some(unfinish());
        let study = grid.run(|event| drop(other.take_if(|_| matches!(event, Event::Advanced { done: 1, .. }))));
        assert_eq!(study.unwrap(), whole);
    }
}

#[test]
fn a_process_of_a_launcher_runs_its_share_and_says_what_fails() {
    let run = |rank: &str, more: &str| {
        let mut command = crate::common::program();
        command.args(["ablate", "--model", "demo", "--vary", "text.noise=0,0.1", "--seeds", "1"]).args(more.split_whitespace());
        let output = command.env("PMI_SIZE", "2").env("PMI_RANK", rank).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said, _) = run("1", "--shard 2/2 --dry-run");
    assert!(code == Some(0) && said == "text.noise=0.1 seed=7777\n1 run of 2\n", "{said}");
    let (code, _, said) = run("1", "--shard 2/2 --train nowhere");
    assert!(code != Some(0) && said.contains("error: ") && said.contains("nowhere"), "{said}");
    let (code, said, note) = run("0", "--dry-run");
    assert!(code == Some(0) && said.ends_with("2 runs of 2\n") && note.contains("the first of 2 does it alone"), "{said}{note}");
    assert_eq!(run("1", "--dry-run"), (Some(0), String::new(), String::new()));
    let (code, _, said) = run("0", "");
    assert!(code == Some(2) && said.contains("--shard I/N"), "{said}");
}

#[test]
fn a_task_of_an_array_says_its_share() {
    for (numbers, says) in
        [(["3", "1", "16", "16"], "shard 3/16, by SLURM_ARRAY_TASK_ID=3"), (["3", "3", "3", "1"], "takes the whole grid")]
    {
        let mut command = crate::common::program();
        command.args(["ablate", "--model", "demo", "--vary", "text.noise=0,0.1", "--dry-run"]);
        for (name, number) in ["ID", "MIN", "MAX", "COUNT"].iter().zip(numbers) {
            command.env(format!("SLURM_ARRAY_TASK_{name}"), number);
        }
        let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn pictures_by_another_path_are_the_same_runs() {
    let folder = tempfile::tempdir().unwrap();
    let mut base = run_on_files(folder.path());
    base.config.tune.epochs = 0;
    let grid = |base: &Experiment| Ablation::new(base.clone()).out(folder.path().join("out"));
    assert_eq!(count_runs(&grid(&base)).unwrap(), 1);
    let by = |set: &Dataset, name: &str| {
        let classes = ClassNames::new(set.classes()).unwrap();
        Dataset::open(folder.path().join("train/..").join(name)).unwrap().with_classes(&classes).unwrap()
    };
    let other = Experiment { train: by(&base.train, "train"), test: base.test.as_ref().map(|test| by(test, "test")), ..base.clone() };
    assert_ne!(other.train.origin(), base.train.origin());
    assert_eq!(count_runs(&grid(&other)).unwrap(), 0);
    assert_eq!(grid(&other).collect().unwrap().missing, 0);
}

#[cfg(unix)]
#[test]
fn a_run_goes_on_without_a_copy_of_its_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let ablate = || {
        let small = "--limit-train 4 --limit-test 6 --batch-size 4 --text-epochs 1 --epochs 1 --prompts 2 --seeds 1 --vary text.noise=0.1";
        let mut command = crate::common::program();
        command.args(["ablate", "--model", "demo"]).args(small.split(' ')).arg("--cache").arg(at("cache")).arg("--out").arg(at("out"));
        let output = command.env("TMPDIR", at("missing")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    ablate();
    for run in std::fs::read_dir(at("out/runs")).unwrap() {
        std::fs::remove_file(run.unwrap().path().join("report.json")).unwrap();
    }
    ablate();
    assert_eq!(reports(&at("out")), 1);
}

#[test]
fn a_run_that_fails_stops_no_other_and_is_named() {
    let grid = |images: &[&'static str]| {
        grid().vary_experiment("images", images.to_vec(), |experiment, images| {
            if images == "none" {
                experiment.train = experiment.train.take(0);
            }
            Ok(())
        })
    };
    let error = grid(&["none"]).run(silent).unwrap_err().to_string();
    assert!(error.contains("images=none") && error.lines().count() == 1, "{error}");
    for jobs in [1, 2] {
        let mut told = false;
        let study = grid(&["none", "all"]).jobs(jobs).run(|event| {
            told |= matches!(event, Event::Notice(text) if text.contains("images=none") && text.ends_with("the other runs go on"));
        });
        let study = study.unwrap();
        assert!(told && study.failed.len() == study.missing && study.failed[0].contains("images=none"), "{study:?}");
        assert!(study.rows.iter().any(|row| row.lafter.is_some()));
    }
}

#[test]
fn what_stands_twice_is_refused_before_anything_runs() {
    let noise = |values: [f32; 2]| grid().vary("text noise", values, |config, noise| config.text.noise = noise);
    for (grid, says) in [
        (noise([0.1, 0.1]), "text noise=0.1 stands twice"),
        (noise([0.1, 0.2]).vary("noise", [3], |config, prompts| config.tune.prompts = prompts), "the factor noise stands twice"),
        (grid().vary("empty", [0usize; 0], |config, prompts| config.tune.prompts = prompts), "no level"),
    ] {
        let error = grid.cells().unwrap_err().to_string();
        assert!(error.contains(says) && error.lines().count() == 1, "{error}");
        assert!(grid.run(silent).is_err());
    }
}

#[test]
fn a_setting_without_an_image_stage_has_its_bar_too() {
    let study = grid().vary("image epochs", [0, 1], |config, epochs| config.tune.epochs = epochs).run(silent).unwrap();
    assert!(study.rows.iter().any(|row| row.lafter.is_none()));
    let figure = study.figure("Ablation").unwrap();
    assert_eq!(figure.svg().matches("class=\"bar\"").count(), study.rows.len());
    assert!(figure.title().contains("image epochs") && figure.svg().contains("last stage that ran"));
}

#[test]
fn a_preset_comes_first_and_labels_are_what_runs() {
    let base = Experiment::demo(Clip::demo().unwrap(), 1).unwrap();
    // 16 epochs are the demo's own: they are the user's all the same
    let grid = Ablation::new(base)
        .vary_experiment("tune.epochs", ["16", "5"], |experiment, value| experiment.config.set("tune.epochs", value))
        .vary_experiment("preset", ["demo", "official"], |experiment, value| experiment.config.set("preset", value));
    let cells = grid.cells().unwrap();
    assert_eq!(cells.iter().map(|cell| cell.name()).collect::<Vec<_>>()[1], "tune.epochs=16 preset=official seed=1");
    for cell in &cells {
        assert_eq!(cell.experiment.config.tune.epochs.to_string(), cell.settings[0].1);
        assert_eq!(cell.experiment.config.tune.prompts, if cell.settings[1].1 == "demo" { 2 } else { 50 });
    }
    // the same on the command line, with an option in place of a factor
    let folder = tempfile::tempdir().unwrap();
    let small =
        ["--limit-train", "4", "--limit-test", "6", "--batch-size", "4", "--set", "text.epochs=1", "--prompts", "2", "--eval-every", "0"];
    let mut command = crate::common::program();
    command.args(["ablate", "--model", "demo", "--epochs", "16", "--seeds", "1", "--vary", "preset=demo,official"]).args(small);
    let output = command.arg("--out").arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let epochs = |run: std::fs::DirEntry| {
        let report = std::fs::read_to_string(run.path().join("report.json")).unwrap();
        let config = &serde_json::from_str::<serde_json::Value>(&report).unwrap()["config"];
        (config["tune"]["epochs"].as_u64(), config["text"]["epochs"].as_u64())
    };
    let runs: Vec<_> = std::fs::read_dir(folder.path().join("runs")).unwrap().map(|run| epochs(run.unwrap())).collect();
    assert_eq!(runs, [(Some(16), Some(1)); 2]);
}

#[test]
fn other_pictures_are_other_runs_and_impossible_reports_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let grid = |from: usize| {
        let mut base = Experiment::demo(Clip::demo().unwrap(), 1).unwrap();
        let subset = |set: &Dataset, n: usize| set.subset(&(from..from + n).collect::<Vec<_>>()).unwrap();
        (base.train, base.test) = (subset(&base.train, 8), base.test.as_ref().map(|test| subset(test, 24)));
        (base.config.text.epochs, base.config.tune.epochs) = (5, 0);
        Ablation::new(base).out(folder.path())
    };
    assert_eq!((count_runs(&grid(0)).unwrap(), count_runs(&grid(0)).unwrap()), (1, 0));
    assert_eq!(count_runs(&grid(24)).unwrap(), 1, "as many pictures of the same origin, but others");
    for run in std::fs::read_dir(folder.path().join("runs")).unwrap() {
        let path = run.unwrap().path().join("report.json");
        let mut report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        report["text_classifier"]["top1"] = 4294967295u32.into();
        std::fs::write(&path, report.to_string()).unwrap();
    }
    assert!(grid(0).collect().is_err());
    assert_eq!(count_runs(&grid(0)).unwrap(), 1);
}

#[test]
fn what_runs_share_changes_no_bit() {
    let cells = grid().cells().unwrap();
    let study = grid().run(silent).unwrap();
    for (cell, row) in cells.iter().step_by(2).zip(&study.rows) {
        let report = cell.experiment.run(silent).unwrap().report;
        let other = cells[cells.iter().position(|c| c.name() == cell.name()).unwrap() + 1].experiment.run(silent).unwrap().report;
        let mean = (report.lafter.unwrap().evaluation.top1 + other.lafter.unwrap().evaluation.top1) / 2.0;
        assert_eq!(row.lafter.unwrap().mean, mean, "{}", cell.name());
    }
}

/// A short run on pictures in files, with a cache.
fn run_on_files(folder: &Path) -> Experiment {
    let write = |name: &str, set: Dataset| {
        for index in 0..set.len() {
            let class = folder.join(name).join(&scenes::class_names()[set.label(index).unwrap()]);
            std::fs::create_dir_all(&class).unwrap();
            set.image(index).unwrap().save(class.join(format!("{index:02}.png"))).unwrap();
        }
        Dataset::open(folder.join(name)).unwrap().with_classes(&ClassNames::new(scenes::class_names()).unwrap()).unwrap()
    };
    let (train, test) = scenes::demo_sets(2);
    let (train, test) = (write("train", train.take(24)), write("test", test.take(24)));
    let demo = Experiment::demo(Clip::demo().unwrap(), 1).unwrap();
    let mut base = Experiment { predictions: false, ..Experiment::new(demo.clip, demo.texts, train, test) };
    base.config = demo.config;
    (base.config.text.epochs, base.config.text.hold_out, base.config.tune.epochs) = (10, 0.2, 1);
    base.cache = Some(FeatureCache::new(folder.join("cache")));
    base
}

/// Of what may be known from other runs, what this one computed; and its report.
fn computed(run: &Experiment) -> (Vec<&'static str>, Report) {
    const ONCE: [&str; 4] = ["test features", "embedding texts", "text classifier", "signals"];
    let mut stages = Vec::new();
    let outcome = run.run(|event| {
        if let Event::Started { stage, total: 1.., .. } = event {
            stages.extend(ONCE.iter().find(|once| **once == stage.to_string()));
        }
    });
    (stages, outcome.unwrap().report.without_timing())
}

#[test]
fn features_and_heads_are_computed_once_for_all_runs_over_a_cache() {
    let folder = tempfile::tempdir().unwrap();
    let base = run_on_files(folder.path());
    let (all, report) = computed(&base);
    assert_eq!(all, ["test features", "embedding texts", "text classifier", "signals"]);
    // the same again, and with another number of prompts: nothing, and the bits of a run without a cache
    let mut other = base.clone();
    other.config.tune.prompts = 0;
    assert_eq!(computed(&base), (vec![], report));
    let (none, report) = computed(&other);
    assert_eq!((none, &report), (vec![], &computed(&Experiment { cache: None, ..other }).1));
    assert!(report.lafter.unwrap().history[0].signals.unwrap().texts_right.is_some(), "texts kept out are found again");
    // another noise or seed is another head on the same features; other texts need features of their own
    let mut noisier = base.clone();
    noisier.config.text.noise += 0.25;
    let mut seed = base.clone();
    seed.config.seed += 1;
    for run in [&noisier, &seed] {
        assert_eq!(computed(run).0, ["text classifier"]);
        assert!(computed(run).0.is_empty());
    }
    let mut names = base.clone();
    TextSource::RandomWords.apply(&mut names).unwrap();
    assert_eq!(computed(&names).0, ["embedding texts", "text classifier"]);
    // other pictures: one file of the test set is replaced, the training set is another part
    let fewer = Experiment { train: base.train.take(20), ..base.clone() };
    assert_eq!(computed(&fewer).0, ["signals"]);
    // also one of the same size, none of those that a hash decodes
    let file = base.test.as_ref().unwrap().name(1);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(computed(&base).0, ["test features"]);
    // one that cannot be read now may be readable the next time
    std::fs::write(&file, "no picture").unwrap();
    assert_eq!((computed(&base).0, computed(&base).0), (vec!["test features"], vec!["test features"]));
    image::RgbImage::new(9, 9).save(&file).unwrap();
    assert_eq!((computed(&base).0, computed(&base).0), (vec!["test features"], vec![]));
}

#[test]
fn shards_and_later_grids_train_no_head_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut base = run_on_files(folder.path());
    (base.config.text.epochs, base.config.tune.epochs) = (2, 0);
    let grid = |out: &str| {
        Ablation::new(base.clone())
            .vary("noise", [0.0, 0.5], |config, noise| config.text.noise = noise)
            .vary("prompts", [0, 2], |config, prompts| config.tune.prompts = prompts)
            .seeds(2)
            .out(folder.path().join(out))
    };
    let kept = || {
        let files = std::fs::read_dir(folder.path().join("cache/once")).unwrap().map(|entry| entry.unwrap());
        let mut files: Vec<_> = files.map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap())).collect();
        files.sort();
        files
    };
    std::thread::scope(|scope| {
        for index in 1..=2 {
            let part = grid("shards").shard(Shard { index, count: 2 });
            scope.spawn(move || part.run(silent).unwrap());
        }
    });
    let first = kept();
    let heads = first.iter().filter(|(name, _)| name.to_string_lossy().starts_with("text-classifier")).count();
    assert_eq!((heads, first.len()), (4, 6), "a head a noise and seed, zero-shot and the test features once");
    let study = grid("later").run(silent).unwrap();
    assert_eq!((study, kept()), (grid("shards").collect().unwrap(), first));
}
