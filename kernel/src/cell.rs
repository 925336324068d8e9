//! The cell that runs: what its process reports becomes messages and, in the end, success or a failure.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jupyter_protocol::JupyterMessage;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use crate::failure::Failure;
use crate::messages;
use crate::notice;
use crate::place::{self, Place};
use crate::publish::Publisher;
use crate::rewrite;
use crate::shim;
use crate::stream::{Bundle, Piece};

/// What `dbg!` writes before the number of a line of the generated file.
const DEBUGGED: &str = "[src/lib.rs:";

/// Shared by the server, the engine, and the thread that reads the cell's output.
pub struct Cell(Mutex<State>);

pub struct State {
    pub publisher: Publisher,
    /// Counts requests, so that a late kill cannot hit the next cell.
    pub serial: usize,
    /// From the request to the reply.
    pub busy: bool,
    /// From the first to the last statement of the cell.
    pub running: bool,
    pub interrupted: bool,
    /// The numbers of requests that were answered although the analyzer still works on them, or was to begin.
    pub abandoned: Vec<usize>,
    /// The number of the request that was given the engine last, until it ends.
    pub holder: Option<usize>,
    /// The process group of the shell command that runs.
    pub script: Option<u32>,
    /// What is compiled for the request.
    pub code: String,
    /// The session's folder, where the compiler's notes are.
    folder: Option<PathBuf>,
    /// True until the engine has started: evcxr tries the linker on a cell of its own, whose value belongs to no reader.
    mute: bool,
    began: Option<Instant>,
    ran: Duration,
    panics: Vec<Panic>,
    panicked: bool,
    error: Option<(usize, String)>,
    /// Whether the cell returned before its end, without an error.
    pub returned: bool,
    /// The file of the compiled cell.
    library: Option<String>,
    /// Variables that the cell dropped, because their type is another one now.
    pub lost: Vec<String>,
}

/// What the panic hook said.
#[derive(Clone, Debug)]
pub struct Panic {
    pub message: String,
    pub file: String,
    pub line: usize,
    /// The compiled cell that has the place, if it is one's.
    library: Option<String>,
}

/// How a cell that was loaded came to its end.
pub enum End {
    Fine,
    /// An error reached the cell's level through `?`, in a line of the generated file.
    Error(usize, String),
    /// `None` where nothing was said: a value was thrown, or the cell has a panic hook of its own.
    Panic(Option<Panic>),
    /// Stopped by the user; with what the stopped operation said.
    Interrupted(Option<String>),
}

impl Cell {
    pub fn new(iopub: UnboundedSender<JupyterMessage>) -> Self {
        Self(Mutex::new(State {
            publisher: Publisher::new(iopub),
            serial: 0,
            busy: false,
            running: false,
            interrupted: false,
            abandoned: Vec::new(),
            holder: None,
            script: None,
            code: String::new(),
            folder: None,
            mute: true,
            began: None,
            ran: Duration::ZERO,
            panics: Vec::new(),
            panicked: false,
            error: None,
            returned: false,
            library: None,
            lost: Vec::new(),
        }))
    }

