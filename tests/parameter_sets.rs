//! What learns is a list: a set that the library does not know learns, is saved, resumed and read back like its own.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Result, Tensor, Var};
use lafter::Error;
use lafter::classify::{Head, TextClassifier};
use lafter::clip::Clip;
use lafter::nn::{Linear, Param};
use lafter::rng::Rng;
use lafter::tune::{FinetuneConfig, Finetuner, ParameterSet, Run, Tuned, WeightsInfo, standard};

/// The biases of the vision tower's perceptrons (BitFit).
#[derive(Debug)]
struct Biases;

fn layers(model: &mut Tuned) -> Vec<(String, &mut Linear)> {
    let blocks = model.vision.blocks.iter_mut().enumerate();
    let both = |(i, block): (usize, &'static str), layer| (format!("vision_model.encoder.layers.{i}.mlp.{block}.bias"), layer);
    blocks.flat_map(|(i, block)| [both((i, "fc1"), &mut block.fc1), both((i, "fc2"), &mut block.fc2)]).collect()
}

impl ParameterSet for Biases {
    fn trainable(&self, model: &mut Tuned) -> Result<Vec<Param>> {
        let fresh = |(name, layer): (String, &mut Linear)| {
            let var = Var::from_tensor(&layer.bias.as_ref().unwrap().copy()?)?;
            layer.bias = Some(var.as_tensor().clone());
            Ok(Param { name, var, decay: false })
        };
        layers(model).into_iter().map(fresh).collect()
    }

    fn tensors(&self, model: &Tuned) -> Vec<(String, Tensor)> {
        layers(&mut model.clone()).into_iter().map(|(name, layer)| (name, layer.bias.as_ref().unwrap().detach())).collect()
    }

    fn load(&self, model: &mut Tuned, saved: &mut HashMap<String, Tensor>) -> std::result::Result<(), String> {
        for (name, layer) in layers(model) {
            layer.bias = Some(saved.remove(&name).ok_or(format!("{name} is missing"))?);
        }
        Ok(())
    }

    fn adds(&self) -> bool {
        false
    }
}

fn sets() -> Vec<Box<dyn ParameterSet>> {
    let mut sets = standard();
    sets.push(Box::new(Biases));
    sets
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

#[test]
fn biases_learn_are_saved_resumed_and_read_without_a_line_in_the_tuner() {
    let clip = Clip::from_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity/quick")).unwrap();
    let (side, blocks) = (clip.config().vision.image_size, clip.config().vision.layers);
    let classifier = TextClassifier { head: Head::linear(clip.config().projection, 4, &mut Rng::new(2), &Device::Cpu).unwrap() };
    // at full decay the parameters that decay are left with a step's update alone: those that do not keep their values
    let config = FinetuneConfig { prompts: 3, learning_rate: 1e-3, weight_decay: 1000.0, ..FinetuneConfig::official() };
    let make = || Run::new(Finetuner::with_sets(&clip, &classifier, config.clone(), sets(), &mut Rng::new(4)).unwrap());
    let view = |i: u64| Rng::new(i).normal_tensor((6, 3, side, side), 1.0, &Device::Cpu).unwrap();
    let mut run = make();
    let tuner = &mut run.tuner;
    let biases: Vec<Param> = tuner.trainable().params.iter().filter(|param| param.name.contains("mlp")).cloned().collect();
    assert_eq!(biases.len(), 2 * blocks);
    let plain = Finetuner::new(&clip, &classifier, config.clone(), &mut Rng::new(4)).unwrap();
    assert_eq!(tuner.trainable().total, plain.trainable().total, "the biases are the CLIP's own parameters");

    let before: Vec<Tensor> = tuner.trainable().params.iter().map(|param| param.var.copy().unwrap()).collect();
    tuner.step(&view(1), &view(2)).unwrap();
    for (param, before) in tuner.trainable().params.iter().zip(&before) {
        let moved = (param.var.as_tensor() - before).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
        assert!(moved.to_scalar::<f32>().unwrap() > 0.0, "{} did not move", param.name);
        let largest = param.var.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
        let was = before.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
        let gone = largest < 1.1e-3 && was > 1.1e-3; // an update is as large as the learning rate
        assert_eq!(gone, param.decay && was > 1.1e-3, "{}: {was} became {largest}", param.name);
    }

    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("checkpoint.safetensors");
    run.checkpoint(&checkpoint).unwrap();
    let mut resumed = make();
    resumed.resume(&checkpoint).unwrap();
    for run in [&mut run, &mut resumed] {
        run.tuner.step(&view(3), &view(4)).unwrap();
    }
    for (a, b) in run.tuner.trainable().params.iter().zip(&resumed.tuner.trainable().params) {
        assert_eq!(bits(&a.var), bits(&b.var), "{} after a resumed step", a.name);
    }

    let file = folder.path().join("lafter.safetensors");
    let info = WeightsInfo {
        base_model: "tiny".into(),
        weights_hash: clip.weights_hash().into(),
        classes: ["a", "b", "c", "d"].map(String::from).into(),
        preset: "official".into(),
        seed: 4,
        scale: None,
        normalise: false,
        precision: None,
        vision: None,
        preprocess: None,
        version: "0".into(),
    };
    let tuned = run.tuner.tuned();
    tuned.save_with(&file, &info, &sets()).unwrap();
    let (loaded, _) = Tuned::load_with(&file, &clip, &sets()).unwrap();
    assert_eq!(bits(&loaded.logits(&view(5)).unwrap()), bits(&tuned.logits(&view(5)).unwrap()));
    let error = Tuned::load(&file, &clip).unwrap_err();
    assert!(matches!(error, Error::LafterWeights(_)) && error.to_string().contains("mlp"), "{error}");
}
