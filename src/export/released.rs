//! LaFTer trained in PyTorch: the state of the released code's model becomes LaFTer weights.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::classify::Head;
use crate::clip::layout::{is_wanted, passed_over, prefix, unwrapped};
use crate::clip::{Clip, Opened, Weights};
use crate::error::{Error, Result, cut};
use crate::lafter::LaFTer;
use crate::progress::{self, Event};
use crate::tune::{Norms, ParameterSet, Tuned, VisualPrompts};

/// Weights that differ by less, relative to the largest of their tensor, are the same CLIP's: f16 rounds by 0.0005, bf16 by 0.004.
const SAME: f32 = 2e-3;
const SAME_IN_BF16: f32 = 5e-3;
/// The head's first layer, by which the model is found.
const HEAD: &str = "adapter.0.weight";

/// Reads what `torch.save(model.state_dict(), …)` wrote of the model of LaFTer's released code (github.com/jmiemirza/LaFTer), in whatever
/// dictionary or data-parallel wrapper, or the same names in a safetensors file. Nothing in it is run; what is not needed is not read.
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
/// [`Error::LafterWeights`] if there are several such models, neither the average of the other, if a part is missing, has another shape or
/// is not finite, or if the frozen tower is another CLIP's; [`Error::Weights`] or [`Error::Io`] if the file cannot be read.
pub fn from_released(path: impl AsRef<Path>, clip: Clip, classes: &[impl AsRef<str>]) -> Result<LaFTer> {
    from_released_with(path, clip, classes, progress::silent)
}

/// [`from_released`] that tells what the user should know: of a model and its running average ("ema") the model is read.
///
/// # Errors
/// As [`from_released`].
pub fn from_released_with(
    path: impl AsRef<Path>,
    clip: Clip,
    classes: &[impl AsRef<str>],
    mut events: impl FnMut(&Event),
) -> Result<LaFTer> {
    let path = path.as_ref();
    let wrong = |what: String| Error::LafterWeights(format!("{}: {what}", path.display()));
    let mut file = Opened::open(path)?;
    let names: Vec<String> = file.names().iter().map(|name| unwrapped(name)).collect();
    let (prefix, average) = prefix(names.iter().map(String::as_str), HEAD).map_err(|several| {
        let remedy = "save one of them under names of its own";
        wrong(format!("holds several models, with names that begin with {}: {remedy}", several.join(", ")))
    })?;
    if !names.contains(&format!("{prefix}{HEAD}")) {
        let first = names.first().map_or("none", String::as_str);
        return Err(wrong(format!(
            "holds no {HEAD}, the head of LaFTer's released code (its first tensor is {}): save the model's whole state_dict",
            cut(first)
        )));
    }
    let of_average = |name: &str| average.as_ref().is_some_and(|average| name.starts_with(average.as_str()));
    let is_known =
        |name: &str| name == "prompt_embeddings" || ["adapter.", "adapter_pl.", "model."].iter().any(|part| name.starts_with(part));
    let of_model = names.iter().filter(|name| !of_average(name)).filter_map(|name| name.strip_prefix(&prefix));
    if let Some(name) = of_model.into_iter().find(|name| !is_known(name)) {
        let name = cut(name);
        return Err(wrong(format!("{name} is no part of the released code's model: remove it if it belongs to something else")));
    }
    average.iter().for_each(|average| events(&Event::Notice(passed_over(&path.display().to_string(), &prefix, average))));
    let mut own = Vec::new();
    let own_name = |name: &str| unwrapped(name).strip_prefix(&prefix).filter(|name| is_needed(name)).map(str::to_string);
    file.read(|name| own_name(name).is_some(), &mut |name, tensor| {
        own.extend(own_name(&name).map(|name| (name, tensor)));
        Ok(())
    })?;
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

/// Whether a tensor of the model is read: neither the text tower nor the teacher's head.
fn is_needed(name: &str) -> bool {
    name.strip_prefix("model.").map_or(!name.starts_with("adapter_pl."), |name| is_of_vision(name) && is_wanted(name))
}

fn is_of_vision(name: &str) -> bool {
    name.starts_with("vision_model.") || name.starts_with("visual")
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
    if let Some(name) = tower.names().find(|name| is_of_vision(name) && all.iter().all(|(ours, _)| ours != name)) {
        return Err(format!("{} is no part of this CLIP's vision tower: {remedy}", cut(name)));
    }
    let tuned = |name: &str| name.contains("norm") || name.contains("layrnorm");
    for (name, ours) in all.iter().filter(|(name, _)| is_of_vision(name) && !tuned(name)) {
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
