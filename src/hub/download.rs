//! One file from the hub into its standard cache: the content below `blobs`, a link to it in the snapshot.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::client::{Client, Described, Fault};
use crate::error::{Error, Result};
use crate::progress::{Event, Stage, check_interrupt, pause, watched};

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
            move |e| Fault::Here(Error::io(path, e))
        };
        std::fs::create_dir_all(self.root.join("blobs")).map_err(io(&blob))?;
        let _lock = self.lock(&file.etag, events).map_err(Fault::Here)?;
        let whole = |path: &Path| std::fs::metadata(path).is_ok_and(|meta| meta.len() == file.size);
        if !whole(&blob) {
            let part = blob.with_extension("part");
            self.fetch(file, &part, events)?;
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

    /// All bytes into `part`, with retries. A try that brings something uses up none.
    fn fetch(&self, file: &Described, part: &Path, events: &mut dyn FnMut(&Event)) -> std::result::Result<(), Fault> {
        let mut events = watched(events);
        let (stage, total) = (Stage::from(format!("downloading {}", self.name)), usize::try_from(file.size).unwrap_or(usize::MAX));
        let started = Instant::now();
        events(&Event::Started { stage: stage.clone(), total, unit: "bytes".into() });
        let mut advance = |done: u64| {
            let done = usize::try_from(done).unwrap_or(usize::MAX);
            events(&Event::Advanced { stage: stage.clone(), done, total, loss: None, accuracy: None });
        };
        let length = || std::fs::metadata(part).map_or(0, |meta| meta.len());
        let (mut tried, mut before) = (0, length());
        while let Err(fault) = self.append(file.size, part, &mut advance).and_then(|()| check(file, part)) {
            match &fault {
                Fault::Cut(_) | Fault::Network(_) => {}
                Fault::Status(416, _) | Fault::Nonsense(_) => _ = std::fs::remove_file(part), // it is of another file
                _ => return Err(fault),
            }
            if length() > before {
                tried = 0;
            }
            before = length();
            if tried == self.retries {
                return Err(fault);
            }
            tried += 1;
            pause("downloading", Duration::from_millis(300 * tried as u64)).map_err(Fault::Here)?;
        }
        advance(file.size);
        events(&Event::Finished { stage, seconds: started.elapsed().as_secs_f64() });
        Ok(())
    }

    /// Goes on where `part` ends.
    fn append(&self, size: u64, part: &Path, advance: &mut dyn FnMut(u64)) -> std::result::Result<(), Fault> {
        let io = |e| Fault::Here(Error::io(part, e));
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
        let mut said = done;
        advance(done);
        loop {
            let part = body.next()?;
            if part.is_empty() {
                break;
            }
            done += part.len() as u64;
            if done > size {
                return Err(Fault::Nonsense(format!("more than the {size} bytes that were announced")));
            }
            file.write_all(&part).map_err(io)?;
            if done >= said + EVERY {
                said = done;
                advance(done);
            }
        }
        if done < size {
            return Err(Fault::Cut(format!("{done} of {size} bytes came")));
        }
        file.sync_all().map_err(io)
    }
}

/// Refuses, and removes, what is not the content that its name tells: that of a large file is its SHA-256.
fn check(file: &Described, part: &Path) -> std::result::Result<(), Fault> {
    if file.etag.len() != 64 || !file.etag.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(());
    }
    let io = |e| Fault::Here(Error::io(part, e));
    let (mut read, mut hash) = (File::open(part).map_err(io)?, Sha256::new());
    std::io::copy(&mut read, &mut hash).map_err(io)?;
    if format!("{:x}", hash.finalize()).eq_ignore_ascii_case(&file.etag) {
        return Ok(());
    }
    std::fs::remove_file(part).map_err(io)?;
    Err(Fault::Cut("its bytes were changed on the way: they do not have the checksum that the hub tells".into()))
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
        // whole or not at all
        let copy = tempfile::NamedTempFile::new_in(link.parent().unwrap_or(Path::new(".")))?;
        std::fs::copy(blob, copy.path())?;
        copy.persist(link)?;
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
