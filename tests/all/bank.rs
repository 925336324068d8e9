//! Stored answers of another encoder: as the teacher, as a term, as features of a labeler; from the command line to a resumed run.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use lafter::classify::{Head, TextClassifier};
use lafter::clip::Clip;
use lafter::data::Dataset;
use lafter::data::scenes::{Domain, Scenes};
use lafter::progress::Event;
use lafter::rng::Rng;
use lafter::tune::{Bank, EpochRecord, FinetuneConfig, Finetuner, Run, Views};
use serde_json::{Value, json};

fn pictures() -> Dataset {
    Dataset::new(Scenes::new(Domain::Target, 14, 3))
}

fn run(clip: &Clip, settings: Value) -> Run {
    let mut written = serde_json::to_value(FinetuneConfig { epochs: 2, batch_size: 5, prompts: 2, ..FinetuneConfig::official() }).unwrap();
    written.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let config: FinetuneConfig = serde_json::from_value(written).unwrap();
    let classes = pictures().classes().len();
    let head = Head::linear(clip.config().projection, classes, &mut Rng::new(5), clip.device()).unwrap();
    Run::new(Finetuner::new(clip, &TextClassifier { head }, config, &mut Rng::new(6)).unwrap())
}

/// Logits that name class i mod C for picture i, in reverse order, and features that tell the classes apart.
fn stored(path: &Path, pictures: &Dataset) {
    let (n, classes) = (pictures.len(), pictures.classes().len());
    let names: Vec<String> = (0..n).rev().map(|i| pictures.name(i)).collect();
    let one_hot = |scale: f32| {
        let values = (0..n).rev().flat_map(|i| (0..classes).map(move |c| if c == i % classes { scale } else { 0.0 }));
        Tensor::from_vec(values.collect::<Vec<f32>>(), (n, classes), &Device::Cpu).unwrap()
    };
    Bank::save(path, &names, None, &[("logits".into(), one_hot(3.0)), ("features".into(), one_hot(1.0))], HashMap::new()).unwrap();
}

fn learned(run: &Run) -> Vec<Vec<u32>> {
    let bits = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect();
    run.tuner.trainable().params.iter().map(|param| bits(param.var.as_tensor())).collect()
}

fn without_time(history: &[EpochRecord]) -> Vec<EpochRecord> {
    history.iter().map(|record| EpochRecord { seconds: 0.0, ..record.clone() }).collect()
}

/// The teacher's labels of pictures by their places in the data set.
fn labels(run: &Run, clip: &Clip, indices: &[u32]) -> Vec<u32> {
    let side = clip.config().vision.image_size;
    let pixels = Tensor::zeros((indices.len(), 3, side, side), candle_core::DType::F32, clip.device()).unwrap();
    let views = Views { indices: indices.to_vec(), ..Views::new(pixels.clone(), pixels) };
    run.tuner.teacher.targets(&views).unwrap().labels.to_vec1().unwrap()
}

#[test]
fn a_bank_teaches_and_a_stopped_run_ends_the_same() {
    let (clip, set, folder) = (Clip::demo().unwrap(), pictures(), tempfile::tempdir().unwrap());
    let (file, checkpoint) = (folder.path().join("answers.safetensors"), folder.path().join("checkpoint.safetensors"));
    stored(&file, &set);
    let objective = json!([[1.0, "cross_entropy"], [0.5, {"distillation": {"file": &file, "temperature": 2.0}}]]);
    for refine in [json!([]), json!([{"prototypes": {}}])] {
        let settings = json!({"teacher": {"bank": {"file": &file}}, "objective": &objective, "refine": refine});
        let mut whole = run(&clip, settings.clone());
        let history = whole.fit(&set, |_| {}).unwrap();
        assert_eq!(labels(&whole, &clip, &[13, 0, 2]), [13, 0, 2].map(|i| i % set.classes().len() as u32));
        let mut stopped = run(&clip, settings.clone());
        stopped.fit_epoch(&set, |_| {}).unwrap();
        stopped.checkpoint(&checkpoint).unwrap();
        let mut resumed = run(&clip, settings);
        resumed.resume(&checkpoint).unwrap();
        assert_eq!(without_time(&resumed.fit(&set, |_| {}).unwrap()), without_time(&history));
        assert!(learned(&resumed) == learned(&whole), "the resumed run learned something else");
    }
    // the term has an effect
    let mut with = run(&clip, json!({"objective": objective}));
    let mut without = run(&clip, json!({}));
    assert_ne!(with.fit_epoch(&set, |_| {}).unwrap().loss, without.fit_epoch(&set, |_| {}).unwrap().loss);
}

