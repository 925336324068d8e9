//! Commands under a launcher for MPI: those that several processes share end together, the others are the first's alone.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lafter::clip::Clip;
use lafter::data::Dataset;
use lafter::device::arithmetic;
use lafter::ranks::{self, Neighbors, Ranks};
use lafter::{Error, Result};

use super::say::note;
use super::{signals, status};

/// Time between two looks at the other processes.
const LOOK: Duration = Duration::from_millis(100);

/// How long the others wait for the first while it saves for all after an interrupt, and, after any failure, until it ends them.
const SAVES: Duration = Duration::from_secs(60);
const SPEAKS: Duration = Duration::from_secs(2);

/// Runs the part of this process in work that several may share: one that fails, or panics, says so and ends all, who would wait for it;
/// where one was killed, another says so, and what to do: `again`.
pub fn together(again: &'static str, work: impl FnOnce(&Arc<dyn Ranks>) -> Result<()>) -> Result<()> {
    let ranks = match ranks::join() {
        Err(error) if ranks::launched_rank() > 0 => std::process::exit(status(&error).into()), // the first says why
        joined => joined?,
    };
    if ranks.size() == 1 {
        return work(&ranks);
    }
    if ranks.rank() > 0 {
        signals::mute();
    }
    let neighbors = Neighbors::meet(&*ranks)?;
    let watch = Watch::begin(&ranks, neighbors.clone(), again);
    let panics = AbortIfPanicking(&*ranks);
    let result = work(&ranks);
    std::mem::forget(panics);
    let Err(error) = result else {
        ranks.all_gather(&[])?;
        watch.end();
        ranks.all_gather(&[])?; // nobody leaves who is watched
        return Ok(());
    };
    watch.end();
    match ranks.rank() {
        0 => note(format_args!("error: {error}")),
        rank => {
            let end = Instant::now() + if matches!(error, Error::Interrupted(_)) { SAVES } else { Duration::ZERO };
            while Instant::now() < end && neighbors.may_live(0) {
                std::thread::sleep(LOOK);
            }
            std::thread::sleep(SPEAKS); // the first has said it, and ends this process, too
            note(format_args!("error: process {rank}: {error}"));
        }
    }
    ranks.abort(status(&error))
}

/// Looks after the other processes in a thread of its own.
struct Watch {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    fn begin(ranks: &Arc<dyn Ranks>, neighbors: Neighbors, again: &'static str) -> Self {
        let (over, ranks) = (Arc::new(AtomicBool::new(false)), ranks.clone());
        let seen = over.clone();
        let look = move || {
            loop {
                std::thread::park_timeout(LOOK);
                let gone = neighbors.gone();
                if seen.load(Ordering::SeqCst) {
                    return;
                }
                let Some(gone) = gone else { continue };
                if neighbors.is_first() {
                    note(format_args!("error: process {gone} ended before the work was done, so all end: {again}"));
                } else {
                    std::thread::sleep(5 * LOOK);
                }
                ranks.abort(1);
            }
        };
        // without the thread the launcher ends the job, and says less
        let thread = std::thread::Builder::new().name("neighbors".into()).spawn(look).ok();
        Self { over, thread }
    }

    /// Ends the thread, which holds on to the ranks: MPI ends with the last who does.
    fn end(self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

struct AbortIfPanicking<'a>(&'a dyn Ranks);

impl Drop for AbortIfPanicking<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.abort(101); // its message stands above
        }
    }
}

/// Refuses processes with other pictures, another model, or other `content` of the files that answer.
pub fn agreed(ranks: &dyn Ranks, clip: &Clip, pictures: Option<&Dataset>, content: impl FnOnce() -> Result<String>) -> Result<()> {
    ranks::agree(ranks, || {
        let model = format!("{} {}", clip.weights_hash(), clip.settings_hash());
        let pictures = pictures.map(Dataset::fingerprint).unwrap_or_default();
        let device = arithmetic(clip.device())?;
        Ok(vec![
            ("device (kind, GPU or TF32)", device),
            ("model", model),
            ("pictures", pictures),
            ("classes, texts or weights", content()?),
        ])
    })
}

/// Lets the first process do work in which something may come from the hub (`names`: a model, data sets) before the others, which then find
/// it on the disk.
pub fn first_downloads<'a, T>(ranks: &dyn Ranks, names: impl IntoIterator<Item = &'a str>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let from_hub = |name: &str| name.starts_with("hf:") || (name != "demo" && !Path::new(name).exists() && name.split('/').count() == 2);
    // a name may be a folder on one host alone, so the first decides
    let downloads = ranks.all_gather(&[names.into_iter().any(from_hub).into()])?.first().is_some_and(|first| first == &[1]);
    if downloads && ranks.rank() > 0 {
        ranks.all_gather(&[])?;
    }
    let made = work()?;
    if downloads && ranks.rank() == 0 {
        ranks.all_gather(&[])?;
    }
    Ok(made)
}

/// Runs a command that is not shared: under a launcher the first process does it, and the others have nothing to do.
pub fn on_first(command: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let size = ranks::launched().unwrap_or(1);
    if ranks::launched_rank() > 0 {
        return Ok(());
    }
    if size > 1 {
        note(format_args!("note: `{command}` is not shared among processes: the first of {size} does it alone"));
    }
    work()
}

/// Refuses a command that would take the time of many processes for the work of one.
pub fn refused(command: &str, instead: &str) -> Result<()> {
    match ranks::launched() {
        Some(size) if size > 1 => {
            if ranks::launched_rank() > 0 {
                std::process::exit(2); // the first says why
            }
            Err(Error::Usage(format!("`{command}` does not share its work over MPI: {instead}")))
        }
        _ => Ok(()),
    }
}
