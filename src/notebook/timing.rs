//! `%timeit`: how long something takes, measured often enough to be told.

use std::time::{Duration, Instant};

/// Runs of which mean and spread are taken.
const RUNS: usize = 7;
/// What one run should last.
const LONG_ENOUGH: Duration = Duration::from_millis(200);

/// Times `f`: seven runs, each with enough repetitions to last 0.2 s; prints mean ± standard deviation per repetition.
pub fn timeit<T>(mut f: impl FnMut() -> T) {
    let mut repetitions = 1u32;
    let mut run = |repetitions: u32| {
        let started = Instant::now();
        (0..repetitions).for_each(|_| drop(std::hint::black_box(f())));
        started.elapsed()
    };
    let mut took = run(1);
    while took < LONG_ENOUGH / 2 && repetitions < 1 << 26 {
        repetitions *= if took < LONG_ENOUGH / 20 { 10 } else { 2 };
        took = run(repetitions);
    }
    let runs = if took > 5 * LONG_ENOUGH { 3 } else { RUNS };
    let times: Vec<f64> = (0..runs).map(|_| run(repetitions).as_secs_f64() / f64::from(repetitions)).collect();
    let mean = times.iter().sum::<f64>() / runs as f64;
    let spread = (times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / runs as f64).sqrt();
    println!("{} ± {} each (mean and standard deviation of {runs} runs of {repetitions})", seconds(mean), seconds(spread));
}

fn seconds(value: f64) -> String {
    let (scale, unit) = [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")].into_iter().find(|(scale, _)| value >= *scale).unwrap_or((1e-9, "ns"));
    let value = value / scale;
    if value >= 100.0 { format!("{value:.0} {unit}") } else { format!("{value:.3} {unit}") }
}

#[cfg(test)]
mod tests {
    #[test]
    fn units_fit_the_size() {
        let shown = [1.5, 0.0123, 4.5e-6, 3e-9].map(super::seconds);
        assert_eq!(shown, ["1.500 s", "12.300 ms", "4.500 µs", "3.000 ns"]);
    }
}
