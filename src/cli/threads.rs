//! The threads that share all work, started before there is any: what a limit refuses is then an error of one line, not a panic later.

use std::io;
use std::sync::Mutex;

use lafter::{Error, Result};

use super::say::note;

/// More, and more than four a core, are asked for by mistake: they take long to start, and much memory.
const MOST: usize = 256;

/// How many threads rayon starts, and Candle where its own number is not given.
const RAYON: &str = "RAYON_NUM_THREADS";
const CANDLE: &str = "CANDLE_NUM_THREADS";

/// Lowers these numbers to what a machine can use; call it before any thread is started.
pub fn bound() {
    let most = MOST.max(4 * std::thread::available_parallelism().map_or(1, usize::from));
    for name in [RAYON, CANDLE] {
        if let Some(asked) = number(name).filter(|asked| *asked > most) {
            note(format_args!("note: {name}={asked} is more than this machine can use: {most} are started"));
            // SAFETY: no other thread reads or writes the environment yet.
            unsafe { std::env::set_var(name, most.to_string()) };
        }
    }
}

/// Starts rayon's threads, as many as it would start by itself, and sees whether Candle's could be.
pub fn start() -> Result<()> {
    let refused = |error: &dyn std::fmt::Display| {
        Error::Data(format!(
            "no threads could be started ({error}): allow more processes (ulimit -u) and memory (ulimit -v), or set {RAYON} to fewer"
        ))
    };
    rayon::ThreadPoolBuilder::new().build_global().map_err(|e| refused(&e))?;
    let candle = number(CANDLE).filter(|count| *count > 0).unwrap_or_else(candle_core::utils::get_num_threads);
    probe(candle.saturating_sub(1)).map_err(|e| refused(&e))
}

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

/// Whether so many more threads can be there at a time: Candle starts its own with its first large tensor, and panics if it gets none.
fn probe(count: usize) -> io::Result<()> {
    let gate = Mutex::new(());
    std::thread::scope(|scope| {
        let _closed = gate.lock();
        (0..count).try_for_each(|_| std::thread::Builder::new().spawn_scoped(scope, || drop(gate.lock())).map(drop))
    })
}
