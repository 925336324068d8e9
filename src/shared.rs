//! What runs have in common, computed once: within a grid in memory, and over all that use one cache on disk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{Device, Tensor};
use serde_json::json;

use crate::classify::{Head, HeldOut, TextClassifier, TextEpoch, ZeroShotClassifier};
use crate::clip::Clip;
use crate::data::Dataset;
use crate::describe::Templates;
use crate::device::tf32;
use crate::embed::{Encoded, FeatureCache, Lasting, Stored};
use crate::error::Result;
use crate::eval::as_written;
use crate::experiment::Experiment;
use crate::nn::Isa;
use crate::progress::Event;

/// To be raised by a change after which pictures, features, eq. 1 or the training of eq. 2 get other bits: then what a cache holds is made
/// anew, as it is for another program file.
const CALCULATION: u32 = 2;

/// Results by what decides them. Runs that ask at the same time wait for the first; an error is kept by nobody.
#[derive(Default)]
pub(crate) struct Shared {
    features: Memo<Encoded>,
    zero_shot: Memo<ZeroShotClassifier>,
    classifiers: Memo<Trained>,
    /// Hashes of data sets by what they share in memory.
    fingerprints: Mutex<HashMap<[usize; 4], String>>,
}

/// Events, as a stage that may be left out gets them.
type Events<'a> = &'a mut dyn FnMut(&Event);

impl Shared {
    /// Notes the hash of a data set, so that it is not read for that again.
    pub fn know(&self, set: &Dataset, fingerprint: &str) {
        locked(&self.fingerprints).insert(set.identity(), fingerprint.to_string());
    }

    /// Features of `part`, pictures of `set`, from the untouched tower, by `what` (the stage and its settings): its tower, its views, its
    /// pictures decide them. They are kept on disk if a change of each picture would be known without decoding it.
    pub fn features(
        &self,
        run: &Experiment,
        set: &Dataset,
        part: &Dataset,
        what: &str,
        events: Events,
        make: impl FnOnce(Events) -> Result<Encoded>,
    ) -> Result<Encoded> {
        let fingerprint = || locked(&self.fingerprints).entry(set.identity()).or_insert_with(|| set.fingerprint()).clone();
        let (cache, versions) = cache_of(run).zip(part.versions()).unzip();
        let known = locked(&self.fingerprints).get(&set.identity()).cloned();
        let pictures = match known.or_else(|| cache.map(|_| fingerprint())) {
            Some(fingerprint) => fingerprint,
            None => format!("{:?}", set.identity()),
        };
        let decisive = json!([CALCULATION, tower(&run.clip), pictures, versions, what]).to_string();
        self.features.get(decisive.clone(), || match cache {
            Some(cache) => Ok((cache.once(&decisive, &Device::Cpu, events, make)?.0, true)),
            None => Ok((make(events)?, true)),
        })
    }

    /// The zero-shot classifier of a run's classes in the single template.
    pub fn zero_shot(&self, run: &Experiment, events: Events) -> Result<ZeroShotClassifier> {
        let (clip, classes) = (&run.clip, run.texts.classes());
        let make = |events: Events| ZeroShotClassifier::fit_among(&*run.ranks, clip, classes, &Templates::single(), events);
        let decisive = json!([CALCULATION, tower(clip), classes]).to_string();
        self.zero_shot.get(decisive.clone(), || match cache_of(run) {
            Some(cache) => Ok((cache.once(&decisive, clip.device(), events, make)?.0, true)),
            None => Ok((make(events)?, true)),
        })
    }

    /// A run's text classifier: tower, texts, settings of the stage and seed decide it. What lies on disk is not held in memory, too:
    /// a grid has many of them. `held_out` gives the texts that were kept out of one that was trained before.
    pub fn classifier(
        &self,
        run: &Experiment,
        events: Events,
        make: impl FnOnce(Events) -> Result<Trained>,
        held_out: impl FnOnce() -> Result<Option<HeldOut>>,
    ) -> Result<Trained> {
        let texts = (run.texts.classes(), run.texts.hash());
        let decisive = json!([CALCULATION, tower(&run.clip), texts, as_written(&run.config.text), run.config.seed]).to_string();
        self.classifiers.get(decisive.clone(), || {
            let Some(cache) = cache_of(run) else { return Ok((make(events)?, true)) };
            let mut trained = false;
            let (found, kept) = cache.once(&decisive, run.clip.device(), events, |events| {
                trained = true;
                make(events)
            })?;
            let held_out = if trained || run.config.text.hold_out == 0.0 { found.held_out } else { held_out()? };
            Ok((Trained { held_out, ..found }, !kept))
        })
    }
}

/// What stage one gives.
#[derive(Clone)]
pub(crate) struct Trained {
    pub classifier: TextClassifier,
    pub history: Vec<TextEpoch>,
    pub held_out: Option<HeldOut>,
}

impl Lasting for Trained {
    const NAME: &str = "text classifier";

    /// Without the texts that were kept out: they come from the texts' own cache.
    fn stored(&self) -> Result<Stored> {
        Ok(Stored { tensors: self.classifier.head.tensors(), rest: json!(self.history).to_string() })
    }

    fn restored(tensors: HashMap<String, Tensor>, rest: &str, _: &Device) -> Option<Self> {
        let head = Head::from_tensors(&tensors).ok()?;
        Some(Self { classifier: TextClassifier { head }, history: serde_json::from_str(rest).ok()?, held_out: None })
    }
}

impl Lasting for ZeroShotClassifier {
    const NAME: &str = "zero-shot classifier";

