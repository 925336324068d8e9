//! Rows of a pass that is not over, on disk: stopped or killed, it goes on where it was, bit for bit.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::checkpoint::fingerprint;
use crate::clip::Clip;
use crate::data::{Dataset, Skipped, SkippedRecord};
use crate::device::tf32;
use crate::error::{Error, Result};
use crate::files::is_half_written;
use crate::ranks::{Ranks, rows as rows_of, told};
use crate::sealed;

/// What files and ranks call the rows.
const ROWS: &str = "rows";

/// Where a pass over pictures keeps its rows until it is over, and what decides them.
///
/// The rows lie in a folder of their own, one file for each time that they were saved: every file is whole, and says by hashes
/// which model, which pictures and which function it was made with. Rows of anything else are never taken up.
#[derive(Clone, Debug)]
pub struct Keep {
    folder: PathBuf,
    what: String,
    every: Duration,
}

impl Keep {
    /// Keeps rows in `folder`, saved whenever `every` has passed (zero: after each batch) and at a stop. `decisive` must tell
    /// everything that decides the rows, as [`Keep::decisive`] does.
    pub fn new(folder: impl Into<PathBuf>, decisive: &str, every: Duration) -> Self {
        let what = format!("{:x}", Sha256::digest(format!("{} {decisive}", env!("CARGO_PKG_VERSION"))));
        Self { folder: folder.into(), what, every }
    }

    /// The same in a folder below `parent` that is named by what decides the rows: for commands that write no file of their own.
    /// Rows that nobody came back for in thirty days are removed.
    pub fn below(parent: &Path, decisive: &str, every: Duration) -> Self {
        let keep = Self::new(parent, decisive, every);
        let forgotten = |entry: &std::fs::DirEntry| {
            let modified = entry.metadata().and_then(|data| data.modified()).ok();
            modified.and_then(|time| time.elapsed().ok()).is_some_and(|age| age > Duration::from_secs(30 * 24 * 3600))
        };
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten().filter(forgotten) {
            remove(&entry.path());
        }
        Self { folder: parent.join(&keep.what[..16]), ..keep }
    }

    /// What decides the rows of a vision tower's pass over `dataset`: model, arithmetic, weak view, pictures, and `function`,
    /// what is made of the pixels.
    pub fn decisive(clip: &Clip, dataset: &Dataset, function: &str) -> String {
        let pictures = format!("{} {:?}", dataset.fingerprint(), dataset.versions());
        Self::decisive_on(clip, &pictures, function)
    }

    /// [`decisive`](Self::decisive) of pictures whose hash is known.
    pub(crate) fn decisive_on(clip: &Clip, pictures: &str, function: &str) -> String {
        let tf32 = tf32(clip.device());
        let arithmetic = format!("{:?} {:?} {:?} tf32 {tf32}", clip.device().location(), clip.dtype(), clip.precision());
        json!([clip.weights_hash(), clip.config(), arithmetic, clip.preprocess(), pictures, function]).to_string()
    }

    /// A hash of tensors: names a function by its weights.
    ///
    /// # Errors
    /// If the tensors cannot be read (Candle's).
    pub fn fingerprint<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<String> {
        fingerprint(tensors)
    }

    /// Removes the rows; call it when the result is safe elsewhere.
    pub fn remove(&self) {
        remove(&self.folder);
    }
}

/// Files of rows and their folder; whatever else lies there stays.
fn remove(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if is_half_written(&name) || name.to_str().is_some_and(|name| name.starts_with("rows-")) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    let _ = std::fs::remove_dir(folder);
}

/// The state of a pass: what is done, and what of it is on disk.
#[derive(Default)]
pub struct Kept {
    keep: Option<Keep>,
    /// Pictures per batch: of batches of another size, as many are other pictures.
    batch_size: usize,
    /// Rows so far, batch by batch: `[batch, width]` each.
    pub rows: Vec<Tensor>,
    /// Which picture each row belongs to.
    pub indices: Vec<usize>,
    /// Batches that are done, also those of which no picture could be read.
    pub batches: usize,
    /// Pictures that could not be read, up to here.
    pub skipped: Option<Skipped>,
    /// Time that it took before this start, in seconds.
    pub seconds: f64,
    saved: Saved,
    last: Option<Instant>,
}

