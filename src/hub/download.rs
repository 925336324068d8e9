//! One file from the hub into its standard cache: the content below `blobs`, a link to it in the snapshot.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::client::{Client, Described, Fault};
use crate::error::{Error, Result};
use crate::progress::{Event, Stage, check_interrupt, watched};

/// Bytes between two progress events.
const EVERY: u64 = 1 << 20;

/// Where a file comes from and where it goes.
pub(super) struct Download<'a> {
    pub(super) client: &'a Client,
    /// Below the endpoint.
    pub(super) path: String,
    /// For messages.
    pub(super) name: &'a str,
    /// The repository's folder in the cache.
    pub(super) root: PathBuf,
    /// The link to be made.
    pub(super) link: PathBuf,
    /// As the hub's other tools lock: the file is named by the content.
    pub(super) locks: PathBuf,
    pub(super) retries: usize,
}

impl Download<'_> {
    /// Downloads the file, or waits for another process that does, or uses what is there. A broken download is gone on with
    /// where it stopped.
    pub(super) fn run(&self, file: &Described, events: &mut dyn FnMut(&Event)) -> std::result::Result<(), Fault> {
        let blob = self.root.join("blobs").join(&file.etag);
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |e| Fault::File(Error::io(path, e))
        };
        std::fs::create_dir_all(self.root.join("blobs")).map_err(io(&blob))?;
        let _lock = self.lock(&file.etag, events).map_err(Fault::File)?;
        let whole = |path: &Path| std::fs::metadata(path).is_ok_and(|meta| meta.len() == file.size);
        if !whole(&blob) {
            let part = blob.with_extension("part");
            self.fetch(file.size, &part, events)?;
            std::fs::rename(&part, &blob).map_err(io(&blob))?;
        }
        link(&blob, &self.link).map_err(io(&self.link))
    }

    /// Waits until no other process downloads this file. Where files cannot be locked nobody waits.
    fn lock(&self, etag: &str, events: &mut dyn FnMut(&Event)) -> Result<Option<File>> {
        let path = self.locks.join(format!("{etag}.lock"));
        let opened = std::fs::create_dir_all(&self.locks).and_then(|()| OpenOptions::new().create(true).append(true).open(&path));
        let Ok(file) = opened else { return Ok(None) };
        let mut said = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::Error(_)) => return Ok(None),
                Err(TryLockError::WouldBlock) if !said => {
                    said = true;
                    let text = format!("another process is downloading {}: waiting for it (its lock: {})", self.name, path.display());
                    watched(&mut *events)(&Event::Notice(text));
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(100)),
            }
            check_interrupt("waiting for a download")?;
        }
    }

    /// All bytes into `part`, with retries.
    fn fetch(&self, size: u64, part: &Path, events: &mut dyn FnMut(&Event)) -> std::result::Result<(), Fault> {
        let mut events = watched(events);
        let (stage, total) = (Stage::from(format!("downloading {}", self.name)), usize::try_from(size).unwrap_or(usize::MAX));
        let started = Instant::now();
        events(&Event::Started { stage: stage.clone(), total, unit: "bytes".into() });
        let mut advance = |done: u64| {
            let done = usize::try_from(done).unwrap_or(usize::MAX);
            events(&Event::Advanced { stage: stage.clone(), done, total, loss: None, accuracy: None });
        };
        let mut tried = 0;
        while let Err(fault) = self.append(size, part, &mut advance) {
            if tried == self.retries || !matches!(fault, Fault::Cut(_) | Fault::Network(_) | Fault::Status(500..)) {
                return Err(fault);
            }
            tried += 1;
            std::thread::sleep(Duration::from_millis(300 * tried as u64));
        }
        advance(size);
        events(&Event::Finished { stage, seconds: started.elapsed().as_secs_f64() });
        Ok(())
    }

    /// Goes on where `part` ends.
    fn append(&self, size: u64, part: &Path, advance: &mut dyn FnMut(u64)) -> std::result::Result<(), Fault> {
        let io = |e| Fault::File(Error::io(part, e));
        let mut file = OpenOptions::new().create(true).append(true).open(part).map_err(io)?;
        let mut done = file.metadata().map_err(io)?.len();
        if done > size {
            file.set_len(0).map_err(io)?; // of another file
            done = 0;
        }
        if done == size {
            return Ok(());
        }
        let (mut body, from) = self.client.read(&self.path, done)?;
        if from < done {
            file.set_len(0).map_err(io)?;
            done = 0;
        }
        let (mut buffer, mut said) = (vec![0; 1 << 16], 0);
        loop {
            check_interrupt("downloading").map_err(Fault::File)?;
            let read = match body.read(&mut buffer) {
                Ok(0) if done < size => return Err(Fault::Cut(format!("{done} of {size} bytes came"))),
                Ok(0) => break,
                Ok(read) => read,
                Err(e) => return Err(Fault::Cut(e.to_string())),
            };
            done += read as u64;
            if done > size {
                return Err(Fault::Nonsense(format!("more than the {size} bytes that were announced")));
            }
            file.write_all(buffer.get(..read).unwrap_or_default()).map_err(io)?;
            if done >= said + EVERY {
                said = done;
                advance(done);
            }
        }
        file.sync_all().map_err(io)
    }
}

/// A relative link in the snapshot, as the hub's other tools make it; a copy if the disk has no links.
fn link(blob: &Path, link: &Path) -> std::io::Result<()> {
    if link.is_file() {
        return Ok(());
    }
    if let Some(folder) = link.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let _ = std::fs::remove_file(link); // leads nowhere
    let made = symlink(blob, link);
    if made.is_err() && !link.is_file() {
        std::fs::copy(blob, link)?;
    }
    Ok(())
}

#[cfg(unix)]
fn symlink(blob: &Path, link: &Path) -> std::io::Result<()> {
    // …/snapshots/commit/a/b → ../../../blobs/name
    let root = blob.parent().and_then(Path::parent).unwrap_or(blob);
    let below = link.strip_prefix(root).map_err(std::io::Error::other)?;
    let up: PathBuf = below.components().skip(1).map(|_| "..").collect();
    std::os::unix::fs::symlink(up.join("blobs").join(blob.file_name().unwrap_or_default()), link)
}

#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
