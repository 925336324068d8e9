//! Text and image features in one plane: do the classes meet, and how far apart are the two modalities?

use super::axes::{Axes, Ticks, span};
use super::canvas::{Anchor, Canvas, EDGE, Type, WIDTH, escape};
use super::figure::Figure;
use super::palette::{DISTINCT, Key, colour, legend, mark};
use super::pca::pca;
use super::text::wrap;
use crate::error::{Error, Result};
use crate::rng::Rng;

/// More points of one modality than this are thinned: they would hide each other.
const MOST: usize = 1500;

/// A scatter plot of text and image features along the first two principal components of both together.
///
/// Features are scaled to unit length first, as CLIP compares them. Colour and shape name the class, large outlined marks
/// are texts, small ones images. The dashed line joins the means of the two modalities: its true length (not the one seen
/// in the plane), the modality gap ‖mean(text) − mean(image)‖ of Liang et al. 2022, stands below the title.
///
/// # Shapes
/// `texts` `[n][d]` with `text_labels` `[n]`, `images` `[m][d]` with `image_labels` `[m]`; either may be empty.
///
/// # Errors
/// [`Error::Usage`] for no features, widths or numbers of labels that differ, labels that are no class, values that are not
/// finite.
///
/// ```
/// let classes = ["river".to_string(), "forest".to_string()];
/// let texts = [vec![1.0f32, 0.1, 0.0], vec![0.1, 1.0, 0.0]];
/// let images = [vec![0.9f32, 0.0, 0.5], vec![0.0, 0.9, 0.6]];
/// let figure = lafter::plot::embedding(&texts, &[0, 1], &images, &[0, 1], &classes)?;
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn embedding(
    texts: &[Vec<f32>],
    text_labels: &[usize],
    images: &[Vec<f32>],
    image_labels: &[usize],
    classes: &[String],
) -> Result<Figure> {
    let d = texts.iter().chain(images).map(Vec::len).next().unwrap_or(0);
    if d < 2 || texts.iter().chain(images).any(|row| row.len() != d) {
        return Err(Error::Usage(format!(
            "embedding of {} text and {} image features: all must have one width of at least 2; do they come from the same CLIP?",
            texts.len(),
            images.len()
        )));
    }
    for (what, features, labels) in [("text", texts, text_labels), ("image", images, image_labels)] {
        if features.len() != labels.len() {
            return Err(Error::Usage(format!(
                "embedding: {} {what} features with {} labels; give one a feature",
                features.len(),
                labels.len()
            )));
        }
        if let Some(label) = labels.iter().find(|label| **label >= classes.len()) {
            return Err(Error::Usage(format!("embedding: a {what} has label {label}, but there are {} classes", classes.len())));
        }
        if features.iter().flatten().any(|v| !v.is_finite()) {
            return Err(Error::Usage(format!("embedding: a {what} feature is not finite; look for it before drawing")));
        }
    }
    let (texts, text_labels) = thinned(texts, text_labels);
    let (images, image_labels) = thinned(images, image_labels);
    let all: Vec<Vec<f64>> = texts.iter().chain(&images).cloned().collect();
    let plane = pca(&all, 2)?;
    let place = |feature: &[f64]| {
        let at = plane.project(feature);
        (at.first().copied().unwrap_or(0.0), at.get(1).copied().unwrap_or(0.0))
    };
    let text_points: Vec<(f64, f64)> = texts.iter().map(|f| place(f)).collect();
    let image_points: Vec<(f64, f64)> = images.iter().map(|f| place(f)).collect();

    let mut canvas = Canvas::new("Text and image features", WIDTH);
    let mut top = canvas.heading();
    let means = mean(&texts).zip(mean(&images));
    let mut notes = vec!["Large outlined marks are texts, small marks are images.".to_string()];
    if let Some((text, image)) = &means {
        let gap = text.iter().zip(image).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        notes.push(format!("Modality gap (dashed): {gap:.2} between the mean unit features."));
    }
    let style = Type::new(11.0, Anchor::Start).muted();
    for line in wrap(&notes.join(" "), 11.0, WIDTH - 2.0 * EDGE) {
        top += 14.0;
        canvas.text(EDGE, top - 3.0, &line, style);
    }
    top = legend(&mut canvas, (EDGE, top + 6.0), WIDTH - 2.0 * EDGE, classes, Key::Mark);
    if classes.len() > DISTINCT {
        top += 14.0;
        canvas.text(EDGE, top - 2.0, &format!("Colours and shapes repeat after {DISTINCT} classes; the tips name the class."), style);
    }
    top += 6.0;

    let bottom = top + 420.0;
    let points = || text_points.iter().chain(&image_points);
    let (x, y) = (span(points().map(|p| p.0), 0.05), span(points().map(|p| p.1), 0.05));
    let axes = Axes::draw(&mut canvas, (EDGE, top, WIDTH - EDGE, bottom), x, y, Ticks::Both)?;
    let kinds = [("image", &image_points, &image_labels, 2.6), ("text", &text_points, &text_labels, 5.0)];
    for (kind, points, labels, radius) in kinds {
        let look = if kind == "text" { "stroke=\"#222222\" stroke-width=\"0.9\"" } else { "fill-opacity=\"0.6\"" };
        for (class, name) in classes.iter().enumerate() {
            let marks: String = points
                .iter()
                .zip(labels.iter())
                .filter(|(_, label)| **label == class)
                .map(|(&(x, y), _)| {
                    let (x, y) = axes.at(x, y);
                    format!("<path class=\"{kind}\" d=\"{}\"/>", mark(class, x, y, radius))
                })
                .collect();
            if !marks.is_empty() {
                let tip = escape(&format!("{kind}: {name}"));
                canvas.raw(&format!("<g fill=\"{}\" {look}><title>{tip}</title>{marks}</g>", colour(class)));
            }
        }
    }
    if let Some((text, image)) = means {
        let (a, b) = (place(&text), place(&image));
        let (a, b) = (axes.at(a.0, a.1), axes.at(b.0, b.1));
        // White below black: visible over marks of any colour.
        canvas.line(a, b, "class=\"halo\" stroke=\"#ffffff\" stroke-width=\"4\" stroke-opacity=\"0.8\"");
        canvas.line(a, b, "class=\"gap\" stroke=\"#222222\" stroke-width=\"1.6\" stroke-dasharray=\"5 4\"");
    }
    let share = |i: usize| 100.0 * plane.explained.get(i).copied().unwrap_or(0.0);
    let label = format!("across: component 1 ({:.0} % of the variance), up: component 2 ({:.0} %)", share(0), share(1));
    canvas.text((axes.plane.0 + axes.plane.2) / 2.0, bottom + 13.0, &label, Type::new(11.0, Anchor::Middle).muted());
    Ok(canvas.finish(bottom + 24.0))
}

/// At most [`MOST`] features, in 64 bits and of unit length (a feature of zeros stays one), with their labels. The choice is
/// always the same one; it is drawn, because even distances would miss classes of data whose classes take turns.
fn thinned(features: &[Vec<f32>], labels: &[usize]) -> (Vec<Vec<f64>>, Vec<usize>) {
    let mut order: Vec<usize> = (0..features.len()).collect();
    if order.len() > MOST {
        Rng::new(0).shuffle(&mut order);
        order.truncate(MOST);
        order.sort_unstable();
    }
    let chosen = order.into_iter().filter_map(|at| features.get(at).zip(labels.get(at)));
    chosen
        .map(|(feature, &label)| {
            let length = feature.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
            let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
            (feature.iter().map(|&v| f64::from(v) * scale).collect(), label)
        })
        .unzip()
}

fn mean(features: &[Vec<f64>]) -> Option<Vec<f64>> {
    let mut sum = vec![0.0; features.first()?.len()];
    for feature in features {
        sum.iter_mut().zip(feature).for_each(|(s, v)| *s += v / features.len() as f64);
    }
    Some(sum)
}
