//! The confusion matrix as a heat map.

use super::canvas::{Anchor, Canvas, EDGE, LINE, MUTED, Type, WIDTH};
use super::figure::Figure;
use super::text::{text_width, widest, wrap, wrap_into};
use crate::error::{Error, Result};
use crate::eval::Confusion;

/// Size of class names.
const SIZE: f64 = 10.5;
/// Color of texts on a light cell, whatever the page's theme does with other texts.
const ON_CELL: &str = "#1f1f1f";
/// Names up to this width stay on one line.
const WANTED: f64 = 110.0;

/// More classes than this are drawn in groups of neighbors.
const MOST: usize = 1000;
/// Groups then, about.
const GROUPS: usize = 250;

/// Counts by true and predicted class: a matrix (row = true class), or those of an [`Evaluation`](crate::eval::Evaluation).
pub trait Counts {
    /// The number of columns of each row.
    fn widths(&self) -> Vec<usize>;
    /// What is not zero in a row: column and count.
    fn row(&self, row: usize) -> Vec<(usize, usize)>;
}

impl<M: AsRef<[Vec<usize>]> + ?Sized> Counts for M {
    fn widths(&self) -> Vec<usize> {
        self.as_ref().iter().map(Vec::len).collect()
    }

    fn row(&self, row: usize) -> Vec<(usize, usize)> {
        let row = self.as_ref().get(row).map_or(&[][..], Vec::as_slice);
        row.iter().copied().enumerate().filter(|(_, count)| *count > 0).collect()
    }
}

impl Counts for Confusion {
    fn widths(&self) -> Vec<usize> {
        vec![self.classes(); self.classes()]
    }

    fn row(&self, row: usize) -> Vec<(usize, usize)> {
        Confusion::row(self, row).to_vec()
    }
}

/// A heat map of `counts[true class][predicted class]`. The shade of a cell is its share of its row, that is of the images
/// of the true class; counts stand in the cells if they fit, and in every cell's tip. Of more than 1,000 classes a cell
/// stands for several neighbors.
///
/// # Errors
/// [`Error::Usage`] if the matrix is empty, not square, or does not fit the class names.
///
/// ```
/// let classes = ["river".to_string(), "forest".to_string()];
/// let figure = lafter::plot::confusion(&[vec![9, 1], vec![3, 7]], &classes)?;
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn confusion(counts: &(impl Counts + ?Sized), classes: &[String]) -> Result<Figure> {
    let (k, widths) = (classes.len(), counts.widths());
    if k == 0 || widths.len() != k || widths.iter().any(|width| *width != k) {
        let across = widths.iter().max().copied().unwrap_or(0);
        return Err(Error::Usage(format!(
            "confusion matrix of {} × {across} counts for {k} classes: give one row and one column a class, at least one class",
            widths.len()
        )));
    }
    let all: Rows = (0..k).map(|row| counts.row(row)).collect();
    match k {
        0..=MOST => draw(&all, classes, 1, &all, classes),
        _ => {
            let size = k.div_ceil(GROUPS);
            let name = |group: &[String]| match group {
                [first, .., last] => format!("{first} … {last}"),
                _ => group.concat(),
            };
            let names: Vec<String> = classes.chunks(size).map(name).collect();
            let rows: Rows = all.chunks(size).map(|group| grouped(group, size)).collect();
            draw(&rows, &names, size, &all, classes)
        }
    }
}

/// What is not zero, row by row: column and count.
type Rows = Vec<Vec<(usize, usize)>>;

/// Rows of neighbors as one, their columns likewise.
fn grouped(rows: &[Vec<(usize, usize)>], size: usize) -> Vec<(usize, usize)> {
    let mut sums = std::collections::BTreeMap::new();
    for (column, count) in rows.iter().flatten() {
        *sums.entry(column / size).or_default() += count;
    }
    sums.into_iter().collect()
}

