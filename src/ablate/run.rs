//! Running a grid's cells, several at a time, and finding those that are done.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, mpsc};
use std::time::Instant;

use super::free_memory::free_memory;
use super::grid::{Ablation, Cell};
use super::scores::Scores;
use super::study::{Study, runs};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::eval::peak_rss_bytes;
use crate::experiment::{Experiment, is_full, with_room};
use crate::files::sha256_of;
use crate::progress::{self, Event};
use crate::run_folder::{REPORT, begun_before};
use crate::shared::Shared;

const STAGE: &str = "ablation";

impl Ablation {
    /// Runs the cells of this shard that are not done yet, and gives the table of all that are.
    ///
    /// # Errors
    /// [`Error::Usage`] for several runs at a time on a GPU; [`Error::Interrupted`] after an interrupt, and that of a full disk. A cell
    /// that fails otherwise stops no other: [`Study::failed`] names it, and it is the error if none is done. With a folder, finished cells
    /// are kept, and a cell that was stopped goes on from its checkpoints; one that cannot, since they are damaged or of another processor
    /// or GPU, is run anew.
    pub fn run(&self, mut events: impl FnMut(&Event)) -> Result<Study> {
        let mut events = progress::watched(&mut events);
        let cells = self.cells()?;
        if self.jobs > 1 && cells.iter().any(|cell| !cell.experiment.clip.device().is_cpu()) {
            let jobs = self.jobs;
            return Err(Error::Usage(format!("--jobs {jobs}: runs share one GPU, which takes them one after another: leave --jobs out")));
        }
        let folders = self.folders(&cells);
        let mut scores = finished(&cells, &folders);
        let mine = (0..cells.len()).filter(|place| self.shard.holds(*place));
        let todo: VecDeque<usize> = mine.clone().filter(|place| scores[*place].is_none()).collect();
        let (total, started) = (mine.count(), Instant::now());
        let mut done = total - todo.len();
        events(&Event::Started { stage: STAGE.into(), total, unit: "runs".into() });
        if done > 0 {
            events(&Event::Notice(format!("{done} of {} were done before and are kept", runs(total))));
            if let (Some(out), old @ 1..) = (&self.out, older(&cells, &folders, &scores)) {
                events(&Event::Notice(format!(
                    "files of the pictures were written or copied since {old} of them began: if they hold other pictures now, remove {} and \
                     repeat the command",
                    out.join("runs").display()
                )));
            }
            events(&Event::Advanced { stage: STAGE.into(), done, total, loss: None, accuracy: None });
        }
        let (mut failed, mut last_failure, mut later) = (Vec::new(), None, Vec::new());
        let mut finish = |place: usize, result: Result<Scores, Failure>, events: &mut dyn FnMut(&Event)| {
            let accuracy = match result {
                Ok(result) => {
                    done += 1;
                    let accuracy = result.lafter.map(|top1| top1 as f32);
                    scores[place] = Some(result);
                    accuracy
                }
                Err(Failure { error, ends: Ends::All }) => return Err(error),
                Err(Failure { error, ends: Ends::Nothing }) => {
                    events(&Event::Notice(error.to_string()));
                    last_failure = Some(error);
                    None
                }
                Err(Failure { error, ends: Ends::Cell }) => {
                    events(&Event::Notice(format!("{error}; the other runs go on")));
                    failed.push((place, error.to_string()));
                    last_failure = Some(error);
                    None
                }
            };
            events(&Event::Advanced { stage: STAGE.into(), done, total, loss: None, accuracy });
            Ok(scores[place].is_some())
        };

        let queue = Mutex::new(todo);
        let next = || queue.lock().ok()?.pop_front();
        let shared = Shared::default();
        let run = |place: usize| self.run_cell(&cells[place], folders[place].clone(), &shared);
        let mut jobs = self.jobs;
        while jobs > 1
            && let Some(place) = next()
        {
            // alone, to see what one takes; one that fails may have taken nothing
            match run(place) {
                Err(Failure { ends: Ends::Nothing, .. }) => later.push(place),
                result => {
                    if finish(place, result, &mut events)? {
                        jobs = affordable(jobs, &mut events);
                        break;
                    }
                }
            }
        }
        let (sender, results) = mpsc::channel();
        std::thread::scope(|scope| {
            for job in 0..jobs {
                let (sender, run, next, queue) = (sender.clone(), &run, &next, &queue);
                let work = move || {
                    while let Some(place) = next() {
                        let result = run(place);
                        if matches!(&result, Err(Failure { ends: Ends::All, .. })) {
                            queue.lock().map(|mut queue| queue.clear()).ok();
                        }
                        // the receiver is gone once another cell has ended all
                        if sender.send((place, result)).is_err() {
                            return;
                        }
                    }
                };
                // if the system gives no more threads, fewer do
                if let Err(error) = std::thread::Builder::new().spawn_scoped(scope, work) {
                    if job == 0 {
                        return Err(progress::no_thread("a run of the grid", &error));
                    }
                    break;
                }
            }
            drop(sender);
            for (place, result) in results {
                if matches!(&result, Err(Failure { ends: Ends::Nothing, .. })) {
                    later.push(place);
                } else if let Err(error) = finish(place, result, &mut events) {
                    if jobs > 1 && !matches!(error, Error::Interrupted(_)) {
                        events(&Event::Notice(format!("{error}; waiting for the runs that have begun (Ctrl-C saves and stops them)")));
                    }
                    return Err(error);
                }
            }
            Ok(())
        })?;
        for place in later {
            finish(place, run(place), &mut events)?;
        }
        events(&Event::Finished { stage: STAGE.into(), seconds: started.elapsed().as_secs_f64() });
        // other shards may have done theirs meanwhile
        let unknown = scores.iter_mut().zip(cells.iter().zip(&folders)).filter(|(scores, _)| scores.is_none());
        unknown.for_each(|(scores, cell)| *scores = load(cell));
        let failed = failed.into_iter().filter(|(place, _)| scores[*place].is_none()).map(|(_, error)| error).collect();
        match last_failure.filter(|_| scores.iter().all(Option::is_none)) {
            Some(error) => Err(error),
            None => Ok(Study { failed, ..Study::new(self.factors(), &cells, &scores) }),
        }
    }

