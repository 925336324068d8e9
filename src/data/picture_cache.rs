//! Pixels kept in a memory-mapped temporary file under a size limit, so that fifty epochs do not decode and resize fifty times.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use image::RgbImage;
use memmap2::{Mmap, MmapOptions};

/// Room for 8-bit pixels, shared by the data sets that were given it. Cloning shares.
///
/// The file has no name: it belongs to this process alone, is gone when the process is, however that ends, and no file of
/// an earlier run or of somebody else can be taken for it. What is read twice is held by the system's page cache, which
/// gives way when memory is short.
///
/// ```
/// use lafter::data::{Dataset, PictureCache, scenes::{Domain, Scenes}};
/// let cache = PictureCache::new(100 << 20);
/// let pictures = Dataset::new(Scenes::new(Domain::Target, 5, 1)).cached_in(&cache);
/// assert_eq!(pictures.image(3)?, pictures.image(3)?); // the second one is read back
/// assert!(cache.used() > 0);
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone)]
pub struct PictureCache(Arc<Inner>);

struct Inner {
    /// `None` if nothing is to be kept.
    store: Option<(Mutex<File>, Mmap)>,
    used: AtomicUsize,
    limit: usize,
    /// Set for good once the disk has too little room left.
    full: AtomicBool,
}

/// What is left free on the disk for all else that is written during a run: this much, or a quarter of a smaller disk.
#[cfg(unix)]
const RESERVE: u64 = 1 << 30;

/// Where one picture's pixels lie; set once they do.
#[derive(Default)]
pub(crate) struct Slot(OnceLock<Kept>);

struct Kept {
    start: usize,
    width: u32,
    height: u32,
}

impl PictureCache {
    /// Up to `limit` bytes in the system's temporary folder; 0 keeps nothing.
    pub fn new(limit: usize) -> Self {
        Self::new_in(std::env::temp_dir(), limit)
    }

    /// The same in another folder, which is created if it is missing. A folder that cannot be written keeps nothing: a run is then
    /// slower, not wrong.
    pub fn new_in(folder: impl AsRef<Path>, limit: usize) -> Self {
        let limit = limit.min(largest_file());
        let store = (limit > 0).then(|| open(folder.as_ref(), limit).ok()).flatten();
        Self(Arc::new(Inner { store, used: AtomicUsize::new(0), limit, full: AtomicBool::new(false) }))
    }

    /// Bytes of pixels kept so far.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// The picture of a slot, if it was kept.
    pub(crate) fn get(&self, slot: &Slot) -> Option<RgbImage> {
        let (Kept { start, width, height }, (_, map)) = (slot.0.get()?, self.0.store.as_ref()?);
        let pixels = map.get(*start..*start + 3 * *width as usize * *height as usize)?;
        RgbImage::from_raw(*width, *height, pixels.to_vec())
    }

    /// Keeps a picture, unless fewer than `spare` bytes would be left, its slot is taken, or the disk is nearly full.
    pub(crate) fn keep(&self, slot: &Slot, picture: &RgbImage, spare: usize) {
        let Some((file, _)) = &self.0.store else { return };
        let pixels = picture.as_raw();
        // Reserve first, so that threads together stay under the limit.
        let room = |used: usize| used.checked_add(pixels.len()).filter(|end| end.saturating_add(spare) <= self.0.limit);
        if slot.0.get().is_some() || self.0.full.load(Ordering::Relaxed) {
            return;
        }
        let Ok(start) = self.0.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room) else { return };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        if !has_room(&file, pixels.len()) {
            self.0.full.store(true, Ordering::Relaxed);
            return;
        }
        // Written as a file, not through the map: a full disk is then an error here, not a signal.
        let written = file.seek(SeekFrom::Start(start as u64)).and_then(|_| file.write_all(pixels));
        if written.is_ok() {
            let _ = slot.0.set(Kept { start, width: picture.width(), height: picture.height() });
        }
    }
}

/// Whether so many bytes more leave the reserve on the file's disk. What a system does not tell does not count.
#[cfg(unix)]
#[allow(clippy::unnecessary_cast)] // the fields' types differ between systems
fn has_room(file: &File, bytes: usize) -> bool {
    use std::os::fd::AsRawFd;
    // SAFETY: all zeros is a value of this struct of numbers, and the call writes to it only.
    let mut disk: libc::statvfs = unsafe { std::mem::zeroed() };
    if unsafe { libc::fstatvfs(file.as_raw_fd(), &mut disk) } != 0 {
        return true;
    }
    let block = disk.f_frsize as u64;
    let (free, size) = (block * disk.f_bavail as u64, block * disk.f_blocks as u64);
    free >= RESERVE.min(size / 4) + bytes as u64
}

#[cfg(not(unix))]
fn has_room(_: &File, _: usize) -> bool {
    true
}

/// The size of a file that this process may write: beyond it (`ulimit -f`) the system would end the process.
#[cfg(unix)]
#[allow(clippy::unnecessary_cast)] // the fields' types differ between systems
fn largest_file() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes to the struct only.
    match unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) } {
        0 => usize::try_from(limit.rlim_cur as u64).unwrap_or(usize::MAX),
        _ => usize::MAX,
    }
}

#[cfg(not(unix))]
fn largest_file() -> usize {
    usize::MAX
}

/// An unnamed file that can grow to `limit` bytes, and a view of all of it.
fn open(folder: &Path, limit: usize) -> std::io::Result<(Mutex<File>, Mmap)> {
    std::fs::create_dir_all(folder)?;
    let file = tempfile::tempfile_in(folder)?;
    file.set_len(limit as u64)?; // takes no room on the disk until it is written
    // SAFETY: the file has no name, so nobody else can change or shorten it; a part is read only after it was written whole.
    let map = unsafe { MmapOptions::new().map(&file)? };
    Ok((Mutex::new(file), map))
}

impl std::fmt::Debug for PictureCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PictureCache({} of {} MiB)", self.used() >> 20, self.0.limit >> 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_the_limit_holds() {
        let cache = PictureCache::new(1000);
        let picture = |seed: u8| RgbImage::from_fn(10, 10, |x, y| image::Rgb([x as u8, y as u8, seed]));
        let slots: Vec<Slot> = (0..4).map(|_| Slot::default()).collect();
        for (i, slot) in slots.iter().enumerate() {
            cache.keep(slot, &picture(i as u8), 0);
            cache.keep(slot, &picture(99), 0); // kept already
        }
        let found: Vec<Option<RgbImage>> = slots.iter().map(|slot| cache.get(slot)).collect();
        assert_eq!(found, [Some(picture(0)), Some(picture(1)), Some(picture(2)), None]); // three of 300 bytes
        assert_eq!(cache.used(), 900);
    }

    #[test]
    fn no_limit_no_folder_and_no_room_keep_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"x").unwrap();
        let picture = RgbImage::new(2, 2);
        for (cache, spare) in [(PictureCache::new(0), 0), (PictureCache::new_in(&file, 1000), 0), (PictureCache::new(1000), 990)] {
            let slot = Slot::default();
            cache.keep(&slot, &picture, spare);
            assert_eq!((cache.get(&slot), cache.used()), (None, 0));
        }
    }

    #[test]
    fn no_file_is_left_or_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let slot = Slot::default();
        let cache = PictureCache::new_in(folder.path(), 1000);
        cache.keep(&slot, &RgbImage::new(3, 3), 0);
        assert!(cache.get(&slot).is_some());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file has no name");
    }
}
