//! The blocks after LaFTer in runs on the demo CLIP: stopped after any step they end as they would have, bit for bit; they do what
//! they say; lists that cannot work are refused.

use std::path::{Path, PathBuf};

use candle_core::Tensor;
use lafter::checkpoint::Autosave;
use lafter::classify::{Head, TextClassifier, TextClassifierConfig, TextStart, ZeroShotClassifier};
use lafter::clip::Clip;
use lafter::data::scenes::{self, Domain, Scenes};
use lafter::data::{Dataset, ImageSource};
use lafter::progress::Event;
use lafter::rng::Rng;
use lafter::transduct::{Features, Transduct};
use lafter::tune::{EpochRecord, FinetuneConfig, Finetuner, Run, Stateful, Targets, Term, Tuned, Views};
use serde_json::{Value, json};

/// Four pictures a step, three steps an epoch and two left over; the settings as a report or the command line writes them.
fn config(settings: &Value) -> FinetuneConfig {
    let base = FinetuneConfig { prompts: 2, epochs: 2, batch_size: 4, learning_rate: 1e-3, ..FinetuneConfig::official() };
    let mut all = serde_json::to_value(base).unwrap();
    all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

fn pictures() -> Dataset {
    Dataset::new(Scenes::new(Domain::Target, 14, 3))
}

fn run(clip: &Clip, config: &FinetuneConfig) -> Run {
    let classes = pictures().classes().len();
    let classifier = TextClassifier { head: Head::linear(clip.config().projection, classes, &mut Rng::new(5), clip.device()).unwrap() };
    Run::new(Finetuner::new(clip, &classifier, config.clone(), &mut Rng::new(7)).unwrap())
}

fn learned(run: &Run) -> Vec<Vec<u32>> {
    let bits =
        |tensor: &candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect();
    run.tuner.trainable().params.iter().map(|param| bits(&param.var)).collect()
}

fn without_time(history: &[EpochRecord]) -> Vec<EpochRecord> {
    history.iter().map(|epoch| EpochRecord { seconds: 0.0, ..epoch.clone() }).collect()
}

/// A whole run with its checkpoints after each step.
fn whole(clip: &Clip, config: &FinetuneConfig, set: &Dataset, folder: &Path) -> (Run, Vec<PathBuf>, Vec<String>) {
    let mut run = run(clip, config);
    let (path, mut copies, mut notices) = (folder.join("checkpoint.safetensors"), Vec::new(), Vec::new());
    run.autosave(Autosave::new(&path, std::time::Duration::ZERO));
    run.fit(set, |event| match event {
        // it comes before this step's own checkpoint: the file is that of the step before
        Event::Advanced { stage, .. } if stage.to_string().starts_with("tuning") && path.exists() => {
            let copy = folder.join(format!("{}.safetensors", copies.len()));
            std::fs::copy(&path, &copy).unwrap();
            copies.push(copy);
        }
        Event::Notice(notice) => notices.push(notice.clone()),
        _ => {}
    })
    .unwrap();
    copies.push(path);
    (run, copies, notices)
}

#[test]
fn stopped_after_any_step_a_run_ends_as_it_would_have() {
    let clip = Clip::demo().unwrap();
    let dpa = json!({
        "head_form": {"cosine": {"scale": 20.0}}, "teacher_head": "shared", "keep_last": true, "prompts": 0,
        "refine": [{"align": {"window": 2}}, {"prototypes": {"scale": 20.0}}, "relative"],
        "objective": [[1.0, "cross_entropy"], [0.5, "fairness"], [0.1, {"alignment": {"scale": 5.0}}]],
    });
    for (settings, remembered) in [
        (dpa, &["1.align.means", "2.prototypes.features", "2.prototypes.labels", "2.prototypes.prototypes"][..]),
        (
            json!({"refine": [{"align": {"momentum": 0.9}}, "free_match"]}),
            &["1.align.means", "2.free_match.classes", "2.free_match.threshold"],
        ),
        (json!({"temperature": 0.1, "refine": [{"flex_match": {"above": 0.3}}]}), &["1.flex_match.named"]),
        (
            json!({"temperature": 0.25, "refine": [{"candidates": {"every": 1, "gamma": 3.0}}], "objective": [[1.0, "candidates"]]}),
            &["1.candidates.sets"],
        ),
        (json!({"teacher": {"transduct": "stata"}, "refine": ["prototypes"]}), &["0.transduct.answers", "1.prototypes.features"]),
        (json!({"refine": [{"top_k": {"rule": "nola", "k": 1, "share": 0.0}}]}), &["1.top_k.labels"]),
        (
            json!({"teacher": {"ema": {"start": 0.5, "end": 0.9, "warm": 4, "prompts": true}}, "teacher_head": "shared"}),
            &["0.ema.head.0.weight", "0.ema.prompts.0"],
        ),
        (json!({"teacher": "untuned", "tune_head": false, "objective": [[1.0, {"information": {"weighted": true}}]]}), &[]),
    ] {
        let (config, folder) = (config(&settings), tempfile::tempdir().unwrap());
        let (whole, copies, _) = whole(&clip, &config, &pictures(), folder.path());
        assert_eq!(copies.len(), whole.history().iter().map(|epoch| epoch.steps).sum::<usize>(), "{settings}");
        for (steps, copy) in copies.iter().enumerate() {
            let saved = lafter::clip::read_tensors(copy, clip.device()).unwrap().0;
            for name in remembered {
                assert!(saved.contains_key(&format!("blocks.{name}")), "{name} after {} steps: {:?}", steps + 1, saved.keys());
            }
            let mut resumed = run(&clip, &config);
            resumed.resume(copy).unwrap();
            let history = resumed.fit(&pictures(), |_| {}).unwrap();
            assert_eq!(without_time(&history), without_time(whole.history()), "after {} steps: {settings}", steps + 1);
            assert!(learned(&resumed) == learned(&whole), "after {} steps something else was learned: {settings}", steps + 1);
        }
        // what a block remembers may be damaged
        let Some(name) = remembered.first() else { continue };
        let (tensors, mut metadata) = lafter::clip::read_tensors(&copies[0], clip.device()).unwrap();
        metadata.remove("checksum").unwrap();
        let short = |(key, tensor): (String, candle_core::Tensor)| {
            let tensor = if key == format!("blocks.{name}") {
                tensor.narrow(tensor.rank() - 1, 0, 1).unwrap().contiguous().unwrap()
            } else {
                tensor
            };
            (key, tensor)
        };
        let spoiled: Vec<_> = tensors.into_iter().map(short).collect();
        lafter::clip::save_tensors(&copies[0], &spoiled, metadata).unwrap();
        let mut fresh = run(&clip, &config);
        let result = fresh.resume(&copies[0]);
        if spoiled.iter().any(|(key, tensor)| key == &format!("blocks.{name}") && tensor.rank() > 1) {
            assert!(result.unwrap_err().to_string().contains("start without --resume"), "{name}");
        }
    }
}

/// Pictures that are wider than high, so that a weak view has places to choose from.
struct Wide(Dataset);

impl ImageSource for Wide {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn classes(&self) -> &[String] {
        self.0.classes()
    }
    fn label(&self, index: usize) -> Option<usize> {
        self.0.label(index)
    }
    fn name(&self, index: usize) -> String {
        self.0.name(index)
    }
    fn image(&self, index: usize) -> lafter::Result<image::RgbImage> {
        let one = self.0.image(index)?;
        Ok(image::RgbImage::from_fn(2 * one.width(), one.height(), |x, y| *one.get_pixel(x % one.width(), y)))
    }
}

/// The weak view may be cut at random: the teacher sees something else, a stopped run ends the same, signals and evaluation see no
/// difference.
#[test]
fn weak_views_at_random_are_those_of_a_run_that_was_not_stopped() {
    let (clip, set) = (Clip::demo().unwrap(), Dataset::new(Wide(pictures())));
    let settings = |crop: &str| config(&json!({"weak_crop": crop, "refine": ["prototypes"]}));
    let (random, folder) = (settings("random"), tempfile::tempdir().unwrap());
    let (whole_run, copies, _) = whole(&clip, &random, &set, folder.path());
    for (steps, copy) in copies.iter().enumerate() {
        let mut resumed = run(&clip, &random);
        resumed.resume(copy).unwrap();
        let history = resumed.fit(&set, |_| {}).unwrap();
        assert_eq!(without_time(&history), without_time(whole_run.history()), "after {} steps", steps + 1);
        assert!(learned(&resumed) == learned(&whole_run), "after {} steps something else was learned", steps + 1);
    }
    let mut center = run(&clip, &settings("center"));
    let history = center.fit(&set, |_| {}).unwrap();
    assert_ne!(history[0].confidence, whole_run.history()[0].confidence);
    // a square has one place: nothing differs there, the strong view's stream least of all
    let square = |crop| without_time(&run(&clip, &settings(crop)).fit(&pictures(), |_| {}).unwrap());
    assert_eq!(square("random"), square("center"));
    let fresh = |crop| run(&clip, &settings(crop)).evaluate(&set).unwrap();
    assert_eq!(fresh("random").top1, fresh("center").top1);
}

/// The teacher's answers are those of the method to all pictures, whatever the views of a step are; a name alone is the method with the
/// published settings.
#[test]
fn a_transductive_teacher_keeps_to_its_answers_to_all_pictures() {
    let (clip, set) = (Clip::demo().unwrap(), pictures());
    let teacher = |method: Value| config(&json!({"teacher": {"transduct": method}, "epochs": 1}));
    assert_eq!(teacher(json!("stata")), teacher(json!({"stata": {"updates": 10}})));
    let unknown = serde_json::from_value::<lafter::tune::TeacherKind>(json!({"transduct": "statta"})).unwrap_err().to_string();
    assert!(unknown.contains("no transductive method is called statta"), "{unknown}");
    let (mut run, mut notices) = (run(&clip, &teacher(json!("stata"))), Vec::new());
    run.fit(&set, |event| {
        if let Event::Notice(notice) = event {
            notices.push(notice.clone());
        }
    })
    .unwrap();
    assert!(notices.iter().any(|notice| notice.contains("stata has answered for 14 of 14")), "{notices:?}");

    let pixels = clip.preprocess().batch(&set.images(&(0..14).collect::<Vec<_>>()).unwrap(), clip.device()).unwrap();
    let head = Head::linear(clip.config().projection, set.classes().len(), &mut Rng::new(5), clip.device()).unwrap();
    let features = Features::new(&clip.encode_image(&pixels).unwrap(), &head.layers[0].weight.tensor(), clip.logit_scale()).unwrap();
    let expected = Transduct::default().probabilities(&features, |_| {}).unwrap().to_vec2::<f32>().unwrap();
    let some = pixels.narrow(0, 0, 3).unwrap().zeros_like().unwrap();
    let views = Views { indices: vec![3, 0, 13], ..Views::new(some.clone(), some) };
    let ours = run.tuner.teacher.targets(&views).unwrap().probabilities.to_vec2::<f32>().unwrap();
    for (ours, picture) in ours.iter().zip([3, 0, 13]) {
        assert!(ours.iter().zip(&expected[picture]).all(|(a, b)| (a - b).abs() < 1e-3), "{ours:?} {:?}", expected[picture]);
    }
}

/// NaN would name class 0 for every picture.
#[test]
fn a_transductive_teacher_without_finite_answers_is_refused() {
    let clip = Clip::demo().unwrap();
    let tiny = json!({"teacher": {"transduct": {"stata": {"softness": 1e-300}}}, "epochs": 1});
    let error = run(&clip, &config(&tiny)).fit(&pictures(), |_| {}).unwrap_err().to_string();
    assert!(error.contains("stata gives answers that are not finite"), "{error}");
}

/// Without a step the visual prompts are noise: the text classifier stays the result, and settings are checked all the same.
#[test]
fn no_epochs_leave_the_text_classifier() {
    let (clip, set) = (Clip::demo().unwrap(), pictures());
    let mut lafter = lafter::LaFTer::new(clip.clone(), set.classes());
    lafter.config.tune = config(&json!({"epochs": 0}));
    let head = Head::linear(clip.config().projection, set.classes().len(), &mut Rng::new(5), clip.device()).unwrap();
    lafter.set_text_classifier(TextClassifier { head });
    let before = lafter.predict(&[set.image(0).unwrap()]).unwrap();
    assert!(lafter.fit_images(&set, |_| {}).unwrap().is_empty() && lafter.tuned().is_none());
    assert_eq!(lafter.predict(&[set.image(0).unwrap()]).unwrap(), before);
    let names: Vec<String> = set.classes().iter().rev().cloned().collect();
    let mut turned = lafter::LaFTer::new(clip.clone(), &names);
    turned.set_text_classifier(lafter.text_classifier().unwrap().clone());
    assert!(turned.fit_images(&set, |_| {}).is_err(), "labels of another order were counted");
    lafter.config.tune.batch_size = 0;
    assert!(lafter.fit_images(&set, |_| {}).unwrap_err().is_usage());
}

/// A term of the user's own, whose loss is below 0.
struct Mine;

impl Stateful for Mine {
    fn kind(&self) -> &'static str {
        "mine"
    }
}

