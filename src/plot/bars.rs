//! Bars by class: before and after, side by side.

use super::axes::{Axes, Ticks, span};
use super::canvas::{Anchor, Canvas, EDGE, LINE, Type, WIDTH};
use super::figure::Figure;
use super::palette::{Key, color, legend};
use super::series::{Series, check};
use super::text::{number, text_width, widest, wrap};
use crate::error::{Error, Result};

/// The order of the classes in [`bars`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// As given.
    #[default]
    AsGiven,
    /// The greatest gain from the first series to the last on top.
    ByGain,
    /// The greatest value of the last series on top.
    ByLast,
}

/// Size of class names.
const SIZE: f64 = 11.0;

/// Horizontal bars, one group per class, one bar per series: accuracies before and after. The y of each series' i-th point is the
/// value of class i; a class without a value (no test image) is left out of a series by giving [`Series::at`] with
/// x = class index + 1.
///
/// # Errors
/// [`Error::Usage`] if there is nothing to draw, a value is not finite, or a series has a point that is not a class.
///
/// ```
/// use lafter::plot::{Series, Sort, bars};
/// let classes = ["river".to_string(), "forest".to_string()];
/// let before = Series::new("zero-shot", [40.0f64, 80.0]);
/// let after = Series::new("LaFTer", [75.0f64, 85.0]);
/// let figure = bars("By class", "top-1 %", &classes, &[before, after], Sort::ByGain)?;
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn bars(title: &str, value_label: &str, classes: &[String], series: &[Series], sort: Sort) -> Result<Figure> {
    check("bars by class", series)?;
    let mut values = Vec::with_capacity(series.len()); // [series][classes]
    for s in series {
        let mut row = vec![None; classes.len()];
        for &(x, y) in &s.points {
            let slot = if x >= 1.0 && x.fract() == 0.0 { row.get_mut(x as usize - 1) } else { None };
            *slot.ok_or_else(|| {
                Error::Usage(format!("bars by class: {:?} has a value at {x}, but the classes are 1 to {}", s.name, classes.len()))
            })? = Some(y);
        }
        values.push(row);
    }
    let value = |series: usize, class: usize| values.get(series).and_then(|row| row.get(class)).copied().flatten();
    let mut order: Vec<usize> = (0..classes.len()).collect();
    let last = series.len() - 1;
    let rank = |class: usize| match sort {
        Sort::AsGiven => 0.0,
        Sort::ByGain => value(last, class).unwrap_or(0.0) - value(0, class).unwrap_or(0.0),
        Sort::ByLast => value(last, class).unwrap_or(f64::NEG_INFINITY),
    };
    order.sort_by(|&a, &b| rank(b).total_cmp(&rank(a)));

    // Names take up to two fifths of the width, then they are broken.
    let thick = if classes.len() <= 20 { 9.0 } else { 5.0 };
    let names: Vec<Vec<String>> = classes.iter().map(|name| wrap(name, SIZE, 0.4 * WIDTH)).collect();
    let margin = names.iter().map(|lines| widest(lines, SIZE)).fold(0.0, f64::max) + 8.0;
    let row_height = |class: usize| {
        let lines = names.get(class).map_or(1, Vec::len) as f64;
        (series.len() as f64 * thick + 5.0).max(lines * SIZE * LINE + 2.0)
    };

    let mut canvas = Canvas::new(title, WIDTH);
    let mut top = canvas.heading();
    if series.len() > 1 || series.iter().any(|s| s.name != value_label && !s.name.is_empty()) {
        let labels: Vec<String> = series.iter().map(|s| s.name.clone()).collect();
        top = legend(&mut canvas, (EDGE, top), WIDTH - 2.0 * EDGE, &labels, Key::Box) + 6.0;
    }
    let height: f64 = order.iter().map(|&class| row_height(class)).sum();
    let bottom = top + height;
    let known = || values.iter().flatten().flatten().copied();
    // Bars begin at zero; accuracies show their whole scale.
    let (low, high) = (known().fold(0.0, f64::min), known().fold(0.0, f64::max));
    let percent = value_label.contains('%') && low >= 0.0 && high <= 100.0;
    let range = if percent { (0.0, 100.0) } else { span([low, high].into_iter(), 0.04) };
    let range = if low >= 0.0 { (0.0, range.1) } else { range };
    let step = (range.1 - range.0) / 100.0;
    let wide = known().map(|v| text_width(&number(v, step), 9.0)).fold(0.0, f64::max) + 6.0;
    let area = (EDGE + margin, top, WIDTH - EDGE - wide, bottom + 22.0);
    let ticks = Ticks { whole: (known().all(|v| v.fract() == 0.0), false), ..Ticks::ACROSS };
    let axes = Axes::draw(&mut canvas, area, range, (0.0, height), ticks)?;

    let mut y = top;
    for &class in &order {
        let tall = row_height(class);
        let lines = names.get(class).map_or(&[][..], Vec::as_slice);
        canvas.lines(axes.plane.0 - 6.0, y + tall / 2.0, lines, Type::new(SIZE, Anchor::End));
        let first = y + (tall - series.len() as f64 * thick) / 2.0;
        for (index, s) in series.iter().enumerate() {
            let Some(v) = value(index, class) else { continue };
            let (from, to) = (axes.at(0f64.min(v), 0.0).0, axes.at(0f64.max(v), 0.0).0);
            let bar = first + index as f64 * thick;
            let name = classes.get(class).map_or("", String::as_str);
            let tip = format!("{name}, {}: {}", s.name, number(v, step));
            // A bar of zero is a hair, so that it is seen to be there.
            let size = ((to - from).max(0.8), thick - 1.0);
            canvas.rect((from, bar), size, &format!("class=\"bar\" fill=\"{}\"", color(index)), Some(&tip));
            if thick >= 9.0 {
                let style = Type::new(9.0, Anchor::Start).muted();
                canvas.text(to + 3.0, bar + thick - 1.5, &number(v, step * 10.0), style);
            }
        }
        y += tall;
    }
    let lines = wrap(value_label, SIZE, WIDTH - 2.0 * EDGE);
    let center = if widest(&lines, SIZE) < axes.plane.2 - axes.plane.0 { (axes.plane.0 + axes.plane.2) / 2.0 } else { WIDTH / 2.0 };
    let below = bottom + 22.0 + lines.len() as f64 * SIZE * LINE;
    canvas.lines(center, bottom + 24.0 + lines.len() as f64 * SIZE * LINE / 2.0, &lines, Type::new(SIZE, Anchor::Middle).muted());
    Ok(canvas.finish(below + 10.0))
}
