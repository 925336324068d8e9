//! Running a grid's cells, several at a time, and finding those that are done.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::time::Instant;

use super::free_memory::free_memory;
use super::grid::{Ablation, Cell};
use super::study::Study;
use crate::error::{Error, Result};
use crate::eval::{Report, peak_rss_bytes};
use crate::experiment::Experiment;
use crate::progress::{self, Event};

const STAGE: &str = "ablation";

impl Ablation {
    /// Runs the cells of this shard that are not done yet, and gives the table of all that are.
    ///
    /// # Errors
    /// That of the first cell that fails, with the cell's name; [`Error::Interrupted`] after an interrupt. With a folder,
    /// finished cells are kept, and a cell that was stopped goes on from its checkpoints.
    pub fn run(&self, mut events: impl FnMut(&Event)) -> Result<Study> {
        let mut events = progress::watched(&mut events);
        let cells = self.cells()?;
        let mut reports: Vec<Option<Report>> = cells.iter().map(|cell| self.finished(cell)).collect();
        let mine = (0..cells.len()).filter(|place| self.shard.holds(*place));
        let todo: VecDeque<usize> = mine.clone().filter(|place| reports[*place].is_none()).collect();
        let (total, started) = (mine.count(), Instant::now());
        let mut done = total - todo.len();
        events(&Event::Started { stage: STAGE.into(), total, unit: "runs".into() });
        if done > 0 {
            events(&Event::Notice(format!("{done} of {total} runs were done before and are kept")));
            events(&Event::Advanced { stage: STAGE.into(), done, total, loss: None, accuracy: None });
        }
        let mut finish = |place: usize, report: Report, events: &mut dyn FnMut(&Event)| {
            done += 1;
            let accuracy = report.lafter.as_ref().map(|section| section.evaluation.top1 as f32);
            reports[place] = Some(report);
            events(&Event::Advanced { stage: STAGE.into(), done, total, loss: None, accuracy });
        };

        let queue = Mutex::new(todo);
        let next = || queue.lock().ok()?.pop_front();
        let mut jobs = self.jobs;
        if jobs > 1
            && let Some(place) = next()
        {
            // alone, to see what one takes
            finish(place, self.run_cell(&cells[place])?, &mut events);
            jobs = affordable(jobs, &mut events);
        }
        let (sender, results) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                let (sender, cells, next) = (sender.clone(), &cells, &next);
                scope.spawn(move || {
                    while let Some(place) = next() {
                        // the receiver is gone once another cell has failed
                        if sender.send((place, self.run_cell(&cells[place]))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            for (place, report) in results {
                match report {
                    Ok(report) => finish(place, report, &mut events),
                    Err(error) => {
                        queue.lock().map(|mut queue| queue.clear()).ok();
                        return Err(error);
                    }
                }
            }
            Ok(())
        })?;
        events(&Event::Finished { stage: STAGE.into(), seconds: started.elapsed().as_secs_f64() });
        Ok(Study::new(self.factors(), &cells, &reports))
    }

    /// Joins what shards have left in the folder, without running anything.
    ///
    /// # Errors
    /// [`Error::Usage`] where nothing is done yet.
    pub fn collect(&self) -> Result<Study> {
        let cells = self.cells()?;
        let reports: Vec<Option<Report>> = cells.iter().map(|cell| self.finished(cell)).collect();
        if reports.iter().all(Option::is_none) {
            return Err(Error::Usage("no run of this grid is done in this folder: run it first, or repeat its options exactly".into()));
        }
        Ok(Study::new(self.factors(), &cells, &reports))
    }

    /// The report of a cell that is done.
    fn finished(&self, cell: &Cell) -> Option<Report> {
        Report::load(self.out.as_ref()?.join("runs").join(cell.folder()).join("report.json")).ok()
    }

    fn run_cell(&self, cell: &Cell) -> Result<Report> {
        progress::check_interrupt("the ablation stopped; finished runs are kept")?;
        let out = self.out.as_ref().map(|out| out.join("runs").join(cell.folder()));
        let resume = out.as_deref().is_some_and(Path::exists);
        let experiment = Experiment { out, resume, ..cell.experiment.clone() };
        let outcome = progress::unwatched(|| experiment.run(progress::silent));
        outcome.map(|outcome| outcome.report).map_err(|error| match error {
            Error::Interrupted(_) if self.out.is_some() => {
                Error::Interrupted("the ablation stopped and all is saved: repeat the command to go on".into())
            }
            Error::Interrupted(what) => Error::Interrupted(what),
            Error::Usage(what) => Error::Usage(format!("{}: {what}", cell.name())),
            other => Error::Data(format!("{}: {other}", cell.name())),
        })
    }
}

/// As many runs at a time as fit into the free memory, judged by the peak of the first.
fn affordable(jobs: usize, events: &mut dyn FnMut(&Event)) -> usize {
    let (Some(peak), Some(free)) = (peak_rss_bytes(), free_memory()) else { return jobs };
    let fit = (free / peak.max(1)) as usize + 1;
    if fit < jobs {
        let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
        let (peak, free) = (gib(peak), gib(free));
        let runs = if fit == 1 { "1 run" } else { &format!("{fit} runs") };
        events(&Event::Notice(format!("{runs} at a time instead of {jobs}: one takes up to {peak:.2} GiB, {free:.2} GiB are free")));
    }
    jobs.min(fit)
}
