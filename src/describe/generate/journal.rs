//! The journal: every answer, written at once, never changed. A killed run loses nothing and asks nothing twice.

use std::collections::HashMap;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::request::{Answer, Finish, Key, Request, Settings};
use crate::error::{Error, Result};

/// How a line of the journal begins.
const BEGINS: &[u8] = b"{\"key\":\"";

/// One line of the journal: a request and what came back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What the answer is found by.
    pub key: Key,
    /// Index of the class; `None` for a query about the whole data set.
    pub class: Option<usize>,
    /// The class name; empty without a class.
    pub name: String,
    /// What was asked, filled in.
    pub query: String,
    /// Name of the model.
    pub model: String,
    /// How the answer was drawn.
    pub settings: Settings,
    /// Which of the answers to one query this is, from 0.
    pub completion: usize,
    /// The answer as it came.
    pub answer: String,
    /// Why it ended.
    pub finish: Finish,
    /// Seconds since 1970.
    pub time: u64,
}

/// An append-only file of JSON lines with an index of its keys in memory (24 bytes per line; answers stay on disk).
///
/// The file is locked while it is open, so two processes never share one. A last line without its line feed, as a killed
/// process leaves it, is cut off; damaged lines in the middle, and lines whose query, model or settings do not belong to
/// their key, are counted and left alone.
///
/// ```
/// use lafter::describe::generate::{Answer, Journal, Request, Settings};
/// let folder = tempfile::tempdir().unwrap();
/// let mut journal = Journal::open(folder.path().join("texts.journal.jsonl"))?;
/// let request = Request::new("Describe a boat.", &Settings::chat());
/// journal.append(&request, "some-model", &Answer { text: "A boat floats.".into(), ..Answer::default() })?;
/// assert_eq!(journal.get(request.key("some-model"))?.unwrap().answer, "A boat floats.");
/// # Ok::<(), lafter::Error>(())
/// ```
pub struct Journal {
    path: PathBuf,
    file: File,
    locked: bool,
    index: HashMap<Key, u64>,
    length: u64,
    damaged: usize,
    torn: bool,
}

/// What an entry is looked up by, and what its key is made of; the answer is read when it is needed.
#[derive(Deserialize)]
struct Keyed {
    key: Key,
    query: String,
    model: String,
    settings: Settings,
    completion: usize,
}

impl Keyed {
    /// False if the line was edited: it would be taken as the answer to another request.
    fn belongs(&self) -> bool {
        self.key == Key::of(&self.query, &self.model, &self.settings, self.completion)
    }
}