impl Term for Mine {
    fn loss(&mut self, _: &Views, _: &Tuned, logits: &Tensor, _: &Targets) -> candle_core::Result<Tensor> {
        logits.sqr()?.mean_all()?.affine(-1.0, -100.0)
    }
}

#[test]
fn a_run_with_a_term_of_ones_own_is_resumed() {
    let (clip, config, folder) = (Clip::demo().unwrap(), config(&json!({})), tempfile::tempdir().unwrap());
    let new = || {
        let mut run = run(&clip, &config);
        run.tuner.objective.terms.push((1.0, Box::new(Mine)));
        run
    };
    let path = folder.path().join("checkpoint.safetensors");
    let mut whole = new();
    whole.fit(&pictures(), |_| {}).unwrap();
    let mut stopped = new();
    assert!(stopped.fit_epoch(&pictures(), |_| {}).unwrap().loss < 0.0);
    stopped.checkpoint(&path).unwrap();
    let mut resumed = new();
    resumed.resume(&path).unwrap();
    resumed.fit(&pictures(), |_| {}).unwrap();
    assert!(learned(&resumed) == learned(&whole), "the resumed run learned something else");
    let view = Rng::new(1).normal_tensor((4, 3, 40, 40), 1.0, clip.device()).unwrap();
    let error = resumed.tuner.step(&view, &view.narrow(0, 0, 2).unwrap()).unwrap_err();
    assert!(error.to_string().contains("one of each"), "{error}");
}

