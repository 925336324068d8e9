//! Principal components, small and deterministic: the plane in which features spread the most.

use crate::error::{Error, Result};
use crate::rng::Rng;

/// The leading principal components of a set of features, in 64 bits.
#[derive(Clone, PartialEq)]
pub struct Pca {
    /// The mean `[d]`.
    pub mean: Vec<f64>,
    /// Unit vectors `[components][d]`, the one of the greatest variance first; each one's largest entry is positive.
    pub components: Vec<Vec<f64>>,
    /// The share of the total variance along each, a fraction.
    pub explained: Vec<f64>,
}

impl Pca {
    /// The coordinates `[components]` of a feature `[d]`.
    pub fn project(&self, feature: &[f64]) -> Vec<f64> {
        let centered: Vec<f64> = feature.iter().zip(&self.mean).map(|(v, m)| v - m).collect();
        self.components.iter().map(|component| dot(component, &centered)).collect()
    }
}

impl std::fmt::Debug for Pca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pca({} of {} dimensions, explained {:.3?})", self.components.len(), self.mean.len(), self.explained)
    }
}

/// Finds the `k` leading components of `rows` `[n][d]`: subspace iteration on the covariance matrix, C v = λ v, from a
/// fixed start, with Rayleigh–Ritz at the end.
///
/// Where the rows spread in fewer than `k` directions the surplus components are arbitrary unit vectors with an explained
/// share of 0.
///
/// # Errors
/// [`Error::Usage`] for no rows, rows of different lengths or shorter than `k`, or values that are not finite.
///
/// ```
/// let rows: Vec<Vec<f64>> = (0..9).map(|i| vec![3.0 * f64::from(i), 4.0 * f64::from(i), 0.0]).collect();
/// let pca = lafter::plot::pca(&rows, 1)?;
/// assert!((pca.components[0][0] - 0.6).abs() < 1e-9 && (pca.explained[0] - 1.0).abs() < 1e-9);
/// # Ok::<(), lafter::Error>(())
/// ```
pub fn pca(rows: &[Vec<f64>], k: usize) -> Result<Pca> {
    let d = rows.first().map_or(0, Vec::len);
    if d < k || k == 0 || rows.iter().any(|row| row.len() != d) {
        return Err(Error::Usage(format!(
            "principal components: {k} of {} rows of width {d}; all rows must have one width of at least {k}",
            rows.len()
        )));
    }
    if rows.iter().flatten().any(|v| !v.is_finite()) {
        return Err(Error::Usage("principal components: a feature is not finite; was it divided by a length of zero?".into()));
    }
    let n = rows.len() as f64;
    let mut mean = vec![0.0; d];
    rows.iter().for_each(|row| mean.iter_mut().zip(row).for_each(|(m, v)| *m += v / n));
    let mut covariance = vec![vec![0.0; d]; d]; // [d][d]
    for row in rows {
        let centered: Vec<f64> = row.iter().zip(&mean).map(|(v, m)| v - m).collect();
        for (line, &a) in covariance.iter_mut().zip(&centered) {
            line.iter_mut().zip(&centered).for_each(|(c, b)| *c += a * b / n);
        }
    }
    let total: f64 = covariance.iter().enumerate().filter_map(|(i, line)| line.get(i)).sum();

    // A few directions more than asked for make near-equal variances converge.
    let width = (k + 6).min(d);
    let mut rng = Rng::new(0);
    let mut basis: Vec<Vec<f64>> = (0..width).map(|_| (0..d).map(|_| f64::from(rng.normal())).collect()).collect();
    orthonormalize(&mut basis);
    for _ in 0..60 {
        basis = basis.iter().map(|v| times(&covariance, v)).collect();
        orthonormalize(&mut basis);
    }
    // Inside the found subspace the components are the eigenvectors of the small matrix Bᵀ C B.
    let images: Vec<Vec<f64>> = basis.iter().map(|v| times(&covariance, v)).collect();
    let small: Vec<Vec<f64>> = basis.iter().map(|b| images.iter().map(|c| dot(b, c)).collect()).collect();
    let mut components = Vec::with_capacity(k);
    let mut explained = Vec::with_capacity(k);
    for (value, weights) in jacobi(small).into_iter().take(k) {
        let mut component = vec![0.0; d];
        for (weight, b) in weights.iter().zip(&basis) {
            component.iter_mut().zip(b).for_each(|(c, b)| *c += weight * b);
        }
        let largest = component.iter().copied().fold(0.0f64, |m, v| if v.abs() > m.abs() + 1e-12 { v } else { m });
        if largest < 0.0 {
            component.iter_mut().for_each(|v| *v = -*v);
        }
        components.push(component);
        explained.push(if total > 0.0 { (value / total).max(0.0) } else { 0.0 });
    }
    Ok(Pca { mean, components, explained })
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn times(matrix: &[Vec<f64>], v: &[f64]) -> Vec<f64> {
    matrix.iter().map(|row| dot(row, v)).collect()
}

/// Gram–Schmidt, twice for accuracy; a vector that vanishes is replaced by the first axis that is still free.
fn orthonormalize(vectors: &mut [Vec<f64>]) {
    for i in 0..vectors.len() {
        let (done, rest) = vectors.split_at_mut(i);
        let Some(v) = rest.first_mut() else { return };
        if !normalize_against(done, v) {
            for axis in 0..v.len() {
                v.iter_mut().enumerate().for_each(|(j, value)| *value = if j == axis { 1.0 } else { 0.0 });
                if normalize_against(done, v) {
                    break;
                }
            }
        }
    }
}

/// False if nothing is left of `v` without its parts along `done`.
fn normalize_against(done: &[Vec<f64>], v: &mut [f64]) -> bool {
    let length = dot(v, v).sqrt();
    if length < 1e-150 {
        return false;
    }
    v.iter_mut().for_each(|value| *value /= length);
    for _ in 0..2 {
        for u in done {
            let along = dot(u, v);
            v.iter_mut().zip(u).for_each(|(value, u)| *value -= along * u);
        }
    }
    let length = dot(v, v).sqrt();
    if length < 1e-9 {
        return false;
    }
    v.iter_mut().for_each(|value| *value /= length);
    true
}

/// Eigenvalues and unit eigenvectors of a small symmetric matrix by Jacobi rotations, the greatest value first.
fn jacobi(mut a: Vec<Vec<f64>>) -> Vec<(f64, Vec<f64>)> {
    let n = a.len();
    let mut vectors: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect(); // rows
    for _ in 0..30 {
        for p in 0..n {
            for q in p + 1..n {
                if a[p][q].abs() < 1e-300 {
                    continue;
                }
                let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let (c, s) = (1.0 / (t * t + 1.0).sqrt(), t / (t * t + 1.0).sqrt());
                let rotate = |x: f64, y: f64| (c * x - s * y, s * x + c * y);
                for row in &mut a {
                    (row[p], row[q]) = rotate(row[p], row[q]);
                }
                for j in 0..n {
                    (a[p][j], a[q][j]) = rotate(a[p][j], a[q][j]);
                    (vectors[p][j], vectors[q][j]) = rotate(vectors[p][j], vectors[q][j]);
                }
            }
        }
    }
    let mut pairs: Vec<(f64, Vec<f64>)> = vectors.into_iter().enumerate().map(|(i, v)| (a[i][i], v)).collect();
    pairs.sort_by(|x, y| y.0.total_cmp(&x.0));
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_axes_are_found() {
        // Variances 9, 4, 1 along a rotated frame.
        let frame = [[0.6, 0.8, 0.0], [-0.8, 0.6, 0.0], [0.0, 0.0, 1.0]];
        let mut rng = Rng::new(1);
        let rows: Vec<Vec<f64>> = (0..4000)
            .map(|_| {
                let z = [3.0, 2.0, 1.0].map(|s| s * f64::from(rng.normal()));
                (0..3).map(|j| 5.0 + (0..3).map(|i| z[i] * frame[i][j]).sum::<f64>()).collect()
            })
            .collect();
        let pca = pca(&rows, 2).unwrap();
        for (component, axis) in pca.components.iter().zip(&frame) {
            assert!(dot(component, axis).abs() > 0.995, "{component:?}");
            assert!((dot(component, component) - 1.0).abs() < 1e-12);
        }
        assert!((pca.explained[0] - 9.0 / 14.0).abs() < 0.02 && (pca.explained[1] - 4.0 / 14.0).abs() < 0.02);
        assert!(dot(&pca.components[0], &pca.components[1]).abs() < 1e-12);
        assert!(pca.project(&pca.mean).iter().all(|v| v.abs() < 1e-12));
    }

    #[test]
    fn flat_data_and_single_rows_have_no_variance() {
        for rows in [vec![vec![1.0, 2.0, 3.0]], vec![vec![0.0; 4]; 5]] {
            let pca = pca(&rows, 2).unwrap();
            assert_eq!(pca.explained, [0.0, 0.0]);
            assert!(pca.components.iter().flatten().all(|v| v.is_finite()));
        }
    }

    #[test]
    fn bad_rows_are_errors() {
        assert!(pca(&[], 2).is_err());
        assert!(pca(&[vec![1.0]], 2).is_err());
        assert!(pca(&[vec![1.0, 2.0], vec![1.0]], 2).is_err());
        assert!(pca(&[vec![1.0, f64::NAN]], 1).is_err());
    }
}