/// What is on disk: files, and how much of the state is in them.
#[derive(Clone, Copy, Default)]
struct Saved {
    files: usize,
    rows: usize,
    indices: usize,
    batches: usize,
}

/// What a file says next to its rows.
#[derive(Serialize, Deserialize)]
struct Header {
    what: String,
    batch_size: usize,
    indices: Vec<usize>,
    /// Batches before its rows, and with them.
    from: usize,
    batches: usize,
    skipped: Option<SkippedRecord>,
    seconds: f64,
}

const HEADER: &str = "pass";

impl Kept {
    /// Takes up what `keep` holds of the same pass, else starts anew. Processes that work on the same rows do not disturb each
    /// other: a file counts only if it begins where the one before it ends, and equal passes make equal rows.
    pub fn open(keep: Option<&Keep>, batch_size: usize) -> Self {
        let Some(keep) = keep else { return Self::default() };
        let mut kept = Self { keep: Some(keep.clone()), batch_size, last: Some(Instant::now()), ..Self::default() };
        while kept.read_next().is_some() {}
        if kept.saved.files == 0 {
            remove(&keep.folder); // rows of another pass
        }
        kept
    }

    /// The first rank's state on all of them.
    ///
    /// # Errors
    /// If rows of different widths were added (Candle's); if a rank is gone.
    pub(super) fn shared(mut self, ranks: &dyn Ranks) -> Result<Self> {
        if ranks.size() == 1 {
            return Ok(self);
        }
        let own = match self.rows.is_empty() {
            true => Vec::new(),
            false => vec![(ROWS.to_string(), Tensor::cat(&self.rows, 0)?)],
        };
        let rows = rows_of(ranks, own, &Device::Cpu)?.remove(ROWS);
        let state = (self.indices.clone(), self.batches, self.skipped.as_ref().map(Skipped::record), self.seconds);
        let (indices, batches, skipped, seconds) = told(ranks, &state)?.swap_remove(0);
        if ranks.rank() > 0 {
            self.rows = rows.into_iter().collect();
            (self.indices, self.batches, self.seconds) = (indices, batches, seconds);
            self.skipped = skipped.map(Skipped::from_record);
        }
        Ok(self)
    }

    fn file(&self, number: usize) -> Option<PathBuf> {
        Some(self.keep.as_ref()?.folder.join(format!("rows-{number:06}.safetensors")))
    }

    /// One more file, if it goes on from those before.
    fn read_next(&mut self) -> Option<()> {
        let path = self.file(self.saved.files)?;
        let (mut tensors, metadata) = path.exists().then(|| sealed::read(&path).ok())??;
        let header: Header = serde_json::from_str(metadata.get(HEADER)?).ok()?;
        let rows = tensors.remove(ROWS)?;
        let same = header.what == self.keep.as_ref()?.what && header.batch_size == self.batch_size;
        let fits = same && rows.dim(0).ok()? == header.indices.len() && header.from == self.batches;
        fits.then(|| {
            self.rows.push(rows);
            self.indices.extend(header.indices);
            (self.batches, self.seconds) = (header.batches, header.seconds);
            self.skipped = header.skipped.map(Skipped::from_record);
            self.note_saved();
        })
    }

    /// The rows so far, by the picture that each belongs to.
    ///
    /// # Errors
    /// If rows of different widths were added (Candle's).
    pub fn known(&self) -> Result<HashMap<usize, Vec<f32>>> {
        if self.rows.is_empty() {
            return Ok(HashMap::new());
        }
        Ok(self.indices.iter().copied().zip(Tensor::cat(&self.rows, 0)?.to_vec2()?).collect())
    }

    /// True if rows are kept.
    pub fn keeps(&self) -> bool {
        self.keep.is_some()
    }

