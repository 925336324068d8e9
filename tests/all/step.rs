//! The step as parts: a run with the settings as they come gives, bit for bit, the method written out by hand; rules and terms
//! stand where the settings put them, and what they remember is saved.

use candle_core::Tensor;
use lafter::classify::{Head, TextClassifier, normalize, smoothed_cross_entropy};
use lafter::clip::Clip;
use lafter::data::scenes::{Domain, Scenes};
use lafter::data::{Dataset, epoch_batches};
use lafter::nn::{AdamW, AdamWConfig, ParamGroup};
use lafter::rng::Rng;
use lafter::tune::{
    EpochRecord, FinetuneConfig, Finetuner, Refine, Run, Stateful, Targets, Teacher, TeacherHead, Tuned, Views, VisualPrompts,
};

fn pictures() -> Dataset {
    Dataset::new(Scenes::new(Domain::Target, 14, 3))
}

fn classifier(clip: &Clip) -> TextClassifier {
    let classes = pictures().classes().len();
    TextClassifier { head: Head::linear(clip.config().projection, classes, &mut Rng::new(5), clip.device()).unwrap() }
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

/// Eq. 3 and 4 as lesson 08 has them, on the batches, views and random streams of a run: losses, agreement and confidence by
/// epoch, and what was learned.
#[allow(clippy::type_complexity)]
fn by_hand(clip: &Clip, config: &FinetuneConfig, seed: u64) -> candle_core::Result<(Vec<[u64; 3]>, Vec<Vec<u32>>)> {
    let (set, classifier, mut rng) = (pictures(), classifier(clip), Rng::new(seed));
    let start = VisualPrompts::shallow(config.prompts, clip.config().vision.width, &mut rng, clip.device())?;
    let order = rng.fork(0x7475_6e65);
    let (prompts, mut params) = start.trainable()?;
    let (student, norms) = clip.vision().detached().trainable_norms()?;
    let (head, last) = classifier.head.trainable()?;
    params.extend(norms.into_iter().chain(last));
    let adamw = AdamWConfig { learning_rate: config.learning_rate, ..AdamWConfig::default() };
    let mut optimizer = AdamW::new(ParamGroup::decay_weights(&params, config.weight_decay), adamw)?;
    let teacher = student.detached();
    let teacher_head = if config.teacher_head == TeacherHead::Shared { head.detached() } else { classifier.head.copy()? };
    let strong_view = config.strong_view(clip.preprocess());
    let side = clip.config().vision.image_size;
    let mut epochs = Vec::new();
    for epoch in 0..config.epochs {
        let rng = order.fork(epoch as u64);
        let (mut losses, mut agreed, mut sure, mut images) = (0.0, 0, 0.0, 0);
        for batch in epoch_batches(set.len(), config.batch_size, true, Some(&mut rng.fork(u64::MAX))) {
            let pictures: Vec<_> = batch.iter().map(|index| set.image(*index).unwrap()).collect();
            let weak = clip.preprocess().batch(&pictures, clip.device()).unwrap();
            let views = pictures.iter().zip(&batch).flat_map(|(picture, i)| strong_view.apply(picture, &mut rng.fork(*i as u64)));
            let strong = Tensor::from_vec(views.collect(), (batch.len(), 3, side, side), clip.device())?;

            let answers = candle_nn::ops::softmax(&teacher_head.forward(&normalize(&teacher.forward(&weak)?)?)?, 1)?; // eq. 3
            let pseudo_labels = answers.argmax(1)?;
            let logits = head.forward(&prompts.forward(&student, &strong)?)?;
            let loss = smoothed_cross_entropy(&logits, &pseudo_labels, config.label_smoothing)?; // eq. 4
            optimizer.step(&loss.backward()?, 1.0)?;

            let n = batch.len();
            images += n;
            losses += f64::from(loss.to_scalar::<f32>()?) * n as f64;
            sure += f64::from(answers.max(1)?.mean_all()?.to_scalar::<f32>()?) * n as f64;
            let predictions = logits.argmax(1)?.to_vec1::<u32>()?;
            agreed += predictions.iter().zip(pseudo_labels.to_vec1::<u32>()?).filter(|(a, b)| **a == *b).count();
        }
        let images = images as f64;
        epochs.push([losses / images, 100.0 * agreed as f64 / images, 100.0 * sure / images].map(f64::to_bits));
    }
    Ok((epochs, params.iter().map(|param| bits(&param.var)).collect()))
}

#[test]
fn the_default_is_the_method_written_out_bit_for_bit() {
    let clip = Clip::demo().unwrap();
    for base in [FinetuneConfig::official(), FinetuneConfig::paper()] {
        let config = FinetuneConfig { prompts: 2, epochs: 2, batch_size: 4, learning_rate: 1e-3, ..base };
        let tuner = Finetuner::new(&clip, &classifier(&clip), config.clone(), &mut Rng::new(7)).unwrap();
        let mut run = Run::new(tuner);
        let history = run.fit(&pictures(), |_| {}).unwrap();
        let (expected, params) = by_hand(&clip, &config, 7).unwrap();
        let ours: Vec<_> = history.iter().map(|e| [e.loss, e.agreement, e.confidence].map(f64::to_bits)).collect();
        assert_eq!(ours, expected, "{history:?}");
        assert_eq!(history[1].steps, 3);
        for (param, expected) in run.tuner.trainable().params.iter().zip(&params) {
            assert!(bits(&param.var) == *expected, "{} is another", param.name);
        }
    }
}

/// Four pictures a step, three steps an epoch; `settings` as a report or the command line writes them.
fn config(settings: serde_json::Value) -> FinetuneConfig {
    let base = FinetuneConfig { prompts: 2, epochs: 2, batch_size: 4, learning_rate: 1e-3, ..FinetuneConfig::official() };
    let mut all = serde_json::to_value(base).unwrap();
    all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

fn run(clip: &Clip, config: &FinetuneConfig) -> Run {
    Run::new(Finetuner::new(clip, &classifier(clip), config.clone(), &mut Rng::new(7)).unwrap())
}

fn learned(run: &Run) -> Vec<Vec<u32>> {
    run.tuner.trainable().params.iter().map(|param| bits(&param.var)).collect()
}

fn without_time(history: &[EpochRecord]) -> Vec<EpochRecord> {
    history.iter().map(|epoch| EpochRecord { seconds: 0.0, ..epoch.clone() }).collect()
}

#[test]
fn settings_of_earlier_versions_are_the_method() {
    let mut older = serde_json::to_value(FinetuneConfig { label_smoothing: 0.2, ..FinetuneConfig::paper() }).unwrap();
    for name in ["teacher", "temperature", "refine", "objective", "keep_last", "tune_head", "head_form"] {
        older.as_object_mut().unwrap().remove(name).unwrap();
    }
    assert_eq!(
        serde_json::from_value::<FinetuneConfig>(older).unwrap(),
        FinetuneConfig { label_smoothing: 0.2, ..FinetuneConfig::paper() }
    );
    // the name alone is a block with its defaults
    let objective = serde_json::json!({"objective": [[1, "cross_entropy"], [0.5, "fairness"], [1, {"fairness": {"averaged": true}}]]});
    let whole = serde_json::json!([[1.0, {"cross_entropy": {}}], [0.5, {"fairness": {"averaged": false}}], [1.0, {"fairness": {"averaged": true}}]]);
    assert_eq!(serde_json::to_value(config(objective)).unwrap()["objective"], whole);
    let typo = serde_json::json!({"refine": [{"threshold": {"above": 0.5, "ovr": "kept"}}]});
    let mut all = serde_json::to_value(FinetuneConfig::official()).unwrap();
    all.as_object_mut().unwrap().extend(typo.as_object().unwrap().clone());
    assert!(serde_json::from_value::<FinetuneConfig>(all).unwrap_err().to_string().contains("ovr"));
}

/// The loss of a batch, with only those pictures in it that are sure.
#[test]
fn a_threshold_leaves_pictures_out_of_the_loss() {
    let clip = Clip::demo().unwrap();
    let set = pictures();
    let weak = clip.preprocess().batch(&(0..8).map(|i| set.image(i).unwrap()).collect::<Vec<_>>(), clip.device()).unwrap();
    let views = Views::new(weak.clone(), weak.clone());
    let (_, confidence) = run(&clip, &config(serde_json::json!({}))).tuner.pseudo_labels(&weak).unwrap();
    let mut sorted = confidence.to_vec1::<f32>().unwrap();
    sorted.sort_by(f32::total_cmp);
    let above = f64::from((sorted[4] + sorted[5]) / 2.0); // three are surer
    for over in ["batch", "kept"] {
        let mut tuner = run(&clip, &config(serde_json::json!({"refine": [{"threshold": {"above": above, "over": over}}]}))).tuner;
        let targets = tuner.targets(&views).unwrap();
        let (loss, logits) = tuner.loss(&views, &targets).unwrap();
        let kept: Vec<u32> = (0..8).filter(|i| f64::from(confidence.to_vec1::<f32>().unwrap()[*i as usize]) > above).collect();
        assert_eq!(kept.len(), 3);
        let kept = Tensor::new(kept, clip.device()).unwrap();
        let labels = targets.labels.index_select(&kept, 0).unwrap();
        let of_kept = smoothed_cross_entropy(&logits.index_select(&kept, 0).unwrap(), &labels, 0.1).unwrap().to_scalar::<f32>().unwrap();
        let expected = if over == "batch" { of_kept * 3.0 / 8.0 } else { of_kept };
        let loss = loss.to_scalar::<f32>().unwrap();
        assert!((loss - expected).abs() < 1e-5, "{over}: {loss}, expected {expected}");
        assert_eq!(tuner.step(&weak, &weak).unwrap().kept, Some(3.0 / 8.0));
    }
    // a temperature changes no pseudo-label, but how many are sure
    let sharp = config(serde_json::json!({"temperature": 0.01, "refine": [{"threshold": {"above": above}}]}));
    let mut sharp = run(&clip, &sharp).tuner;
    let targets = sharp.targets(&views).unwrap();
    assert_eq!(sharp.step(&weak, &weak).unwrap().kept, Some(1.0));
    let plain = run(&clip, &config(serde_json::json!({}))).tuner.targets(&views).unwrap();
    assert_eq!(targets.labels.to_vec1::<u32>().unwrap(), plain.labels.to_vec1::<u32>().unwrap());
}

#[test]
fn an_epoch_in_which_nothing_counts_says_so() {
    let clip = Clip::demo().unwrap();
    let mut run = run(&clip, &config(serde_json::json!({"epochs": 1, "refine": [{"threshold": {"above": 0.999}}]})));
    let mut notices = Vec::new();
    let history = run.fit(&pictures(), |event| {
        if let lafter::progress::Event::Notice(notice) = event {
            notices.push(notice.clone());
        }
    });
    let epoch = &history.unwrap()[0];
    assert_eq!((epoch.kept, epoch.loss), (Some(0.0), 0.0));
    let says = |notice: &String| notice.contains("no pseudo-label counted") && notice.contains("nine of ten below");
    assert!(notices.iter().any(says), "{notices:?}");
}

/// Weights, classes and terms of an epoch stand in its record, and fit the loss; without rules and with one term there is less to say.
#[test]
fn a_record_says_what_rules_and_terms_did() {
    let clip = Clip::demo().unwrap();
    let plain = run(&clip, &config(serde_json::json!({"epochs": 1}))).fit(&pictures(), |_| {}).unwrap().remove(0);
    assert!(plain.mean_weight.is_none() && plain.terms.is_empty(), "{plain:?}");
    let named = plain.classes_named.unwrap();
    assert!((1..=12).contains(&named), "{named}");
    let line = serde_json::to_value(&plain).unwrap();
    assert!(line.get("terms").is_none() && line.get("mean_weight").is_none(), "{line}");
    let mut older = line.clone();
    older.as_object_mut().unwrap().remove("classes_named").unwrap();
    assert_eq!(serde_json::from_value::<EpochRecord>(older).unwrap(), EpochRecord { classes_named: None, ..plain.clone() });

    let objective = serde_json::json!([[1.0, "cross_entropy"], [0.5, "fairness"], [0.25, {"fairness": {"averaged": true}}]]);
    // about half are surer
    let all: Vec<_> = (0..pictures().len()).map(|i| pictures().image(i).unwrap()).collect();
    let weak = clip.preprocess().batch(&all, clip.device()).unwrap();
    let mut sorted = run(&clip, &config(serde_json::json!({}))).tuner.pseudo_labels(&weak).unwrap().1.to_vec1::<f32>().unwrap();
    sorted.sort_by(f32::total_cmp);
    let above = f64::from(sorted[sorted.len() / 2 - 1] + sorted[sorted.len() / 2]) / 2.0;
    let rules = serde_json::json!({"epochs": 1, "refine": [{"threshold": {"above": above, "over": "kept"}}], "objective": objective});
    let sure = run(&clip, &config(rules)).fit(&pictures(), |_| {}).unwrap().remove(0);
    let names: Vec<&str> = sure.terms.keys().map(String::as_str).collect();
    assert_eq!(names, ["cross_entropy", "fairness", "fairness 2"]);
    let sum = sure.terms["cross_entropy"] + 0.5 * sure.terms["fairness"] + 0.25 * sure.terms["fairness 2"];
    assert!((sum - sure.loss).abs() < 1e-5, "{sum} {}", sure.loss);
    let (kept, weight) = (sure.kept.unwrap(), sure.mean_weight.unwrap());
    assert!(kept > 0.0 && kept < 100.0 && weight > kept / 100.0 && weight <= 1.0 + 1e-6, "{kept} {weight}"); // over the kept: larger than 1 each
    assert!((1..=12).contains(&sure.classes_named.unwrap()), "{sure:?}");
}

/// Whatever a rule or term remembers: stopped after any step, even within an epoch, a run ends as one that was not.
#[test]
fn what_blocks_remember_is_saved_and_resumed_bit_for_bit() {
    let clip = Clip::demo().unwrap();
    let objective = serde_json::json!([[1.0, {"cross_entropy": {}}], [0.5, {"fairness": {"averaged": true}}]]);
    let config = config(serde_json::json!({"temperature": 0.1, "refine": [{"threshold": {"above": 0.2}}], "objective": objective}));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let mut whole = run(&clip, &config);
    let expected = whole.fit(&pictures(), |_| {}).unwrap();

    let mut stopped = run(&clip, &config);
    let views = |i: u64, step| {
        let side = clip.config().vision.image_size;
        let view = |i| Rng::new(i).normal_tensor((4, 3, side, side), 1.0, clip.device()).unwrap();
        Views { step, ..Views::new(view(i), view(100 + i)) }
    };
    stopped.fit_epoch(&pictures(), |_| {}).unwrap();
    stopped.checkpoint(&path).unwrap();
    let saved = candle_core::safetensors::load(&path, clip.device()).unwrap();
    let mut names: Vec<&String> = saved.keys().filter(|name| name.starts_with("blocks.")).collect();
    names.sort();
    assert_eq!(names, ["blocks.3.fairness.epoch", "blocks.3.fairness.mean"]); // after the teacher, a rule and a term
    let mut resumed = run(&clip, &config);
    resumed.resume(&path).unwrap();
    assert_eq!(without_time(&resumed.fit(&pictures(), |_| {}).unwrap()), without_time(&expected));
    assert!(learned(&resumed) == learned(&whole), "the resumed run learned something else");

    // within an epoch the average goes on from where it was
    let step = |run: &mut Run, i: u64| {
        let views = views(i, i as usize);
        let targets = run.tuner.targets(&views).unwrap();
        let (loss, _) = run.tuner.loss(&views, &targets).unwrap();
        run.tuner.apply(&loss).unwrap();
        loss.to_scalar::<f32>().unwrap().to_bits()
    };
    let mut first = run(&clip, &config);
    step(&mut first, 0);
    first.checkpoint(&path).unwrap();
    let mut second = run(&clip, &config);
    second.resume(&path).unwrap();
    assert_eq!(step(&mut first, 1), step(&mut second, 1));

    // a damaged memory is refused, and nothing is changed by it
    let (tensors, mut metadata) = lafter::clip::read_tensors(&path, clip.device()).unwrap();
    metadata.remove("checksum").unwrap();
    let spoiled = |name: &str, tensor: Tensor| {
        let tensors: Vec<(String, Tensor)> =
            tensors.iter().map(|(n, t)| (n.clone(), if n == name { tensor.clone() } else { t.clone() })).collect();
        lafter::clip::save_tensors(&path, &tensors, metadata.clone()).unwrap();
    };
    for wrong in [Tensor::new(&[f32::NAN; 12], clip.device()).unwrap(), Tensor::new(&[0f32; 2], clip.device()).unwrap()] {
        spoiled("blocks.3.fairness.mean", wrong);
        let mut fresh = run(&clip, &config);
        let before = learned(&fresh);
        let error = fresh.resume(&path).unwrap_err().to_string();
        assert!(error.contains("fairness") && error.contains("start without --resume"), "{error}");
        assert!(learned(&fresh) == before, "a refused file changed the parameters");
    }
}

/// A rule and a teacher that the library does not know: a list entry, a box.
#[test]
fn a_script_s_own_rule_and_teacher_take_part() {
    struct Every2nd;
    impl Stateful for Every2nd {
        fn kind(&self) -> &'static str {
            "every_2nd"
        }
    }
    impl Refine for Every2nd {
        fn refine(&mut self, views: &Views, targets: Targets) -> candle_core::Result<Targets> {
            let weights = Tensor::from_iter(views.indices.iter().map(|index| (index % 2) as f32), targets.labels.device())?;
            targets.weighted(&weights)
        }
    }
    struct Always(u32, usize);
    impl Stateful for Always {
        fn kind(&self) -> &'static str {
            "always"
        }
    }
    impl Teacher for Always {
        fn targets(&self, views: &Views) -> candle_core::Result<Targets> {
            let n = views.weak.dim(0)?;
            let row = (0..n * self.1).map(|i| f32::from(u8::from((i % self.1) as u32 == self.0)));
            Targets::new(views.weak.flatten_from(1)?, Tensor::from_iter(row, views.weak.device())?.reshape((n, self.1))?)
        }
        fn after_step(&mut self, student: &Tuned, _: usize) -> candle_core::Result<()> {
            assert_eq!(student.head.classes(), self.1);
            Ok(())
        }
    }
    let clip = Clip::demo().unwrap();
    let classes = pictures().classes().len();
    let mut run = run(&clip, &config(serde_json::json!({"epochs": 1, "batch_size": 14})));
    run.tuner.refine.push(Box::new(Every2nd));
    run.tuner.teacher = Box::new(Always(3, classes));
    let epoch = run.fit_epoch(&pictures(), |_| {}).unwrap();
    assert_eq!((epoch.kept, epoch.confidence, epoch.images), (Some(50.0), 100.0, 14));

    // the untuned tower answers as before the first step, the tuned one does not
    let weak =
        Rng::new(1).normal_tensor((4, 3, clip.config().vision.image_size, clip.config().vision.image_size), 1.0, clip.device()).unwrap();
    for (teacher, same) in [("untuned", true), ("tower", false)] {
        let mut tuner = self::run(&clip, &config(serde_json::json!({"teacher": teacher}))).tuner;
        let answer = |tuner: &Finetuner| bits(&tuner.pseudo_labels(&weak).unwrap().1);
        let before = answer(&tuner);
        tuner.step(&weak, &weak).unwrap();
        assert_eq!(answer(&tuner) == before, same, "{teacher}");
    }
}

