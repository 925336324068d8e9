//! Signals: the first asks for a stop at the next safe point, where all is saved; a second ends the process at once, with
//! status 128 and its number.
//!
//! | signal | who sends it | exit status |
//! |---|---|---|
//! | SIGINT | Ctrl-C | 1, as for every run that did not come to its end |
//! | SIGTERM | `kill`, SLURM (scancel, time limit, preemption), containers, systemd | 143 |
//! | SIGHUP | a terminal or ssh session that closes; under `nohup` it stays without effect | 129 |

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use lafter::progress;

use super::say::note;

/// The first signal; 0 before it.
static FIRST: AtomicI32 = AtomicI32::new(0);

/// Whether another process speaks for this one.
static MUTE: AtomicBool = AtomicBool::new(false);

/// From now on a signal is obeyed and not answered: another process of the job says the same.
pub fn mute() {
    MUTE.store(true, Ordering::SeqCst);
}

/// Exit status of a command that was interrupted: 1, or 128 and the signal for those that a batch system sends and looks for.
pub fn status() -> u8 {
    match FIRST.load(Ordering::SeqCst) {
        0 | INTERRUPT => 1,
        signal => u8::try_from(128 + signal).unwrap_or(1),
    }
}

fn received(signal: i32) {
    if FIRST.swap(signal, Ordering::SeqCst) != 0 {
        std::process::exit(128 + signal);
    }
    progress::interrupt();
    if MUTE.load(Ordering::SeqCst) {
        return;
    }
    let again = if signal == INTERRUPT { "Ctrl-C" } else { "the signal" };
    note(format_args!("\nstopping at the next safe point ({again} once more ends at once)"));
}

#[cfg(unix)]
const INTERRUPT: i32 = libc::SIGINT;
#[cfg(not(unix))]
const INTERRUPT: i32 = 2;

/// Waits for signals in a thread of its own; call it before any other thread is started, because threads inherit what is blocked.
#[cfg(unix)]
pub fn watch() {
    let mut wanted = vec![libc::SIGINT, libc::SIGTERM];
    // SAFETY: plain system calls on local values, before any other thread is started.
    let set = unsafe {
        // a file larger than `ulimit -f` allows is then an error of the write, not the end of the process
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        let mut hangup: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGHUP, std::ptr::null(), &mut hangup) != 0 || hangup.sa_sigaction != libc::SIG_IGN {
            wanted.push(libc::SIGHUP);
        }
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in wanted {
            libc::sigaddset(&mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        set
    };
    let wait = move || {
        let mut signal = 0;
        // SAFETY: both are values of this thread.
        while unsafe { libc::sigwait(&set, &mut signal) } == 0 {
            received(signal);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("signals".into()).spawn(wait) {
        // SAFETY: as above; signals end the process again.
        unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut()) };
        without(&error);
    }
}

/// Waits for Ctrl-C.
#[cfg(not(unix))]
pub fn watch() {
    if let Err(error) = ctrlc::set_handler(|| received(INTERRUPT)) {
        without(&error);
    }
}

fn without(error: &dyn std::fmt::Display) {
    note(format_args!("note: signals will end the run without saving: {error}"));
}
