//! Bars with a whisker each: means over seeds with their spread.

use super::axes::{Axes, Ticks, span};
use super::canvas::{Anchor, Canvas, EDGE, INK, LINE, Type, WIDTH};
use super::figure::Figure;
use super::palette::color;
use super::series::drawable;
use super::text::{fixed, text_width, widest, wrap};
use crate::error::{Error, Result};

const SIZE: f64 = 11.0;
/// Thickness of a bar.
const BAR: f64 = 13.0;

/// One bar per row, from top to bottom: name, mean, and the standard deviation that its whisker shows to both sides.
///
/// # Errors
/// [`Error::Usage`] if there is nothing to draw or a value is not finite.
///
/// ```
/// let rows = [("σ = 0".to_string(), 61.0, Some(1.5)), ("σ = 0.1".to_string(), 66.2, Some(0.4)), ("σ = 1".to_string(), 64.0, None)];
/// let figure = lafter::plot::spread_bars("Noise", "top-1 %", &rows)?;
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn spread_bars(title: &str, value_label: &str, rows: &[(String, f64, Option<f64>)]) -> Result<Figure> {
    if rows.is_empty() {
        return Err(Error::Usage("bars with spread: there is nothing to draw; give at least one row".into()));
    }
    if let Some((name, ..)) = rows.iter().find(|(_, mean, std)| !(drawable(*mean) && drawable(std.unwrap_or(0.0)))) {
        return Err(Error::Usage(format!("bars with spread: {name:?} is not a finite number; leave it out")));
    }
    let names: Vec<Vec<String>> = rows.iter().map(|(name, ..)| wrap(name, SIZE, 0.4 * WIDTH)).collect();
    let margin = names.iter().map(|lines| widest(lines, SIZE)).fold(0.0, f64::max) + 8.0;
    let tall = |lines: &[String]| (BAR + 7.0).max(lines.len() as f64 * SIZE * LINE + 3.0);
    let height: f64 = names.iter().map(|lines| tall(lines)).sum();

    let ends = || rows.iter().flat_map(|(_, mean, std)| [mean - std.unwrap_or(0.0), mean + std.unwrap_or(0.0)]);
    let (low, high) = (ends().fold(0.0, f64::min), ends().fold(0.0, f64::max));
    let (from, to) = span([low, high].into_iter(), 0.04);
    let range = (if low >= 0.0 { 0.0 } else { from }, to);
    let step = ((range.1 - range.0) / 100.0).min(0.1); // two decimals at least, as the tables have
    let value = |mean: f64, std: Option<f64>| match std {
        Some(std) => format!("{} ± {}", fixed(mean, step), fixed(std, step)),
        None => fixed(mean, step),
    };
    let wide = rows.iter().map(|(_, mean, std)| text_width(&value(*mean, *std), SIZE)).fold(0.0, f64::max) + 14.0;

    let mut canvas = Canvas::new(title, WIDTH);
    let top = canvas.heading();
    let bottom = top + height;
    let axes = Axes::draw(&mut canvas, (EDGE + margin, top, WIDTH - EDGE - wide, bottom + 22.0), range, (0.0, height), Ticks::ACROSS)?;
    let mut y = top;
    for ((name, mean, std), lines) in rows.iter().zip(&names) {
        let middle = y + tall(lines) / 2.0;
        canvas.lines(axes.plane.0 - 6.0, middle, lines, Type::new(SIZE, Anchor::End));
        let (left, right) = (axes.at(mean.min(0.0), 0.0).0, axes.at(mean.max(0.0), 0.0).0);
        let look = format!("class=\"bar\" fill=\"{}\"", color(0));
        canvas.rect((left, middle - BAR / 2.0), ((right - left).max(0.8), BAR), &look, Some(&format!("{name}: {}", value(*mean, *std))));
        let mut end = right;
        if let Some(std) = std {
            let (a, b) = (axes.at(mean - std, 0.0).0, axes.at(mean + std, 0.0).0);
            let stroke = format!("class=\"whisker\" stroke=\"{INK}\" stroke-width=\"1.4\"");
            canvas.line((a, middle), (b, middle), &stroke);
            for x in [a, b] {
                canvas.line((x, middle - 3.5), (x, middle + 3.5), &stroke);
            }
            end = end.max(b);
        }
        canvas.text(end + 6.0, middle + SIZE * 0.35, &value(*mean, *std), Type::new(SIZE, Anchor::Start).muted());
        y += tall(lines);
    }
    let lines = wrap(value_label, SIZE, WIDTH - 2.0 * EDGE);
    let tall = lines.len() as f64 * SIZE * LINE;
    canvas.lines(WIDTH / 2.0, bottom + 24.0 + tall / 2.0, &lines, Type::new(SIZE, Anchor::Middle).muted());
    Ok(canvas.finish(bottom + 32.0 + tall))
}
