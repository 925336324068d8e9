//! The folder of one run: what lies in it, whose it is, and what an earlier run left there.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::files::save_atomically;
use crate::progress::Event;

pub(crate) const TEXT_CHECKPOINT: &str = "text-checkpoint.safetensors";
pub(crate) const CHECKPOINT: &str = "checkpoint.safetensors";
pub(crate) const HISTORY: &str = "history.jsonl";
pub(crate) const WEIGHTS: &str = "lafter.safetensors";
pub(crate) const REPORT: &str = "report.json";
const IMAGES: &str = "images.json";
/// Where the files of the run before are put.
const PREVIOUS: &str = "previous";

/// A folder taken for one run; no other run may take it before this value is dropped.
pub(crate) struct RunFolder {
    path: PathBuf,
    _lock: Option<File>,
}

/// The data that a run was begun on, as hashes.
#[derive(Serialize, Deserialize)]
struct Images {
    train: String,
    test: String,
}

impl RunFolder {
    /// Makes the folder where it lacks. To resume, it must hold a run on the same images; otherwise what an earlier run left
    /// is set aside first, lest a later `--resume` take it for this run's.
    pub fn open(path: &Path, resume: bool, train: &Dataset, test: &Dataset, events: &mut dyn FnMut(&Event)) -> Result<Self> {
        if resume && !path.exists() {
            return Err(Error::Usage("there is no run to resume: start without --resume, or name the --out of the stopped run".into()));
        }
        std::fs::create_dir_all(path).map_err(|e| Error::io(path, e))?;
        let folder = Self { path: path.to_path_buf(), _lock: lock(path)? };
        let images = Images { train: train.fingerprint(), test: test.fingerprint() };
        match resume {
            true => folder.compare(&images)?,
            false => folder.set_aside(events)?,
        }
        let json = serde_json::to_string(&images).map_err(|e| Error::Data(e.to_string()))?;
        save_atomically(folder.file(IMAGES), json.as_bytes())?;
        Ok(folder)
    }

    /// The path of one of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Refuses to go on with other images; a run that was stopped before it noted any has done nothing yet.
    fn compare(&self, images: &Images) -> Result<()> {
        let Ok(json) = std::fs::read(self.file(IMAGES)) else { return Ok(()) };
        let Ok(begun) = serde_json::from_slice::<Images>(&json) else { return Ok(()) };
        for (which, then, now) in [("train", begun.train, &images.train), ("test", begun.test, &images.test)] {
            if then != *now {
                return Err(Error::Usage(format!(
                    "{} holds a run on other {which} images: repeat its --{which} and --limit-{which}, or start without --resume",
                    self.path.display()
                )));
            }
        }
        Ok(())
    }

    /// Moves an earlier run's files to a folder within, where that run can still be resumed, and removes half-written ones.
    fn set_aside(&self, events: &mut dyn FnMut(&Event)) -> Result<()> {
        let io = |e| Error::io(&self.path, e);
        let (earlier, previous) = (|name: &&str| self.file(name).exists(), self.file(PREVIOUS));
        let over = self.file(REPORT).exists();
        let files: Vec<&str> = [IMAGES, TEXT_CHECKPOINT, CHECKPOINT, HISTORY, WEIGHTS, REPORT].into_iter().filter(earlier).collect();
        if !files.is_empty() {
            if previous.exists() {
                std::fs::remove_dir_all(&previous).map_err(io)?;
            }
            std::fs::create_dir(&previous).map_err(io)?;
            for name in files {
                std::fs::rename(self.file(name), previous.join(name)).map_err(io)?;
            }
            if !over {
                let (out, previous) = (self.path.display(), previous.display());
                events(&Event::Notice(format!("{out} held a run that was not over: --out {previous} --resume goes on with it")));
            }
        }
        for entry in std::fs::read_dir(&self.path).map_err(io)?.flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| name.starts_with(".lafter-") && name.ends_with(".tmp")) {
                let _ = std::fs::remove_file(entry.path()); // left by a run that was killed while it wrote
            }
        }
        Ok(())
    }
}

/// Locks the folder itself, so that no file is left behind. Where a system cannot lock a folder, nothing is locked.
fn lock(path: &Path) -> Result<Option<File>> {
    let Ok(folder) = File::open(path) else { return Ok(None) };
    match folder.try_lock() {
        Err(TryLockError::WouldBlock) => {
            Err(Error::Usage(format!("another run is writing to {}: wait for it, or choose another --out", path.display())))
        }
        Err(TryLockError::Error(_)) => Ok(None),
        Ok(()) => Ok(Some(folder)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::scenes::{Domain, Scenes};
    use crate::progress::silent;

    fn set(count: usize) -> Dataset {
        Dataset::new(Scenes::new(Domain::Target, count, 1))
    }

    fn open(path: &Path, resume: bool, train: usize, test: usize) -> Result<RunFolder> {
        RunFolder::open(path, resume, &set(train), &set(test), &mut silent)
    }

    #[test]
    fn one_run_at_a_time_and_only_on_its_own_images() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        assert!(open(&path, true, 8, 4).err().unwrap().to_string().contains("no run to resume"));
        let first = open(&path, false, 8, 4).unwrap();
        #[cfg(target_os = "linux")]
        assert!(open(&path, true, 8, 4).err().unwrap().to_string().contains("another run"));
        drop(first);
        assert!(open(&path, true, 8, 4).is_ok());
        assert!(open(&path, true, 7, 4).err().unwrap().to_string().contains("--limit-train"));
        assert!(open(&path, true, 8, 3).err().unwrap().to_string().contains("--limit-test"));
    }

    #[test]
    fn what_an_earlier_run_left_is_set_aside_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let begin = |checkpoint: &str, report: bool| {
            let mut notices = 0;
            drop(RunFolder::open(path, false, &set(8), &set(4), &mut |_: &Event| notices += 1).unwrap());
            std::fs::write(path.join(CHECKPOINT), checkpoint).unwrap();
            report.then(|| std::fs::write(path.join(REPORT), checkpoint).unwrap());
            notices
        };
        std::fs::write(path.join(".lafter-x.tmp"), "half").unwrap();
        assert_eq!(begin("first", true), 0);
        assert!(!path.join(".lafter-x.tmp").exists());
        assert_eq!(begin("second", false), 0, "a run that is over needs no word");
        assert_eq!(std::fs::read_to_string(path.join("previous").join(REPORT)).unwrap(), "first");
        assert!(!path.join(REPORT).exists());
        assert_eq!(begin("third", false), 1);
        assert_eq!(std::fs::read_to_string(path.join("previous").join(CHECKPOINT)).unwrap(), "second");
        assert!(!path.join("previous").join(REPORT).exists(), "that was another run's");
    }
}
