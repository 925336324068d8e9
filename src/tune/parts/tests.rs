//! Parts and ranks against the whole batch in one process: losses, gradients, parameters, for every teacher, rule and term.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use super::*;
use crate::classify::{Head, TextClassifier};
use crate::clip::Clip;
use crate::data::scenes::{Domain, Scenes};
use crate::data::{Dataset, ImageSource};
use crate::ranks::{Ranks, threads};
use crate::rng::Rng;
use crate::tune::{Bank, EpochRecord, FinetuneConfig, RefineKind, Run, TermKind};

fn pictures() -> Dataset {
    Dataset::new(Scenes::new(Domain::Target, 13, 3))
}

fn started(settings: &Value) -> Run {
    static CLIP: LazyLock<Clip> = LazyLock::new(|| Clip::demo().unwrap());
    let clip = CLIP.clone();
    let base = FinetuneConfig { epochs: 2, batch_size: 5, prompts: 2, keep_last: true, learning_rate: 1e-3, ..FinetuneConfig::official() };
    let mut written = serde_json::to_value(base).unwrap();
    written.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let config: FinetuneConfig = serde_json::from_value(written).unwrap();
    let classes = pictures().classes().len();
    let head = Head::linear(clip.config().projection, classes, &mut Rng::new(5), clip.device()).unwrap();
    Run::new(Finetuner::new(&clip, &TextClassifier { head }, config, &mut Rng::new(6)).unwrap())
}

fn with(settings: &Value, more: Value) -> Value {
    let mut settings = settings.clone();
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings
}

/// What a run has learned, the optimizer's moments and the memory of its blocks.
fn state(run: &Run) -> Vec<(String, Tensor)> {
    let tuner = &run.tuner;
    let params = tuner.trainable.params.iter().map(|param| (param.name.clone(), param.var.as_detached_tensor()));
    let blocks = crate::tune::state::save(&tuner.blocks());
    params.chain(tuner.optimizer.state()).chain(blocks).map(|(name, tensor)| (name, tensor.copy().unwrap())).collect()
}

type Ended = (Vec<EpochRecord>, Vec<(String, Tensor)>);

fn ended(mut run: Run) -> Ended {
    let history = run.fit(&pictures(), |_| {}).unwrap();
    (history.into_iter().map(|record| EpochRecord { seconds: 0.0, ..record }).collect(), state(&run))
}

