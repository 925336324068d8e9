//! How long work of several stages will still take: "tuning 3/16" is the third stage of 16.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Estimates from the rate so far; stages of other kinds in between (an evaluation after each epoch) count as part of it.
#[derive(Default)]
pub struct TimeLeft {
    kinds: HashMap<String, Seen>,
}

struct Seen {
    first: (Instant, f64),
    last: f64,
}

impl TimeLeft {
    /// What is left of all stages of this kind; `None` at the first word, which is no rate yet.
    pub fn after(&mut self, stage: &str, done: usize, total: usize) -> Option<Duration> {
        self.at(Instant::now(), stage, done, total)
    }

    fn at(&mut self, now: Instant, stage: &str, done: usize, total: usize) -> Option<Duration> {
        let share = share(stage, done, total);
        let (kind, ..) = counted(stage);
        match self.kinds.get_mut(kind) {
            Some(seen) if seen.last <= share => {
                seen.last = share;
                let (began, before) = seen.first;
                let rate = now.duration_since(began).as_secs_f64() / (share - before);
                Duration::try_from_secs_f64(rate * (1.0 - share)).ok()
            }
            // the first, or the same kind of work once more
            _ => {
                self.kinds.insert(kind.into(), Seen { first: (now, share), last: share });
                None
            }
        }
    }
}

/// How much of all stages of this kind is done, 0 to 1.
pub fn share(stage: &str, done: usize, total: usize) -> f64 {
    let (_, at, stages) = counted(stage);
    ((at - 1) as f64 + (done as f64 / total.max(1) as f64).min(1.0)) / stages as f64
}

/// "tuning 3/16" → ("tuning", 3, 16); a stage without a count is the only one of its kind.
pub fn counted(stage: &str) -> (&str, usize, usize) {
    let count = |(kind, count): (&'_ str, &str)| {
        let (at, stages) = count.split_once('/')?;
        let (at, stages) = (at.parse().ok()?, stages.parse().ok()?);
        (1 <= at && at <= stages).then_some((kind.len(), at, stages))
    };
    stage.rsplit_once(' ').and_then(count).map_or((stage, 1, 1), |(end, at, stages)| (&stage[..end], at, stages))
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
    fn stages_are_counted() {
        assert_eq!(counted("tuning 3/16"), ("tuning", 3, 16));
        for alone in ["text classifier", "a b/c", "a 0/2", "a 3/2", "3/16"] {
            assert_eq!(counted(alone), (alone, 1, 1));
        }
        assert_eq!((share("tuning 3/4", 5, 10), share("test", 1, 0)), (0.625, 1.0));
    }

    #[test]
    fn what_is_left_spans_all_stages() {
        let (mut left, start) = (TimeLeft::default(), Instant::now());
        let mut at = |seconds, stage, done| left.at(start + Duration::from_secs(seconds), stage, done, 10);
        assert_eq!(at(0, "tuning 1/4", 2), None); // resumed in the middle
        assert_eq!(at(2, "test", 1), None);
        let ten = at(3, "tuning 1/4", 5).unwrap().as_secs_f64(); // 3 of 40 steps in 3 s
        assert!((ten - 35.0).abs() < 1e-6, "{ten}");
        let two = at(38, "tuning 4/4", 10).unwrap();
        assert_eq!(two, Duration::ZERO);
        assert_eq!(at(50, "tuning 1/4", 1), None); // a second training
    }

    #[test]
    fn times_read_well() {
        let words = [0.4, 59.6, 200.0, 3599.0, 7500.0].map(|seconds| in_words(Duration::from_secs_f64(seconds)));
        assert_eq!(words, ["0 s", "1 min 0 s", "3 min 20 s", "59 min", "2 h 5 min"]);
    }
}
