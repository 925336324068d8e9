//! A finished picture: SVG text that belongs to nobody else.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::canvas::escape;
use super::png;
use crate::error::{Error, Result};
use crate::files::save_atomically;
use crate::notebook::print_media;

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

/// How many tips [`Figure::plain`] repeats.
const TIPS: usize = 12;

/// Ground, texts and lines in the colors of the page's theme, where it has one; cells of a matrix keep theirs.
const THEME: &str = ".lafter-figure img{display:none}\
.lafter-figure .panel,.lafter-figure .ground{fill:var(--jp-layout-color0,var(--vscode-editor-background,#fff))}\
.lafter-figure [fill=\"#222222\"]{fill:var(--jp-ui-font-color0,var(--vscode-editor-foreground,#222))}\
.lafter-figure [stroke=\"#222222\"]{stroke:var(--jp-ui-font-color0,var(--vscode-editor-foreground,#222))}\
.lafter-figure [fill=\"#555555\"],.lafter-figure [fill=\"#444444\"]{fill:var(--jp-ui-font-color1,var(--vscode-editor-foreground,#555))}\
.lafter-figure [stroke=\"#444444\"]{stroke:var(--jp-ui-font-color1,var(--vscode-editor-foreground,#444))}\
.lafter-figure [stroke=\"#dddddd\" i],.lafter-figure [stroke=\"#999999\"]{stroke:var(--jp-border-color2,var(--vscode-editorWidget-border,#ddd))}";

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

    /// The picture as the bytes of a PNG file, at twice its nominal size: sharp on dense screens and in print.
    ///
    /// # Errors
    /// [`Error::Usage`] if it is too large to draw.
    pub fn png(&self) -> Result<Vec<u8>> {
        png::render(&self.svg, 2.0)
    }

    /// The picture for a page of HTML: its ground and its texts follow the colors of JupyterLab's and VS Code's themes.
    ///
    /// A page that does not trust what it shows removes style sheets and SVG: there the PNG inside is seen, at its nominal size.
    pub fn html(&self) -> String {
        let alternative = self.nominal_png().map_or(String::new(), |png| {
            format!("<img alt=\"{}\" src=\"data:image/png;base64,{}\">", escape(&self.title), STANDARD.encode(png))
        });
        self.themed(&alternative)
    }

    /// As [`Figure::html`], without a PNG: for what is replaced in a moment.
    pub(crate) fn html_for_now(&self) -> String {
        self.themed("")
    }

    /// The PNG that a notebook shows; `None` if the figure is too large for one.
    pub(crate) fn nominal_png(&self) -> Option<Vec<u8>> {
        png::render(&self.svg, 1.0).ok()
    }

    fn themed(&self, alternative: &str) -> String {
        // without its tags the SVG's text would be left over, in letters of no size
        format!("<div class=\"lafter-figure\" style=\"font-size:0\"><style>{THEME}</style>{alternative}{}</div>", self.svg)
    }

    /// What is drawn, in words: the heading, then what the pointer would be told (values, names of curves), not more than a paragraph.
    pub fn plain(&self) -> String {
        let mut tips: Vec<String> = Vec::new();
        for part in self.svg.split("<title>").skip(2) {
            let tip = unescape(part.split("</title>").next().unwrap_or_default());
            if !tip.trim().is_empty() && !tips.contains(&tip) {
                tips.push(tip);
            }
        }
        let more = tips.len().saturating_sub(TIPS);
        let mut words = tips.into_iter().take(TIPS).collect::<Vec<_>>().join("; ");
        if more > 0 {
            words += &format!("; and {more} more");
        }
        let title = if self.title.trim().is_empty() { "figure" } else { self.title.trim() };
        if words.is_empty() { format!("[{title}]") } else { format!("[{title}: {words}]") }
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
        print_media(self);
    }
}

impl fmt::Debug for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Figure({}, {:.0} × {:.0})", self.title, self.width, self.height)
    }
}

/// What [`escape`] made, as it was.
fn unescape(text: &str) -> String {
    let pairs = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    pairs.into_iter().fold(text.to_string(), |text, (entity, letter)| text.replace(entity, letter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::{Series, Sort, bars, curves};

    #[test]
    fn words_stand_for_a_picture() {
        let figure = curves("Loss & more", "epoch", "loss", &[Series::new("a < b", [1.5f64, 0.5])]).unwrap();
        assert_eq!(figure.plain(), "[Loss & more: a < b; a < b: 1.5 at 1; a < b: 0.5 at 2]");
        let many: Vec<f64> = (0..50).map(f64::from).collect();
        let figure = curves("Many", "step", "loss", &[Series::new("loss", many)]).unwrap();
        assert!(figure.plain().ends_with("; and 39 more]"), "{}", figure.plain());
    }

    #[test]
    fn a_page_that_trusts_nothing_keeps_the_png() {
        let classes = ["cat".to_string(), "dog".to_string()];
        let figure = bars("Accuracy", "%", &classes, &[Series::new("top-1", [70.0f64, 90.0])], Sort::AsGiven).unwrap();
        let html = figure.html();
        let (style, rest) = html.split_once("</style>").unwrap();
        assert!(style.contains("--jp-layout-color0") && style.contains("font-size:0"));
        let png = rest.split_once("base64,").and_then(|(_, rest)| rest.split_once('"')).unwrap().0;
        assert!(STANDARD.decode(png).unwrap().starts_with(b"\x89PNG"));
        assert!(rest.contains("<svg") && !figure.html_for_now().contains("<img"));
    }
}
