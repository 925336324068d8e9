//! A run on kept pictures and views gives the report of a run that makes them anew each time.

use lafter::clip::Clip;
use lafter::data::{Dataset, PictureCache, scenes};
use lafter::experiment::{Experiment, Outcome};
use lafter::progress;

fn run(keep: impl Fn(Dataset) -> Dataset) -> Outcome {
    let (train, test) = scenes::demo_sets(2);
    let mut experiment = Experiment::demo(Clip::demo().unwrap(), 1).unwrap();
    (experiment.train, experiment.test) = (keep(train.take(100)), keep(test.take(60)));
    experiment.config.text.epochs = 10;
    experiment.config.image.epochs = 2;
    experiment.run(progress::silent).unwrap()
}

#[test]
fn the_report_is_the_same_with_and_without_a_cache_and_with_one_that_is_too_small() {
    let report = |outcome: &Outcome| outcome.report.without_timing().to_json().unwrap();
    let losses = |outcome: &Outcome| outcome.history.iter().map(|epoch| epoch.loss.to_bits()).collect::<Vec<_>>();
    let without = run(|set| set);
    for limit in [1 << 30, 200_000, 0] {
        let cache = PictureCache::new(limit);
        let with = run(|set| set.cached_in(&cache));
        assert_eq!(report(&with), report(&without), "limit {limit}");
        assert_eq!(losses(&with), losses(&without), "limit {limit}");
        assert!(cache.used() <= limit && (cache.used() > 0) == (limit > 0), "{cache:?}");
    }
}