/// Epochs run over the pictures that a rule wants, and it says how many.
#[test]
fn rules_that_choose_pictures_say_how_many() {
    let clip = Clip::demo().unwrap();
    for (rule, word) in [(json!({"top_k": {"k": 1}}), "top_k"), (json!({"candidates": {"gamma": 1.0}}), "candidates")] {
        let objective = if word == "candidates" { json!([[1.0, "candidates"]]) } else { json!([[1.0, "cross_entropy"]]) };
        let settings = json!({"refine": [rule], "objective": objective, "keep_last": true, "epochs": 1});
        let folder = tempfile::tempdir().unwrap();
        let (run, _, notices) = whole(&clip, &config(&settings), &pictures(), folder.path());
        let notice = notices.iter().find(|notice| notice.contains(word)).unwrap();
        let said: usize = notice.split(' ').find_map(|part| part.parse().ok()).unwrap();
        assert!(said < 14 && run.history()[0].images == said, "{notice}: {:?}", run.history());
    }
}

/// What is declared fixed keeps its bits, and an averaged teacher that keeps nothing is the student.
#[test]
fn a_head_may_stay_and_an_average_of_the_last_step_is_the_student() {
    let clip = Clip::demo().unwrap();
    let mut fixed = run(&clip, &config(&json!({"tune_head": false})));
    let before = fixed.tuner.tuned().head.layers[0].weight.tensor().copy().unwrap().to_vec2::<f32>().unwrap();
    fixed.fit_epoch(&pictures(), |_| {}).unwrap();
    assert!(fixed.tuner.trainable().params.iter().all(|param| !param.name.starts_with("head")));
    assert_eq!(fixed.tuner.tuned().head.layers[0].weight.tensor().to_vec2::<f32>().unwrap(), before);

    let view =
        Rng::new(1).normal_tensor((4, 3, clip.config().vision.image_size, clip.config().vision.image_size), 1.0, clip.device()).unwrap();
    let answer = |decay: f64, steps: usize| {
        let ema = json!({"ema": {"start": decay, "end": decay, "warm": 0}});
        let mut tuner = run(&clip, &config(&json!({"teacher": ema, "teacher_head": "shared"}))).tuner;
        (0..steps).for_each(|_| drop(tuner.step(&view, &view).unwrap()));
        let average = tuner.pseudo_labels(&view).unwrap().1.to_vec1::<f32>().unwrap();
        (average, tuner)
    };
    let mut shared = run(&clip, &config(&json!({"teacher_head": "shared"}))).tuner;
    let start = shared.pseudo_labels(&view).unwrap().1.to_vec1::<f32>().unwrap();
    (0..2).for_each(|_| drop(shared.step(&view, &view).unwrap()));
    assert_eq!(answer(0.0, 2).0, shared.pseudo_labels(&view).unwrap().1.to_vec1::<f32>().unwrap());
    assert_eq!(answer(1.0, 2).0, start);
    assert_ne!(answer(0.5, 2).0, start);
}