/// Pictures of which one cannot be read.
struct Broken(Scenes);

impl lafter::data::ImageSource for Broken {
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
        if index == 3 { Err(lafter::Error::Data("torn".into())) } else { self.0.image(index) }
    }
}

/// Looks at all pictures before training and after each epoch, and wants those of even number.
#[derive(Default)]
struct Looks {
    seen: Vec<u32>,
    probabilities: Option<Tensor>,
    trained: Vec<u32>,
    asked: usize,
}

impl Stateful for Looks {
    fn kind(&self) -> &'static str {
        "looks"
    }
    fn state(&self) -> Vec<(String, Tensor)> {
        self.probabilities.iter().map(|p| ("probabilities".to_string(), p.clone())).collect()
    }
    fn restore(&mut self, saved: &std::collections::HashMap<String, Tensor>) -> candle_core::Result<()> {
        self.probabilities = saved.get("probabilities").cloned();
        self.seen = if self.probabilities.is_some() { vec![0, 2, 4, 6, 8, 10, 12] } else { Vec::new() };
        Ok(())
    }
}

impl Refine for Looks {
    fn refine(&mut self, views: &Views, targets: Targets) -> candle_core::Result<Targets> {
        self.trained.extend(&views.indices);
        Ok(targets)
    }
    fn prepare(&mut self, images: usize, pass: &mut lafter::tune::PassFn) -> lafter::Result<()> {
        let (first, second) = (pass()?, pass()?);
        assert_eq!(bits(&first.features), bits(&second.features));
        assert_eq!((images, first.features.dim(0)?, first.probabilities.dim(0)?), (14, 13, 13));
        assert!(!first.indices.contains(&3));
        self.seen = first.indices.into_iter().filter(|index| index % 2 == 0).collect();
        self.probabilities = Some(first.probabilities);
        self.asked += 1;
        Ok(())
    }
    fn after_epoch(&mut self, _: usize, pass: &mut lafter::tune::PassFn) -> lafter::Result<()> {
        self.probabilities = Some(pass()?.probabilities);
        Ok(())
    }
    fn images(&self) -> Option<&[u32]> {
        Some(&self.seen)
    }
    fn notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.asked).checked_sub(1).map(|_| "seven pictures are even".to_string()).into_iter().collect()
    }
}

