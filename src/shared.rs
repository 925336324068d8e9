//! What the runs of one grid have in common, computed once: test features of the untouched tower, and text classifiers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;

use crate::classify::{HeldOut, TextClassifier, TextEpoch};
use crate::clip::Clip;
use crate::data::Dataset;
use crate::embed::Encoded;
use crate::error::Result;
use crate::experiment::Experiment;

/// Results by what decides them. Runs that ask at the same time wait for the first; an error is kept by nobody.
#[derive(Default)]
pub(crate) struct Shared {
    features: Memo<Encoded>,
    classifiers: Memo<Trained>,
}

impl Shared {
    /// Features of a run's test images: its tower, its views, its pictures decide them.
    pub fn features(&self, run: &Experiment, test: &Dataset, make: impl FnOnce() -> Result<Encoded>) -> Result<Encoded> {
        self.features.get(json!([tower(&run.clip), run.clip.preprocess(), test.identity()]).to_string(), make)
    }

    /// A run's text classifier: tower, texts, settings of the stage and seed decide it.
    pub fn classifier(&self, run: &Experiment, make: impl FnOnce() -> Result<Trained>) -> Result<Trained> {
        let texts = (run.texts.classes(), run.texts.hash());
        self.classifiers.get(json!([tower(&run.clip), texts, run.config.text, run.config.seed]).to_string(), make)
    }
}

/// What stage one gives.
#[derive(Clone)]
pub(crate) struct Trained {
    pub classifier: TextClassifier,
    pub history: Vec<TextEpoch>,
    pub held_out: Option<HeldOut>,
}

fn tower(clip: &Clip) -> String {
    format!("{} {} {:?} {:?} {:?}", clip.id(), clip.weights_hash(), clip.device().location(), clip.dtype(), clip.precision())
}

type Slot<V> = Arc<Mutex<Option<V>>>;

struct Memo<V>(Mutex<HashMap<String, Slot<V>>>);

impl<V> Default for Memo<V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<V: Clone> Memo<V> {
    fn get(&self, key: String, make: impl FnOnce() -> Result<V>) -> Result<V> {
        let slot = locked(&self.0).entry(key).or_default().clone();
        let mut value = locked(&slot);
        if let Some(value) = &*value {
            return Ok(value.clone());
        }
        let made = make()?;
        *value = Some(made.clone());
        Ok(made)
    }
}

/// A value is put in whole, so a panic elsewhere leaves none half-made.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn each_is_made_once_and_an_error_is_not_kept() {
        let memo = Memo::default();
        assert!(memo.get("a".into(), || Err(Error::Data("no".into()))).is_err());
        let mut made = 0;
        for key in ["a", "b", "a", "b"] {
            let value = memo.get(key.into(), || {
                made += 1;
                Ok(key.to_string())
            });
            assert_eq!(value.unwrap(), key);
        }
        assert_eq!(made, 2);
    }
}
