//! Values shown by a cell at any time, and handles that replace them in place.

use std::io::Cursor;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::{Engine, engine::general_purpose::STANDARD};
use candle_core::Tensor;
use image::{DynamicImage, ImageFormat, RgbImage};
use serde_json::{Map, Value, json};

use super::hooks::answer;
use super::tell;
use crate::eval::{Evaluation, Report, Table};
use crate::plot::Figure;

/// What a notebook can show: the same content in one or more media types, the plainest last.
pub trait Show {
    /// (MIME type, content); binary content as base64.
    fn media(&self) -> Vec<(&'static str, String)>;
}

impl<T: Show + ?Sized> Show for &T {
    fn media(&self) -> Vec<(&'static str, String)> {
        (**self).media()
    }
}

/// Text that is shown as HTML.
#[derive(Clone, Debug)]
pub struct Html(pub String);

/// Text that is shown as Markdown, formulas included.
#[derive(Clone, Debug)]
pub struct Markdown(pub String);

impl Show for Html {
    fn media(&self) -> Vec<(&'static str, String)> {
        vec![("text/html", self.0.clone()), ("text/plain", self.0.clone())]
    }
}

impl Show for Markdown {
    fn media(&self) -> Vec<(&'static str, String)> {
        vec![("text/markdown", self.0.clone()), ("text/plain", self.0.clone())]
    }
}

impl Show for str {
    fn media(&self) -> Vec<(&'static str, String)> {
        vec![("text/plain", self.to_string())]
    }
}

impl Show for String {
    fn media(&self) -> Vec<(&'static str, String)> {
        self.as_str().media()
    }
}

impl Show for Tensor {
    fn media(&self) -> Vec<(&'static str, String)> {
        self.to_string().media()
    }
}

impl Show for Figure {
    fn media(&self) -> Vec<(&'static str, String)> {
        let png = self.nominal_png().map(|png| ("image/png", STANDARD.encode(png)));
        let vector = [("text/html", self.html()), ("image/svg+xml", self.svg().to_string())];
        vector.into_iter().chain(png).chain([("text/plain", self.plain())]).collect()
    }
}

impl Show for Table {
    fn media(&self) -> Vec<(&'static str, String)> {
        vec![("text/html", self.to_html()), ("text/plain", self.to_string())]
    }
}

impl Show for Evaluation {
    fn media(&self) -> Vec<(&'static str, String)> {
        self.table().media()
    }
}

impl Show for Report {
    fn media(&self) -> Vec<(&'static str, String)> {
        self.table().media()
    }
}

impl Show for RgbImage {
    fn media(&self) -> Vec<(&'static str, String)> {
        let plain = format!("picture, {} × {}", self.width(), self.height());
        let mut png = Cursor::new(Vec::new());
        match self.write_to(&mut png, ImageFormat::Png) {
            Ok(()) => vec![("image/png", STANDARD.encode(png.into_inner())), ("text/plain", plain)],
            Err(error) => vec![("text/plain", format!("{plain}: {error}"))],
        }
    }
}

impl Show for DynamicImage {
    fn media(&self) -> Vec<(&'static str, String)> {
        self.to_rgb8().media()
    }
}

/// A figure that is replaced in a moment: without the forms that only a saved notebook needs.
pub(super) struct ForNow(pub Figure);

impl Show for ForNow {
    fn media(&self) -> Vec<(&'static str, String)> {
        vec![("text/html", self.0.html_for_now()), ("text/plain", self.0.plain())]
    }
}

/// Prints a value in the form in which evcxr takes a cell's last expression.
pub(crate) fn print_media<T: Show + ?Sized>(value: &T) {
    print(value.media());
}

/// The same of media that are there already.
pub(super) fn print(media: Vec<(&str, String)>) {
    for (kind, text) in media {
        println!("EVCXR_BEGIN_CONTENT {kind}\n{text}\nEVCXR_END_CONTENT");
    }
}

/// A shown value that can be replaced where it stands.
#[derive(Clone, Debug)]
pub struct Display {
    id: String,
}

impl Display {
    /// Shows `content` in place of what was shown.
    pub fn update(&self, content: impl Show) {
        tell(&json!({"op": "update", "id": self.id, "data": data(&content)}));
    }
}

/// Shows `content` now, in order with printed text; the handle replaces it later, also from another cell.
///
/// ```
/// use lafter::prelude::*;
/// let shown = display("loss 2.3");
/// shown.update("loss 0.4");
/// ```
pub fn display(content: impl Show) -> Display {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let id = format!("lafter-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    tell(&json!({"op": "display", "id": id, "data": data(&content)}));
    Display { id }
}

/// Empties the cell's output; with `wait` only when the next output comes, so that nothing flickers.
pub fn clear_output(wait: bool) {
    tell(&json!({"op": "clear", "wait": wait}));
}

/// Asks the reader of the notebook for a line of text.
pub fn input(prompt: &str) -> String {
    println!("EVCXR_INPUT_REQUEST:{}", prompt.replace(['\n', ':'], " "));
    answer()
}

fn data(content: &impl Show) -> Map<String, Value> {
    content.media().into_iter().map(|(media, text)| (media.to_string(), text.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_a_png_with_words_beside_it() {
        let media = RgbImage::new(3, 2).media();
        assert!(STANDARD.decode(&media[0].1).unwrap().starts_with(b"\x89PNG"));
        assert_eq!(media[1], ("text/plain", "picture, 3 × 2".to_string()));
    }
}
