//! Many answers in one pass of the network: texts join and leave between two tokens.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use super::memory::Memory;
use super::network::Network;
use crate::describe::generate::request::Finish;
use crate::error::{Error, Result};
use crate::progress::check_interrupt;

/// Texts in one pass. More would not be faster, and some processors change their kernel, and with it the rounding, at 32.
pub(super) const MOST: usize = 31;

/// Chooses the next token from the logits.
pub(super) type Pick = Box<dyn FnMut(&[f32]) -> u32 + Send>;
/// Sees all tokens so far and says whether the answer ends here.
pub(super) type Done = Box<dyn FnMut(&[u32]) -> Result<bool> + Send>;

/// A prompt to be continued by at most `count` tokens (both at least 1).
pub(super) struct Job {
    pub(super) prompt: Vec<u32>,
    pub(super) count: usize,
    pub(super) pick: Pick,
    pub(super) done: Done,
}

type Outcome = Result<(Vec<u32>, Finish)>;

struct Text {
    ticket: u64,
    job: Job,
    memory: Memory,
    answer: Vec<u32>,
}

impl Text {
    /// The next token; an outcome if it was the last.
    fn take(&mut self, logits: &[f32], ends: &[u32]) -> Option<Outcome> {
        if !logits.iter().all(|z| z.is_finite()) {
            return Some(Err(Error::Llm(
                "the local model fails: it computes what is not a number: its weights are broken: fetch it again".into(),
            )));
        }
        let token = (self.job.pick)(logits);
        if ends.contains(&token) {
            return Some(Ok((std::mem::take(&mut self.answer), Finish::Stop)));
        }
        self.answer.push(token);
        match (self.job.done)(&self.answer) {
            Ok(false) if self.answer.len() < self.job.count => None,
            Ok(stop) => Some(Ok((std::mem::take(&mut self.answer), if stop { Finish::Stop } else { Finish::Length }))),
            Err(error) => Some(Err(error)),
        }
    }
}

/// What a pass works on.
struct Work {
    network: Network,
    texts: Vec<Text>,
    /// The last prompt that was read, what was kept of it, and the logits behind it.
    read: Option<(Vec<u32>, Memory, Vec<f32>)>,
}

#[derive(Default)]
struct Queue {
    tickets: u64,
    waiting: Vec<(u64, Job)>,
    finished: HashMap<u64, Outcome>,
    /// One of the threads that wait makes the passes for all.
    driven: bool,
}

/// The network with all that is under way. [`run`](Self::run) may be called from many threads.
pub(super) struct Engine {
    ends: Vec<u32>,
    queue: Mutex<Queue>,
    turn: Condvar,
    work: Mutex<Work>,
}

impl Engine {
    /// `ends`: tokens that end an answer.
    pub(super) fn new(network: Network, ends: Vec<u32>) -> Self {
        let work = Mutex::new(Work { network, texts: Vec::new(), read: None });
        Self { ends, queue: Mutex::default(), turn: Condvar::new(), work }
    }

    /// Waits for the answer; whoever waits first computes, for everyone.
    pub(super) fn run(&self, job: Job) -> Outcome {
        let mut queue = lock(&self.queue);
        let ticket = queue.tickets;
        queue.tickets += 1;
        queue.waiting.push((ticket, job));
        loop {
            if let Some(outcome) = queue.finished.remove(&ticket) {
                return outcome;
            }
            if queue.driven {
                queue = self.turn.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            queue.driven = true;
            drop(queue);
            let driver = Driver(self);
            self.pass();
            drop(driver);
            queue = lock(&self.queue);
        }
    }

    /// One token for every text.
    fn pass(&self) {
        let mut work = lock(&self.work);
        let new: Vec<(u64, Job)> = {
            let mut queue = lock(&self.queue);
            let room = MOST.saturating_sub(work.texts.len()).min(queue.waiting.len());
            queue.waiting.drain(..room).collect()
        };
        let mut tickets: Vec<u64> = work.texts.iter().map(|text| text.ticket).collect();
        tickets.extend(new.iter().map(|(ticket, _)| *ticket));
        let outcomes = work.pass(new, &self.ends).unwrap_or_else(|error| {
            // a fault of the network is everyone's
            work.texts.clear();
            work.read = None;
            tickets.into_iter().map(|ticket| (ticket, Err(same(&error)))).collect()
        });
        lock(&self.queue).finished.extend(outcomes);
    }
}

impl Work {
    fn pass(&mut self, new: Vec<(u64, Job)>, ends: &[u32]) -> Result<Vec<(u64, Outcome)>> {
        check_interrupt("the local model")?;
        let mut outcomes = Vec::new();
        if !self.texts.is_empty() {
            let tokens: Vec<u32> = self.texts.iter().filter_map(|text| text.answer.last().copied()).collect();
            let mut memories: Vec<(&mut Memory, usize)> = self.texts.iter_mut().map(|text| (&mut text.memory, 1)).collect();
            let logits = self.network.forward(&tokens, &mut memories)?.to_vec2::<f32>()?; // [texts, vocabulary]
            let taken: Vec<Option<Outcome>> =
                self.texts.par_iter_mut().zip(logits).map(|(text, logits)| text.take(&logits, ends)).collect();
            let mut left = Vec::with_capacity(self.texts.len());
            for (text, outcome) in self.texts.drain(..).zip(taken) {
                match outcome {
                    Some(outcome) => outcomes.push((text.ticket, outcome)),
                    None => left.push(text),
                }
            }
            self.texts = left;
        }
        for (ticket, job) in new {
            let mut text = Text { ticket, memory: self.begin(&job.prompt)?, job, answer: Vec::new() };
            let logits = self.read.as_ref().map_or(&[][..], |(_, _, logits)| logits);
            match text.take(logits, ends) {
                Some(outcome) => outcomes.push((ticket, outcome)),
                None => self.texts.push(text),
            }
        }
        Ok(outcomes)
    }

    /// Reads a prompt, by itself, so that its numbers are always the same; completions of one query read it once.
    fn begin(&mut self, prompt: &[u32]) -> Result<Memory> {
        if self.read.as_ref().is_none_or(|(known, _, _)| known != prompt) {
            let mut memory = self.network.memory()?;
            let logits = self.network.forward(prompt, &mut [(&mut memory, prompt.len())])?.squeeze(0)?.to_vec1::<f32>()?;
            self.read = Some((prompt.to_vec(), memory, logits));
        }
        match &self.read {
            Some((_, memory, _)) => Ok(memory.fork()?),
            None => Ok(self.network.memory()?), // never: it was just read
        }
    }
}

/// Hands the turn on, also where a pass panicked.
struct Driver<'a>(&'a Engine);

impl Drop for Driver<'_> {
    fn drop(&mut self) {
        lock(&self.0.queue).driven = false;
        self.0.turn.notify_all();
    }
}

fn same(error: &Error) -> Error {
    match error {
        Error::Interrupted(text) => Error::Interrupted(text.clone()),
        other => Error::Llm(format!("the local model fails: {other}")),
    }
}

/// What a panic elsewhere left behind is a list of texts, and whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
