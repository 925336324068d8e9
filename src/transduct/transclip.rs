//! TransCLIP-ZS: transduction with one spread for all classes (Zanella, Gérin, Ben Ayed, NeurIPS 2024).

use candle_core::{D, DType, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::features::{affine, means, share, softness, sums};
use super::nearest::greatest;
use super::stata::LEAST;
use super::{Features, Rounds};
use crate::classify::normalize;
use crate::error;
use crate::progress::Event;

/// A mixture of Gaussians on the pictures' features with one diagonal covariance.
///
/// Assignments and updates alternate as in [`Stata`](super::Stata), with
///
/// log z_ic = log y_ic − (1/2λ) Σ_j (x_ij − μ_cj)²/σ_j + (1/2k) ((A + Aᵀ) z)_ic + const_i,
///
/// μ_c = unit(mean_c), σ_j = (1/n) Σ_ic z_ic (x_ij − μ_cj)². It starts from μ_c = unit(Σ y_ic x_i) over the 8 pictures with the
/// greatest y_ic, and σ = 1/d (github.com/MaxZanella/transduction-for-vlms).
///
/// **It breaks when classes are absent**: a class that no picture shows takes some of another's. [`Stata`](super::Stata) loses less.
///
/// Σ_j x_j²/σ_j is the same for all classes of a picture and drops out, so an assignment takes one product n·C·d and an update
/// one more. Where pictures lie far nearer to their means than to each other, as with few pictures a class, these products are f64.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Transclip {
    /// Updates, up to a million; default 10.
    pub updates: usize,
    /// Rounds of one assignment, up to a million; default 5.
    pub rounds: usize,
    /// k; default 3.
    #[serde(alias = "neighbours")] // as earlier versions wrote it
    pub neighbors: usize,
    /// Pictures that a class's first prototype is made of; default 8.
    pub surest: usize,
    /// λ, above 0; default d/10.24, 50 for d = 512.
    pub softness: Option<f64>,
}

impl Default for Transclip {
    fn default() -> Self {
        Self { updates: 10, rounds: 5, neighbors: 3, surest: 8, softness: None }
    }
}

impl Transclip {
    /// z `[n, C]`, rows that sum to 1.
    ///
    /// # Errors
    /// [`Error::Interrupted`](error::Error::Interrupted) between two assignments; Candle's if the device has no memory left.
    pub fn probabilities(&self, features: &Features, events: &mut dyn FnMut(&Event)) -> error::Result<Tensor> {
        let (x, d) = (&features.images, features.width());
        let graph = features.graph(self.neighbors, share(self.neighbors, features.pictures()), events)?;
        let softness = softness(self.softness, d);
        let mut z = features.text_probabilities()?;
        let mut mu = self.first(&z, x)?;
        let mut sigma = (Tensor::ones((1, d), x.dtype(), x.device())? / d as f64)?;
        // distances are taken from the mean m of all pictures: where these are nearly alike, f32 would lose what tells them apart
        let ones = Tensor::ones((features.pictures(), 1), x.dtype(), x.device())?;
        let m = (sums(&ones, x)?.0 / features.pictures() as f64)?; // [1, d]
        let squares = sums(&ones, &x.broadcast_sub(&m)?.sqr()?)?.0; // Σ (x − m)², [1, d]
        let mut rounds = Rounds::new("TransCLIP", self.updates + 1, events);
        for update in 0..=self.updates {
            z = graph.softmax(&logits(features, &m, &mu, &sigma, softness)?, &z, self.rounds)?;
            rounds.done()?;
            if update < self.updates {
                let (totals, counts) = sums(&z, x)?;
                mu = normalize(&means(&totals, &counts, &mu)?)?;
                sigma = spread((&totals, &counts), &m, &mu, &squares, features.pictures())?;
                if (&sigma / &squares)?.flatten_all()?.min(0)?.to_scalar::<f32>()? < NARROW / features.pictures() as f32 {
                    sigma = exact_spread(&z, x, &m, &mu)?;
                }
            }
        }
        rounds.finish();
        Ok(z)
    }

