//! What runs leave behind: LaFTer weights, checkpoints, cached text features, the folder of a run.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use lafter::classify::{TextClassifierConfig, TextTrainer};
use lafter::clip::{Clip, save_tensors};
use lafter::data::Dataset;
use lafter::data::scenes::{Domain, Scenes};
use lafter::describe::{Templates, TextSet};
use lafter::embed::{self, FeatureCache, Keep, Pass};
use lafter::experiment::Experiment;
use lafter::export::from_released;
use lafter::predictions::{Partial, PredictionRow, read_two_best};
use lafter::progress::silent;
use lafter::rng::Rng;
use lafter::tune::{Bank, FinetuneConfig, Run};
use lafter::{LaFTer, LafterConfig, Preset, Result};

use crate::models::{assert_finite, clip, picture};
use crate::{Form, Loader, fixture, root};

const CLASSES: [&str; 3] = ["house", "fish", "boat"];
/// Those of the released code's state.
const RELEASED: [&str; 5] = ["fish", "house", "boat", "tree", "cup"];

fn pictures() -> Dataset {
    Dataset::new(Scenes::new(Domain::Target, 6, 1))
}

/// Stage one done, a tuning of two epochs ahead.
fn begun() -> LaFTer {
    let mut lafter = LaFTer::new(clip().clone(), &CLASSES);
    lafter.config.text = TextClassifierConfig { epochs: 2, ..TextClassifierConfig::official() };
    lafter.config.tune = FinetuneConfig { epochs: 2, batch_size: 3, prompts: 2, ..FinetuneConfig::official() };
    lafter.fit_text(&TextSet::new(&CLASSES).expect("classes").with_templates(&Templates::clip_ensemble())).expect("stage one");
    lafter
}

fn bytes(name: &str, save: impl FnOnce(&Path) -> Result<()>) -> Vec<u8> {
    let path = root().join(name);
    save(&path).expect("a file in target");
    std::fs::read(&path).expect("what was saved")
}

#[test]
fn lafter_file() {
    let mut lafter = begun();
    lafter.fit_images(&pictures().unlabeled(), |_| {}).expect("stage two");
    let seed = bytes("lafter-seed.safetensors", |path| lafter.save(path));
    let loader =
        Loader { name: "lafter_file", inputs: 300, file: "lafter.safetensors", form: Form::Safetensors, seeds: vec![seed], others: vec![] };
    loader.check(|folder| {
        let lafter = LaFTer::load(folder.join("lafter.safetensors"), clip().clone())?;
        for answer in lafter.predict(&[picture()])? {
            let sum: f32 = answer.probabilities.iter().sum();
            assert!(answer.probabilities.len() == lafter.classes().len() && (sum - 1.0).abs() < 1e-3, "no probabilities");
            assert!(lafter.classes().get(answer.index) == Some(&answer.class), "no class");
        }
        Ok(())
    });
}

fn rate(rate: f64) {
    assert!((0.0..=100.0).contains(&rate), "no rate: {rate}");
}

#[test]
fn text_checkpoint() {
    let trainer = || {
        let values: Vec<f32> = Rng::new(1).normals(6 * 8, 1.0);
        let features = Tensor::from_vec(values, (6, 8), &Device::Cpu).expect("features");
        let config = TextClassifierConfig { epochs: 3, batch_size: Some(2), ..TextClassifierConfig::official() };
        TextTrainer::new(&features, &[0, 0, 1, 1, 2, 2], config, &mut Rng::new(2)).expect("a trainer")
    };
    let mut begun = trainer();
    begun.epoch().expect("an epoch");
    let seed = bytes("text-checkpoint-seed.safetensors", |path| begun.checkpoint(path));
    let loader = Loader {
        name: "text_checkpoint",
        inputs: 400,
        file: "checkpoint.safetensors",
        form: Form::Safetensors,
        seeds: vec![seed],
        others: vec![],
    };
    loader.check(|folder| {
        let mut trainer = trainer();
        trainer.resume(folder.join("checkpoint.safetensors"))?;
        trainer.fit(silent)?;
        assert!(trainer.history().iter().map(|epoch| epoch.epoch).eq(1..=3), "other epochs than three");
        trainer.history().iter().for_each(|epoch| rate(f64::from(epoch.accuracy)));
        assert!(trainer.history().iter().all(|epoch| epoch.loss.is_finite()), "a loss that is not finite");
        Ok(())
    });
}

#[test]
fn tuning_checkpoint() {
    tuning("tuning_checkpoint", &begun(), 200);
}