fn among(settings: &Value, size: usize) -> Vec<Ended> {
    let threads = threads::all(size);
    std::thread::scope(|scope| {
        let run = |ranks| {
            let mut run = started(settings);
            run.tuner.share_among(Arc::new(ranks));
            ended(run)
        };
        let started: Vec<_> = threads.into_iter().map(|ranks| scope.spawn(move || run(ranks))).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn far(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let flat = |t: &Tensor| t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    flat(a).iter().zip(flat(b)).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f32::max)
}

/// Whether both ended the same but for rounding.
fn near(ours: &Ended, whole: &Ended, most: f32, what: &str) {
    assert_eq!(ours.0.len(), whole.0.len());
    for (a, b) in ours.0.iter().zip(&whole.0) {
        assert!((a.loss - b.loss).abs() < f64::from(most), "{what}: loss {} against {}", a.loss, b.loss);
        assert!(a.terms.iter().all(|(name, loss)| (loss - b.terms[name]).abs() < f64::from(most)), "{what}: {a:?}, {b:?}");
        assert_eq!((a.images, a.steps, a.kept), (b.images, b.steps, b.kept), "{what}");
    }
    assert_eq!(ours.1.len(), whole.1.len());
    for ((name, a), (same, b)) in ours.1.iter().zip(&whole.1) {
        // softmax does not see a bias of the keys: its gradient is nothing but rounding, of which Adam makes whole steps
        let far = if name.starts_with("vision_model") && name.ends_with("k_proj.bias") { 0.0 } else { far(a, b) };
        assert!(name == same && far < most, "{what}: {name} is off by {far}");
    }
}

/// Answers and features of another encoder for all pictures.
fn stored(path: &Path) {
    let pictures = pictures();
    let names: Vec<String> = (0..pictures.len()).map(|i| pictures.name(i)).collect();
    let rows = |width: usize, seed| Rng::new(seed).normal_tensor((names.len(), width), 1.0, &Device::Cpu).unwrap();
    let tensors = [("logits".to_string(), rows(pictures.classes().len(), 1)), ("features".into(), rows(6, 2))];
    Bank::save(path, &names, None, &tensors, HashMap::new()).unwrap();
}

/// Settings in which each teacher, rule and term stands at least once.
fn cases(bank: &Path) -> Vec<Value> {
    let file = json!({ "file": bank });
    vec![
        json!({}),
        json!({"teacher": "untuned", "refine": [{"threshold": {"above": 0.05, "over": "kept"}}, "top_share"]}),
        json!({"teacher": {"ema": {"start": 0.5, "end": 0.9, "warm": 4, "prompts": true}}, "refine": ["free_match"],
               "objective": [[1.0, "cross_entropy"], [0.3, {"fairness": {"averaged": true}}]]}),
        json!({"refine": ["align", "prototypes", "relative"], "teacher_head": "shared", "normalize_student": true,
               "objective": [[1.0, "cross_entropy"], [0.5, "fairness"], [0.5, {"alignment": {"scale": 5.0}}]]}),
        json!({"teacher": {"bank": file}, "refine": ["flex_match"],
               "objective": [[1.0, "cross_entropy"], [0.5, {"distillation": file}]]}),
        json!({"teacher": {"labeler": {"epochs": 3, "k": 2, "file": bank}}, "refine": [{"top_k": {"k": 1}}]}),
        json!({"teacher": {"transduct": "stata"}, "refine": ["prototypes", "candidates"],
               "objective": [[1.0, "candidates"], [0.5, "cross_entropy"]]}),
        json!({"objective": [[0.5, {"information": {"weighted": true}}], [1.0, "cross_entropy"]], "deep_prompts": true,
               "tune_biases": true, "low_rank": {"rank": 2}}),
    ]
}

#[test]
fn a_step_in_parts_is_the_whole_step() {
    let folder = tempfile::tempdir().unwrap();
    let bank = folder.path().join("bank.safetensors");
    stored(&bank);
    let cases = cases(&bank);
    let written = json!(cases).to_string();
    for name in
        RefineKind::names().into_iter().chain(TermKind::names()).chain(["untuned", "ema", "bank", "labeler", "transduct"].map(String::from))
    {
        assert!(written.contains(&format!("\"{name}\"")) || name == "tower", "no case has {name}");
    }
    for settings in cases {
        let whole = ended(started(&settings));
        near(&ended(started(&with(&settings, json!({ "micro_batch": 2 })))), &whole, 1e-6, &format!("parts of 2: {settings}"));
        let all = among(&settings, 2);
        near(&all[0], &whole, 1e-5, &format!("2 ranks: {settings}"));
        near(&all[1], &all[0], 1e-12, &format!("rank 1 against rank 0: {settings}"));
    }
}

/// Pictures of which one cannot be read.
struct Damaged(Scenes);

impl ImageSource for Damaged {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn classes(&self) -> &[String] {
        self.0.classes()
    }

    fn label(&self, i: usize) -> Option<usize> {
        ImageSource::label(&self.0, i)
    }

    fn name(&self, i: usize) -> String {
        format!("scene {i}")
    }

    fn image(&self, i: usize) -> crate::Result<image::RgbImage> {
        if i == 3 { Err(Error::Image("scene 3: damaged".into())) } else { self.0.image(i) }
    }
}

#[test]
fn ranks_know_what_others_could_not_read_and_some_may_have_nothing_to_do() {
    let pictures = Dataset::new(Damaged(Scenes::new(Domain::Target, 5, 3)));
    for (most, size) in [(0.5, 2), (0.5, 3), (0.1, 2)] {
        let settings = json!({ "batch_size": 2, "max_unreadable": most, "refine": [{"top_k": {"k": 5}}] });
        let fit = |ranks: Option<threads::Thread>| {
            let mut run = started(&settings);
            if let Some(ranks) = ranks {
                run.tuner.share_among(Arc::new(ranks));
            }
            run.fit(&pictures, |_| {}).map(|_| ((run.history().to_vec(), state(&run)), run.skipped()))
        };
        let whole = fit(None);
        let all: Vec<_> = std::thread::scope(|scope| {
            let fit = &fit;
            let started: Vec<_> = threads::all(size).into_iter().map(|ranks| scope.spawn(move || fit(Some(ranks)))).collect();
            started.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for shared in all {
            match (shared, &whole) {
                (Ok((ended, skipped)), Ok((whole, known))) => {
                    near(&ended, whole, 1e-5, &format!("{size} ranks"));
                    assert_eq!((skipped.len(), &skipped), (1, known));
                }
                (Err(shared), Err(alone)) => assert!(alone.to_string().contains("cannot be read") && !shared.to_string().is_empty()),
                (shared, _) => panic!("{:?} on {size} ranks, another end alone", shared.map(drop)),
            }
        }
    }
}

#[test]
fn a_batch_that_needs_no_parts_keeps_its_bits() {
    let whole = ended(started(&json!({})));
    let same = ended(started(&json!({ "micro_batch": 5 })));
    assert_eq!(whole.0, same.0);
    near(&same, &whole, f32::MIN_POSITIVE, "no parts");
}

#[test]
fn ranks_repeat_their_bits_and_a_run_goes_on_with_another_number() {
    let settings = json!({ "epochs": 7, "prompts": 1, "refine": ["prototypes"], "objective": [[1.0, "cross_entropy"], [0.3, {"fairness": {"averaged": true}}]] });
    let whole = ended(started(&settings)); // 21 steps
    let (once, again) = (among(&settings, 3), among(&with(&settings, json!({ "micro_batch": 2 })), 3));
    near(&once[0], &whole, 1e-5, "3 ranks");
    near(&again[2], &whole, 1e-5, "3 ranks in parts");
    let twice = among(&settings, 3);
    for ((name, a), (_, b)) in once[0].1.iter().zip(&twice[2].1) {
        assert_eq!(far(a, b), 0.0, "{name}");
    }
    assert_eq!(once[0].0, twice[2].0);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let go_on = |ranks: Option<threads::Thread>, epochs: usize| {
        let mut run = started(&settings);
        let first = ranks.as_ref().is_none_or(|ranks| ranks.rank() == 0);
        if let Some(ranks) = ranks {
            run.tuner.share_among(Arc::new(ranks));
        }
        if path.exists() {
            run.resume(&path).unwrap();
        }
        while run.history().len() < epochs {
            run.fit_epoch(&pictures(), |_| {}).unwrap();
        }
        (first, run)
    };
    for (size, epochs) in [(2, 2), (1, 4), (3, 7)] {
        let runs: Vec<_> = std::thread::scope(|scope| {
            let go_on = &go_on;
            let ranks: Vec<Option<threads::Thread>> =
                if size == 1 { vec![None] } else { threads::all(size).into_iter().map(Some).collect() };
            let started: Vec<_> = ranks.into_iter().map(|ranks| scope.spawn(move || go_on(ranks, epochs))).collect();
            started.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (_, run) = runs.into_iter().find(|(first, _)| *first).unwrap();
        run.checkpoint(&path).unwrap();
        if epochs == 7 {
            near(&ended(run), &whole, 1e-5, "2, 1 and 3 ranks");
        }
    }
}
