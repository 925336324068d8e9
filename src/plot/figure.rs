//! A finished picture: SVG text that belongs to nobody else.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::png;
use crate::error::{Error, Result};
use crate::files::save_atomically;

/// A picture as SVG, cheap to clone; a cell that ends in one shows it.
///
/// ```
/// let figure = lafter::plot::curves("Tuning", "epoch", "loss", &[lafter::plot::Series::new("student", [1.5f64, 0.7, 0.4])])?;
/// assert!(figure.svg().starts_with("<svg"));
/// let dir = tempfile::tempdir().unwrap();
/// figure.save(dir.path().join("tuning.svg"))?;
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct Figure {
    svg: Arc<str>,
    title: String,
    width: f64,
    height: f64,
}

/// Lets a narrower page shrink the picture. A file goes without: programs that draw SVG outside of a page may take `auto` for 0.
pub(super) const FLUID: &str = " style=\"max-width:100%;height:auto\"";

impl Figure {
    pub(super) fn new(svg: String, title: String, width: f64, height: f64) -> Self {
        Self { svg: svg.into(), title, width, height }
    }

    /// The SVG document: one `<svg>` element, without an XML declaration, so that it can stand inside HTML.
    pub fn svg(&self) -> &str {
        &self.svg
    }

    /// What it shows, as its heading says.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Width and height in pixels; a page that is narrower shows it smaller.
    pub fn size(&self) -> (f64, f64) {
        (self.width, self.height)
    }

    /// The picture as the bytes of a PNG file, at twice its nominal size.
    ///
    /// # Errors
    /// [`Error::Usage`] if it is too large to draw.
    pub fn png(&self) -> Result<Vec<u8>> {
        png::render(&self.svg)
    }

    /// Writes the picture to a file whose name ends in `.svg` or `.png`: whole or not at all.
    ///
    /// # Errors
    /// [`Error::Usage`] for another ending, [`Error::Io`] with the path.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        match path.extension().map(|ending| ending.to_ascii_lowercase()) {
            Some(ending) if ending == "svg" => save_atomically(path, self.svg.replacen(FLUID, "", 1).as_bytes()),
            Some(ending) if ending == "png" => save_atomically(path, &self.png()?),
            _ => Err(Error::Usage(format!("cannot save a figure as {}: let the name end in .svg or .png", path.display()))),
        }
    }

    /// Shows the picture in a notebook (called by evcxr).
    pub fn evcxr_display(&self) {
        println!("EVCXR_BEGIN_CONTENT text/html\n{}\nEVCXR_END_CONTENT", self.svg);
    }
}

impl fmt::Debug for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Figure({}, {:.0} × {:.0})", self.title, self.width, self.height)
    }
}
