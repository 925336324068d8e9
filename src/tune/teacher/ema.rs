//! A teacher whose weights are an average of the student's over its steps (MUST, Li et al. 2022; mean teacher, Tarvainen & Valpola
//! 2017).

use std::collections::HashMap;

use candle_core::{Result, Tensor, Var};
use serde::{Deserialize, Serialize};

use super::Teacher;
use crate::classify::{Head, normalize};
use crate::tune::config::TeacherHead;
use crate::tune::{Setup, Stateful, Targets, Tuned, Views, VisualPrompts, rows};

/// θ̄ ← δ_t θ̄ + (1 − δ_t) θ after step t, counted from 0; δ_t = δ_0 + (δ_end − δ_0) min(1, t / T_w).
///
/// What learns is averaged, the rest is shared. An average over 1/(1 − δ_end) steps should span a few epochs: with few steps choose
/// a smaller δ_end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ema {
    /// δ_0, 0 to 1; default 0.999.
    pub start: f64,
    /// δ_end, 0 to 1; default 0.9998.
    pub end: f64,
    /// T_w, the steps from the one to the other; default 500.
    pub warm: usize,
    /// Whether the teacher has visual prompts, an average of the student's; default false, as LaFTer's.
    pub prompts: bool,
}

impl Default for Ema {
    fn default() -> Self {
        Self { start: 0.999, end: 0.9998, warm: 500, prompts: false }
    }
}

impl Ema {
    pub(super) fn check(self) -> std::result::Result<(), String> {
        match [self.start, self.end].into_iter().find(|decay| !(0.0..=1.0).contains(decay)) {
            Some(decay) => Err(format!("ema: start and end must lie in [0, 1], got {decay}")),
            None => Ok(()),
        }
    }

    /// δ_t.
    fn decay(self, step: usize) -> f64 {
        let done = if self.warm == 0 { 1.0 } else { (step as f64 / self.warm as f64).min(1.0) };
        self.start + (self.end - self.start) * done
    }

    pub(super) fn block(self, setup: &Setup) -> Result<Box<dyn Teacher>> {
        let mut model = setup.student.clone();
        let mut own = Vec::new();
        for set in setup.sets {
            own.extend(set.trainable(&mut model)?); // fresh variables with the student's values
        }
        let averages = own.into_iter().zip(setup.params).map(|(own, student)| (own.name, own.var, student.var.clone())).collect();
        let mut model = model.detached();
        if !self.prompts {
            model.prompts = VisualPrompts::none();
        }
        let head = match setup.config.teacher_head {
            TeacherHead::Frozen => setup.head.copy()?,
            TeacherHead::Shared => model.head.clone(),
        };
        Ok(Box::new(Average { settings: self, model, head, temperature: setup.config.temperature, averages }))
    }
}

/// θ̄ ← δ θ̄ + (1 − δ) θ, in place.
fn follow(average: &Var, student: &Var, decay: f64) -> Result<()> {
    let (own, student) = (average.as_detached_tensor(), student.as_detached_tensor());
    average.set(&((own * decay)? + (student * (1.0 - decay))?)?)
}

struct Average {
    settings: Ema,
    /// It shares the storage of the averages.
    model: Tuned,
    head: Head,
    temperature: f64,
    /// Name, average and student of all that learns.
    averages: Vec<(String, Var, Var)>,
}

impl Teacher for Average {
    fn targets(&self, views: &Views) -> Result<Targets> {
        let features = normalize(&self.model.prompts.forward(&self.model.vision, &views.weak)?)?; // [b, d]
        let logits = self.head.forward(&features)?; // [b, C]
        Targets::of_logits(features, &logits, self.temperature)
    }

    fn after_step(&mut self, _: &Tuned, step: usize) -> Result<()> {
        let decay = self.settings.decay(step);
        self.averages.iter().try_for_each(|(_, average, student)| follow(average, student, decay))
    }
}

impl Stateful for Average {
    fn kind(&self) -> &'static str {
        "ema"
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.averages.iter().map(|(name, average, _)| (name.clone(), average.as_detached_tensor())).collect()
    }

    fn restore(&mut self, saved: &HashMap<String, Tensor>) -> Result<()> {
        let values = self.averages.iter().map(|(name, average, _)| rows::saved(saved, name, average.dims()));
        let values = values.collect::<Result<Vec<_>>>()?; // all of them are there before one is changed
        for ((_, average, _), value) in self.averages.iter().zip(values) {
            average.set(&value.copy()?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Numbers of a reference in f64.
    #[test]
    fn the_average_is_the_reference_s() {
        let settings = Ema { start: 0.9, end: 0.99, warm: 2, prompts: false };
        let var = |value: f32| Var::new(&[value], &Device::Cpu).unwrap();
        let value = |var: &Var| var.to_vec1::<f32>().unwrap()[0];
        let (average, student) = (var(0.0), var(1.0));
        (0..3).for_each(|step| follow(&average, &student, settings.decay(step)).unwrap());
        assert!((value(&average) - 0.158005).abs() < 1e-6, "{average}");
        let (average, student) = (var(0.123), var(0.456));
        follow(&average, &student, 1.0).unwrap();
        assert_eq!(value(&average), 0.123);
        follow(&average, &student, 0.0).unwrap();
        assert_eq!(value(&average), 0.456);
        assert_eq!((Ema { warm: 0, ..settings }.decay(0), settings.decay(9)), (0.99, 0.99));
        assert!(Ema { end: 1.5, ..settings }.check().is_err());
    }
}
