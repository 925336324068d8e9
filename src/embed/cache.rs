//! The cache of text features on disk.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use candle_core::Tensor;
use sha2::{Digest, Sha256};

use super::once::Lock;
use crate::clip::Clip;
use crate::device::tf32;
use crate::error::Result;
use crate::progress::silent;
use crate::sealed;

/// Features by the hash of their tokens: one row after another, because a hundred thousand lists of their own would take more.
#[derive(Default)]
pub(super) struct Known {
    places: HashMap<String, usize>,
    values: Vec<f32>,
    width: usize,
}

impl Known {
    pub(super) fn new(width: usize) -> Self {
        Self { width, ..Self::default() }
    }

    pub(super) fn holds(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    pub(super) fn get(&self, key: &str) -> Option<&[f32]> {
        self.values.get(self.places.get(key)? * self.width..)?.get(..self.width)
    }

    /// Adds a row; one that is known stays.
    pub(super) fn add(&mut self, key: &str, row: &[f32]) {
        if row.len() == self.width && !self.holds(key) {
            self.places.insert(key.to_string(), self.values.len() / self.width.max(1));
            self.values.extend_from_slice(row);
        }
    }
}

/// Features of texts, kept on disk by tokens and by text tower: after a change of weights, configuration, tokenizer, device
/// or number type, old features are never reused.
///
/// One safetensors file per tower, named by a hash of all that it computes with; rows are found by the hash of a text's tokens.
/// A checksum guards the whole: a file that was damaged is told of, and made anew.
#[derive(Clone, Debug)]
pub struct FeatureCache {
    pub(super) directory: PathBuf,
    /// Time between two writes while texts are embedded.
    pub(super) every: Duration,
}

impl FeatureCache {
    /// Files go to `directory`, which is made when the first is written.
    pub fn new(directory: impl AsRef<Path>) -> Self {
        Self { directory: directory.as_ref().to_path_buf(), every: Duration::from_secs(60) }
    }

    /// Sets the time between two writes while texts are embedded; 60 seconds unless set.
    pub fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// Removes the file of this CLIP, and the folder if nothing else lies in it.
    pub fn remove(&self, clip: &Clip) {
        let _ = std::fs::remove_file(self.file(clip));
        let _ = std::fs::remove_dir(&self.directory);
    }

    fn file(&self, clip: &Clip) -> PathBuf {
        let tf32 = tf32(clip.device());
        let arithmetic = format!("{:?} {:?} {:?} tf32 {tf32}", clip.device().location(), clip.dtype(), clip.precision());
        let tower = serde_json::json!([clip.weights_hash(), clip.config().text, clip.config().projection, arithmetic]);
        self.directory.join(format!("text-{}.safetensors", short_hash(tower.to_string().as_bytes())))
    }

    /// What is known, and what is wrong with the file: no error, because the features are computed again and the file is replaced.
    /// Rows that are not finite count as unknown.
    pub(super) fn read(&self, clip: &Clip) -> (Known, Option<String>) {
        let (path, width) = (self.file(clip), clip.config().projection);
        if !path.exists() {
            return (Known::new(width), None);
        }
        let useless = |why: String| {
            let path = path.display();
            (Known::new(width), Some(format!("the cache of text features {path} cannot be used ({why}): they are computed again")))
        };
        let (mut tensors, metadata) = match sealed::read(&path) {
            Ok(read) => read,
            Err(error) => return useless(error.to_string()),
        };
        let keys: Vec<String> = metadata.get("tokens").and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        let rows = tensors.remove("features").filter(|rows| rows.dims() == [keys.len(), width]);
        let Some(values) = rows.and_then(|rows| rows.flatten_all().ok()?.to_vec1::<f32>().ok()) else {
            return useless(format!("{} texts, but not as many features", keys.len()));
        };
        let finite = |place: &usize| values[place * width..][..width].iter().all(|value| value.is_finite());
        let places = keys.into_iter().zip(0..).filter(|(_, place)| finite(place)).collect();
        (Known { places, values, width }, None)
    }

