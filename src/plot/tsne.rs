//! t-SNE (van der Maaten & Hinton 2008): a plane in which near neighbors stay near.

use lafter_loops::tsne::descend;

use super::pca::pca;
use crate::catch_panic::catch_panic;
use crate::error::{Error, Result};
use crate::progress::interruptible;

/// Steps of the descent; groups no longer change after these for the few thousand points that a figure shows.
const STEPS: usize = 750;

/// Places of `rows` `[n][d]` in the plane, by the Barnes–Hut form (van der Maaten 2014). Neighborhoods are kept, distances
/// between groups mean little.
///
/// The descent starts from the first two principal components and not from random numbers (Kobak & Berens 2019), and runs
/// on one thread: the same rows give the same places, bit for bit. `perplexity` is about the number of neighbors that
/// count; it is lowered if there are fewer than three times as many rows.
///
/// # Errors
/// [`Error::Usage`] for fewer than four rows, rows of different lengths or below two numbers, values that are not finite, or
/// a perplexity below 1; [`Error::Interrupted`], after which the descent goes on in its thread, unseen, to its end.
///
/// ```
/// let rows: Vec<Vec<f64>> = (0..20).map(|i| vec![f64::from(i % 2), f64::from(i), 0.0]).collect();
/// assert_eq!(lafter::plot::tsne(&rows, 5.0)?.len(), 20);
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn tsne(rows: &[Vec<f64>], perplexity: f64) -> Result<Vec<(f64, f64)>> {
    if rows.len() < 4 {
        return Err(Error::Usage(format!("t-SNE of {} features: give at least 4, or use PCA", rows.len())));
    }
    if !(perplexity.is_finite() && perplexity >= 1.0) {
        return Err(Error::Usage(format!("t-SNE with perplexity {perplexity}: give at least 1, as a rule 5 to 50")));
    }
    let plane = pca(rows, 2)?; // refuses rows that differ in length or are not finite
    let start: Vec<f64> = rows.iter().flat_map(|row| plane.project(row)).collect(); // [n · 2]
    let spread = (start.iter().map(|v| v * v).sum::<f64>() / start.len() as f64).sqrt();
    let scale = if spread > 0.0 { 1e-2 / spread } else { 0.0 };
    let start: Vec<f64> = start.into_iter().map(|v| v * scale).collect();
    let perplexity = used(perplexity, rows.len());
    // sums over threads would depend on their number
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(|e| Error::Usage(format!("t-SNE cannot start: {e}")))?;
    let rows = rows.to_vec();
    let places = interruptible("t-SNE", move || pool.install(|| catch_panic(|| descend(&rows, start, perplexity, STEPS))))?.flatten();
    // rows that are all the same have no neighbors, and the descent panics
    let places = places.filter(|places| places.iter().all(|v| v.is_finite()));
    let places = places.ok_or_else(|| Error::Usage("t-SNE found no places: most of these features are the same; use PCA".into()))?;
    Ok(places.chunks_exact(2).map(|place| (place[0], place[1])).collect())
}

/// The perplexity of `n` rows where `asked` was asked for: a third of the others at most.
pub(super) fn used(asked: f64, n: usize) -> f64 {
    asked.min(n.saturating_sub(1) as f64 / 3.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn groups_stay_together_and_the_places_repeat() {
        let mut rng = Rng::new(1);
        let rows: Vec<Vec<f64>> =
            (0..90).map(|i| (0..8).map(|j| f64::from(rng.normal()) * 0.1 + if j == i % 3 { 2.0 } else { 0.0 }).collect()).collect();
        let places = tsne(&rows, 10.0).unwrap();
        assert_eq!(places, tsne(&rows, 10.0).unwrap());
        let other = rayon::ThreadPoolBuilder::new().num_threads(5).build().unwrap().install(|| tsne(&rows, 10.0).unwrap());
        assert_eq!(places, other, "the places depend on the number of threads");
        // the nearest other point is of the same group
        let distance = |a: (f64, f64), b: (f64, f64)| (a.0 - b.0).hypot(a.1 - b.1);
        for (i, &place) in places.iter().enumerate() {
            let nearest = (0..90).filter(|j| *j != i).min_by(|a, b| distance(place, places[*a]).total_cmp(&distance(place, places[*b])));
            assert_eq!(nearest.unwrap() % 3, i % 3);
        }
    }

    #[test]
    fn few_equal_or_bad_rows_end_in_places_or_an_error() {
        for rows in [vec![vec![0.0; 3]; 30], vec![vec![1.0, 2.0], vec![1.0, 2.0], vec![3.0, 1.0], vec![0.0, 0.0]]] {
            if let Ok(places) = tsne(&rows, 30.0) {
                assert!(places.len() == rows.len() && places.iter().all(|(x, y)| x.is_finite() && y.is_finite()));
            }
        }
        let four = vec![vec![1.0, 2.0]; 4];
        assert!(tsne(&four[..3], 5.0).is_err() && tsne(&four, 0.0).is_err() && tsne(&four, f64::NAN).is_err());
        assert!(tsne(&[four.clone(), vec![vec![f64::NAN, 0.0]]].concat(), 5.0).is_err());
        assert!(tsne(&[four, vec![vec![1.0]]].concat(), 5.0).is_err());
    }
}
