//! Whether the other processes of this host are still there: one that was killed cannot say so itself.

use serde::{Deserialize, Serialize};

use super::{Ranks, told};
use crate::error::Result;

/// The processes of a job that run on this host, by what the system knows of them. Elsewhere than on Linux nothing is known.
#[derive(Clone, Debug)]
pub struct Neighbors {
    rank: usize,
    /// Rank and process of the others.
    others: Vec<(usize, Process)>,
}

/// A process: its number, which another may have after it, and when it was started, in ticks of its system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Process {
    number: u32,
    started: Option<u64>,
}

/// Where a process runs: the start of its system and its space of process numbers.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    host: Option<(String, String)>,
    process: Process,
}

impl Place {
    fn own() -> Self {
        let started = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        let space = std::fs::read_link("/proc/self/ns/pid").ok().map(|link| link.display().to_string());
        Self { host: started.zip(space), process: Process::of(std::process::id()) }
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
        self.others.iter().find(|(_, process)| !process.lives()).map(|(rank, _)| *rank)
    }

    /// Whether one of them may still be there; of one elsewhere nothing is known.
    pub fn may_live(&self, rank: usize) -> bool {
        self.others.iter().all(|(other, process)| *other != rank || process.lives())
    }

    /// Whether this process is the first of those of this host that live.
    pub fn is_first(&self) -> bool {
        !self.others.iter().any(|(rank, process)| *rank < self.rank && process.lives())
    }
}

impl Process {
    fn of(number: u32) -> Self {
        let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        Self { number, started: state_and_start(&stat).and_then(|(_, started)| started) }
    }

    /// Whether it is there, and is not one that has ended and was not yet waited for.
    fn lives(&self) -> bool {
        match std::fs::read_to_string(format!("/proc/{}/stat", self.number)) {
            Ok(stat) => state_and_start(&stat)
                .is_none_or(|(state, started)| !matches!(state, "Z" | "X") && (self.started.is_none() || started == self.started)),
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        }
    }
}

/// A process's state and its start, fields 3 and 22 of its stat. Field 2, its name, may hold anything, and stands in parentheses.
fn state_and_start(stat: &str) -> Option<(&str, Option<u64>)> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?, fields.nth(18).and_then(|started| started.parse().ok())))
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::super::threads;
    use super::*;

    #[test]
    fn a_process_that_was_killed_is_gone_whether_or_not_it_was_waited_for() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let started = Process::of(child.id());
        let neighbors = Neighbors { rank: 1, others: vec![(0, Process::of(std::process::id())), (2, started)] };
        assert!(neighbors.gone().is_none() && !neighbors.is_first() && neighbors.may_live(2) && neighbors.may_live(3));
        let before = Process { started: started.started.map(|ticks| ticks - 1), ..started };
        assert!(started.started.is_some() && !before.lives(), "its number alone says nothing");
        child.kill().unwrap();
        while neighbors.gone().is_none() {
            std::thread::yield_now();
        }
        assert_eq!(neighbors.gone(), Some(2));
        child.wait().unwrap();
        assert_eq!(neighbors.gone(), Some(2));
        assert!(Neighbors { rank: 3, others: vec![(2, started)] }.is_first() && !neighbors.may_live(2));
    }

    #[test]
    fn a_name_may_hold_blanks_and_parentheses() {
        let stat = |name: &str, state: &str| format!("7 ({name}) {state} 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 8231 2940928 1 0");
        for name in ["sleep", "a b) Z 1 (c", ")"] {
            assert_eq!(state_and_start(&stat(name, "S")), Some(("S", Some(8231))));
        }
        assert_eq!((state_and_start("7 (x) Z"), state_and_start("")), (Some(("Z", None)), None));
    }

    #[test]
    fn those_of_one_host_know_each_other() {
        let met = threads::run(3, |ranks| Neighbors::meet(ranks).unwrap());
        assert!(met.iter().all(|neighbors| neighbors.others.len() == 2 && neighbors.gone().is_none()));
    }
}
