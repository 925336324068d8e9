//! A teacher that asks all pictures at once: a transductive method names them before training, and keeps to that.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;

use super::{Teacher, TowerTeacher, unit_features};
use crate::data::Dataset;
use crate::error::{self, Error};
use crate::progress::with_notices;
use crate::transduct::{Features, Transduct};
use crate::tune::bank::of_batch;
use crate::tune::{Pass, Setup, Stateful, Targets, Views};

/// Before training, all weak views pass the untuned tower once; a [transductive method](crate::transduct) answers for all of them, and
/// these answers are stored: they teach to the end, and no tower answers in a step unless a rule of `refine` reads features.
///
/// In the settings `{"transduct": "stata"}`, or with values of its own `{"transduct": {"stata": {"updates": 5}}}`; stata holds if classes
/// are absent, see there for the others.
///
/// The text prototypes that it starts from are the unit rows of the head, with `text.start` `class_means` and no text epochs just the
/// mean text features of StatA's authors; cosines count the head's own scale, or CLIP's. The answers take 4 C bytes a picture, also
/// in a checkpoint. A picture that cannot be read is answered alike for all classes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Transductive(pub Transduct);

impl<'de> Deserialize<'de> for Transductive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(name) => Transduct::named(&name),
            whole => return serde_json::from_value(whole).map(Self).map_err(D::Error::custom),
        }
        .map(Self)
        .map_err(D::Error::custom)
    }
}

impl Transductive {
    pub(super) fn block(&self, setup: &Setup) -> Result<Box<dyn Teacher>> {
        match &setup.head.layers[..] {
            [layer] if layer.bias.is_none() => {}
            _ => candle_core::bail!("a transductive teacher starts from the rows of the head: leave text.hidden null"),
        }
        let (head, temperature) = (setup.head.copy()?, setup.config.temperature);
        Ok(Box::new(Transducing {
            method: self.0,
            scale: head.scale.unwrap_or(setup.clip.logit_scale()),
            tower: TowerTeacher { tower: setup.student.vision.detached(), head, temperature },
            answers: None,
        }))
    }
}

struct Transducing {
    method: Transduct,
    scale: f64,
    /// Who answers until all pictures are asked, with the student's norms, which nothing has tuned by then.
    tower: TowerTeacher,
    /// p of all pictures `[n, C]`, on the CPU.
    answers: Option<Tensor>,
}

impl Teacher for Transducing {
    fn targets(&self, views: &Views) -> Result<Targets> {
        let Some(answers) = &self.answers else { return self.tower.targets(views) };
        let (p, temperature) = (of_batch(answers, views)?, self.tower.temperature); // [b, C]
        let features = unit_features(&self.tower.tower, views)?;
        if temperature == 1.0 { Targets::new(features, p) } else { Targets::of_logits(features, &p.maximum(1e-30)?.log()?, temperature) }
    }

    fn open(&mut self, pictures: &Dataset) -> error::Result<Vec<String>> {
        match self.answers.as_ref().map(|answers| answers.dims()[0]) {
            Some(n) if n != pictures.len() => {
                let (found, origin) = (pictures.len(), pictures.origin());
                Err(Error::Data(format!("transduct: it has answered for {n} pictures, {origin} holds {found}: start without --resume")))
            }
            _ => Ok(Vec::new()),
        }
    }

    fn learns(&self) -> bool {
        self.answers.is_none()
    }

    fn learn(&mut self, images: usize, pass: &Pass) -> error::Result<Vec<String>> {
        let row = self.tower.head.layers.first().map(|layer| layer.weight.tensor());
        let rows = row.ok_or_else(|| Error::Usage("a transductive teacher starts from the rows of the head, which has none".into()))?;
        // on the CPU, as `predict --transduct`: Candle's sums over a graph's neighbors on a GPU go one after another
        let features = Features::new(&pass.features.to_device(&Device::Cpu)?, &rows.to_device(&Device::Cpu)?, self.scale)?;
        let (p, mut notices) = with_notices(|events| self.method.probabilities(&features, events));
        let p = p?;
        let (classes, p) = (features.classes(), p.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.to_vec2::<f32>()?);
        if p.iter().flatten().any(|p| !p.is_finite()) {
            let name = self.method.name();
            return Err(Error::Usage(format!("transduct: {name} gives answers that are not finite: leave its settings at their defaults")));
        }
        let mut answers = vec![1.0 / classes as f32; images * classes];
        for (picture, p) in pass.indices.iter().zip(&p) {
            if let Some(row) = answers.get_mut(*picture as usize * classes..(*picture as usize + 1) * classes) {
                row.copy_from_slice(p);
            }
        }
        self.answers = Some(Tensor::from_vec(answers, (images, classes), &Device::Cpu)?);
        notices.push(format!("transduct: {} has answered for {} of {images} pictures", self.method.name(), pass.indices.len()));
        Ok(notices)
    }
}

impl Stateful for Transducing {
    fn kind(&self) -> &'static str {
        "transduct"
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.answers.iter().map(|answers| ("answers".into(), answers.clone())).collect()
    }

    fn restore(&mut self, saved: &HashMap<String, Tensor>) -> Result<()> {
        let Some(answers) = saved.get("answers") else {
            self.answers = None;
            return Ok(());
        };
        let classes = self.tower.head.classes();
        if answers.rank() != 2 || answers.dims()[1] != classes || answers.dtype() != DType::F32 {
            candle_core::bail!("answers have shape {:?}, expected {classes} for each picture", answers.dims());
        }
        self.answers = Some(answers.to_device(&Device::Cpu)?);
        Ok(())
    }
}
