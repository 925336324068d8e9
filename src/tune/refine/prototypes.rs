//! Image prototypes: what each class looks like in the pictures themselves, as a second source of answers (DPA, Ali et al. 2025).

use std::collections::HashMap;

use candle_core::{D, DType, Result, Tensor};
use candle_nn::ops::softmax;
use serde::{Deserialize, Serialize};

use super::{PassFn, Refine};
use crate::classify::{Head, normalize};
use crate::nn::argmax;
use crate::tune::config::LARGEST;
use crate::tune::role::{Flow, What};
use crate::tune::rows;
use crate::tune::{Setup, Stateful, Targets, Views};

/// p^c = softmax(s f_w Pᵀ), p = a p^c + (1 − a) q, ŷ = argmax p; q is the answer so far.
///
/// Before training, all weak views pass once: their features are the memory M, their pseudo-labels its labels. P_c is the unit mean
/// of the features whose label is c, and the head's own unit row where there is none. Each step writes the features and ŷ of its
/// batch to the memory; after each epoch P is made anew. A picture that cannot be read is in no prototype. (DPA's released code,
/// `utils/model.py` and `engine_self_training.py` of Externalhappy/DPA.)
///
/// The memory takes 4 (d + 1) bytes a picture: 102 MB for 50,000 of width 512, also in a checkpoint. In f16 that would be half, but a
/// resumed run would then go on from rounded features, and end otherwise than one that was not stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prototypes {
    /// a, the share of the prototypes' answer, 0 to 1; default 0.5.
    pub share: f64,
    /// s, by which cosines are multiplied before the softmax, above 0; default 100.
    pub scale: f64,
}

impl Default for Prototypes {
    fn default() -> Self {
        Self { share: 0.5, scale: 100.0 }
    }
}

impl Flow for Prototypes {
    fn needs(&self) -> &'static [What] {
        &[What::Answers]
    }

    fn gives(&self) -> &'static [What] {
        &[What::Answers, What::Labels, What::SecondSource, What::Prototypes]
    }
}

impl Prototypes {
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        match ((0.0..=1.0).contains(&self.share), self.scale > 0.0 && self.scale <= LARGEST) {
            (false, _) => Err(format!("prototypes: share must lie in [0, 1], got {}", self.share)),
            (_, false) => Err(format!("prototypes: scale must be above 0 and at most 1e6, got {}", self.scale)),
            _ => Ok(()),
        }
    }

    pub(super) fn block(&self, setup: &Setup) -> Result<Box<dyn Refine>> {
        match &setup.head.layers[..] {
            [layer] if layer.bias.is_none() => {}
            _ => candle_core::bail!("prototypes stand where the head has rows: leave text.hidden null"),
        }
        Ok(Box::new(Memory { settings: self.clone(), head: setup.student.head.detached(), known: None, empty: None }))
    }
}

/// P `[C, d]`: the unit mean of the features `[n, d]` with label c; the row of `text` `[C, d]` for a class without any. A label of C
/// is none. Also how many classes have none.
///
/// # Errors
/// If there is not one label per feature, or one is above C (Candle's).
pub fn prototypes(features: &Tensor, labels: &Tensor, text: &Tensor) -> Result<(Tensor, usize)> {
    let (classes, width) = text.dims2()?;
    let sums = Tensor::zeros((classes + 1, width), DType::F32, text.device())?.index_add(labels, features, 0)?.narrow(0, 0, classes)?;
    let mut counts = vec![0usize; classes + 1];
    for label in labels.to_vec1::<u32>()? {
        counts[(label as usize).min(classes)] += 1;
    }
    let named: Vec<f32> = counts[..classes].iter().map(|count| f32::from(u8::from(*count > 0))).collect();
    let empty = named.iter().filter(|named| **named == 0.0).count();
    let named = Tensor::from_vec(named, (classes, 1), text.device())?;
    // the sum where there is one, the text's row elsewhere: both to unit length
    let rows = (sums.broadcast_mul(&named)? + text.broadcast_mul(&(1.0 - named)?)?)?;
    Ok((normalize(&rows)?, empty))
}

/// The memory, and the prototypes of the last epoch's end.
struct Memory {
    settings: Prototypes,
    /// The student's head; it shares the storage.
    head: Head,
    known: Option<Known>,
    /// Classes without a picture, not yet told.
    empty: Option<usize>,
}

struct Known {
    /// M `[n, d]`.
    features: Tensor,
    /// `[n]` u32; C for a picture that was not seen.
    labels: Tensor,
    /// P `[C, d]`.
    prototypes: Tensor,
}

