//! Lines on standard output and standard error; a reader that leaves early (`| head`) is not a fault, and ends no run.

use std::fmt::Display;
use std::io::{ErrorKind, Write, stderr, stdout};

/// A result. If the reader has left, the rest is dropped; if it cannot be written (a full disk), the program ends
/// with status 1.
pub fn say(text: impl Display) {
    let mut out = stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            note(format!("error: standard output: {e}"));
            std::process::exit(1);
        }
        _ => {}
    }
}

/// A remark, an error: nobody may be there to read it.
pub fn note(text: impl Display) {
    let _ = writeln!(stderr(), "{text}");
}
