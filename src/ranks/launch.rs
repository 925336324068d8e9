//! What a launcher says of the processes that it started: `mpirun` of Open MPI or MPICH, `srun`.

use std::sync::Arc;

use super::{Alone, Ranks};
use crate::error::{Error, Result};

/// How many processes of the program a launcher for MPI started, this one among them; `None` if none did.
///
/// Open MPI sets `OMPI_COMM_WORLD_SIZE`, MPICH and Slurm's PMI `PMI_SIZE`, Slurm with PMIx `PMIX_RANK` and `SLURM_STEP_NUM_TASKS`.
pub fn launched() -> Option<usize> {
    launched_by(|name| std::env::var(name).ok())
}

fn launched_by(env: impl Fn(&str) -> Option<String>) -> Option<usize> {
    let number = |name: &str| env(name).and_then(|value| value.parse().ok());
    let slurm = || env("PMIX_RANK").and_then(|_| number("SLURM_STEP_NUM_TASKS"));
    number("OMPI_COMM_WORLD_SIZE").or_else(|| number("PMI_SIZE")).or_else(slurm)
}

/// Which of the processes that a launcher started this one is; 0 if none did. Known before [`join`], and without MPI.
pub fn launched_rank() -> usize {
    rank_by(|name| std::env::var(name).ok())
}

fn rank_by(env: impl Fn(&str) -> Option<String>) -> usize {
    let number = |name: &str| env(name).and_then(|value| value.parse().ok());
    let known = ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"].into_iter().find_map(number);
    known.filter(|_| launched_by(&env).is_some()).unwrap_or(0)
}

/// The name of the device of this process: one GPU a process, by its rank on its own host, if several were started and no number was
/// given.
///
/// ```
/// assert_eq!(lafter::ranks::device_of("cpu"), "cpu");
/// assert_eq!(lafter::ranks::device_of("cuda:1"), "cuda:1");
/// ```
pub fn device_of(name: &str) -> String {
    device_by(name, |name| std::env::var(name).ok())
}

fn device_by(name: &str, env: impl Fn(&str) -> Option<String>) -> String {
    let local = ["OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID", "MPI_LOCALRANKID"].into_iter().find_map(&env);
    match local.and_then(|local| local.parse::<usize>().ok()) {
        Some(local) if name == "cuda" && launched_by(&env).is_some_and(|size| size > 1) => {
            // a launcher may show each process its own GPU alone
            let visible = env("CUDA_VISIBLE_DEVICES").map_or(usize::MAX, |list| list.split(',').count());
            format!("cuda:{}", local % visible)
        }
        _ => name.to_string(),
    }
}

/// Joins the other processes that a launcher started; [`Alone`] if there is none. Once in a program, before its work.
///
/// # Errors
/// [`Error::Usage`](crate::Error::Usage) if there are several and the crate was built without the feature `mpi`; if MPI cannot be started.
pub fn join() -> Result<Arc<dyn Ranks>> {
    match launched() {
        Some(size) if size > 1 => several(size),
        _ => Ok(Arc::new(Alone)),
    }
}

#[cfg(feature = "mpi")]
fn several(size: usize) -> Result<Arc<dyn Ranks>> {
    let mpi = super::mpi::Mpi::start()?;
    if mpi.size() != size {
        let own = mpi.size();
        return Err(Error::Usage(format!(
            "started as one of {size} processes, but the MPI of this build sees {own}: start it with the launcher of that MPI"
        )));
    }
    Ok(Arc::new(mpi))
}

#[cfg(not(feature = "mpi"))]
fn several(size: usize) -> Result<Arc<dyn Ranks>> {
    Err(Error::Usage(format!("started as one of {size} processes, but this build has no MPI: build with `--features mpi`, or start one")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_launcher_s_words_are_understood() {
        let open_mpi = [("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_RANK", "2"), ("OMPI_COMM_WORLD_LOCAL_RANK", "3")];
        let env = |pairs: &[(&str, &str)]| {
            let pairs: Vec<(String, String)> = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            move |name: &str| pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        assert_eq!(launched_by(env(&open_mpi)), Some(4));
        assert_eq!(launched_by(env(&[("PMIX_RANK", "1"), ("SLURM_STEP_NUM_TASKS", "8")])), Some(8));
        assert_eq!(launched_by(env(&[("SLURM_STEP_NUM_TASKS", "8")])), None); // eight runs, each by itself
        assert_eq!((rank_by(env(&open_mpi)), rank_by(env(&[("PMIX_RANK", "1")]))), (2, 0));
        assert_eq!(device_by("cuda", env(&open_mpi)), "cuda:3");
        assert_eq!(device_by("cuda:0", env(&open_mpi)), "cuda:0");
        assert_eq!(device_by("cuda", env(&[("PMI_SIZE", "2"), ("MPI_LOCALRANKID", "1"), ("CUDA_VISIBLE_DEVICES", "5")])), "cuda:0");
        assert_eq!(device_by("cuda", env(&[("SLURM_LOCALID", "1")])), "cuda");
    }
}
