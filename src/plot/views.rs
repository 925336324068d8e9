//! A grid of pictures: a weak view next to its strong views.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::png::PngEncoder;
use image::imageops::FilterType;
use image::{ExtendedColorType, ImageEncoder, RgbImage};

use super::canvas::{Anchor, Canvas, EDGE, LINE, Type, WIDTH, escape};
use super::figure::Figure;
use super::text::wrap;
use crate::error::{Error, Result};

/// Size of captions.
const SIZE: f64 = 10.5;
/// Room between pictures.
const GAP: f64 = 10.0;
/// More pictures than this go on in the next line: they would be too small to see.
const ACROSS: usize = 9;

/// Pictures in rows, each with its caption below: one row per image, its weak view first, then its strong views. Small
/// pictures are enlarged with sharp pixels, large ones are reduced; all keep their proportions. They are embedded as PNG.
///
/// # Errors
/// [`Error::Usage`] if there is no picture or one without pixels.
///
/// ```
/// let picture = image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([x as u8 * 8, y as u8 * 8, 90]));
/// let row = vec![("weak view".to_string(), picture.clone()), ("strong view 1".to_string(), picture)];
/// let figure = lafter::plot::views("Two views", &[row])?;
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn views(title: &str, rows: &[Vec<(String, RgbImage)>]) -> Result<Figure> {
    grid(title, rows, |_, bottom| bottom)
}

/// The same with something below: `below` is given the y where it may begin, and returns that where it ends.
pub(super) fn grid(title: &str, rows: &[Vec<(String, RgbImage)>], below: impl FnOnce(&mut Canvas, f64) -> f64) -> Result<Figure> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0).min(ACROSS);
    if columns == 0 {
        return Err(Error::Usage("views: there is nothing to show; give at least one row with one picture".into()));
    }
    if rows.iter().flatten().any(|(_, picture)| picture.width() == 0 || picture.height() == 0) {
        return Err(Error::Usage("views: a picture has no pixels; leave it out".into()));
    }
    // As large as the width allows, within reason for a few.
    let box_size = ((WIDTH - 2.0 * EDGE + GAP) / columns as f64 - GAP).min(224.0);
    let content = columns as f64 * (box_size + GAP) - GAP + 2.0 * EDGE;
    let mut canvas = Canvas::new(title, content.max(240.0));
    let mut top = canvas.heading();
    for row in rows.iter().flat_map(|row| row.chunks(columns)) {
        let fit = |picture: &RgbImage| {
            let (w, h) = (f64::from(picture.width()), f64::from(picture.height()));
            let scale = box_size / w.max(h);
            ((w * scale).max(1.0), (h * scale).max(1.0))
        };
        let tallest = row.iter().map(|(_, picture)| fit(picture).1).fold(0.0, f64::max);
        let mut deepest = 0;
        for (column, (caption, picture)) in row.iter().enumerate() {
            let left = EDGE + column as f64 * (box_size + GAP);
            let (w, h) = fit(picture);
            let (x, y) = (left + (box_size - w) / 2.0, top + tallest - h);
            let sharp = if w > f64::from(picture.width()) { " style=\"image-rendering:pixelated\"" } else { "" };
            let data = data_uri(picture, w)?;
            canvas.raw(&format!(
                "<image class=\"view\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\"{sharp} href=\"{data}\">\
                 <title>{}</title></image>",
                escape(caption)
            ));
            let lines = if caption.trim().is_empty() { Vec::new() } else { wrap(caption, SIZE, box_size) };
            let style = Type::new(SIZE, Anchor::Middle).muted();
            for (i, line) in lines.iter().enumerate() {
                canvas.text(left + box_size / 2.0, top + tallest + 4.0 + SIZE * (1.0 + i as f64 * LINE), line, style);
            }
            deepest = deepest.max(lines.len());
        }
        top += tallest + deepest as f64 * SIZE * LINE + GAP + 6.0;
    }
    let bottom = below(&mut canvas, top);
    Ok(canvas.finish(bottom + 2.0))
}

/// The picture as a PNG inside a URI, at about the `width` it is shown at: whole multiples of small ones, because not every
/// program that draws SVG knows sharp pixels, and large ones at twice that width.
fn data_uri(picture: &RgbImage, width: f64) -> Result<String> {
    let (w, h) = picture.dimensions();
    let times = (width / f64::from(w)).ceil().clamp(1.0, 64.0) as u32;
    let most = (2.0 * width).ceil() as u32;
    let resized = if times > 1 {
        Some(image::imageops::resize(picture, w * times, h * times, FilterType::Nearest))
    } else if w > most {
        let tall = (f64::from(h) * f64::from(most) / f64::from(w)).round().max(1.0) as u32;
        Some(image::imageops::resize(picture, most, tall, FilterType::Triangle))
    } else {
        None
    };
    let picture = resized.as_ref().unwrap_or(picture);
    let mut png = Vec::new();
    PngEncoder::new(&mut png)
        .write_image(picture.as_raw(), picture.width(), picture.height(), ExtendedColorType::Rgb8)
        .map_err(|e| Error::Image(format!("views: a picture cannot be written as PNG: {e}")))?;
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(png)))
}