    /// A poisoned lock only means that publishing one message failed.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub fn begin(&mut self, parent: &JupyterMessage, count: usize) {
        self.publisher.begin(parent, count);
        self.serial += 1;
        (self.busy, self.running, self.interrupted, self.panicked) = (true, false, false, false);
        (self.began, self.ran, self.error, self.returned) = (None, Duration::ZERO, None, false);
        self.panics.clear();
        self.lost.clear();
    }

    /// The engine has started, in the session's folder: from now on cells are a reader's.
    pub fn listen_to(&mut self, folder: &Path) {
        (self.mute, self.folder) = (false, Some(folder.to_path_buf()));
    }

    /// What the compiler had to say of the cell's own lines.
    fn notes(&self) -> String {
        let Some(folder) = &self.folder else { return String::new() };
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        let notes = messages::from_text(&read(shim::NOTES));
        let source = if notes.is_empty() { String::new() } else { read(shim::SOURCE) };
        let note = |note: messages::Note| match place::find(note.line, &self.code, &source) {
            place @ Place::Cell(..) => Some(format!("note: {} ({})\n", note.text, place.words())),
            _ => None, // of an earlier cell: it was said there
        };
        notes.into_iter().filter_map(note).collect()
    }

    /// Time in the cell's own statements.
    pub fn ran(&self) -> Duration {
        self.ran
    }

    /// Takes one piece; the line that evcxr is to hear, if any.
    pub fn take(&mut self, piece: Piece) -> Option<String> {
        match piece {
            Piece::Text(_) | Piece::Shown(_) | Piece::Last(_) | Piece::Message(_) if self.mute => {}
            Piece::Text(text) => self.publisher.out(&text),
            Piece::Shown(bundle) => self.publisher.display(bundle, None),
            Piece::Last(bundle) => self.publisher.result(bundle),
            Piece::Message(message) => self.message(&message),
            Piece::Begin => {
                // evcxr compiles a cell that dropped variables once more
                let notes = if self.lost.is_empty() { self.notes() } else { String::new() };
                self.publisher.err(&notes);
                (self.began, self.running) = (Some(Instant::now()), true);
            }
            Piece::End => {
                self.stopped();
                return Some("EVCXR_EXECUTION_COMPLETE".into());
            }
            Piece::Failed(line, error) => self.error = Some((line, error)),
            Piece::Evcxr(line) => {
                match line.as_str() {
                    "EVCXR_PANIC_NOTIFICATION" => self.panicked = true,
                    "EVCXR_ERROR_OCCURRED" => self.returned = self.error.is_none(),
                    line if line.starts_with("EVCXR_INPUT_REQUEST") => self.publisher.tick(),
                    line => self.lost.extend(line.strip_prefix(rewrite::LOST).map(String::from)),
                }
                return Some(line);
            }
        }
        None
    }

    /// The cell has ended, or its process has.
    pub fn stopped(&mut self) {
        self.ran += self.began.take().map_or(Duration::ZERO, |began| began.elapsed());
        self.running = false;
        self.publisher.tick();
    }

    /// What the cell's process writes to standard error: a place of the generated file, as `dbg!` gives it, becomes one of the cell.
    pub fn err(&mut self, text: &str) {
        if !text.contains(DEBUGGED) {
            return self.publisher.err(text);
        }
        let source = self.folder.as_ref().and_then(|folder| std::fs::read_to_string(folder.join(shim::SOURCE)).ok()).unwrap_or_default();
        let text: Vec<String> =
            text.split_inclusive('\n').map(|line| debugged(line, &self.code, &source).unwrap_or_else(|| line.into())).collect();
        self.publisher.err(&text.concat());
    }

    /// What panicked last in a process that has ended since.
    pub fn last_panic(&mut self) -> Option<String> {
        // the last is as a rule the runtime's own, that it cannot unwind
        let panics = std::mem::take(&mut self.panics);
        let own = |panic: &&Panic| !panic.message.contains("non-unwinding") && !panic.message.contains("cannot unwind");
        panics.iter().rfind(own).map(|panic| panic.message.clone())
    }

    /// How the cell ended; `source` is what was compiled for it.
    pub fn end(&mut self, source: &str) -> End {
        let mut panics = std::mem::take(&mut self.panics);
        let unwound = self.panicked;
        let earlier = |panic: &Panic| panic.library.is_some() && panic.library != self.library;
        let last = panics.iter().rposition(|panic| !earlier(panic));
        let panic = last.filter(|_| unwound).map(|at| panics.remove(at));
        for other in panics {
            // in a thread of the cell's own, or caught; one of an earlier cell names a line that is not in this one
            let place = if earlier(&other) { "of an earlier cell".into() } else { place_of(&other, &self.code, source) };
            self.publisher.err(&format!("a thread panicked: {} ({place})\n", other.message));
        }
        match (self.interrupted, panic, self.error.take()) {
            (true, Some(panic), _) => End::Interrupted(Some(panic.message)),
            (true, None, Some((_, error))) => End::Interrupted(Some(error)),
            (true, None, None) if unwound => End::Interrupted(None), // a loop that asked
            (_, Some(panic), _) => End::Panic(Some(panic)),
            (_, None, Some((line, error))) => End::Error(line, error),
            _ if unwound => End::Panic(None),
            _ => End::Fine,
        }
    }

    fn message(&mut self, message: &Value) {
        let data = || message["data"].as_object().cloned().unwrap_or_default();
        let id = message["id"].as_str();
        match message["op"].as_str().unwrap_or_default() {
            "display" => self.publisher.display(data(), id.map(String::from)),
            "update" => self.publisher.update(data(), id.unwrap_or_default()),
            "clear" => self.publisher.clear(message["wait"].as_bool().unwrap_or(false)),
            "library" => self.library = message["path"].as_str().map(String::from),
            "panic" => {
                let file = message["place"]["file"].as_str().unwrap_or("?").to_string();
                let panic = Panic {
                    message: in_one_line(message["message"].as_str().unwrap_or_default()),
                    line: message["place"]["line"].as_u64().unwrap_or(0) as usize,
                    library: message["place"]["library"].as_str().filter(|_| is_of_cell(&file)).map(String::from),
                    file,
                };
                // what panics between cells is a thread that one of them left
                if self.running { self.panics.push(panic) } else { self.publisher.err(&format!("a thread panicked: {}\n", panic.message)) }
            }
            _ => {}
        }
    }
}

