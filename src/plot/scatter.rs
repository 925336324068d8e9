//! Text and image features in one plane: do the classes meet, and how far apart are the two modalities?

use super::axes::{Axes, Ticks, span};
use super::canvas::{Anchor, Canvas, EDGE, LINE, Type, WIDTH, escape};
use super::features::Features;
use super::figure::Figure;
use super::palette::{DISTINCT, Key, color, legend, mark};
use super::pca::pca;
use super::text::{number, text_width, wrap};
use super::tsne::{tsne, used};
use crate::error::Result;

/// A scatter plot of text and image features along the first two principal components of both together.
///
/// Features are scaled to unit length first, as CLIP compares them. Color and shape name the class, large outlined marks
/// are texts, small ones images. The dashed line joins the means of the two modalities: its true length (not the one seen
/// in the plane), the modality gap ‖mean(text) − mean(image)‖ of Liang et al. 2022, stands below the title. Of more classes
/// than colors and shapes can tell apart, as many as there is room for are named in the plane.
///
/// # Shapes
/// `texts` `[n][d]` with `text_labels` `[n]`, `images` `[m][d]` with `image_labels` `[m]`; either may be empty.
///
/// # Errors
/// [`crate::Error::Usage`] for no features, widths or numbers of labels that differ, labels that are not a class, values that
/// are not finite.
///
/// ```
/// let classes = ["river".to_string(), "forest".to_string()];
/// let texts = [vec![1.0f32, 0.1, 0.0], vec![0.1, 1.0, 0.0]];
/// let images = [vec![0.9f32, 0.0, 0.5], vec![0.0, 0.9, 0.6]];
/// let figure = lafter::plot::scatter(&texts, &[0, 1], &images, &[0, 1], &classes)?;
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn scatter(
    texts: &[Vec<f32>],
    text_labels: &[usize],
    images: &[Vec<f32>],
    image_labels: &[usize],
    classes: &[String],
) -> Result<Figure> {
    let features = Features::new(texts, text_labels, images, image_labels, classes.len())?;
    let plane = pca(&features.all(), 2)?;
    let place = |feature: &[f64]| {
        let at = plane.project(feature);
        (at.first().copied().unwrap_or(0.0), at.get(1).copied().unwrap_or(0.0))
    };
    let share = |i: usize| 100.0 * plane.explained.get(i).copied().unwrap_or(0.0);
    let caption = format!("across: component 1 ({:.0} % of the variance), up: component 2 ({:.0} %)", share(0), share(1));
    let places: Vec<(f64, f64)> = features.all().iter().map(|feature| place(feature)).collect();
    let gap = features.means().map(|(text, image)| (place(&text), place(&image)));
    draw(&features, &places, gap, &caption, classes)
}

/// The same by t-SNE ([`tsne()`]): near neighbors stay near, so classes show where PCA's plane hides them; distances between
/// groups mean little, so the modality gap is only told as a number.
///
/// # Errors
/// Those of [`scatter`] and of [`tsne()`].
pub fn scatter_tsne(
    texts: &[Vec<f32>],
    text_labels: &[usize],
    images: &[Vec<f32>],
    image_labels: &[usize],
    classes: &[String],
    perplexity: f64,
) -> Result<Figure> {
    let features = Features::new(texts, text_labels, images, image_labels, classes.len())?;
    let places = tsne(&features.all(), perplexity)?;
    let perplexity = number(used(perplexity, places.len()), 1.0);
    let caption = format!("t-SNE, perplexity {perplexity}: near neighbors stay near, distances between groups mean little");
    draw(&features, &places, None, &caption, classes)
}