#[test]
fn lists_that_cannot_work_are_refused() {
    for (settings, says) in [
        (json!({"refine": ["relative"]}), "relative needs a second source"),
        (json!({"refine": ["relative", "prototypes"]}), "relative needs a second source"),
        (json!({"objective": [[1.0, "cross_entropy"], [1.0, "alignment"]]}), "alignment needs image prototypes"),
        (json!({"objective": [[1.0, "candidates"]]}), "candidates needs candidate classes"),
        (json!({"refine": ["prototypes"], "objective": [[1.0, "information"]]}), "no term of the objective reads"),
        (json!({"refine": [{"threshold": {"above": 0.5}}], "objective": [[1.0, "fairness"]]}), "no term of the objective reads"),
        (json!({"refine": ["align", "candidates"], "objective": [[1.0, "candidates"]]}), "align changes what no rule"),
        (json!({"refine": ["prototypes", "candidates"], "objective": [[1.0, "candidates"]]}), "prototypes changes what no rule"),
        (json!({"refine": ["align", "top_k"]}), "align changes what no rule"),
        (json!({"refine": ["top_k", "align"]}), "top_k changes what no rule"),
        (json!({"refine": ["prototypes"], "objective": [[1.0, "cross_entropy"], [1.0, "alignment"]], "tune_head": false}), "tune_head"),
        (json!({"refine": ["prototypes"], "objective": [[1.0, "alignment"]]}), "alignment reaches the head alone"),
        (json!({"teacher": {"transduct": {"stata": {"softness": 0.0}}}}), "softness"),
        (json!({"teacher": {"transduct": {"zlap": {"spread": 1.0}}}}), "spread"),
        (json!({"refine": [{"prototypes": {"share": 1.5}}]}), "share"),
        (json!({"refine": [{"align": {"window": 0}}]}), "window"),
        (json!({"refine": [{"top_k": {"k": 0}}]}), "k must be"),
        (json!({"refine": [{"candidates": {"alpha": -1.0}}]}), "alpha"),
        (json!({"teacher": {"ema": {"end": 1.5}}}), "ema"),
        (json!({"head_form": {"cosine": {"scale": 0.0}}}), "scale"),
        (json!({"prompts": 0, "tune_norms": false, "tune_head": false}), "nothing learns"),
    ] {
        let error = config(&settings).validate().unwrap_err();
        assert!(error.is_usage() && error.to_string().contains(says) && !error.to_string().contains('\n'), "{error}");
    }
    for settings in [
        json!({"refine": ["align", {"threshold": {"above": 0.1}}, "candidates"], "objective": [[1.0, "candidates"]]}), // weights count there, too
        json!({"refine": ["align", "top_k", {"threshold": {"above": 0.1}}]}),
        json!({"refine": ["prototypes", "top_k", "relative"]}),
        json!({"refine": ["candidates"]}), // it chooses pictures
        json!({"refine": ["prototypes"], "objective": [[1.0, "alignment"]], "prompts": 0, "tune_norms": false}),
    ] {
        config(&settings).validate().unwrap_or_else(|error| panic!("{settings}: {error}"));
    }
    let mlp = TextClassifier { head: Head::mlp(64, 8, 12, &mut Rng::new(5), &candle_core::Device::Cpu).unwrap() };
    let prototypes = config(&json!({"refine": ["prototypes"]}));
    let error = Finetuner::new(&Clip::demo().unwrap(), &mlp, prototypes, &mut Rng::new(7)).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("text.hidden"), "{error}");
}