    /// Joins what shards have left in the folder, without running anything.
    ///
    /// # Errors
    /// [`Error::Usage`] if nothing is done yet.
    pub fn collect(&self) -> Result<Study> {
        let cells = self.cells()?;
        let scores = finished(&cells, &self.folders(&cells));
        if scores.iter().all(Option::is_none) {
            return Err(Error::Usage("no run of this grid is done in this folder: run it first, or repeat its options exactly".into()));
        }
        Ok(Study::new(self.factors(), &cells, &scores))
    }

    /// Where each cell's results go; nowhere without an output folder. Cells share data sets: each is looked at once.
    fn folders(&self, cells: &[Cell]) -> Vec<Option<PathBuf>> {
        let Some(out) = &self.out else { return vec![None; cells.len()] };
        let mut known = HashMap::new();
        let mut fingerprint = |set: &Dataset| known.entry(set.identity()).or_insert_with(|| set.fingerprint()).clone();
        // each file of answers is read once, too; one that cannot be read is the run's to refuse
        let mut read = HashMap::new();
        let mut content = |file: &Path| read.entry(file.to_path_buf()).or_insert_with(|| sha256_of(file).unwrap_or_default()).clone();
        let mut folder = |cell: &Cell| {
            let Experiment { train, test, config, .. } = &cell.experiment;
            let mut data = vec![fingerprint(train), test.as_ref().map(&mut fingerprint).unwrap_or_default()];
            data.extend(config.tune.files().into_iter().map(&mut content));
            let [own, older] = [false, true].map(|paths| out.join("runs").join(cell.folder(&data, paths)));
            Some(if older.exists() && !own.exists() { older } else { own })
        };
        cells.iter().map(&mut folder).collect()
    }

    fn run_cell(&self, cell: &Cell, out: Option<PathBuf>, shared: &Shared) -> Result<Scores, Failure> {
        progress::check_interrupt("the ablation stopped; finished runs are kept").map_err(|error| Failure { error, ends: Ends::All })?;
        if let Some(scores) = load((cell, &out)) {
            return Ok(scores); // another process did it meanwhile
        }
        let run = |resume: bool| {
            let experiment = Experiment { out: out.clone(), resume, predictions: false, ..cell.experiment.clone() };
            progress::unwatched(|| experiment.run_with(shared, progress::silent))
        };
        let resume = out.as_ref().is_some_and(|out| out.exists());
        let outcome = match run(resume) {
            // the checkpoints are damaged, or those of another processor or GPU, whose bits are others
            Err(Error::Usage(_) | Error::Checkpoint(_)) if resume => run(false),
            outcome => outcome,
        };
        outcome.map(|outcome| Scores::of(&outcome.report)).map_err(|error| {
            let ends = match &error {
                Error::Taken(_) => Ends::Nothing,
                error if matches!(error, Error::Interrupted(_)) || is_full(error) => Ends::All,
                _ => Ends::Cell,
            };
            let error = match error {
                Error::Taken(_) => Error::Usage(format!("{}: another process is at it: repeat the command when that is over", cell.name())),
                Error::Interrupted(_) if self.out.is_some() => {
                    Error::Interrupted("the ablation stopped and all is saved: repeat the command to go on".into())
                }
                Error::Interrupted(what) => Error::Interrupted(what),
                Error::Usage(what) => Error::Usage(format!("{}: {what}", cell.name())),
                other => Error::Data(format!("{}: {}", cell.name(), with_room(other, "repeat the command"))),
            };
            Failure { error, ends }
        })
    }
}

