//! Parity with PyTorch: both towers in every layout, a text-classifier step, whole tuning steps, learning-rate
//! schedules. What PyTorch computed stands in tests/fixtures/parity, with the script that made it and the versions.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor, Var};
use image::RgbImage;
use lafter::classify::{Head, TextClassifier, TextClassifierConfig, TextTrainer, normalize, smoothed_cross_entropy};
use lafter::clip::{Clip, ClipConfig, TextTower, VisionTower, Weights, read_tensors};
use lafter::data::{Dataset, ImageSource};
use lafter::nn::{AdamW, AdamWConfig, LrSchedule, Param, ParamGroup};
use lafter::progress::silent;
use lafter::rng::Rng;
use lafter::tune::{FinetuneConfig, Finetuner, Run, Views, VisualPrompts};

/// Agreement asked for: the largest difference over the largest value of the tensor.
const TOLERANCE: f32 = 1e-4;

/// The same for one step's change of a parameter: a value near 1 keeps 4 digits of a change of 5e-4.
const CHANGE: f32 = 1e-3;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity").join(name)
}

/// The tensors of one fixture, each asked for by name.
struct Fixture(HashMap<String, Tensor>);

impl Fixture {
    fn read(name: &str) -> Self {
        Self(read_tensors(fixture(name), &Device::Cpu).unwrap().0)
    }

    fn get(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("the fixture has no {name}"))
    }

    fn check(&self, name: &str, ours: &Tensor) {
        close(name, ours, self.get(name), TOLERANCE);
    }
}

fn close(name: &str, ours: &Tensor, theirs: &Tensor, tolerance: f32) {
    assert_eq!(ours.dims(), theirs.dims(), "{name}");
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (ours, theirs) = (values(ours), values(theirs));
    let scale = theirs.iter().fold(0f32, |most, value| most.max(value.abs())).max(1e-6);
    let difference = ours.iter().zip(&theirs).fold(0f32, |most, (a, b)| if b.is_nan() { f32::NAN } else { most.max((a - b).abs()) });
    assert!(difference / scale < tolerance, "{name}: off by {difference:e} where the largest value is {scale:e}");
    assert!(ours.iter().all(|value| value.is_finite()), "{name} is not finite");
}

fn config(folder: &str) -> ClipConfig {
    let read = |file: &str| std::fs::read(fixture(folder).join(file)).ok().map(|bytes| serde_json::from_slice(&bytes).unwrap());
    match (read("config.json"), read("open_clip_config.json")) {
        (Some(json), _) => ClipConfig::from_transformers(&json).unwrap(),
        (None, json) => ClipConfig::from_open_clip(&json.unwrap()).unwrap(),
    }
}

fn towers(folder: &str) -> (ClipConfig, VisionTower, TextTower) {
    let config = config(folder);
    let weights = Weights::load(fixture(folder), DType::F32, &Device::Cpu).unwrap();
    weights.check(&config).unwrap();
    let vision = VisionTower::load(&config.vision, config.projection, weights.var_builder()).unwrap();
    let text = TextTower::load(&config.text, config.projection, weights.var_builder()).unwrap();
    (config, vision, text)
}

/// ids [n, context] of the fixture, and each text's pooled position by the configuration's rule.
fn texts(config: &ClipConfig, fixture: &Fixture) -> (Tensor, Vec<usize>) {
    let ids = fixture.get("ids").to_dtype(DType::U32).unwrap();
    let ends = ids.to_vec2::<u32>().unwrap().iter().map(|row| config.text.end_of_text.position(row)).collect();
    (ids, ends)
}

#[test]
fn both_towers_agree_in_every_layout_and_activation() {
    for folder in ["quick", "gelu", "micro", "micro_f16", "micro_bf16", "open_clip_quick", "open_clip_gelu"] {
        let (config, vision, text) = towers(folder);
        let expected = Fixture::read(&format!("{folder}/expected.safetensors"));
        expected.check("image_features", &vision.forward(expected.get("pixels")).unwrap());
        let (ids, ends) = texts(&config, &expected);
        expected.check("text_features", &text.forward(&ids, &ends).unwrap());
    }
}

