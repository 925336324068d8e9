//! The folder of one run: what lies in it, whose it is, and what an earlier run left there.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::files::{is_half_written, is_unedited, save_atomically};
use crate::progress::Event;

pub(crate) const TEXT_CHECKPOINT: &str = "text-checkpoint.safetensors";
pub(crate) const CHECKPOINT: &str = "checkpoint.safetensors";
pub(crate) const HISTORY: &str = "history.jsonl";
pub(crate) const WEIGHTS: &str = "lafter.safetensors";
pub(crate) const REPORT: &str = "report.json";
/// The report of a run that was over, while that run goes on for more epochs.
pub(crate) const EARLIER_REPORT: &str = "report-before.json";
/// Rows of a pass over the test images that is not over: features of the untouched tower, logits of the tuned one.
pub(crate) const FEATURES: &str = "test-features.partial";
pub(crate) const LOGITS: &str = "evaluation.partial";
/// The rows of the table of answers for the training images, while they are not all there.
pub(crate) const PARTIAL_PREDICTIONS: &str = "predictions.partial";
/// The weights of the epoch that the signals chose so far; they stay, so that a run that is over can be extended.
pub(crate) const SELECTED: &str = "selected.safetensors";
const IMAGES: &str = "images.json";
/// Where the files of the run before are put.
const PREVIOUS: &str = "previous";
/// Where they are while not all have been moved.
const MOVING: &str = ".lafter-previous";
/// The run's card, unless it was edited: then it is the user's.
const CARD: &str = "README.md";
/// What a run leaves. What decides whether a run can be resumed comes last, so that none is taken for another at any moment.
const FILES: [&str; 17] = [
    "figures",
    "index.html",
    CARD,
    FEATURES,
    LOGITS,
    PARTIAL_PREDICTIONS,
    "predictions.csv",
    "predictions.jsonl",
    "predictions.parquet",
    SELECTED,
    TEXT_CHECKPOINT,
    CHECKPOINT,
    HISTORY,
    WEIGHTS,
    EARLIER_REPORT,
    REPORT,
    IMAGES,
];

/// What tells a run that was begun from a folder of other things.
const WORK: [&str; 4] = [FEATURES, TEXT_CHECKPOINT, CHECKPOINT, IMAGES];

/// A folder taken for one run; no other run may take it before this value is dropped.
pub(crate) struct RunFolder {
    path: PathBuf,
    images: Images,
    /// The versions of the pictures as they are noted: those that the run was begun on.
    begun: [Option<String>; 2],
    _lock: Option<File>,
}

/// The data that a run was begun on, as hashes.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Images {
    train: String,
    test: String,
    /// What the times of their files tell, as it was when the run began; files that were copied have other times, too.
    #[serde(default)]
    versions: [Option<String>; 2],
}

impl Images {
    fn of(train: &Dataset, test: Option<&Dataset>) -> Self {
        let versions = [train.versions(), test.and_then(Dataset::versions)];
        Self { train: train.fingerprint(), test: test.map(Dataset::fingerprint).unwrap_or_default(), versions }
    }

    /// The sets whose files have other times than `then`.
    fn touched(&self, then: &[Option<String>; 2]) -> Vec<&'static str> {
        let which = ["training", "test"].into_iter().zip(then.iter().zip(&self.versions));
        which.filter(|(_, (then, now))| then.is_some() && now.is_some() && then != now).map(|(which, _)| which).collect()
    }
}

