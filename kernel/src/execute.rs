//! One execute request: its commands or its code, and the reply.

use std::io::{ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jupyter_protocol::{
    ExecuteInput, ExecuteReply, ExecuteRequest, ExecutionCount, ExpressionResult, HistoryReply, HistoryRequest, JupyterMessage, Media,
    MediaType, Payload, ReplyStatus,
};

use crate::cell::{Cell, State, plain};
use crate::complete;
use crate::engine::Engine;
use crate::environment;
use crate::failure::Failure;
use crate::history::History;
use crate::impls;
use crate::input::Input;
use crate::inspect;
use crate::lexer::{Code, Kind};
use crate::magics;
use crate::shim;
use crate::stream::{Bundle, take_whole};

/// How long an interrupted cell that does not run yet may take to end.
const PATIENCE: Duration = Duration::from_millis(600);
/// How long the output of a shell command is waited for when the shell has ended; what it left in the background goes on.
const LAST_OUTPUT: Duration = Duration::from_millis(200);

pub struct Executor {
    cell: Arc<Cell>,
    engine: Arc<Mutex<Result<Engine, String>>>,
    input: Input,
    history: Mutex<History>,
    count: AtomicUsize,
}

impl Executor {
    pub fn new(cell: Arc<Cell>, engine: Arc<Mutex<Result<Engine, String>>>, input: Input, history: History) -> Self {
        Self { cell, engine, input, history: Mutex::new(history), count: AtomicUsize::new(0) }
    }

    pub fn history(&self, request: &HistoryRequest) -> HistoryReply {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).reply(request)
    }

    /// Runs the request to its end; blocks.
    pub fn run(self: &Arc<Self>, parent: &JupyterMessage, request: &ExecuteRequest) -> ExecuteReply {
        let stored = request.store_history && !request.silent && !request.code.trim().is_empty();
        if stored {
            self.count.fetch_add(1, Ordering::SeqCst);
            self.history.lock().unwrap_or_else(PoisonError::into_inner).push(&request.code);
        }
        let count = self.count.load(Ordering::SeqCst);
        {
            let mut state = self.cell.lock();
            state.begin(parent, count);
            if !request.silent {
                state.publisher.send(ExecuteInput { code: request.code.clone(), execution_count: ExecutionCount::new(count) });
            }
        }
        let result = self.result(parent, request);
        let mut state = self.cell.lock();
        state.publisher.flush();
        state.busy = false;
        let refused = |name: &String| {
            let evalue = "user expressions are not evaluated: run a cell that shows the value".to_string();
            (name.clone(), ExpressionResult::Error { ename: "Error".into(), traceback: vec![evalue.clone()], evalue })
        };
        let expressions = request.user_expressions.iter().flatten().map(|(name, _)| refused(name)).collect();
        let mut reply =
            ExecuteReply { execution_count: ExecutionCount::new(count), user_expressions: Some(expressions), ..Default::default() };
        if stored {
            self.history.lock().unwrap_or_else(PoisonError::into_inner).value(&state.publisher.value);
        }
        match result {
            Ok(payload) => reply.payload = payload,
            Err(failure) => {
                state.publisher.send(failure.output());
                (reply.status, reply.error) = (ReplyStatus::Error, Some(Box::new(failure.reply())));
            }
        }
        reply
    }

    /// Runs the cell; after an interrupt it does not wait for the analyzer, which cannot be stopped.
    fn result(self: &Arc<Self>, parent: &JupyterMessage, request: &ExecuteRequest) -> Result<Vec<Payload>, Failure> {
        let (done, result) = std::sync::mpsc::channel();
        let (executor, parent, request) = (self.clone(), parent.clone(), request.clone());
        let serial = self.cell.lock().serial;
        std::thread::spawn(move || {
            // a fault inside evcxr must not take the kernel with it
            let run = std::panic::AssertUnwindSafe(|| executor.cell_of(&parent, &request, &request.code, serial));
            let result = std::panic::catch_unwind(run)
                .unwrap_or_else(|_| Err(Failure::new("Error", "the evaluator failed on this cell; if it goes on, restart the kernel")));
            let mut state = executor.cell.lock();
            state.abandoned.retain(|other| *other != serial);
            state.holder = state.holder.filter(|other| *other != serial);
            let _ = done.send(result); // nobody waits any more
        });
        let mut interrupted: Option<Instant> = None;
        loop {
            if let Ok(result) = result.recv_timeout(Duration::from_millis(20)) {
                return result;
            }
            let mut state = self.cell.lock();
            let runs = state.script.is_some() || state.running && state.holder == Some(serial);
            let compiles = state.interrupted && !runs;
            interrupted = if compiles { interrupted.or_else(|| Some(Instant::now())) } else { None };
            if interrupted.is_some_and(|since| since.elapsed() > PATIENCE) {
                state.abandoned.push(serial);
                let why =
                    "the cell was stopped before it ran; all variables are kept; the next cell waits until the analyzer is done with it";
                return Err(Failure::new("Interrupted", why));
            }
        }
    }

    fn cell_of(&self, parent: &JupyterMessage, request: &ExecuteRequest, code: &str, serial: usize) -> Result<Vec<Payload>, Failure> {
        match magics::parse(code) {
            magics::Cell::Help(below) => {
                let (text, html) = magics::help();
                self.show(text, html);
                self.cell_of(parent, request, &below, serial)
            }
            magics::Cell::Unknown(line) => Err(Failure::new("Error", format!("{line}: no such command; %help lists those that there are"))),
            magics::Cell::Shell(shell, script, below) => {
                self.shell(shell, &script, serial)?;
                self.cell_of(parent, request, &below, serial)
            }
            magics::Cell::Folder(name, below) => {
                self.with_engine(serial, |engine| {
                    let folder = environment::folder(&name, engine.folder())?;
                    let code = environment::change_folder(&folder)?;
                    engine.execute(&code, &|_, _| String::new())?;
                    self.cell.lock().publisher.out(&format!("{}\n", folder.display()));
                    Ok(vec![])
                })?;
                self.cell_of(parent, request, &below, serial)
            }
            magics::Cell::Variable(name, None, below) => {
                self.cell.lock().publisher.out(&environment::show(&name)?);
                self.cell_of(parent, request, &below, serial)
            }
            magics::Cell::Variable(name, Some(value), below) => {
                self.with_engine(serial, |engine| {
                    let code = environment::set(&name, &value)?;
                    engine.execute(&code, &|_, _| String::new())?;
                    self.cell.lock().publisher.out(&format!("{name}={value}\n"));
                    Ok(vec![])
                })?;
                self.cell_of(parent, request, &below, serial)
            }
            magics::Cell::Keep(names, below) => {
                self.with_engine(serial, |engine| {
                    let said = engine.keep(&names)?;
                    self.cell.lock().publisher.out(&said);
                    Ok(vec![])
                })?;
                self.cell_of(parent, request, &below, serial)
            }
            magics::Cell::Again(below) => {
                let (mut cells, mut kept) = (Vec::new(), Vec::new());
                self.with_engine(serial, |engine| {
                    cells = engine.again().to_vec();
                    if !cells.is_empty() {
                        kept = engine.before_again();
                    }
                    Ok(vec![])
                })?;
                if cells.is_empty() {
                    return Err(Failure::new("Error", "%again: no variables are lost whose cells are known"));
                }
                let run = |(at, code): (usize, &String)| {
                    let first = code.lines().find(|line| !line.trim().is_empty()).unwrap_or("").trim();
                    self.cell.lock().publisher.out(&format!("{} of {}: {first}\n", at + 1, cells.len()));
                    self.cell_of(parent, request, code, serial).map(drop)
                };
                let ran = cells.iter().enumerate().try_for_each(run);
                if let Ok(engine) = &mut *self.engine.lock().unwrap_or_else(PoisonError::into_inner) {
                    engine.after_again(&kept, ran.is_ok()); // also after an interrupt
                }
                ran?;
                self.cell_of(parent, request, &below, serial)
            }
            magics::Cell::Doc(item) => self.with_engine(serial, |engine| {
                let command = inspect::command(&item, 0).map(|text| Media::new(vec![MediaType::Plain(text)]));
                let data = command
                    .or_else(|| complete::documentation(engine, &item, item.len()))
                    .ok_or_else(|| Failure::new("Error", format!("no documentation found for {item}")))?;
                Ok(vec![Payload::Page { data, start: 0 }])
            }),
            magics::Cell::Vars(below) => {
                self.with_engine(serial, |engine| {
                    let variables = engine.variables();
                    let text = variables.iter().map(|(name, kind)| format!("{name}: {kind}\n")).collect();
                    let row = |(name, kind): &(String, String)| format!("<tr><td>{name}</td><td><code>{}</code></td></tr>", escape(kind));
                    let rows: String = variables.iter().map(row).collect();
                    self.show(text, format!("<table><tr><th>variable</th><th>type</th></tr>{rows}</table>"));
                    Ok(vec![])
                })?;
                self.cell_of(parent, request, &below, serial)
            }
            magics::Cell::Code { code, .. } if code.trim().is_empty() => Ok(vec![]),
            magics::Cell::Code { code, .. } if fault(&code).is_some() => {
                Err(Failure::new("CompileError", fault(&code).unwrap_or_default()))
            }
            magics::Cell::Code { code, .. } if magics::refused(&code).is_some() => {
                Err(Failure::new("Error", magics::refused(&code).unwrap_or_default()))
            }
            magics::Cell::Code { code, timed } => self.with_engine(serial, |engine| {
                let started = Instant::now();
                let ask = |prompt: &str, hidden: bool| self.input.ask(parent, request.allow_stdin, prompt, hidden, &self.cell);
                let answer = engine.execute(&code, &ask)?;
                let mut state = self.cell.lock();
                if !answer.is_empty() {
                    // evcxr's list of its commands
                    let offered = |text: String| text.split_inclusive('\n').filter(|line| !line.contains(magics::QUIT)).collect::<String>();
                    state.publisher.result(answer.into_iter().map(|(media, text)| (media, offered(text).into())).collect());
                }
                if timed {
                    let (all, ran) = (started.elapsed(), state.ran());
                    let (ran, compiled) = (ran.as_secs_f64(), all.saturating_sub(ran).as_secs_f64());
                    state.publisher.out(&format!("ran {ran:.3} s, after {compiled:.2} s of compiling\n"));
                }
                Ok(vec![])
            }),
        }
    }

    /// For what a request does next, unless it was stopped.
    fn turn(&self, serial: usize) -> Result<MutexGuard<'_, State>, Failure> {
        let state = self.cell.lock();
        if state.abandoned.contains(&serial) || state.interrupted {
            return Err(Failure::new("Interrupted", "the cell was stopped before it ran; all variables are kept"));
        }
        Ok(state)
    }

    fn with_engine(&self, serial: usize, f: impl FnOnce(&mut Engine) -> Result<Vec<Payload>, Failure>) -> Result<Vec<Payload>, Failure> {
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        self.turn(serial)?.holder = Some(serial);
        match &mut *engine {
            Ok(engine) => f(engine),
            Err(why) => Err(Failure::new("Error", format!("the kernel could not start: {why}; see `lafter-kernel doctor`"))),
        }
    }

    fn show(&self, text: String, html: String) {
        let mut bundle: Bundle = plain(text);
        bundle.insert("text/html".into(), html.into());
        self.cell.lock().publisher.result(bundle);
    }

    /// Runs a script with its output live, in a process group of its own; an interrupt ends it.
    fn shell(&self, shell: &str, script: &str, serial: usize) -> Result<Vec<Payload>, Failure> {
        let failed = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => Failure::new("Error", format!("{shell} is not there: %%sh runs the cell in the shell of this system")),
            _ => Failure::new("Error", format!("{shell}: {error}")),
        };
        let mut command = Command::new(shell);
        command.arg("-c").arg(script).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let of_cells = self.engine.try_lock().ok().and_then(|engine| engine.as_ref().ok()?.folder());
        if let Some(folder) = of_cells.or_else(environment::here) {
            command.current_dir(folder); // where the cells are
        }
        shim::restore(&mut command);
        let mut state = self.turn(serial)?; // locked: an interrupt comes before or after, and finds the group
        let mut child = command.spawn().map_err(failed)?;
        state.script = Some(child.id());
        drop(state);
        let readers = [child.stdout.take().map(|out| self.pump(out, false)), child.stderr.take().map(|err| self.pump(err, true))];
        let status = loop {
            let mut state = self.cell.lock();
            if let Some(status) = child.try_wait().transpose() {
                state.script = None;
                break status.map_err(failed)?;
            }
            state.publisher.tick();
            drop(state);
            std::thread::sleep(Duration::from_millis(20));
        };
        let ended = Instant::now();
        while readers.iter().flatten().any(|reader| !reader.is_finished()) && ended.elapsed() < LAST_OUTPUT {
            std::thread::sleep(Duration::from_millis(5));
        }
        match (self.cell.lock().interrupted, status.success()) {
            (_, true) => Ok(vec![]),
            (true, _) => Err(Failure::new("Interrupted", "the shell command was ended")),
            (false, _) => Err(Failure::new("Error", format!("the shell command failed ({status})"))),
        }
    }

    fn pump(&self, mut from: impl Read + Send + 'static, err: bool) -> std::thread::JoinHandle<()> {
        let cell = self.cell.clone();
        std::thread::spawn(move || {
            let (mut bytes, mut chunk) = (Vec::new(), [0u8; 8192]);
            while let Ok(n @ 1..) = from.read(&mut chunk) {
                bytes.extend_from_slice(&chunk[..n]);
                let (text, mut state) = (take_whole(&mut bytes), cell.lock());
                if err { state.publisher.err(&text) } else { state.publisher.out(&text) }
            }
        })
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// What neither evcxr nor the compiler would say of a cell in its own words.
fn fault(cell: &str) -> Option<String> {
    let code = Code::new(cell);
    if code.tokens.last().is_some_and(|last| last.open && last.kind == Kind::Comment) {
        return Some("a comment is not closed: `/*` without `*/`".into()); // evcxr takes the cell for an empty one
    }
    if let Some(at) = code.stray() {
        let (word, line) = (code.word(at), code.line(at));
        return Some(format!("`{word}` closes nothing (line {line} of the cell)"));
    }
    let (name, line) = impls::twice(&code)?;
    let why = "evcxr keeps the last item of a name alone: give one another name, or put both into a `mod`";
    Some(format!("`{name}` is defined twice in this cell (line {line}): {why}"))
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::interrupt;

    fn executor() -> Arc<Executor> {
        let (cell, engine) = (Arc::new(Cell::new(unbounded_channel().0)), Arc::new(Mutex::new(Err("no engine here".into()))));
        Arc::new(Executor::new(cell, engine, Input::new(unbounded_channel().0).0, History::open(std::path::Path::new("/dev/null"))))
    }

    fn run(executor: &Arc<Executor>, code: &str) -> ExecuteReply {
        let request = ExecuteRequest::new(code.into());
        executor.run(&JupyterMessage::new(request.clone(), None), &request)
    }

    #[test]
    fn what_the_kernel_cannot_do_is_answered_in_one_line() {
        let request =
            ExecuteRequest { user_expressions: Some([("a".to_string(), "1".to_string())].into()), ..ExecuteRequest::new("".into()) };
        let reply = executor().run(&JupyterMessage::new(request.clone(), None), &request);
        assert!(
            matches!(&reply.user_expressions.unwrap()["a"], ExpressionResult::Error { evalue, .. } if evalue.contains("not evaluated"))
        );
        assert!(run(&executor(), ":quit").error.unwrap().evalue.contains("shut it down there"));
        assert_eq!(run(&executor(), "%%bash\n[[ a == a ]]").status, ReplyStatus::Ok);
    }

    #[test]
    fn the_history_keeps_what_a_cell_gave() {
        let executor = executor();
        run(&executor, "%help");
        run(&executor, "");
        let silent = ExecuteRequest { silent: true, ..ExecuteRequest::new("!true".into()) };
        executor.run(&JupyterMessage::new(silent.clone(), None), &silent);
        let reply = executor.history(&HistoryRequest::Tail { n: 1, output: true, raw: true });
        assert!(matches!(&reply.history[..], [jupyter_protocol::HistoryEntry::InputOutput(_, 1, (_, value))] if value.contains("%%time")));
    }

    #[test]
    fn what_a_shell_command_leaves_in_the_background_is_not_waited_for() {
        let (executor, began) = (executor(), Instant::now());
        assert_eq!(run(&executor, "!sleep 3 &").status, ReplyStatus::Ok);
        assert!(began.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn a_stopped_shell_command_is_not_abandoned() {
        let executor = executor();
        let stopped = executor.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            interrupt::interrupt(&stopped.cell, None);
        });
        // the shell itself takes its time
        let reply = run(&executor, "!trap 'sleep 1; exit 1' TERM; sleep 60");
        assert_eq!(reply.error.unwrap().evalue, "the shell command was ended");
        assert_eq!(executor.cell.lock().script, None);
    }

    #[test]
    fn a_cell_that_is_stopped_before_the_engine_is_ready_does_not_run() {
        let executor = executor();
        let stopped = executor.clone();
        std::thread::spawn(move || {
            let engine = stopped.engine.lock();
            std::thread::sleep(Duration::from_millis(200));
            interrupt::interrupt(&stopped.cell, None);
            std::thread::sleep(Duration::from_millis(100));
            drop(engine);
        });
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(run(&executor, "1").error.unwrap().ename, "Interrupted");
    }
}