#[test]
fn the_open_stages_agree_one_by_one() {
    for folder in ["quick", "gelu"] {
        let (config, vision, text) = towers(folder);
        let expected = Fixture::read(&format!("{folder}/expected.safetensors"));
        let embedded = vision.embed(expected.get("pixels")).unwrap();
        expected.check("vision.embedded", &embedded);
        let encoded = vision.encode(&embedded).unwrap();
        expected.check("vision.encoded", &encoded);
        expected.check("image_features", &vision.project(&encoded).unwrap());
        let (ids, _) = texts(&config, &expected);
        let hidden = text.encode(&text.embed(&ids).unwrap()).unwrap();
        expected.check("text.last_hidden", &text.final_norm.forward(&hidden).unwrap());
    }
}

#[test]
fn attention_weights_agree_in_every_block_with_and_without_prompts() {
    let vision = towers("quick").1;
    let expected = Fixture::read("attention.safetensors");
    let pixels = expected.get("pixels");
    let prompts = VisualPrompts { layers: vec![expected.get("prompts").clone()] };
    for layer in 0..vision.blocks.len() {
        expected.check(&format!("plain.{layer}"), &vision.attention(&vision.embed(pixels).unwrap(), layer).unwrap());
        let maps = prompts.attention(&vision, pixels, layer).unwrap();
        expected.check(&format!("prompted.{layer}"), &maps.weights);
        // the map that is drawn: row of the class token, columns of the patches, mean over heads
        let theirs = expected.get(&format!("prompted.{layer}")).mean(1).unwrap().squeeze(0).unwrap().to_vec2::<f32>().unwrap();
        let map = maps.class_to_patches(0).unwrap();
        assert!(map.len() == 16 && map.iter().zip(&theirs[0][4..]).all(|(a, b)| (a - b).abs() < TOLERANCE));
    }
}

#[test]
fn both_layouts_of_the_same_weights_give_the_same_bits() {
    let pixels = Fixture::read("quick/expected.safetensors").get("pixels").clone();
    let features = |folder: &str| towers(folder).1.forward(&pixels).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(features("quick"), features("open_clip_quick"));
}

#[test]
fn a_directory_loads_as_a_whole_clip() {
    let clip = Clip::from_dir(fixture("quick")).unwrap();
    let expected = Fixture::read("quick/expected.safetensors");
    expected.check("image_features", &clip.encode_image(expected.get("pixels")).unwrap());
    assert!((clip.logit_scale() - 2.5f64.exp()).abs() < 1e-3);
    // the fixture's texts are ids only, so words are checked for what must hold: alone or in company, the same feature
    let words = ["a photo of a river", "a cat", "a long text about a river that does not fit the context of this tower"];
    let together = clip.encode_text(&words).unwrap();
    for (i, word) in words.iter().enumerate() {
        close(word, &clip.encode_text(&[word]).unwrap(), &together.narrow(0, i, 1).unwrap(), 1e-5);
    }
}

#[test]
fn text_classifier_steps_agree() {
    let expected = Fixture::read("text_classifier.safetensors");
    let labels = expected.get("labels").to_dtype(DType::U32).unwrap();
    let weight = Var::from_tensor(expected.get("weight")).unwrap();
    let group = ParamGroup { params: vec![("head".into(), weight.clone())], weight_decay: 0.01, lr_factor: 1.0 };
    let mut optimizer = AdamW::new(vec![group], AdamWConfig::default()).unwrap();
    let unit = normalize(expected.get("features")).unwrap();
    for step in 1..=2 {
        let noisy = (&unit + expected.get(&format!("noise{step}"))).unwrap();
        let logits = noisy.matmul(&weight.t().unwrap()).unwrap();
        let loss = smoothed_cross_entropy(&logits, &labels, 0.1).unwrap();
        expected.check(&format!("loss{step}"), &loss);
        let grads = loss.backward().unwrap();
        expected.check(&format!("grad{step}"), grads.get(&weight).unwrap());
        optimizer.step(&grads, 1.0).unwrap();
        expected.check(&format!("weight{step}"), &weight);
    }
}

/// The fixture's name of one of our parameters.
fn their_name(ours: &str) -> &str {
    match ours {
        "prompts.0" => "prompts",
        "head.0.weight" => "head",
        norm => norm,
    }
}

