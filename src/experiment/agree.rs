//! What a run refuses before it begins: settings and data that do not fit together, processes that would each do something else.

use serde_json::json;

use super::Experiment;
use crate::data::Dataset;
use crate::error::{Error, Result, cut};
use crate::nn::Isa;
use crate::ranks::told;

impl Experiment {
    /// Refuses what cannot work.
    pub(super) fn check(&self) -> Result<()> {
        self.config.validate()?;
        self.config.tune.check_device(self.clip.device())?;
        if let Some(test) = self.test.as_ref().filter(|test| test.classes() != self.texts.classes()) {
            let (test, texts) = (test.classes().len(), self.texts.classes().len());
            return Err(Error::Data(format!(
                "the test set has {test} classes, the text set {texts}: give both the same class list (--classes)"
            )));
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

    /// Refuses processes that would each do something else: they could not tell, for each sees its own rows only.
    pub(super) fn agree(&self) -> Result<()> {
        if self.ranks.size() == 1 {
            return Ok(());
        }
        let settings = json!([self.settings(), self.config.seed, self.select, self.predictions, self.resume]).to_string();
        let test = self.test.as_ref().map(Dataset::fingerprint).unwrap_or_default();
        let own = [
            ("version of the program", env!("CARGO_PKG_VERSION").to_string()),
            ("settings, model or texts", settings),
            ("training pictures", self.train.fingerprint()),
            ("test pictures", test),
            ("vector instructions (LAFTER_MAX_ISA=avx2 on all makes them equal)", format!("{:?}", Isa::best())),
        ]
        .map(|(what, value)| (what.to_string(), value));
        let all = told(&*self.ranks, &own)?;
        for (rank, words) in all.iter().enumerate() {
            if let Some(((what, _), _)) = words.iter().zip(&all[0]).find(|(word, first)| word != first) {
                return Err(Error::Usage(format!("process {rank} has other {what} than the first: all must have the same")));
            }
        }
        Ok(())
    }
}
