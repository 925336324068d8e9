//! Colors that color-blind readers can tell apart, marks for when there are more classes than colors, legends.

use std::fmt::Write;

use super::canvas::{Anchor, Canvas, LINE, Type};
use super::text::{widest, wrap};

/// Okabe & Ito 2008, the darkest first, black softened; yellow last because it is weak on white.
const COLORS: [&str; 8] = ["#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#444444", "#F0E442"];
/// Dashes of the lines beyond the eighth.
const DASHES: [&str; 3] = ["", " stroke-dasharray=\"6 3\"", " stroke-dasharray=\"2 2\""];

pub(super) fn color(index: usize) -> &'static str {
    COLORS.get(index % COLORS.len()).copied().unwrap_or("#444444")
}

pub(super) fn dash(index: usize) -> &'static str {
    DASHES.get(index / COLORS.len() % DASHES.len()).copied().unwrap_or("")
}

/// How many classes can be told apart by color and shape.
pub(super) const DISTINCT: usize = 4 * COLORS.len();

/// The outline of the mark of class `index` as an SVG path: circle, square, diamond, triangle, one shape for every eight
/// classes, about `r` pixels in radius.
pub(super) fn mark(index: usize, x: f64, y: f64, r: f64) -> String {
    match index / COLORS.len() % 4 {
        0 => format!("M{:.1} {y:.1}a{r} {r} 0 1 0 {} 0a{r} {r} 0 1 0 {} 0z", x - r, 2.0 * r, -2.0 * r),
        1 => polygon(&[(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)], 0.88, x, y),
        2 => polygon(&[(x, y - r), (x + r, y), (x, y + r), (x - r, y)], 1.25, x, y),
        _ => polygon(&[(x, y - r), (x + 0.87 * r, y + 0.5 * r), (x - 0.87 * r, y + 0.5 * r)], 1.3, x, y),
    }
}

/// A closed path around (x, y), scaled so that all shapes cover about the same area.
fn polygon(corners: &[(f64, f64)], scale: f64, x: f64, y: f64) -> String {
    let mut path = String::new();
    for (i, (cx, cy)) in corners.iter().enumerate() {
        let (px, py) = (x + (cx - x) * scale, y + (cy - y) * scale);
        // Writing to a String cannot fail.
        let _ = write!(path, "{}{px:.1} {py:.1}", if i == 0 { "M" } else { "L" });
    }
    path + "z"
}

/// What stands before a legend's text.
#[derive(Clone, Copy)]
pub(super) enum Key {
    Line,
    Box,
    Mark,
}

/// Draws the names with their keys from left to right, in as many rows as `width` asks for, the first row's top at `y`;
/// a name wider than a row is broken. Returns the y below.
pub(super) fn legend(canvas: &mut Canvas, (x, y): (f64, f64), width: f64, names: &[String], key: Key) -> f64 {
    let size = 11.0;
    let swatch = 22.0;
    let gap = 14.0;
    let (mut left, mut top, mut row) = (x, y, 0.0f64);
    for (index, name) in names.iter().enumerate() {
        let lines = wrap(name, size, width - swatch);
        let taken = swatch + widest(&lines, size);
        if left > x && left + taken > x + width {
            left = x;
            top += row;
            row = 0.0;
        }
        let middle = top + size * LINE / 2.0 + 1.0;
        let color = color(index);
        match key {
            Key::Line => {
                canvas.line((left, middle), (left + 17.0, middle), &format!("stroke=\"{color}\" stroke-width=\"2.5\"{}", dash(index)))
            }
            Key::Box => canvas.rect((left + 3.0, middle - 5.0), (12.0, 10.0), &format!("fill=\"{color}\""), None),
            Key::Mark => canvas.raw(&format!(
                "<path d=\"{}\" fill=\"{color}\" stroke=\"#222222\" stroke-width=\"0.8\"/>",
                mark(index, left + 10.0, middle, 5.0)
            )),
        }
        for (i, line) in lines.iter().enumerate() {
            canvas.text(left + swatch, middle + size * 0.35 + i as f64 * size * LINE, line, Type::new(size, Anchor::Start));
        }
        left += taken + gap;
        row = row.max(lines.len() as f64 * size * LINE + 4.0);
    }
    top + row
}
