//! Commands that several processes share end together.

use std::time::Duration;

use lafter::ranks::Ranks;
use lafter::{Error, Result};

use super::say::note;
use super::status;

/// Runs the part of this process in work that several may share: one that fails, or panics, says so and ends all, who would wait for it.
pub fn together(ranks: &dyn Ranks, work: impl FnOnce() -> Result<()>) -> Result<()> {
    if ranks.size() == 1 {
        return work();
    }
    let panics = AbortIfPanicking(ranks);
    let result = work();
    std::mem::forget(panics);
    let Err(error) = result else { return Ok(()) };
    // what ends all of them, the first says, and it saves its work before
    let patience = if matches!(error, Error::Interrupted(_)) { 10 } else { 2 };
    match ranks.rank() {
        0 => note(format_args!("error: {error}")),
        rank => {
            std::thread::sleep(Duration::from_secs(patience));
            note(format_args!("error: process {rank}: {error}"));
        }
    }
    ranks.abort(status(&error))
}

struct AbortIfPanicking<'a>(&'a dyn Ranks);

impl Drop for AbortIfPanicking<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.abort(101); // its message stands above
        }
    }
}