/// Rules see all readable pictures before training and after an epoch, once for all of them, and choose which are trained on.
#[test]
fn rules_look_at_all_pictures_and_choose_the_epoch_s() {
    let clip = Clip::demo().unwrap();
    let set = Dataset::new(Broken(Scenes::new(Domain::Target, 14, 3)));
    let config = config(serde_json::json!({"max_unreadable": 0.1, "keep_last": true}));
    let fresh = || {
        let mut run = run(&clip, &config);
        run.tuner.refine = vec![Box::new(Looks::default()), Box::new(Looks::default())];
        run
    };
    let (mut whole, mut passes, mut notices) = (fresh(), 0, Vec::new());
    let history = whole
        .fit(&set, |event| match event {
            lafter::progress::Event::Started { stage, .. } if stage.to_string().contains("passing over the pictures") => passes += 1,
            lafter::progress::Event::Notice(notice) => notices.push(notice.clone()),
            _ => {}
        })
        .unwrap();
    assert_eq!((passes, history.len(), history[0].images, history[1].steps), (3, 2, 7, 2)); // before, and after both epochs
    assert_eq!(notices.iter().filter(|notice| notice.contains("even")).count(), 2);
    let answers = |run: &Run| bits(&run.tuner.refine[0].state()[0].1);

    // stopped between the epochs, and before the pass is over
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let mut stopped = fresh();
    stopped.fit_epoch(&set, |_| {}).unwrap();
    assert_ne!(answers(&stopped), answers(&whole));
    stopped.checkpoint(&path).unwrap();
    let mut resumed = fresh();
    resumed.resume(&path).unwrap();
    let mut notices = 0;
    let again = resumed.fit(&set, |event| notices += usize::from(matches!(event, lafter::progress::Event::Notice(_)))).unwrap();
    assert_eq!((without_time(&again), notices), (without_time(&history), 0));
    assert!(answers(&resumed) == answers(&whole) && learned(&resumed) == learned(&whole));

    // no picture left
    struct None;
    impl Stateful for None {
        fn kind(&self) -> &'static str {
            "none"
        }
    }
    impl Refine for None {
        fn refine(&mut self, _: &Views, targets: Targets) -> candle_core::Result<Targets> {
            Ok(targets)
        }
        fn images(&self) -> Option<&[u32]> {
            Some(&[])
        }
    }
    let mut nothing = fresh();
    nothing.tuner.refine.push(Box::new(None));
    assert!(nothing.fit_epoch(&set, |_| {}).unwrap_err().to_string().contains("no picture to train on"));
}

