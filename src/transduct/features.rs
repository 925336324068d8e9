//! Cached features that an answer without training starts from.

use candle_core::{D, DType, Device, Result, Tensor};
use lafter_fast::with_f32;
use rayon::prelude::*;

use super::graph::Graph;
use super::nearest::nearest;
use crate::classify::normalize;
use crate::error;
use crate::eval::argmax_rows;
use crate::nn::{Isa, Linear, Precision};
use crate::progress::{Event, Stage, check_interrupt};

/// Unit features of pictures and of the classes' texts, and the scale of their cosines.
#[derive(Clone, Debug)]
pub struct Features {
    /// X `[n, d]` f32, rows of unit length: pictures.
    pub images: Tensor,
    /// W `[C, d]` f32, rows of unit length: one text prototype a class, as [`ZeroShotClassifier`](crate::ZeroShotClassifier) has.
    pub texts: Tensor,
    /// What cosines are multiplied with before the softmax: CLIP's logit scale, about 100. Temperature is part of a posterior: it
    /// decides how much texts count against pictures.
    pub scale: f64,
}

impl Features {
    /// From features of any length, which are normalized.
    ///
    /// # Shapes
    /// images `[n, d]`, texts `[C, d]`.
    ///
    /// # Errors
    /// [`Error::Shape`](error::Error::Shape) if the widths differ, there is no picture or fewer than two classes, or a row has no
    /// direction: zeros, numbers that are not finite.
    pub fn new(images: &Tensor, texts: &Tensor, scale: f64) -> error::Result<Self> {
        let fault = |what: String| Err(error::Error::Shape(what));
        let ((n, d), (classes, width)) = match (images.dims(), texts.dims()) {
            (&[n, d], &[classes, width]) => ((n, d), (classes, width)),
            (images, texts) => return fault(format!("expected features [n, d] and [C, d], got {images:?} and {texts:?}: give matrices")),
        };
        if d != width {
            return fault(format!("features of pictures [n, {d}] and of texts [C, {width}]: embed both with the same CLIP"));
        }
        if n == 0 || classes < 2 {
            return fault(format!("{n} pictures and {classes} classes: give at least one picture and two classes"));
        }
        let unit = |features: &Tensor| normalize(features)?.contiguous();
        let texts = unit(&directions(texts, |row| format!("text {row}"))?)?.to_device(images.device())?;
        Ok(Self { images: unit(&directions(images, |row| format!("picture {row}"))?)?, texts, scale })
    }

    /// n
    pub fn pictures(&self) -> usize {
        self.images.dims()[0]
    }

    /// C
    pub fn classes(&self) -> usize {
        self.texts.dims()[0]
    }

    /// d
    pub fn width(&self) -> usize {
        self.texts.dims()[1]
    }

    /// scale · X Wᵀ `[n, C]`, what zero-shot answers (eq. 1).
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    pub fn text_logits(&self) -> Result<Tensor> {
        affine(&self.images, &(&self.texts * self.scale)?, None)
    }

    /// Its softmax, y `[n, C]`.
    ///
    /// # Errors
    /// As [`text_logits`](Self::text_logits).
    pub fn text_probabilities(&self) -> Result<Tensor> {
        crate::nn::softmax(&self.text_logits()?)
    }

    /// (A + Aᵀ) · scale, A the cosines of each picture to its `k` nearest others.
    pub(super) fn graph(&self, k: usize, scale: f32, events: &mut dyn FnMut(&Event)) -> error::Result<Graph> {
        let found = watched_nearest(&self.images, &self.images, k, false, events)?;
        let entry = |(at, (key, cosine)): (usize, (&u32, &f32))| ((at / found.k) as u32, *key, *cosine);
        let entries: Vec<_> = found.indices.iter().zip(&found.cosines).enumerate().map(entry).collect();
        Ok(Graph::symmetric(self.pictures(), entries, scale)?)
    }
}

