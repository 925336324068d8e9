//! The bridge between the kernel's process and this crate inside it: what happens before, after and during a cell.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::time::Duration;

use serde_json::json;

use super::{live, tell};
use crate::progress;

/// Where the process that loads the cells says, in decimal digits, at which address its [`Hooks`] stand.
pub const HOOKS_VARIABLE: &str = "LAFTER_NOTEBOOK_HOOKS";

/// Functions that the process calls; null until [`start`] has filled them. The layout is shared with `kernel/`.
#[repr(C)]
pub struct Hooks {
    /// Before a cell runs.
    pub begin: AtomicPtr<()>,
    /// After it has run.
    pub end: AtomicPtr<()>,
    /// In the handler of the interrupt signal: only what is safe there.
    pub interrupt: AtomicPtr<()>,
}

static RUNNING: AtomicBool = AtomicBool::new(false);

/// Makes this process a notebook's: progress becomes live figures, an interrupt stops the library's loops, a panic says its
/// place in one line, text without a newline appears at once. Does nothing outside the kernel, nor a second time.
pub fn start() {
    static STARTED: AtomicBool = AtomicBool::new(false);
    let address = std::env::var(HOOKS_VARIABLE).ok().and_then(|address| address.parse::<usize>().ok());
    let Some(address) = address.filter(|_| !STARTED.swap(true, Ordering::SeqCst)) else { return };
    // SAFETY: the kernel's process sets the variable to the address of a static of this layout, before it loads any cell.
    let hooks = unsafe { &*std::ptr::with_exposed_provenance::<Hooks>(address) };
    for (hook, function) in [(&hooks.begin, begin as extern "C" fn()), (&hooks.end, end), (&hooks.interrupt, interrupt)] {
        hook.store(function as *mut (), Ordering::SeqCst);
    }
    progress::observe(live::observe);
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(|at| json!({"file": at.file(), "line": at.line(), "column": at.column()}));
        let message = info.payload_as_str().unwrap_or("a value that is not text");
        tell(&json!({"op": "panic", "place": place, "message": message}));
    }));
    std::thread::spawn(|| {
        // Rust keeps a line back until its end; a counter that rewrites itself must be seen before
        loop {
            std::thread::sleep(Duration::from_millis(25));
            if RUNNING.load(Ordering::Relaxed) {
                let _ = std::io::stdout().flush();
            }
        }
    });
    begin(); // the cell that calls this is running already
}

extern "C" fn begin() {
    progress::clear_interrupt();
    live::begin();
    RUNNING.store(true, Ordering::Relaxed);
}

extern "C" fn end() {
    RUNNING.store(false, Ordering::Relaxed);
    live::end();
    let _ = std::io::stdout().flush();
}

extern "C" fn interrupt() {
    progress::interrupt();
}
