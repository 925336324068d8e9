//! Words by class: how long the descriptions are, and which words few other classes use.

use std::collections::HashMap;

use super::axes::{Axes, Ticks, span};
use super::canvas::{Anchor, Canvas, EDGE, INK, LINE, Type, WIDTH};
use super::figure::Figure;
use super::palette::color;
use super::text::{number, text_width, widest, wrap};
use crate::error::{Error, Result};

const SIZE: f64 = 11.0;
/// Size of a class's own words.
const SMALL: f64 = 10.0;
/// Thickness of a bar.
const BAR: f64 = 12.0;
/// Room for a class's own words.
const OWN: f64 = 230.0;
/// How many of its own words a class shows.
const MOST: usize = 5;
/// Of more classes than this, every second, third … is shown.
const MOST_CLASSES: usize = 200;

/// What the sentences of one class are made of.
struct Words {
    sentences: usize,
    mean: f64,
    std: f64,
    /// Word and how often the class says it, the most telling first.
    own: Vec<(String, usize)>,
}

/// One row per class: mean and standard deviation of the words in its sentences, their number, and the words that set it apart,
/// with how often it says them. A word's weight is count · ln(classes / classes that say it), tf-idf over classes
/// (Spärck Jones 1972), so that words which every class says have none. Of more than 200 classes, every second, third … is shown.
///
/// # Shapes
/// `sentences` `[n]` with `labels` `[n]`, indices into `classes`, as a
/// [`TextSet`](crate::describe::TextSet) holds them.
///
/// # Errors
/// [`Error::Usage`] if there is no sentence, or labels do not fit sentences or classes.
///
/// ```
/// let classes = ["river".to_string(), "forest".to_string()];
/// let sentences = ["A winding band of water.", "Dense dark green trees.", "Water between two banks."].map(String::from);
/// let figure = lafter::plot::word_counts("Descriptions", &classes, &sentences, &[0, 1, 0])?;
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn word_counts(title: &str, classes: &[String], sentences: &[String], labels: &[usize]) -> Result<Figure> {
    if sentences.is_empty() || sentences.len() != labels.len() {
        let (sentences, labels) = (sentences.len(), labels.len());
        return Err(Error::Usage(format!(
            "words by class: {sentences} sentences with {labels} labels; give at least one, and a label each"
        )));
    }
    if let Some(label) = labels.iter().find(|label| **label >= classes.len()) {
        return Err(Error::Usage(format!("words by class: a sentence has label {label}, but there are {} classes", classes.len())));
    }
    let every = classes.len().div_ceil(MOST_CLASSES);
    let rows: Vec<Words> = count(classes.len(), sentences, labels).into_iter().step_by(every).collect();
    let shown: Vec<&String> = classes.iter().step_by(every).collect();

    let names: Vec<Vec<String>> = shown.iter().map(|name| wrap(name, SIZE, 0.27 * WIDTH)).collect();
    let margin = names.iter().map(|lines| widest(lines, SIZE)).fold(0.0, f64::max) + 8.0;
    let own: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let words: Vec<String> = row.own.iter().map(|(word, n)| format!("{word}×{n}")).collect();
            wrap(&words.join(", "), SMALL, OWN)
        })
        .collect();
    let tall = |i: usize| {
        let lines = |all: &[Vec<String>], size: f64| all.get(i).map_or(1, Vec::len) as f64 * size * LINE;
        (BAR + 6.0).max(lines(&names, SIZE) + 3.0).max(lines(&own, SMALL) + 4.0)
    };
    let height: f64 = (0..rows.len()).map(tall).sum();
    let value = |row: &Words| match row.sentences {
        0 => "no sentence".to_string(),
        n => format!("{} in {n}", number(row.mean, 1.0)),
    };
    let wide = rows.iter().map(|row| text_width(&value(row), SMALL)).fold(0.0, f64::max) + 12.0;
    let (_, most) = span(rows.iter().map(|row| row.mean + row.std).chain([0.0]), 0.04);

    let mut canvas = Canvas::new(title, WIDTH);
    let top = canvas.heading() + 16.0;
    let bottom = top + height;
    let area = (EDGE + margin, top, WIDTH - EDGE - wide - OWN - 12.0, bottom + 22.0);
    let axes = Axes::draw(&mut canvas, area, (0.0, most), (0.0, height), Ticks::ACROSS)?;
    let right = WIDTH - EDGE - OWN;
    let head = Type::new(SMALL, Anchor::Start).muted();
    canvas.text(right, top - 5.0, "words that few classes use × how often", head);
    canvas.text(axes.plane.0, top - 5.0, "mean in so many sentences", head);
    let mut y = top;
    for (i, row) in rows.iter().enumerate() {
        let middle = y + tall(i) / 2.0;
        canvas.lines(axes.plane.0 - 6.0, middle, names.get(i).map_or(&[], Vec::as_slice), Type::new(SIZE, Anchor::End));
        let (from, to) = (axes.at(0.0, 0.0).0, axes.at(row.mean, 0.0).0);
        let name = shown.get(i).map_or("", |name| name.as_str());
        let tip = format!("{name}: {} words per sentence, standard deviation {}", value(row), number(row.std, 1.0));
        let look = format!("class=\"bar\" fill=\"{}\"", color(0));
        canvas.rect((from, middle - BAR / 2.0), ((to - from).max(0.8), BAR), &look, Some(&tip));
        let mut end = to;
        if row.std > 0.0 {
            let (a, b) = (axes.at((row.mean - row.std).max(0.0), 0.0).0, axes.at(row.mean + row.std, 0.0).0);
            let stroke = format!("class=\"whisker\" stroke=\"{INK}\" stroke-width=\"1.2\"");
            canvas.line((a, middle), (b, middle), &stroke);
            [a, b].into_iter().for_each(|x| canvas.line((x, middle - 3.0), (x, middle + 3.0), &stroke));
            end = end.max(b);
        }
        canvas.text(end + 5.0, middle + SMALL * 0.35, &value(row), Type::new(SMALL, Anchor::Start).muted());
        canvas.lines(right, middle, own.get(i).map_or(&[], Vec::as_slice), Type::new(SMALL, Anchor::Start));
        y += tall(i);
    }
    let label = Type::new(SIZE, Anchor::Middle).muted();
    let text = if every > 1 { format!("words per sentence, one class of every {every}") } else { "words per sentence".to_string() };
    let (middle, half) = ((axes.plane.0 + axes.plane.2) / 2.0, text_width(&text, SIZE) / 2.0);
    canvas.text(middle.max(EDGE + half), bottom + 36.0, &text, label);
    Ok(canvas.finish(bottom + 46.0))
}

