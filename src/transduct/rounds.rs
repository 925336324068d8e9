//! Progress of a method's rounds, and a stop between two.

use std::time::Instant;

use crate::error::Result;
use crate::progress::{Event, Stage, check_interrupt};

/// A stage of some rounds.
pub(super) struct Rounds<'a> {
    stage: Stage,
    total: usize,
    done: usize,
    started: Instant,
    events: &'a mut dyn FnMut(&Event),
}

impl<'a> Rounds<'a> {
    pub fn new(stage: &str, total: usize, events: &'a mut dyn FnMut(&Event)) -> Self {
        let stage = Stage::from(stage);
        events(&Event::Started { stage: stage.clone(), total, unit: "rounds".into() });
        Self { stage, total, done: 0, started: Instant::now(), events }
    }

    /// One more is done.
    pub fn done(&mut self) -> Result<()> {
        self.done += 1;
        (self.events)(&Event::Advanced { stage: self.stage.clone(), done: self.done, total: self.total, loss: None, accuracy: None });
        check_interrupt("transduction")
    }

    pub fn finish(self) {
        (self.events)(&Event::Finished { stage: self.stage, seconds: self.started.elapsed().as_secs_f64() });
    }
}
