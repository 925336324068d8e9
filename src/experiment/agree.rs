//! What a run refuses before it begins: settings and data that do not fit together, processes that would each do something else.

use serde_json::json;

use super::Experiment;
use crate::data::Dataset;
use crate::device::arithmetic;
use crate::error::{Error, Result, cut};
use crate::files::sha256_of;
use crate::lafter::same_classes;
use crate::ranks::agree;

impl Experiment {
    /// Refuses what cannot work.
    pub(super) fn check(&self) -> Result<()> {
        self.config.validate()?;
        self.config.tune.check_device(self.clip.device())?;
        if let Some(test) = &self.test {
            same_classes("the test set", test.classes(), self.texts.classes())?;
        }
        if self.train.has_labels() {
            same_classes("the training set", self.train.classes(), self.texts.classes())?;
        }
        if self.test.as_ref().is_some_and(Dataset::is_empty) || self.train.is_empty() {
            return Err(Error::Data("the training or the test set holds no image: check the paths".into()));
        }
        if let [only] = self.texts.classes() {
            return Err(Error::Data(format!(
                "there is one class alone, \"{}\", so nothing to tell apart: give at least two names",
                cut(only)
            )));
        }
        if self.texts.is_empty() {
            return Err(Error::Text("the text set is empty: give templates or descriptions".into()));
        }
        self.config.tune.check_pictures(&self.train, self.texts.classes())?;
        if self.resume && self.out.is_none() {
            return Err(Error::Usage("there is nothing to resume: set `out` to the folder of the stopped run".into()));
        }
        Ok(())
    }

    /// Refuses processes that would each do something else.
    pub(super) fn agree(&self) -> Result<()> {
        agree(&*self.ranks, || {
            let mut own = vec![
                (
                    "settings, model or texts",
                    json!([self.settings(), self.config.seed, self.select, self.predictions, self.resume]).to_string(),
                ),
                ("device (kind, GPU or TF32)", arithmetic(self.clip.device())?),
                ("training pictures", self.train.fingerprint()),
                ("test pictures", self.test.as_ref().map(Dataset::fingerprint).unwrap_or_default()),
            ];
            for file in self.config.tune.files() {
                own.push(("stored answers", sha256_of(file)?));
            }
            Ok(own)
        })
    }
}
