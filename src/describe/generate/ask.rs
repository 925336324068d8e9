//! Asking: many requests in flight, each answer straight into the journal, nothing asked twice.

use std::collections::HashSet;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::generator::Generator;
use super::journal::Journal;
use super::plan::Plan;
use super::request::{Answer, Key, Request};
use crate::error::{Error, Result};
use crate::progress::{Event, interrupted, no_thread, watched};

/// Consecutive failures after which a run stops: then it is not the single request that is at fault.
const IN_A_ROW: usize = 16;

/// The same of requests that are refused for what they ask: all of some classes may be.
const REFUSED_IN_A_ROW: usize = 256;

/// How often a generator is asked for news.
const TICK: Duration = Duration::from_millis(250);

/// Each request in flight takes a thread, and no server answers more at a time.
const MOST_AT_ONCE: usize = 1024;

/// What became of the requests of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// Requests of the plan.
    pub requests: usize,
    /// Answered by the journal, without asking: earlier runs, and requests that are identical.
    pub known: usize,
    /// Answered now.
    pub answered: usize,
    /// Without a usable answer after all retries; the next run asks them again.
    pub unanswered: usize,
    /// Why the first of them failed.
    pub first_failure: Option<String>,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, known, answered, unanswered, first_failure } = self;
        write!(f, "{requests} requests: {known} known, {answered} answered, {unanswered} unanswered")?;
        first_failure.as_ref().map_or(Ok(()), |why| write!(f, " ({why})"))
    }
}

/// Asks everything of `plan` that the journal does not know, up to `concurrency` requests at a time.
///
/// # Errors
/// The generator's, if going on makes no sense; [`Error::Interrupted`] after [`interrupt`](crate::progress::interrupt);
/// both after the requests in flight have ended, so that nothing paid for is lost, and saying how to go on.
pub fn ask(generator: &dyn Generator, plan: &Plan, journal: &mut Journal, concurrency: usize, events: impl FnMut(&Event)) -> Result<Asked> {
    if !(1..=MOST_AT_ONCE).contains(&concurrency) {
        return Err(Error::Usage(format!("--concurrency must lie in 1 to {MOST_AT_ONCE}, got {concurrency}")));
    }
    let mut events = watched(events);
    let (missing, earlier) = missing(plan, generator.model(), journal);
    let mut asked = Asked { requests: plan.len(), known: plan.len() - missing.len(), ..Asked::default() };
    if missing.is_empty() {
        return Ok(asked);
    }
    if earlier > 0 {
        generator.known();
    }
    let (stage, total, started) = ("asking", missing.len(), Instant::now());
    events(&Event::Started { stage: stage.into(), total, unit: "answers".into() });
    let place = journal.path().display().to_string();
    let journal = Mutex::new(journal);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    // bounded, so that slow listeners slow the workers down instead of filling memory
    let (sender, outcomes) = sync_channel::<Result<()>>(concurrency);
    let mut fatal = None;
    std::thread::scope(|scope| {
        for worker in 0..concurrency.min(total) {
            let sender = sender.clone();
            let (missing, journal, next, stop) = (&missing, &journal, &next, &stop);
            let work = move || {
                while !stop.load(Ordering::SeqCst) && !interrupted() {
                    let Some(&i) = missing.get(next.fetch_add(1, Ordering::SeqCst)) else { break };
                    let request = plan.request(i as usize);
                    let outcome = generator.generate(&request).and_then(|answer| {
                        // a panic elsewhere cannot have left the journal half-written: append is one write
                        let mut journal = journal.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        journal.append(&request, generator.model(), &answer)
                    });
                    if matches!(&outcome, Err(error) if !matches!(error, Error::Unanswered(_) | Error::Refused(_))) {
                        stop.store(true, Ordering::SeqCst);
                    }
                    if sender.send(outcome).is_err() {
                        break;
                    }
                }
            };
            if let Err(e) = std::thread::Builder::new().spawn_scoped(scope, work) {
                // if the system gives no more threads, fewer do
                fatal = (worker == 0).then(|| Error::io("a thread for requests", e));
                break;
            }
        }
        drop(sender);
        let (mut in_a_row, mut refused) = (0, 0);
        loop {
            let outcome = outcomes.recv_timeout(TICK);
            generator.news().into_iter().for_each(|line| events(&Event::Notice(line)));
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            match outcome {
                Ok(()) => (asked.answered, in_a_row, refused) = (asked.answered + 1, 0, 0),
                Err(error @ (Error::Unanswered(_) | Error::Refused(_))) => {
                    let row = if matches!(error, Error::Refused(_)) { &mut refused } else { &mut in_a_row };
                    *row += 1;
                    asked.unanswered += 1;
                    let why = error.to_string();
                    if (in_a_row >= IN_A_ROW.max(concurrency) || refused >= REFUSED_IN_A_ROW.max(concurrency)) && fatal.is_none() {
                        stop.store(true, Ordering::SeqCst);
                        let row = in_a_row.max(refused);
                        fatal = Some(Error::Llm(format!(
                            "{row} requests in a row got no answer, the last because {why}: check that this is the right server and model"
                        )));
                    }
                    asked.first_failure.get_or_insert(why);
                }
                Err(error) => drop(fatal.get_or_insert(error)),
            }
            let done = asked.answered + asked.unanswered;
            events(&Event::Advanced { stage: stage.into(), done, total, loss: None, accuracy: None });
        }
    });
    events(&Event::Finished { stage: stage.into(), seconds: started.elapsed().as_secs_f64() });
    let have = earlier + asked.answered;
    let kept = format!("{have} of {} answers are in {place}: the same command goes on from there", plan.len());
    match fatal {
        Some(Error::Interrupted(_)) => Err(Error::Interrupted(format!("interrupted: {kept}"))),
        Some(Error::Llm(why)) if have > 0 => Err(Error::Llm(format!("{why}; {kept}"))),
        Some(error) => Err(error),
        None if asked.answered + asked.unanswered < total => Err(Error::Interrupted(format!("interrupted: {kept}"))),
        None if asked.answered + asked.known == 0 => {
            let why = asked.first_failure.unwrap_or_default();
            Err(Error::Llm(format!(
                "none of {total} requests got an answer, the first because {why}: check that this is the right server and model"
            )))
        }
        None => Ok(asked),
    }
}

/// One request by itself, with the generator's news while it is waited for.
///
/// # Errors
/// As [`Generator::generate`].
pub fn ask_once(generator: &dyn Generator, request: &Request, mut events: impl FnMut(&Event)) -> Result<Answer> {
    std::thread::scope(|scope| {
        let answer = std::thread::Builder::new().spawn_scoped(scope, || generator.generate(request));
        let answer = answer.map_err(|e| no_thread("asking the language model", &e))?;
        while !answer.is_finished() {
            std::thread::sleep(Duration::from_millis(20));
            generator.news().into_iter().for_each(|line| events(&Event::Notice(line)));
        }
        answer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The requests that have to be asked, each key once (4 bytes each), and how many the journal answers already.
fn missing(plan: &Plan, model: &str, journal: &Journal) -> (Vec<u32>, usize) {
    let (mut seen, mut earlier) = (HashSet::<Key>::new(), 0);
    let unknown = |i: &u32| {
        let key = plan.request(*i as usize).key(model);
        let known = journal.contains(key);
        earlier += usize::from(known);
        !known && seen.insert(key)
    };
    let missing = (0..plan.len() as u32).filter(unknown).collect();
    (missing, earlier)
}
