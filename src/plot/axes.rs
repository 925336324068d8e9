//! A coordinate system on a canvas: plotters chooses and draws ticks, grid and tick labels.

use plotters::prelude::*;

use super::canvas::Canvas;
use super::text::{number, text_width};
use crate::error::{Error, Result};

/// Where a picture's plane lies on the sheet and what it shows.
#[derive(Clone, Copy)]
pub(super) struct Axes {
    x: (f64, f64),
    y: (f64, f64),
    /// Left, top, right, bottom of the plane in pixels.
    pub plane: (f64, f64, f64, f64),
}

/// Which axes beside x carry ticks, grid lines and labels, and where.
#[derive(Clone, Copy)]
pub(super) struct Ticks {
    /// y has some, too; the rows of a bar chart name themselves.
    pub y: bool,
    /// Those of x, those of y stand at whole numbers alone: epochs, steps, counts.
    pub whole: (bool, bool),
}

impl Ticks {
    pub const BOTH: Self = Self { y: true, whole: (false, false) };
    pub const ACROSS: Self = Self { y: false, whole: (false, false) };
}

/// Size of tick labels. plotters divides by 1.24 on the way to SVG.
const SIZE: f64 = 11.0;

impl Axes {
    /// Draws axes into the box of (left, top, right, bottom) pixels: tick labels of y at its left, of x at its bottom.
    pub(super) fn draw(canvas: &mut Canvas, area: (f64, f64, f64, f64), x: (f64, f64), y: (f64, f64), ticks: Ticks) -> Result<Self> {
        let (left, top, right, bottom) = area;
        let (x_step, y_step) = ((x.1 - x.0) / 8.0, (y.1 - y.0) / 5.0);
        let label = |value: f64| text_width(&number(value, y_step), SIZE);
        // A tick between the ends can have one decimal more than they have.
        let widest = [y.0, y.1, y.0 + y_step, (y.0 + y.1) / 2.0].map(label).into_iter().fold(0.0, f64::max);
        let left_of = if ticks.y { widest + 12.0 } else { 0.0 };
        let below = 22;
        // The last tick's label stands around its tick: half of it lies beyond the plane.
        let beyond = text_width(&number(x.1, x_step), SIZE).max(text_width(&number(x.1 - x_step, x_step), SIZE)) / 2.0;
        let mut svg = String::new();
        let failed = |e: &dyn std::fmt::Display| Error::Usage(format!("these axes cannot be drawn: {e}"));
        let ranges = {
            let root = SVGBackend::with_string(&mut svg, (right.ceil() as u32, bottom.ceil() as u32)).into_drawing_area();
            let sheet = root.margin(top.round() as i32, 0, left.round() as i32, beyond.ceil() as i32);
            let mut chart = ChartBuilder::on(&sheet)
                .set_label_area_size(LabelAreaPosition::Left, left_of.ceil() as i32)
                .set_label_area_size(LabelAreaPosition::Bottom, below)
                .build_cartesian_2d(x.0..x.1, y.0..y.1)
                .map_err(|e| failed(&e))?;
            let grid = RGBColor(0xdd, 0xdd, 0xdd);
            let style = ("sans-serif", SIZE * 1.24).into_font().color(&RGBColor(0x55, 0x55, 0x55));
            let mut mesh = chart.configure_mesh();
            if !ticks.y {
                mesh.disable_y_mesh().disable_y_axis();
            }
            let most = |whole: bool, most: usize, (low, high): (f64, f64)| {
                if whole { most.min((high.floor() - low.ceil()).clamp(0.0, 100.0) as usize + 1) } else { most }
            };
            let label =
                |whole: bool, value: f64, step: f64| if whole && value.fract() != 0.0 { String::new() } else { number(value, step) };
            mesh.x_labels(most(ticks.whole.0, 9, x))
                .y_labels(if ticks.y { most(ticks.whole.1, 6, y) } else { 0 })
                .max_light_lines(0)
                .bold_line_style(grid)
                .axis_style(RGBColor(0x99, 0x99, 0x99))
                .label_style(style)
                .x_label_formatter(&|v| label(ticks.whole.0, *v, x_step))
                .y_label_formatter(&|v| label(ticks.whole.1, *v, y_step))
                .draw()
                .map_err(|e| failed(&e))?;
            let ranges = chart.plotting_area().get_pixel_range();
            root.present().map_err(|e| failed(&e))?;
            ranges
        };
        // Only the elements inside plotters' own <svg>.
        let inner =
            svg.find("<svg").and_then(|at| svg[at..].find('>').map(|end| &svg[at + end + 1..])).and_then(|rest| rest.rsplit_once("</svg>"));
        canvas.raw(inner.map_or("", |(inner, _)| inner.trim()));
        let (across, down) = ranges;
        Ok(Self { x, y, plane: (across.start.into(), down.start.into(), across.end.into(), down.end.into()) })
    }

    /// The pixel of a point.
    pub(super) fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let (left, top, right, bottom) = self.plane;
        let across = (x - self.x.0) / (self.x.1 - self.x.0);
        let up = (y - self.y.0) / (self.y.1 - self.y.0);
        (left + across * (right - left), bottom - up * (bottom - top))
    }
}

/// The least and the greatest of `values`, widened by `share` of their distance; equal values get room around them.
pub(super) fn span(values: impl Iterator<Item = f64>, share: f64) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
    let apart = high - low;
    // Values nearer to each other than their own rounding errors count as equal.
    let room = if apart > 1e-9 * low.abs().max(high.abs()) && apart > 1e-300 {
        apart * share
    } else if low == 0.0 {
        0.5
    } else {
        0.1 * low.abs().max(1e-290)
    };
    (low - room, high + room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_get_room() {
        assert_eq!(span([5.0].into_iter(), 0.1), (4.5, 5.5));
        assert_eq!(span([0.0, 0.0].into_iter(), 0.1), (-0.5, 0.5));
        assert_eq!(span([0.0, 10.0].into_iter(), 0.1), (-1.0, 11.0));
        assert_eq!(span(std::iter::empty(), 0.1), (-0.1, 1.1));
    }
}