impl Memory {
    fn text(&self) -> Result<Tensor> {
        self.head.layers.first().map(|layer| layer.weight.tensor()).ok_or_else(|| candle_core::Error::msg("the head has no layer"))
    }
}

impl Refine for Memory {
    fn refine(&mut self, views: &Views, targets: Targets) -> Result<Targets> {
        let Some(Known { features, labels, prototypes }) = &self.known else {
            candle_core::bail!("prototypes come from all pictures: let a Run lead the tuner, or call prepare")
        };
        let Prototypes { share, scale } = self.settings;
        let own = softmax(&(targets.features.matmul(&prototypes.t()?)? * scale)?, D::Minus1)?; // p^c [b, C]
        let mixed = ((&own * share)? + (&targets.probabilities * (1.0 - share))?)?;
        let mut targets = targets.with_probabilities(mixed)?;
        targets.sources.push(own);
        targets.prototypes = Some(prototypes.clone());
        let places = rows::indices(views, &targets.features)?;
        rows::write(features, &places, &targets.features)?;
        rows::write(labels, &places, &targets.labels)?;
        Ok(targets)
    }

    fn prepare(&mut self, images: usize, pass: &mut PassFn) -> crate::error::Result<()> {
        let (pass, (classes, width)) = (pass()?, self.text()?.dims2()?);
        let device = pass.features.device();
        let places = Tensor::new(&pass.indices[..], device)?;
        let features = Tensor::zeros((images, width), DType::F32, device)?;
        let labels = Tensor::full(classes as u32, images, device)?.contiguous()?;
        rows::write(&features, &places, &pass.features)?;
        rows::write(&labels, &places, &argmax(&pass.probabilities)?)?;
        let (prototypes, empty) = prototypes(&features, &labels, &self.text()?)?;
        (self.known, self.empty) = (Some(Known { features, labels, prototypes }), Some(empty));
        Ok(())
    }

    fn after_epoch(&mut self, _: usize, _: &mut PassFn) -> crate::error::Result<()> {
        let Some(Known { features, labels, .. }) = &self.known else { return Ok(()) };
        let (made, empty) = prototypes(features, labels, &self.text()?)?;
        self.empty = Some(empty);
        self.known.iter_mut().for_each(|known| known.prototypes = made.clone());
        Ok(())
    }

    fn notices(&mut self) -> Vec<String> {
        let classes = self.head.classes();
        let told = |empty| format!("prototypes: no picture was named as {empty} of the {classes} classes; their texts stand for them");
        self.empty.take().filter(|empty| *empty > 0).map(told).into_iter().collect()
    }
}

impl Stateful for Memory {
    fn kind(&self) -> &'static str {
        "prototypes"
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let Some(Known { features, labels, prototypes }) = &self.known else { return Vec::new() };
        [("features", features), ("labels", labels), ("prototypes", prototypes)].map(|(name, t)| (name.to_string(), t.clone())).to_vec()
    }

    fn restore(&mut self, saved: &HashMap<String, Tensor>) -> Result<()> {
        self.known = match saved.is_empty() {
            true => None,
            false => {
                let (classes, width) = self.text()?.dims2()?;
                let features = rows::saved(saved, "features", &[0, width])?;
                let labels = rows::saved(saved, "labels", &[features.dim(0)?])?;
                Some(Known { features, labels, prototypes: rows::saved(saved, "prototypes", &[classes, width])? })
            }
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::tune::refine::tests::close;

    /// Numbers of a reference in f64.
    #[test]
    fn prototypes_are_the_reference_s() {
        let points = Tensor::new(&[[0.9f32, 0.3, 0.1], [0.7, 0.6, 0.1], [0.2, 0.9, 0.2], [0.8, 0.1, 0.3]], &Device::Cpu).unwrap();
        let (labels, text) = (Tensor::new(&[0u32, 1, 1, 0], &Device::Cpu).unwrap(), Tensor::eye(3, DType::F32, &Device::Cpu).unwrap());
        let (made, empty) = prototypes(&normalize(&points).unwrap(), &labels, &text).unwrap();
        close(&made, &[0.948527, 0.218081, 0.229645, 0.509547, 0.843771, 0.168561, 0.0, 0.0, 1.0]);
        assert_eq!(empty, 1);
        // a picture without a label is in none
        let labels = Tensor::new(&[0u32, 3, 3, 3], &Device::Cpu).unwrap();
        let (made, empty) = prototypes(&points, &labels, &text).unwrap();
        close(&made.narrow(0, 0, 2).unwrap(), &[0.943456, 0.314485, 0.104828, 0.0, 1.0, 0.0]);
        assert_eq!(empty, 2);
    }
}