/// The heat map of `counts`, cells of `size` × `size` classes each, and in words the mistakes among `all` classes.
fn draw(counts: &Rows, classes: &[String], size: usize, all: &Rows, all_classes: &[String]) -> Result<Figure> {
    let k = classes.len();
    // Class names first: the more lines a cell has room for, the narrower the margins.
    let line = SIZE * LINE;
    let rough = (WIDTH - WANTED - 3.0 * EDGE - 16.0) / k as f64;
    // More classes than lines of text have room: cells shrink to the width of a notebook, every second, third … class is named,
    // and the most frequent confusions are told in words below.
    let many = rough < line;
    let most = (rough.min(46.0) / line).floor().max(1.0) as usize;
    let fit = |name: &String| if many { wrap(name, SIZE, WANTED) } else { wrap_into(name, SIZE, WANTED, most) };
    let names: Vec<Vec<String>> = classes.iter().map(fit).collect();
    let margin = names.iter().map(|lines| widest(lines, SIZE)).fold(0.0, f64::max) + 8.0;

    let axis = 18.0;
    let left = EDGE + axis + margin;
    let exact = (WIDTH - left - EDGE) / k as f64;
    let lines = names.iter().map(Vec::len).max().unwrap_or(1) as f64;
    // the wider margin of long names must not shrink a cell below the lines that its name was broken into
    let cell = if many { exact } else { exact.max(rough.min(24.0)).max(lines * line).min(46.0) };
    let every = if many { ((lines * line + 1.0) / cell).ceil() as usize } else { 1 };
    let side = cell * k as f64;
    let legend = text_width("share of the true class's images", SIZE) + 20.0;
    let mut canvas = Canvas::new("Confusion matrix", (left + side + EDGE).max(left.min(EDGE) + legend + 220.0));
    let top = canvas.heading() + axis + margin;

    let label = Type::new(11.0, Anchor::Middle).muted();
    canvas.text(left + side / 2.0, top - margin - 6.0, "predicted class", centered(label, left + side / 2.0, canvas.width));
    // The turned label needs as much height as it is long.
    let tall = text_width("true class", 11.0);
    canvas.text(EDGE + 9.0, top + (side / 2.0).max(tall / 2.0), "true class", Type { turned: true, ..label });

    canvas.rect((left, top), (side, side), "class=\"frame\" fill=\"#f7f9fb\" stroke=\"#999999\" stroke-width=\"1\"", None);
    for (truth, row) in counts.iter().enumerate() {
        let total: usize = row.iter().map(|(_, count)| count).sum();
        let y = top + truth as f64 * cell;
        for &(predicted, count) in row {
            let share = count as f64 / total as f64;
            let x = left + predicted as f64 * cell;
            let tip = format!(
                "{} taken for {}: {count} of {total} ({:.1} %)",
                classes.get(truth).map_or("", String::as_str),
                classes.get(predicted).map_or("", String::as_str),
                100.0 * share
            );
            canvas.rect((x, y), (cell, cell), &format!("class=\"cell\" fill=\"{}\"", shade(share)), Some(&tip));
            let text = count.to_string();
            let high = (cell * 0.36).min(11.0);
            if high >= 7.0 && text_width(&text, high) <= cell - 2.0 {
                let fill = if share > 0.5 { "#ffffff" } else { ON_CELL };
                canvas.text(x + cell / 2.0, y + cell / 2.0 + high * 0.35, &text, Type { fill, ..Type::new(high, Anchor::Middle) });
            }
        }
    }
    // the first and last names must not reach beyond the matrix
    let first = if many { ((lines * line / 2.0) / cell).floor() as usize } else { 0 };
    let named = names.iter().enumerate().skip(first).step_by(every);
    for (index, lines) in named.filter(|(index, _)| !many || index + first < k || k == 1) {
        let middle = (index as f64 + 0.5) * cell;
        canvas.lines(left - 5.0, top + middle, lines, Type::new(SIZE, Anchor::End));
        let first = left + middle + SIZE * 0.35 - line * (lines.len() as f64 - 1.0) / 2.0;
        for (i, text) in lines.iter().enumerate() {
            canvas.text(first + i as f64 * line, top - 5.0, text, Type { turned: true, ..Type::new(SIZE, Anchor::Start) });
        }
    }
    let mut below = top + side.max(tall) + 14.0;
    scale(&mut canvas, EDGE, below);
    below += 20.0;
    if size > 1 {
        below += 14.0;
        let text = format!("{} classes: a cell stands for {size} × {size} neighbors in the list.", all_classes.len());
        canvas.text(EDGE, below, &text, Type::new(11.0, Anchor::Start).muted());
    }
    if many {
        below = told(&mut canvas, below, all, all_classes);
    }
    Ok(canvas.finish(below + 14.0))
}

/// How many confusions are told in words.
const TOLD: usize = 10;