/// Why a cell has no scores.
struct Failure {
    error: Error,
    ends: Ends,
}

/// What a failure ends.
enum Ends {
    /// Another process runs the cell: it is left to that one.
    Nothing,
    Cell,
    /// It would be the same for all others: an interrupt, a full disk.
    All,
}

/// The scores of the cells that are done.
fn finished(cells: &[Cell], folders: &[Option<PathBuf>]) -> Vec<Option<Scores>> {
    cells.iter().zip(folders).map(load).collect()
}

/// Those of a cell that is done in its folder.
fn load((cell, folder): (&Cell, &Option<PathBuf>)) -> Option<Scores> {
    Scores::load(&folder.as_ref()?.join(REPORT), cell)
}

/// How many of the runs that are done were begun before files of their pictures were written or copied.
fn older(cells: &[Cell], folders: &[Option<PathBuf>], scores: &[Option<Scores>]) -> usize {
    let mut known = HashMap::new();
    let mut versions = |set: &Dataset| known.entry(set.identity()).or_insert_with(|| set.versions()).clone();
    let done = cells.iter().zip(folders).zip(scores).filter(|(_, scores)| scores.is_some());
    let old = done.filter(|((Cell { experiment, .. }, folder), _)| {
        let now = [versions(&experiment.train), experiment.test.as_ref().and_then(&mut versions)];
        folder.as_ref().is_some_and(|folder| begun_before(folder, now))
    });
    old.count()
}

/// As many runs at a time as fit into the free memory, judged by the peak of the first.
fn affordable(jobs: usize, events: &mut dyn FnMut(&Event)) -> usize {
    let (Some(peak), Some(free)) = (peak_rss_bytes(), free_memory()) else { return jobs };
    let fit = (free / peak.max(1)) as usize + 1;
    if fit < jobs {
        let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
        let (peak, free) = (gib(peak), gib(free));
        events(&Event::Notice(format!("{} at a time instead of {jobs}: one takes up to {peak:.2} GiB, {free:.2} GiB are free", runs(fit))));
    }
    jobs.min(fit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::Clip;
    use crate::tune::{BankTeacher, Distillation, Labeler, TeacherKind, TermKind};

    #[test]
    fn runs_of_older_studies_are_found_by_their_older_names() {
        let folder = tempfile::tempdir().unwrap();
        let grid = Ablation::new(Experiment::demo(Clip::demo().unwrap(), 1).unwrap()).out(folder.path());
        let cell = grid.cells().unwrap().remove(0);
        let data = [cell.experiment.train.fingerprint(), cell.experiment.test.as_ref().unwrap().fingerprint()];
        let [own, older] = [false, true].map(|paths| folder.path().join("runs").join(cell.folder(&data, paths)));
        let found = || grid.folders(std::slice::from_ref(&cell)).remove(0).unwrap();
        assert_eq!(found(), own);
        std::fs::create_dir_all(&older).unwrap();
        assert_eq!(found(), older);
        std::fs::create_dir_all(&own).unwrap();
        assert_eq!(found(), own);
    }

    #[test]
    fn other_stored_answers_are_another_run() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("answers.safetensors");
        let base = Experiment::demo(Clip::demo().unwrap(), 1).unwrap();
        let folders = |content: &str| {
            std::fs::write(&file, content).unwrap();
            let file = file.clone();
            let grid = Ablation::new(base.clone()).out(folder.path()).vary_experiment("answers", [0, 1, 2, 3], move |run, which| {
                let tune = &mut run.config.tune;
                match which {
                    1 => tune.teacher = TeacherKind::Bank(BankTeacher { file: file.clone() }),
                    2 => tune.teacher = TeacherKind::Labeler(Labeler { file: Some(file.clone()), ..Labeler::default() }),
                    3 => tune.objective.push((1.0, TermKind::Distillation(Distillation { file: file.clone(), temperature: 1.0 }))),
                    _ => {}
                }
                Ok(())
            });
            grid.folders(&grid.cells().unwrap())
        };
        let (first, again, other) = (folders("a"), folders("a"), folders("b"));
        assert_eq!(first, again);
        assert_eq!(first.iter().zip(&other).map(|(a, b)| a == b).collect::<Vec<_>>(), [true, false, false, false]);
    }
}
