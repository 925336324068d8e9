//! Waiting between tries: exponential, with jitter, as long as the server asks for, ended by an interrupt.

use std::time::{Duration, SystemTime};

use super::request::Request;
use crate::error::Result;
use crate::progress::pause;
use crate::rng::Rng;

/// The wait before the first retry.
const FIRST: f32 = 0.5;
/// The longest wait that a server did not ask for.
const LONGEST: f32 = 30.0;
/// The longest wait that a server may ask for.
const HOUR: f64 = 3600.0;
/// What an interrupt interrupts.
pub(super) const WAITING: &str = "waiting for a server";

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

    /// The next wait, at least as long as the server asked for. One that asks for none, or for a moment that is over by this
    /// machine's clock, is not asked again at once.
    fn next(&mut self, asked: Option<Duration>) -> Duration {
        let longest = (FIRST * 2f32.powi(self.tries.min(20) as i32)).min(LONGEST);
        self.tries += 1;
        match asked {
            // `Retry-After: 5` keeps to the five seconds, then spreads
            Some(asked) if !asked.is_zero() => asked + Duration::from_secs_f32(self.rng.range(0.0, FIRST)),
            _ => Duration::from_secs_f32(longest * self.rng.range(0.5, 1.0)),
        }
    }

    /// Whether there is a next try.
    pub(super) fn is_left(&self) -> bool {
        self.tries < self.retries
    }

    /// Waits as long as a server asks for, and a moment more; that uses up no try.
    pub(super) fn again(&mut self, asked: Option<Duration>) -> Result<bool> {
        let tries = self.tries;
        pause(WAITING, self.next(asked))?;
        self.tries = tries;
        Ok(true)
    }

    /// Waits for the next try; false if there is none left.
    pub(super) fn wait(&mut self, asked: Option<Duration>) -> Result<bool> {
        if !self.is_left() {
            return Ok(false);
        }
        pause(WAITING, self.next(asked))?;
        Ok(true)
    }
}

/// What `Retry-After` asks for: seconds, or a moment as HTTP writes it ("Sun, 06 Nov 1994 08:49:37 GMT").
pub(super) fn wait_of(header: &str, now: SystemTime) -> Option<Duration> {
    let seconds = match header.trim().parse::<f64>() {
        Ok(seconds) => seconds,
        Err(_) => seconds_of_date(header)? - now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64(),
    };
    seconds.is_finite().then(|| Duration::from_secs_f64(seconds.clamp(0.0, HOUR)))
}

/// Seconds since 1970 of an HTTP date.
fn seconds_of_date(date: &str) -> Option<f64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let parts: Vec<&str> = date.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = parts.as_slice() else { return None };
    let (day, month) = (day.parse::<i64>().ok()?, MONTHS.iter().position(|name| name == month)?);
    let year = year.parse::<i64>().ok().filter(|year| (1970..10_000).contains(year))?;
    let clock = time.split(':').map(|part| part.parse::<i64>().ok()).collect::<Option<Vec<_>>>()?;
    let &[hour, minute, second] = clock.as_slice() else { return None };
    let leap_days = |years: i64| years / 4 - years / 100 + years / 400;
    let leap = leap_days(year) > leap_days(year - 1) && month > 1;
    let days = 365 * (year - 1970) + leap_days(year - 1) - leap_days(1969) + BEFORE.get(month)? + i64::from(leap) + day - 1;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) as f64)
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
        assert!(backoff.next(Some(Duration::ZERO)) >= Duration::from_millis(500), "the second wait lies in 0.5 to 1 s");
        assert!(!backoff.wait(None).unwrap());
    }

    #[test]
    fn retry_after_in_seconds_or_as_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 7); // `date -u -d @784111777`
        let wait = |header: &str| wait_of(header, now).map(|wait| wait.as_secs_f64());
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT"), Some(7.0));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:20 GMT"), Some(0.0));
        assert_eq!(wait("Fri, 31 Dec 9999 23:59:59 GMT"), Some(3600.0));
        assert_eq!((wait(" 2 "), wait("0.5"), wait("-1"), wait("1e99")), (Some(2.0), Some(0.5), Some(0.0), Some(3600.0)));
        for odd in ["", "soon", "nan", "inf", "Sun, 06 Nov 1994", "Sun, 06 Nox 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49 GMT"] {
            assert_eq!(wait(odd), None, "{odd}");
        }
        for (date, seconds) in [
            ("Thu, 29 Feb 2024 12:00:00 GMT", 1_709_208_000.0),
            ("Fri, 01 Mar 2024 00:00:00 GMT", 1_709_251_200.0),
            ("Mon, 01 Mar 2100 00:00:00 GMT", 4_107_542_400.0),
        ] {
            assert_eq!(seconds_of_date(date), Some(seconds), "{date}");
        }
    }
}