fn tuning(name: &'static str, lafter: &LaFTer, inputs: usize) {
    let run = || Run::new(lafter.finetuner().expect("a tuner"));
    let mut first = run();
    first.fit_epoch(&pictures(), |_| {}).expect("an epoch");
    let seed = bytes(&format!("{name}-seed.safetensors"), |path| first.checkpoint(path));
    let loader = Loader { name, inputs, file: "checkpoint.safetensors", form: Form::Safetensors, seeds: vec![seed], others: vec![] };
    loader.check(|folder| {
        let mut run = run();
        run.resume(folder.join("checkpoint.safetensors"))?;
        run.fit(&pictures(), |_| {})?;
        assert!(run.history().iter().map(|epoch| epoch.epoch).eq(1..=2), "other epochs than two");
        for epoch in run.history() {
            [Some(epoch.agreement), Some(epoch.confidence), epoch.pseudo_label_accuracy, epoch.test_top1]
                .into_iter()
                .flatten()
                .for_each(rate);
            assert!(epoch.loss.is_finite() && epoch.steps == 2 && epoch.images == 6, "no epoch of six pictures");
        }
        Ok(())
    });
}

/// A run of DPA: the blocks' memory is part of the checkpoint.
#[test]
fn blocks_checkpoint() {
    let mut lafter = begun();
    let dpa = LafterConfig::new(Preset::Dpa(None)).tune;
    lafter.config.tune = FinetuneConfig { epochs: 2, batch_size: 3, prompts: 2, ..dpa };
    tuning("blocks_checkpoint", &lafter, 100);
}

/// Answers of another encoder.
#[test]
fn stored_answers() {
    let names: Vec<String> = (0..4).map(|picture| format!("photos/{picture}.png")).collect();
    let classes: Vec<String> = CLASSES.map(String::from).to_vec();
    let rows = Tensor::from_vec(Rng::new(3).normals(4 * 3, 1.0), (4, 3), &Device::Cpu).expect("rows");
    let seed = |tensor: &'static str| {
        let metadata = HashMap::from([
            ("names".to_string(), serde_json::json!(names).to_string()),
            ("classes".to_string(), serde_json::json!(classes).to_string()),
        ]);
        bytes(tensor, |path| save_tensors(path, &[(tensor.to_string(), rows.clone())], metadata.clone()))
    };
    let seeds = vec![seed("logits"), seed("features")];
    let loader = Loader { name: "stored_answers", inputs: 400, file: "bank.safetensors", form: Form::Safetensors, seeds, others: vec![] };
    loader.check(|folder| {
        let bank = Bank::read(folder.join("bank.safetensors"))?;
        let pictures = pictures();
        for answers in [bank.answers(&pictures, 3), bank.features(&pictures)].into_iter().flatten() {
            assert_finite(&answers.0, "answers")?;
        }
        Ok(())
    });
}

/// The two best classes of a table of answers.
#[test]
fn prediction_table() {
    let csv = "picture,class,probability,runner_up,margin,zero_shot,text_classifier,changed\n\
               a.png,house,0.9,fish,0.8,house,,\n\"b,\"\"c.png\",fish,0.5,\"boat, red\",0.1,,fish,false\n";
    let json = r#"{"index":0,"picture":"a.png","class":"house","probability":0.9,"runner_up":"fish","margin":0.8,"zero_shot":null,"text_classifier":null,"changed":null}"#;
    for (name, file, form, seed) in
        [("prediction_csv", "table.csv", Form::Lines, csv), ("prediction_jsonl", "table.jsonl", Form::JsonLines, json)]
    {
        let loader = Loader { name, inputs: 400, file, form, seeds: vec![seed.as_bytes().to_vec()], others: vec![] };
        loader.check(|folder| {
            for row in read_two_best(folder.join(file))? {
                assert!(!row.class.is_empty() && (0.0..=1.0).contains(&row.margin), "no answer");
            }
            Ok(())
        });
    }
}

/// What LaFTer's released code trained.
#[test]
fn released_state() {
    let clip = Clip::from_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity/quick")).expect("a fixture");
    let seeds = vec![fixture("pytorch/released.pth")];
    let loader = Loader { name: "released_state", inputs: 200, file: "state.pth", form: Form::Zip, seeds, others: vec![] };
    loader.check(|folder| {
        let lafter = from_released(folder.join("state.pth"), clip.clone(), &RELEASED)?;
        let tuned = lafter.tuned().expect("tuned weights");
        tuned.head.tensors().iter().try_for_each(|(_, tensor)| assert_finite(tensor, "the head"))
    });
}