    /// Saves what is new if it is time to; `seconds` is what the pass took so far.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn save_if_due(&mut self, seconds: f64) -> Result<()> {
        match (&self.keep, self.last) {
            (Some(keep), Some(last)) if last.elapsed() >= keep.every => self.save(seconds),
            _ => Ok(()),
        }
    }

    /// Saves what is new once the pass is over, if it took so long that doing it again would cost more than a stop may.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn save_at_end(&mut self, seconds: f64) -> Result<()> {
        match &self.keep {
            Some(keep) if seconds >= keep.every.as_secs_f64() => self.save(seconds),
            _ => Ok(()),
        }
    }

    /// Saves what is new. After a failure nothing more is kept: the pass itself needs no file.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn save(&mut self, seconds: f64) -> Result<()> {
        let Saved { files, rows, indices, batches } = self.saved;
        let (Some(keep), Some(path), true) = (&self.keep, self.file(files), self.indices.len() > indices) else { return Ok(()) };
        let header = Header {
            what: keep.what.clone(),
            batch_size: self.batch_size,
            indices: self.indices[indices..].to_vec(),
            from: batches,
            batches: self.batches,
            skipped: self.skipped.as_ref().map(Skipped::record),
            seconds,
        };
        let write = || {
            let json = serde_json::to_string(&header).map_err(|e| Error::Data(e.to_string()))?;
            sealed::save(&path, &[(ROWS.into(), Tensor::cat(&self.rows[rows..], 0)?)], HashMap::from([(HEADER.into(), json)]))
        };
        let written = write();
        if written.is_err() {
            self.keep = None;
        } else {
            self.note_saved();
        }
        self.last = Some(Instant::now()); // a slow disk does not make it save after every batch
        written
    }

    fn note_saved(&mut self) {
        let files = self.saved.files + 1;
        self.saved = Saved { files, rows: self.rows.len(), indices: self.indices.len(), batches: self.batches };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: f32) -> Tensor {
        Tensor::new(&[[value, 1.0]], &Device::Cpu).unwrap()
    }

    fn push(kept: &mut Kept, picture: usize) {
        kept.rows.push(row(picture as f32));
        kept.indices.push(picture);
        kept.batches += 1;
    }

    #[test]
    fn what_was_saved_is_taken_up_as_far_as_it_is_whole_and_of_the_same_pass() {
        let folder = tempfile::tempdir().unwrap();
        let keep = |what: &str| Keep::new(folder.path().join("rows"), what, Duration::ZERO);
        let mut first = Kept::open(Some(&keep("a")), 1);
        for picture in [0, 1, 3] {
            push(&mut first, picture);
            first.save_if_due(picture as f64).unwrap();
        }
        push(&mut first, 4); // not saved
        let again = Kept::open(Some(&keep("a")), 1);
        assert_eq!((again.batches, again.indices.clone(), again.seconds), (3, vec![0, 1, 3], 3.0));
        assert_eq!(again.known().unwrap()[&3], [3.0, 1.0]);
        // a torn or a missing file ends what counts
        std::fs::write(folder.path().join("rows/rows-000001.safetensors"), "torn").unwrap();
        let mut torn = Kept::open(Some(&keep("a")), 1);
        assert_eq!(torn.indices, [0]);
        // going on from there, two pictures in one file: the old third file does not follow it
        (1..3).for_each(|picture| push(&mut torn, picture));
        torn.save(9.0).unwrap();
        assert_eq!(Kept::open(Some(&keep("a")), 1).indices, [0, 1, 2]);
        // of other batches or another pass nothing is taken, and nothing stays
        assert_eq!(Kept::open(Some(&keep("a")), 2).batches, 0);
        assert!(!folder.path().join("rows").exists());
        push(&mut first, 4);
        first.save(9.0).unwrap();
        assert_eq!(Kept::open(Some(&keep("b")), 1).batches, 0);
        assert!(!folder.path().join("rows").exists());
    }

    #[test]
    fn what_cannot_be_saved_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let mut kept = Kept::open(Some(&Keep::new(folder.path().join("file/rows"), "a", Duration::ZERO)), 1);
        push(&mut kept, 0);
        assert!(kept.save(0.0).is_err() && !kept.keeps());
        assert!(kept.save(0.0).is_ok());
    }

    #[test]
    fn forgotten_rows_are_removed_and_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let of = |what: &str| Keep::below(folder.path(), what, Duration::ZERO);
        let mut kept = Kept::open(Some(&of("a")), 1);
        push(&mut kept, 0);
        kept.save(0.0).unwrap();
        let old = std::time::SystemTime::now() - Duration::from_secs(31 * 24 * 3600);
        std::fs::File::open(of("a").folder).unwrap().set_modified(old).unwrap();
        assert_eq!(Kept::open(Some(&of("b")), 1).batches, 0);
        assert!(!of("a").folder.exists());
    }
}
