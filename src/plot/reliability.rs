//! The reliability diagram: accuracy over confidence.

use super::axes::{Axes, Ticks};
use super::canvas::{Anchor, Canvas, EDGE, GRID, Type};
use super::figure::Figure;
use crate::error::{Error, Result};
use crate::eval::Bin;

/// One bar per bin: how many predictions of that confidence were right. A calibrated classifier's bars end on the dashed
/// diagonal; bars below it are over-confident. An outline shows how far up a calibrated bar would reach, so that one of 0 % is seen, too.
/// The strength of a bar's color grows with its number of images.
///
/// # Errors
/// [`Error::Usage`] if no bin holds an image or a value lies outside of 0 to 100.
///
/// ```
/// let (_, bins) = lafter::eval::calibration_error(&[0.9, 0.8, 0.3], &[true, false, false], 15)?;
/// let figure = lafter::plot::reliability("Calibration", &bins)?;
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn reliability(title: &str, bins: &[Bin]) -> Result<Figure> {
    let total: usize = bins.iter().map(|bin| bin.n).sum();
    if total == 0 {
        return Err(Error::Usage("reliability diagram: no bin holds an image; evaluate on at least one labeled image".into()));
    }
    let percent = |value: f64| (0.0..=100.0).contains(&value);
    if let Some(bin) = bins.iter().find(|bin| !(percent(bin.from) && percent(bin.to) && percent(bin.accuracy))) {
        return Err(Error::Usage(format!("reliability diagram: {bin:?} is not in percent; give each number between 0 and 100")));
    }
    let most = bins.iter().map(|bin| bin.n).max().unwrap_or(1);
    let mut canvas = Canvas::new(title, 420.0);
    let mut top = canvas.heading();
    let label = Type::new(11.0, Anchor::Start).muted();
    canvas.text(EDGE, top + 10.0, "right, %", label);
    top += 18.0;
    let bottom = top + 350.0;
    let axes = Axes::draw(&mut canvas, (EDGE, top, 420.0 - EDGE, bottom), (0.0, 100.0), (0.0, 100.0), Ticks::BOTH)?;
    for bin in bins.iter().filter(|bin| bin.n > 0) {
        let ((left, upper), (right, lower)) = (axes.at(bin.from, bin.accuracy), axes.at(bin.to, 0.0));
        let strength = 0.25 + 0.75 * (bin.n as f64 / most as f64).sqrt();
        let look = format!("class=\"bin\" fill=\"#0072B2\" fill-opacity=\"{strength:.2}\" stroke=\"{GRID}\"");
        let tip = format!("confidence {:.0} to {:.0} %: {:.1} % of {} right", bin.from, bin.to, bin.accuracy, bin.n);
        let calibrated = axes.at(0.0, (bin.from + bin.to) / 2.0).1;
        let outline = "class=\"outline\" fill=\"none\" stroke=\"#0072B2\" stroke-opacity=\"0.5\"";
        canvas.rect((left, calibrated), (right - left, lower - calibrated), outline, None);
        canvas.rect((left, upper), (right - left, (lower - upper).max(0.8)), &look, Some(&tip));
    }
    canvas.line(axes.at(0.0, 0.0), axes.at(100.0, 100.0), "stroke=\"#222222\" stroke-width=\"1.2\" stroke-dasharray=\"5 4\"");
    canvas.text((axes.plane.0 + axes.plane.2) / 2.0, bottom + 13.0, "confidence, %", Type { anchor: Anchor::Middle, ..label });
    Ok(canvas.finish(bottom + 24.0))
}
