//! What a cell writes to its standard output, taken apart: text, shown values, messages, and lines meant for evcxr.

use serde_json::{Map, Value};

use crate::child::{SECRET, marks};
use crate::rewrite::{FAILED, LOST};

/// The beginning of a message from `lafter::notebook`.
pub const MARK: &str = "\u{1e}LAFTER ";
const CONTENT: &str = "EVCXR_BEGIN_CONTENT ";
const CONTENT_END: &str = "EVCXR_END_CONTENT";
/// Lines for evcxr: whole ones, and those that go on with a prompt.
const NOTICES: [&str; 2] = ["EVCXR_PANIC_NOTIFICATION", "EVCXR_ERROR_OCCURRED"];
const QUESTIONS: [&str; 2] = ["EVCXR_INPUT_REQUEST:", "EVCXR_INPUT_REQUEST_PASSWORD:"];
/// How all of them begin.
const EVCXR: &str = "EVCXR_";
/// Text that long without a line end is passed on in pieces.
const LONG: usize = 64 << 10;

/// The same content in one or more media types.
pub type Bundle = Map<String, Value>;

/// One piece of a cell's output, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    Text(String),
    /// Shown in the middle of a cell.
    Shown(Bundle),
    /// Shown by the cell's last expression.
    Last(Bundle),
    /// A message of `lafter::notebook`: an object with an `op`.
    Message(Value),
    /// A `?` failed: the line of the generated file, the error.
    Failed(usize, String),
    /// `EVCXR_…`: a line that evcxr waits for.
    Evcxr(String),
    Begin,
    End,
}

/// Takes bytes as they come and gives whole pieces.
pub struct Parser {
    buffer: Vec<u8>,
    block: Option<(String, String)>,
    bundle: Bundle,
    /// Between the first and the last statement of a cell.
    runs: bool,
    /// The lines around a cell, once the process has said its secret.
    marks: [String; 3],
    secret: bool,
}

impl Default for Parser {
    fn default() -> Self {
        Self { buffer: Vec::new(), block: None, bundle: Bundle::default(), runs: false, marks: marks(""), secret: false }
    }
}

impl Parser {
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let mut buffer = std::mem::take(&mut self.buffer);
        // a long line comes in many parts: each is looked at once
        let (mut pieces, mut start, mut new) = (Vec::new(), 0, buffer.len());
        buffer.extend_from_slice(bytes);
        while let Some(length) = buffer[new..].iter().position(|byte| *byte == b'\n') {
            new += length + 1;
            self.line(&String::from_utf8_lossy(&buffer[start..new]), &mut pieces);
            start = new;
        }
        buffer.drain(..start);
        self.buffer = buffer;
        if self.buffer.len() > LONG {
            pieces.extend(self.partial());
        }
        pieces
    }

    /// What can be shown although the line has not ended and no more came for a moment. A value of a cell that runs waits for what
    /// comes next: it may be that of the last expression.
    pub fn idle(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        if self.block.is_none() {
            let text = self.partial();
            if text.is_some() || !self.runs {
                self.close_bundle(&mut pieces);
            }
            pieces.extend(text);
        }
        pieces
    }

    /// What is left when the process has ended.
    pub fn end(&mut self) -> Vec<Piece> {
        self.runs = false;
        self.idle()
    }

    fn partial(&mut self) -> Option<Piece> {
        if self.block.is_some() || self.buffer.contains(&0x1e) {
            return None;
        }
        // an E alone is the reader's: their text may end in one
        let ours = |rest: &[u8]| rest.starts_with(EVCXR.as_bytes()) || rest.len() > 1 && EVCXR.as_bytes().starts_with(rest);
        let at = (0..self.buffer.len()).find(|at| ours(&self.buffer[*at..])).unwrap_or(self.buffer.len());
        if at == 0 {
            return None;
        }
        let line = self.buffer.split_off(at);
        let text = take_whole(&mut self.buffer);
        self.buffer.extend(line);
        (!text.is_empty()).then_some(Piece::Text(text))
    }

    /// `line` ends in a newline.
    fn line(&mut self, line: &str, pieces: &mut Vec<Piece>) {
        let bare = &line[..line.len() - 1];
        if let Some((media, content)) = &mut self.block {
            if bare != CONTENT_END {
                content.push_str(line);
                return;
            }
            content.pop();
            if media == FAILED {
                let (at, error) = content.split_once('\n').unwrap_or(("", content));
                let failed = Piece::Failed(at.parse().unwrap_or(0), error.to_string());
                self.block = None;
                self.close_bundle(pieces);
                pieces.push(failed);
                return;
            }
            let value = if media.ends_with("json") { serde_json::from_str(content).ok() } else { None };
            let (media, value) = (media.clone(), value.unwrap_or_else(|| Value::from(content.as_str())));
            self.block = None;
            if self.bundle.contains_key(&media) {
                self.close_bundle(pieces);
            }
            self.bundle.insert(media, value);
            return;
        }
        // text without a line end may stand in front of each of these
        let before = |at: usize, pieces: &mut Vec<Piece>| text(&line[..at], pieces);
        if let Some(at) = bare.find(CONTENT) {
            if at > 0 {
                self.close_bundle(pieces);
            }
            before(at, pieces);
            self.block = Some((bare[at + CONTENT.len()..].trim().to_string(), String::new()));
            return;
        }
        if let Some(secret) = bare.strip_prefix(SECRET).filter(|_| !self.secret) {
            (self.marks, self.secret) = (marks(secret), true);
            return;
        }
        let [begin, ran, end] = self.marks.each_ref().map(|mark| line.find(mark));
        if let Some(at) = ran {
            self.runs = false;
            if at > 0 {
                self.close_bundle(pieces);
            }
            before(at, pieces);
            pieces.extend(self.take_bundle().map(Piece::Last));
            return;
        }
        self.close_bundle(pieces);
        if let Some(at) = begin {
            self.runs = true;
            before(at, pieces);
            pieces.push(Piece::Begin);
        } else if let Some(at) = end {
            before(at, pieces);
            pieces.push(Piece::End);
        } else if let Some((at, message)) = message(bare) {
            before(at, pieces);
            pieces.push(Piece::Message(message));
        } else if let Some(at) = evcxr(bare) {
            before(at, pieces);
            pieces.push(Piece::Evcxr(bare[at..].to_string()));
        } else {
            text(line, pieces);
        }
    }

    fn close_bundle(&mut self, pieces: &mut Vec<Piece>) {
        pieces.extend(self.take_bundle().map(Piece::Shown));
    }

    /// The value, unless it is that of a loop or of a statement: nothing to show.
    fn take_bundle(&mut self) -> Option<Bundle> {
        let bundle = std::mem::take(&mut self.bundle);
        let unit = bundle.len() == 1 && bundle.get("text/plain").is_some_and(|value| value == "()");
        (!bundle.is_empty() && !unit).then_some(bundle)
    }
}

