//! One event type for every long operation, and the flag that stops one.
//!
//! Operations take a closure `FnMut(&Event)`. The command line draws bars from the events, a notebook live figures,
//! and `&mut |_| {}` is silence. An interrupt (Ctrl-C, a notebook's stop button) calls [`interrupt`]; long loops call
//! [`check_interrupt`] between steps, so the variables of a notebook survive.

mod stage;
mod time_left;

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use stage::Stage;
pub use time_left::{TimeLeft, in_words};

/// How often what waits asks for an interrupt.
const TICK: Duration = Duration::from_millis(100);

/// What happened. `done` and `total` count in the stage's `unit`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// A stage begins: `total` units are to be done ("images", "steps", "texts", …).
    Started {
        /// Which stage, and which part of it.
        stage: Stage,
        /// How many units there are.
        total: usize,
        /// What is counted, in the plural.
        unit: String,
    },
    /// `done` of `total` units are done; the loss and accuracy of the latest step if there is one.
    Advanced {
        /// Which stage, and which part of it.
        stage: Stage,
        /// Units that are done.
        done: usize,
        /// Units in all.
        total: usize,
        /// Loss of the latest step.
        loss: Option<f32>,
        /// Accuracy of the latest step in percent.
        accuracy: Option<f32>,
    },
    /// Something the user should know, in one line: a count of cut texts, of skipped images.
    Notice(String),
    /// The stage is over after `seconds`.
    Finished {
        /// Which stage, and which part of it.
        stage: Stage,
        /// How long it took.
        seconds: f64,
    },
}

impl Event {
    /// What the latest step measured, in words.
    ///
    /// ```
    /// use lafter::progress::{Event, Stage};
    /// let event = Event::Advanced { stage: Stage::part("tuning", 3, 16), done: 2, total: 30, loss: Some(0.5321), accuracy: Some(71.42) };
    /// assert_eq!(event.measures(), ["loss 0.532", "accuracy 71.4 %"]);
    /// ```
    pub fn measures(&self) -> Vec<String> {
        let Self::Advanced { loss, accuracy, .. } = self else { return Vec::new() };
        let loss = loss.map(|loss| format!("loss {loss:.3}"));
        loss.into_iter().chain(accuracy.map(|accuracy| format!("accuracy {accuracy:.1} %"))).collect()
    }
}

/// What `work` gives, and the notices that it sends.
pub(crate) fn with_notices<T>(work: impl FnOnce(&mut dyn FnMut(&Event)) -> T) -> (T, Vec<String>) {
    let mut notices = Vec::new();
    let given = work(&mut |event| {
        if let Event::Notice(notice) = event {
            notices.push(notice.clone());
        }
    });
    (given, notices)
}

/// A listener that says nothing.
pub fn silent(_: &Event) {}

static OBSERVER: OnceLock<fn(&Event)> = OnceLock::new();

/// Shows every event of this process also to `observer`, whatever listener the caller gave: a notebook's live figures
/// need no word from the user. The first observer stays.
pub fn observe(observer: fn(&Event)) {
    let _ = OBSERVER.set(observer);
}

/// Where events arise: passes each on to the observer, if there is one, and to the caller's listener.
pub(crate) fn watched(mut events: impl FnMut(&Event)) -> impl FnMut(&Event) {
    move |event| {
        if let Some(observer) = OBSERVER.get().filter(|_| !UNWATCHED.get()) {
            observer(event);
        }
        events(event);
    }
}

thread_local! {
    static UNWATCHED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` without showing the observer what it does on this thread: a study shows its runs, not the steps of each.
pub(crate) fn unwatched<T>(f: impl FnOnce() -> T) -> T {
    let before = UNWATCHED.replace(true);
    let result = f();
    UNWATCHED.set(before);
    result
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Asks every running operation of this process to stop at its next safe point.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

/// Forgets an interrupt, before new work begins.
pub fn clear_interrupt() {
    INTERRUPTED.store(false, Ordering::SeqCst);
}

/// True once [`interrupt`] was called.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Stops a loop after an interrupt; call it once per step. `what` is added to the message.
///
/// # Errors
/// [`Error::Interrupted`] once [`interrupt`] was called.
pub fn check_interrupt(what: &str) -> Result<()> {
    if interrupted() { Err(Error::Interrupted(format!("interrupted: {what}"))) } else { Ok(()) }
}

/// The next of what a thread sends, waited for until an interrupt; `None` once it sends no more.
///
/// # Errors
/// [`Error::Interrupted`].
pub(crate) fn next_of<T>(what: &str, sent: &Receiver<T>) -> Result<Option<T>> {
    loop {
        check_interrupt(what)?;
        match sent.recv_timeout(TICK) {
            Ok(value) => return Ok(Some(value)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// The error where the system gives no thread.
pub(crate) fn no_thread(what: &str, error: &std::io::Error) -> Error {
    Error::Data(format!("{what}: no thread could be started ({error}): allow more processes (ulimit -u) and memory (ulimit -v)"))
}

/// Work that nothing can stop, in a thread of its own: an interrupt ends the waiting, and the thread goes on unseen to its end. `None` if
/// the work panicked.
///
/// # Errors
/// [`Error::Interrupted`].
pub(crate) fn interruptible<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<Option<T>> {
    let (done, result) = channel();
    let begun = std::thread::Builder::new().spawn(move || _ = done.send(work())); // nobody waits after an interrupt
    begun.map_err(|e| no_thread(what, &e))?;
    next_of(what, &result)
}

/// Sleeps, unless an interrupt comes.
///
/// # Errors
/// [`Error::Interrupted`].
pub(crate) fn pause(what: &str, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        check_interrupt(what)?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(TICK));
    }
}
