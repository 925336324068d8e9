//! The inputs of this session and what they gave.

use jupyter_protocol::{HistoryEntry, HistoryReply, HistoryRequest};

#[derive(Default)]
pub struct History(Vec<(String, String)>);

impl History {
    pub fn push(&mut self, code: &str) {
        self.0.push((code.to_string(), String::new()));
    }

    /// What the latest input gave.
    pub fn value(&mut self, value: &str) {
        if let Some((_, last)) = self.0.last_mut() {
            *last = value.to_string();
        }
    }

    pub fn reply(&self, request: &HistoryRequest) -> HistoryReply {
        let numbered = self.0.iter().enumerate().map(|(i, entry)| (i + 1, entry));
        let chosen: Vec<(usize, &(String, String))> = match request {
            HistoryRequest::Tail { n, .. } => last(numbered.collect(), *n),
            HistoryRequest::Range { start, stop, .. } => {
                let (start, stop) = (*start, if *stop <= 0 { i32::MAX } else { *stop });
                numbered.filter(|(i, _)| (start..stop).contains(&(*i as i32))).collect()
            }
            HistoryRequest::Search { pattern, unique, n, .. } => {
                let mut found: Vec<_> = numbered.filter(|(_, (code, _))| matches(pattern, code)).collect();
                if *unique {
                    let mut seen = std::collections::HashSet::new();
                    found.reverse();
                    found.retain(|(_, (code, _))| seen.insert(code));
                    found.reverse();
                }
                last(found, *n)
            }
        };
        let outputs = match request {
            HistoryRequest::Tail { output, .. } | HistoryRequest::Range { output, .. } | HistoryRequest::Search { output, .. } => *output,
        };
        let entry = |(i, (code, value)): (usize, &(String, String))| match outputs {
            true => HistoryEntry::InputOutput(0, i, (code.clone(), value.clone())),
            false => HistoryEntry::Input(0, i, code.clone()),
        };
        HistoryReply::new(chosen.into_iter().map(entry).collect())
    }
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
        Some('*') => text.char_indices().map(|(i, _)| i).chain([text.len()]).any(|i| matches(chars.as_str(), &text[i..])),
        Some(c) => text.chars().next().is_some_and(|t| (c == '?' || c == t) && matches(chars.as_str(), &text[t.len_utf8()..])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_range_and_search() {
        let mut history = History::default();
        ["let a = 1;", "a + 1", "let é = 2;", "a + 1"].iter().for_each(|code| history.push(code));
        let count = |request| history.reply(&request).history.len();
        assert_eq!(count(HistoryRequest::Tail { n: 3, output: false, raw: true }), 3);
        assert_eq!(count(HistoryRequest::Range { session: None, start: 2, stop: 4, output: false, raw: true }), 2);
        let search = |unique| HistoryRequest::Search { pattern: "a*1".into(), unique, output: false, raw: true, n: 10 };
        assert_eq!((count(search(false)), count(search(true))), (2, 1));
        assert!(matches("let ? = *", "let é = 2;"));
    }
}