/// Text as the value of a cell.
pub fn plain(text: impl Into<String>) -> Bundle {
    Bundle::from_iter([("text/plain".to_string(), Value::from(text.into()))])
}

impl End {
    /// The failure, with a panic's place in the words of the cell; `source` is what was compiled for it, `gone` the variables of before
    /// that the cell took.
    pub fn failure(self, code: &str, source: &str, gone: &[String]) -> Option<Failure> {
        let but = if gone.is_empty() { String::new() } else { format!(" but for {}", notice::list(gone)) };
        Some(match self {
            Self::Fine => return None,
            Self::Error(line, error) => {
                let error = if error.trim().is_empty() { "an error that says nothing of itself" } else { error.trim_end() };
                let place = place::find(line, code, source).words();
                let kept = if gone.is_empty() { String::new() } else { format!("; variables from before this cell are kept{but}") };
                Failure::new("Error", format!("{error} ({place}){kept}"))
            }
            Self::Panic(panic) => {
                let said = panic.map(|panic| format!("{} ({})", panic.message, place_of(&panic, code, source)));
                let said = said.unwrap_or_else(|| "the cell unwound without a message".into());
                Failure::new("panic", format!("{said}; variables from before this cell are kept{but}"))
            }
            Self::Interrupted(said) => {
                let said = said.map(|said| said.strip_prefix("interrupted: ").map(String::from).unwrap_or(said));
                let said = said.map(|said| format!("{said}; ")).unwrap_or_default();
                Failure::new("Interrupted", format!("{said}all variables from before this cell are kept{but}"))
            }
        })
    }
}

