//! Whole results that all runs over one cache make once: features of pictures, zero-shot and text classifiers.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

use candle_core::{Device, Tensor};
use sha2::{Digest, Sha256};

use super::FeatureCache;
use crate::error::{Error, Result};
use crate::files::is_at;
use crate::progress::{Event, check_interrupt};
use crate::sealed;

/// The folder of the results within the cache.
const FOLDER: &str = "once";
/// A result that nobody read for so long is removed.
const FORGOTTEN: Duration = Duration::from_secs(30 * 24 * 3600);
/// Time between two looks at a result that another run is making.
const LOOK: Duration = Duration::from_millis(50);
/// A wait of this length is told.
const LONG: Duration = Duration::from_secs(5);
/// What a file says next to its tensors.
const REST: &str = "rest";

/// The program that computes: its version, and its file's size and time, which another build changes.
static PROGRAM: LazyLock<String> = LazyLock::new(|| {
    let file = std::env::current_exe().and_then(|path| Ok((path.metadata()?.len(), path.metadata()?.modified()?))).ok();
    format!("{} {file:?}", env!("CARGO_PKG_VERSION"))
});

/// A result as it lies on disk.
pub(crate) struct Stored {
    /// Its tensors by name, in f32.
    pub tensors: Vec<(String, Tensor)>,
    /// Everything else, as JSON.
    pub rest: String,
}

/// What can be kept on disk and read back with the same bits.
pub(crate) trait Lasting: Sized {
    /// What it is called, in messages and file names.
    const NAME: &str;

    /// As it is kept.
    fn stored(&self) -> Result<Stored>;

    /// Whether it would be the same the next time.
    fn lasts(&self) -> bool {
        true
    }

    /// Reads back what [`stored`](Self::stored) gave; `None` for anything else.
    fn restored(tensors: HashMap<String, Tensor>, rest: &str, device: &Device) -> Option<Self>;
}

impl FeatureCache {
    /// The result that `decisive` decides, read, or made and kept; and whether it lies on disk now. Runs that ask at the same time,
    /// also of other processes, wait for the first. `decisive` must tell everything that decides the result's bits.
    ///
    /// A file that is damaged, or a folder that cannot be written, is told of and no error: the result is made anew.
    ///
    /// # Errors
    /// Those of `make`; [`Error::Interrupted`] while it waits.
    pub(crate) fn once<T: Lasting>(
        &self,
        decisive: &str,
        device: &Device,
        events: &mut dyn FnMut(&Event),
        make: impl FnOnce(&mut dyn FnMut(&Event)) -> Result<T>,
    ) -> Result<(T, bool)> {
        let folder = self.directory.join(FOLDER);
        let name = T::NAME.replace(' ', "-");
        let hash = format!("{:x}", Sha256::digest(format!("{} {name} {decisive}", *PROGRAM)));
        let path = folder.join(format!("{name}-{}.safetensors", &hash[..32]));
        if let Some(known) = read(&path, device, events) {
            return Ok((known, true));
        }
        let damaged = path.exists();
        let lock = Lock::wait(path.with_extension("lock"), T::NAME, events)?;
        // made since the first look
        if (lock.waited || !damaged)
            && let Some(known) = read(&path, device, events)
        {
            return Ok((known, true));
        }
        let made = make(events)?;
        if !made.lasts() {
            return Ok((made, false));
        }
        let kept = made.stored().and_then(|Stored { tensors, rest }| sealed::save(&path, &tensors, HashMap::from([(REST.into(), rest)])));
        if let Err(error) = &kept {
            events(&Event::Notice(format!("{} could not be cached: {error}", T::NAME)));
        }
        remove_forgotten(&folder);
        Ok((made, kept.is_ok()))
    }
}

