//! LaFTer trained in PyTorch: the state of the released code's model becomes LaFTer weights.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::classify::Head;
use crate::clip::{Clip, Weights, read_checkpoint};
use crate::error::{Error, Result, cut};
use crate::lafter::LaFTer;
use crate::tune::{Norms, ParameterSet, Tuned, VisualPrompts};

/// Weights that differ by less, relative to the largest of their tensor, are the same CLIP's: f16 rounds by 0.0005, bf16 by 0.004.
const SAME: f32 = 2e-3;
const SAME_IN_BF16: f32 = 5e-3;

/// Reads what `torch.save(model.state_dict(), …)` wrote of the model of LaFTer's released code (github.com/jmiemirza/LaFTer), in whatever
/// dictionary or data-parallel wrapper, or the same names in a safetensors file. Nothing in it is run.
///
/// | its name | shape | here |
/// |---|---|---|
/// | `prompt_embeddings` | `[1, prompts, width]` | visual prompts; none if it is missing |
/// | `adapter.0.weight` (`adapter.2.weight`, … with biases: an MLP) | `[C, d]` | the head |
/// | `model.visual.….ln_1.weight`, … | `[width]` | the vision tower's layer norms |
/// | `adapter_pl.…` | | the teacher's head of stage two: not needed |
/// | all other names of `model.visual.` | | the frozen tower: compared with the base model's, not kept |
/// | all other names of `model.` | | the text tower, which has done its part: not needed |
/// | anything else | | refused |
///
/// Features are not normalized before the head, as that code has it. The result can be saved as any run's.
///
/// ```no_run
/// use lafter::{clip::Clip, export::from_released};
/// let clip = Clip::from_hub("openai/clip-vit-base-patch32")?;
/// from_released("lafter.pth", clip, &["airplane", "automobile"])?.save("lafter.safetensors")?;
/// # Ok::<(), lafter::Error>(())
/// ```
///
/// # Errors
/// [`Error::LafterWeights`] if a part is missing, has another shape or is not finite, or if the frozen tower is another CLIP's;
/// [`Error::Weights`] or [`Error::Io`] if the file cannot be read.
pub fn from_released(path: impl AsRef<Path>, clip: Clip, classes: &[impl AsRef<str>]) -> Result<LaFTer> {
    let path = path.as_ref();
    let wrong = |what: String| Error::LafterWeights(format!("{}: {what}", path.display()));
    let tensors = read_checkpoint(path)?;
    let Some(prefix) = prefix(tensors.iter().map(|(name, _)| name.as_str())) else {
        let first = tensors.first().map_or("none", |(name, _)| name.as_str());
        return Err(wrong(format!(
            "holds no adapter.0.weight, the head of LaFTer's released code (its first tensor is {}): save the model's whole state_dict",
            cut(first)
        )));
    };
    let own: Vec<(String, Tensor)> =
        tensors.into_iter().filter_map(|(name, tensor)| Some((name.strip_prefix(&prefix)?.to_string(), tensor))).collect();

    let is_known =
        |name: &str| name == "prompt_embeddings" || ["adapter.", "adapter_pl.", "model."].iter().any(|part| name.starts_with(part));
    if let Some((name, _)) = own.iter().find(|(name, _)| !is_known(name)) {
        let name = cut(name);
        return Err(wrong(format!("{name} is no part of the released code's model: remove it if it belongs to something else")));
    }
    let mut tuned =
        Tuned { vision: clip.vision().detached(), prompts: VisualPrompts::none(), head: head(&own).map_err(&wrong)?, normalize: false };
    tuned.prompts = prompts(&own, tuned.vision.config().width).map_err(&wrong)?;
    let tower = own.iter().filter_map(|(name, tensor)| Some((name.strip_prefix("model.")?.to_string(), tensor.clone())));
    let tower = Weights::from_tensors(tower, &path.display().to_string(), DType::F32, &Device::Cpu)?;
    let in_bf16 = own.iter().any(|(name, tensor)| name.starts_with("model.") && tensor.dtype() == DType::BF16);
    same_tower(&tower, &clip, if in_bf16 { SAME_IN_BF16 } else { SAME }).map_err(&wrong)?;
    let mut saved: HashMap<String, Tensor> = tower.names().filter_map(|name| Some((name.to_string(), tower.get(name)?.clone()))).collect();
    Norms.load(&mut tuned, &mut saved).map_err(&wrong)?;

    let (inputs, width) = (tuned.head.inputs(), clip.config().projection);
    if inputs != width {
        return Err(wrong(format!(
            "the head expects features of width {inputs}, this CLIP's have {width}: name the CLIP it was trained on"
        )));
    }
    if tuned.head.classes() != classes.len() {
        let (outputs, names) = (tuned.head.classes(), classes.len());
        return Err(wrong(format!(
            "the head has {outputs} outputs, the list names {names} classes: give those it was trained with, in its order"
        )));
    }
    let mut lafter = LaFTer::new(clip, classes);
    lafter.config.tune.prompts = tuned.prompts.count();
    lafter.set_tuned(tuned);
    Ok(lafter)
}

