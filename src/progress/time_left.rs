//! How long work of several parts will still take.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Stage;

/// Estimates from the rate so far; other stages in between (an evaluation after each epoch) count as part of it.
#[derive(Default)]
pub struct TimeLeft {
    stages: HashMap<String, Seen>,
}

struct Seen {
    first: (Instant, f64),
    last: f64,
}

impl TimeLeft {
    /// What is left of all parts of this stage; `None` at the first call, which gives no rate yet.
    pub fn after(&mut self, stage: &Stage, done: usize, total: usize) -> Option<Duration> {
        self.at(Instant::now(), stage, done, total)
    }

    fn at(&mut self, now: Instant, stage: &Stage, done: usize, total: usize) -> Option<Duration> {
        let share = stage.share(done, total);
        match self.stages.get_mut(&stage.name) {
            Some(seen) if seen.last <= share => {
                seen.last = share;
                let (began, before) = seen.first;
                let rate = now.duration_since(began).as_secs_f64() / (share - before);
                Duration::try_from_secs_f64(rate * (1.0 - share)).ok()
            }
            // the first, or the same work once more
            _ => {
                self.stages.insert(stage.name.clone(), Seen { first: (now, share), last: share });
                None
            }
        }
    }
}

/// "45 s", "3 min 20 s", "2 h 5 min".
pub fn in_words(time: Duration) -> String {
    match time.as_secs_f64().round() as u64 {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds @ 600..3600 => format!("{} min", seconds / 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_spans_all_parts() {
        let (mut left, start) = (TimeLeft::default(), Instant::now());
        let mut at = |seconds, stage, done| left.at(start + Duration::from_secs(seconds), &stage, done, 10);
        let tuning = |part| Stage::part("tuning", part, 4);
        assert_eq!(at(0, tuning(1), 2), None); // resumed in the middle
        assert_eq!(at(2, "test".into(), 1), None);
        let ten = at(3, tuning(1), 5).unwrap().as_secs_f64(); // 3 of 40 steps in 3 s
        assert!((ten - 35.0).abs() < 1e-6, "{ten}");
        let two = at(38, tuning(4), 10).unwrap();
        assert_eq!(two, Duration::ZERO);
        assert_eq!(at(50, tuning(1), 1), None); // a second training
    }

    #[test]
    fn times_read_well() {
        let words = [0.4, 59.6, 200.0, 3599.0, 7500.0].map(|seconds| in_words(Duration::from_secs_f64(seconds)));
        assert_eq!(words, ["0 s", "1 min 0 s", "3 min 20 s", "59 min", "2 h 5 min"]);
    }
}
