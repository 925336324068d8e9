//! Progress events as one updating bar per cell and one updating curve per kind of training.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::display::{Display, ForNow, Html, display};
use crate::plot::{Figure, Panel, Series, panels};
use crate::progress::{Event, Stage, TimeLeft, in_words};

/// Between two redrawn bars.
const BAR_EVERY: Duration = Duration::from_millis(100);
/// Between two redrawn curves, which are larger.
const CURVE_EVERY: Duration = Duration::from_millis(400);
/// From so many steps on a loss is drawn smoothed, the steps themselves pale behind it.
const NOISY: usize = 60;
/// What is over sooner needs no bar.
const WORTH_A_BAR: Duration = Duration::from_millis(300);

static LIVE: Mutex<Option<Live>> = Mutex::new(None);

#[derive(Default)]
struct Live {
    /// When the cell's first stage began: many short epochs are worth a bar as much as one long one.
    began: Option<Instant>,
    bar: Option<Bar>,
    curves: Vec<Curve>,
    left: TimeLeft,
}

/// The cell's bar: the latest stage, drawn over the one before.
struct Bar {
    stage: Stage,
    unit: String,
    total: usize,
    done: usize,
    words: String,
    left: Option<Duration>,
    seconds: Option<f64>,
    stopped: bool,
    shown: Option<Display>,
    drawn: Option<Instant>,
}

/// Loss and accuracy of all parts of one stage (the epochs of tuning), one after the other.
struct Curve {
    stage: String,
    unit: String,
    loss: Vec<f64>,
    accuracy: Vec<f64>,
    /// Steps of an epoch, if the stage has several: x then counts epochs.
    epoch: Option<usize>,
    shown: Option<Display>,
    drawn: Option<Instant>,
    stale: bool,
}

/// Takes one event of the library.
pub(super) fn observe(event: &Event) {
    with(|live| live.take(event));
}

/// Forgets the cell before.
pub(super) fn begin() {
    with(|live| *live = Live::default());
}

/// Draws what the last events left undrawn; a bar that is not full was stopped.
pub(super) fn end() {
    with(|live| {
        if let Some(bar) = live.bar.as_mut().filter(|bar| bar.shown.is_some()) {
            bar.stopped = bar.seconds.is_none();
            bar.draw(true);
        }
        live.curves.iter_mut().for_each(Curve::finish);
    });
}

fn with(f: impl FnOnce(&mut Live)) {
    // a panic while drawing must not silence every later cell
    f(LIVE.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert_default());
}

impl Live {
    fn take(&mut self, event: &Event) {
        match event {
            Event::Started { stage, total, unit } => {
                self.began.get_or_insert_with(Instant::now);
                let shown = self.bar.take().and_then(|bar| bar.shown);
                let (stage, unit) = (stage.clone(), unit.clone());
                self.bar = Some(Bar {
                    stage,
                    unit,
                    total: *total,
                    done: 0,
                    words: String::new(),
                    left: None,
                    seconds: None,
                    stopped: false,
                    shown,
                    drawn: None,
                });
            }
            Event::Advanced { stage, done, total, loss, accuracy } => {
                let worth = self.began.is_some_and(|began| began.elapsed() >= WORTH_A_BAR);
                if let Some(bar) = &mut self.bar {
                    (bar.done, bar.total) = (*done, *total);
                    bar.left = self.left.after(stage, *done, *total);
                    bar.words = event.measures().join(", ");
                    if worth || bar.shown.is_some() {
                        bar.draw(false);
                    }
                }
                if let Some(loss) = loss.filter(|loss| loss.is_finite()) {
                    let unit = self.bar.as_ref().map_or("steps", |bar| &bar.unit).to_string();
                    let epoch = (stage.of > 1 && *total > 0).then_some(*total);
                    self.curve(&stage.name, unit, epoch).push(f64::from(loss), accuracy.map(f64::from));
                }
            }
            Event::Notice(text) => println!("note: {text}"),
            Event::Finished { seconds, .. } => {
                if let Some(bar) = &mut self.bar {
                    bar.seconds = Some(*seconds);
                    if bar.shown.is_some() {
                        bar.draw(true);
                    }
                }
            }
        }
    }

    fn curve(&mut self, stage: &str, unit: String, epoch: Option<usize>) -> &mut Curve {
        let at = self.curves.iter().position(|curve| curve.stage == stage).unwrap_or_else(|| {
            let stage = stage.to_string();
            self.curves.push(Curve { stage, unit, loss: Vec::new(), accuracy: Vec::new(), epoch, shown: None, drawn: None, stale: false });
            self.curves.len() - 1
        });
        &mut self.curves[at]
    }
}