/// A fixture as a whole CLIP: tuning reads no text, but a directory is whole only with a tokenizer.
fn clip(folder: &str) -> Clip {
    let directory = tempfile::tempdir().unwrap();
    for from in [folder, "quick"].map(fixture) {
        for file in ["tokenizer.json", "preprocessor_config.json", "model.safetensors", "config.json"] {
            let to = directory.path().join(file);
            if !to.exists() && from.join(file).exists() {
                std::fs::copy(from.join(file), to).unwrap();
            }
        }
    }
    Clip::from_dir(directory.path()).unwrap()
}

/// A tuner that begins with the fixture's head and visual prompts.
fn tuner(folder: &str, expected: &Fixture, config: FinetuneConfig) -> Finetuner {
    let head = Head::from_tensors(&HashMap::from([("head.0.weight".to_string(), expected.get("head").clone())])).unwrap();
    let tuner = Finetuner::new(&clip(folder), &TextClassifier { head }, config, &mut Rng::new(1)).unwrap();
    for Param { name, var, .. } in tuner.trainable().params.iter().filter(|param| param.name.starts_with("prompts")) {
        var.set(expected.get(their_name(name))).unwrap();
    }
    tuner
}

/// Two whole steps: pseudo-labels, loss, every gradient, every parameter after AdamW.
fn tuning_steps_agree(folder: &str, expected: &str, base: FinetuneConfig) {
    let expected = Fixture::read(expected);
    let mut tuner = tuner(folder, &expected, FinetuneConfig { prompts: 3, ..base });
    let params = tuner.trainable().params.clone();
    let theirs = expected.0.keys().filter(|name| name.starts_with("step1.grad.")).count();
    assert_eq!(params.len(), theirs, "the same parameters learn");

    for step in 1..=2 {
        let (weak, strong) = (expected.get(&format!("weak{step}")), expected.get(&format!("strong{step}")));
        let labels = expected.get(&format!("step{step}.labels")).to_dtype(DType::U32).unwrap();
        let views = Views::new(weak.clone(), strong.clone());
        let targets = tuner.targets(&views).unwrap();
        assert_eq!(targets.labels.to_vec1::<u32>().unwrap(), labels.to_vec1::<u32>().unwrap());
        let (loss, logits) = tuner.loss(&views, &targets).unwrap();
        expected.check(&format!("step{step}.logits"), &logits);
        expected.check(&format!("step{step}.loss"), &loss);
        let grads = loss.backward().unwrap();
        for Param { name, var, .. } in &params {
            let grad = grads.get(var).unwrap_or_else(|| panic!("{name} has no gradient"));
            expected.check(&format!("step{step}.grad.{}", their_name(name)), grad);
        }
        let before: Vec<Tensor> = params.iter().map(|param| param.var.copy().unwrap()).collect();
        let record = tuner.step(weak, strong).unwrap();
        assert!((record.loss - loss.to_scalar::<f32>().unwrap()).abs() < 1e-6);
        for (Param { name, var, .. }, before) in params.iter().zip(before) {
            let after = format!("step{step}.after.{}", their_name(name));
            expected.check(&after, var);
            // the change alone, in which weight decay is 1 % for a value of 1
            let start = if step == 1 { &before } else { expected.get(&format!("step1.after.{}", their_name(name))) };
            close(&after, &(var.as_tensor() - &before).unwrap(), &(expected.get(&after) - start).unwrap(), CHANGE);
        }
    }
}

#[test]
fn the_official_tuning_step_agrees() {
    tuning_steps_agree("quick", "tuning_official.safetensors", FinetuneConfig::official());
}

#[test]
fn the_paper_s_tuning_step_agrees() {
    tuning_steps_agree("gelu", "tuning_paper.safetensors", FinetuneConfig::paper());
}

#[test]
fn a_tuning_step_with_deep_prompts_agrees() {
    tuning_steps_agree("quick", "tuning_deep.safetensors", FinetuneConfig { deep_prompts: true, ..FinetuneConfig::official() });
}

