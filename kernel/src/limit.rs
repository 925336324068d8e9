//! How much text a cell may send to the browser: plenty at once, then a steady trickle, then a notice of what was left out.

use std::time::Instant;

/// Bytes that pass at once.
const BURST: f64 = (512 << 10) as f64;
/// Bytes per second after that.
const RATE: f64 = (64 << 10) as f64;
/// The end of what was left out is shown after all: the last lines matter most.
const TAIL: usize = 2000;

#[derive(Debug)]
pub struct Limit {
    budget: f64,
    refilled: Instant,
    lines: usize,
    bytes: usize,
    tail: String,
}

impl Limit {
    pub fn new(now: Instant) -> Self {
        Self { budget: BURST, refilled: now, lines: 0, bytes: 0, tail: String::new() }
    }

    /// What of `text` may be shown. Once something was left out, all is, until half the budget is there again.
    pub fn pass(&mut self, text: String, now: Instant) -> Option<String> {
        self.budget = (self.budget + RATE * now.duration_since(self.refilled).as_secs_f64()).min(BURST);
        self.refilled = now;
        let length = text.len() as f64;
        if self.bytes == 0 && length <= self.budget {
            self.budget -= length;
            return Some(text);
        }
        let mut shown = String::new();
        if self.bytes > 0 && self.budget > BURST / 2.0 {
            shown = self.rest()?;
            if length <= self.budget {
                self.budget -= length;
                return Some(shown + &text);
            }
        }
        if self.bytes == 0 {
            // as many whole lines as still fit
            let fits = floor(&text, self.budget as usize);
            let cut = text[..fits].rfind('\n').map_or(0, |at| at + 1);
            self.budget = 0.0;
            shown += &text[..cut];
            self.leave_out(&text[cut..]);
        } else {
            self.leave_out(&text);
        }
        (!shown.is_empty()).then_some(shown)
    }

    /// The notice and the last lines, if anything was left out.
    pub fn rest(&mut self) -> Option<String> {
        if self.bytes == 0 {
            return None;
        }
        let size = if self.bytes < 1 << 20 { format!("{} kB", self.bytes >> 10) } else { format!("{} MB", self.bytes >> 20) };
        let notice = format!("\n[… about {} lines ({size}) are not shown: a browser would not bear them. The last ones:]\n", self.lines);
        let tail = std::mem::take(&mut self.tail);
        (self.lines, self.bytes) = (0, 0);
        Some(notice + &tail)
    }

    fn leave_out(&mut self, text: &str) {
        self.bytes += text.len();
        self.lines += text.bytes().filter(|byte| *byte == b'\n').count();
        self.tail.push_str(&text[floor(text, text.len().saturating_sub(TAIL))..]);
        let cut = floor(&self.tail, self.tail.len().saturating_sub(TAIL));
        self.tail.drain(..cut);
    }
}

/// The character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_million_lines_become_half_a_megabyte_and_a_notice() {
        let now = Instant::now();
        let mut limit = Limit::new(now);
        let mut shown = String::new();
        for block in 0..1000 {
            let text: String = (0..1000).map(|i| format!("line {} é\n", block * 1000 + i)).collect();
            shown.extend(limit.pass(text, now));
        }
        assert!(shown.len() <= BURST as usize && shown.ends_with('\n'));
        let rest = limit.rest().unwrap();
        assert!(rest.contains("MB) are not shown") && rest.ends_with("line 999999 é\n"), "{rest}");
        assert!(limit.rest().is_none());
    }

    #[test]
    fn a_quiet_cell_is_never_cut_and_a_pause_refills() {
        let start = Instant::now();
        let mut limit = Limit::new(start);
        for second in 0..100 {
            let text = "x".repeat(40_000);
            assert_eq!(limit.pass(text.clone(), start + Duration::from_secs(second)), Some(text));
        }
        assert!(limit.pass("y".repeat(600_000), start + Duration::from_secs(100)).is_none());
        let later = limit.pass("after".into(), start + Duration::from_secs(110)).unwrap();
        assert!(later.contains("not shown") && later.ends_with("after"));
    }
}