/// Features from the cache are the features that are computed, to the last bit.
#[test]
fn text_cache() {
    let sentences: Vec<String> = ["a house", "a fish", "a boat by the sea"].map(String::from).to_vec();
    let right = embed::texts(clip(), &sentences, None, silent).expect("features").to_vec2::<f32>().expect("rows");
    let folder = root().join("text-cache-seed");
    let _ = std::fs::remove_dir_all(&folder);
    embed::texts(clip(), &sentences, Some(&FeatureCache::new(&folder)), silent).expect("features");
    let file = std::fs::read_dir(&folder).expect("a cache").flatten().next().expect("a file").path();
    let (name, seed) = (file.file_name().expect("a name").to_string_lossy().into_owned(), std::fs::read(&file).expect("the cache"));
    let loader = Loader { name: "text_cache", inputs: 300, file: &name, form: Form::Safetensors, seeds: vec![seed], others: vec![] };
    loader.check(|folder| {
        let found = embed::texts(clip(), &sentences, Some(&FeatureCache::new(folder)), silent)?.to_vec2::<f32>()?;
        assert!(found == right, "other features than the text tower's");
        Ok(())
    });
}

/// A run that goes on ends with the numbers of one that was never stopped, or is refused.
#[test]
fn run_folder() {
    let experiment = |out: &Path| {
        let texts = TextSet::new(pictures().classes()).expect("classes").with_templates(&Templates::single());
        let mut experiment = Experiment::new(clip().clone(), texts, pictures(), pictures());
        (experiment.config.text.epochs, experiment.config.tune.epochs) = (2, 0);
        (experiment.out, experiment.resume) = (Some(out.into()), out.exists());
        experiment
    };
    let folder = root().join("run-seed");
    let _ = std::fs::remove_dir_all(&folder);
    let right = experiment(&folder).run(silent).expect("a run").report.without_timing();
    let right = serde_json::to_string(&(&right.zero_shot, &right.text_classifier)).expect("a report");
    let file = |name: &'static str| (name, std::fs::read(folder.join(name)).expect("a file of the run"));
    let (seed, others) = (file("images.json").1, vec![file("text-checkpoint.safetensors")]);
    Loader { name: "run_folder", inputs: 60, file: "images.json", form: Form::Json, seeds: vec![seed], others }.check(|folder| {
        let report = experiment(folder).run(silent)?.report;
        let found = serde_json::to_string(&(&report.zero_shot, &report.text_classifier)).expect("a report");
        assert!(found == right, "other numbers");
        Ok(())
    });
}

/// Rows of a pass that was stopped: taken up to the last bit, or computed again.
#[test]
fn partial_predictions() {
    let row = |index: usize| PredictionRow {
        index,
        picture: format!("photos/{index}.jpg"),
        class: CLASSES[index % 3].into(),
        probability: 0.75,
        runner_up: CLASSES[(index + 1) % 3].into(),
        margin: 0.5,
        zero_shot: None,
        text_classifier: Some(CLASSES[0].into()),
        changed: Some(false),
        top: vec![],
    };
    let right: Vec<PredictionRow> = (0..6).map(row).collect();
    let seed = bytes("partial-seed.jsonl", |path| {
        let _ = std::fs::remove_file(path);
        let mut partial = Partial::open(path, "a pass")?;
        right.chunks(2).try_for_each(|rows| partial.add(rows, vec![("torn.jpg".into(), "not an image".into())]))
    });
    let file = "rows.jsonl";
    Loader { name: "partial_predictions", inputs: 300, file, form: Form::JsonLines, seeds: vec![seed], others: vec![] }.check(|folder| {
        let (partial, mut rows) = (Partial::open(&folder.join(file), "a pass")?, Vec::new());
        partial.each(|row| {
            rows.push(row.clone());
            Ok(())
        })?;
        assert!(rows.len() == 2 * partial.batches && right.starts_with(&rows), "other rows than were written");
        Ok(())
    });
}

#[test]
fn partial_rows() {
    let set = pictures();
    let pass = |folder: Option<&Path>| {
        let keep = folder.map(|folder| Keep::new(folder, "features", std::time::Duration::ZERO));
        let pass = Pass { batch_size: 2, keep: keep.as_ref(), ..Pass::new(&set, clip(), "features") };
        pass.run(silent, |pixels| clip().encode_image(pixels))?.rows.to_vec2::<f32>().map_err(Into::into)
    };
    let (right, folder) = (pass(None).expect("rows"), root().join("rows-seed"));
    let _ = std::fs::remove_dir_all(&folder);
    pass(Some(&folder)).expect("rows");
    let seed = std::fs::read(folder.join("rows-000000.safetensors")).expect("the rows of the first batch");
    let file = "rows-000000.safetensors";
    Loader { name: "partial_rows", inputs: 200, file, form: Form::Safetensors, seeds: vec![seed], others: vec![] }.check(|folder| {
        let rows: Result<_> = pass(Some(folder));
        assert!(rows? == right, "other rows than the tower's");
        // the files of the later batches
        (1..4).for_each(|n| drop(std::fs::remove_file(folder.join(format!("rows-{n:06}.safetensors")))));
        Ok(())
    });
}
