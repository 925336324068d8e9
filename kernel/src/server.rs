//! The Jupyter side: sockets, requests, replies.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use jupyter_protocol::{
    CodeMirrorMode, CommInfoReply, CompleteReply, CompleteRequest, ConnectionInfo, ExecuteReply, ExecuteRequest, InterruptReply,
    JupyterMessage, JupyterMessageContent, KernelInfoReply, LanguageInfo, ReplyStatus, ShutdownReply, Status,
};
use jupyter_zmq_client::{
    RuntimeError, create_kernel_control_connection, create_kernel_heartbeat_connection, create_kernel_iopub_connection,
    create_kernel_shell_connection, create_kernel_stdin_connection,
};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::spawn_blocking;

use crate::cell::Cell;
use crate::compiling;
use crate::complete;
use crate::engine::{self, Engine};
use crate::environment;
use crate::execute::Executor;
use crate::history::History;
use crate::input::Input;
use crate::interrupt;
use crate::is_complete;
use crate::known::Known;
use crate::layout::Layout;
use crate::private::Private;
use crate::receive;
use crate::session::Session;

/// After a socket's error, before it is read again.
const PAUSE: Duration = Duration::from_millis(20);
/// When the analyzer is made ready for the first question; while a cell runs, as long after, and how often that is tried.
const WARM_AFTER: Duration = Duration::from_secs(2);
const TRIES: u32 = 30;

