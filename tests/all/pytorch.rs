//! Weights of LaFTer's released code become LaFTer weights that give PyTorch's logits; what does not fit is refused by its name.

#[allow(dead_code)] // weights.rs writes every kind of file
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use lafter::LaFTer;
use lafter::clip::{Clip, read_checkpoint, read_tensors, save_tensors};
use lafter::export::{from_released, from_released_with, merge};
use lafter::tune::WeightsInfo;

const CLASSES: [&str; 5] = ["fish", "house", "boat", "tree", "cup"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn clip() -> Clip {
    Clip::from_dir(fixture("parity/quick")).unwrap()
}

fn released() -> PathBuf {
    fixture("pytorch/released.pth")
}

fn difference(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

fn expected() -> (Tensor, Tensor) {
    let (tensors, _) = read_tensors(fixture("pytorch/expected.safetensors"), &Device::Cpu).unwrap();
    (tensors["pixels"].clone(), tensors["logits"].clone())
}

#[test]
fn a_state_of_the_released_code_gives_pytorchs_logits() {
    let (pixels, logits) = expected();
    let lafter = from_released(released(), clip(), &CLASSES).unwrap();
    assert!(difference(&lafter.logits(&pixels).unwrap(), &logits) < 1e-4);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lafter.safetensors");
    lafter.save(&path).unwrap();
    let loaded = LaFTer::load(&path, clip()).unwrap();
    assert!(difference(&loaded.logits(&pixels).unwrap(), &logits) < 1e-4);
    assert_eq!((loaded.classes(), loaded.tuned().unwrap().prompts.count()), (lafter.classes(), 3));
    let ours = |name: &str| read_tensors(&path, &Device::Cpu).unwrap().0[name].clone();
    let theirs = read_checkpoint(released()).unwrap();
    let theirs = |name: &str| theirs.iter().find(|(other, _)| other == name).unwrap().1.clone();
    assert_eq!(difference(&ours("prompts.0"), &theirs("prompt_embeddings").squeeze(0).unwrap()), 0.0);
    assert_eq!(difference(&ours("head.0.weight"), &theirs("adapter.0.weight")), 0.0);
    let norm = difference(&ours("vision_model.pre_layrnorm.bias"), &theirs("model.visual.ln_pre.bias"));
    assert_eq!(norm, 0.0);
}

#[test]
fn wrappers_around_the_state_and_other_files_are_read_alike() {
    let (pixels, logits) = expected();
    let tensors = read_checkpoint(released()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (wrapped, safe) = (folder.path().join("model.pth.tar-50"), folder.path().join("model.safetensors"));
    let inside = crate::torch_file::flat(&tensors, "module.");
    crate::torch_file::write(&wrapped, &crate::torch_file::Item::Map(vec![("state_dict".into(), inside)]), &[]);
    save_tensors(&safe, &tensors, Default::default()).unwrap();
    for path in [wrapped, safe] {
        let lafter = from_released(&path, clip(), &CLASSES).unwrap();
        assert!(difference(&lafter.logits(&pixels).unwrap(), &logits) < 1e-4, "{}", path.display());
    }
}

#[test]
fn of_several_models_none_is_guessed_and_an_average_is_passed_over() {
    let (pixels, logits) = expected();
    let tensors = read_checkpoint(released()).unwrap();
    let other: Tensors = tensors.iter().map(|(name, tensor)| (name.clone(), (tensor * 1.1).unwrap())).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.pth");
    let write = |first: &str, second: &str| {
        let (other, own) = (crate::torch_file::flat(&other, ""), crate::torch_file::flat(&tensors, ""));
        crate::torch_file::write(&path, &crate::torch_file::Item::Map(vec![(first.into(), other), (second.into(), own)]), &[]);
    };
    write("ema", "state");
    let mut told = Vec::new();
    let lafter = from_released_with(&path, clip(), &CLASSES, |event| told.push(format!("{event:?}"))).unwrap();
    assert!(difference(&lafter.logits(&pixels).unwrap(), &logits) < 1e-4);
    assert!(
        matches!(&told[..], [one] if one.contains("running average of the weights (ema): the weights below state are read")),
        "{told:?}"
    );
    // the average beside the model's own names
    let both: Tensors =
        tensors.clone().into_iter().chain(other.iter().map(|(name, tensor)| (format!("ema.{name}"), tensor.clone()))).collect();
    crate::torch_file::write(&path, &crate::torch_file::flat(&both, ""), &[]);
    let mut told = Vec::new();
    let lafter = from_released_with(&path, clip(), &CLASSES, |event| told.push(format!("{event:?}"))).unwrap();
    assert!(difference(&lafter.logits(&pixels).unwrap(), &logits) < 1e-4 && told.len() == 1, "{told:?}");
    write("best", "last");
    let error = from_released(&path, clip(), &CLASSES).unwrap_err().to_string();
    assert!(error.contains("several models, with names that begin with best., last.: save one of them"), "{error}");
}

/// What training keeps besides, and the text tower, may hold what this crate cannot read.
#[test]
fn what_is_not_needed_is_not_read() {
    use crate::torch_file::Item;
    let (pixels, logits) = expected();
    let tensors = read_checkpoint(released()).unwrap();
    let nan = Tensor::new(f32::NAN, &Device::Cpu).unwrap();
    let mut state: Vec<_> = tensors.iter().map(|(name, tensor)| (name.clone(), Item::Tensor(tensor.clone()))).collect();
    state.retain(|(name, _)| name != "model.logit_scale");
    state.extend([("model.logit_scale".into(), Item::Tensor(nan)), ("model.attn_mask".into(), Item::Bool)]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.pth");
    let optimizer = Item::Map(vec![("found".into(), Item::Bool)]);
    crate::torch_file::write(&path, &Item::Map(vec![("optimizer".into(), optimizer), ("state_dict".into(), Item::Map(state))]), &[]);
    let lafter = from_released(&path, clip(), &CLASSES).unwrap();
    assert!(difference(&lafter.logits(&pixels).unwrap(), &logits) < 1e-4);
    // an expanded view is no damage
    let bias = Item::Expanded(Tensor::new(&[0.5f32], &Device::Cpu).unwrap(), 5);
    let mut state: Vec<_> = tensors.iter().map(|(name, tensor)| (name.clone(), Item::Tensor(tensor.clone()))).collect();
    state.push(("adapter.0.bias".into(), bias));
    crate::torch_file::write(&path, &Item::Map(state), &[]);
    let error = from_released(&path, clip(), &CLASSES).unwrap_err().to_string();
    assert!(error.ends_with("adapter.0.bias repeats few values (expand): save it with .contiguous()"), "{error}");
}

#[test]
fn the_page_names_every_key_of_a_file() {
    let lafter = from_released(released(), clip(), &CLASSES).unwrap();
    let info = WeightsInfo { scale: Some(100.0), precision: Some(lafter::nn::Precision::F32), ..lafter.info() };
    let serde_json::Value::Object(keys) = serde_json::to_value(&info).unwrap() else { unreachable!() };
    assert!(keys.len() >= 11, "{keys:?}");
    let page = include_str!("../../src/export/pytorch.md");
    keys.keys().for_each(|key| assert!(page.contains(&format!("`{key}`")), "{key} is not on the page"));
}

type Tensors = Vec<(String, Tensor)>;

/// The message for the fixture's state after a change.
fn refused(change: impl FnOnce(&mut Tensors), classes: &[&str]) -> String {
    let mut tensors = read_checkpoint(released()).unwrap();
    change(&mut tensors);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    save_tensors(&path, &tensors, Default::default()).unwrap();
    let error = from_released(&path, clip(), classes).unwrap_err().to_string();
    assert!(error.contains("state.safetensors") && !error.contains('\n'), "{error}");
    error
}

fn changed(tensors: &mut Tensors, name: &str, change: impl Fn(&Tensor) -> Tensor) {
    let (_, tensor) = tensors.iter_mut().find(|(other, _)| other == name).unwrap();
    *tensor = change(tensor);
}

#[test]
fn what_does_not_fit_is_refused_by_its_name() {
    let without = |name: &'static str| move |tensors: &mut Tensors| tensors.retain(|(other, _)| !other.contains(name));
    assert!(refused(without("adapter."), &CLASSES).contains("adapter.0.weight"));
    assert!(refused(without("ln_post.bias"), &CLASSES).contains("vision_model.post_layernorm.bias is missing"));
    let names = refused(|_| {}, &CLASSES[..4]);
    assert!(names.contains("5 outputs") && names.contains("4 classes"), "{names}");
    let other = refused(|tensors| changed(tensors, "model.visual.conv1.weight", |tensor| (tensor * 1.1).unwrap()), &CLASSES);
    assert!(other.contains("patch_embedding.weight differs") && other.contains("--model"), "{other}");
    let shape = refused(|tensors| changed(tensors, "prompt_embeddings", |tensor| tensor.narrow(2, 0, 8).unwrap()), &CLASSES);
    assert!(shape.contains("[1, 3, 8]") && shape.contains("[1, prompts, 32]"), "{shape}");
    let nan = refused(|tensors| changed(tensors, "adapter.0.weight", |tensor| (tensor * f64::NAN).unwrap()), &CLASSES);
    assert!(nan.contains("not finite"), "{nan}");
    let proj = refused(|tensors| changed(tensors, "model.visual.proj", |tensor| (tensor + 0.1).unwrap()), &CLASSES);
    assert!(proj.contains("visual_projection.weight differs"), "{proj}");
    assert!(refused(without("model.visual.proj"), &CLASSES).contains("lacks visual_projection.weight"));
    let with =
        |name: &'static str| move |tensors: &mut Tensors| tensors.push((name.into(), Tensor::ones(32, DType::F32, &Device::Cpu).unwrap()));
    for (name, said) in [
        ("model.visual.foo.weight", "visual.foo.weight is no part of this CLIP's vision tower"),
        ("model.visual.transformer.resblocks.7.ln_1.weight", "encoder.layers.7.layer_norm… is no part"),
        ("adapter.fc.weight", "adapter.fc.weight is no weight or bias of a numbered layer"),
        ("adapter.0.running_mean", "adapter.0.running_mean is no weight"),
        ("adapter.1.bias", "a bias and no weight"),
    ] {
        let error = refused(with(name), &CLASSES);
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn a_state_in_16_bits_is_the_same_clips() {
    let folder = tempfile::tempdir().unwrap();
    for kind in [DType::F16, DType::BF16] {
        let narrow = |(name, tensor): (String, Tensor)| (name, tensor.to_dtype(kind).unwrap());
        let tensors: Tensors = read_checkpoint(released()).unwrap().into_iter().map(narrow).collect();
        let path = folder.path().join("state.safetensors");
        save_tensors(&path, &tensors, Default::default()).unwrap();
        from_released(&path, clip(), &CLASSES).unwrap();
    }
}

/// A shell may stand in it.
#[test]
#[cfg(unix)]
fn an_empty_folder_is_filled_and_not_replaced() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let tensors: Tensors = read_checkpoint(released()).unwrap().into_iter().filter(|(name, _)| name != "prompt_embeddings").collect();
    let (state, out) = (folder.path().join("state.safetensors"), folder.path().join("out"));
    save_tensors(&state, &tensors, Default::default()).unwrap();
    std::fs::create_dir(&out).unwrap();
    let before = std::fs::metadata(&out).unwrap().ino();
    let saved = merge(&from_released(&state, clip(), &CLASSES).unwrap(), &out).unwrap();
    assert_eq!(std::fs::metadata(&out).unwrap().ino(), before);
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), saved.files.len());
    Clip::from_dir(&out).unwrap();
}

#[test]
fn tuned_norms_without_prompts_become_an_ordinary_clip() {
    let folder = tempfile::tempdir().unwrap();
    let (pixels, _) = expected();
    let prompted = from_released(released(), clip(), &CLASSES).unwrap();
    let error = merge(&prompted, folder.path().join("never")).unwrap_err().to_string();
    assert!(error.contains("3 visual prompts") && error.contains("--prompts 0"), "{error}");
    assert!(!folder.path().join("never").exists());

    let tensors: Tensors = read_checkpoint(released()).unwrap().into_iter().filter(|(name, _)| name != "prompt_embeddings").collect();
    let state = folder.path().join("state.safetensors");
    save_tensors(&state, &tensors, Default::default()).unwrap();
    let lafter = from_released(&state, clip(), &CLASSES).unwrap();
    let directory = folder.path().join("merged");
    let saved = merge(&lafter, &directory).unwrap();
    for name in ["config.json", "model.safetensors", "open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json"] {
        assert!(saved.files.iter().any(|file| file == name) && directory.join(name).is_file(), "{name}: {:?}", saved.files);
    }
    assert!(!saved.notices.iter().any(|notice| notice.contains("as it was")), "{:?}", saved.notices);
    let untouched = lafter::tune::Tuned { vision: clip().vision().clone(), ..lafter.tuned().unwrap().clone() };
    let mut untuned = LaFTer::new(clip(), &CLASSES);
    untuned.set_tuned(untouched);
    let saved_untuned = merge(&untuned, folder.path().join("untuned")).unwrap();
    assert!(saved_untuned.notices.iter().any(|notice| notice.contains("the base model as it was")), "{:?}", saved_untuned.notices);
    // once more into the same folder, or over the base model itself: nothing is overwritten
    let before = std::fs::read(directory.join("model.safetensors")).unwrap();
    let error = merge(&lafter, &directory).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("merged is not empty"), "{error}");
    assert_eq!(std::fs::read(directory.join("model.safetensors")).unwrap(), before);
    let merged = Clip::from_dir(&directory).unwrap();
    assert_ne!(merged.weights_hash(), clip().weights_hash());
    assert_eq!(merged.weights_hash(), saved.weights_hash);
    let tuned = lafter.tuned().unwrap();
    assert!(difference(&merged.encode_image(&pixels).unwrap(), &tuned.vision.forward(&pixels).unwrap()) < 1e-5);
    assert_eq!(difference(&merged.encode_text(&["a"]).unwrap(), &clip().encode_text(&["a"]).unwrap()), 0.0);
    let again = LaFTer::load(directory.join("lafter.safetensors"), merged).unwrap();
    assert!(difference(&again.logits(&pixels).unwrap(), &lafter.logits(&pixels).unwrap()) < 1e-5);
}
