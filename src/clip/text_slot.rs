//! The place of a text tower, which may be put aside while no text is encoded: its files bring it back.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device};

use super::{ClipConfig, TextTower, Weights};
use crate::error::{Error, Result};
use crate::files::version;
use crate::nn::Precision;

/// A text tower, or what brings it back. Clones share it.
#[derive(Clone)]
pub(super) struct TextSlot(Arc<Slot>);

struct Slot {
    tower: Mutex<Option<TextTower>>,
    source: Option<Source>,
}

/// The files that a tower was read from, and how.
pub(super) struct Source {
    /// With the version of each.
    files: Vec<(PathBuf, u64)>,
    config: Arc<ClipConfig>,
    dtype: DType,
    device: Device,
    precision: Precision,
}

impl Source {
    /// Of files that are as they were when the weights were read.
    pub fn new(files: &[PathBuf], config: &Arc<ClipConfig>, dtype: DType, device: &Device, precision: Precision) -> Self {
        let files = files.iter().map(|path| (path.clone(), version(path))).collect();
        Self { files, config: config.clone(), dtype, device: device.clone(), precision }
    }

    fn changed(&self) -> Option<&PathBuf> {
        self.files.iter().find(|(path, known)| *known == 0 || version(path) != *known).map(|(path, _)| path)
    }

    fn read(&self) -> Result<TextTower> {
        if let Some(path) = self.changed() {
            let path = path.display();
            return Err(Error::Weights(format!("{path} was changed or removed since it was read: start again with the file as it is")));
        }
        let files: Vec<PathBuf> = self.files.iter().map(|(path, _)| path.clone()).collect();
        let weights = Weights::from_files(&files, self.dtype, &self.device)?;
        Ok(TextTower::load(&self.config.text, self.config.projection, weights.var_builder())?.packed(self.precision)?)
    }
}

impl TextSlot {
    /// A tower; without a source it always stays.
    pub fn new(tower: TextTower, source: Option<Source>) -> Self {
        Self(Arc::new(Slot { tower: Mutex::new(Some(tower)), source }))
    }

    /// The tower, read again if it was put aside.
    ///
    /// # Errors
    /// [`Error::Weights`] if its files are other ones by now, or cannot be read.
    pub fn get(&self) -> Result<TextTower> {
        let mut tower = self.lock();
        match (&*tower, &self.0.source) {
            (Some(tower), _) => Ok(tower.clone()),
            (None, Some(source)) => Ok(tower.insert(source.read()?).clone()),
            (None, None) => Err(Error::Weights("the text tower is gone, and no file can bring it back: load the CLIP again".into())),
        }
    }

    /// Frees the tower's memory, if its files can bring it back.
    pub fn put_aside(&self) {
        if self.0.source.as_ref().is_some_and(|source| source.changed().is_none()) {
            *self.lock() = None;
        }
    }

    #[cfg(test)]
    pub fn is_here(&self) -> bool {
        self.lock().is_some()
    }

    /// A tower is put in whole, so a panic elsewhere leaves none half-read.
    fn lock(&self) -> MutexGuard<'_, Option<TextTower>> {
        self.0.tower.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use crate::clip::Clip;

    fn features(clip: &Clip) -> Vec<Vec<f32>> {
        clip.encode_text(&["a photo of a house", "a fish"]).unwrap().to_vec2().unwrap()
    }

    #[test]
    fn a_tower_that_was_put_aside_comes_back_with_the_same_bits_from_the_same_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let demo = Clip::demo().unwrap();
        demo.save_with(demo.vision(), folder.path()).unwrap();
        let clip = Clip::from_dir(folder.path()).unwrap();
        let (before, shared) = (features(&clip), clip.clone());
        clip.without_texts();
        assert!(!shared.text.is_here());
        assert_eq!(features(&shared), before);
        assert!(clip.text.is_here());

        clip.without_texts();
        let file = folder.path().join("model.safetensors");
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(9);
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
        let error = clip.encode_text(&["a house"]).unwrap_err().to_string();
        assert!(error.contains("model.safetensors") && error.contains("changed"), "{error}");
        // what no unchanged file can bring back stays
        demo.without_texts();
        assert!(demo.text.is_here());
    }
}
