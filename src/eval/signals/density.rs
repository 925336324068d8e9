//! Soft neighborhood density (Saito et al. 2021).

use rayon::prelude::*;

use crate::progress::interrupted;

/// The temperature of the softmax over cosines.
const TEMPERATURE: f64 = 0.05;

/// The entropies of more rows than this can be interrupted; a run's sample has fewer, so that none of its processes ends alone.
pub const AT_ONCE: usize = 4096;

/// The mean entropy, over all n² C of them, of softmax_j( cos(p_i, p_j) / 0.05 ), with −1/0.05 in the place of i itself: p `[n, C]`.
pub fn neighborhood(p: &[f64], classes: usize) -> f64 {
    let unit: Vec<f64> = p.chunks(classes).flat_map(unit).collect();
    let rows: Vec<&[f64]> = unit.chunks(classes).collect();
    let long = rows.len() > AT_ONCE;
    let of_row = |i: usize| {
        if long && interrupted() {
            return 0.0; // the caller asks, too
        }
        let scaled = |j: usize| if i == j { -1.0 / TEMPERATURE } else { dot(rows[i], rows[j]) / TEMPERATURE };
        let scores: Vec<f64> = (0..rows.len()).map(scaled).collect();
        let most = scores.iter().fold(f64::NEG_INFINITY, |most, v| most.max(*v));
        let total: f64 = scores.iter().map(|v| (v - most).exp()).sum();
        // H = log Σ e^s − Σ q s
        total.ln() - scores.iter().map(|v| (v - most).exp() / total * (v - most)).sum::<f64>()
    };
    let entropies: Vec<f64> = (0..rows.len()).into_par_iter().map(of_row).collect();
    entropies.iter().sum::<f64>() / rows.len().max(1) as f64
}

fn unit(row: &[f64]) -> Vec<f64> {
    let length = dot(row, row).sqrt().max(f64::MIN_POSITIVE);
    row.iter().map(|v| v / length).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
