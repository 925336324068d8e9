//! The small pure functions that the evaluation is made of.

use std::collections::HashSet;

use crate::error::{Error, Result};

/// The position of the greatest value of each row; of equal values the first, as in PyTorch.
///
/// # Shapes
/// `logits` `[n, classes]`, row by row → `[n]`.
///
/// ```
/// assert_eq!(lafter::eval::argmax_rows(&[0.1, 0.9, 2.0, 1.0], 2), vec![1, 0]);
/// ```
pub fn argmax_rows(logits: &[f32], classes: usize) -> Vec<usize> {
    if classes == 0 {
        return Vec::new();
    }
    logits.chunks_exact(classes).map(argmax).collect()
}

fn argmax(row: &[f32]) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (i, &value) in row.iter().enumerate() {
        if value > best.1 {
            best = (i, value);
        }
    }
    best.0
}

/// How many classes come before `label` when `row` is sorted from the greatest down: 0 is a top-1 hit, below 5 a top-5
/// hit. Of equal values the class with the lower index comes first, so that [`argmax_rows`] and rank 0 agree.
///
/// ```
/// assert_eq!(lafter::eval::rank_of(&[0.5, 2.0, 0.5], 2), 2);
/// ```
pub fn rank_of(row: &[f32], label: usize) -> usize {
    let Some(&own) = row.get(label) else { return row.len() };
    row.iter().enumerate().filter(|&(i, &value)| value > own || (value == own && i < label)).count()
}

/// The share of equal entries, in percent: of predictions and labels the top-1 accuracy, of two classifiers' predictions
/// their agreement, of pseudo-labels and labels the pseudo-label accuracy.
///
/// # Errors
/// [`Error::Usage`] if the lengths differ or both are empty.
///
/// ```
/// assert_eq!(lafter::eval::agreement(&[0, 1, 2, 3], &[0, 1, 2, 2])?, 75.0);
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn agreement(a: &[usize], b: &[usize]) -> Result<f64> {
    if a.len() != b.len() || a.is_empty() {
        return Err(Error::Usage(format!(
            "agreement of {} and {} labels: both lists must be of one length, at least 1; were they taken from the same images?",
            a.len(),
            b.len()
        )));
    }
    let equal = a.iter().zip(b).filter(|(a, b)| a == b).count();
    Ok(percent(equal, a.len()))
}

/// `100 · part / whole`; 0 of 0 is 0.
pub(crate) fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

/// One key per class, also if two classes share a name (ImageNet has two "crane"): the first keeps its name, the later
/// ones become "name (#index)", the index counted from 0 in the class list.
///
/// ```
/// assert_eq!(lafter::eval::unique_names(&["crane", "kite", "crane"]), ["crane", "kite", "crane (#2)"]);
/// ```
pub fn unique_names<S: AsRef<str>>(classes: &[S]) -> Vec<String> {
    // A class may itself be called "crane (#2)": given names go first, so that no made-up key takes one of them.
    let given: HashSet<&str> = classes.iter().map(AsRef::as_ref).collect();
    let mut seen = HashSet::new();
    let unique = |(index, name): (usize, &S)| {
        let name = name.as_ref();
        let mut key = name.to_string();
        if !seen.insert(key.clone()) {
            key = format!("{name} (#{index})");
            while given.contains(key.as_str()) || !seen.insert(key.clone()) {
                key.push('\'');
            }
        }
        key
    };
    classes.iter().enumerate().map(unique).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_logits_go_to_the_lower_index() {
        let row = [1.0, 1.0, 0.0];
        assert_eq!(argmax_rows(&row, 3), [0]);
        assert_eq!((rank_of(&row, 0), rank_of(&row, 1), rank_of(&row, 2)), (0, 1, 2));
        assert_eq!(rank_of(&row, 9), 3);
        assert!(argmax_rows(&row, 0).is_empty());
    }

    #[test]
    fn agreement_refuses_what_cannot_be_compared() {
        assert!(agreement(&[], &[]).is_err());
        assert!(agreement(&[1], &[1, 2]).is_err());
    }

    #[test]
    fn made_up_keys_never_meet_a_given_name() {
        let keys = unique_names(&["a", "a", "a (#1)", "a", "a (#1)"]);
        assert_eq!(keys, ["a", "a (#1)'", "a (#1)", "a (#3)", "a (#1) (#4)"]);
        let distinct: HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }
}
