//! The descent of t-SNE (van der Maaten & Hinton 2008) in its Barnes–Hut form (van der Maaten 2014).

/// Places in the plane, `[n · 2]`, of `rows` `[n][d]` after `steps` steps from `start` `[n · 2]`. It runs on the threads of the pool
/// that it is called in; sums, and so the places, depend on their number.
///
/// ```
/// let rows: Vec<Vec<f64>> = (0..20).map(|i| vec![f64::from(i % 2), f64::from(i)]).collect();
/// let start: Vec<f64> = (0..40).map(|i| 1e-3 * f64::from(i)).collect();
/// assert_eq!(lafter_loops::tsne::descend(&rows, start, 5.0, 10).len(), 40);
/// ```
///
/// # Panics
/// For rows of different lengths, a perplexity of more than a third of the other rows, and rows that are all the same.
pub fn descend(rows: &[Vec<f64>], start: Vec<f64>, perplexity: f64, steps: usize) -> Vec<f64> {
    let distance = |a: &Vec<f64>, b: &Vec<f64>| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    let mut descent = bhtsne::tSNE::<f64, Vec<f64>, 2>::new(rows);
    descent.initial_embedding(start).perplexity(perplexity).epochs(steps).barnes_hut(0.5, distance);
    descent.embedding()
}
