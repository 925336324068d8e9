//! Distillation: the student should answer as another encoder did (Hinton et al. 2015; PromptKD, Li et al. 2024).

use std::path::PathBuf;

use candle_core::{D, Result, Tensor};
use candle_nn::ops::{log_softmax, softmax};
use serde::{Deserialize, Serialize};

use super::Term;
use crate::data::Dataset;
use crate::error;
use crate::tune::bank::{Bank, Stored};
use crate::tune::config::LARGEST;
use crate::tune::role::Flow;
use crate::tune::teacher::check_file;
use crate::tune::{Setup, Stateful, Targets, Tuned, Views};

/// L = T² KL( softmax(ℓ/T) ‖ softmax(z/T) ), mean over the pictures of the batch, with the logits ℓ of a [file](crate::tune::Bank).
///
/// PromptKD's own teacher is trained with labels; here it is whatever wrote the file, such as a larger CLIP's zero-shot answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distillation {
    /// The file.
    pub file: PathBuf,
    /// T, above 0; default 1.
    #[serde(default = "one")]
    pub temperature: f64,
}

fn one() -> f64 {
    1.0
}

impl Flow for Distillation {}

impl Distillation {
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        if !(1.0 / LARGEST..=LARGEST).contains(&self.temperature) {
            return Err(format!("distillation: temperature must lie in [1e-6, 1e6], got {}", self.temperature));
        }
        check_file(&self.file, "distillation")
    }

    pub(super) fn block(&self, setup: &Setup) -> Result<Box<dyn Term>> {
        Ok(Box::new(Distilled { settings: self.clone(), classes: setup.head.classes(), answers: None }))
    }
}

struct Distilled {
    settings: Distillation,
    classes: usize,
    /// ℓ of all pictures `[n, C]`, on the CPU.
    answers: Option<Stored>,
}

/// T² KL( softmax(ℓ/T) ‖ softmax(z/T) ): teacher and student logits `[b, C]` → scalar.
///
/// # Errors
/// If the two differ in shape (Candle's).
pub fn distillation(teacher: &Tensor, student: &Tensor, temperature: f64) -> Result<Tensor> {
    let teacher = (teacher.detach() / temperature)?;
    let log_ratio = (log_softmax(&teacher, D::Minus1)? - log_softmax(&(student / temperature)?, D::Minus1)?)?; // [b, C]
    (softmax(&teacher, D::Minus1)? * log_ratio)?.sum(D::Minus1)?.mean_all()? * temperature.powi(2)
}

impl Term for Distilled {
    fn by_picture(&self) -> bool {
        true
    }

    fn loss(&mut self, views: &Views, _: &Tuned, logits: &Tensor, _: &Targets) -> Result<Tensor> {
        let Some(answers) = &self.answers else {
            candle_core::bail!("distillation reads answers by picture: let a Run lead the tuner through a data set")
        };
        distillation(&answers.of_batch(views)?, logits, self.settings.temperature)
    }

    fn open(&mut self, pictures: &Dataset) -> error::Result<Vec<String>> {
        let (answers, notices) = Bank::read(&self.settings.file)?.answers(pictures, self.classes)?;
        self.answers = Some(Stored::new(answers)?);
        Ok(notices)
    }
}

impl Stateful for Distilled {
    fn kind(&self) -> &'static str {
        "distillation"
    }

    fn reads(&self) -> Option<String> {
        self.answers.as_ref().map(|answers| answers.hash.clone())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    /// Numbers of a reference in f64.
    #[test]
    fn values_are_the_reference_s_and_the_student_alone_learns() {
        let z = Var::new(&[[2f32, 0., 0.], [0., 1., 0.]], &Device::Cpu).unwrap();
        let teacher = (z.as_detached_tensor() * 2.0).unwrap();
        for (temperature, expected) in [(1.0, 0.115890), (2.0, 0.259753)] {
            let loss = distillation(&teacher, &z, temperature).unwrap();
            let value = loss.to_scalar::<f32>().unwrap();
            assert!((value - expected).abs() < 2e-6, "{value}, expected {expected}");
            // T (softmax(z/T) − softmax(ℓ/T)) / b
            let gradient = loss.backward().unwrap().get(&z).unwrap().clone();
            let soft = |t: &Tensor| softmax(&(t / temperature).unwrap(), D::Minus1).unwrap();
            let by_hand = ((soft(&z.as_detached_tensor()) - soft(&teacher)).unwrap() * (temperature / 2.0)).unwrap();
            let apart = (gradient - by_hand).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(apart < 1e-6, "{apart}");
        }
        assert_eq!(distillation(&z.as_detached_tensor(), &z, 3.0).unwrap().to_scalar::<f32>().unwrap(), 0.0);
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let good = Distillation { file: "answers.safetensors".into(), temperature: 2.0 };
        assert!(good.check().is_ok());
        assert!(Distillation { temperature: 0.0, ..good.clone() }.check().unwrap_err().contains("temperature"));
        assert!(Distillation { file: PathBuf::new(), ..good }.check().unwrap_err().contains("file"));
    }
}
