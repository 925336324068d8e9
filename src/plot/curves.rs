//! Training curves: loss, accuracy, anything over epochs or steps.

use std::fmt::Write;

use super::axes::{Axes, Ticks, span};
use super::canvas::{Anchor, Canvas, EDGE, Type, WIDTH, escape};
use super::figure::Figure;
use super::palette::{Key, color, dash, legend};
use super::series::{Series, check};
use super::text::{number, wrap};
use crate::error::{Error, Result};

/// One coordinate system of [`panels`].
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// What y counts: "loss", "top-1 %".
    pub y_label: String,
    /// The curves.
    pub series: Vec<Series>,
}

impl Panel {
    /// A panel of these curves.
    pub fn new(y_label: impl Into<String>, series: Vec<Series>) -> Self {
        Self { y_label: y_label.into(), series }
    }
}

/// Curves in one coordinate system.
///
/// # Errors
/// [`Error::Usage`] if there is nothing to draw or a value is not finite.
///
/// ```
/// use lafter::plot::{Series, curves};
/// let top1 = Series::new("LaFTer", [61.0f64, 70.5, 74.0]);
/// let figure = curves("Label-free tuning", "epoch", "top-1 %", &[top1])?;
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn curves(title: &str, x_label: &str, y_label: &str, series: &[Series]) -> Result<Figure> {
    panels(title, x_label, &[Panel::new(y_label, series.to_vec())])
}

/// Several coordinate systems over the same kind of x, two in a row: loss next to accuracy.
///
/// # Errors
/// [`Error::Usage`] if a panel has nothing to draw or a value is not finite.
///
/// ```
/// use lafter::plot::{Panel, Series, panels};
/// let loss = Panel::new("loss", vec![Series::new("student", [1.5f64, 0.7, 0.4])]);
/// let top1 = Panel::new("top-1 %", vec![Series::new("test", [61.0f64, 70.5, 74.0])]);
/// let figure = panels("Label-free tuning", "epoch", &[loss, top1])?;
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn panels(title: &str, x_label: &str, panels: &[Panel]) -> Result<Figure> {
    if panels.is_empty() {
        return Err(Error::Usage("training curves: there is nothing to draw; give at least one panel".into()));
    }
    for panel in panels {
        check("training curves", &panel.series)?;
    }
    let mut canvas = Canvas::new(title, WIDTH);
    let columns = panels.len().min(2);
    let width = (WIDTH - 2.0 * EDGE - 20.0 * (columns as f64 - 1.0)) / columns as f64;
    let height = if columns == 1 { 260.0 } else { 210.0 };
    let mut top = canvas.heading();
    for row in panels.chunks(columns) {
        // Legends of a row may differ in height; the planes below them shall stand on one line.
        let mut plane_top = top;
        for (column, panel) in row.iter().enumerate() {
            let left = EDGE + column as f64 * (width + 20.0);
            let mut y = top;
            for line in wrap(&panel.y_label, 11.0, width) {
                y += 14.0;
                canvas.text(left, y - 3.0, &line, Type::new(11.0, Anchor::Start).muted());
            }
            let names: Vec<String> = panel.series.iter().filter(|s| !s.faint).map(|s| s.name.clone()).collect();
            if names.len() > 1 || names.iter().any(|name| !name.trim().is_empty() && *name != panel.y_label) {
                y = legend(&mut canvas, (left, y + 3.0), width, &names, Key::Line);
            }
            plane_top = plane_top.max(y + 8.0);
        }
        let bottom = plane_top + height;
        for (column, panel) in row.iter().enumerate() {
            let left = EDGE + column as f64 * (width + 20.0);
            draw(&mut canvas, (left, plane_top, left + width, bottom), panel, x_label == "epoch")?;
            let lines = wrap(x_label, 11.0, width);
            canvas.lines(left + width / 2.0, bottom + 9.0 * lines.len() as f64, &lines, Type::new(11.0, Anchor::Middle).muted());
        }
        top = bottom + 9.0 + 14.0 * wrap(x_label, 11.0, width).len() as f64 + 6.0;
    }
    Ok(canvas.finish(top + 2.0))
}

