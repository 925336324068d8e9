//! Histograms of several samples over one axis: confidences right and wrong, similarities within and across modalities.

use super::axes::{Axes, Ticks, span};
use super::canvas::{Anchor, Canvas, EDGE, LINE, Type, WIDTH};
use super::figure::Figure;
use super::palette::{Key, color, legend};
use super::series::drawable;
use super::text::{number, wrap};
use crate::error::{Error, Result};
use crate::rng::Rng;

/// Each sample's share of values in `bins` equal bins over the range of all, in percent of that sample.
///
/// # Errors
/// [`Error::Usage`] if there is nothing to draw, no bin, or a value is not finite.
///
/// ```
/// let right = ("right".to_string(), vec![0.9, 0.8, 0.95]);
/// let wrong = ("wrong".to_string(), vec![0.4, 0.5]);
/// let figure = lafter::plot::histogram("Pseudo-labels", "confidence", 10, &[right, wrong])?;
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn histogram(title: &str, value_label: &str, bins: usize, samples: &[(String, Vec<f64>)]) -> Result<Figure> {
    let all = || samples.iter().flat_map(|(_, values)| values.iter().copied());
    if all().next().is_none() || bins == 0 {
        return Err(Error::Usage("histogram: there is nothing to draw; give at least one value and one bin".into()));
    }
    if let Some((name, _)) = samples.iter().find(|(_, values)| values.iter().any(|value| !drawable(*value))) {
        return Err(Error::Usage(format!("histogram: {name:?} holds a value that is not a finite number; leave it out")));
    }
    let (low, high) = span(all(), 0.0);
    let width = (high - low) / bins as f64;
    let shares: Vec<Vec<f64>> = samples
        .iter()
        .map(|(_, values)| {
            let mut counts = vec![0.0; bins];
            for value in values {
                counts[(((value - low) / width) as usize).min(bins - 1)] += 100.0 / values.len() as f64;
            }
            counts
        })
        .collect();
    let most = shares.iter().flatten().fold(0.0, |most: f64, share| most.max(*share));

    let mut canvas = Canvas::new(title, WIDTH);
    let mut top = canvas.heading();
    canvas.text(EDGE, top + 11.0, "percent of each sample", Type::new(11.0, Anchor::Start).muted());
    top += 17.0;
    let name = |(name, values): &(String, Vec<f64>)| format!("{name} ({})", values.len());
    let names: Vec<String> = samples.iter().map(name).collect();
    top = legend(&mut canvas, (EDGE, top), WIDTH - 2.0 * EDGE, &names, Key::Box) + 8.0;
    let bottom = top + 240.0;
    let axes = Axes::draw(&mut canvas, (EDGE, top, WIDTH - EDGE, bottom), (low, high), (0.0, most * 1.05), Ticks::BOTH)?;
    for (index, (shares, (name, _))) in shares.iter().zip(samples).enumerate() {
        for (bin, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
            let from = low + bin as f64 * width;
            let ((left, upper), (right, lower)) = (axes.at(from, *share), axes.at(from + width, 0.0));
            let look = format!("class=\"bin\" fill=\"{0}\" fill-opacity=\"0.45\" stroke=\"{0}\"", color(index));
            let tip = format!("{name}, {} to {}: {share:.1} %", number(from, width), number(from + width, width));
            canvas.rect((left, upper), (right - left, lower - upper), &look, Some(&tip));
        }
    }
    let middle = (axes.plane.0 + axes.plane.2) / 2.0;
    let lines = wrap(value_label, 11.0, 2.0 * (WIDTH - EDGE - middle).min(middle - EDGE));
    let tall = lines.len() as f64 * 11.0 * LINE;
    canvas.lines(middle, bottom + 3.0 + tall / 2.0, &lines, Type::new(11.0, Anchor::Middle).muted());
    Ok(canvas.finish(bottom + 11.0 + tall))
}

/// Of more pairs than this, so many are compared.
const MOST_PAIRS: usize = 60_000;

/// The modality gap (Liang et al. 2022): cosines of text features with each other, of image features with each other, and of
/// texts with images. The further the last lie to the left of the other two, the wider the gap between the modalities.
///
/// # Shapes
/// `texts` `[n][d]`, `images` `[m][d]`: one feature per row.
///
/// # Errors
/// [`Error::Usage`] if either has fewer than two rows, or widths differ.
///
/// ```
/// let texts = [vec![1.0, 0.1], vec![0.9, 0.2]];
/// let images = [vec![0.1, 1.0], vec![0.2, 0.9]];
/// let figure = lafter::plot::modality_gap("The modality gap", &texts, &images)?;
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn modality_gap(title: &str, texts: &[Vec<f32>], images: &[Vec<f32>]) -> Result<Figure> {
    let width = texts.first().map_or(0, Vec::len);
    if texts.len() < 2 || images.len() < 2 || texts.iter().chain(images).any(|row| row.len() != width) {
        return Err(Error::Usage("modality gap: give at least two texts and two images with features of one width".into()));
    }
    let samples = [
        ("text with text".to_string(), cosines(texts, texts)),
        ("image with image".to_string(), cosines(images, images)),
        ("text with image".to_string(), cosines(texts, images)),
    ];
    histogram(title, "cosine similarity", 50, &samples)
}

/// Cosines of rows of `a` with rows of `b`, a row with itself left out; of many pairs a random sample, the same in every call.
fn cosines(a: &[Vec<f32>], b: &[Vec<f32>]) -> Vec<f64> {
    let same = std::ptr::eq(a, b);
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let all = a.len() * b.len();
    let mut rng = Rng::new(0);
    let pairs = (0..all.min(MOST_PAIRS)).map(|pair| match all > MOST_PAIRS {
        true => (rng.below(a.len()), rng.below(b.len())),
        false => (pair / b.len(), pair % b.len()),
    });
    let cosine = |(i, j): (usize, usize)| dot(&a[i], &b[j]) / (dot(&a[i], &a[i]) * dot(&b[j], &b[j])).sqrt().max(f64::MIN_POSITIVE);
    pairs.filter(|(i, j)| !same || i < j).map(cosine).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_leave_out_a_row_with_itself() {
        let rows = vec![vec![1.0, 0.0], vec![0.0, 2.0], vec![3.0, 0.0]];
        assert_eq!(cosines(&rows, &rows), [0.0, 1.0, 0.0]);
        assert_eq!(cosines(&rows, &rows.clone()).len(), 9);
    }

    /// A fixed step through the pairs meets the same few rows wherever it shares a factor with their number.
    #[test]
    fn many_pairs_are_of_many_rows() {
        // row i has its own cosine with the first
        let rows: Vec<Vec<f32>> = (0..6_000).map(|i| vec![i as f32, 6_000.0 - i as f32]).collect();
        let first = vec![vec![1.0, 0.0]; 10];
        let mut found: Vec<u64> = cosines(&first, &rows).into_iter().map(f64::to_bits).collect();
        let count = found.len();
        found.sort_unstable();
        found.dedup();
        assert!(count == 60_000 && found.len() == 6_000);
        let twice = [rows, first].concat();
        let mut found: Vec<u64> = cosines(&twice, &twice).into_iter().map(f64::to_bits).collect();
        found.sort_unstable();
        found.dedup();
        assert!(found.len() > 5_000, "{}", found.len());
    }
}
