//! Pictures worth looking at, picked while rows pass by.

use std::collections::BTreeMap;

use super::PredictionRow;

/// Some pictures of each class: the surest, the least sure, those whose answer tuning changed. Only these are held, however many
/// rows pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picks {
    each: usize,
    classes: BTreeMap<String, ClassPicks>,
}

/// What was picked of one class.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClassPicks {
    /// Pictures that got this class.
    pub count: usize,
    /// How many of them the text classifier had answered otherwise.
    pub came: usize,
    /// The most probable answers, the surest first.
    pub surest: Vec<PredictionRow>,
    /// The answers with the smallest margin, the least sure first.
    pub least_sure: Vec<PredictionRow>,
    /// Answers that tuning changed to this class, the surest first.
    pub changed: Vec<PredictionRow>,
}

impl Picks {
    /// Up to `each` pictures of a kind and class.
    pub fn new(each: usize) -> Self {
        Self { each, classes: BTreeMap::new() }
    }

    /// Looks at one more row.
    pub fn add(&mut self, row: &PredictionRow) {
        let each = self.each;
        let class = self.classes.entry(row.class.clone()).or_default();
        class.count += 1;
        keep(&mut class.surest, row, each, |row| row.probability);
        keep(&mut class.least_sure, row, each, |row| -row.margin);
        if row.changed == Some(true) {
            class.came += 1;
            keep(&mut class.changed, row, each, |row| row.probability);
        }
    }

    /// What was picked of a class.
    pub fn of(&self, class: &str) -> Option<&ClassPicks> {
        self.classes.get(class)
    }

    /// Every class that got a picture, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ClassPicks)> {
        self.classes.iter().map(|(name, picks)| (name.as_str(), picks))
    }
}

/// Puts the row in its place among the best, the best first; of equal ones the first stays before.
fn keep(best: &mut Vec<PredictionRow>, row: &PredictionRow, most: usize, worth: impl Fn(&PredictionRow) -> f64) {
    let at = best.partition_point(|kept| worth(kept) >= worth(row));
    if at < most {
        best.insert(at, row.clone());
        best.truncate(most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(index: usize, class: &str, probability: f64, changed: bool) -> PredictionRow {
        PredictionRow {
            index,
            picture: index.to_string(),
            class: class.into(),
            probability,
            runner_up: String::new(),
            margin: probability,
            zero_shot: None,
            text_classifier: None,
            changed: Some(changed),
            top: vec![],
        }
    }

    #[test]
    fn the_best_of_each_kind_are_kept_in_order() {
        let mut picks = Picks::new(2);
        for (index, (class, probability, changed)) in
            [("a", 0.5, false), ("a", 0.9, true), ("b", 0.4, false), ("a", 0.7, true), ("a", 0.9, true), ("a", 0.1, false)]
                .into_iter()
                .enumerate()
        {
            picks.add(&row(index, class, probability, changed));
        }
        let indices = |rows: &[PredictionRow]| rows.iter().map(|row| row.index).collect::<Vec<_>>();
        let a = picks.of("a").unwrap();
        assert_eq!((a.count, a.came), (5, 3));
        assert_eq!((indices(&a.surest), indices(&a.least_sure), indices(&a.changed)), (vec![1, 4], vec![5, 0], vec![1, 4]));
        assert_eq!(picks.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b"]);
        assert!(picks.of("c").is_none());
    }
}