impl Journal {
    /// Opens or begins a journal and locks it. Folders above `path` are made.
    ///
    /// # Errors
    /// [`Error::Io`] with the path; [`Error::Usage`] if another process has it open, or it holds lines and none of them is a
    /// journal's.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        }
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(|e| Error::io(&path, e))?;
        let mut locked = false;
        match file.try_lock() {
            Ok(()) => locked = true,
            Err(TryLockError::WouldBlock) => {
                let path = path.display();
                return Err(Error::Usage(format!("{path} is in use by another process: wait for it to end, or choose another --out")));
            }
            Err(TryLockError::Error(_)) => {} // some file systems know no locks
        }
        Self { path, file, locked, index: HashMap::new(), length: 0, damaged: 0, torn: false }.scan()
    }

    /// Whether no other process has it open; where files cannot be locked, that is not known.
    pub(super) fn is_locked(&self) -> bool {
        self.locked
    }

    /// A journal that vanishes with its value: for a notebook.
    ///
    /// # Errors
    /// [`Error::Io`] if there is no room for temporary files.
    pub fn temporary() -> Result<Self> {
        let file = tempfile::tempfile().map_err(|e| Error::io("a temporary journal", e))?;
        Ok(Self { path: "a temporary journal".into(), file, locked: false, index: HashMap::new(), length: 0, damaged: 0, torn: false })
    }

    /// Builds the index; a torn last line is cut off, unless this is a file of another kind.
    fn scan(mut self) -> Result<Self> {
        let mut lines = BufReader::new(&self.file);
        let (mut line, mut foreign, mut own) = (Vec::new(), 0, 0);
        loop {
            line.clear();
            let read = lines.read_until(b'\n', &mut line).map_err(|e| Error::io(&self.path, e))?;
            if read == 0 {
                break;
            }
            if line.last() != Some(&b'\n') {
                // an editor may have taken the line feed; a killed process leaves half a line
                if serde_json::from_slice::<Keyed>(&line).is_ok_and(|line| line.belongs()) {
                    (&self.file).write_all(b"\n").map_err(|e| Error::io(&self.path, e))?;
                    line.push(b'\n');
                } else {
                    self.torn = true;
                    break;
                }
            }
            match serde_json::from_slice::<Keyed>(&line) {
                Ok(line) => {
                    own += 1;
                    match line.belongs() {
                        true => drop(self.index.insert(line.key, self.length)),
                        false => self.damaged += 1,
                    }
                }
                Err(_) if line.iter().all(u8::is_ascii_whitespace) => {}
                Err(_) => foreign += 1,
            }
            self.length += line.len() as u64;
        }
        let begins = |line: &[u8]| line.iter().zip(BEGINS).all(|(a, b)| a == b);
        if own == 0 && (foreign > 0 || self.torn && !begins(&line)) {
            let path = self.path.display();
            return Err(Error::Usage(format!("{path} is a file of another kind, no journal of answers: choose another name")));
        }
        self.damaged += foreign;
        if self.torn {
            self.file.set_len(self.length).map_err(|e| Error::io(&self.path, e))?;
        }
        Ok(self)
    }

    /// True if the answer to this request is known.
    pub fn contains(&self, key: Key) -> bool {
        self.index.contains_key(&key)
    }

    /// The line of this key.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Text`] if the line is damaged.
    pub fn get(&mut self, key: Key) -> Result<Option<Record>> {
        let Some(&offset) = self.index.get(&key) else { return Ok(None) };
        let mut line = Vec::new();
        let read = self.file.seek(SeekFrom::Start(offset));
        let read = read.and_then(|_| BufReader::new(&mut self.file).take(self.length - offset).read_until(b'\n', &mut line));
        read.map_err(|e| Error::io(&self.path, e))?;
        let damaged =
            |e| Error::Text(format!("{}: the line at byte {offset} is damaged ({e}): delete it and run again", self.path.display()));
        serde_json::from_slice(&line).map(Some).map_err(damaged)
    }

    /// Writes one answer: the operating system has it before this returns, so that a killed process loses nothing.
    ///
    /// # Errors
    /// [`Error::Io`] if the line cannot be written, as on a full disk.
    pub fn append(&mut self, request: &Request, model: &str, answer: &Answer) -> Result<()> {
        let Request { class, name, query, completion, settings } = request.clone();
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let key = request.key(model);
        let (model, answer, finish) = (model.to_string(), answer.text.clone(), answer.finish);
        let record = Record { key, class, name, query, model, settings, completion, answer, finish, time };
        let mut line = serde_json::to_vec(&record).map_err(|e| Error::Text(format!("an answer has no JSON form: {e}")))?;
        line.push(b'\n');
        let place = self.file.seek(SeekFrom::End(0)).map_err(|e| Error::io(&self.path, e))?;
        if let Err(e) = self.file.write_all(&line) {
            // a full disk must not leave half a line in front of the next
            let _ = self.file.set_len(place);
            return Err(Error::io(&self.path, e));
        }
        self.index.insert(key, place);
        self.length = place + line.len() as u64;
        Ok(())
    }

    /// Waits until the disk has everything.
    ///
    /// # Errors
    /// [`Error::Io`] if the system cannot write what it holds back.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::io(&self.path, e))
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many answers it holds.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// True without an answer.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Lines that could not be read or do not belong to their key, and whether a torn last line was cut off.
    pub fn damage(&self) -> (usize, bool) {
        (self.damaged, self.torn)
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Journal({}, {} answers)", self.path.display(), self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(query: &str) -> Request {
        Request::new(query, &Settings::chat())
    }

    fn answer(text: &str) -> Answer {
        Answer { text: text.into(), finish: Finish::Stop }
    }

    #[test]
    fn a_torn_last_line_is_cut_off_and_a_damaged_one_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/j.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        journal.append(&request("é?"), "m", &answer("Zwei\nZeilen \u{2028}.")).unwrap();
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        let mut bytes = b"{\"half\": \n\n\xff\xfe\n".to_vec();
        bytes.extend(&whole);
        bytes.extend(&whole[..whole.len() / 2]);
        std::fs::write(&path, bytes).unwrap();

        let mut journal = Journal::open(&path).unwrap();
        assert_eq!((journal.len(), journal.damage()), (1, (2, true)));
        assert_eq!(journal.get(request("é?").key("m")).unwrap().unwrap().answer, "Zwei\nZeilen \u{2028}.");
        assert!(journal.get(request("other").key("m")).unwrap().is_none());
        journal.append(&request("b"), "m", &answer("B")).unwrap();
        drop(journal);
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!((journal.len(), journal.damage()), (2, (2, false)));
        assert_eq!(journal.get(request("b").key("m")).unwrap().unwrap().answer, "B");
    }

    #[test]
    fn a_line_that_does_not_belong_to_its_key_is_no_answer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.jsonl");
        let settings = Settings { temperature: 0.1 + 0.2, ..Settings::official() };
        let asked = Request::new("Describe a boat.", &settings);
        Journal::open(&path).unwrap().append(&asked, "m", &answer("A boat floats.")).unwrap();
        let line = std::fs::read_to_string(&path).unwrap();
        for (from, to) in [
            ("a boat.", "an owl."),
            ("\"completion\":0", "\"completion\":1"),
            ("\"max_tokens\":50", "\"max_tokens\":51"),
            ("\"model\":\"m\"", "\"model\":\"n\""),
        ] {
            assert!(line.contains(from), "{line}");
            std::fs::write(&path, line.replace(from, to)).unwrap();
            let journal = Journal::open(&path).unwrap();
            assert_eq!((journal.contains(asked.key("m")), journal.damage()), (false, (1, false)), "{to}");
        }
        std::fs::write(&path, line).unwrap();
        assert!(Journal::open(&path).unwrap().contains(asked.key("m")));
    }

    #[test]
    fn a_file_of_another_kind_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cupl.json");
        for text in [r#"{"boat": ["It floats."]}"#, "{\n  \"boat\": [\n  ]\n}", "one\ntwo", "key"] {
            std::fs::write(&path, text).unwrap();
            let error = Journal::open(&path).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains("another kind"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        for torn in ["{\"ke", "{\"key\":\"00ff"] {
            std::fs::write(&path, torn).unwrap();
            assert_eq!(Journal::open(&path).unwrap().damage(), (0, true));
        }
    }

    #[test]
    fn two_processes_cannot_share_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.jsonl");
        let first = Journal::open(&path).unwrap();
        let error = Journal::open(&path).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("another process"), "{error}");
        drop(first);
        Journal::open(&path).unwrap();
    }
}
