//! A whole run shared by several ranks: the same report, table and weights as that of one process; the first alone writes.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::ranks::threads;
use crate::run_folder::HISTORY;

fn experiment(out: Option<&Path>, epochs: usize) -> Experiment {
    let (train, test) = scenes::demo_sets(DEMO_PICTURES);
    let mut run = Experiment::new(Clip::demo().unwrap(), scenes::text_set().unwrap(), train.unlabeled().take(60), test.take(52));
    run.config = LafterConfig::new(Preset::Demo);
    (run.config.text.epochs, run.config.tune.epochs, run.config.tune.batch_size, run.config.tune.prompts) = (3, epochs, 11, 2);
    run.out = out.map(Path::to_path_buf);
    run
}

fn among(size: usize, out: &Path, epochs: usize, resume: bool) -> Vec<Outcome> {
    std::thread::scope(|scope| {
        let run = |ranks: threads::Thread| {
            let mut run = Experiment { resume, ..experiment(Some(out), epochs) };
            run.ranks = Arc::new(ranks);
            let mut said = 0;
            let first = run.ranks.rank() == 0;
            let outcome = run.run(|_| said += 1).unwrap();
            assert!(first == (said > 0));
            outcome
        };
        let started: Vec<_> = threads::all(size).into_iter().map(|ranks| scope.spawn(move || run(ranks))).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn same(shared: &Outcome, alone: &Outcome) {
    for (a, b) in shared.history.iter().zip(&alone.history) {
        assert!((a.loss - b.loss).abs() < 1e-5 && a.images == b.images && a.test_top1.is_some(), "{a:?}, {b:?}");
    }
    assert_eq!(shared.history.len(), alone.history.len());
    let top1 = |outcome: &Outcome| [&outcome.zero_shot, &outcome.text_classifier, &outcome.tuned].map(|e| e.as_ref().unwrap().top1);
    assert_eq!(top1(shared), top1(alone));
    let (ours, theirs) = (shared.predicted.as_ref().unwrap(), alone.predicted.as_ref().unwrap());
    assert_eq!((&ours.counts, ours.changed), (&theirs.counts, theirs.changed));
    assert_eq!(json!(shared.report.answers), json!(alone.report.answers));
}

#[test]
fn a_shared_run_is_the_run_of_one_process_also_when_another_number_goes_on() {
    let folders = [0, 1].map(|_| tempfile::tempdir().unwrap());
    let alone = experiment(Some(folders[0].path()), 2).run(|_| {}).unwrap();
    let shared = folders[1].path();
    among(2, shared, 1, false);
    let outcomes = among(3, shared, 2, true);
    outcomes.iter().for_each(|outcome| same(outcome, &alone));
    let written = |folder: &Path, name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let classes = |folder: &Path| -> Vec<String> {
        let table = written(folder, "predictions.csv");
        table.lines().map(|line| line.split(',').take(2).collect::<Vec<_>>().join(",")).collect()
    };
    assert_eq!(classes(shared), classes(folders[0].path()));
    assert_eq!(written(shared, HISTORY).lines().count(), 2);
    assert!(shared.join(WEIGHTS).exists() && shared.join(REPORT).exists());
}

/// The signals chose an epoch before the last: such a run can be repeated and extended, also by several processes; where its weights are
/// gone, all of them say so.
#[test]
fn a_run_over_by_signals_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let on = |size: usize, epochs: usize, rate: f64, resume: bool| -> Vec<Result<usize>> {
        std::thread::scope(|scope| {
            let start = |ranks: threads::Thread| {
                let mut run = Experiment { resume, select: Select::Signals, ..experiment(Some(folder.path()), epochs) };
                (run.predictions, run.config.text.epochs, run.config.tune.learning_rate) = (false, 60, rate);
                run.ranks = Arc::new(ranks);
                Ok(run.run(silent)?.report.selection.unwrap().selected)
            };
            let started: Vec<_> = threads::all(size).into_iter().map(|ranks| scope.spawn(move || start(ranks))).collect();
            started.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    };
    let chosen = |rate: f64| on(1, 3, rate, false).remove(0).unwrap();
    let found =
        [0.02, 0.01, 0.03, 0.005, 0.05].into_iter().find_map(|rate| Some((rate, chosen(rate))).filter(|found| (1..3).contains(&found.1)));
    let (rate, epoch) = found.expect("one of these rates makes a later epoch worse than an earlier one");
    for again in [on(1, 3, rate, true), on(2, 3, rate, true), on(1, 4, rate, true)] {
        again.into_iter().for_each(|selected| assert!([epoch, 4].contains(&selected.unwrap())));
    }
    std::fs::remove_file(folder.path().join(SELECTED)).unwrap();
    for lost in on(2, 5, rate, true) {
        assert!(lost.as_ref().is_err_and(|error| error.to_string().contains("run it anew")), "{lost:?}");
    }
}

#[test]
fn processes_that_would_do_something_else_are_refused() {
    let changes: [fn(&mut Experiment); 3] =
        [|run| run.train = run.train.take(59), |run| run.config.tune.learning_rate = 1e-4, |run| run.config.seed = 9];
    for change in changes {
        let refused = |ranks: threads::Thread| {
            let mut run = experiment(None, 1);
            if ranks.rank() == 1 {
                change(&mut run);
            }
            run.ranks = Arc::new(ranks);
            run.run(|_| {}).map(|_| ()).unwrap_err().to_string()
        };
        std::thread::scope(|scope| {
            let started: Vec<_> = threads::all(2).into_iter().map(|ranks| scope.spawn(move || refused(ranks))).collect();
            for error in started.into_iter().map(|thread| thread.join().unwrap()) {
                assert!(error.contains("process 1 has other"), "{error}");
            }
        });
    }
}