fn read<T: Lasting>(path: &Path, device: &Device, events: &mut dyn FnMut(&Event)) -> Option<T> {
    if !path.exists() {
        return None;
    }
    let known = sealed::read(path).and_then(|(tensors, metadata)| {
        let tensors = tensors.into_iter().map(|(name, tensor)| Ok((name, tensor.to_device(device)?))).collect::<Result<_>>()?;
        let rest = metadata.get(REST).map_or("", String::as_str);
        T::restored(tensors, rest, device).ok_or_else(|| Error::Data("it holds something else".into()))
    });
    match known {
        Ok(known) => {
            // it is in use: the time says so
            let _ = File::options().append(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
            events(&Event::Notice(format!("{}: known from another run, taken from the cache", T::NAME)));
            Some(known)
        }
        Err(error) => {
            let path = path.display();
            events(&Event::Notice(format!("the cached {} {path} cannot be used ({error}): it is made again", T::NAME)));
            None
        }
    }
}

/// Removes what nobody read for a month, and what a killed run left.
fn remove_forgotten(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|data| data.modified()).ok();
        if modified.and_then(|time| time.elapsed().ok()).is_some_and(|age| age > FORGOTTEN) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The right to make one result, or to write a file. It ends with this value or the process; where the system has no locks, or the
/// folder cannot be written, everyone has it.
pub(super) struct Lock {
    path: PathBuf,
    file: Option<File>,
    /// Whether somebody else had it first.
    waited: bool,
}

impl Lock {
    pub(super) fn wait(path: PathBuf, what: &str, events: &mut dyn FnMut(&Event)) -> Result<Self> {
        let open = || {
            std::fs::create_dir_all(path.parent()?).ok()?;
            File::options().create(true).truncate(false).write(true).open(&path).ok()
        };
        let (started, mut told, mut waited) = (Instant::now(), false, false);
        loop {
            let Some(file) = open() else { return Ok(Self { path, file: None, waited }) };
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => return Ok(Self { path, file: Some(file), waited }),
                // the one who had it has removed the file meanwhile
                Ok(()) => waited = true,
                Err(TryLockError::Error(_)) => return Ok(Self { path, file: None, waited }),
                Err(TryLockError::WouldBlock) => {
                    waited = true;
                    check_interrupt(&format!("{what}: stopped waiting for another run that makes it"))?;
                    if !told && started.elapsed() >= LONG {
                        told = true;
                        events(&Event::Notice(format!("{what}: another run makes it, this one waits")));
                    }
                    std::thread::sleep(LOOK);
                }
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = std::fs::remove_file(&self.path); // while it is held: nobody else's
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::silent;

    #[derive(Debug, PartialEq)]
    struct Number(f32);

    impl Lasting for Number {
        const NAME: &str = "a number";

        fn stored(&self) -> Result<Stored> {
            Ok(Stored { tensors: vec![("value".into(), Tensor::new(&[self.0], &Device::Cpu)?)], rest: "number".into() })
        }

        fn restored(tensors: HashMap<String, Tensor>, rest: &str, _: &Device) -> Option<Self> {
            let value = tensors.get("value")?.to_vec1::<f32>().ok()?;
            (rest == "number").then(|| Self(value[0]))
        }
    }

    fn ask(cache: &FeatureCache, decisive: &str, value: f32) -> (Number, bool, Vec<String>) {
        let mut notices = Vec::new();
        let mut made = false;
        let make = |_: &mut dyn FnMut(&Event)| {
            made = true;
            Ok(Number(value))
        };
        let note = &mut |event: &Event| {
            if let Event::Notice(text) = event {
                notices.push(text.clone());
            }
        };
        let (number, kept) = cache.once(decisive, &Device::Cpu, note, make).unwrap();
        assert!(kept);
        (number, made, notices)
    }

    #[test]
    fn it_is_made_once_by_what_decides_it_and_again_after_damage() {
        let folder = tempfile::tempdir().unwrap();
        let cache = FeatureCache::new(folder.path());
        assert_eq!(ask(&cache, "a", 0.1), (Number(0.1), true, vec![]));
        let (known, made, notices) = ask(&cache, "a", 0.2);
        assert!(known == Number(0.1) && !made && notices[0].contains("a number"), "{notices:?}");
        assert_eq!(ask(&cache, "b", 0.2).0, Number(0.2));
        let files = || std::fs::read_dir(folder.path().join(FOLDER)).unwrap().map(|entry| entry.unwrap().path());
        assert_eq!(files().count(), 2, "no lock is left");
        for path in files() {
            std::fs::write(path, "torn").unwrap();
        }
        let (again, made, notices) = ask(&cache, "a", 0.3);
        assert!(again == Number(0.3) && made && notices[0].contains("cannot be used"), "{notices:?}");
        let error = cache.once("c", &Device::Cpu, &mut silent, |_| Err::<Number, _>(Error::Data("no".into())));
        assert!(error.is_err());
        assert_eq!(ask(&cache, "c", 0.4), (Number(0.4), true, vec![]), "an error is not kept");
    }

    #[test]
    fn those_who_ask_at_the_same_time_wait_for_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let cache = FeatureCache::new(folder.path());
        let made = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let make = |_: &mut dyn FnMut(&Event)| {
                        made.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(100));
                        Ok(Number(0.5))
                    };
                    assert_eq!(cache.once("a", &Device::Cpu, &mut silent, make).unwrap().0, Number(0.5));
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
    }

    #[test]
    fn what_is_forgotten_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = FeatureCache::new(folder.path());
        ask(&cache, "a", 0.1);
        let path = std::fs::read_dir(folder.path().join(FOLDER)).unwrap().next().unwrap().unwrap().path();
        File::options().append(true).open(&path).unwrap().set_modified(SystemTime::now() - FORGOTTEN - LONG).unwrap();
        ask(&cache, "b", 0.1);
        assert!(!path.exists());
    }
}