/// `epochs`: x counts epochs, and ticks stand at whole ones, wherever between them the points lie.
fn draw(canvas: &mut Canvas, area: (f64, f64, f64, f64), panel: &Panel, epochs: bool) -> Result<()> {
    let points = || panel.series.iter().flat_map(|s| &s.points);
    let x = span(points().map(|p| p.0), 0.0);
    // A single step gets room at both sides; several reach from edge to edge.
    let (whole, counts) = (points().all(|p| p.0.fract() == 0.0), points().all(|p| p.1.fract() == 0.0));
    let ticks = Ticks { y: true, whole: (whole || epochs && x.1 - x.0 >= 2.0, counts) };
    let x = if x.1 - x.0 < 2.0 && whole { (x.0.ceil() - 0.5, x.1.floor() + 0.5) } else { x };
    let axes = Axes::draw(canvas, area, x, up(points().map(|p| p.1), &panel.y_label), ticks)?;
    let across = axes.plane.2 - axes.plane.0;
    let mut index = 0;
    for series in &panel.series {
        let color = color(index);
        let (width, dash) = if series.faint { ("1\" stroke-opacity=\"0.35", "") } else { ("1.8", dash(index)) };
        index += usize::from(!series.faint);
        let shown = thin(&series.points, across as usize / 2);
        let pixels: Vec<(f64, f64)> = shown.iter().map(|&(x, y)| axes.at(x, y)).collect();
        if pixels.len() > 1 {
            let path: Vec<String> = pixels.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            canvas.raw(&format!(
                "<polyline class=\"curve\" points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"{dash}>\
                 <title>{}</title></polyline>",
                path.join(" "),
                escape(&series.name)
            ));
        }
        if pixels.len() <= 60 && !series.faint {
            let step = 1e-3 * (shown.iter().map(|p| p.1.abs()).fold(0.0, f64::max)).max(1e-3);
            let mut dots = String::new();
            for ((x, y), (at, value)) in pixels.iter().zip(&shown) {
                let tip = escape(&format!("{}: {} at {}", series.name, number(*value, step), number(*at, 1.0)));
                // Writing to a String cannot fail.
                let _ = write!(dots, "<circle class=\"point\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.6\"><title>{tip}</title></circle>");
            }
            canvas.raw(&format!("<g fill=\"{color}\">{dots}</g>"));
        }
    }
    Ok(())
}

/// What y shows: its values with some room, of percent no more than there can be, of one count no other.
fn up(values: impl Iterator<Item = f64> + Clone, label: &str) -> (f64, f64) {
    let (low, high) = span(values.clone(), 0.06);
    let percent = (label.contains('%') || label.contains("percent")) && values.clone().all(|v| (0.0..=100.0).contains(&v));
    let (least, most) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), v| (least.min(v), most.max(v)));
    match percent {
        true => (low.max(0.0), high.min(100.0)),
        false if least == most && least.fract() == 0.0 && least.abs() < 1e6 => (least - 0.5, least + 0.5),
        false => (low, high),
    }
}

/// At most about four points per column: of each run of points the first, least, greatest and last, so that no spike
/// is lost.
fn thin(points: &[(f64, f64)], columns: usize) -> Vec<(f64, f64)> {
    let run = points.len().div_ceil(columns.max(1));
    if run <= 4 {
        return points.to_vec();
    }
    let mut kept = Vec::new();
    for run in points.chunks(run) {
        let by_value = |a: &&(usize, (f64, f64)), b: &&(usize, (f64, f64))| a.1.1.total_cmp(&b.1.1);
        let run: Vec<(usize, (f64, f64))> = run.iter().copied().enumerate().collect();
        let mut four: Vec<(usize, (f64, f64))> =
            [run.first(), run.iter().min_by(by_value), run.iter().max_by(by_value), run.last()].into_iter().flatten().copied().collect();
        four.sort_by_key(|(place, _)| *place);
        four.dedup_by_key(|(place, _)| *place);
        kept.extend(four.into_iter().map(|(_, point)| point));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_go_where_values_can() {
        assert_eq!(up([100.0, 100.0].into_iter(), "answered alike, percent"), (90.0, 100.0));
        assert_eq!(up([0.0].into_iter(), "top-1 %").0, 0.0);
        assert_eq!(up([12.0, 12.0].into_iter(), "classes"), (11.5, 12.5));
        assert_eq!(up([1e20].into_iter(), "loss"), (9e19, 1.1e20));
        assert_eq!(up([0.0, 100.0].into_iter(), "loss"), (-6.0, 106.0));
        let svg = panels("Signals", "epoch", &[Panel::new("classes", vec![Series::new("named", [2.0, 2.0, 2.0])])]).unwrap();
        assert!(!svg.svg().contains("1.9") && !svg.svg().contains("2.1"), "{}", svg.svg());
    }

    #[test]
    fn thinning_keeps_the_ends_and_the_spikes() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|i| (f64::from(i), 0.0)).collect();
        points[54_321].1 = 7.0;
        let kept = thin(&points, 600);
        assert!(kept.len() <= 2400 && kept.contains(&(54_321.0, 7.0)));
        assert_eq!((kept[0].0, kept[kept.len() - 1].0), (0.0, 99_999.0));
        assert!(kept.windows(2).all(|w| w[0].0 < w[1].0));
    }
}
