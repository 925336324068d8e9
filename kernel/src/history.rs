//! The inputs of this session and what they gave; the inputs of earlier sessions, from a file.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jupyter_protocol::{HistoryEntry, HistoryReply, HistoryRequest};
use serde_json::{Value, json};

/// Inputs of earlier sessions that are kept in mind.
const MOST: usize = 5000;
/// The file is made shorter when it is longer, in bytes.
const LONGEST_FILE: u64 = 8 << 20;

/// One input: its session, its number there, its code, its value as text.
struct Entry {
    session: usize,
    line: usize,
    code: String,
    value: String,
}

#[derive(Default)]
pub struct History {
    session: usize,
    /// Of all sessions, ours last.
    entries: Vec<Entry>,
    file: Option<File>,
}

impl History {
    /// The history in a file, which this session continues; a file that cannot be written leaves a history of this session alone.
    pub fn open(path: &Path) -> Self {
        let mut entries: Vec<Entry> = std::fs::read_to_string(path).unwrap_or_default().lines().filter_map(read).collect();
        entries.drain(..entries.len().saturating_sub(MOST));
        if path.metadata().is_ok_and(|file| file.len() > LONGEST_FILE) {
            let _ = std::fs::write(path, entries.iter().map(line).collect::<String>()); // then it is only longer
        }
        let session = entries.iter().map(|entry| entry.session).max().unwrap_or(0) + 1;
        let file = File::options().append(true).create(true).mode(0o600).open(path).ok();
        Self { session, entries, file }
    }

    pub fn push(&mut self, code: &str) {
        let number = self.entries.iter().filter(|entry| entry.session == self.session).count() + 1;
        let entry = Entry { session: self.session, line: number, code: code.to_string(), value: String::new() };
        if let Some(file) = &mut self.file {
            let _ = file.write_all(line(&entry).as_bytes()); // in one piece: another session may write, too
        }
        self.entries.push(entry);
    }

    /// What the latest input gave.
    pub fn value(&mut self, value: &str) {
        if let Some(last) = self.entries.last_mut() {
            last.value = value.to_string();
        }
    }

    pub fn reply(&self, request: &HistoryRequest) -> HistoryReply {
        let chosen: Vec<&Entry> = match request {
            HistoryRequest::Tail { n, .. } => last(self.entries.iter().collect(), *n),
            HistoryRequest::Range { session, start, stop, .. } => {
                // 0 is this session, -1 the one before
                let session = session.unwrap_or(0);
                let session = if session <= 0 { self.session as i32 + session } else { session };
                let (start, stop) = (*start, if *stop <= 0 { i32::MAX } else { *stop });
                let wanted = |entry: &&Entry| entry.session as i32 == session && (start..stop).contains(&(entry.line as i32));
                self.entries.iter().filter(wanted).collect()
            }
            HistoryRequest::Search { pattern, unique, n, .. } => {
                let mut found: Vec<&Entry> = self.entries.iter().filter(|entry| matches(pattern, &entry.code)).collect();
                if *unique {
                    let mut seen = std::collections::HashSet::new();
                    found.reverse();
                    found.retain(|entry| seen.insert(&entry.code));
                    found.reverse();
                }
                last(found, *n)
            }
        };
        let outputs = match request {
            HistoryRequest::Tail { output, .. } | HistoryRequest::Range { output, .. } | HistoryRequest::Search { output, .. } => *output,
        };
        let entry = |entry: &Entry| match outputs {
            true => HistoryEntry::InputOutput(entry.session, entry.line, (entry.code.clone(), entry.value.clone())),
            false => HistoryEntry::Input(entry.session, entry.line, entry.code.clone()),
        };
        HistoryReply::new(chosen.into_iter().map(entry).collect())
    }
}

fn line(entry: &Entry) -> String {
    format!("{}\n", json!([entry.session, entry.line, entry.code]))
}

fn read(line: &str) -> Option<Entry> {
    let entry: Value = serde_json::from_str(line).ok()?;
    let (session, line) = (entry[0].as_u64()? as usize, entry[1].as_u64()? as usize);
    Some(Entry { session, line, code: entry[2].as_str()?.to_string(), value: String::new() })
}

fn last<T>(mut all: Vec<T>, n: i32) -> Vec<T> {
    let from = if n > 0 { all.len().saturating_sub(n as usize) } else { 0 };
    all.split_off(from)
}

/// Jupyter's patterns: `*` any text, `?` any character.
fn matches(pattern: &str, text: &str) -> bool {
    let mut chars = pattern.chars();
    match chars.next() {
        None => text.is_empty(),
        Some('*') if chars.as_str().is_empty() => true,
        Some('*') => text.char_indices().map(|(i, _)| i).chain([text.len()]).any(|i| matches(chars.as_str(), &text[i..])),
        Some(c) => text.chars().next().is_some_and(|t| (c == '?' || c == t) && matches(chars.as_str(), &text[t.len_utf8()..])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(pattern: &str, unique: bool) -> HistoryRequest {
        HistoryRequest::Search { pattern: pattern.into(), unique, output: false, raw: true, n: 10 }
    }

    #[test]
    fn tail_range_and_search() {
        let mut history = History::default();
        ["let a = 1;", "a + 1", "let é = 2;", "a + 1"].iter().for_each(|code| history.push(code));
        let count = |request| history.reply(&request).history.len();
        assert_eq!(count(HistoryRequest::Tail { n: 3, output: false, raw: true }), 3);
        assert_eq!(count(HistoryRequest::Range { session: None, start: 2, stop: 4, output: false, raw: true }), 2);
        assert_eq!((count(search("a*1", false)), count(search("a*1", true))), (2, 1));
        assert!(matches("let ? = *", "let é = 2;"));
    }

    #[test]
    fn earlier_sessions_are_searched_too() {
        let path = std::env::temp_dir().join(format!("lafter-kernel-history-{}", std::process::id()));
        let mut first = History::open(&path);
        first.push("let a = \"one\nline\";");
        let mut second = History::open(&path);
        second.push("a + 1");
        let found = second.reply(&search("let a*", false)).history;
        assert!(matches!(&found[..], [HistoryEntry::Input(1, 1, code)] if code.contains("one\nline")));
        let range = |session| second.reply(&HistoryRequest::Range { session, start: 1, stop: 0, output: false, raw: true }).history.len();
        assert_eq!((range(None), range(Some(-1)), range(Some(1)), range(Some(9))), (1, 1, 1, 0));
        std::fs::remove_file(path).unwrap();
    }
}
