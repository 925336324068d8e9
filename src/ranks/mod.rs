//! Processes that share one run: each works on its own rows of every batch, and all know the whole.
//!
//! A run among several processes is the same program on each, in the same order of calls, as in MPI. All meet in one operation,
//! [`Ranks::all_gather`]: what each gives comes to all, in the order of the ranks. So sums have a fixed order, rules and terms see the
//! whole batch on every rank, and their state is the same everywhere. Only the first rank writes and speaks.

mod alive;
mod gather;
mod launch;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(test)]
pub(crate) mod threads;

use std::fmt::Debug;
use std::ops::Range;

pub use alive::Neighbors;
pub use gather::agree;
pub(crate) use gather::{any, check_interrupt, concatenated, file_of_first, of_first, one_each, rows, told};
pub use launch::{device_of, join, launched, launched_rank};

use crate::error::Result;

/// The processes of a run, as one of them sees them.
pub trait Ranks: Debug + Send + Sync {
    /// Which process this is, 0 to [`size`](Self::size) − 1; the first writes and speaks.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// What each process gives, in the order of the ranks. It returns once all have called it.
    ///
    /// # Errors
    /// If a process is gone.
    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Ends all processes, this one with the status, since one cannot go on without the others.
    fn abort(&self, status: u8) -> ! {
        std::process::exit(status.into())
    }
}

/// One process by itself: every run that was not started as one of several.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(vec![own.to_vec()])
    }
}

/// Which of `n` items, in their order, a rank works on: parts that differ in size by at most one, the first never the smaller.
///
/// ```
/// use lafter::ranks::{Alone, own};
/// assert_eq!(own(50, &Alone), 0..50);
/// ```
pub fn own(n: usize, ranks: &dyn Ranks) -> Range<usize> {
    let start = |rank: usize| (rank * n).div_ceil(ranks.size().max(1));
    start(ranks.rank())..start(ranks.rank() + 1)
}
