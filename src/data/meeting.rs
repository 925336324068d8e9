//! What the processes of a run tell each other before a step, or a batch each: which of the pictures each could read, and whether one
//! has to stop.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::data::dataset::Dataset;
use crate::data::skipped::Skipped;
use crate::error::{Error, Result};
use crate::progress::interrupted;
use crate::ranks::{Ranks, told};

/// What all of them know then.
pub(crate) struct Meeting {
    /// The pictures of the whole batch that could be read, in its order.
    pub indices: Vec<usize>,
    /// Which of them are this process's.
    pub own: Range<usize>,
    /// Whether one was interrupted: all stop between the same two steps.
    pub stop: bool,
}

#[derive(Serialize, Deserialize)]
struct Word {
    read: Vec<usize>,
    unread: Vec<(usize, String, String)>,
    stop: bool,
}

impl Meeting {
    /// Tells that of the pictures `asked` these were `read`; the log of the others becomes that of all processes.
    pub fn held(ranks: &dyn Ranks, asked: &[usize], read: &[usize], skipped: &Skipped) -> Result<Self> {
        if ranks.size() == 1 {
            return Ok(Self { indices: read.to_vec(), own: 0..read.len(), stop: interrupted() });
        }
        let word = Word { read: read.to_vec(), unread: skipped.among(asked), stop: interrupted() };
        let words = told(ranks, &word)?;
        let before: usize = words[..ranks.rank()].iter().map(|word| word.read.len()).sum();
        share(&words, skipped);
        let stop = words.iter().any(|word| word.stop);
        Ok(Self { own: before..before + read.len(), indices: words.into_iter().flat_map(|word| word.read).collect(), stop })
    }
}

fn share(words: &[Word], skipped: &Skipped) {
    words.iter().flat_map(|word| &word.unread).for_each(|(index, name, reason)| skipped.add(*index, name, reason));
}

/// Makes a log of pictures that could not be read, each process's own so far, that of all.
///
/// # Errors
/// [`Error::Data`] if these are more than may be; if a process is gone.
pub(crate) fn share_log(ranks: &dyn Ranks, skipped: &Skipped) -> Result<()> {
    if ranks.size() > 1 {
        let unread = skipped.among(&skipped.indices());
        share(&told(ranks, &Word { read: Vec::new(), unread, stop: false })?, skipped);
    }
    Ok(())
}

/// Refuses what the loader of one process refuses by itself: each sees its own pictures only.
///
/// # Errors
/// [`Error::Data`] if too many pictures cannot be read.
pub(crate) fn check_share(pictures: &Dataset, skipped: &Skipped, most: f64) -> Result<()> {
    if skipped.share() <= most {
        return Ok(());
    }
    let (count, total, origin) = (skipped.count(), pictures.len(), pictures.origin());
    Err(Error::Data(format!(
        "{origin}: {count} of {total} pictures cannot be read, more than the {} % allowed: repair or remove them (of a run, tune.max_unreadable allows more)",
        most * 100.0
    )))
}