/// The lines of a message one behind the other: `assert_eq!` says what differs in its second and third.
fn in_one_line(message: &str) -> String {
    const MOST: usize = 2000;
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let text = lines.join("; ");
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A line that `dbg!` wrote, with the line of the cell.
fn debugged(line: &str, code: &str, source: &str) -> Option<String> {
    let (number, rest) = line.strip_prefix(DEBUGGED)?.split_once(':')?;
    let place = match place::find(number.parse().ok()?, code, source) {
        Place::Cell(line, _) => format!("line {line}"),
        Place::Earlier(Some(name), _) => name,
        _ => return None,
    };
    Some(format!("[{place}]{}", rest.split_once(']')?.1))
}

/// Whether the name of a source is that of all compiled cells.
fn is_of_cell(file: &str) -> bool {
    file.ends_with("src/lib.rs") && file.starts_with("src/")
}

/// Where a panic arose: a line of the cell, or of a library.
fn place_of(panic: &Panic, code: &str, source: &str) -> String {
    if !is_of_cell(&panic.file) {
        let file = panic
            .file
            .rsplit_once("/registry/src/")
            .map_or(panic.file.as_str(), |(_, file)| file.split_once('/').map_or(file, |(_, file)| file));
        return format!("{file}:{}", panic.line);
    }
    place::find(panic.line, code, source).words()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_placed_in_the_words_of_the_cell() {
        let panic = Panic { message: "out of bounds".into(), file: "src/lib.rs".into(), line: 3, library: None };
        let (code, source) = ("let é = 1;\nv[3];", "generated\nlet é = 1;\nv[3];\n");
        assert_eq!(place_of(&panic, code, source), "line 2 of the cell: v[3];");
        let elsewhere = Panic { file: "/home/x/.cargo/registry/src/index-1/candle-core-0.11.1/src/op.rs".into(), ..panic.clone() };
        assert_eq!(place_of(&elsewhere, code, source), "candle-core-0.11.1/src/op.rs:3");
        let failure = End::Panic(Some(panic.clone())).failure(code, source, &[]).unwrap();
        assert_eq!(failure.lines.len(), 1);
        assert!(failure.value.ends_with("variables from before this cell are kept"), "{}", failure.value);
        let gone = ["v".to_string(), "w".into()];
        for end in [End::Panic(Some(panic)), End::Interrupted(None)] {
            let value = end.failure(code, source, &gone).unwrap().value;
            assert!(value.ends_with("variables from before this cell are kept but for v, w"), "{value}");
        }
    }

    #[test]
    fn a_message_of_several_lines_is_one_and_not_endless() {
        let text = in_one_line("assertion `left == right` failed\n  left: [1, 2]\n right: [1, 3]\n");
        assert_eq!(text, "assertion `left == right` failed; left: [1, 2]; right: [1, 3]");
        assert_eq!(in_one_line(&"é\n".repeat(9000)).chars().count(), 2001);
    }

    #[test]
    fn what_is_debugged_names_a_line_of_the_cell() {
        let (code, source) = ("let é = 1;\ndbg!(é);", "fn old() {\n    dbg!(2);\n}\nlet é = 1;\ndbg!(é);\n");
        assert_eq!(debugged("[src/lib.rs:5:1] é = 1\n", code, source).unwrap(), "[line 2] é = 1\n");
        assert_eq!(debugged("[src/lib.rs:2:5] 2 = 2\n", code, source).unwrap(), "[old] 2 = 2\n");
        assert_eq!(debugged("[src/lib.rs:x] 2\n", code, source), None);
    }

    #[test]
    fn to_unwind_without_a_message_is_no_success() {
        let (iopub, _messages) = tokio::sync::mpsc::unbounded_channel();
        let cell = Cell::new(iopub);
        let mut state = cell.lock();
        state.take(Piece::Evcxr("EVCXR_PANIC_NOTIFICATION".into()));
        let failure = state.end("").failure("", "", &[]).unwrap();
        assert_eq!((failure.name.as_str(), failure.value.contains("without a message")), ("panic", true));
    }

    #[test]
    fn a_thread_of_an_earlier_cell_is_said_at_once_and_without_a_line_of_this_one() {
        let (iopub, mut messages) = tokio::sync::mpsc::unbounded_channel();
        let cell = Cell::new(iopub);
        let mut state = cell.lock();
        let mut said = |state: &mut State| {
            state.publisher.tick();
            let texts = std::iter::from_fn(|| messages.try_recv().ok());
            texts.map(|message| serde_json::to_value(&message.content).unwrap()["text"].as_str().unwrap().to_string()).collect::<String>()
        };
        let panic = |library: &str| {
            let place = serde_json::json!({"file": "src/lib.rs", "line": 2, "library": library});
            Piece::Message(serde_json::json!({"op": "panic", "message": library, "place": place}))
        };
        let request = jupyter_protocol::ExecuteRequest::new("1".into());
        state.begin(&JupyterMessage::new(request, None), 1);
        (state.mute, state.code) = (false, "let a = 1;\nf();".into());
        state.take(panic("old"));
        assert_eq!(said(&mut state), "a thread panicked: old\n", "while the cell is compiled");
        state.take(Piece::Begin);
        state.take(Piece::Message(serde_json::json!({"op": "library", "path": "new"})));
        state.take(panic("new"));
        state.take(panic("old"));
        state.take(Piece::Evcxr("EVCXR_PANIC_NOTIFICATION".into()));
        state.take(Piece::End);
        let failure = state.end("let a = 1;\nf();").failure("let a = 1;\nf();", "let a = 1;\nf();", &[]).unwrap();
        assert!(failure.value.starts_with("new (line 2 of the cell: f();)"), "{}", failure.value);
        assert_eq!(said(&mut state), "a thread panicked: old (of an earlier cell)\n");
    }

    #[test]
    fn an_error_says_its_line_and_is_never_empty() {
        let (code, source) = ("let a = 1;\nf()?;", "generated\nlet a = 1;\nf()?;\n");
        let value = |error: &str| End::Error(3, error.into()).failure(code, source, &[]).unwrap().value;
        assert_eq!(value("no such file\n"), "no such file (line 2 of the cell: f()?;)");
        let taken = End::Error(3, "no".into()).failure(code, source, &["kept".into()]).unwrap().value;
        assert!(taken.ends_with("; variables from before this cell are kept but for kept"), "{taken}");
        assert_eq!(value(""), "an error that says nothing of itself (line 2 of the cell: f()?;)");
    }
}
