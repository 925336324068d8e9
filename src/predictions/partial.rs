//! Rows on disk while a pass is under way, so that a stopped one goes on and none is held in memory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::PredictionRow;
use crate::error::{Error, Result};
use crate::files::{is_at, save_atomically};
use crate::ranks::{Ranks, of_first, told};

/// The program's version: another may give other rows.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What every such file begins with.
const HEAD: &str = "{\"version\":";

/// A file of JSON lines: what the rows are of and made by, then for each batch its rows and a line that ends it. A batch that lacks
/// this line was cut off, and does not count; nor does one whose sum is another, or what follows it.
///
/// One pass at a time has the file: it is locked while this value lives, where the system has locks.
pub struct Partial {
    path: PathBuf,
    what: String,
    file: BufWriter<File>,
    /// Of the lines of the batch that is written.
    sum: Sha256,
    /// Batches that are whole.
    pub batches: usize,
    /// Pictures left out so far, name and reason.
    pub skipped: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Row(PredictionRow),
    Head { version: String, what: String },
    End { batches: usize, skipped: Vec<(String, String)>, sum: String },
}

impl Partial {
    /// Goes on with the file if it holds rows of the same pass; else it begins anew with the first batch. `what` names everything
    /// that decides the rows.
    ///
    /// # Errors
    /// [`Error::Usage`] if another pass is writing the file; [`Error::Io`] if it cannot be read or written.
    pub fn open(path: &Path, what: &str) -> Result<Self> {
        let file = locked(path)?;
        if is_foreign(&file) {
            let path = path.display();
            return Err(Error::Usage(format!("{path} is where rows are kept, and holds something else: move it, or choose another --out")));
        }
        let (whole, batches, skipped) = whole_part(&file, what);
        let mut partial = Self { path: path.into(), what: what.into(), file: BufWriter::new(file), sum: Sha256::new(), batches, skipped };
        if batches > 0 {
            partial.cut(whole)?;
        }
        Ok(partial)
    }

    /// The first rank's rows on all of them: the file of each other one becomes a copy.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read or written; if a rank is gone.
    pub(super) fn shared(&mut self, ranks: &dyn Ranks) -> Result<()> {
        if ranks.size() == 1 {
            return Ok(());
        }
        let bytes = of_first(ranks, || match self.batches {
            0 => Ok(Vec::new()),
            _ => std::fs::read(&self.path).map_err(|e| Error::io(&self.path, e)),
        })?;
        if ranks.rank() > 0 {
            save_atomically(&self.path, &bytes)?;
            *self = Self::open(&self.path, &self.what)?;
        }
        let batches = told(ranks, &self.batches)?;
        match batches.iter().all(|count| *count == batches[0]) {
            true => Ok(()),
            false => {
                Err(Error::Data("the processes do not answer the same pictures in the same way: start all with the same command".into()))
            }
        }
    }

    /// Cuts the file behind its first `whole` bytes; what comes is written there.
    fn cut(&mut self, whole: u64) -> Result<()> {
        let file = self.file.get_mut();
        file.set_len(whole).and_then(|()| file.seek(SeekFrom::End(0))).map_err(|e| Error::io(&self.path, e))?;
        Ok(())
    }

    /// Adds a whole batch: its rows, and the pictures of it that were left out.
    ///
    /// # Errors
    /// [`Error::Io`] if the disk is full.
    pub fn add(&mut self, rows: &[PredictionRow], skipped: Vec<(String, String)>) -> Result<()> {
        if self.batches == 0 {
            self.cut(0)?;
            self.line(&Line::Head { version: VERSION.into(), what: self.what.clone() })?;
        }
        for row in rows {
            self.line(&Line::Row(row.clone()))?;
        }
        self.batches += 1;
        self.skipped.extend(skipped.iter().cloned());
        let sum = sum_of(std::mem::take(&mut self.sum), self.batches, &skipped);
        self.line(&Line::End { batches: self.batches, skipped, sum })?;
        self.file.flush().map_err(|e| Error::io(&self.path, e))
    }

    fn line(&mut self, line: &Line) -> Result<()> {
        let json = serde_json::to_string(line).map_err(|e| Error::Data(e.to_string()))?;
        if let Line::Row(_) = line {
            self.sum.update(&json);
        }
        writeln!(self.file, "{json}").map_err(|e| Error::io(&self.path, e))
    }

    /// Gives every row so far to `each`, in order.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, and the errors of `each`.
    pub fn each(&self, mut each: impl FnMut(&PredictionRow) -> Result<()>) -> Result<()> {
        let io = |e| Error::io(&self.path, e);
        if self.batches == 0 {
            return Ok(());
        }
        // through the open file, which holds the lock
        let mut file = self.file.get_ref();
        file.seek(SeekFrom::Start(0)).map_err(io)?;
        for line in BufReader::new(file).lines() {
            if let Ok(Line::Row(row)) = serde_json::from_str(&line.map_err(io)?) {
                each(&row)?;
            }
        }
        file.seek(SeekFrom::End(0)).map_err(io)?;
        Ok(())
    }

    /// Forgets the batches, if there are some: the file goes with this value.
    pub(super) fn clear(&mut self) -> Result<()> {
        if std::mem::take(&mut self.batches) > 0 { self.cut(0) } else { Ok(()) }
    }