/// Serves one front end until it says shutdown.
pub async fn serve(connection_file: &Path, session: Session, rust_version: &str, layout: &Layout) -> Result<()> {
    let text = std::fs::read_to_string(connection_file).with_context(|| format!("reading {}", connection_file.display()))?;
    let info: ConnectionInfo =
        serde_json::from_str(&text).with_context(|| format!("{} is not a connection file", connection_file.display()))?;
    let id = uuid::Uuid::new_v4().to_string();
    let (mut shell_out, mut shell_in) = create_kernel_shell_connection(&info, &id).await?.split();
    let mut control = create_kernel_control_connection(&info, &id).await?;
    let (mut stdin_out, mut stdin_in) = create_kernel_stdin_connection(&info, &id).await?.split();
    let mut iopub_socket = create_kernel_iopub_connection(&info, &id).await?;
    let mut heartbeat = create_kernel_heartbeat_connection(&info).await?;
    tokio::spawn(async move {
        loop {
            if heartbeat.single_heartbeat().await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    });

    let (iopub, mut outgoing) = unbounded_channel::<JupyterMessage>();
    tokio::spawn(async move {
        while let Some(message) = outgoing.recv().await {
            let _ = iopub_socket.send(message).await; // nobody listens
        }
    });
    let (questions, mut asked) = unbounded_channel::<JupyterMessage>();
    tokio::spawn(async move {
        while let Some(message) = asked.recv().await {
            let _ = stdin_out.send(message).await;
        }
    });
    let (input, answers) = Input::new(questions);
    tokio::spawn(async move {
        loop {
            if let Some(JupyterMessageContent::InputReply(reply)) = read(stdin_in.read().await).await.map(|message| message.content) {
                let _ = answers.send(reply.value);
            }
        }
    });

    let cell = Arc::new(Cell::new(iopub.clone()));
    let kernel = Kernel {
        iopub,
        cell: cell.clone(),
        engine: Arc::new(Mutex::new(Err("starting".into()))),
        process: Arc::default(),
        known: Arc::default(),
        rust_version: rust_version.into(),
    };
    compiling::show(cell.clone()).context("taking over standard error")?;
    let session = Arc::new(session);
    kernel.start(session.clone(), Private::read(layout)).await;
    tokio::spawn({
        let (kernel, bye_session) = (kernel.clone(), session.clone());
        async move {
            loop {
                let Some(message) = read(control.read().await).await else { continue };
                kernel.status(&message, Status::busy());
                let reply = kernel.control(&message);
                let bye = matches!(message.content, JupyterMessageContent::ShutdownRequest(_));
                if let Some(reply) = reply {
                    let _ = control.send(reply).await;
                }
                kernel.status(&message, Status::idle());
                if bye {
                    tokio::time::sleep(Duration::from_millis(50)).await; // the reply is on its way
                    kernel.end(&bye_session);
                }
            }
        }
    });

    tokio::spawn({
        let (kernel, session, parent) = (kernel.clone(), session.clone(), std::os::unix::process::parent_id());
        async move {
            while std::os::unix::process::parent_id() == parent {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            kernel.end(&session); // Jupyter has gone without a word
        }
    });

    let (requests, mut queue) = unbounded_channel();
    tokio::spawn(async move {
        loop {
            let Some(message) = read(receive::request(&mut shell_in).await).await else { continue };
            if requests.send(message).is_err() {
                break;
            }
        }
    });
    let history = History::open(&layout.history());
    let executor = Arc::new(Executor::new(cell, kernel.engine.clone(), input, history));
    let mut waiting = VecDeque::new();
    loop {
        let message = match waiting.pop_front() {
            Some(message) => message,
            None => match queue.recv().await {
                Some(message) => message,
                None => return Ok(()),
            },
        };
        kernel.status(&message, Status::busy());
        let runs = matches!(&message.content, JupyterMessageContent::ExecuteRequest(_));
        let work = kernel.shell(&message, &executor);
        tokio::pin!(work);
        let reply = loop {
            tokio::select! {
                reply = &mut work => break reply.unwrap_or_default(),
                Some(question) = queue.recv(), if runs => match unpanicked(|| kernel.meanwhile(&question, &executor)) {
                    Some(reply) => {
                        kernel.status(&question, Status::busy());
                        let _ = shell_out.send(reply).await;
                        kernel.status(&question, Status::idle());
                        kernel.status(&message, Status::busy()); // still
                    }
                    None => waiting.push_back(question),
                },
            }
        };
        let failed = matches!(&reply, Some(JupyterMessage { content: JupyterMessageContent::ExecuteReply(reply), .. }) if reply.status == ReplyStatus::Error);
        // what stands behind a failed cell (Run All) was sent before its reply is
        let stop = failed && matches!(&message.content, JupyterMessageContent::ExecuteRequest(request) if request.stop_on_error);
        if stop {
            waiting.extend(std::iter::from_fn(|| queue.try_recv().ok()));
        }
        let behind = if stop { std::mem::take(&mut waiting) } else { VecDeque::new() };
        if let Some(reply) = reply {
            let _ = shell_out.send(reply).await; // who asked has gone
        }
        kernel.status(&message, Status::idle());
        for message in behind {
            kernel.status(&message, Status::busy());
            let reply = match &message.content {
                JupyterMessageContent::ExecuteRequest(_) => {
                    Some(ExecuteReply { status: ReplyStatus::Aborted, ..Default::default() }.as_child_of(&message))
                }
                _ => kernel.shell(&message, &executor).await.unwrap_or_default(),
            };
            if let Some(reply) = reply {
                let _ = shell_out.send(reply).await;
            }
            kernel.status(&message, Status::idle());
        }
    }
}

/// `None` if nothing could be read: a front end that goes away in the middle of a word, or a message that makes no sense, must
/// not end the kernel. That Jupyter itself has gone is noticed by its process.
async fn read(message: Result<JupyterMessage, RuntimeError>) -> Option<JupyterMessage> {
    if matches!(message, Err(RuntimeError::ZmqError(_) | RuntimeError::IoError(_))) {
        tokio::time::sleep(PAUSE).await;
    }
    message.ok()
}

#[derive(Clone)]
struct Kernel {
    iopub: UnboundedSender<JupyterMessage>,
    cell: Arc<Cell>,
    engine: Arc<Mutex<Result<Engine, String>>>,
    /// The cell's process, once there is one.
    process: Arc<Mutex<Option<Arc<Mutex<Child>>>>>,
    known: Arc<Mutex<Known>>,
    rust_version: Arc<str>,
}

impl Kernel {
    /// Starts the engine in the background; whoever needs it waits for the lock, which is taken when this returns.
    async fn start(&self, session: Arc<Session>, private: Private) {
        let (locked, wait) = tokio::sync::oneshot::channel();
        let (engine, warm, cell, process) = (self.engine.clone(), self.engine.clone(), self.cell.clone(), self.process.clone());
        let known = self.known.clone();
        std::thread::spawn(move || {
            let mut engine = engine.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = locked.send(());
            *engine = Engine::start(&session, cell, known, private).map_err(|error| format!("{error:#}"));
            if let Ok(engine) = &mut *engine {
                *process.lock().unwrap_or_else(PoisonError::into_inner) = Some(engine.process());
            }
            drop(engine);
            for _ in 0..TRIES {
                std::thread::sleep(WARM_AFTER);
                if let Ok(mut engine) = warm.try_lock() {
                    engine.iter_mut().for_each(complete::warm);
                    break;
                }
            }
        });
        let _ = wait.await;
    }

    fn status(&self, parent: &JupyterMessage, status: Status) {
        let _ = self.iopub.send(status.as_child_of(parent));
    }

    fn process(&self) -> Option<Arc<Mutex<Child>>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn control(&self, message: &JupyterMessage) -> Option<JupyterMessage> {
        Some(match &message.content {
            JupyterMessageContent::KernelInfoRequest(_) => kernel_info(&self.rust_version).as_child_of(message),
            JupyterMessageContent::InterruptRequest(_) => {
                interrupt::interrupt(&self.cell, self.process());
                InterruptReply::new().as_child_of(message)
            }
            JupyterMessageContent::ShutdownRequest(request) => {
                ShutdownReply { restart: request.restart, status: ReplyStatus::Ok, error: None }.as_child_of(message)
            }
            _ => return None,
        })
    }

    async fn shell(&self, message: &JupyterMessage, executor: &Arc<Executor>) -> Result<Option<JupyterMessage>> {
        Ok(Some(match message.content.clone() {
            JupyterMessageContent::KernelInfoRequest(_) => kernel_info(&self.rust_version).as_child_of(message),
            JupyterMessageContent::ExecuteRequest(request) => {
                let (executor, parent) = (executor.clone(), message.clone());
                let run = move || executor.run(&parent, &request as &ExecuteRequest);
                spawn_blocking(run).await?.as_child_of(message)
            }
            JupyterMessageContent::CompleteRequest(request) => {
                let reply = self.with_engine(move |engine| complete::complete(engine, &request)).await?;
                reply.unwrap_or_default().as_child_of(message)
            }
            JupyterMessageContent::InspectRequest(request) => {
                let reply = self.with_engine(move |engine| complete::inspect(engine, &request)).await?;
                reply.unwrap_or_default().as_child_of(message)
            }
            JupyterMessageContent::IsCompleteRequest(request) => is_complete::reply(&request.code).as_child_of(message),
            JupyterMessageContent::HistoryRequest(request) => executor.history(&request).as_child_of(message),
            JupyterMessageContent::CommInfoRequest(_) => {
                CommInfoReply { status: ReplyStatus::Ok, comms: Default::default(), error: None }.as_child_of(message)
            }
            JupyterMessageContent::ShutdownRequest(_) => return Ok(self.control(message)),
            _ => return Ok(None),
        }))
    }

    /// What can be answered while a cell runs; `None` if the question has to wait.
    fn meanwhile(&self, message: &JupyterMessage, executor: &Executor) -> Option<JupyterMessage> {
        Some(match &message.content {
            JupyterMessageContent::CompleteRequest(request) => self.complete_quickly(request).as_child_of(message),
            JupyterMessageContent::IsCompleteRequest(request) => is_complete::reply(&request.code).as_child_of(message),
            JupyterMessageContent::HistoryRequest(request) => executor.history(request).as_child_of(message),
            JupyterMessageContent::KernelInfoRequest(_) => kernel_info(&self.rust_version).as_child_of(message),
            _ => return None,
        })
    }

    fn complete_quickly(&self, request: &CompleteRequest) -> CompleteReply {
        let folder = self.process().and_then(|process| engine::folder(&process)).or_else(environment::here).unwrap_or_default();
        complete::quickly(&self.known.lock().unwrap_or_else(PoisonError::into_inner), request, &folder)
    }

    async fn with_engine<T: Send + 'static>(&self, f: impl FnOnce(&mut Engine) -> T + Send + 'static) -> Result<Option<T>> {
        let engine = self.engine.clone();
        let run = move || engine.lock().unwrap_or_else(PoisonError::into_inner).as_mut().ok().map(f);
        Ok(spawn_blocking(move || unpanicked(run)).await?)
    }

    fn end(&self, session: &Session) -> ! {
        interrupt::stop_tree_below(std::process::id()); // before the cell's process: what it started would be found no more
        if let Some(process) = self.process()
            && let Ok(mut process) = process.lock()
        {
            let _ = process.kill();
        }
        session.remove();
        std::process::exit(0)
    }
}

/// rust-analyzer, or we, may stumble over an unfinished cell: that is no answer, not the end.
fn unpanicked<T>(f: impl FnOnce() -> Option<T>) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_or(None)
}

fn kernel_info(rust_version: &str) -> KernelInfoReply {
    let text = String::from;
    KernelInfoReply {
        status: ReplyStatus::Ok,
        protocol_version: text("5.3"),
        implementation: text("lafter-kernel"),
        implementation_version: text(env!("CARGO_PKG_VERSION")),
        language_info: LanguageInfo {
            name: text("rust"),
            version: text(rust_version),
            mimetype: Some(text("text/rust")),
            file_extension: Some(text(".rs")),
            pygments_lexer: Some(text("rust")),
            codemirror_mode: Some(CodeMirrorMode::Simple(text("rust"))),
            nbconvert_exporter: None,
        },
        banner: text("LaFTer in Rust: lafter::prelude is in scope; %help lists what a cell can do"),
        help_links: vec![],
        debugger: false,
        error: None,
    }
}
