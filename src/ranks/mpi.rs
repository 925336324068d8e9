//! Ranks of an MPI job, by the `mpi` crate over Open MPI or MPICH.

use std::fmt;
use std::thread::ThreadId;

use mpi::Threading;
use mpi::datatype::PartitionMut;
use mpi::environment::Universe;
use mpi::traits::{Communicator, CommunicatorCollectives};

use super::Ranks;
use crate::error::{Error, Result};

/// Bytes that all ranks give in one call at most: MPI counts with 31 bits.
const AT_ONCE: usize = 1 << 30;

/// The world of the job; MPI ends with it. All calls come from the thread that started it, but for [`abort`](Ranks::abort): a thread that
/// looks after the other processes makes it while that one may be waiting for them.
pub(super) struct Mpi {
    universe: Universe,
    /// Whether this MPI allows that.
    from_any_thread: bool,
    thread: ThreadId,
}

impl Mpi {
    /// Starts MPI in this process.
    pub fn start() -> Result<Self> {
        let (universe, granted) = mpi::initialize_with_threading(Threading::Multiple)
            .ok_or_else(|| Error::Usage("MPI runs in this process already: join once".into()))?;
        Ok(Self { universe, from_any_thread: granted == Threading::Multiple, thread: std::thread::current().id() })
    }
}

impl Ranks for Mpi {
    fn rank(&self) -> usize {
        usize::try_from(self.universe.world().rank()).unwrap_or_default()
    }

    fn size(&self) -> usize {
        usize::try_from(self.universe.world().size()).unwrap_or(1)
    }

    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        let (world, size) = (self.universe.world(), self.size());
        let mut lengths = vec![0u64; size];
        world.all_gather_into(&(own.len() as u64), &mut lengths[..]);
        let lengths: Vec<usize> = lengths.into_iter().map(|length| length as usize).collect();
        let mut all: Vec<Vec<u8>> = lengths.iter().map(|length| Vec::with_capacity(*length)).collect();
        let at_once = (AT_ONCE / size).max(1);
        for start in (0..lengths.iter().copied().max().unwrap_or(0)).step_by(at_once) {
            let part = |length: usize| start.min(length)..(start + at_once).min(length);
            let counts: Vec<usize> = lengths.iter().map(|length| part(*length).len()).collect();
            let places: Vec<usize> = counts.iter().scan(0, |sum, count| Some(std::mem::replace(sum, *sum + count))).collect();
            let mut bytes = vec![0u8; counts.iter().sum()];
            let small = |values: &[usize]| values.iter().map(|value| *value as i32).collect::<Vec<_>>(); // below AT_ONCE
            world.all_gather_varcount_into(&own[part(own.len())], &mut PartitionMut::new(&mut bytes[..], small(&counts), small(&places)));
            for ((all, count), place) in all.iter_mut().zip(&counts).zip(&places) {
                all.extend_from_slice(&bytes[*place..place + count]);
            }
        }
        Ok(all)
    }

    fn abort(&self, status: u8) -> ! {
        if self.from_any_thread || std::thread::current().id() == self.thread {
            self.universe.world().abort(status.into())
        }
        std::process::exit(status.into()) // the launcher ends the others
    }
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mpi({} of {})", self.rank(), self.size())
    }
}
