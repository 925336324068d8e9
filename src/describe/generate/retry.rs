//! Waiting between tries: exponential, with jitter, ended by an interrupt.

use std::time::{Duration, Instant};

use super::request::Request;
use crate::error::Result;
use crate::progress::check_interrupt;
use crate::rng::Rng;

/// The wait before the first retry.
const FIRST: f32 = 0.5;
/// The longest wait that a server did not ask for.
const LONGEST: f32 = 30.0;
/// How often an interrupt is looked for.
const SLICE: Duration = Duration::from_millis(50);

/// Waits of one request: 0.5 s, 1 s, 2 s, … up to 30 s, each times a random factor in [0.5, 1) that differs from request
/// to request, so that a server which stumbled is not met by all at once.
pub(super) struct Backoff {
    rng: Rng,
    tries: usize,
    retries: usize,
}

impl Backoff {
    pub(super) fn new(request: &Request, retries: usize) -> Self {
        let key = request.key("").0;
        Self { rng: Rng::new(key as u64 ^ (key >> 64) as u64), tries: 0, retries }
    }

    /// The next wait, at least as long as the server asked for.
    fn next(&mut self, asked: Option<Duration>) -> Duration {
        let longest = (FIRST * 2f32.powi(self.tries.min(20) as i32)).min(LONGEST);
        self.tries += 1;
        match asked {
            // `Retry-After: 5` keeps to the five seconds, then spreads
            Some(asked) if !asked.is_zero() => asked + Duration::from_secs_f32(self.rng.range(0.0, FIRST)),
            Some(_) => Duration::ZERO,
            None => Duration::from_secs_f32(longest * self.rng.range(0.5, 1.0)),
        }
    }

    /// Waits for the next try; false where there is none left.
    pub(super) fn wait(&mut self, asked: Option<Duration>) -> Result<bool> {
        if self.tries >= self.retries {
            return Ok(false);
        }
        let end = Instant::now() + self.next(asked);
        loop {
            check_interrupt("waiting for a server")?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(true);
            }
            std::thread::sleep(left.min(SLICE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe::generate::Settings;

    #[test]
    fn waits_double_with_jitter_and_keep_to_what_the_server_asks() {
        let waits = |query: &str| {
            let mut backoff = Backoff::new(&Request::new(query, &Settings::chat()), 10);
            (0..10).map(|_| backoff.next(None).as_secs_f32()).collect::<Vec<_>>()
        };
        for (i, wait) in waits("a").into_iter().enumerate() {
            let longest = (0.5 * 2f32.powi(i as i32)).min(30.0);
            assert!((0.5 * longest..=longest).contains(&wait), "{i}: {wait}");
        }
        assert_ne!(waits("a"), waits("b"));
        let mut backoff = Backoff::new(&Request::new("a", &Settings::chat()), 2);
        let asked = backoff.next(Some(Duration::from_secs(7)));
        assert!(asked >= Duration::from_secs(7) && asked < Duration::from_millis(7501));
        assert!(backoff.wait(Some(Duration::ZERO)).unwrap() && !backoff.wait(None).unwrap());
    }
}