/// Answers that changed between stop and resume would end in a run that nobody made: they are refused, whoever reads them; the same answers
/// in another order of rows are the same.
#[test]
fn answers_that_changed_since_the_checkpoint_are_refused() {
    let (clip, set, folder) = (Clip::demo().unwrap(), pictures(), tempfile::tempdir().unwrap());
    let (file, checkpoint) = (folder.path().join("answers.safetensors"), folder.path().join("checkpoint.safetensors"));
    let distillation = json!([[1.0, "cross_entropy"], [0.5, {"distillation": {"file": &file}}]]);
    for (kind, settings) in [
        ("bank", json!({"teacher": {"bank": {"file": &file}}})),
        ("labeler", json!({"teacher": {"labeler": {"file": &file, "epochs": 2}}})),
        ("distillation", json!({"objective": distillation})),
    ] {
        stored(&file, &set);
        let mut stopped = run(&clip, settings.clone());
        stopped.fit_epoch(&set, |_| {}).unwrap();
        stopped.checkpoint(&checkpoint).unwrap();
        let (whole, good) = (stopped.fit(&set, |_| {}).unwrap(), Bank::read(&file).unwrap());
        let (logits, features) = (good.logits.unwrap(), good.features.unwrap());
        let write = |names: &[String], logits: Tensor, features: Tensor| {
            Bank::save(&file, names, None, &[("logits".into(), logits), ("features".into(), features)], HashMap::new()).unwrap();
        };
        let go_on = || {
            let mut resumed = run(&clip, settings.clone());
            resumed.resume(&checkpoint).unwrap();
            // a checkpoint before the files are read again asks for the same
            resumed.checkpoint(&checkpoint).unwrap();
            resumed.fit(&set, |_| {})
        };
        write(&good.names, (&logits * 1.001).unwrap(), (&features * 1.001).unwrap());
        let error = go_on().unwrap_err();
        assert!(error.is_usage() && error.to_string().starts_with(kind) && error.to_string().contains("put that file back"), "{error}");
        let order: Vec<u32> = (0..14).rev().collect();
        let turned = |tensor: &Tensor| tensor.index_select(&Tensor::new(&order[..], &Device::Cpu).unwrap(), 0).unwrap();
        write(&good.names.iter().rev().cloned().collect::<Vec<_>>(), turned(&logits), turned(&features));
        assert_eq!(without_time(&go_on().unwrap()), without_time(&whole), "{kind}");
    }
}

#[test]
fn what_a_bank_lacks_is_said_before_any_step() {
    let (clip, set, folder) = (Clip::demo().unwrap(), pictures(), tempfile::tempdir().unwrap());
    let file = folder.path().join("answers.safetensors");
    stored(&file, &set.take(12));
    let settings = json!({"teacher": {"bank": {"file": &file}}});
    let error = run(&clip, settings.clone()).fit(&set, |_| {}).unwrap_err().to_string();
    assert!(error.contains("lacks 2 pictures") && error.contains("of 14") && error.contains(&set.name(12)), "{error}");
    let mut notices = Vec::new();
    let mut fewer = run(&clip, settings.clone());
    fewer
        .fit(&set.take(10), |event| {
            if let Event::Notice(notice) = event {
                notices.push(notice.clone())
            }
        })
        .unwrap();
    assert!(notices.len() == 1 && notices[0].contains("2 pictures") && notices[0].contains("left out"), "{notices:?}");
    let config: FinetuneConfig = serde_json::from_value(
        json!(FinetuneConfig::official()).as_object().unwrap().clone().into_iter().chain(settings.as_object().unwrap().clone()).collect(),
    )
    .unwrap();
    let classes = set.classes();
    config.check_pictures(&set.take(12), classes).unwrap();
    assert!(config.check_pictures(&set, classes).is_err() && config.check_pictures(&set.take(12), &classes[1..]).is_err());
    let error = run(&clip, json!({"teacher": {"bank": {"file": folder.path().join("none")}}})).fit(&set, |_| {}).unwrap_err();
    assert!(matches!(error, lafter::Error::Io { .. }), "{error}");
}