    /// Removes the file: the rows stand elsewhere now.
    pub fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A file that nothing was written to goes.
impl Drop for Partial {
    fn drop(&mut self) {
        let file = self.file.get_ref();
        if file.metadata().is_ok_and(|data| data.len() == 0) && is_at(file, &self.path) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The file at `path`, made if it is missing, for this pass alone. If a system cannot lock a file, nothing is locked.
fn locked(path: &Path) -> Result<File> {
    let io = |e| Error::io(path, e);
    loop {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                let path = path.display();
                return Err(Error::Usage(format!("another command is writing {path}: wait for it, or choose another --out")));
            }
            // the one who had it has removed it meanwhile
            Ok(()) if !is_at(&file, path) => {}
            _ => return Ok(file),
        }
    }
}

/// Whether the file begins as no such file does, also as none that was cut off.
fn is_foreign(mut file: &File) -> bool {
    let mut first = Vec::new();
    let read = file.take(HEAD.len() as u64).read_to_end(&mut first).and_then(|_| file.seek(SeekFrom::Start(0)));
    // zeros are what a power cut leaves
    read.is_ok() && !HEAD.as_bytes().starts_with(&first) && first.iter().any(|byte| *byte != 0)
}

/// The sum of a batch, in hex: over its rows as they stand in the file, its number, and what was left out.
fn sum_of(rows: Sha256, batches: usize, skipped: &[(String, String)]) -> String {
    let sum = rows.chain_update(format!("{batches} {skipped:?}")).finalize();
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How many bytes of the file count, and what they say; none if they are of another pass.
fn whole_part(file: &File, what: &str) -> (u64, usize, Vec<(String, String)>) {
    let (mut reader, mut line, mut at) = (BufReader::new(file), String::new(), 0);
    let (mut whole, mut batches, mut all, mut rows) = (0, 0, Vec::new(), Sha256::new());
    while let Ok(length) = reader.read_line(&mut line) {
        if length == 0 {
            break;
        }
        let Some(text) = line.strip_suffix('\n') else { break };
        at += length as u64;
        match serde_json::from_str(text).ok() {
            Some(Line::Head { version, what: found }) if whole == 0 && version == VERSION && found == what => whole = at,
            Some(Line::Row(_)) if whole > 0 => rows.update(text),
            Some(Line::End { batches: count, skipped, sum })
                if count == batches + 1 && sum == sum_of(std::mem::take(&mut rows), count, &skipped) =>
            {
                (whole, batches) = (at, count);
                all.extend(skipped);
            }
            _ => break,
        }
        line.clear();
    }
    (whole, batches, all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(picture: &str) -> PredictionRow {
        let (class, runner_up) = ("a".to_string(), "b".to_string());
        let picture = picture.to_string();
        PredictionRow {
            index: 0,
            picture,
            class,
            probability: 0.5,
            runner_up,
            margin: 0.1,
            zero_shot: None,
            text_classifier: None,
            changed: None,
            top: vec![],
        }
    }

    fn rows(partial: &Partial) -> Vec<String> {
        let mut names = Vec::new();
        let each = |row: &PredictionRow| {
            names.push(row.picture.clone());
            Ok(())
        };
        partial.each(each).unwrap();
        names
    }

    #[test]
    #[cfg(unix)]
    fn two_passes_never_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        let mut first = Partial::open(&path, "a").unwrap();
        let refused = |what: &str| Partial::open(&path, what).err().unwrap();
        assert!(refused("a").is_usage() && refused("b").to_string().contains("--out"));
        first.add(&[row("1")], vec![]).unwrap();
        assert!(refused("a").is_usage());
        first.add(&[row("2")], vec![]).unwrap();
        assert_eq!(rows(&first), ["1", "2"]);
        first.add(&[row("3")], vec![]).unwrap(); // behind the others, although they were read
        assert_eq!(rows(&first), ["1", "2", "3"]);
        drop(first);
        assert_eq!(Partial::open(&path, "a").unwrap().batches, 3);
        Partial::open(&path, "a").unwrap().remove();
        drop(Partial::open(&path, "a").unwrap());
        assert!(!path.exists(), "nothing was written");
    }

    #[test]
    fn a_torn_file_goes_on_after_its_last_whole_batch() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/rows.jsonl");
        let mut partial = Partial::open(&path, "a").unwrap();
        partial.add(&[row("1"), row("2")], vec![]).unwrap();
        partial.add(&[row("3")], vec![("4".into(), "torn".into())]).unwrap();
        drop(partial);
        let whole = std::fs::read(&path).unwrap();
        // cut anywhere in the second batch, the first one stays
        let first = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(3).unwrap().0 + 1;
        for cut in first..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut again = Partial::open(&path, "a").unwrap();
            assert_eq!((again.batches, again.skipped.len(), rows(&again)), (1, 0, vec!["1".to_string(), "2".into()]), "{cut}");
            again.add(&[row("3")], vec![("4".into(), "torn".into())]).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), whole, "{cut}");
        }
        // a number that changed ends what counts
        let changed = String::from_utf8(whole.clone()).unwrap().replacen("0.1", "0.2", 1);
        std::fs::write(&path, changed).unwrap();
        assert_eq!(Partial::open(&path, "a").unwrap().batches, 0);
        std::fs::write(&path, &whole).unwrap();
        // nor what another version of the program wrote, or another pass
        let older = String::from_utf8(whole.clone()).unwrap().replacen(VERSION, "0.0.9", 1);
        std::fs::write(&path, older).unwrap();
        assert_eq!(Partial::open(&path, "a").unwrap().batches, 0);
        std::fs::write(&path, &whole).unwrap();
        let other = Partial::open(&path, "b").unwrap();
        assert_eq!((other.batches, rows(&other).len()), (0, 0));
        other.remove();
        assert!(!path.exists());
        // a file of somebody else is not written over
        std::fs::write(&path, "mine").unwrap();
        assert!(Partial::open(&path, "a").err().unwrap().is_usage());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}
