//! The sheet a picture is composed on: texts, lines and boxes become SVG elements.

use std::fmt::Write;

use super::figure::{FLUID, Figure};
use super::text::{bold_width, text_width, wrap};

/// The width of a figure where its content does not ask for more: that of a notebook's cell.
pub(super) const WIDTH: f64 = 720.0;
/// Room at the edges.
pub(super) const EDGE: f64 = 14.0;
/// Color of texts.
pub(super) const INK: &str = "#222222";
/// Color of axis labels and captions.
pub(super) const MUTED: &str = "#555555";
/// Color of grids and frames.
pub(super) const GRID: &str = "#dddddd";

/// Which point of a text stands at its x.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text looks. `turned` reads upwards.
#[derive(Clone, Copy)]
pub(super) struct Type {
    pub size: f64,
    pub anchor: Anchor,
    pub fill: &'static str,
    pub bold: bool,
    pub turned: bool,
}

impl Type {
    pub(super) fn new(size: f64, anchor: Anchor) -> Self {
        Self { size, anchor, fill: INK, bold: false, turned: false }
    }

    pub(super) fn muted(self) -> Self {
        Self { fill: MUTED, ..self }
    }
}

/// Elements collected so far. Coordinates are pixels from the upper left corner; a text's y is its baseline.
pub(super) struct Canvas {
    title: String,
    pub width: f64,
    body: String,
}

impl Canvas {
    pub(super) fn new(title: &str, width: f64) -> Self {
        Self { title: title.to_string(), width: width.ceil(), body: String::new() }
    }

    /// Writes the title over the whole width, in as many lines as it needs, and returns the y below it.
    pub(super) fn heading(&mut self) -> f64 {
        let size = 15.0;
        let mut y = EDGE;
        if !self.title.trim().is_empty() {
            // Bold runs wider than the table of widths says.
            let lines = wrap(&self.title, size * bold_width("n", 1.0) / text_width("n", 1.0), self.width - 2.0 * EDGE);
            for line in lines {
                y += size * 1.25;
                let style = Type { bold: true, ..Type::new(size, Anchor::Start) };
                self.text(EDGE, y - size * 0.25, &line, style);
            }
            y += 8.0;
        }
        y
    }

    pub(super) fn text(&mut self, x: f64, y: f64, text: &str, style: Type) {
        let Type { size, anchor, fill, bold, turned } = style;
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let bold = if bold { " font-weight=\"bold\"" } else { "" };
        let turn = if turned { format!(" transform=\"rotate(-90 {x:.1} {y:.1})\"") } else { String::new() };
        let text = escape(text);
        self.push(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\" fill=\"{fill}\"{bold}{turn}>{text}</text>"
        ));
    }

    /// Several lines, their middle at `y`.
    pub(super) fn lines(&mut self, x: f64, y: f64, lines: &[String], style: Type) {
        let step = style.size * LINE;
        let mut baseline = y + style.size * 0.35 - step * (lines.len() as f64 - 1.0) / 2.0;
        for line in lines {
            self.text(x, baseline, line, style);
            baseline += step;
        }
    }

    /// `attributes` are raw SVG (`fill="…" class="…"`); `tip` is shown where the pointer rests.
    pub(super) fn rect(&mut self, at: (f64, f64), size: (f64, f64), attributes: &str, tip: Option<&str>) {
        let ((x, y), (width, height)) = (at, size);
        let head = format!("<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" {attributes}");
        match tip {
            Some(tip) => self.push(format_args!("{head}><title>{}</title></rect>", escape(tip))),
            None => self.push(format_args!("{head}/>")),
        }
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), attributes: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.push(format_args!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {attributes}/>"));
    }

    /// Ready-made SVG elements.
    pub(super) fn raw(&mut self, svg: &str) {
        self.push(format_args!("{svg}"));
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.body, "{element}");
    }

    /// The figure: everything on a white panel `height` pixels high.
    pub(super) fn finish(self, height: f64) -> Figure {
        let (width, height) = (self.width, height.ceil());
        let title = escape(&self.title);
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             role=\"img\" font-family=\"sans-serif\"{FLUID}>\n<title>{title}</title>\n\
             <rect class=\"panel\" width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"#ffffff\"/>\n{}</svg>\n",
            self.body
        );
        Figure::new(svg, self.title, width, height)
    }
}

/// Distance between the baselines of two lines, in font sizes.
pub(super) const LINE: f64 = 1.2;

/// Text that is safe inside an XML element or attribute; characters that XML forbids become spaces.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_escapes_the_markup() {
        assert_eq!(escape("a<b>&\"'\u{0}é\u{ffff}"), "a&lt;b&gt;&amp;&quot;&#39; é ");
    }
}