/// What stands before the model's own names, which is what stands before its head's.
fn prefix<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<String> {
    let before = |name: &'a str| name.strip_suffix("adapter.0.weight").filter(|prefix| prefix.is_empty() || prefix.ends_with('.'));
    names.find_map(before).map(str::to_string)
}

/// The layers of `adapter`, a sequence in which activations have numbers, too.
fn head(own: &[(String, Tensor)]) -> std::result::Result<Head, String> {
    let mut numbers: Vec<usize> = own.iter().filter_map(|(name, _)| layer(name)).map(|(number, _)| number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let mut layers = HashMap::new();
    for (name, tensor) in own.iter().filter(|(name, _)| name.starts_with("adapter.")) {
        let place = layer(name).and_then(|(number, kind)| Some((numbers.binary_search(&number).ok()?, kind)));
        let Some((i, kind)) = place else {
            let remedy = "remove it if it belongs to something else";
            return Err(format!("{} is no weight or bias of a numbered layer, as a head's are: {remedy}", cut(name)));
        };
        layers.insert(format!("head.{i}.{kind}"), finite(name, tensor)?);
    }
    let head = Head::from_tensors(&layers).map_err(|e| format!("its head (adapter) cannot be read: {}", Error::from(e)))?;
    if head.tensors().len() == layers.len() { Ok(head) } else { Err("its head (adapter) has a layer with a bias and no weight".into()) }
}

/// The number and the kind in `adapter.2.weight`.
fn layer(name: &str) -> Option<(usize, &str)> {
    let (number, kind) = name.strip_prefix("adapter.")?.split_once('.')?;
    Some((number.parse().ok()?, kind)).filter(|(_, kind)| ["weight", "bias"].contains(kind))
}

fn prompts(own: &[(String, Tensor)], width: usize) -> std::result::Result<VisualPrompts, String> {
    let Some((name, tensor)) = own.iter().find(|(name, _)| name == "prompt_embeddings") else { return Ok(VisualPrompts::none()) };
    match *tensor.dims() {
        [1, count, found] if count > 0 && found == width => {
            let layer = finite(name, tensor)?.squeeze(0).map_err(|e| Error::from(e).to_string())?;
            Ok(VisualPrompts { layers: vec![layer] })
        }
        ref shape => Err(format!("prompt_embeddings has shape {shape:?}, the tower expects [1, prompts, {width}]")),
    }
}

/// A tensor in f32, if all its values are finite.
fn finite(name: &str, tensor: &Tensor) -> std::result::Result<Tensor, String> {
    let fault = |e: candle_core::Error| format!("{name}: {}", Error::from(e));
    let tensor = tensor.to_dtype(DType::F32).map_err(fault)?;
    match crate::checkpoint::all(&tensor, f32::is_finite) {
        Ok(true) => Ok(tensor),
        Ok(false) => Err(format!("{name} holds a value that is not finite: use an earlier state")),
        Err(error) => Err(format!("{name}: {error}")),
    }
}

/// Refuses norms that were tuned in another CLIP: what was frozen must be the base model's, up to `rounding`.
fn same_tower(tower: &Weights, clip: &Clip, rounding: f32) -> std::result::Result<(), String> {
    let fault = |e: Error| e.to_string();
    let all = clip.tensors_with(clip.vision()).map_err(fault)?;
    let remedy = "name the base model that it was trained on (--model)";
    let of_vision = |name: &str| name.starts_with("vision_model.") || name.starts_with("visual");
    if let Some(name) = tower.names().find(|name| of_vision(name) && all.iter().all(|(ours, _)| ours != name)) {
        return Err(format!("{} is no part of this CLIP's vision tower: {remedy}", cut(name)));
    }
    let tuned = |name: &str| name.contains("norm") || name.contains("layrnorm");
    for (name, ours) in all.iter().filter(|(name, _)| of_vision(name) && !tuned(name)) {
        let Some(theirs) = tower.get(name) else {
            return Err(format!("it lacks {name}, by which the base model is known: save the model's whole state_dict"));
        };
        if theirs.dims() != ours.dims() {
            return Err(format!("{name} has shape {:?}, this CLIP's {:?}: {remedy}", theirs.dims(), ours.dims()));
        }
        let furthest = || -> candle_core::Result<(f32, f32)> {
            let largest = |tensor: &Tensor| tensor.abs()?.max_all()?.to_scalar::<f32>();
            Ok((largest(&(theirs - ours)?)?, largest(ours)?))
        };
        let (off, size) = furthest().map_err(|e| fault(e.into()))?;
        if off > rounding * size {
            return Err(format!("{name} differs from this CLIP's by {off:.3}: {remedy}"));
        }
    }
    Ok(())
}
