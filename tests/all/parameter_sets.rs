//! What learns is a list: a set that the library does not know learns, is saved, resumed and read back like its own.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Result, Tensor, Var};
use lafter::Error;
use lafter::classify::{Head, TextClassifier};
use lafter::clip::Clip;
use lafter::nn::{Attention, Linear, Param};
use lafter::rng::Rng;
use lafter::tune::{FinetuneConfig, Finetuner, LowRankConfig, ParameterSet, Projection, Run, Tuned, Views, WeightsInfo, standard};

/// The class token's embedding, which the library has no set for.
#[derive(Debug)]
struct ClassToken;

const NAME: &str = "vision_model.embeddings.class_embedding";

impl ParameterSet for ClassToken {
    fn trainable(&self, model: &mut Tuned) -> Result<Vec<Param>> {
        let var = Var::from_tensor(&model.vision.class_embedding.copy()?)?;
        model.vision.class_embedding = var.as_tensor().clone();
        Ok(vec![Param { name: NAME.into(), var, decay: false }])
    }

    fn tensors(&self, model: &Tuned) -> Vec<(String, Tensor)> {
        vec![(NAME.into(), model.vision.class_embedding.detach())]
    }

    fn load(&self, model: &mut Tuned, saved: &mut HashMap<String, Tensor>) -> std::result::Result<(), String> {
        model.vision.class_embedding = saved.remove(NAME).ok_or(format!("{NAME} is missing"))?;
        Ok(())
    }

    fn adds(&self) -> bool {
        false
    }
}

fn sets() -> Vec<Box<dyn ParameterSet>> {
    let mut sets = standard();
    sets.push(Box::new(ClassToken));
    sets
}

fn tiny() -> (Clip, TextClassifier) {
    let clip = Clip::from_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity/quick")).unwrap();
    let head = Head::linear(clip.config().projection, 4, &mut Rng::new(2), &Device::Cpu).unwrap();
    (clip, TextClassifier { head })
}

