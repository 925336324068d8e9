//! The nuclear norm of a matrix: the sum of its singular values.

use rayon::prelude::*;

/// ‖P‖_* of P `[n, width]`: the square roots of the eigenvalues of PᵀP, or of PPᵀ if that is smaller.
pub fn nuclear_norm(p: &[f64], width: usize) -> f64 {
    let n = p.len() / width.max(1);
    let columns: Vec<Vec<f64>> = if n < width {
        p.chunks(width).map(<[f64]>::to_vec).collect()
    } else {
        (0..width).map(|j| p.iter().skip(j).step_by(width).copied().collect()).collect()
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let gram = columns.par_iter().map(|a| columns.iter().map(|b| dot(a, b)).collect()).collect();
    eigenvalues(gram).into_iter().map(|value| value.max(0.0).sqrt()).sum()
}

/// The eigenvalues of a symmetric matrix, in no order: Householder's reduction to three diagonals, then the QL algorithm with
/// implicit shifts (Golub & Van Loan, §8.3).
fn eigenvalues(mut a: Vec<Vec<f64>>) -> Vec<f64> {
    let n = a.len();
    let mut off = vec![0f64; n]; // off the diagonal: off[i] stands between i and i + 1
    for k in 0..n.saturating_sub(2) {
        let column: Vec<f64> = (k + 1..n).map(|i| a[i][k]).collect();
        let length = column.iter().map(|v| v * v).sum::<f64>().sqrt();
        off[k] = if column[0] > 0.0 { -length } else { length };
        let mut v = column;
        v[0] -= off[k];
        let square: f64 = v.iter().map(|v| v * v).sum();
        if square == 0.0 {
            continue; // there is nothing below the diagonal
        }
        // A ← H A H with H = 1 − 2 v vᵀ / vᵀv: A − v wᵀ − w vᵀ
        let scale = 2.0 / square;
        let product: Vec<f64> =
            a[k + 1..].par_iter().map(|row| scale * row[k + 1..].iter().zip(&v).map(|(a, v)| a * v).sum::<f64>()).collect();
        let shift = 0.5 * scale * product.iter().zip(&v).map(|(p, v)| p * v).sum::<f64>();
        let w: Vec<f64> = product.iter().zip(&v).map(|(p, v)| p - shift * v).collect();
        a[k + 1..].par_iter_mut().enumerate().for_each(|(i, row)| {
            row[k + 1..].iter_mut().zip(v.iter().zip(&w)).for_each(|(a, (vj, wj))| *a -= v[i] * wj + w[i] * vj);
        });
    }
    if n > 1 {
        off[n - 2] = a[n - 1][n - 2];
    }
    let mut diagonal: Vec<f64> = (0..n).map(|i| a[i][i]).collect();
    for first in 0..n {
        for _ in 0..50 {
            let small = |i: usize| off[i].abs() <= f64::EPSILON * (diagonal[i].abs() + diagonal[i + 1].abs());
            let last = (first..n.saturating_sub(1)).find(|i| small(*i)).unwrap_or(n - 1);
            if last == first {
                break;
            }
            sweep(&mut diagonal, &mut off, first, last);
        }
    }
    diagonal
}

/// One implicit QL sweep over `first..=last`.
fn sweep(diagonal: &mut [f64], off: &mut [f64], first: usize, last: usize) {
    let g = (diagonal[first + 1] - diagonal[first]) / (2.0 * off[first]);
    let r = g.hypot(1.0);
    let mut g = diagonal[last] - diagonal[first] + off[first] / (g + if g < 0.0 { -r } else { r });
    let (mut sin, mut cos, mut shift) = (1.0, 1.0, 0.0);
    for i in (first..last).rev() {
        let (f, b) = (sin * off[i], cos * off[i]);
        let r = f.hypot(g);
        off[i + 1] = r;
        if r == 0.0 {
            diagonal[i + 1] -= shift;
            off[last] = 0.0;
            return;
        }
        (sin, cos) = (f / r, g / r);
        g = diagonal[i + 1] - shift;
        let r = (diagonal[i] - g) * sin + 2.0 * cos * b;
        shift = sin * r;
        diagonal[i + 1] = g + shift;
        g = cos * r - b;
    }
    diagonal[first] -= shift;
    off[first] = g;
    off[last] = 0.0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvalues_of_known_matrices() {
        // 2 on the diagonal, −1 next to it: 2 − 2 cos(kπ / (n + 1))
        let n = 40;
        let entry = |i: usize, j: usize| {
            if i == j {
                2.0
            } else if i.abs_diff(j) == 1 {
                -1.0
            } else {
                0.0
            }
        };
        let mut found = eigenvalues((0..n).map(|i| (0..n).map(|j| entry(i, j)).collect()).collect());
        found.sort_by(f64::total_cmp);
        for (k, value) in found.iter().enumerate() {
            let expected = 2.0 - 2.0 * ((k + 1) as f64 * std::f64::consts::PI / (n + 1) as f64).cos();
            assert!((value - expected).abs() < 1e-12, "{value} {expected}");
        }
        // a full one: all ones has n once, the rest 0
        let mut ones = eigenvalues(vec![vec![1.0; 7]; 7]);
        ones.sort_by(f64::total_cmp);
        assert!((ones[6] - 7.0).abs() < 1e-12 && ones[..6].iter().all(|value| value.abs() < 1e-12), "{ones:?}");
        assert_eq!(eigenvalues(vec![vec![3.0]]), [3.0]);
        assert!(eigenvalues(Vec::new()).is_empty());
    }

    #[test]
    fn either_side_gives_the_same_norm() {
        let (n, width) = (5, 3);
        let p: Vec<f64> = (0..n * width).map(|i| ((i * 37) % 11) as f64 / 11.0).collect();
        let turned: Vec<f64> = (0..width).flat_map(|j| (0..n).map(move |i| (i, j))).map(|(i, j)| p[i * width + j]).collect();
        assert!((nuclear_norm(&p, width) - nuclear_norm(&turned, n)).abs() < 1e-10);
        assert!((nuclear_norm(&[3.0, 0.0, 0.0, 4.0], 2) - 7.0).abs() < 1e-12);
    }
}
