//! Where a token looks: attention over an image's patches, laid over the image.

use image::{Rgb, RgbImage};

use super::figure::Figure;
use super::views::views;
use crate::error::{Error, Result};

/// The picture, and beside it one copy a map, bright where the map is high: class token to patches, a visual prompt to
/// patches, block by block or head by head.
///
/// # Shapes
/// Each map holds `columns` weights a row, from the upper left; its scale does not matter.
///
/// # Errors
/// [`Error::Usage`] where there is no map, or one does not fill whole rows or holds no finite number.
///
/// ```
/// let picture = image::RgbImage::from_pixel(40, 40, image::Rgb([90, 120, 60]));
/// let map = ("block 4".to_string(), vec![0.1, 0.2, 0.6, 0.1]);
/// let figure = lafter::plot::attention("Class token", &picture, 2, &[map])?;
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn attention(title: &str, picture: &RgbImage, columns: usize, maps: &[(String, Vec<f32>)]) -> Result<Figure> {
    attention_rows(title, columns, &[(picture.clone(), maps.to_vec())])
}

/// A picture and its maps.
pub type AttentionRow = (RgbImage, Vec<(String, Vec<f32>)>);

/// The same for several pictures, or several towers over one: a row each.
///
/// # Errors
/// [`Error::Usage`] where a row has no map, or a map does not fill whole rows or holds no finite number.
pub fn attention_rows(title: &str, columns: usize, rows: &[AttentionRow]) -> Result<Figure> {
    if rows.is_empty() || rows.iter().any(|(_, maps)| maps.is_empty()) {
        return Err(Error::Usage("attention: there is nothing to show; give at least one map".into()));
    }
    let mut grid = Vec::with_capacity(rows.len());
    for (picture, maps) in rows {
        // patches of a small picture are shown with soft edges, as those of a large one are
        let large = enlarged(picture);
        let mut row = vec![("image".to_string(), picture.clone())];
        for (caption, map) in maps {
            row.push((
                caption.clone(),
                overlay(&large, columns, map).map_err(|what| Error::Usage(format!("attention, {caption}: {what}")))?,
            ));
        }
        grid.push(row);
    }
    views(title, &grid)
}

/// At least about 200 pixels wide, with sharp pixels.
fn enlarged(picture: &RgbImage) -> RgbImage {
    let times = 200u32.div_ceil(picture.width().max(1)).clamp(1, 64);
    image::imageops::resize(picture, picture.width() * times, picture.height() * times, image::imageops::FilterType::Nearest)
}

/// The share of its brightness that the picture keeps where the map is lowest.
const FLOOR: f32 = 0.35;

/// The picture darkened and greyed where the map is low, with its own colours where it is high.
fn overlay(picture: &RgbImage, columns: usize, map: &[f32]) -> std::result::Result<RgbImage, String> {
    if columns == 0 || map.is_empty() || !map.len().is_multiple_of(columns) {
        return Err(format!("{} weights do not fill rows of {columns}", map.len()));
    }
    let (low, high) = map.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)));
    if !(low.is_finite() && high.is_finite()) {
        return Err("a weight is not a finite number".into());
    }
    let (across, down) = (columns as f32, (map.len() / columns) as f32);
    let (width, height) = (picture.width() as f32, picture.height() as f32);
    let weight = |x: u32, y: u32| {
        // between the centres of patches the weight changes linearly
        let at = |place: u32, size: f32, count: f32| ((place as f32 + 0.5) / size * count - 0.5).clamp(0.0, count - 1.0);
        let (u, v) = (at(x, width, across), at(y, height, down));
        let (left, upper) = (u.floor() as usize, v.floor() as usize);
        let (right, lower) = ((left + 1).min(columns - 1), (upper + 1).min(map.len() / columns - 1));
        let (a, b) = (u - u.floor(), v - v.floor());
        let mix = |p: f32, q: f32, t: f32| p + (q - p) * t;
        let row = |row: usize| mix(map[row * columns + left], map[row * columns + right], a);
        // where all weights are the same, all of the picture is looked at
        if high > low { (mix(row(upper), row(lower), b) - low) / (high - low) } else { 1.0 }
    };
    Ok(RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let Rgb(pixel) = *picture.get_pixel(x, y);
        let grey = pixel.iter().map(|v| f32::from(*v)).sum::<f32>() / 3.0;
        // the root: attention is peaked, and half of the peak is still much
        let w = weight(x, y).clamp(0.0, 1.0).sqrt();
        Rgb(pixel.map(|v| (FLOOR * grey + w * (f32::from(v) - FLOOR * grey)).round() as u8))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn high_weights_keep_the_colours_and_low_ones_lose_them() {
        let picture = RgbImage::from_pixel(4, 2, Rgb([200, 100, 0]));
        let over = overlay(&picture, 2, &[0.0, 5.0]).unwrap();
        assert_eq!((over.get_pixel(3, 0).0, over.get_pixel(0, 1).0), ([200, 100, 0], [35, 35, 35]));
        assert!(overlay(&picture, 2, &[1.0]).is_err() && overlay(&picture, 1, &[f32::NAN]).is_err());
    }
}
