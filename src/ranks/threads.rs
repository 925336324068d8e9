//! Ranks that are threads of this process: the whole logic without a launcher, for tests.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::Ranks;
use crate::error::{Error, Result};

/// One of the threads of [`run`].
#[derive(Debug)]
pub(crate) struct Thread {
    rank: usize,
    to: Vec<Sender<Vec<u8>>>,
    from: Mutex<Vec<Receiver<Vec<u8>>>>,
}

impl Ranks for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to.len()
    }

    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        let gone = || Error::Data(format!("rank {}: another one is gone", self.rank));
        self.to.iter().try_for_each(|to| to.send(own.to_vec()).map_err(|_| gone()))?;
        let from = self.from.lock().map_err(|_| gone())?;
        from.iter().map(|from| from.recv().map_err(|_| gone())).collect()
    }
}

/// The ranks of `size` threads.
pub(crate) fn all(size: usize) -> Vec<Thread> {
    let mut threads: Vec<Thread> = (0..size).map(|rank| Thread { rank, to: Vec::new(), from: Mutex::default() }).collect();
    for receiver in 0..size {
        for sender in 0..size {
            let (to, from) = channel();
            threads[sender].to.push(to); // at `receiver`
            threads[receiver].from.get_mut().unwrap().push(from); // at `sender`
        }
    }
    threads
}

/// What `work` gives on each of `size` ranks, in their order.
pub(crate) fn run<T: Send>(size: usize, work: impl Fn(&dyn Ranks) -> T + Sync) -> Vec<T> {
    let work = &work;
    std::thread::scope(|scope| {
        let started: Vec<_> = all(size).into_iter().map(|ranks| scope.spawn(move || work(&ranks))).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}