fn info(clip: &Clip) -> WeightsInfo {
    WeightsInfo {
        base_model: "tiny".into(),
        base_commit: None,
        weights_hash: clip.weights_hash().into(),
        classes: ["a", "b", "c", "d"].map(String::from).into(),
        preset: "official".into(),
        seed: 4,
        scale: None,
        normalize: false,
        precision: None,
        vision: None,
        preprocess: None,
        version: "0".into(),
    }
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

#[test]
fn a_set_of_ones_own_learns_is_saved_resumed_and_read_without_a_line_in_the_tuner() {
    let (clip, classifier) = tiny();
    let side = clip.config().vision.image_size;
    // at full decay the parameters that decay are left with a step's update alone: those that do not keep their values
    let config = FinetuneConfig { prompts: 3, learning_rate: 1e-3, weight_decay: 1000.0, ..FinetuneConfig::official() };
    let make = || Run::new(Finetuner::with_sets(&clip, &classifier, config.clone(), sets(), &mut Rng::new(4)).unwrap());
    let view = |i: u64| Rng::new(i).normal_tensor((6, 3, side, side), 1.0, &Device::Cpu).unwrap();
    let mut run = make();
    let tuner = &mut run.tuner;
    assert_eq!(tuner.trainable().params.iter().filter(|param| param.name == NAME).count(), 1);
    let plain = Finetuner::new(&clip, &classifier, config.clone(), &mut Rng::new(4)).unwrap();
    assert_eq!(tuner.trainable().total, plain.trainable().total, "the token is the CLIP's own parameter");

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
    let tuned = run.tuner.tuned();
    tuned.save_with(&file, &info(&clip), &sets()).unwrap();
    let (loaded, _) = Tuned::load_with(&file, &clip, &sets()).unwrap();
    assert_eq!(bits(&loaded.logits(&view(5)).unwrap()), bits(&tuned.logits(&view(5)).unwrap()));
    let error = Tuned::load(&file, &clip).unwrap_err();
    assert!(matches!(error, Error::LafterWeights(_)) && error.to_string().contains(NAME), "{error}");
}

fn largest(tensor: &Tensor) -> f32 {
    tensor.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

/// Biases and low-rank updates by the settings alone: gradients, step 0, checkpoint, file, folding.
#[test]
fn biases_and_low_rank_updates_learn_are_saved_resumed_and_folded() {
    let (clip, classifier) = tiny();
    let (side, blocks, width) = (clip.config().vision.image_size, clip.config().vision.layers, clip.config().vision.width);
    let view = |i: u64| Rng::new(i).normal_tensor((6, 3, side, side), 1.0, &Device::Cpu).unwrap();
    let base = FinetuneConfig { prompts: 0, tune_norms: false, learning_rate: 1e-2, ..FinetuneConfig::official() };
    let all = LowRankConfig { rank: 3, alpha: 6.0, of: vec![Projection::Output, Projection::Query, Projection::Key, Projection::Value] };
    for (tune_biases, low_rank) in [(true, None), (false, Some(LowRankConfig::default())), (true, Some(all))] {
        let config = FinetuneConfig { tune_biases, low_rank, ..base.clone() };
        let make = || Run::new(Finetuner::new(&clip, &classifier, config.clone(), &mut Rng::new(4)).unwrap());
        let mut run = make();
        let untuned = Tuned { vision: clip.vision().clone(), ..run.tuner.tuned() };
        let (begun, before) = (run.tuner.tuned().logits(&view(1)).unwrap(), untuned.logits(&view(1)).unwrap());
        assert!(largest(&(begun - &before).unwrap()) < 1e-5 * largest(&before), "a packed block rounds in another order");
        // computed layer by layer, the first answer is the untuned tower's to the bit
        let plain = |tuned: &Tuned, changed: bool| {
            let mut tuned = tuned.clone();
            for block in &mut tuned.vision.blocks {
                let Attention { query, key, value, output, .. } = &mut block.attention;
                for layer in [query, key, value, output, &mut block.fc1, &mut block.fc2] {
                    let low_rank = layer.tuning.low_rank.clone().filter(|_| changed);
                    *layer = Linear::new(layer.weight.tensor(), layer.bias.clone());
                    layer.tuning.low_rank = low_rank;
                }
            }
            bits(&tuned.logits(&view(1)).unwrap())
        };
        assert_eq!(plain(&run.tuner.tuned(), true), plain(&untuned, false), "before the first step");

        // each has a gradient: B at once, A as soon as B is not zero
        let params = run.tuner.trainable().params.clone();
        let per_block = |ending: &str| params.iter().filter(|param| param.name.ends_with(ending)).count() / blocks;
        let of = config.low_rank.as_ref().map_or(0, |set| set.of.len());
        assert_eq!((per_block(".bias"), per_block(".lora_a"), per_block(".lora_b")), (if tune_biases { 6 } else { 0 }, of, of));
        let before: Vec<Tensor> = params.iter().map(|param| param.var.copy().unwrap()).collect();
        let moved = |i: usize, before: &[Tensor]| largest(&(params[i].var.as_tensor() - &before[i]).unwrap()) > 0.0;
        run.tuner.step(&view(1), &view(2)).unwrap();
        for (i, param) in params.iter().enumerate() {
            // no key's bias changes a softmax over keys; a norm, which does not learn here, would hide rounding
            let has = !param.name.ends_with(".lora_a") && !param.name.ends_with("k_proj.bias");
            assert!(moved(i, &before) || !has, "{} did not move", param.name);
        }
        let views = Views::new(view(3), view(4));
        let targets = run.tuner.targets(&views).unwrap();
        let grads = run.tuner.loss(&views, &targets).unwrap().0.backward().unwrap();
        for param in &params {
            let gradient = largest(grads.get(&param.var).unwrap_or_else(|| panic!("{} has no gradient", param.name)));
            assert!(gradient > 1e-7 || param.name.ends_with("k_proj.bias"), "{}: {gradient:e}", param.name);
        }
        run.tuner.step(&view(3), &view(4)).unwrap();
        assert_eq!(
            bits(&clip.vision().blocks[0].attention.query.weight.tensor()),
            bits(&untuned.vision.blocks[0].attention.query.weight.tensor())
        );
        let added: usize = params.iter().filter(|p| p.name.contains("lora")).map(|p| p.var.elem_count()).sum();
        let rank = config.low_rank.as_ref().map_or(0, |set| set.rank);
        assert_eq!(added, blocks * of * 2 * rank * width);
        let head = clip.config().projection * 4;
        assert_eq!(run.tuner.trainable().total, clip.parameter_count() + added + head, "biases are the CLIP's own");

        let folder = tempfile::tempdir().unwrap();
        let checkpoint = folder.path().join("checkpoint.safetensors");
        run.checkpoint(&checkpoint).unwrap();
        let mut resumed = make();
        resumed.resume(&checkpoint).unwrap();
        for run in [&mut run, &mut resumed] {
            run.tuner.step(&view(5), &view(6)).unwrap();
        }
        for (a, b) in params.iter().zip(&resumed.tuner.trainable().params) {
            assert_eq!(bits(&a.var), bits(&b.var), "{} after a resumed step", a.name);
        }

        let (file, again) = (folder.path().join("lafter.safetensors"), folder.path().join("again.safetensors"));
        let tuned = run.tuner.tuned();
        tuned.save(&file, &info(&clip)).unwrap();
        let (loaded, info) = Tuned::load(&file, &clip).unwrap();
        let (ours, learned) = (loaded.logits(&view(7)).unwrap(), tuned.logits(&view(7)).unwrap());
        assert!(largest(&(&ours - &learned).unwrap()) < 1e-5 * largest(&learned), "folded");
        assert!(largest(&(&ours - untuned.logits(&view(7)).unwrap()).unwrap()) > 1e-3 * largest(&learned), "not read at all");
        assert!(loaded.vision.blocks.iter().all(|block| block.attention.query.tuning.low_rank.as_ref().is_none_or(|change| change.folded)));
        loaded.save(&again, &info).unwrap();
        assert_eq!(bits(&Tuned::load(&again, &clip).unwrap().0.logits(&view(7)).unwrap()), bits(&ours), "saved again");
    }
}

#[test]
fn damaged_updates_are_refused() {
    let (clip, classifier) = tiny();
    let config = FinetuneConfig { prompts: 0, low_rank: Some(LowRankConfig::default()), ..FinetuneConfig::official() };
    let tuned = Finetuner::new(&clip, &classifier, config, &mut Rng::new(4)).unwrap().tuned();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lafter.safetensors");
    tuned.save(&file, &info(&clip)).unwrap();
    let (tensors, metadata) = lafter::clip::read_tensors(&file, &Device::Cpu).unwrap();
    let name = "vision_model.encoder.layers.0.self_attn.q_proj.lora_a";
    type Damage = fn(&mut HashMap<String, Tensor>, &str);
    let damages: [(Damage, &str); 3] = [
        (|tensors, name| drop(tensors.remove(name)), "one of lora_a and lora_b"),
        (|tensors, name| *tensors.get_mut(name).unwrap() = tensors[name].narrow(0, 0, 2).unwrap(), "expects [rank"),
        (|tensors, _| drop(tensors.remove("low_rank.scale")), "no place"),
    ];
    for (damage, words) in damages {
        let mut damaged = tensors.clone();
        damage(&mut damaged, name);
        let damaged: Vec<(String, Tensor)> = damaged.into_iter().collect();
        let mut metadata = metadata.clone();
        metadata.remove("tensors");
        lafter::clip::save_tensors(&file, &damaged, metadata).unwrap();
        let error = Tuned::load(&file, &clip).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