/// Takes all but the beginning of a character whose end is still on its way.
pub fn take_whole(bytes: &mut Vec<u8>) -> String {
    let whole = match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    };
    String::from_utf8_lossy(&bytes.drain(..whole).collect::<Vec<u8>>()).into_owned()
}

fn message(line: &str) -> Option<(usize, Value)> {
    let at = line.find(MARK)?;
    Some((at, serde_json::from_str(&line[at + MARK.len()..]).ok()?))
}

/// Where evcxr's part of a line begins. That a cell has ended we say ourselves.
fn evcxr(line: &str) -> Option<usize> {
    let notice = || NOTICES.iter().find_map(|notice| line.strip_suffix(notice)).map(str::len);
    let question = || QUESTIONS.iter().find_map(|question| line.find(question));
    line.starts_with(LOST).then_some(0).or_else(notice).or_else(question)
}

/// Neighboring texts become one.
fn text(text: &str, pieces: &mut Vec<Piece>) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Text(last)) => last.push_str(text),
        _ => pieces.push(Piece::Text(text.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::{BEGIN, END, RAN};

    fn bundle(media: &str, text: &str) -> Bundle {
        Map::from_iter([(media.to_string(), Value::from(text))])
    }

    #[test]
    fn order_is_kept() {
        let mut parser = Parser::default();
        let bytes = format!(
            "a\nb\n{CONTENT}text/html\n<p>\n</p>\n{CONTENT_END}\nc{MARK}{{\"op\":\"clear\"}}\nEVCXR_PANIC_NOTIFICATION\n{CONTENT}text/plain\n7\n{CONTENT_END}\n{RAN}{MARK}{{\"op\":\"update\"}}\n{END}"
        );
        let pieces = parser.feed(bytes.as_bytes());
        let expected = vec![
            Piece::Text("a\nb\n".into()),
            Piece::Shown(bundle("text/html", "<p>\n</p>")),
            Piece::Text("c".into()),
            Piece::Message(serde_json::json!({"op": "clear"})),
            Piece::Evcxr("EVCXR_PANIC_NOTIFICATION".into()),
            Piece::Last(bundle("text/plain", "7")),
            Piece::Message(serde_json::json!({"op": "update"})), // what the library draws in the end
            Piece::End,
        ];
        assert_eq!(pieces, expected);
    }

    #[test]
    fn one_byte_at_a_time_gives_the_same() {
        let bytes =
            format!("é{CONTENT}a/b\nx\n{CONTENT_END}\n{CONTENT}c/d\ny\n{CONTENT_END}\n{CONTENT}a/b\nz\n{CONTENT_END}\nt\n{BEGIN}{END}");
        let mut parser = Parser::default();
        let whole = parser.feed(bytes.as_bytes());
        let mut parser = Parser::default();
        let single: Vec<Piece> = bytes.bytes().flat_map(|byte| parser.feed(&[byte])).collect();
        assert_eq!(whole, single);
        assert!(matches!(&whole[1], Piece::Shown(two) if two.len() == 2), "different media types are one value");
    }

    #[test]
    fn a_long_line_takes_no_longer_than_its_length() {
        let (long, began) = ("q".repeat(4 << 20), std::time::Instant::now());
        for (before, behind) in [(String::new(), ""), (format!("{CONTENT}a/b\n"), "\n"), (format!("{MARK}{{\"op\":\""), "\"}")] {
            let mut parser = Parser::default();
            let bytes = format!("{before}{long}{behind}{}\n", if behind == "\n" { CONTENT_END } else { "" });
            let mut pieces: Vec<Piece> = bytes.as_bytes().chunks(64).flat_map(|part| parser.feed(part)).collect();
            pieces.extend(parser.idle());
            let length: usize = pieces.iter().map(|piece| format!("{piece:?}").matches('q').count()).sum();
            assert_eq!(length, long.len());
        }
        assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
    }

    #[test]
    fn unfinished_lines_are_shown_but_never_half_characters_or_protocol() {
        let mut parser = Parser::default();
        assert!(parser.feed("\r 50 % é".as_bytes().split_last().unwrap().1).is_empty());
        assert_eq!(parser.idle(), [Piece::Text("\r 50 % ".into())]);
        assert!(parser.feed(&[0xa9]).is_empty());
        assert_eq!(parser.idle(), [Piece::Text("é".into())]);
        assert!(parser.feed(b"EVCXR_BEG").is_empty());
        assert!(parser.idle().is_empty());
    }

    #[test]
    fn lines_for_evcxr_are_found_behind_text() {
        for line in ["EVCXR_PANIC_NOTIFICATION", "EVCXR_ERROR_OCCURRED", "EVCXR_INPUT_REQUEST:name", "EVCXR_INPUT_REQUEST_PASSWORD:word"] {
            let expected = [Piece::Text("\r123".into()), Piece::Evcxr(line.into())];
            assert_eq!(Parser::default().feed(format!("\r123{line}\n").as_bytes()), expected);
            for length in (0..line.len()).filter(|length| *length != 1) {
                let mut parser = Parser::default();
                let mut pieces = parser.feed(format!("\r123{}", &line[..length]).as_bytes());
                pieces.extend(parser.idle()); // the rest is late
                pieces.extend(parser.feed(format!("{}\n", &line[length..]).as_bytes()));
                assert_eq!(pieces, expected, "{line} in two after {length}");
            }
        }
        let said = "the line EVCXR_PANIC_NOTIFICATION ends a cell, EVCXR_INPUT_REQUEST asks\n";
        assert_eq!(Parser::default().feed(said.as_bytes()), [Piece::Text(said.into())]);
    }

    #[test]
    fn a_failed_question_mark_comes_in_one_piece() {
        let mut parser = Parser::default();
        let bytes = format!("text{CONTENT}{FAILED}\n12\nno such file\nat all\n{CONTENT_END}\nEVCXR_ERROR_OCCURRED\n");
        let failed = Piece::Failed(12, "no such file\nat all".into());
        assert_eq!(parser.feed(bytes.as_bytes()), [Piece::Text("text".into()), failed, Piece::Evcxr("EVCXR_ERROR_OCCURRED".into())]);
    }

    #[test]
    fn what_a_cell_prints_ends_no_cell() {
        let mut parser = Parser::default();
        assert!(parser.feed(format!("{SECRET}5f\n").as_bytes()).is_empty());
        for line in ["EVCXR_EXECUTION_COMPLETE\n", BEGIN, RAN, END, "EVCXR_NO_SUCH\n", "\u{1e}LAFTER_SECRET 6\n"] {
            assert_eq!(parser.feed(line.as_bytes()), [Piece::Text(line.into())]);
        }
        let marks = marks("5f").concat();
        assert_eq!(parser.feed(marks.as_bytes()), [Piece::Begin, Piece::End]);
        assert_eq!(parser.feed(format!("{LOST}a\n").as_bytes()), [Piece::Evcxr(format!("{LOST}a"))]);
    }

    #[test]
    fn a_value_waits_for_the_end_of_its_cell() {
        let value = format!("{CONTENT}text/plain\n7\n{CONTENT_END}\n");
        let run = |behind: &str| {
            let mut parser = Parser::default();
            let mut pieces = parser.feed(format!("{BEGIN}{value}").as_bytes());
            pieces.extend(parser.idle());
            pieces.extend(parser.feed(behind.as_bytes()));
            pieces.extend(parser.idle());
            pieces.extend(parser.end());
            pieces
        };
        let (shown, last) = (Piece::Shown(bundle("text/plain", "7")), Piece::Last(bundle("text/plain", "7")));
        assert_eq!(run(RAN), [Piece::Begin, last]);
        assert_eq!(run("half a line"), [Piece::Begin, shown.clone(), Piece::Text("half a line".into())]);
        assert_eq!(run(""), [Piece::Begin, shown]);
    }

    #[test]
    fn a_unit_value_is_not_shown() {
        let mut parser = Parser::default();
        let unit = format!("{CONTENT}text/plain\n()\n{CONTENT_END}\n");
        assert_eq!(parser.feed(format!("{unit}{RAN}{END}").as_bytes()), [Piece::End]);
        let drawn = serde_json::json!({"op": "update"});
        assert_eq!(parser.feed(format!("{unit}{RAN}{MARK}{drawn}\n{END}").as_bytes()), [Piece::Message(drawn), Piece::End]);
    }
}