impl Bar {
    fn draw(&mut self, now: bool) {
        if !now && self.drawn.is_some_and(|drawn| drawn.elapsed() < BAR_EVERY) {
            return;
        }
        self.drawn = Some(Instant::now());
        let time = match self.seconds {
            Some(seconds) => format!("{seconds:.1} s"),
            None if self.stopped => "stopped".into(),
            None => self.left.map(|left| format!("about {} left", in_words(left))).unwrap_or_default(),
        };
        let count = format!("{} of {} {}", self.done, self.total, self.unit);
        let words = [&count, &self.words, &time].into_iter().filter(|word| !word.is_empty()).cloned().collect::<Vec<_>>().join(" · ");
        let html = Html(format!(
            "<div style=\"display:flex;gap:.8em;align-items:center;font-variant-numeric:tabular-nums\"><span style=\"min-width:9em\">{}</span>\
             <progress value=\"{:.4}\" style=\"flex:0 1 16em\"></progress><span>{words}</span></div>",
            self.stage.to_string().replace('&', "&amp;").replace('<', "&lt;"),
            self.stage.share(self.done, self.total)
        ));
        show(&mut self.shown, html);
    }
}

impl Curve {
    fn push(&mut self, loss: f64, accuracy: Option<f64>) {
        self.loss.push(loss);
        self.accuracy.extend(accuracy.filter(|accuracy| accuracy.is_finite()));
        self.stale = true;
        if self.drawn.is_none_or(|drawn| drawn.elapsed() >= CURVE_EVERY) {
            self.draw();
        }
    }

    fn draw(&mut self) {
        if self.stale
            && let Some(figure) = self.figure()
        {
            (self.stale, self.drawn) = (false, Some(Instant::now()));
            show(&mut self.shown, ForNow(figure));
        }
    }

    /// Draws the curve as it stays, in all forms that a saved notebook needs.
    fn finish(&mut self) {
        if let Some(figure) = self.figure() {
            show(&mut self.shown, figure);
        }
    }

    /// Nothing before the second point: a curve of one has no direction.
    fn figure(&self) -> Option<Figure> {
        if self.loss.len() < 2 {
            return None;
        }
        let at = |step: usize| self.epoch.map_or((step + 1) as f64, |steps| (step + 1) as f64 / steps as f64);
        let series = |name: &str, values: &[f64]| Series::at(name, values.iter().enumerate().map(|(step, value)| (at(step), *value)));
        let smoothed = |name: &str, values: &[f64]| {
            let steps = series(name, values);
            match values.len() > NOISY {
                true => vec![steps.clone().faint(), steps.running_mean(values.len() / 20)],
                false => vec![steps],
            }
        };
        let mut parts = vec![Panel::new("loss", smoothed("loss", &self.loss))];
        if !self.accuracy.is_empty() {
            parts.push(Panel::new("accuracy, %", smoothed("accuracy, %", &self.accuracy)));
        }
        let unit = if self.epoch.is_some() { "epoch" } else { self.unit.strip_suffix('s').unwrap_or(&self.unit) };
        panels(&self.stage, unit, &parts).ok()
    }
}

fn show(shown: &mut Option<Display>, content: impl super::Show) {
    match shown {
        Some(shown) => shown.update(content),
        None => *shown = Some(display(content)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_share_a_curve() {
        let mut live = Live::default();
        for epoch in 1..=2 {
            let stage = Stage::part("tuning", epoch, 2);
            live.take(&Event::Started { stage: stage.clone(), total: 2, unit: "steps".into() });
            for done in 1..=2 {
                live.take(&Event::Advanced { stage: stage.clone(), done, total: 2, loss: Some(1.0), accuracy: None });
            }
            live.take(&Event::Finished { stage, seconds: 0.1 });
        }
        assert_eq!(live.curves.len(), 1);
        assert_eq!((live.curves[0].loss.len(), live.curves[0].epoch), (4, Some(2)));
        assert!(live.bar.is_some_and(|bar| bar.shown.is_none()), "an operation of a few milliseconds needs no bar");
    }

    #[test]
    fn many_steps_are_drawn_as_their_running_mean_over_epochs() {
        let stage = "tuning".to_string();
        let loss = (0..900).map(|step| 2.0 - f64::from(step) / 900.0 + f64::from(step % 7) * 0.1).collect();
        let curve =
            Curve { stage, unit: "steps".into(), loss, accuracy: Vec::new(), epoch: Some(90), shown: None, drawn: None, stale: true };
        let figure = curve.figure().unwrap();
        assert!(figure.plain().contains("loss, mean of 45"), "{}", figure.plain());
        assert!(figure.svg().contains("stroke-opacity=\"0.35\"") && figure.svg().contains(">epoch</text>"));
        assert!(figure.svg().len() < 60_000, "{}", figure.svg().len());
    }

    #[test]
    fn many_short_epochs_are_worth_a_bar() {
        let mut live = Live::default();
        let mut epoch = |part| {
            let stage = Stage::part("tuning", part, 2);
            live.take(&Event::Started { stage: stage.clone(), total: 1, unit: "steps".into() });
            std::thread::sleep(WORTH_A_BAR.mul_f64(0.6));
            live.take(&Event::Advanced { stage, done: 1, total: 1, loss: None, accuracy: None });
            live.bar.as_ref().is_some_and(|bar| bar.shown.is_some())
        };
        epoch(1);
        assert!(epoch(2), "the two together take longer than {WORTH_A_BAR:?}");
    }
}
