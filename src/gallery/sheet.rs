//! The sample sheet: some pictures of each set as the model sees them, before anything is computed.

use image::RgbImage;

use crate::clip::Clip;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::plot::{self, Figure};

/// Pictures that are shown of each set: two rows.
const SHOWN: usize = 18;

/// Characters of a caption.
const CAPTION: usize = 24;

/// The sheet, and why pictures that were to be on it cannot be read.
#[derive(Clone, Debug)]
pub struct SampleSheet {
    /// The pictures, resized and cropped as the vision tower sees them.
    pub figure: Figure,
    /// One line for each sampled picture that cannot be read.
    pub unreadable: Vec<String>,
}

/// Draws up to 18 pictures of each set as the vision tower sees them (the weak view), evenly spread over the classes and over
/// each class; the caption is the class, or the file's name if there is no label.
///
/// # Errors
/// [`Error::Image`] if none of the sampled pictures can be read.
pub fn sample_sheet(clip: &Clip, sets: &[(&str, &Dataset)]) -> Result<SampleSheet> {
    let (mut rows, mut unreadable) = (Vec::new(), Vec::new());
    for (name, set) in sets {
        let mut row: Vec<(String, RgbImage)> = Vec::new();
        for i in sample(set) {
            match set.image(i) {
                Ok(picture) => row.push((format!("{name}: {}", caption(set, i)), clip.preprocess().image(&picture))),
                Err(error) => unreadable.push(format!("{name}: {error}")),
            }
        }
        if !row.is_empty() {
            rows.push(row);
        }
    }
    match (rows.is_empty(), unreadable.first()) {
        (true, Some(reason)) => Err(Error::Image(format!("none of the sampled pictures can be read ({reason})"))),
        (true, None) => Err(Error::Data("there is no picture to show: give --train or --test".into())),
        _ => Ok(SampleSheet { figure: plot::views("Pictures as the model sees them", &rows)?, unreadable }),
    }
}

/// Indices of the shown pictures: of nine classes two each, or evenly spread if there are no labels.
fn sample(set: &Dataset) -> Vec<usize> {
    let mut classes: Vec<Vec<usize>> = vec![Vec::new(); set.classes().len()];
    for i in 0..set.len() {
        if let Some(class) = set.label(i).and_then(|label| classes.get_mut(label)) {
            class.push(i);
        }
    }
    classes.retain(|class| !class.is_empty());
    if classes.is_empty() {
        return spread(set.len(), SHOWN);
    }
    let shown = spread(classes.len(), SHOWN);
    let each = SHOWN / shown.len();
    shown
        .into_iter()
        .flat_map(|class| spread(classes[class].len(), each.min(2)).into_iter().map(move |i| (class, i)))
        .map(|(c, i)| classes[c][i])
        .collect()
}

/// Up to `n` of the indices below `len`, evenly spread.
fn spread(len: usize, n: usize) -> Vec<usize> {
    let n = n.min(len);
    (0..n).map(|k| k * len / n).collect()
}

fn caption(set: &Dataset, i: usize) -> String {
    let text = match set.label(i).and_then(|label| set.classes().get(label)) {
        Some(class) => class.clone(),
        None => set.name(i).rsplit(['/', '\\']).next().unwrap_or_default().to_string(),
    };
    if text.chars().count() <= CAPTION { text } else { text.chars().take(CAPTION - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::scenes;

    #[test]
    fn every_class_of_a_few_is_shown_twice_and_of_many_some() {
        let (_, test) = scenes::demo_sets(2);
        let labels: Vec<usize> = sample(&test).iter().filter_map(|i| test.label(*i)).collect();
        let classes: std::collections::BTreeSet<_> = labels.iter().collect();
        assert!(labels.len() <= SHOWN && classes.len() == test.classes().len().min(SHOWN), "{labels:?}");
        assert_eq!(sample(&test.unlabeled()).len(), SHOWN);
        assert_eq!(sample(&test.take(3).unlabeled()), [0, 1, 2]);
        assert_eq!(spread(10, 3), [0, 3, 6]);
    }

    #[test]
    fn a_sheet_shows_both_sets_and_an_empty_one_is_an_error() {
        let clip = Clip::demo().unwrap();
        let (train, test) = scenes::demo_sets(2);
        let sheet = sample_sheet(&clip, &[("train", &train.unlabeled().take(4)), ("test", &test)]).unwrap();
        assert!(sheet.unreadable.is_empty());
        assert_eq!(sheet.figure.svg().matches("<image").count(), 4 + sample(&test).len());
        assert!(sample_sheet(&clip, &[]).unwrap_err().to_string().contains("--train"));
    }
}
