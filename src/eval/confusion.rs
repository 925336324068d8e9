//! Which classes are taken for which: counts, held sparsely.

use serde::{Deserialize, Serialize};

/// Up to this many classes, files hold the whole matrix.
const DENSE: usize = 200;

/// Counts of images by true and predicted class. Only pairs that occur are held, so that the matrix of 10,000 classes takes no
/// more room than its images.
///
/// In files it is a matrix up to 200 classes, `[[9, 1], [3, 7]]` (row = true class), and above a list of the pairs that occur:
/// `{"classes": 1000, "counts": [[true, predicted, images], …]}`. Both are read.
///
/// ```
/// let mut confusion = lafter::eval::Confusion::new(2);
/// confusion.add(0, 0, 9);
/// confusion.add(0, 1, 1);
/// assert_eq!((confusion.get(0, 1), confusion.images(0)), (1, 10));
/// assert_eq!(confusion.dense(), [[9, 1], [0, 0]]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confusion {
    /// By true class: predicted classes, ascending, and their images, at least 1.
    rows: Vec<Vec<(usize, usize)>>,
}

impl Confusion {
    /// No image yet.
    pub fn new(classes: usize) -> Self {
        Self { rows: vec![Vec::new(); classes] }
    }

    /// Counts `images` of class `truth` taken for `predicted`; a true class beyond the list is left out.
    pub fn add(&mut self, truth: usize, predicted: usize, images: usize) {
        let Some(row) = self.rows.get_mut(truth).filter(|_| images > 0) else { return };
        match row.binary_search_by_key(&predicted, |(class, _)| *class) {
            Ok(at) => row[at].1 = row[at].1.saturating_add(images),
            Err(at) => row.insert(at, (predicted, images)),
        }
    }

    /// How many classes there are.
    pub fn classes(&self) -> usize {
        self.rows.len()
    }

    /// Images of class `truth` taken for `predicted`.
    pub fn get(&self, truth: usize, predicted: usize) -> usize {
        let row = self.row(truth);
        row.binary_search_by_key(&predicted, |(class, _)| *class).map_or(0, |at| row[at].1)
    }

    /// What images of class `truth` are taken for: (predicted class, images), ascending by class, only what occurs.
    pub fn row(&self, truth: usize) -> &[(usize, usize)] {
        self.rows.get(truth).map_or(&[], Vec::as_slice)
    }

    /// Images of class `truth`.
    pub fn images(&self, truth: usize) -> usize {
        self.row(truth).iter().fold(0, |sum, (_, images)| sum.saturating_add(*images))
    }

    /// Every pair that occurs: (true class, predicted class, images).
    pub fn iter(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        self.rows.iter().enumerate().flat_map(|(truth, row)| row.iter().map(move |(predicted, images)| (truth, *predicted, *images)))
    }

    /// The matrix `[classes][classes]`: row = true class, column = predicted class.
    pub fn dense(&self) -> Vec<Vec<usize>> {
        let mut matrix = vec![vec![0; self.classes()]; self.classes()];
        for (truth, predicted, images) in self.iter() {
            if let Some(count) = matrix[truth].get_mut(predicted) {
                *count = images;
            }
        }
        matrix
    }
}

/// The form in files.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Form {
    Dense(Vec<Vec<usize>>),
    Sparse { classes: usize, counts: Vec<(usize, usize, usize)> },
}

impl From<Confusion> for Form {
    fn from(confusion: Confusion) -> Self {
        match confusion.classes() {
            0..=DENSE => Self::Dense(confusion.dense()),
            classes => Self::Sparse { classes, counts: confusion.iter().collect() },
        }
    }
}

impl Form {
    /// Reads it back; `None` if it does not fit so many classes and images.
    pub fn read(self, classes: usize, images: usize) -> Option<Confusion> {
        let mut confusion = Confusion::new(classes);
        match self {
            Self::Dense(rows) => {
                if rows.len() != classes || rows.iter().any(|row| row.len() != classes) {
                    return None;
                }
                for (truth, row) in rows.into_iter().enumerate() {
                    row.into_iter().enumerate().for_each(|(predicted, images)| confusion.add(truth, predicted, images));
                }
            }
            Self::Sparse { classes: stored, counts } => {
                if stored != classes || counts.iter().any(|(truth, predicted, _)| *truth >= classes || *predicted >= classes) {
                    return None;
                }
                counts.into_iter().for_each(|(truth, predicted, images)| confusion.add(truth, predicted, images));
            }
        }
        let sum = confusion.iter().try_fold(0usize, |sum, (_, _, images)| sum.checked_add(images));
        (sum == Some(images)).then_some(confusion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagonal(classes: usize) -> Confusion {
        let mut confusion = Confusion::new(classes);
        (0..classes).for_each(|class| confusion.add(class, class, 3));
        confusion.add(1, 0, 2);
        confusion
    }

    #[test]
    fn few_classes_are_a_matrix_in_files_and_many_are_pairs() {
        for (classes, dense) in [(2, true), (200, true), (201, false), (10_000, false)] {
            let confusion = diagonal(classes);
            let json = serde_json::to_string(&Form::from(confusion.clone())).unwrap();
            assert_eq!(json.starts_with("[["), dense, "{classes}");
            assert!(json.len() < 300_000, "{classes} classes take {} bytes", json.len());
            let form: Form = serde_json::from_str(&json).unwrap();
            assert_eq!(form.read(classes, 3 * classes + 2), Some(confusion));
        }
        // as reports wrote it before, whatever the number of classes
        let older = serde_json::to_string(&diagonal(300).dense()).unwrap();
        assert_eq!(serde_json::from_str::<Form>(&older).unwrap().read(300, 902), Some(diagonal(300)));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let read = |json: &str, classes| serde_json::from_str::<Form>(json).ok().and_then(|form| form.read(classes, 2));
        assert!(read("[[1, 0], [0, 1]]", 2).is_some() && read("{\"classes\": 2, \"counts\": [[0, 1, 2]]}", 2).is_some());
        for bad in [
            "[[1, 0], [0]]",
            "[[2]]",
            "[[1, 0], [0, 2]]",
            "{\"classes\": 3, \"counts\": [[0, 0, 2]]}",
            "{\"classes\": 2, \"counts\": [[0, 2, 2]]}",
        ] {
            assert!(read(bad, 2).is_none(), "{bad}");
        }
        assert!(read("{\"classes\": 2, \"counts\": [[0, 0, 18446744073709551615], [0, 1, 3]]}", 2).is_none());
    }
}