    /// unit(Σ y_ic x_i) over the pictures surest of c.
    fn first(&self, y: &Tensor, x: &Tensor) -> Result<Tensor> {
        let mut rows = Vec::with_capacity(y.dim(1)?);
        for surest in greatest(y, self.surest.max(1))? {
            let (order, of): (Vec<u32>, Vec<f32>) = surest.into_iter().unzip();
            // weights relative to the greatest: the direction is the same, and tiny ones do not vanish
            let most = of.first().map_or(1.0, |most| most.max(f32::MIN_POSITIVE));
            let weights: Vec<f32> = of.iter().map(|y| y / most).collect();
            let weights = Tensor::from_vec(weights, (1, order.len()), x.device())?;
            rows.push(weights.matmul(&x.index_select(&Tensor::new(order, x.device())?, 0)?)?); // [1, d]
        }
        let sums = Tensor::cat(&rows, 0)?;
        let lengths = sums.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(1e-12)?; // pictures may cancel out
        sums.broadcast_div(&lengths)
    }
}

/// Below this share of the variance of all pictures, f32 loses σ, and the distances that are counted by it, in their differences.
const NARROW: f32 = 1e-3;

/// scale · x Wᵀ − (1/2λ) Σ_j (x_j − μ_cj)²/σ_j, up to a number for each picture: `[n, C]` f32, computed in the type of σ.
fn logits(features: &Features, m: &Tensor, mu: &Tensor, sigma: &Tensor, softness: f64) -> Result<Tensor> {
    let [x, w, m, mu] = as_type([&features.images, &features.texts, m, mu], sigma.dtype())?;
    let away = mu.broadcast_sub(&m)?; // μ − m
    let slope = (away.broadcast_div(sigma)? / softness)?;
    let bias = ((away.sqr()?.broadcast_div(sigma)?.sum(1)? * (-0.5 / softness))? - slope.broadcast_mul(&m)?.sum(1)?)?;
    let weight = ((w * features.scale)? + slope)?;
    if sigma.dtype() == DType::F32 {
        return affine(&x, &weight, Some(bias));
    }
    let logits = x.matmul(&weight.t()?)?.broadcast_add(&bias)?;
    logits.broadcast_sub(&logits.max_keepdim(1)?)?.to_dtype(DType::F32) // in f32, differences from a large number would be rough
}

/// σ `[1, d]` out of zᵀx, Σz and Σ (x − m)².
fn spread((totals, counts): (&Tensor, &Tensor), m: &Tensor, mu: &Tensor, squares: &Tensor, n: usize) -> Result<Tensor> {
    let away = mu.broadcast_sub(m)?;
    let cross = ((totals - counts.broadcast_mul(m)?)? * &away)?.sum_keepdim(0)?;
    let centers = away.sqr()?.broadcast_mul(counts)?.sum_keepdim(0)?;
    (((squares - (cross * 2.0)?)? + centers)? / n as f64)?.maximum(LEAST)
}

/// The same in f64.
fn exact_spread(z: &Tensor, x: &Tensor, m: &Tensor, mu: &Tensor) -> Result<Tensor> {
    let [z, x, m, mu] = as_type([z, x, m, mu], DType::F64)?;
    let z = z.broadcast_div(&z.sum_keepdim(1)?)?; // rows sum to 1 but for rounding, which counts here
    let (totals, counts) = sums(&z, &x)?;
    spread((&totals, &counts), &m, &mu, &x.broadcast_sub(&m)?.sqr()?.sum_keepdim(0)?, x.dim(0)?)
}

fn as_type<const N: usize>(tensors: [&Tensor; N], dtype: DType) -> Result<[Tensor; N]> {
    let mut typed = tensors.map(Tensor::clone);
    for tensor in &mut typed {
        *tensor = tensor.to_dtype(dtype)?;
    }
    Ok(typed)
}
