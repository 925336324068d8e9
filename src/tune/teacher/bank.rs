//! A teacher that answers from a file: another encoder's answers, computed once.

use std::path::PathBuf;

use candle_core::Result;
use serde::{Deserialize, Serialize};

use super::{Teacher, unit_features};
use crate::clip::VisionTower;
use crate::data::Dataset;
use crate::error;
use crate::tune::bank::{Bank, Stored};
use crate::tune::{Setup, Stateful, Targets, Views};

/// p = softmax( ℓ / T ) with the logits ℓ of a [file](crate::tune::Bank): a larger CLIP's, or any other encoder's.
///
/// No tower answers in a step, which is faster; only if there are rules in `refine`, the student's tower gives them features.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BankTeacher {
    /// The file.
    pub file: PathBuf,
}

impl BankTeacher {
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        check_file(&self.file, "bank")
    }

    pub(super) fn block(&self, setup: &Setup) -> Result<Box<dyn Teacher>> {
        let (classes, temperature, tower) = (setup.head.classes(), setup.config.temperature, setup.student.vision.detached());
        Ok(Box::new(FromBank { file: self.file.clone(), classes, temperature, tower, answers: None }))
    }
}

/// What cannot work about the name of a file.
pub(in crate::tune) fn check_file(file: &std::path::Path, of: &str) -> std::result::Result<(), String> {
    if file.as_os_str().is_empty() { Err(format!("{of}: file must name a file of stored answers")) } else { Ok(()) }
}

struct FromBank {
    file: PathBuf,
    classes: usize,
    temperature: f64,
    /// Who gives rules the features.
    tower: VisionTower,
    /// ℓ of all pictures `[n, C]`, on the CPU.
    answers: Option<Stored>,
}

impl Teacher for FromBank {
    fn targets(&self, views: &Views) -> Result<Targets> {
        let Some(answers) = &self.answers else {
            candle_core::bail!("a bank answers by picture: let a Run lead the tuner through a data set")
        };
        let logits = answers.of_batch(views)?; // [b, C]
        Targets::of_logits(unit_features(&self.tower, views)?, &logits, self.temperature)
    }

    fn open(&mut self, pictures: &Dataset) -> error::Result<Vec<String>> {
        let (answers, notices) = Bank::read(&self.file)?.answers(pictures, self.classes)?;
        self.answers = Some(Stored::new(answers)?);
        Ok(notices)
    }
}

impl Stateful for FromBank {
    fn kind(&self) -> &'static str {
        "bank"
    }

    fn reads(&self) -> Option<String> {
        self.answers.as_ref().map(|answers| answers.hash.clone())
    }
}