#[test]
fn a_labeler_learns_once_and_a_stopped_run_ends_the_same() {
    let (clip, set, folder) = (Clip::demo().unwrap(), pictures(), tempfile::tempdir().unwrap());
    let (file, checkpoint) = (folder.path().join("features.safetensors"), folder.path().join("checkpoint.safetensors"));
    stored(&file, &set);
    for labeler in [json!({"hidden": 8, "epochs": 20}), json!({"hidden": 8, "epochs": 20, "k": 2, "file": &file})] {
        let settings = json!({"teacher": {"labeler": labeler}});
        let mut notices = Vec::new();
        let mut whole = run(&clip, settings.clone());
        let told = &mut notices;
        whole
            .fit(&set, |event| {
                if let Event::Notice(notice) = event {
                    told.push(notice.clone())
                }
            })
            .unwrap();
        assert!(notices.len() == 1 && notices[0].starts_with("labeler: trained on"), "{notices:?}");
        let mut stopped = run(&clip, settings.clone());
        stopped.fit_epoch(&set, |_| {}).unwrap();
        stopped.checkpoint(&checkpoint).unwrap();
        let saved = candle_core::safetensors::load(&checkpoint, clip.device()).unwrap();
        assert_eq!(saved["blocks.0.labeler.head.0.weight"].dim(0).unwrap(), 8);
        let mut resumed = run(&clip, settings);
        resumed.resume(&checkpoint).unwrap();
        let mut again = 0;
        resumed.fit(&set, |event| again += usize::from(matches!(event, Event::Notice(_)))).unwrap();
        assert_eq!((without_time(resumed.history()), again), (without_time(whole.history()), 0));
        assert!(learned(&resumed) == learned(&whole), "the resumed run learned something else");
        let all: Vec<u32> = (0..14).collect();
        assert_eq!(labels(&resumed, &clip, &all), labels(&whole, &clip, &all));
    }
}

/// `lafter embed --classes` writes what `lafter run` can be tuned on.
#[test]
fn the_command_line_writes_a_bank_and_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let lafter = |arguments: &[&str]| {
        let output = crate::common::program().args(arguments).current_dir(folder.path()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), error)
    };
    let set = pictures();
    for i in 0..set.len() {
        let place = folder.path().join("photos").join(&set.classes()[set.label(i).unwrap()]);
        std::fs::create_dir_all(&place).unwrap();
        set.image(i).unwrap().save(place.join(format!("{i}.png"))).unwrap();
    }
    std::fs::write(folder.path().join("names.txt"), set.classes().join("\n")).unwrap();
    let embed = ["embed", "--model", "demo", "--images", "photos", "--classes", "names.txt", "--out", "answers.safetensors"];
    assert_eq!(lafter(&embed).0, Some(0), "{}", lafter(&embed).1);
    let bank = Bank::read(folder.path().join("answers.safetensors")).unwrap();
    let (logits, features) = (bank.logits.unwrap(), bank.features.unwrap());
    assert_eq!((bank.names.len(), logits.dims()), (14, &[14, set.classes().len()][..]));
    assert_eq!((features.dim(0).unwrap(), bank.classes.unwrap()), (14, set.classes().to_vec()));

    let teacher = r#"tune.teacher={"bank": {"file": "answers.safetensors"}}"#;
    let run = |out: &str, more: &[&str]| {
        let options = ["run", "--model", "demo", "--train", "photos", "--classes", "names.txt", "--preset", "demo", "--text-epochs", "2"];
        lafter(&[&options[..], &["--epochs", "1", "--batch-size", "7", "--out", out, "--set", teacher], more].concat())
    };
    let (code, error) = run("out", &[]);
    assert_eq!(code, Some(0), "{error}");
    let moved = folder.path().join("photos").join(&set.classes()[set.label(0).unwrap()]);
    std::fs::rename(moved.join("0.png"), moved.join("other.png")).unwrap();
    let (code, error) = run("again", &[]);
    assert!(code == Some(1) && error.contains("lacks 1 picture") && error.contains("other.png"), "{error}");
}
