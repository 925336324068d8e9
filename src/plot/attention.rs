//! Where a token looks: attention over an image's patches, laid over the image.

use image::{Rgb, RgbImage};

use super::canvas::{Anchor, Canvas, EDGE, LINE, Type};
use super::figure::Figure;
use super::text::{text_width, wrap};
use super::views::grid;
use crate::error::{Error, Result};

/// The picture, and next to it one copy per map: class token to patches, a visual prompt to patches, block by block or head by
/// head. The copies are gray, with the map's colors over them: yellow where the token looks more than evenly, blue where less.
///
/// Attention is peaked: a few patches often take more than all others together, and on a scale up to the greatest weight
/// nothing else is seen. So the color of patch i shows, on a logarithmic scale, how many times its even share it gets,
///
/// r_i = w_i / mean(w).
///
/// The scale is the same for all maps of a figure and stands below them: from 2^-k to 2^k with the least k of ½, 1, 2, 3 that
/// holds nine tenths of all patches; the rest is shown as its end. Each caption tells its map's greatest r.
///
/// # Shapes
/// Each map holds `columns` weights per row, from the upper left; its sum does not matter.
///
/// # Errors
/// [`Error::Usage`] if there is no map, or one does not fill whole rows or holds a weight that is negative or not finite.
///
/// ```
/// let picture = image::RgbImage::from_pixel(40, 40, image::Rgb([90, 120, 60]));
/// let map = ("block 4".to_string(), vec![0.1, 0.2, 0.6, 0.1]);
/// let figure = lafter::plot::attention("Class token", &picture, 2, &[map])?;
/// assert!(figure.svg().contains("block 4, up to 2.4×"));
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn attention(title: &str, picture: &RgbImage, columns: usize, maps: &[(String, Vec<f32>)]) -> Result<Figure> {
    attention_rows(title, columns, &[(picture.clone(), maps.to_vec())])
}

/// A picture and its maps.
pub type AttentionRow = (RgbImage, Vec<(String, Vec<f32>)>);

/// The same for several pictures, or several towers over one: one row each, on one scale.
///
/// # Errors
/// Those of [`attention`].
pub fn attention_rows(title: &str, columns: usize, rows: &[AttentionRow]) -> Result<Figure> {
    if rows.is_empty() || rows.iter().any(|(_, maps)| maps.is_empty()) {
        return Err(Error::Usage("attention: there is nothing to show; give at least one map".into()));
    }
    let mut ratios = Vec::new(); // of each map, row after row
    for (caption, map) in rows.iter().flat_map(|(_, maps)| maps) {
        ratios.push(to_even_share(map, columns).map_err(|what| Error::Usage(format!("attention, {caption}: {what}")))?);
    }
    let doublings = doublings(&ratios);
    let mut ratios = ratios.iter();
    let mut pictures = Vec::with_capacity(rows.len());
    for (picture, maps) in rows {
        // patches of a small picture are shown with soft edges, as those of a large one are
        let large = enlarged(picture);
        let mut row = vec![("image".to_string(), picture.clone())];
        row.extend(maps.iter().zip(&mut ratios).map(|((caption, _), ratios)| {
            let most = ratios.iter().copied().fold(0.0, f32::max);
            let places: Vec<f32> = ratios.iter().map(|ratio| place(*ratio, doublings)).collect();
            (format!("{caption}, up to {}×", short(most)), overlay(&large, columns, &places))
        }));
        pictures.push(row);
    }
    grid(title, &pictures, |canvas, top| scale(canvas, top, doublings))
}

/// Each patch's weight over the mean weight; 1 for all if all are 0.
fn to_even_share(map: &[f32], columns: usize) -> std::result::Result<Vec<f32>, String> {
    if columns == 0 || map.is_empty() || !map.len().is_multiple_of(columns) {
        return Err(format!("{} weights do not fill rows of {columns}", map.len()));
    }
    if let Some(weight) = map.iter().find(|weight| !weight.is_finite() || **weight < 0.0) {
        return Err(format!("a weight is {weight}; attention weights are finite and at least 0"));
    }
    let mean = map.iter().map(|weight| f64::from(*weight)).sum::<f64>() / map.len() as f64;
    Ok(map.iter().map(|weight| if mean > 0.0 { (f64::from(*weight) / mean) as f32 } else { 1.0 }).collect())
}

/// How many doublings the scale reaches to both sides.
fn doublings(ratios: &[Vec<f32>]) -> f32 {
    let mut away: Vec<f32> = ratios.iter().flatten().map(|ratio| ratio.log2().abs()).collect();
    away.sort_by(f32::total_cmp);
    let most = away.get(away.len() * 9 / 10).copied().unwrap_or(0.0);
    [0.5, 1.0, 2.0].into_iter().find(|end| most <= *end).unwrap_or(3.0)
}

/// 0 at the scale's lower end, ½ at the even share, 1 at its upper end.
fn place(ratio: f32, doublings: f32) -> f32 {
    (0.5 + 0.5 * ratio.log2() / doublings).clamp(0.0, 1.0)
}

/// At least about 200 pixels on its longer side, with sharp pixels.
fn enlarged(picture: &RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let times = 200u32.div_ceil(width.max(height).max(1));
    image::imageops::resize(picture, width * times, height * times, image::imageops::FilterType::Nearest)
}

/// Cividis (Nuñez et al. 2018) in five steps: blue, gray in the middle, yellow, rising evenly in lightness, and the same to
/// color-blind readers.
const COLORS: [[f32; 3]; 5] = [[0.0, 34.0, 78.0], [59.0, 73.0, 108.0], [112.0, 113.0, 115.0], [165.0, 156.0, 116.0], [254.0, 232.0, 56.0]];