/// Features `[n, d]` as f32 whose rows have a direction and can be normalized: as they are, or each of another length if a square leaves
/// f32. `name` says in an error what a row is.
///
/// # Errors
/// [`Error::Shape`](error::Error::Shape) for the first row without a direction: zeros, or numbers that are not finite in f32.
pub fn directions(features: &Tensor, name: impl Fn(usize) -> String) -> error::Result<Tensor> {
    let squares = |features: &Tensor| features.sqr()?.sum(D::Minus1)?.to_vec1::<f32>();
    let mut features = features.to_dtype(DType::F32)?;
    if !squares(&features)?.iter().all(|length| length.is_normal()) {
        // f32 may hold the numbers and not their squares: relative to the greatest of a row it holds both
        features = features.broadcast_div(&features.abs()?.max_keepdim(D::Minus1)?)?;
        if let Some(row) = squares(&features)?.iter().position(|length| !length.is_finite()) {
            let name = name(row);
            return Err(error::Error::Shape(format!("the features of {name} are zero or not finite: embed it again, or leave it out")));
        }
    }
    Ok(features)
}

/// [`nearest`] with progress, and a stop between two blocks.
pub(super) fn watched_nearest(
    queries: &Tensor,
    keys: &Tensor,
    k: usize,
    itself: bool,
    events: &mut dyn FnMut(&Event),
) -> error::Result<super::Nearest> {
    let (stage, total, started) = (Stage::from("neighbors"), queries.dim(0)?, std::time::Instant::now());
    events(&Event::Started { stage: stage.clone(), total, unit: "pictures".into() });
    let found = nearest(queries, keys, k, itself, |done| {
        events(&Event::Advanced { stage: stage.clone(), done, total, loss: None, accuracy: None });
        check_interrupt("transduction")
    })?;
    events(&Event::Finished { stage, seconds: started.elapsed().as_secs_f64() });
    Ok(found)
}

/// x Bᵀ + b by the crate's own product: x `[n, inner]`, B `[C, inner]`, b `[C]` → `[n, C]`.
pub(super) fn affine(x: &Tensor, weight: &Tensor, bias: Option<Tensor>) -> Result<Tensor> {
    Linear::new(weight.contiguous()?, bias).packed(Precision::F32, Isa::best())?.forward(x)
}

/// How many rows have their greatest entry in each column: `[n, C]` → C numbers; of equal entries the first counts.
pub(super) fn named(z: &Tensor) -> Result<Vec<usize>> {
    let (_, classes) = z.dims2()?;
    let mut counts = vec![0; classes];
    if !z.device().is_cpu() {
        crate::nn::argmax(z)?.to_device(&Device::Cpu)?.to_vec1::<u32>()?.into_iter().for_each(|class| counts[class as usize] += 1);
        return Ok(counts);
    }
    let rows = |rows: &[f32]| argmax_rows(rows, classes); // Candle's takes one thread
    let best: Vec<usize> = with_f32(z, |z| z.par_chunks(64 * classes).flat_map_iter(rows).collect())?;
    best.into_iter().for_each(|class| counts[class] += 1);
    Ok(counts)
}

/// Σ_i z_ic x_ij and Σ_i z_ic: z `[n, C]`, x `[n, d]` → `[C, d]`, `[C, 1]`.
pub(super) fn sums(z: &Tensor, x: &Tensor) -> Result<(Tensor, Tensor)> {
    // a product with ones: Candle's sum over the first dimension takes one thread
    let ones = Tensor::ones((1, z.dim(0)?), z.dtype(), z.device())?;
    Ok((z.t()?.matmul(x)?, ones.matmul(z)?.t()?.contiguous()?))
}

/// (zᵀx + ε p) / (Σz + ε): the mean of the rows that z gives to each class; a class that has none keeps p.
pub(super) fn means(sums: &Tensor, counts: &Tensor, otherwise: &Tensor) -> Result<Tensor> {
    const NONE: f64 = 1e-20;
    (sums + (otherwise * NONE)?)?.broadcast_div(&(counts + NONE)?)
}

/// The share that a picture's neighbors have in its answer, whatever their number: w / 2k of A + Aᵀ.
pub(super) fn share(k: usize, pictures: usize) -> f32 {
    0.5 / k.min(pictures.saturating_sub(1)).max(1) as f32
}

/// How sharply distances in d dimensions count: the published 50 belongs to d = 512.
pub(super) fn softness(given: Option<f64>, width: usize) -> f64 {
    given.unwrap_or(width as f64 / 10.24)
}
