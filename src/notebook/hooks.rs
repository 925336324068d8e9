//! The bridge between the kernel's process and this crate inside it: what happens before, after and during a cell.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::layout::{HOOKS_VARIABLE, Hooks, MAGIC};
use super::{live, tell};
use crate::progress;

static RUNNING: AtomicBool = AtomicBool::new(false);
/// Where answers come from: a descriptor in the kernel's process, else standard input.
static ANSWERS: AtomicI32 = AtomicI32::new(-1);

/// Makes this process a notebook's: progress becomes live figures, an interrupt stops the library's loops, a panic says its
/// place in one line, text without a newline appears at once. Does nothing outside the kernel's own process (what a cell
/// starts inherits its environment, but nothing else), nor a second time.
pub fn start() {
    static STARTED: AtomicBool = AtomicBool::new(false);
    let address = std::env::var(HOOKS_VARIABLE).ok().and_then(|text| address_in(&text));
    let Some(address) = address.filter(|_| !STARTED.swap(true, Ordering::SeqCst)) else { return };
    // SAFETY: `address_in` made sure that this process wrote the variable and that the letters of this layout are at the
    // address: it is the static that `kernel/` defines from the same source.
    let hooks = unsafe { &*std::ptr::with_exposed_provenance::<Hooks>(address) };
    for (hook, function) in [(&hooks.begin, begin as extern "C" fn()), (&hooks.end, end), (&hooks.interrupt, interrupt)] {
        hook.store(function as *mut (), Ordering::SeqCst);
    }
    ANSWERS.store(hooks.answers.load(Ordering::SeqCst), Ordering::SeqCst);
    progress::observe(live::observe);
    std::panic::set_hook(Box::new(|info| {
        let place =
            info.location().map(|at| json!({"file": at.file(), "line": at.line(), "column": at.column(), "library": library(at.file())}));
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

/// The line that the reader answers. Where the cell is stopped instead, it ends here.
pub(super) fn answer() -> String {
    static READING: Mutex<()> = Mutex::new(());
    let reading = READING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut line = String::new();
    let _ = match ANSWERS.load(Ordering::SeqCst) {
        -1 => std::io::stdin().read_line(&mut line),
        // no byte more than the line: what follows it is the kernel's
        fd => File::open(format!("/proc/self/fd/{fd}")).and_then(|file| BufReader::with_capacity(1, file).read_line(&mut line)),
    }; // nothing to read is an empty answer
    drop(reading);
    if RUNNING.load(Ordering::Relaxed) && progress::interrupted() && !std::thread::panicking() {
        std::panic::resume_unwind(Box::new("interrupted"));
    }
    line.trim_end_matches(['\n', '\r']).to_string()
}

/// The address in the variable's text, if this process wrote it and a `Hooks` stands there.
fn address_in(text: &str) -> Option<usize> {
    let (process, address) = text.split_once(':')?;
    let address = address.parse::<usize>().ok()?;
    let ours = process.parse() == Ok(std::process::id()) && address % align_of::<Hooks>() == 0;
    (ours && word_at(address) == Some(MAGIC)).then_some(address)
}

/// The word at an address of this process, read through the system: an address that is not mapped gives `None`, not a fault. The
/// kernel runs only on Linux.
#[cfg(target_os = "linux")]
fn word_at(address: usize) -> Option<u64> {
    use std::os::unix::fs::FileExt;
    let mut word = [0; 8];
    std::fs::File::open("/proc/self/mem").ok()?.read_exact_at(&mut word, address as u64).ok()?;
    Some(u64::from_ne_bytes(word))
}

#[cfg(not(target_os = "linux"))]
fn word_at(_: usize) -> Option<u64> {
    None
}

/// The shared library that a text lies in: it tells which cell a place is of.
#[cfg(target_os = "linux")]
fn library(text: &str) -> Option<String> {
    let mut found = std::mem::MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: the address is only looked up, and what was found is read only where it is written; its name is the library's own.
    unsafe {
        let known = libc::dladdr(text.as_ptr().cast(), found.as_mut_ptr()) != 0;
        known.then(|| std::ffi::CStr::from_ptr(found.assume_init().dli_fname).to_string_lossy().into_owned())
    }
}

#[cfg(not(target_os = "linux"))]
fn library(_: &str) -> Option<String> {
    None
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_of_this_process_with_its_letters_is_followed() {
        static OURS: Hooks = Hooks::empty();
        static OTHER: [u64; 4] = [7; 4];
        let (process, ours) = (std::process::id(), (&raw const OURS).addr());
        assert_eq!(address_in(&format!("{process}:{ours}")), Some(ours));
        let other = (&raw const OTHER).addr();
        for text in [format!("{}:{ours}", process + 1), format!("{process}:{other}"), format!("{process}:8"), ours.to_string(), ":".into()]
        {
            assert_eq!(address_in(&text), None, "{text}");
        }
    }
}