    fn stored(&self) -> Result<Stored> {
        Ok(Stored { tensors: vec![("weights".into(), self.weights.clone())], rest: json!(self.scale).to_string() })
    }

    fn restored(mut tensors: HashMap<String, Tensor>, rest: &str, _: &Device) -> Option<Self> {
        Some(Self { weights: tensors.remove("weights")?, scale: serde_json::from_str(rest).ok()? })
    }
}

impl Lasting for Encoded {
    const NAME: &str = "picture features";

    fn stored(&self) -> Result<Stored> {
        let rest = json!(self.indices).to_string();
        Ok(Stored { tensors: vec![("rows".into(), self.rows.clone())], rest })
    }

    fn restored(mut tensors: HashMap<String, Tensor>, rest: &str, _: &Device) -> Option<Self> {
        let (rows, indices) = (tensors.remove("rows")?, serde_json::from_str::<Vec<usize>>(rest).ok()?);
        (rows.dim(0).ok()? == indices.len()).then_some(Self { rows, indices, skipped: Vec::new(), seconds: 0.0 })
    }

    /// A picture that could not be read may be readable the next time.
    fn lasts(&self) -> bool {
        self.skipped.is_empty()
    }
}

/// The cache of a run of one process. Processes that share a run make everything together: one that found a result, or waited for it,
/// would leave the others alone. What a GPU gives is not kept either: another card or driver gives other bits.
fn cache_of(run: &Experiment) -> Option<&FeatureCache> {
    run.cache.as_ref().filter(|_| run.ranks.size() == 1 && run.clip.device().is_cpu())
}

/// All of a CLIP that decides what it computes, with the arithmetic that computes it.
fn tower(clip: &Clip) -> String {
    let arithmetic = (format!("{:?}", clip.device().location()), clip.dtype().as_str(), clip.precision(), tf32(clip.device()));
    json!([clip.weights_hash(), clip.settings_hash(), arithmetic, format!("{:?}", Isa::best().level())]).to_string()
}

type Slot<V> = Arc<Mutex<Option<V>>>;

struct Memo<V>(Mutex<HashMap<String, Slot<V>>>);

impl<V> Default for Memo<V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<V: Clone> Memo<V> {
    /// The value of a key; `make` also says whether to hold it.
    fn get(&self, key: String, make: impl FnOnce() -> Result<(V, bool)>) -> Result<V> {
        let slot = locked(&self.0).entry(key).or_default().clone();
        let mut value = locked(&slot);
        if let Some(value) = &*value {
            return Ok(value.clone());
        }
        let (made, hold) = make()?;
        *value = hold.then(|| made.clone());
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
                Ok((key.to_string(), key == "a"))
            });
            assert_eq!(value.unwrap(), key);
        }
        assert_eq!(made, 3, "b is not held");
    }

    /// `cargo test --release --lib shared:: -- --ignored --nocapture`
    #[test]
    #[ignore = "measures memory"]
    fn a_grid_of_225_runs_on_a_thousand_classes_holds_little() {
        use crate::ablate;
        use crate::clip::Clip;
        use crate::describe::{Descriptions, TextSet};
        use crate::progress::silent;
        let now = || {
            let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
            pages.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * 4096.0 / 1e6
        };
        let names: Vec<String> = (0..1000).map(|class| format!("thing number {class}")).collect();
        let described = |name: &String| {
            let sentences =
                (0..50).map(|i| format!("A {name} is a thing of which sentence {i} says something of the usual length.").into());
            (name.clone(), serde_json::Value::Array(sentences.collect()))
        };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("descriptions.json");
        std::fs::write(&file, serde_json::Value::Object(names.iter().map(described).collect()).to_string()).unwrap();
        let clip = Clip::demo().unwrap();
        let start = now();
        let texts = TextSet::new(&names).unwrap().with_templates(&Templates::clip_ensemble());
        let texts = texts.with_descriptions(&Descriptions::read(&file).unwrap()).unwrap();
        let count = texts.len();
        let (train, test) = crate::data::scenes::demo_sets(2);
        for cached in [true, false] {
            let mut base = Experiment::new(clip.clone(), texts.clone(), train.clone(), test.clone());
            base.cache = cached.then(|| FeatureCache::new(folder.path().join("cache")));
            let cells = ablate::paper(base, &[0.0, 0.1, 1.0]).seeds(3).cells().unwrap();
            let (shared, with_cells, mut trained) = (Shared::default(), now(), 0);
            let features = Tensor::zeros((50_000, 512), candle_core::DType::F32, &Device::Cpu).unwrap().affine(1.0, 0.5).unwrap();
            shared
                .features
                .get("test".into(), || {
                    let (indices, skipped) = ((0..50_000).collect(), Vec::new());
                    Ok((Encoded { rows: features, indices, skipped, seconds: 0.0 }, true))
                })
                .unwrap();
            for cell in &cells {
                let train = |_: Events| {
                    trained += 1;
                    let head = Head::linear(512, 1000, &mut cell.experiment.config.text_rng(), &Device::Cpu)?;
                    Ok(Trained { classifier: TextClassifier { head }, history: Vec::new(), held_out: None })
                };
                shared.classifier(&cell.experiment, &mut silent, train, || Ok(None)).unwrap();
            }
            let (texts, all) = (with_cells - start, now() - start);
            println!("cache {cached}: {count} texts, {} runs, {trained} heads: texts and runs {texts:.0} MB, all {all:.0} MB", cells.len());
            assert!(trained == 45 && all < 500.0);
        }
    }
}