impl RunFolder {
    /// Creates the folder if it is missing. With `resume`, a run that it holds must be one on the same images. Without, an earlier
    /// run's files are moved to `previous/`, so that a later `--resume` cannot pick them up.
    pub fn open(path: &Path, resume: bool, train: &Dataset, test: Option<&Dataset>, events: &mut dyn FnMut(&Event)) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(|e| Error::io(path, e))?;
        let lock = lock(path)?;
        let images = Images::of(train, test);
        let begun = images.versions.clone();
        let mut folder = Self { path: path.to_path_buf(), images, begun, _lock: lock };
        folder.remove_half_written();
        match resume {
            true => {
                folder.move_back()?;
                if WORK.iter().all(|name| !folder.file(name).exists()) {
                    events(&Event::Notice(format!("{} holds no run to resume: this one begins anew", path.display())));
                }
                folder.compare(events)?;
            }
            false => folder.set_aside(events)?,
        }
        folder.note_images()?;
        Ok(folder)
    }

    fn note_images(&self) -> Result<()> {
        let Images { train, test, .. } = self.images.clone();
        let json = serde_json::to_string(&Images { train, test, versions: self.begun.clone() }).map_err(|e| Error::Data(e.to_string()))?;
        save_atomically(self.file(IMAGES), json.as_bytes())
    }

    /// What happened to the run's surroundings while it went on, one line each: other pictures, the folder moved away.
    pub fn changes(&self, train: &Dataset, test: Option<&Dataset>) -> Result<Vec<String>> {
        let now = Images::of(train, test);
        let mut changes = Vec::new();
        let touched = now.touched(&self.images.versions);
        for (which, then, now) in [("training", &self.images.train, now.train), ("test", &self.images.test, now.test)] {
            if *then != now {
                changes.push(format!("the {which} images changed while the run went on: its numbers may mix both; run it anew to be sure"));
            } else if touched.contains(&which) {
                changes.push(format!(
                    "files of the {which} images were written while the run went on: if they hold other pictures now, its numbers mix both; \
                     run it anew then"
                ));
            }
        }
        if !self.file(IMAGES).exists() {
            self.note_images()?;
            let path = self.path.display();
            changes.push(format!("{path} was moved or emptied while the run went on: what was written before is not in it"));
        }
        Ok(changes)
    }

    /// The hash of the training images, as the run was begun on them.
    pub fn train_images(&self) -> &str {
        &self.images.train
    }

    /// The hash of the test images, as the run was begun on them.
    pub fn test_images(&self) -> &str {
        &self.images.test
    }

    /// What the times of the test images' files tell, as they are now.
    pub fn test_versions(&self) -> Option<&str> {
        self.images.versions[1].as_deref()
    }

    /// The path of one of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Removes one of its files, if it is there.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.file(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&path, error)),
            _ => Ok(()),
        }
    }

    /// Says that the run is not over, though it was: more epochs are to come. Its report waits under another name.
    pub fn reopen(&self) -> Result<()> {
        match std::fs::rename(self.file(REPORT), self.file(EARLIER_REPORT)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(self.file(REPORT), error)),
            _ => Ok(()),
        }
    }

    /// Refuses to go on with other images; a run that was stopped before it noted any has done nothing yet.
    fn compare(&mut self, events: &mut dyn FnMut(&Event)) -> Result<()> {
        let Ok(json) = std::fs::read(self.file(IMAGES)) else { return Ok(()) };
        let Ok(begun) = serde_json::from_slice::<Images>(&json) else { return Ok(()) };
        for (which, then, now) in [("train", begun.train, &self.images.train), ("test", begun.test, &self.images.test)] {
            if then != *now {
                return Err(Error::Usage(format!(
                    "{} holds a run on other {which} images or classes: repeat its --{which}, --limit-{which} and --classes (of a set of \
                     the hub that moved on, hf:owner/name@commit), or start without --resume",
                    self.path.display()
                )));
            }
        }
        if begun.versions.iter().any(Option::is_some) {
            self.begun = begun.versions;
        }
        for which in self.images.touched(&self.begun) {
            events(&Event::Notice(format!(
                "files of the {which} images were written or copied since the run began: if they hold other pictures now, its numbers mix \
                 both; start without --resume then"
            )));
        }
        Ok(())
    }

    /// Moves an earlier run's files to a folder within: there that run can still be resumed. Killed in the middle, the next start
    /// finishes it, or undoes it to resume.
    fn set_aside(&self, events: &mut dyn FnMut(&Event)) -> Result<()> {
        let io = |e| Error::io(&self.path, e);
        let (moving, previous) = (self.file(MOVING), self.file(PREVIOUS));
        let own = |name: &&str| self.file(name).exists() && (*name != CARD || is_unedited(&self.file(CARD)));
        let files: Vec<&str> = FILES.into_iter().filter(own).collect();
        if files.is_empty() && !moving.exists() {
            return Ok(());
        }
        let _lock = lock(&previous)?; // a run may go on in it
        std::fs::create_dir_all(&moving).map_err(io)?;
        for name in files {
            std::fs::rename(self.file(name), moving.join(name)).map_err(io)?;
        }
        let held = [(unfinished(&previous), "a run that was not over"), (holds_others(&previous), "other files")];
        if let Some((_, held)) = held.into_iter().find(|(holds, _)| *holds) {
            let mut free = (2..).map(|number| self.file(&format!("{PREVIOUS}-{number}"))).filter(|path| !path.exists());
            if let Some(kept) = free.next() {
                std::fs::rename(&previous, &kept).map_err(io)?;
                events(&Event::Notice(format!("{} held {held}: it is now {}", previous.display(), kept.display())));
            }
        } else if previous.exists() {
            if previous.join(IMAGES).exists() {
                let previous = previous.display();
                events(&Event::Notice(format!(
                    "{previous} held an older run that was over: it is removed, and the run before this one takes its place"
                )));
            }
            std::fs::remove_dir_all(&previous).map_err(io)?;
        }
        std::fs::rename(&moving, &previous).map_err(io)?;
        if unfinished(&previous) {
            let (out, previous) = (self.path.display(), previous.display());
            events(&Event::Notice(format!("{out} held a run that was not over: --out {previous} --resume goes on with it")));
        }
        Ok(())
    }

    /// Undoes a [`set_aside`](Self::set_aside) that was killed.
    fn move_back(&self) -> Result<()> {
        let moving = self.file(MOVING);
        for name in FILES.into_iter().rev().filter(|name| moving.join(name).exists() && !self.file(name).exists()) {
            std::fs::rename(moving.join(name), self.file(name)).map_err(|e| Error::io(&self.path, e))?;
        }
        let _ = std::fs::remove_dir(moving);
        Ok(())
    }

    /// Removes what a run left that was killed while it wrote.
    fn remove_half_written(&self) {
        for folder in [self.path.clone(), self.file("figures")] {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if is_half_written(&entry.file_name()) {
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        }
    }
}

