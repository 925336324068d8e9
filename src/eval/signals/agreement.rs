//! Whether two ways to an answer agree, without a label.

/// The share of equal answers, 0 to 1.
pub fn equal(a: &[usize], b: &[usize]) -> f64 {
    a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len().max(1) as f64
}

/// The answer of each row of logits `[n, C]`: the class of the greatest, of equal ones the first.
pub fn answers(logits: &[f32], classes: usize) -> Vec<usize> {
    let best = |row: &[f32]| (1..row.len()).fold(0, |best, c| if row[c] > row[best] { c } else { best });
    logits.chunks(classes.max(1)).map(best).collect()
}

/// The share of pictures that the nearest class mean answers as the classifier does: features `[n, d]`, one answer each.
///
/// The mean of a class is taken over the unit features of all *other* pictures with that answer, so that no picture votes for
/// itself; a class that no other picture was given has none. A picture alone is answered by none.
pub fn with_class_means(features: &[f32], answers: &[usize], classes: usize) -> f64 {
    let width = features.len() / answers.len().max(1);
    if width == 0 {
        return 0.0;
    }
    let unit = |row: &[f32]| {
        let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        row.iter().map(|v| f64::from(*v) / length).collect::<Vec<f64>>()
    };
    let rows: Vec<Vec<f64>> = features.chunks(width).map(unit).collect();
    let mut sums = vec![vec![0f64; width]; classes];
    let mut counts = vec![0usize; classes];
    for (row, answer) in rows.iter().zip(answers) {
        sums[*answer].iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
        counts[*answer] += 1;
    }
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let lengths: Vec<f64> = sums.iter().map(|sum| dot(sum, sum).sqrt()).collect();
    let nearest = |row: &[f64], own: usize| {
        let cosine = |class: usize| {
            let with = dot(row, &sums[class]);
            if class != own {
                return if counts[class] == 0 { f64::NEG_INFINITY } else { with / lengths[class].max(f64::MIN_POSITIVE) };
            }
            // ‖s − x‖² = ‖s‖² − 2 s·x + 1
            let without = (lengths[own].powi(2) - 2.0 * with + 1.0).max(0.0).sqrt();
            if counts[own] == 1 { f64::NEG_INFINITY } else { (with - 1.0) / without.max(f64::MIN_POSITIVE) }
        };
        let cosines: Vec<f64> = (0..classes).map(cosine).collect();
        let best = (1..classes).fold(0, |best, c| if cosines[c] > cosines[best] { c } else { best });
        cosines[best].is_finite().then_some(best)
    };
    let agreed = rows.iter().zip(answers).filter(|(row, answer)| nearest(row, **answer) == Some(**answer)).count();
    agreed as f64 / answers.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_means_agree_where_classes_lie_apart() {
        let features = [3., 0., 2.9, 0.3, 0., 1., 0.1, 1.1];
        assert_eq!(with_class_means(&features, &[0, 0, 1, 1], 2), 1.0);
        // the second lies with class 0, the third is alone with its answer
        assert_eq!(with_class_means(&features, &[0, 1, 1, 1], 2), 0.5);
        assert_eq!(with_class_means(&features, &[0, 0, 1, 2], 3), 0.5);
        assert_eq!(with_class_means(&[], &[], 3), 0.0);
        assert_eq!([0, 1].map(|class| with_class_means(&[1., 2.], &[class], 2)), [0.0; 2], "whatever the order of the classes");
    }

    #[test]
    fn answers_and_their_agreement() {
        let logits = [0.1, 0.9, 0.5, 0.5, 2., 1.];
        assert_eq!(answers(&logits, 2), [1, 0, 0]);
        assert_eq!(equal(&answers(&logits, 2), &[1, 1, 0]), 2.0 / 3.0);
    }
}