/// `places`: of the texts, then of the images.
fn draw(
    features: &Features,
    places: &[(f64, f64)],
    gap: Option<((f64, f64), (f64, f64))>,
    caption: &str,
    classes: &[String],
) -> Result<Figure> {
    let (text_points, image_points) = places.split_at(features.texts.len());
    let mut canvas = Canvas::new("Text and image features", WIDTH);
    let mut top = canvas.heading();
    let mut notes = vec!["Large outlined marks are texts, small marks are images.".to_string()];
    if let Some((text, image)) = features.means() {
        let length = text.iter().zip(&image).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        let dashed = if gap.is_some() { " (dashed)" } else { "" };
        notes.push(format!("Modality gap{dashed}: {length:.2} between the mean unit features."));
    }
    let named = classes.len() > DISTINCT;
    if named {
        notes.push(format!("{} classes: colors and shapes repeat after {DISTINCT}; tips name the class of every mark.", classes.len()));
    }
    let style = Type::new(11.0, Anchor::Start).muted();
    for line in wrap(&notes.join(" "), 11.0, WIDTH - 2.0 * EDGE) {
        top += 14.0;
        canvas.text(EDGE, top - 3.0, &line, style);
    }
    if !named {
        top = legend(&mut canvas, (EDGE, top + 6.0), WIDTH - 2.0 * EDGE, classes, Key::Mark);
    }
    top += 6.0;

    let bottom = top + 420.0;
    let (x, y) = (span(places.iter().map(|p| p.0), 0.05), span(places.iter().map(|p| p.1), 0.05));
    let axes = Axes::draw(&mut canvas, (EDGE, top, WIDTH - EDGE, bottom), x, y, Ticks::BOTH)?;
    let kinds = [("image", image_points, &features.image_labels, 2.6), ("text", text_points, &features.text_labels, 5.0)];
    for (kind, points, labels, radius) in kinds {
        let look = if kind == "text" { "stroke=\"#222222\" stroke-width=\"0.9\"" } else { "fill-opacity=\"0.6\"" };
        for (class, name) in classes.iter().enumerate() {
            let of_class = points.iter().zip(labels.iter()).filter(|(_, label)| **label == class);
            let marks: String = of_class
                .map(|(&(x, y), _)| {
                    let (x, y) = axes.at(x, y);
                    format!("<path class=\"{kind}\" d=\"{}\"/>", mark(class, x, y, radius))
                })
                .collect();
            if !marks.is_empty() {
                let tip = escape(&format!("{kind}: {name}"));
                canvas.raw(&format!("<g fill=\"{}\" {look}><title>{tip}</title>{marks}</g>", color(class)));
            }
        }
    }
    if named {
        name_in_place(&mut canvas, &axes, features, places, classes);
    }
    if let Some((a, b)) = gap {
        let (a, b) = (axes.at(a.0, a.1), axes.at(b.0, b.1));
        // White below black: visible over marks of any color.
        canvas.line(a, b, "class=\"halo\" stroke=\"#ffffff\" stroke-width=\"4\" stroke-opacity=\"0.8\"");
        canvas.line(a, b, "class=\"gap\" stroke=\"#222222\" stroke-width=\"1.6\" stroke-dasharray=\"5 4\"");
    }
    let lines = wrap(caption, 11.0, WIDTH - 2.0 * EDGE);
    let tall = lines.len() as f64 * 11.0 * LINE;
    canvas.lines(WIDTH / 2.0, bottom + 2.0 + tall / 2.0, &lines, Type::new(11.0, Anchor::Middle).muted());
    Ok(canvas.finish(bottom + 10.0 + tall))
}

/// Names classes right of the mean of their texts (of their images, if there are no texts), each only where its whole name
/// fits next to those before it.
fn name_in_place(canvas: &mut Canvas, axes: &Axes, features: &Features, places: &[(f64, f64)], classes: &[String]) {
    const SIZE: f64 = 9.5;
    let (texts, images) = places.split_at(features.texts.len());
    let (points, labels) = if texts.is_empty() { (images, &features.image_labels) } else { (texts, &features.text_labels) };
    let mut sums = vec![(0.0, 0.0, 0usize); classes.len()];
    for (&(x, y), &label) in points.iter().zip(labels) {
        if let Some(sum) = sums.get_mut(label) {
            *sum = (sum.0 + x, sum.1 + y, sum.2 + 1);
        }
    }
    let mut taken: Vec<[f64; 4]> = Vec::new();
    for (name, (x, y, n)) in classes.iter().zip(sums).filter(|(name, (_, _, n))| *n > 0 && !name.trim().is_empty()) {
        let (x, y) = axes.at(x / n as f64, y / n as f64);
        let (left, wide) = (x + 8.0, text_width(name, SIZE));
        let area = [left - 2.0, y - 0.6 * SIZE, left + wide + 2.0, y + 0.6 * SIZE];
        let inside = area[2] <= axes.plane.2 && area[1] >= axes.plane.1 && area[3] <= axes.plane.3;
        let free = taken.iter().all(|b| area[2] <= b[0] || b[2] <= area[0] || area[3] <= b[1] || b[3] <= area[1]);
        if inside && free {
            let size = (area[2] - area[0], area[3] - area[1]);
            canvas.rect((area[0], area[1]), size, "class=\"ground\" fill=\"#ffffff\" fill-opacity=\"0.75\" rx=\"2\"", None);
            canvas.text(left, y + SIZE * 0.35, name, Type::new(SIZE, Anchor::Start));
            taken.push(area);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_perplexity_told_is_the_one_used() {
        let rows: Vec<Vec<f32>> = (0..10).map(|i| vec![1.0, i as f32, (i * i) as f32]).collect();
        let figure = scatter_tsne(&rows[..5], &[0; 5], &rows[5..], &[0; 5], &["river".to_string()], 30.0).unwrap();
        assert!(figure.svg().contains("perplexity 3:"), "{}", figure.svg());
    }
}