/// The classifier of no epoch is the mean text feature of each class, and eq. 2 may start from it.
#[test]
fn class_means_are_a_text_classifier() {
    let features = candle_core::Tensor::new(&[[3f32, 0.], [1., 1.], [0., 2.]], &candle_core::Device::Cpu).unwrap();
    let means = TextClassifierConfig { start: TextStart::ClassMeans, epochs: 0, ..TextClassifierConfig::official() };
    let (classifier, history) = TextClassifier::fit(&features, &[0, 0, 1], &means, &mut Rng::new(1)).unwrap();
    let rows = classifier.head.layers[0].weight.tensor().to_vec2::<f32>().unwrap().concat();
    assert!(history.is_empty() && rows.iter().zip([0.923880f32, 0.382683, 0.0, 1.0]).all(|(a, b)| (a - b).abs() < 1e-6), "{rows:?}");
    let onward = TextClassifierConfig { epochs: 3, ..means.clone() };
    let (trained, history) = TextClassifier::fit(&features, &[0, 0, 1], &onward, &mut Rng::new(1)).unwrap();
    assert_eq!(history.len(), 3);
    assert_ne!(trained.head.layers[0].weight.tensor().to_vec2::<f32>().unwrap().concat(), rows);
    for labels in [[0, 0, 2], [0, 0, usize::MAX], [1, 1, 2]] {
        for config in [&means, &TextClassifierConfig::official()] {
            let error = TextClassifier::fit(&features, &labels, config, &mut Rng::new(1)).unwrap_err();
            assert!(error.to_string().contains("has no text"), "{error}");
        }
        assert!(ZeroShotClassifier::from_features(&features, &labels, 1.0).is_err());
    }
    let zero = (&features * 0.0).unwrap();
    let error = TextClassifier::fit(&zero, &[0, 0, 1], &TextClassifierConfig::official(), &mut Rng::new(1)).unwrap_err();
    assert!(error.to_string().contains("all zeros"), "{error}");
    for wrong in [TextClassifierConfig { hidden: Some(4), ..means.clone() }, TextClassifierConfig { start: TextStart::Random, ..means }] {
        assert!(wrong.validate().unwrap_err().is_usage());
    }
}

