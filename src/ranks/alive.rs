//! Whether the other processes of this host are still there: one that was killed cannot say so itself.

use serde::{Deserialize, Serialize};

use super::{Ranks, told};
use crate::error::Result;

/// The processes of a job that run on this host, by what the system knows of them. Elsewhere than on Linux nothing is known.
#[derive(Clone, Debug)]
pub struct Neighbors {
    rank: usize,
    /// Rank and process of the others.
    others: Vec<(usize, u32)>,
}

/// Where a process runs: the start of its system and its space of process numbers.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    host: Option<(String, String)>,
    process: u32,
}

impl Place {
    fn own() -> Self {
        let started = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        let space = std::fs::read_link("/proc/self/ns/pid").ok().map(|link| link.display().to_string());
        Self { host: started.zip(space), process: std::process::id() }
    }
}

impl Neighbors {
    /// All processes tell each other where they run; all must call it.
    ///
    /// # Errors
    /// If a process is gone already.
    pub fn meet(ranks: &dyn Ranks) -> Result<Self> {
        let places = told(ranks, &Place::own())?;
        let rank = ranks.rank();
        let here = |place: &Place| place.host.is_some() && place.host == places[rank].host;
        let others = places.iter().enumerate().filter(|(other, place)| *other != rank && here(place));
        Ok(Self { rank, others: others.map(|(other, place)| (other, place.process)).collect() })
    }

    /// The first of them that has ended, if one has.
    pub fn gone(&self) -> Option<usize> {
        self.others.iter().find(|(_, process)| !lives(*process)).map(|(rank, _)| *rank)
    }

    /// Whether this process is the first of those of this host that live.
    pub fn is_first(&self) -> bool {
        !self.others.iter().any(|(rank, process)| *rank < self.rank && lives(*process))
    }
}

/// Whether a process is there, and is not one that has ended and was not yet waited for.
fn lives(process: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{process}/stat")) {
        // its name, which may hold anything, stands in parentheses; then its state
        Ok(stat) => !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::super::threads;
    use super::*;

    #[test]
    fn a_process_that_was_killed_is_gone_whether_or_not_it_was_waited_for() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let neighbors = Neighbors { rank: 1, others: vec![(0, std::process::id()), (2, child.id())] };
        assert!(neighbors.gone().is_none() && !neighbors.is_first());
        child.kill().unwrap();
        while neighbors.gone().is_none() {
            std::thread::yield_now();
        }
        assert_eq!(neighbors.gone(), Some(2));
        child.wait().unwrap();
        assert_eq!(neighbors.gone(), Some(2));
        assert!(Neighbors { rank: 3, others: vec![(2, child.id())] }.is_first());
    }

    #[test]
    fn those_of_one_host_know_each_other() {
        let met = threads::run(3, |ranks| Neighbors::meet(ranks).unwrap());
        assert!(met.iter().all(|neighbors| neighbors.others.len() == 2 && neighbors.gone().is_none()));
    }
}