fn color(place: f32) -> [f32; 3] {
    let at = place.clamp(0.0, 1.0) * 4.0;
    let from = (at as usize).min(3);
    std::array::from_fn(|channel| COLORS[from][channel] + (COLORS[from + 1][channel] - COLORS[from][channel]) * (at - from as f32))
}

/// The share of the map's color in a pixel; the rest is the picture's gray.
const STRENGTH: f32 = 0.65;

/// The picture in gray below the colors of its places on the scale.
fn overlay(picture: &RgbImage, columns: usize, places: &[f32]) -> RgbImage {
    let rows = places.len() / columns;
    let (width, height) = (picture.width() as f32, picture.height() as f32);
    let at_pixel = |x: u32, y: u32| {
        // between the centers of patches the color changes linearly
        let at = |pixel: u32, size: f32, count: usize| ((pixel as f32 + 0.5) / size * count as f32 - 0.5).clamp(0.0, count as f32 - 1.0);
        let (u, v) = (at(x, width, columns), at(y, height, rows));
        let (left, upper) = (u as usize, v as usize);
        let (right, lower) = ((left + 1).min(columns - 1), (upper + 1).min(rows - 1));
        let mix = |p: f32, q: f32, t: f32| p + (q - p) * t;
        let row = |row: usize| mix(places[row * columns + left], places[row * columns + right], u.fract());
        mix(row(upper), row(lower), v.fract())
    };
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let Rgb(pixel) = *picture.get_pixel(x, y);
        let gray = pixel.iter().map(|v| f32::from(*v)).sum::<f32>() / 3.0;
        Rgb(color(at_pixel(x, y)).map(|v| (gray + STRENGTH * (v - gray)).round() as u8))
    })
}

/// Two digits: 0.53, 2.4, 17.
fn short(ratio: f32) -> String {
    match ratio {
        r if r >= 9.95 => format!("{r:.0}"),
        r if r >= 0.995 => format!("{r:.1}"),
        r => format!("{r:.2}"),
    }
}

/// The colors with their meaning. Returns the y below.
fn scale(canvas: &mut Canvas, top: f64, doublings: f32) -> f64 {
    const SIZE: f64 = 10.0;
    let style = Type::new(SIZE, Anchor::Start).muted();
    let (low, high) = match doublings {
        0.5 => ("0.7×", "1.4×"),
        1.0 => ("½×", "2×"),
        2.0 => ("¼×", "4×"),
        _ => ("⅛×", "8×"),
    };
    let left = EDGE + text_width(low, SIZE) + 4.0;
    canvas.text(EDGE, top + 9.0, low, style);
    for step in 0..50u8 {
        let [r, g, b] = color((f32::from(step) + 0.5) / 50.0).map(|v| (128.0 + STRENGTH * (v - 128.0)).round() as u8);
        let fill = format!("class=\"scale\" fill=\"#{r:02x}{g:02x}{b:02x}\"");
        canvas.rect((left + 2.4 * f64::from(step), top), (2.6, 10.0), &fill, None);
    }
    canvas.text(left + 124.0, top + 9.0, high, style);
    let text = left + 124.0 + text_width(high, SIZE) + 12.0;
    let meaning = "a patch's attention over the mean of all patches, gray: 1× (logarithmic; cut off at the ends)";
    let room = canvas.width - EDGE - text;
    // on a narrow sheet the words stand below the colors
    let (x, mut y, room) = if room >= 200.0 { (text, top + 9.0, room) } else { (EDGE, top + 24.0, canvas.width - 2.0 * EDGE) };
    for line in wrap(meaning, SIZE, room) {
        canvas.text(x, y, &line, style);
        y += SIZE * LINE;
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_tell_how_many_times_the_even_share() {
        assert_eq!(to_even_share(&[1.0, 2.0, 3.0, 2.0], 2).unwrap(), [0.5, 1.0, 1.5, 1.0]);
        assert_eq!(to_even_share(&[0.0, 0.0], 1).unwrap(), [1.0, 1.0]);
        assert_eq!([0.0, 0.25, 1.0, 2.0, 99.0].map(|ratio| place(ratio, 2.0)), [0.0, 0.0, 0.5, 0.75, 1.0]);
        for (map, columns) in [(vec![1.0], 2), (vec![1.0, f32::NAN, 1.0], 1), (vec![1.0, -0.1], 1), (vec![], 1), (vec![1.0], 0)] {
            assert!(to_even_share(&map, columns).is_err(), "{map:?}");
        }
    }

    #[test]
    fn one_patch_that_takes_all_does_not_decide_the_scale() {
        let mut map = vec![1.0; 48];
        assert_eq!(doublings(&[to_even_share(&map, 7).unwrap_or_else(|_| map.clone())]), 0.5);
        map.push(500.0);
        let ratios = to_even_share(&map, 7).unwrap();
        assert!(doublings(std::slice::from_ref(&ratios)) == 3.0 && ratios[48] > 40.0);
        let spread: Vec<f32> = (0..100).map(|i| (i as f32 / 50.0 - 1.0).exp2()).collect();
        assert_eq!(doublings(&[spread]), 1.0);
    }

    #[test]
    fn the_picture_shows_through_gray() {
        let picture = RgbImage::from_pixel(4, 2, Rgb([200, 100, 0]));
        let over = overlay(&picture, 2, &[0.0, 1.0]);
        let mixed = |place| color(place).map(|v| (100.0 + STRENGTH * (v - 100.0)).round() as u8);
        assert_eq!((over.get_pixel(0, 1).0, over.get_pixel(3, 0).0), (mixed(0.0), mixed(1.0)));
        assert_eq!((color(0.5), color(1.0)), (COLORS[2], COLORS[4]));
    }
}