/// True if the run in a folder was begun before files of its pictures, whose versions are these now, were written or copied.
pub(crate) fn begun_before(folder: &Path, versions: [Option<String>; 2]) -> bool {
    let begun = std::fs::read(folder.join(IMAGES)).ok().and_then(|json| serde_json::from_slice::<Images>(&json).ok());
    begun.is_some_and(|begun| !Images { versions, ..Images::default() }.touched(&begun.versions).is_empty())
}

/// True if a folder holds a run that did something and has no report yet.
fn unfinished(folder: &Path) -> bool {
    let holds = |name: &str| folder.join(name).exists();
    !holds(REPORT) && [FEATURES, TEXT_CHECKPOINT, CHECKPOINT].into_iter().any(holds)
}

/// True if a folder holds anything that was not moved there from a run's folder, which always has the hashes of its images.
fn holds_others(folder: &Path) -> bool {
    let known = |name: &str| folder.join(IMAGES).exists() && (name != CARD || is_unedited(&folder.join(CARD)));
    let other = |entry: std::fs::DirEntry| !FILES.iter().any(|name| entry.file_name() == *name && known(name));
    std::fs::read_dir(folder).into_iter().flatten().flatten().any(other)
}

/// Locks the folder itself, so that no file is left behind. If a system cannot lock a folder, nothing is locked.
fn lock(path: &Path) -> Result<Option<File>> {
    let Ok(folder) = File::open(path) else { return Ok(None) };
    match folder.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Error::Taken(path.to_path_buf())),
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
        RunFolder::open(path, resume, &set(train), Some(&set(test)), &mut silent)
    }

    #[test]
    fn one_run_at_a_time_and_only_on_its_own_images() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let first = open(&path, false, 8, 4).unwrap();
        #[cfg(target_os = "linux")]
        assert!(open(&path, true, 8, 4).err().unwrap().to_string().contains("another run"));
        drop(first);
        assert!(open(&path, true, 8, 4).is_ok());
        assert!(open(&path, true, 7, 4).err().unwrap().to_string().contains("--limit-train"));
        assert!(open(&path, true, 8, 3).err().unwrap().to_string().contains("--limit-test"));
    }

    fn read(path: &Path, name: &str) -> String {
        std::fs::read_to_string(path.join(name)).unwrap_or_default()
    }

    /// Begins a run on as many pictures that leaves a checkpoint, and a report if it ends; gives the notices.
    fn begin(path: &Path, name: &str, ends: bool) -> Vec<String> {
        let mut notices = Vec::new();
        let mut note = |event: &Event| {
            if let Event::Notice(text) = event {
                notices.push(text.clone());
            }
        };
        drop(RunFolder::open(path, false, &set(8), Some(&set(4)), &mut note).unwrap());
        std::fs::write(path.join(CHECKPOINT), name).unwrap();
        if ends {
            std::fs::write(path.join(REPORT), name).unwrap();
        }
        notices
    }

    #[test]
    fn what_an_earlier_run_left_is_set_aside_and_no_unfinished_run_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert!(begin(path, "first", true).is_empty());
        assert!(begin(path, "second", false).is_empty(), "a run that is over needs no word");
        assert_eq!(read(&path.join("previous"), REPORT), "first");
        assert!(!path.join(REPORT).exists());
        let notices = begin(path, "third", false);
        assert!(notices.len() == 2 && notices[0].contains("removed") && notices[1].contains("previous --resume"), "{notices:?}");
        assert_eq!(read(&path.join("previous"), CHECKPOINT), "second");
        assert!(!path.join("previous").join(REPORT).exists(), "that was another run's");
        for (name, text) in [("index.html", "third's"), (CARD, "the user's")] {
            std::fs::write(path.join(name), text).unwrap();
        }
        let notices = begin(path, "fourth", true);
        assert_eq!((read(&path.join("previous"), "index.html"), read(path, "index.html")), ("third's".into(), "".into()));
        assert_eq!(read(path, CARD), "the user's");
        assert!(notices.len() == 2 && notices[0].contains("previous-2"), "{notices:?}");
        assert_eq!(
            (read(&path.join("previous-2"), CHECKPOINT), read(&path.join("previous"), CHECKPOINT)),
            ("second".into(), "third".into())
        );
        begin(path, "fifth", true);
        let notices = begin(path, "sixth", true);
        assert!(notices.len() == 1 && notices[0].contains("removed"), "{notices:?}");
        assert_eq!((read(&path.join("previous-3"), CHECKPOINT), read(&path.join("previous"), REPORT)), ("third".into(), "fifth".into()));
        assert!(!path.join("previous-4").exists(), "runs that are over are kept once");
    }

    #[test]
    fn a_run_that_was_over_and_goes_on_is_kept_as_one_that_is_not_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        begin(path, "first", true);
        open(path, true, 8, 4).unwrap().reopen().unwrap();
        assert!(begin(path, "second", true).iter().any(|notice| notice.contains("previous --resume")));
        let notices = begin(path, "third", true);
        assert!(notices.iter().any(|notice| notice.contains("previous-2")), "{notices:?}");
        assert_eq!((read(&path.join("previous-2"), CHECKPOINT), read(&path.join("previous"), REPORT)), ("first".into(), "second".into()));
        assert_eq!(read(&path.join("previous-2"), EARLIER_REPORT), "first");
    }

    #[test]
    fn what_is_resumed_before_it_began_is_begun() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut told = Vec::new();
        for _ in 0..2 {
            drop(RunFolder::open(&path, true, &set(8), Some(&set(4)), &mut |event| told.push(event.clone())).unwrap());
        }
        assert!(matches!(&told[..], [Event::Notice(text)] if text.contains("no run to resume: this one begins anew")), "{told:?}");
    }

    #[test]
    fn a_folder_of_the_users_own_is_not_removed_nor_one_in_which_a_run_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let (path, previous) = (folder.path(), folder.path().join("previous"));
        std::fs::create_dir(&previous).unwrap();
        std::fs::write(previous.join("notes.txt"), "mine").unwrap();
        begin(path, "first", true);
        let notices = begin(path, "second", true);
        assert!(notices.len() == 1 && notices[0].contains("previous-2"), "{notices:?}");
        assert_eq!((read(&path.join("previous-2"), "notes.txt"), read(&previous, REPORT)), ("mine".into(), "first".into()));
        let running = open(&previous, true, 8, 4).unwrap();
        #[cfg(target_os = "linux")]
        assert!(open(path, false, 8, 4).err().unwrap().to_string().contains("another run is writing"));
        drop(running);
        assert_eq!((read(path, REPORT), read(&previous, REPORT)), ("second".into(), "first".into()), "nothing was moved");
    }

    #[test]
    fn a_kill_while_files_are_set_aside_mixes_no_two_runs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        begin(path, "first", false);
        std::fs::write(path.join(HISTORY), "first").unwrap();
        let half = || {
            std::fs::create_dir_all(path.join(MOVING)).unwrap();
            std::fs::rename(path.join(CHECKPOINT), path.join(MOVING).join(CHECKPOINT)).unwrap();
        };
        half();
        assert!(open(path, true, 7, 4).is_err(), "other images are seen all the same");
        drop(open(path, true, 8, 4).unwrap());
        assert_eq!((read(path, CHECKPOINT), path.join(MOVING).exists()), ("first".into(), false));
        half();
        assert_eq!(begin(path, "second", false).len(), 1);
        assert_eq!(read(&path.join("previous"), CHECKPOINT) + &read(&path.join("previous"), HISTORY), "firstfirst");
        assert!(path.join("previous").join(IMAGES).exists() && !path.join(MOVING).exists());
    }

    #[test]
    #[cfg(unix)]
    fn pictures_that_are_written_anew_with_the_same_size_are_told_of_at_each_resume() {
        let folder = tempfile::tempdir().unwrap();
        let (data, out) = (folder.path().join("data"), folder.path().join("out"));
        std::fs::create_dir(&data).unwrap();
        let picture = |i: u8, level: u8| {
            image::RgbImage::from_pixel(2, 2, image::Rgb([level; 3])).save(data.join(format!("{i:02}.bmp"))).unwrap();
        };
        (0..20).for_each(|i| picture(i, i));
        let set = || Dataset::open(&data).unwrap().unlabeled();
        let notices = |resume: bool| {
            let mut notices = Vec::new();
            let mut note = |event: &Event| {
                if let Event::Notice(text) = event {
                    notices.push(text.clone());
                }
            };
            let folder = RunFolder::open(&out, resume, &set(), None, &mut note).unwrap();
            (notices, folder)
        };
        let (told, run) = notices(false);
        assert!(told.is_empty() && run.changes(&set(), None).unwrap().is_empty());
        std::thread::sleep(std::time::Duration::from_millis(20)); // the system's clock for files is coarse
        picture(11, 99);
        let told = run.changes(&set(), None).unwrap();
        assert!(told.len() == 1 && told[0].contains("training"), "{told:?}");
        drop(run);
        for _ in 0..2 {
            let (told, run) = notices(true);
            assert!(told.len() == 1 && told[0].contains("without --resume"), "{told:?}");
            assert!(run.changes(&set(), None).unwrap().is_empty() && begun_before(&out, [set().versions(), None]));
        }
        assert!(notices(false).0.is_empty() && !begun_before(&out, [set().versions(), None]));
    }

    #[test]
    fn half_written_files_go_also_where_a_run_is_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        begin(path, "first", false);
        std::fs::create_dir(path.join("figures")).unwrap();
        let half = [path.join(".lafter-x.tmp"), path.join("figures").join(".lafter-y.tmp")];
        half.iter().for_each(|file| std::fs::write(file, "half").unwrap());
        drop(open(path, true, 8, 4).unwrap());
        assert!(half.iter().all(|file| !file.exists()));
    }

    #[test]
    fn changes_while_a_run_goes_on_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let run = open(folder.path(), false, 8, 4).unwrap();
        assert!(run.changes(&set(8), Some(&set(4))).unwrap().is_empty());
        let told = run.changes(&set(7), Some(&set(4))).unwrap();
        assert!(told.len() == 1 && told[0].contains("training"), "{told:?}");
        std::fs::remove_file(run.file(IMAGES)).unwrap();
        assert_eq!(run.changes(&set(8), Some(&set(4))).unwrap().len(), 1);
        assert!(run.file(IMAGES).exists());
    }
}