/// A step of a tuner with blocks: targets, loss, every gradient, every parameter after AdamW.
fn block_steps_agree(expected: &Fixture, tuner: &mut Finetuner, mut between: impl FnMut(&mut Finetuner, &lafter::tune::Targets, usize)) {
    let params = tuner.trainable().params.clone();
    for step in 1..=2 {
        let indices: Vec<u32> = if step == 1 { (0..8).collect() } else { (4..12).collect() };
        let weak = expected.get("pictures").index_select(&Tensor::new(&indices[..], &Device::Cpu).unwrap(), 0).unwrap();
        let views = Views { indices, step: step - 1, ..Views::new(weak, expected.get(&format!("strong{step}")).clone()) };
        let targets = tuner.targets(&views).unwrap();
        let labels = expected.get(&format!("step{step}.labels")).to_dtype(DType::U32).unwrap();
        assert_eq!(targets.labels.to_vec1::<u32>().unwrap(), labels.to_vec1::<u32>().unwrap());
        let (loss, logits) = tuner.loss(&views, &targets).unwrap();
        expected.check(&format!("step{step}.logits"), &logits);
        expected.check(&format!("step{step}.loss"), &loss);
        let grads = loss.backward().unwrap();
        for Param { name, var, .. } in &params {
            let grad = grads.get(var).unwrap_or_else(|| panic!("{name} has no gradient"));
            expected.check(&format!("step{step}.grad.{}", their_name(name)), grad);
        }
        tuner.apply(&loss).unwrap();
        for Param { name, var, .. } in &params {
            expected.check(&format!("step{step}.after.{}", their_name(name)), var);
        }
        between(tuner, &targets, step);
    }
}