/// The most frequent confusions, of equally many those with the greater share of the true class first, one per line. Returns the y below.
fn told(canvas: &mut Canvas, mut y: f64, counts: &Rows, classes: &[String]) -> f64 {
    let mut wrong: Vec<(f64, usize, usize, usize, usize)> = Vec::new();
    for (truth, row) in counts.iter().enumerate() {
        let total: usize = row.iter().map(|(_, count)| count).sum();
        let others = row.iter().filter(|(predicted, _)| *predicted != truth);
        wrong.extend(others.map(|&(predicted, count)| (count as f64 / total as f64, truth, predicted, count, total)));
    }
    wrong.sort_by(|a, b| b.3.cmp(&a.3).then(b.0.total_cmp(&a.0)));
    if wrong.is_empty() {
        return y;
    }
    y += 20.0;
    canvas.text(EDGE, y, "Most frequent confusions", Type { bold: true, ..Type::new(11.0, Anchor::Start) });
    let name = |class: usize| classes.get(class).map_or("", String::as_str);
    for (share, truth, predicted, count, total) in wrong.into_iter().take(TOLD) {
        let text = format!("{} taken for {}: {count} of {total} ({:.0} %)", name(truth), name(predicted), 100.0 * share);
        for line in wrap(&text, 11.0, WIDTH - 2.0 * EDGE) {
            y += 11.0 * 1.35;
            canvas.text(EDGE, y, &line, Type::new(11.0, Anchor::Start));
        }
    }
    y
}

/// A text around `x`, or one that starts where the sheet does, if it would reach over the edge.
fn centered(style: Type, x: f64, width: f64) -> Type {
    let half = text_width("predicted class", style.size) / 2.0;
    if x + half > width - 4.0 { Type { anchor: Anchor::End, ..style } } else { style }
}

/// White to dark blue, evenly in lightness.
fn shade(share: f64) -> String {
    let stops = [(247.0, 251.0, 255.0), (158.0, 202.0, 225.0), (33.0, 113.0, 181.0), (8.0, 48.0, 107.0)];
    // The root makes rare confusions visible.
    let place = share.clamp(0.0, 1.0).powf(0.75) * 3.0;
    let from = (place.floor() as usize).min(2);
    let part = place - from as f64;
    let (a, b) = (stops.get(from).unwrap_or(&stops[0]), stops.get(from + 1).unwrap_or(&stops[3]));
    let mix = |a: f64, b: f64| (a + (b - a) * part).round() as u8;
    format!("#{:02x}{:02x}{:02x}", mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}

/// What the shades mean.
fn scale(canvas: &mut Canvas, x: f64, y: f64) {
    let style = Type { fill: MUTED, ..Type::new(10.0, Anchor::Start) };
    canvas.text(x, y + 9.0, "0", style);
    for step in 0..50 {
        let fill = format!("class=\"scale\" fill=\"{}\"", shade((f64::from(step) + 0.5) / 50.0));
        canvas.rect((x + 12.0 + f64::from(step) * 3.0, y), (3.2, 10.0), &fill, None);
    }
    canvas.text(x + 168.0, y + 9.0, "100 % of the true class's images", style);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_confusion_is_told_first() {
        let mut counts = vec![vec![0; 60]; 60];
        (counts[0][1], counts[5][5], counts[5][7]) = (1, 10, 90);
        let names: Vec<String> = (0..60).map(|class| format!("class {class}")).collect();
        let svg = confusion(&counts, &names).unwrap().svg().to_string();
        let at = |text: &str| svg.rfind(text).unwrap(); // the tips of the cells stand before
        assert!(at("class 5 taken for class 7: 90 of 100") < at("class 0 taken for class 1: 1 of 1"));
    }

    #[test]
    fn a_very_long_name_keeps_the_room_of_its_lines() {
        let mut names: Vec<String> = (0..12).map(|class| format!("class number {class}")).collect();
        names[3] = "word ".repeat(30);
        let svg = confusion(&vec![vec![1; 12]; 12], &names).unwrap().svg().to_string();
        let cell = svg.split("class=\"cell\"").next().and_then(|before| before.rsplit("<rect").next()).unwrap();
        let tall: f64 = cell.split("height=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().parse().unwrap();
        assert!(tall >= 3.0 * SIZE * LINE - 0.1, "{tall}");
    }
}
