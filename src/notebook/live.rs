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

/// Loss and accuracy over all parts of one stage (the epochs of tuning). The next training of the same name in the cell is drawn over it.
struct Curve {
    stage: String,
    /// What x counts, in the singular.
    unit: String,
    /// (x, y).
    loss: Vec<(f64, f64)>,
    accuracy: Vec<(f64, f64)>,
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
                    let unit = self.bar.as_ref().map_or("steps", |bar| &bar.unit);
                    let (x, unit) = match stage.of {
                        0 | 1 => (*done as f64, unit.strip_suffix('s').unwrap_or(unit)),
                        _ => (stage.part.saturating_sub(1) as f64 + *done as f64 / (*total).max(1) as f64, "epoch"),
                    };
                    let unit = unit.to_string();
                    self.curve(&stage.name, unit, x).push(x, f64::from(loss), accuracy.map(f64::from));
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

    /// The curve of a stage that goes on at `x`: a new one if that is not beyond its end.
    fn curve(&mut self, stage: &str, unit: String, x: f64) -> &mut Curve {
        let at = self.curves.iter().position(|curve| curve.stage == stage).unwrap_or_else(|| {
            let (stage, unit) = (stage.to_string(), unit.clone());
            self.curves.push(Curve { stage, unit, loss: Vec::new(), accuracy: Vec::new(), shown: None, drawn: None, stale: false });
            self.curves.len() - 1
        });
        let curve = &mut self.curves[at];
        if curve.unit != unit || curve.loss.last().is_some_and(|(last, _)| *last >= x) {
            (curve.unit, curve.loss, curve.accuracy) = (unit, Vec::new(), Vec::new());
        }
        curve
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
    fn push(&mut self, x: f64, loss: f64, accuracy: Option<f64>) {
        self.loss.push((x, loss));
        self.accuracy.extend(accuracy.filter(|accuracy| accuracy.is_finite()).map(|accuracy| (x, accuracy)));
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
        let smoothed = |name: &str, points: &[(f64, f64)]| {
            let steps = Series::at(name, points.iter().copied());
            match points.len() > NOISY {
                true => vec![steps.clone().faint(), steps.running_mean(points.len() / 20)],
                false => vec![steps],
            }
        };
        let mut parts = vec![Panel::new("loss", smoothed("loss", &self.loss))];
        if !self.accuracy.is_empty() {
            parts.push(Panel::new("accuracy, %", smoothed("accuracy, %", &self.accuracy)));
        }
        panels(&self.stage, &self.unit, &parts).ok()
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
        assert_eq!(live.curves[0].loss.iter().map(|(x, _)| *x).collect::<Vec<_>>(), [0.5, 1.0, 1.5, 2.0]);
        assert!(live.bar.is_some_and(|bar| bar.shown.is_none()), "an operation of a few milliseconds needs no bar");
    }

    #[test]
    fn x_is_where_a_training_stands_and_the_next_one_begins_anew() {
        let mut live = Live::default();
        let mut at = |part, of, done| {
            live.take(&Event::Advanced { stage: Stage::part("tuning", part, of), done, total: 32, loss: Some(1.0), accuracy: Some(50.0) });
            let curve = &live.curves[0];
            assert!(live.curves.len() == 1 && curve.accuracy.len() == curve.loss.len());
            (curve.loss.iter().map(|(x, _)| *x).collect::<Vec<_>>(), curve.unit.clone())
        };
        // resumed in epoch 8, and told of every 16 steps
        at(8, 16, 16);
        at(8, 16, 32);
        assert_eq!(at(9, 16, 16), (vec![7.5, 8.0, 8.5], "epoch".into()));
        assert_eq!(at(1, 16, 16).0, [0.5]);
        assert_eq!(at(1, 1, 16), (vec![16.0], "step".into()));
        assert_eq!(at(1, 1, 16).0, [16.0]);
    }

    #[test]
    fn many_steps_are_drawn_as_their_running_mean_over_epochs() {
        let (stage, unit) = ("tuning".to_string(), "epoch".to_string());
        let loss = (0..900).map(f64::from).map(|step| ((step + 1.0) / 90.0, 2.0 - step / 900.0 + step % 7.0 * 0.1)).collect();
        let curve = Curve { stage, unit, loss, accuracy: Vec::new(), shown: None, drawn: None, stale: true };
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
