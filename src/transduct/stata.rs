//! StatA: transduction made for sets that lack classes (Zanella, Fuchs, De Vleeschouwer, Ben Ayed, CVPR 2025).

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::features::{affine, means, named, share, softness, sums};
use super::{Features, Rounds};
use crate::classify::normalize;
use crate::error;
use crate::progress::Event;

/// A mixture of Gaussians on the pictures' features, one a class, each held to its text the more the fewer pictures name it.
///
/// With y the texts' answer, A the cosines of each picture to its k nearest others, 11 assignments with 10 updates between; an
/// assignment is five rounds of
///
/// log z_ic = log y_ic + (1/λ) \[ −½ Σ_j (x_ij − μ_cj)²/σ_cj − ½ Σ_j log σ_cj \] + (1/2k) ((A + Aᵀ) z)_ic + const_i, λ = 50 for d = 512.
///
/// An update, with n_c the pictures whose greatest z is that of c and β_c = n_c/(α + n_c):
///
/// μ_c = unit( β_c unit(mean_c) + (1 − β_c) W_c ),
/// σ_c = β_c · (z-weighted mean of (x − μ_c)²) + (1 − β_c)(σ⁰ + (W_c − μ_c)²).
///
/// It starts from μ = W and σ⁰_j = (1/n) Σ_ic y_ic (x_ij − W_cj)². The released code
/// (github.com/MaxZanella/StatA) divides σ⁰ by n once for every 2,500 pictures; here it is divided once.
///
/// No matrix n·C·d is made: Σ_j (x − μ)²/σ = x²·(1/σ) − 2 x·(μ/σ) + Σ_j μ²/σ, and the z-weighted mean of (x − μ)² is that of x²,
/// less 2 μ times that of x, plus μ².
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stata {
    /// Updates, up to a million; default 10.
    pub updates: usize,
    /// Rounds of one assignment, up to a million; default 5.
    pub rounds: usize,
    /// k; default 3.
    #[serde(alias = "neighbours")] // as earlier versions wrote it
    pub neighbors: usize,
    /// α, the pictures that a class's text counts for, at least 0; default 1.
    pub anchor: f64,
    /// λ, above 0; default d/10.24.
    pub softness: Option<f64>,
}

impl Default for Stata {
    fn default() -> Self {
        Self { updates: 10, rounds: 5, neighbors: 3, anchor: 1.0, softness: None }
    }
}

impl Stata {
    /// z `[n, C]`, rows that sum to 1.
    ///
    /// # Errors
    /// [`Error::Interrupted`](error::Error::Interrupted) between two assignments; Candle's if the device has no memory left.
    pub fn probabilities(&self, features: &Features, events: &mut dyn FnMut(&Event)) -> error::Result<Tensor> {
        let (x, w, d) = (&features.images, &features.texts, features.width());
        let graph = features.graph(self.neighbors, share(self.neighbors, features.pictures()), events)?;
        let all = Tensor::cat(&[x, &x.sqr()?], 1)?; // [n, 2d]: x and x²
        let softness = softness(self.softness, d);
        let mut z = features.text_probabilities()?;
        let start = spread_about(&z, &all, w)?; // σ⁰ [1, d]
        let (mut mu, mut sigma) = (w.clone(), start.broadcast_as(w.shape())?.contiguous()?);
        let mut rounds = Rounds::new("StatA", self.updates + 1, events);
        for update in 0..=self.updates {
            let logits = gaussian_logits(features, &all, &mu, &sigma, softness)?;
            z = graph.softmax(&logits, &z, self.rounds)?;
            rounds.done()?;
            if update < self.updates {
                (mu, sigma) = self.update(&z, &all, w, &start)?;
            }
        }
        rounds.finish();
        Ok(z)
    }

    /// μ and σ `[C, d]`.
    fn update(&self, z: &Tensor, all: &Tensor, w: &Tensor, start: &Tensor) -> Result<(Tensor, Tensor)> {
        let (classes, d) = w.dims2()?;
        let beta = named(z)?.into_iter().map(|n| (n as f64 / (self.anchor + n as f64).max(1e-12)) as f32).collect();
        let beta = Tensor::from_vec(beta, (classes, 1), w.device())?;
        let rest = (1.0 - &beta)?;
        let (totals, counts) = sums(z, all)?;
        let moments = means(&totals, &counts, &Tensor::cat(&[w, &w.sqr()?], 1)?)?; // [C, 2d]
        let (mean, square) = (moments.narrow(1, 0, d)?, moments.narrow(1, d, d)?);
        let mu = normalize(&(normalize(&mean)?.broadcast_mul(&beta)? + w.broadcast_mul(&rest)?)?)?;
        let spread = ((square - (&mean * &mu)? * 2.0)? + mu.sqr()?)?.relu()?; // below 0 by rounding only
        let anchor = (w - &mu)?.sqr()?.broadcast_add(start)?;
        let sigma = (spread.broadcast_mul(&beta)? + anchor.broadcast_mul(&rest)?)?;
        Ok((mu, sigma.maximum(LEAST)?))
    }
}

/// The least variance of a dimension: that of unit features is about 1/d.
pub(super) const LEAST: f64 = 1e-9;

/// scale · x Wᵀ + (1/λ) \[ −½ Σ_j (x_j − μ_cj)²/σ_cj − ½ Σ_j log σ_cj \], by one product of \[x, x²\].
fn gaussian_logits(features: &Features, all: &Tensor, mu: &Tensor, sigma: &Tensor, softness: f64) -> Result<Tensor> {
    let linear = ((&features.texts * features.scale)? + ((mu / sigma)? / softness)?)?;
    let square = (sigma.recip()? * (-0.5 / softness))?;
    let bias = (((mu.sqr()? / sigma)? + sigma.log()?)?.sum(1)? * (-0.5 / softness))?; // [C]
    affine(all, &Tensor::cat(&[&linear, &square], 1)?, Some(bias))
}

/// (1/n) Σ_ic z_ic (x_ij − μ_cj)², `[1, d]`, for rows z that sum to 1: all = \[x, x²\].
fn spread_about(z: &Tensor, all: &Tensor, mu: &Tensor) -> Result<Tensor> {
    let ((n, _), d) = (z.dims2()?, mu.dim(1)?);
    let (totals, counts) = sums(z, all)?; // [C, 2d], [C, 1]
    let cross = (totals.narrow(1, 0, d)? * mu)?.sum_keepdim(0)?;
    let centers = mu.sqr()?.broadcast_mul(&counts)?.sum_keepdim(0)?;
    let squares = totals.narrow(1, d, d)?.sum_keepdim(0)?;
    (((squares - (cross * 2.0)?)? + centers)? / n as f64)?.maximum(LEAST)
}
