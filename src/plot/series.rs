//! A named list of points.

use crate::error::{Error, Result};

/// A name and its points, in order of x.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// (x, y).
    pub points: Vec<(f64, f64)>,
    /// Drawn thin and pale behind the series that follows it, in that one's color, without a line in the legend.
    pub faint: bool,
}

impl Series {
    /// Values at x = 1, 2, 3, …: epochs, steps, or classes in order.
    pub fn new<V: Into<f64>>(name: impl Into<String>, values: impl IntoIterator<Item = V>) -> Self {
        let points = values.into_iter().enumerate().map(|(i, value)| ((i + 1) as f64, value.into())).collect();
        Self { name: name.into(), points, faint: false }
    }

    /// Values at places of their own.
    pub fn at(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self { name: name.into(), points: points.into_iter().collect(), faint: false }
    }

    /// The same, [faint](Series::faint).
    #[must_use]
    pub fn faint(self) -> Self {
        Self { faint: true, ..self }
    }

    /// The mean of each point and the up to `window - 1` before it: what a noisy curve does on the whole.
    ///
    /// ```
    /// use lafter::plot::Series;
    /// let smooth = Series::new("loss", [4.0f64, 2.0, 3.0, 1.0]).running_mean(2);
    /// assert_eq!(smooth.points, [(1.0, 4.0), (2.0, 3.0), (3.0, 2.5), (4.0, 2.0)]);
    /// ```
    #[must_use]
    pub fn running_mean(&self, window: usize) -> Self {
        let window = window.max(1);
        let mean = |at: usize| {
            let of = &self.points[(at + 1).saturating_sub(window)..=at];
            of.iter().map(|(_, y)| y).sum::<f64>() / of.len() as f64
        };
        let points = self.points.iter().enumerate().map(|(at, (x, _))| (*x, mean(at))).collect();
        Self { name: format!("{}, mean of {window}", self.name), points, faint: false }
    }
}

/// Whether a number has a place on paper: finite, with room for sums of a few of them.
pub(super) fn drawable(value: f64) -> bool {
    value.is_finite() && value.abs() < 1e300
}

/// Refuses what has no place on paper, naming the series.
pub(super) fn check(what: &str, series: &[Series]) -> Result<()> {
    if series.iter().all(|s| s.points.is_empty()) {
        return Err(Error::Usage(format!("{what}: there is nothing to draw; give at least one series with one value")));
    }
    for s in series {
        if let Some(at) = s.points.iter().position(|(x, y)| !(drawable(*x) && drawable(*y))) {
            return Err(Error::Usage(format!(
                "{what}: value {} of {:?} is not a finite number; leave it out or find where it diverged",
                at + 1,
                s.name
            )));
        }
    }
    Ok(())
}
