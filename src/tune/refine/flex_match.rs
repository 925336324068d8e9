//! A threshold per class, lower where few pictures were ever sure (FlexMatch, Zhang et al. 2021).

use std::collections::HashMap;

use candle_core::{D, DType, Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::{PassFn, Refine};
use crate::tune::role::{Flow, What};
use crate::tune::rows;
use crate::tune::{Setup, Stateful, Targets, Views};

/// w_i = \[max p_i ≥ T β_ŷ / (2 − β_ŷ)\], β_c = n_c / max(max_c n_c, n_none): n_c is how many pictures were named c when they last
/// reached T, n_none how many never did. `top_k` and `candidates` are refused next to it: what they leave out would stay in n_none.
///
/// A method of semi-supervised learning, with some labels; no released code uses it to tune CLIP without any.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlexMatch {
    /// T, above 0 and below 1; default 0.95.
    pub above: f64,
}

impl Default for FlexMatch {
    fn default() -> Self {
        Self { above: 0.95 }
    }
}

impl Flow for FlexMatch {
    fn needs(&self) -> &'static [What] {
        &[What::Answers, What::Labels, What::Weights]
    }

    fn gives(&self) -> &'static [What] {
        &[What::Weights]
    }
}

impl FlexMatch {
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        match self.above > 0.0 && self.above < 1.0 {
            true => Ok(()),
            false => Err(format!("flex_match: above must lie in (0, 1), got {}", self.above)),
        }
    }

    pub(super) fn block(&self, setup: &Setup) -> Result<Box<dyn Refine>> {
        let (classes, device) = (setup.head.classes(), setup.clip.device().clone());
        Ok(Box::new(Learned { above: self.above, classes, device, last: None }))
    }
}

struct Learned {
    above: f64,
    classes: usize,
    device: Device,
    last: Option<Last>,
}

struct Last {
    /// Which class each picture was named `[n]`, u32, when it last reached T; C for none.
    named: Tensor,
    /// n_c, then n_none `[C + 1]`.
    counts: Tensor,
}

impl Last {
    fn new(named: Tensor, classes: usize) -> Result<Self> {
        let mut counts = vec![0f32; classes + 1];
        for class in named.to_vec1::<u32>()? {
            counts[(class as usize).min(classes)] += 1.0;
        }
        Ok(Self { counts: Tensor::new(counts, named.device())?, named })
    }
}

impl Refine for Learned {
    fn refine(&mut self, views: &Views, targets: Targets) -> Result<Targets> {
        let Some(Last { named, counts }) = &mut self.last else {
            candle_core::bail!("flex_match remembers all pictures: let a Run lead the tuner, or call prepare")
        };
        let beta = counts.narrow(0, 0, self.classes)?.broadcast_div(&counts.max_keepdim(D::Minus1)?)?; // [C]
        let wanted = ((&beta * self.above)? / (2.0 - &beta)?)?.index_select(&targets.labels, 0)?; // [b]
        let weights = targets.confidence.ge(&wanted)?.to_dtype(DType::F32)?;
        let places = rows::indices(views, &targets.labels)?;
        let before = named.index_select(&places, 0)?;
        let now = targets.confidence.ge(self.above)?.where_cond(&targets.labels, &before)?; // [b] u32
        let one = Tensor::ones(now.dim(0)?, DType::F32, now.device())?;
        *counts = counts.index_add(&before, &one.neg()?, 0)?.index_add(&now, &one, 0)?;
        rows::write(named, &places, &now)?;
        targets.weighted(&weights)
    }

    fn prepare(&mut self, images: usize, _: &mut PassFn) -> crate::error::Result<()> {
        let none = Tensor::full(self.classes as u32, images, &self.device)?.contiguous()?;
        self.last = Some(Last::new(none, self.classes)?);
        Ok(())
    }
}

impl Stateful for Learned {
    fn kind(&self) -> &'static str {
        "flex_match"
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.last.iter().map(|last| ("named".to_string(), last.named.clone())).collect()
    }

    fn restore(&mut self, saved: &HashMap<String, Tensor>) -> Result<()> {
        self.last = match saved.is_empty() {
            true => None,
            false => Some(Last::new(rows::saved(saved, "named", &[0])?, self.classes)?),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::refine::tests::{batch, close};

    /// Numbers of a reference in f64.
    #[test]
    fn thresholds_are_the_reference_s() {
        let named = Tensor::new(&[0u32, 0, 1, 2, 2, 2], &Device::Cpu).unwrap(); // of 2 classes: 2 is none
        let mut rule = Learned { above: 0.95, classes: 2, device: Device::Cpu, last: None };
        rule.restore(&HashMap::from([("named".to_string(), named)])).unwrap();
        let (views, targets) = batch(&[[0.96, 0.04], [0.3, 0.7], [0.45, 0.55]]);
        let views = Views { indices: vec![3, 4, 5], ..views };
        close(&rule.refine(&views, targets.clone()).unwrap().weights.unwrap(), &[1.0; 3]);
        let last = rule.last.as_ref().unwrap();
        assert_eq!(last.named.to_vec1::<u32>().unwrap(), [0, 0, 1, 0, 2, 2]);
        close(&last.counts, &[3.0, 1.0, 2.0]);
        // β is now 1 and 1/3: class 0 must reach .95, class 1 .19
        let (_, less) = batch(&[[0.94, 0.06], [0.3, 0.7], [0.45, 0.55]]);
        close(&rule.refine(&views, less).unwrap().weights.unwrap(), &[0.0, 1.0, 1.0]);
        let unnamed = Views { indices: Vec::new(), ..views };
        assert!(rule.refine(&unnamed, targets).unwrap_err().to_string().contains("Views::indices"));
    }
}
