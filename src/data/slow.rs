//! [`Slow`]: progress of a listing, told once it has taken some seconds.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::progress::{Event, check_interrupt};

/// Shorter listings are over before anybody wonders.
const SILENT: Duration = Duration::from_secs(3);

/// How far a listing is, in folders, shards or files.
pub(crate) struct Slow<'a> {
    events: &'a mut dyn FnMut(&Event),
    stage: &'static str,
    unit: &'static str,
    total: usize,
    started: Instant,
    silent: Duration,
    told: bool,
}

impl<'a> Slow<'a> {
    pub(crate) fn new(events: &'a mut dyn FnMut(&Event), stage: &'static str, total: usize, unit: &'static str) -> Self {
        Self { events, stage, unit, total, started: Instant::now(), silent: SILENT, told: false }
    }

    /// So many are done.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::Error::Interrupted) after an interrupt.
    pub(crate) fn done(&mut self, done: usize) -> Result<()> {
        let (elapsed, total) = (self.started.elapsed(), self.total);
        if !self.told && elapsed >= self.silent && done < total {
            self.told = true;
            (self.events)(&Event::Started { stage: self.stage.into(), total, unit: self.unit.into() });
        }
        if self.told {
            (self.events)(&Event::Advanced { stage: self.stage.into(), done, total, loss: None, accuracy: None });
            if done >= total {
                (self.events)(&Event::Finished { stage: self.stage.into(), seconds: elapsed.as_secs_f64() });
            }
        }
        check_interrupt(self.stage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_listing_says_nothing_and_a_long_one_how_far_it_is() {
        let told = |silent: Duration| {
            let mut told = Vec::new();
            let mut events = |event: &Event| told.push(event.clone());
            let mut slow = Slow { silent, ..Slow::new(&mut events, "listing pictures", 2, "folders") };
            (1..=2).for_each(|done| slow.done(done).unwrap());
            told
        };
        assert!(told(Duration::from_secs(1000)).is_empty());
        let long = told(Duration::ZERO);
        assert!(matches!(
            long[..],
            [Event::Started { total: 2, .. }, Event::Advanced { done: 1, .. }, Event::Advanced { .. }, Event::Finished { .. }]
        ));
    }
}