/// Settings as the command line writes them.
fn settings(json: serde_json::Value) -> FinetuneConfig {
    let mut all = serde_json::to_value(FinetuneConfig { prompts: 3, label_smoothing: 0.0, ..FinetuneConfig::official() }).unwrap();
    all.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

#[test]
fn a_step_with_the_blocks_of_dpa_agrees() {
    let expected = Fixture::read("blocks_dpa.safetensors");
    let config = settings(serde_json::json!({
        "head_form": {"cosine": {"scale": 8.0}}, "teacher_head": "shared",
        "refine": ["align", {"prototypes": {"scale": 8.0}}, "relative"],
        "objective": [[1.0, "cross_entropy"], [0.7, "fairness"], [0.3, {"alignment": {"scale": 5.0}}]],
    }));
    let mut tuner = tuner("quick", &expected, config);
    let pictures = expected.get("pictures").clone();
    let all = tuner.teacher.targets(&Views::new(pictures.clone(), pictures)).unwrap();
    let pass = lafter::tune::Pass { indices: (0..12).collect(), features: all.features, probabilities: all.probabilities };
    tuner.refine.iter_mut().for_each(|rule| rule.prepare(12, &mut || Ok(pass.clone())).unwrap());
    block_steps_agree(&expected, &mut tuner, |tuner, targets, step| {
        expected.check(&format!("step{step}.weights"), targets.weights.as_ref().unwrap());
        expected.check(&format!("step{step}.prototypes"), targets.prototypes.as_ref().unwrap());
        tuner.refine.iter_mut().for_each(|rule| rule.after_epoch(step - 1, &mut || Ok(pass.clone())).unwrap());
    });
}

#[test]
fn a_step_with_the_blocks_of_must_agrees() {
    let expected = Fixture::read("blocks_must.safetensors");
    let config = settings(serde_json::json!({
        "head_form": {"cosine": {"scale": 8.0}}, "teacher_head": "shared",
        "teacher": {"ema": {"start": 0.9, "end": 0.99, "warm": 2}},
        "refine": [{"threshold": {"above": 0.6, "over": "kept"}}],
        "objective": [[1.0, "cross_entropy"], [0.5, {"fairness": {"averaged": true}}]],
    }));
    block_steps_agree(&expected, &mut tuner("quick", &expected, config), |_, targets, step| {
        let kept = targets.weights.as_ref().unwrap().gt(0.0).unwrap().to_dtype(DType::F32).unwrap();
        expected.check(&format!("step{step}.weights"), &kept);
    });
}

/// The schedules of the fixture, and torch's factors on the learning rate at each of its six steps.
fn schedules(expected: &Fixture) -> [(&'static str, LrSchedule, Vec<f64>); 2] {
    [("warmup", LrSchedule::Warmup { warmup: 2 }), ("cosine", LrSchedule::Cosine { warmup: 2, floor: 0.1 })].map(|(kind, schedule)| {
        let factors: Vec<f32> = expected.get(&format!("{kind}.factors")).to_vec1().unwrap();
        (kind, schedule, factors.into_iter().map(f64::from).collect())
    })
}

#[test]
fn schedules_agree() {
    for (kind, schedule, factors) in schedules(&Fixture::read("schedules.safetensors")) {
        assert_eq!(factors.len(), 6);
        for (step, factor) in factors.iter().enumerate() {
            assert!((schedule.factor(step, 6) - factor).abs() < 1e-6, "{kind}, step {step}: {}, not {factor}", schedule.factor(step, 6));
        }
    }
}

/// Eight times one picture: three epochs of two steps, whatever the order.
#[test]
fn tuning_under_a_schedule_agrees_epoch_by_epoch() {
    struct One(RgbImage);
    impl ImageSource for One {
        fn len(&self) -> usize {
            8
        }
        fn classes(&self) -> &[String] {
            &[]
        }
        fn label(&self, _: usize) -> Option<usize> {
            None
        }
        fn name(&self, index: usize) -> String {
            index.to_string()
        }
        fn image(&self, _: usize) -> lafter::Result<RgbImage> {
            Ok(self.0.clone())
        }
    }
    let expected = Fixture::read("schedules.safetensors");
    let bytes = expected.get("picture").flatten_all().unwrap().to_vec1::<u8>().unwrap();
    let pictures = Dataset::new(One(RgbImage::from_raw(16, 16, bytes).unwrap()));
    for (kind, schedule, _) in schedules(&expected) {
        let config = FinetuneConfig { epochs: 3, batch_size: 4, prompts: 3, augment: false, schedule, ..FinetuneConfig::official() };
        let mut run = Run::new(tuner("quick", &expected, config));
        let params = run.tuner.trainable().params.clone();
        let start: Vec<Tensor> = params.iter().map(|param| param.var.copy().unwrap()).collect();
        for epoch in 1..=3 {
            run.fit_epoch(&pictures, silent).unwrap();
            for (Param { name, var, .. }, start) in params.iter().zip(&start) {
                let after = format!("{kind}.epoch{epoch}.{}", their_name(name));
                expected.check(&after, var);
                close(&after, &(var.as_tensor() - start).unwrap(), &(expected.get(&after) - start).unwrap(), CHANGE);
            }
        }
    }
}

/// Without noise an epoch on all texts is one step, whose parts `text_classifier_steps_agree` compares with PyTorch.
#[test]
fn a_text_trainer_takes_each_step_at_torch_s_learning_rate() {
    let (data, expected) = (Fixture::read("text_classifier.safetensors"), Fixture::read("schedules.safetensors"));
    let labels = data.get("labels").to_dtype(DType::U32).unwrap();
    let classes: Vec<usize> = labels.to_vec1::<u32>().unwrap().into_iter().map(|label| label as usize).collect();
    let unit = normalize(data.get("features")).unwrap();
    for (kind, schedule, factors) in schedules(&expected) {
        let config = TextClassifierConfig { epochs: 6, noise: 0.0, batch_size: None, schedule, ..TextClassifierConfig::official() };
        let adamw = AdamWConfig { learning_rate: config.learning_rate, ..AdamWConfig::default() };
        let weight_decay = config.weight_decay;
        let mut trainer = TextTrainer::new(data.get("features"), &classes, config.clone(), &mut Rng::new(1)).unwrap();
        let weight = |trainer: &TextTrainer| trainer.classifier().unwrap().head.tensors()[0].1.clone();
        let start = weight(&trainer);
        let var = Var::from_tensor(&start).unwrap();
        let group = ParamGroup { params: vec![("head".into(), var.clone())], weight_decay, lr_factor: 1.0 };
        let mut optimizer = AdamW::new(vec![group], adamw).unwrap();
        for (step, factor) in factors.into_iter().enumerate() {
            trainer.epoch().unwrap();
            let loss = smoothed_cross_entropy(&unit.matmul(&var.t().unwrap()).unwrap(), &labels, config.label_smoothing).unwrap();
            optimizer.step(&loss.backward().unwrap(), factor).unwrap();
            let ours = (weight(&trainer) - &start).unwrap();
            close(&format!("{kind}, step {step}"), &ours, &(var.as_tensor() - &start).unwrap(), CHANGE);
        }
    }
}