/// A cosine head answers by angles alone, learns, and is saved with its scale.
#[test]
fn a_cosine_head_learns_and_comes_back_from_its_file() {
    let (clip, mut lafter) = (Clip::demo().unwrap(), lafter::LaFTer::new(Clip::demo().unwrap(), pictures().classes()));
    lafter.config.tune = config(serde_json::json!({"head_form": {"cosine": {"scale": 20.0}}, "prompts": 0, "epochs": 1}));
    lafter.set_text_classifier(classifier(&clip));
    lafter.fit_images(&pictures(), |_| {}).unwrap();
    let weak = clip.preprocess().batch(&[pictures().image(0).unwrap()], clip.device()).unwrap();
    let (logits, head) = (lafter.logits(&weak).unwrap(), &lafter.tuned().unwrap().head);
    assert_ne!(bits(&head.layers[0].weight.tensor()), bits(&classifier(&clip).head.layers[0].weight.tensor()));
    let cosines = normalize(&lafter.tuned().unwrap().features(&weak).unwrap()).unwrap();
    let cosines = cosines.matmul(&normalize(&head.layers[0].weight.tensor()).unwrap().t().unwrap()).unwrap();
    assert_eq!(bits(&logits), bits(&(cosines * 20.0).unwrap()));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lafter.safetensors");
    lafter.save(&path).unwrap();
    let loaded = lafter::LaFTer::load(&path, clip.clone()).unwrap();
    assert_eq!(bits(&loaded.logits(&weak).unwrap()), bits(&logits));
    assert_eq!(loaded.config.tune.head_form, lafter.config.tune.head_form);

    let mlp = TextClassifier { head: Head::mlp(clip.config().projection, 8, 12, &mut Rng::new(5), clip.device()).unwrap() };
    let error = Finetuner::new(&clip, &mlp, lafter.config.tune.clone(), &mut Rng::new(7)).map(|_| ()).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("text.hidden"), "{error}");
}