/// `--preset dpa` on the demo's pictures, killed again and again, ends as a run that was not.
#[test]
fn the_preset_dpa_is_killed_and_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let set = Dataset::new(Scenes::new(Domain::Target, 40, 1));
    for index in 0..set.len() {
        let class = data.join("photos").join(&scenes::class_names()[set.label(index).unwrap()]);
        std::fs::create_dir_all(&class).unwrap();
        set.image(index).unwrap().save(class.join(format!("{index}.png"))).unwrap();
    }
    let start = |out: &str, resume: bool| {
        let mut command = crate::common::program();
        command.args(["run", "--model", "demo", "--train", "photos", "--preset", "dpa", "--epochs", "6", "--batch-size", "8"]);
        command.args(["--set", "tune.learning_rate=1e-3", "--checkpoint-every", "0", "--select", "last", "--cache", "cache", "--out", out]);
        command.args(resume.then_some("--resume"));
        command.current_dir(data).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let results = |out: &str| {
        let report = lafter::eval::Report::load(data.join(out).join("report.json")).unwrap();
        (report.without_timing().to_json().unwrap(), std::fs::read(data.join(out).join("lafter.safetensors")).unwrap())
    };
    let begun = std::time::Instant::now();
    let whole = start("whole", false).wait_with_output().unwrap();
    let took = begun.elapsed();
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
    let (report, weights) = results("whole");
    assert!(report.contains("\"dpa\"") && report.contains("prototypes"), "{report}");

    let mut kills = 0;
    for tries in 0..60 {
        let mut run = start("killed", tries > 0 && data.join("killed").exists());
        std::thread::sleep(took * (tries + 1) / 12);
        let over = run.try_wait().unwrap();
        if over.is_none() {
            kills += 1;
            run.kill().unwrap();
        }
        let ended = run.wait_with_output().unwrap();
        if over.is_some() {
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
            break;
        }
    }
    assert!(kills > 0, "the run was over before it could be killed");
    assert!(results("killed") == (report, weights), "a killed run ends otherwise");

    // what it saved answers pictures: a cosine head with its scale
    let weights = data.join("whole/lafter.safetensors");
    let lafter = lafter::LaFTer::load(&weights, Clip::demo().unwrap()).unwrap();
    assert_eq!((lafter.config.preset.name(), lafter.tuned().unwrap().head.scale), ("dpa", Some(100.0)));
    assert_eq!(lafter.predict(&[set.image(0).unwrap()]).unwrap().len(), 1);
}
