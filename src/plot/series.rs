//! A named list of points.

use crate::error::{Error, Result};

/// A name and its points, in order of x.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// (x, y).
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// Values at x = 1, 2, 3, …: epochs, steps, or classes in order.
    pub fn new<V: Into<f64>>(name: impl Into<String>, values: impl IntoIterator<Item = V>) -> Self {
        let points = values.into_iter().enumerate().map(|(i, value)| ((i + 1) as f64, value.into())).collect();
        Self { name: name.into(), points }
    }

    /// Values at places of their own.
    pub fn at(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self { name: name.into(), points: points.into_iter().collect() }
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