    /// Writes what is known, with what the file holds by now: another run may have written in between.
    pub(super) fn write(&self, clip: &Clip, known: &mut Known) -> Result<()> {
        let path = self.file(clip);
        // not the folder, which this process may hold as a run's own; interrupted, it writes all the same
        let lock = Lock::wait(path.with_extension("lock"), "text features", &mut silent).ok();
        let (others, _) = self.read(clip);
        others.places.keys().for_each(|key| others.get(key).into_iter().for_each(|row| known.add(key, row)));
        drop(others);
        let mut keys: Vec<&String> = known.places.keys().collect();
        keys.sort();
        let mut values = Vec::with_capacity(keys.len() * known.width);
        keys.iter().filter_map(|key| known.get(key)).for_each(|row| values.extend_from_slice(row));
        let features = Tensor::from_vec(values, (keys.len(), known.width), &candle_core::Device::Cpu)?;
        let metadata = HashMap::from([("tokens".to_string(), serde_json::json!(keys).to_string())]);
        sealed::save(&path, &[("features".to_string(), features)], metadata)?;
        drop(lock);
        Ok(())
    }
}

/// The first half of a SHA-256, in hex.
pub(super) fn short_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed;
    use crate::progress::Event;

    fn sentences() -> Vec<String> {
        ["a house", "a fish", "a boat"].map(String::from).to_vec()
    }

    /// Features through the cache, the texts that were computed, and the notices.
    fn embed(clip: &Clip, cache: &FeatureCache) -> (Vec<Vec<f32>>, usize, Vec<String>) {
        let (mut computed, mut notices) = (0, Vec::new());
        let features = embed::texts(clip, &sentences(), Some(cache), |event| match event {
            Event::Started { total, .. } => computed = *total,
            Event::Notice(text) => notices.push(text.clone()),
            _ => {}
        });
        (features.unwrap().to_vec2().unwrap(), computed, notices)
    }

    #[test]
    fn a_changed_file_is_told_of_by_name_and_made_anew() {
        let (clip, folder) = (Clip::demo().unwrap(), tempfile::tempdir().unwrap());
        let cache = FeatureCache::new(folder.path());
        let (expected, computed, notices) = embed(&clip, &cache);
        assert_eq!((computed, notices.len()), (3, 0));
        assert_eq!(embed(&clip, &cache), (expected.clone(), 0, vec![]));
        let path = cache.file(&clip);
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 2;
        bytes[last] ^= 1; // a finite value, only another
        std::fs::write(&path, bytes).unwrap();
        let (features, computed, notices) = embed(&clip, &cache);
        assert_eq!((features, computed), (expected.clone(), 3));
        assert!(notices.len() == 1 && notices[0].contains(&path.display().to_string()), "{notices:?}");
        assert_eq!(embed(&clip, &cache), (expected, 0, vec![]));
    }

    #[test]
    fn rows_that_are_not_finite_count_as_unknown() {
        let (clip, folder) = (Clip::demo().unwrap(), tempfile::tempdir().unwrap());
        let cache = FeatureCache::new(folder.path());
        let (expected, ..) = embed(&clip, &cache);
        let (mut known, _) = cache.read(&clip);
        known.values[0] = f32::NAN;
        std::fs::remove_file(cache.file(&clip)).unwrap();
        cache.write(&clip, &mut known).unwrap();
        let (features, computed, _) = embed(&clip, &cache);
        assert_eq!((features, computed), (expected, 1));
    }

    #[test]
    fn a_run_may_have_its_cache_in_its_own_folder() {
        let (clip, folder) = (Clip::demo().unwrap(), tempfile::tempdir().unwrap());
        let cache = FeatureCache::new(folder.path());
        // as a run holds its folder
        let held = std::fs::File::open(folder.path()).ok().filter(|folder| folder.try_lock().is_ok());
        let (sender, written) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(cache.write(&clip, &mut Known::new(clip.config().projection)).is_ok()));
        assert_eq!(written.recv_timeout(Duration::from_secs(30)), Ok(true), "it waits for itself");
        assert!(std::fs::read_dir(folder.path()).unwrap().all(|file| file.unwrap().path().extension().unwrap() != "lock"));
        drop(held);
    }

    #[test]
    fn two_runs_on_one_cache_keep_what_both_found() {
        let (clip, folder) = (Clip::demo().unwrap(), tempfile::tempdir().unwrap());
        let cache = FeatureCache::new(folder.path());
        embed::texts(&clip, &sentences(), Some(&cache), silent).unwrap();
        let mut other = Known::new(clip.config().projection);
        other.add("other", &vec![0.5; clip.config().projection]);
        cache.write(&clip, &mut other).unwrap(); // read before the first had written
        assert_eq!(cache.read(&clip).0.places.len(), 4);
    }
}
