//! One file from the hub into its standard cache: the content below `blobs`, a link to it in the snapshot.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
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

    /// All bytes into `part`, with retries. A try that brings more than any before uses up none.
    fn fetch(&self, file: &Described, part: &Path, events: &mut dyn FnMut(&Event)) -> std::result::Result<(), Fault> {
        let mut events = watched(events);
        let (stage, total) = (Stage::from(format!("downloading {}", self.name)), usize::try_from(file.size).unwrap_or(usize::MAX));
        let started = Instant::now();
        events(&Event::Started { stage: stage.clone(), total, unit: "bytes".into() });
        let advanced = |done: u64| {
            let done = usize::try_from(done).unwrap_or(usize::MAX);
            Event::Advanced { stage: stage.clone(), done, total, loss: None, accuracy: None }
        };
        let (mut tried, mut most) = (0, std::fs::metadata(part).map_or(0, |meta| meta.len()));
        loop {
            let mut reached = 0;
            let all = self.append(file.size, part, &mut |event| match event {
                Step::Done(bytes) => {
                    reached = bytes;
                    events(&advanced(bytes));
                }
                Step::Told(event) => events(event),
            });
            let fault = match all.and_then(|hash| check(file, part, &hash)) {
                Ok(()) => break,
                Err(fault) => fault,
            };
            match &fault {
                Fault::Cut(_) | Fault::Network(_) => {}
                Fault::Status(416, _) | Fault::Nonsense(_) => _ = std::fs::remove_file(part), // it is of another file
                _ => return Err(fault),
            }
            if reached > most {
                (tried, most) = (0, reached);
            }
            if tried == self.retries {
                return Err(fault);
            }
            tried += 1;
            pause("downloading", Duration::from_millis(300 * tried as u64)).map_err(Fault::Here)?;
        }
        events(&advanced(file.size));
        events(&Event::Finished { stage, seconds: started.elapsed().as_secs_f64() });
        Ok(())
    }

    /// Goes on where `part` ends; the SHA-256 of all of it.
    fn append(&self, size: u64, path: &Path, step: &mut dyn FnMut(Step)) -> std::result::Result<String, Fault> {
        let mut part = Part::open(path)?;
        if part.length > size {
            part.clear()?; // of another file
        }
        if part.length < size {
            let (mut body, from) = self.client.read(&self.path, part.length, &mut |event| step(Step::Told(event)))?;
            if from < part.length {
                part.clear()?;
            }
            let mut said = part.length;
            step(Step::Done(said));
            loop {
                let bytes = body.next()?;
                if bytes.is_empty() {
                    break;
                }
                if part.length + bytes.len() as u64 > size {
                    return Err(Fault::Nonsense(format!("more than the {size} bytes that were announced")));
                }
                part.add(&bytes)?;
                if part.length >= said + EVERY {
                    said = part.length;
                    step(Step::Done(said));
                }
            }
            step(Step::Done(part.length));
            if part.length < size {
                return Err(Fault::Cut(format!("{} of {size} bytes came", part.length)));
            }
        }
        part.end()
    }
}

/// What happens in a download.
enum Step<'a> {
    /// So many bytes are there.
    Done(u64),
    Told(&'a Event),
}

/// A file that is not all there, and the hash of what is.
struct Part {
    path: PathBuf,
    file: File,
    hash: Sha256,
    length: u64,
}

impl Part {
    fn open(path: &Path) -> std::result::Result<Self, Fault> {
        let io = |e| Fault::Here(Error::io(path, e));
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path).map_err(io)?;
        let (mut hash, mut length, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
        loop {
            check_interrupt("downloading").map_err(Fault::Here)?;
            match file.read(&mut buffer).map_err(io)? {
                0 => return Ok(Self { path: path.to_path_buf(), file, hash, length }),
                read => {
                    hash.update(&buffer[..read]);
                    length += read as u64;
                }
            }
        }
    }

    fn clear(&mut self) -> std::result::Result<(), Fault> {
        (self.hash, self.length) = (Sha256::new(), 0);
        self.file.set_len(0).map_err(|e| Fault::Here(Error::io(&self.path, e)))
    }

    fn add(&mut self, bytes: &[u8]) -> std::result::Result<(), Fault> {
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|e| Fault::Here(Error::io(&self.path, e)))
    }

    fn end(self) -> std::result::Result<String, Fault> {
        self.file.sync_all().map_err(|e| Fault::Here(Error::io(&self.path, e)))?;
        Ok(format!("{:x}", self.hash.finalize()))
    }
}

/// Refuses, and removes, what is not the content that its name tells: that of a large file is its SHA-256.
fn check(file: &Described, part: &Path, hash: &str) -> std::result::Result<(), Fault> {
    let told = file.etag.len() == 64 && file.etag.bytes().all(|b| b.is_ascii_hexdigit());
    if !told || hash.eq_ignore_ascii_case(&file.etag) {
        return Ok(());
    }
    std::fs::remove_file(part).map_err(|e| Fault::Here(Error::io(part, e)))?;
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
