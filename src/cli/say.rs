//! Lines on standard output and standard error; a reader that leaves early (`| head`) is not a fault, and ends no run.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{ErrorKind, Write, stderr, stdout};
use std::sync::atomic::{AtomicBool, Ordering};

use lafter::{Error, Result};

/// The reader of standard output has left.
static LEFT: AtomicBool = AtomicBool::new(false);

/// Whether nobody reads standard output any more: what only prints may end.
pub fn reader_left() -> bool {
    LEFT.load(Ordering::Relaxed)
}

/// A result. If the reader has left, the rest is dropped; if it cannot be written (a full disk), the program ends
/// with status 1.
pub fn say(text: impl Display) {
    if let Err(error) = said(text) {
        note(format!("error: {error}"));
        std::process::exit(1);
    }
}

/// [`say`] where something is left to do that a full disk behind standard output does not hinder.
pub fn said(text: impl Display) -> Result<()> {
    let mut out = stdout().lock();
    match writeln!(out, "{}", harmless(&text.to_string())).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::io("standard output", e)),
        written => {
            LEFT.fetch_or(written.is_err(), Ordering::Relaxed);
            Ok(())
        }
    }
}

/// A remark, an error: nobody may be there to read it.
pub fn note(text: impl Display) {
    let _ = writeln!(stderr(), "{}", harmless(&text.to_string()));
}

/// Control characters as `\u{1b}`: a name from a file may not move the cursor, or color what others say.
fn harmless(text: &str) -> Cow<'_, str> {
    let moves = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(moves) {
        return text.into();
    }
    text.chars().map(|c| if moves(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_name_moves_the_cursor() {
        assert_eq!(super::harmless("a\tb\n\u{1b}[2Jé\r"), "a\tb\n\\u{1b}[2Jé\\r");
    }
}
