//! The surest mistakes on a labeled test set, to look at.

use crate::data::Dataset;
use crate::error::Result;
use crate::eval::Evaluation;
use crate::plot::{self, Figure};

use super::contact::thumbnail;

/// Mistakes on the sheet.
const MOST: usize = 24;

/// The most confident wrong answers, the surest first, each with its answer and the true class; `indices` says which picture of
/// `test` each row of the evaluation is. `None` if nothing is wrong, or no such picture can be read.
///
/// # Errors
/// [`Error::Usage`](crate::Error::Usage) if a thumbnail cannot be drawn.
pub fn confident_mistakes(evaluation: &Evaluation, indices: &[usize], test: &Dataset) -> Result<Option<Figure>> {
    let answers = indices.iter().zip(&evaluation.predictions).zip(&evaluation.confidences);
    let mut wrong: Vec<(usize, usize, f64)> = answers
        .filter(|((index, answer), _)| test.label(**index).is_some_and(|label| label != **answer))
        .map(|((index, answer), confidence)| (*index, *answer, *confidence))
        .collect();
    wrong.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)));
    let names = evaluation.class_names();
    let name = |class: usize| names.get(class).map_or("?", String::as_str);
    let drawn = wrong.into_iter().filter_map(|(index, answer, confidence)| {
        let truth = test.label(index).map_or("?", name);
        Some((format!("{} {:.0} %, is {truth}", name(answer), 100.0 * confidence), thumbnail(test, index)?))
    });
    let drawn: Vec<_> = drawn.take(MOST).collect();
    if drawn.is_empty() {
        return Ok(None);
    }
    plot::views("The surest mistakes", &[drawn]).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::scenes::{Domain, Scenes, class_names};

    #[test]
    fn the_surest_mistakes_come_first() {
        let test = Dataset::new(Scenes::new(Domain::Target, 6, 1));
        let (classes, k) = (class_names(), class_names().len());
        let mut logits = vec![0f32; 5 * k];
        let indices = [0, 1, 2, 4, 5]; // picture 3 could not be read
        let truth = |row: usize| test.label(indices[row]).unwrap();
        for (row, size) in [5f32, 1., 3., 2., 9.].into_iter().enumerate() {
            let answer = if row == 4 { truth(row) } else { (truth(row) + 1) % k };
            logits[row * k + answer] = size;
        }
        let labels: Vec<usize> = (0..5).map(truth).collect();
        let evaluation = Evaluation::from_logits(&logits, &labels, &classes).unwrap();
        let svg = confident_mistakes(&evaluation, &indices, &test).unwrap().unwrap().svg().to_string();
        assert_eq!(svg.matches("<image").count(), 4); // what is right is not shown
        let at = |row: usize| svg.find(&format!("{:.0} %, is {}", 100.0 * evaluation.confidences[row], classes[truth(row)])).unwrap();
        assert!(at(0) < at(2) && at(2) < at(3) && at(3) < at(1));
        // classes that share a name
        let twins = Evaluation::from_logits(&logits, &labels, &vec!["crane"; k]).unwrap();
        let svg = confident_mistakes(&twins, &indices, &test).unwrap().unwrap().svg().to_string();
        assert!(svg.contains("%, is crane (#") && svg.matches("%, is crane").count() >= 4, "{svg}");
        let right = Evaluation::from_logits(&logits[4 * k..], &labels[4..], &classes).unwrap();
        assert!(confident_mistakes(&right, &indices[4..], &test).unwrap().is_none());
    }
}
