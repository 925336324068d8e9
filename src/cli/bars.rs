//! Progress events as bars on a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lafter::progress::{Event, TimeLeft, in_words};
use lafter::ranks::Ranks;

use super::say::note;

/// Draws one bar per stage on standard error; silent if `quiet` or without a terminal; notices remain.
pub struct Bars {
    bar: Option<ProgressBar>,
    left: TimeLeft,
    quiet: bool,
    /// Whether not even notices are shown.
    mute: bool,
}

impl Bars {
    pub fn new(quiet: bool) -> Self {
        Self { bar: None, left: TimeLeft::default(), quiet, mute: false }
    }

    /// Of a process that shares a run, in which the first alone speaks.
    pub fn of(ranks: &dyn Ranks, quiet: bool) -> Self {
        Self { mute: ranks.rank() > 0, ..Self::new(quiet) }
    }

    /// Whether this process speaks.
    pub fn speaks(&self) -> bool {
        !self.mute
    }

    pub fn show(&mut self, event: &Event) {
        match event {
            _ if self.mute => return,
            Event::Notice(_) => {}
            _ if self.quiet => return,
            _ => {}
        }
        match event {
            Event::Started { stage, total, unit } => {
                let bar = ProgressBar::with_draw_target(Some(*total as u64), ProgressDrawTarget::stderr());
                let counts = match unit.as_str() {
                    "bytes" => "{bytes}/{total_bytes}  {bytes_per_sec}".to_string(),
                    unit => format!("{{pos}}/{{len}} {unit}  {{per_sec}}"),
                };
                let template = format!("{{prefix:20}} {{bar:30}} {counts}  {{msg}}");
                bar.set_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()));
                bar.set_prefix(stage.to_string());
                self.bar = Some(bar);
            }
            Event::Advanced { stage, done, total, .. } => {
                if let Some(bar) = &self.bar {
                    let begins = bar.position() == 0;
                    bar.set_position(*done as u64);
                    if begins {
                        bar.reset_eta(); // what was done before is no speed
                    }
                    let left = self.left.after(stage, *done, *total).map(|left| format!("{} left", in_words(left))); // of all parts
                    bar.set_message(left.into_iter().chain(event.measures()).collect::<Vec<_>>().join("  "));
                }
            }
            Event::Notice(text) => match &self.bar {
                Some(bar) => bar.suspend(|| note(format_args!("note: {text}"))),
                None => note(format_args!("note: {text}")),
            },
            Event::Finished { stage, seconds } => {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                    note(format_args!("{stage:20} {seconds:.1} s"));
                }
            }
        }
    }
}