fn count(classes: usize, sentences: &[String], labels: &[usize]) -> Vec<Words> {
    let mut lengths = vec![Vec::new(); classes];
    let mut said: Vec<HashMap<String, usize>> = vec![HashMap::new(); classes];
    for (sentence, &label) in sentences.iter().zip(labels) {
        lengths[label].push(sentence.split_whitespace().count() as f64);
        for word in words(sentence) {
            *said[label].entry(word).or_default() += 1;
        }
    }
    let mut classes_that_say: HashMap<&str, usize> = HashMap::new();
    said.iter().flat_map(HashMap::keys).for_each(|word| *classes_that_say.entry(word).or_default() += 1);
    let row = |(lengths, said): (&Vec<f64>, &HashMap<String, usize>)| {
        let n = lengths.len().max(1) as f64;
        let mean = lengths.iter().sum::<f64>() / n;
        let std = (lengths.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        let weight = |(word, n): (&String, &usize)| {
            let shared = classes_that_say.get(word.as_str()).copied().unwrap_or(1) as f64;
            // of a single class every word is its own
            *n as f64 * if classes > 1 { (classes as f64 / shared).ln() } else { 1.0 }
        };
        let mut own: Vec<(f64, &String, usize)> =
            said.iter().map(|(word, n)| (weight((word, n)), word, *n)).filter(|w| w.0 > 0.0).collect();
        own.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        let own = own.into_iter().take(MOST).map(|(_, word, n)| (word.clone(), n)).collect();
        Words { sentences: lengths.len(), mean, std, own }
    };
    lengths.iter().zip(&said).map(row).collect()
}

/// Lower case, without punctuation at the ends; words of one or two Latin letters say little.
fn words(sentence: &str) -> impl Iterator<Item = String> {
    let trimmed = sentence.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase());
    trimmed.filter(|word| word.len() > 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_every_class_are_no_classs_own() {
        let sentences = ["A photo of water, Water!", "a photo of trees", "the trees"].map(String::from);
        let rows = count(2, &sentences, &[0, 1, 1]);
        assert_eq!(rows[0].own, [("water".to_string(), 2)]);
        assert_eq!(rows[1].own, [("trees".to_string(), 2), ("the".to_string(), 1)]);
        assert_eq!((rows[1].sentences, rows[1].mean, rows[1].std), (2, 3.0, 1.0));
        assert_eq!(count(1, &sentences[..1], &[0])[0].own[0], ("water".to_string(), 2));
    }
}
