//! The loss of the text classifier (eq. 2), fused for a linear head: unit length, noise, logits, loss and gradient tile by
//! tile, so that neither the noisy features nor the logits of the whole set ever exist.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{Head, normalise, smoothed_cross_entropy};
use crate::nn::{f32_slice, on_cpu_f32, with_f32};
use crate::rng::Rng;
use crate::wide::exp;

/// Texts a tile: its noisy features and logits stay in a core's own cache.
const TILE: usize = 256;
/// Tiles are summed in this many groups at most, whatever the number of threads, so that the sums have the same bits …
const GROUPS: usize = 32;
/// … and in fewer where a gradient is so large that theirs would fill more than this many values.
const GRADIENT_VALUES: usize = 16 << 20;

/// Text features and their classes, and what a step of eq. 2 makes of them:
///
/// L_SCE( f_θ( u(t)/‖u(t)‖ + n ), c ), the mean over the texts of the step, n ~ N(0, σ²I) drawn anew at every step.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use lafter::{classify::{Head, NoisyTexts}, rng::Rng};
/// let features = Tensor::new(&[[3f32, 0.], [0., 5.]], &Device::Cpu)?;
/// let (head, params) = Head::linear(2, 2, &mut Rng::new(1), &Device::Cpu)?.trainable()?;
/// let texts = NoisyTexts::new(features, &[0, 1], 0.1, 0.1)?;
/// let (loss, right) = texts.loss(&head, None, &mut Rng::new(2))?;
/// let (plain, right_plain) = texts.loss_plain(&head, None, &mut Rng::new(2))?;
/// assert!((loss.to_scalar::<f32>()? - plain.to_scalar::<f32>()?).abs() < 1e-6 && right == right_plain);
/// assert!(loss.backward()?.get(&params[0].1).is_some());
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct NoisyTexts {
    /// [n, d] f32, of any length.
    features: Tensor,
    /// The features at unit length, made when the plain form first needs them.
    unit: OnceLock<Tensor>,
    labels: Arc<[u32]>,
    noise: f32,
    smoothing: f64,
}

impl NoisyTexts {
    /// Features [n, d], n class indices, σ of the noise and ε of the smoothing.
    pub fn new(features: Tensor, labels: &[usize], noise: f32, smoothing: f64) -> Result<Self> {
        let (n, _) = features.dims2()?;
        if n != labels.len() {
            candle_core::bail!("{n} text features but {} labels: one label a text", labels.len());
        }
        let labels = labels.iter().map(|label| *label as u32).collect();
        Ok(Self { features: features.to_dtype(DType::F32)?.detach(), unit: OnceLock::new(), labels, noise, smoothing })
    }

    /// The mean loss over the texts `rows` (all where `None`) with its graph to the head, and how many are classified right.
    ///
    /// A linear head without bias on the CPU takes the fused form, any other the plain one.
    pub fn loss(&self, head: &Head, rows: Option<&[u32]>, rng: &mut Rng) -> Result<(Tensor, usize)> {
        match head.layers.as_slice() {
            [only] if only.bias.is_none() && on_cpu_f32(&only.weight) && on_cpu_f32(&self.features) => {
                let size = rows.map_or(self.labels.len(), <[u32]>::len);
                let step = FusedStep {
                    features: self.features.contiguous()?,
                    labels: self.labels.clone(),
                    rows: rows.map(Into::into),
                    noise: self.noise,
                    smoothing: self.smoothing as f32,
                    rng: rng.clone(),
                    learns: only.weight.track_op(),
                    gradient: OnceLock::new(),
                };
                if self.noise > 0.0 {
                    rng.skip_normals(size * only.weight.dim(1)?);
                }
                let loss_and_right = only.weight.contiguous()?.apply_op1(step)?; // [2]
                Ok((loss_and_right.get(0)?, loss_and_right.get(1)?.to_scalar::<f32>()? as usize))
            }
            _ => self.loss_plain(head, rows, rng),
        }
    }

    /// The same from Candle's own operations, all texts of the step at once: the reference, and the form for an MLP and for
    /// other devices.
    pub fn loss_plain(&self, head: &Head, rows: Option<&[u32]>, rng: &mut Rng) -> Result<(Tensor, usize)> {
        let device = self.features.device();
        let unit = match self.unit.get() {
            Some(unit) => unit,
            None => {
                let unit = normalise(&self.features)?;
                self.unit.get_or_init(|| unit)
            }
        };
        let (x, labels) = match rows {
            None => (unit.clone(), Tensor::from_slice(&self.labels, self.labels.len(), device)?),
            Some(rows) => {
                let labels: Vec<u32> = rows.iter().map(|row| self.labels[*row as usize]).collect();
                let at = Tensor::from_slice(rows, rows.len(), device)?;
                (unit.index_select(&at, 0)?, Tensor::from_vec(labels, rows.len(), device)?)
            }
        };
        let x = if self.noise > 0.0 { (&x + rng.normal_tensor(x.shape(), self.noise, device)?)? } else { x };
        let logits = head.forward(&x)?; // [rows, C]
        let right = logits.argmax(D::Minus1)?.eq(&labels)?.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?;
        Ok((smoothed_cross_entropy(&logits, &labels, self.smoothing)?, right as usize))
    }
}

/// weight [C, d] → [mean loss, number right]; the gradient is made on the way and kept for the backward pass.
struct FusedStep {
    features: Tensor,
    labels: Arc<[u32]>,
    rows: Option<Vec<u32>>,
    noise: f32,
    smoothing: f32,
    rng: Rng,
    learns: bool,
    gradient: OnceLock<Tensor>,
}

/// What a group of tiles adds up to.
struct Sums {
    loss: f64,
    right: usize,
    /// [C, d], or empty where the weight does not learn
    gradient: Vec<f32>,
}

impl FusedStep {
    /// All texts of the step in groups of tiles; the groups run in parallel, the tiles of a group one after another.
    fn run(&self, features: &[f32], weight: &[f32], classes: usize, width: usize) -> Vec<Sums> {
        let size = self.rows.as_ref().map_or(self.labels.len(), Vec::len);
        let tiles = size.div_ceil(TILE);
        let groups = GROUPS.min(GRADIENT_VALUES / weight.len().max(1)).clamp(1, tiles.max(1));
        let group = |index: usize| {
            let mut sums = Sums { loss: 0.0, right: 0, gradient: vec![0f32; if self.learns { weight.len() } else { 0 }] };
            let (mut x, mut logits) = (vec![0f32; TILE * width], vec![0f32; TILE * classes]);
            for tile in tiles * index / groups..tiles * (index + 1) / groups {
                let start = tile * TILE;
                let length = TILE.min(size - start);
                let (x, logits) = (&mut x[..length * width], &mut logits[..length * classes]);
                let label = |i: usize| self.labels[self.row(start + i)] as usize;
                self.noisy(features, start, width, x);
                multiply((length, classes, width), x, (1, width), weight, (width, 1), logits, 0.0); // x Wᵀ
                for (i, logits) in logits.chunks_exact_mut(classes).enumerate() {
                    let (loss, right) = smoothed_row(logits, label(i), self.smoothing, 1.0 / size as f32);
                    sums.loss += f64::from(loss);
                    sums.right += usize::from(right);
                }
                if self.learns {
                    multiply((classes, width, length), logits, (classes, 1), x, (1, width), &mut sums.gradient, 1.0); // += gᵀ x
                }
            }
            sums
        };
        (0..groups).into_par_iter().map(group).collect()
    }

    /// Which text stands at a position of the step.
    fn row(&self, position: usize) -> usize {
        self.rows.as_ref().map_or(position, |rows| rows[position] as usize)
    }

    /// u/‖u‖ + n for the texts from position `start` on: [length, width].
    fn noisy(&self, features: &[f32], start: usize, width: usize, out: &mut [f32]) {
        if self.noise > 0.0 {
            self.rng.peek_normals(start * width, out, self.noise); // TILE is even, so is `start`
        } else {
            out.fill(0.0);
        }
        for (i, out) in out.chunks_exact_mut(width).enumerate() {
            add_unit(&features[self.row(start + i) * width..][..width], out);
        }
    }
}

impl CustomOp1 for FusedStep {
    fn name(&self) -> &'static str {
        "noisy-text-loss"
    }

    fn cpu_fwd(&self, weight: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (classes, width) = layout.shape().dims2()?;
        let size = self.rows.as_ref().map_or(self.labels.len(), Vec::len);
        if self.features.dim(1)? != width {
            candle_core::bail!("the head expects features of width {width}, got {:?}", self.features.dims());
        }
        if let Some(label) = self.labels.iter().find(|label| **label as usize >= classes) {
            candle_core::bail!("class index {label} of a text, but the head has {classes} classes");
        }
        if let Some(row) = self.rows.iter().flatten().find(|row| **row as usize >= self.labels.len()) {
            candle_core::bail!("text {row} of {} was asked for", self.labels.len());
        }
        let weight = f32_slice(weight, layout)?;
        let mut sums = with_f32(&self.features, |features| self.run(features, weight, classes, width))?.into_iter();
        // always in the same order
        let mut total = sums.next().unwrap_or(Sums { loss: 0.0, right: 0, gradient: vec![0f32; weight.len()] });
        for part in sums {
            total.loss += part.loss;
            total.right += part.right;
            add(&part.gradient, &mut total.gradient);
        }
        if self.learns {
            let _ = self.gradient.set(Tensor::from_vec(total.gradient, (classes, width), self.features.device())?);
        }
        let mean = (total.loss / size as f64) as f32;
        Ok((CpuStorage::F32(vec![mean, total.right as f32]), Shape::from(2)))
    }

    fn bwd(&self, weight: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        match self.gradient.get() {
            Some(gradient) => Ok(Some(gradient.broadcast_mul(&grad.get(0)?)?)),
            None => Ok(Some(weight.zeros_like()?)),
        }
    }
}

/// c[m, n] = keep·c + a[m, k] b[k, n] on this thread; strides of a and b are (column, row).
#[rustfmt::skip]
fn multiply((m, n, k): (usize, usize, usize), a: &[f32], a_strides: (usize, usize), b: &[f32], b_strides: (usize, usize), c: &mut [f32], keep: f32) {
    assert!(a.len() == m * k && b.len() == k * n && c.len() == m * n);
    // SAFETY: the three buffers hold m·k, k·n and m·n elements, each covered once by its strides; c is not aliased.
    unsafe {
        gemm::gemm(
            m, n, k,
            c.as_mut_ptr(), 1, n as isize, keep != 0.0,
            a.as_ptr(), a_strides.0 as isize, a_strides.1 as isize,
            b.as_ptr(), b_strides.0 as isize, b_strides.1 as isize,
            keep, 1f32, false, false, false, gemm::Parallelism::None,
        );
    }
}

wide! {
    /// out += x/‖x‖
    fn add_unit(x: &[f32], out: &mut [f32]) {
        let length = sum(x, |v| v * v).sqrt();
        for (out, x) in out.iter_mut().zip(x) {
            *out += x / length;
        }
    }
}

wide! {
    fn add(part: &[f32], total: &mut [f32]) {
        for (total, part) in total.iter_mut().zip(part) {
            *total += part;
        }
    }
}

wide! {
    /// The smoothed cross entropy of one row of logits, and whether its label has the greatest; the logits become the
    /// gradient, times `scale`: (p − (1 − ε)·[c = label] − ε/C)·scale.
    fn smoothed_row(logits: &mut [f32], label: usize, smoothing: f32, scale: f32) -> (f32, bool) {
        let max = logits.iter().fold(f32::NEG_INFINITY, |a, b| if *b > a { *b } else { a });
        let right = logits.get(label).is_some_and(|v| *v == max) && logits[..label].iter().all(|v| *v < max);
        let count = logits.len() as f32;
        let of_label = logits[label] - max;
        let of_all = sum(logits, |v| v - max) / count;
        for v in logits.iter_mut() {
            *v = exp(*v - max);
        }
        let total = sum(logits, |v| v);
        let (factor, share) = (scale / total, scale * smoothing / count);
        for v in logits.iter_mut() {
            *v = *v * factor - share;
        }
        logits[label] -= scale * (1.0 - smoothing);
        (total.ln() - (1.0 - smoothing) * of_label - smoothing * of_all, right)
    }
}

/// Σ f(x) in 64 running sums, which fit wide registers.
#[inline(always)]
fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0f32; 64];
    let (chunks, rest) = x.as_chunks::<64>();
    for chunk in chunks {
        for (sum, v) in sums.iter_mut().zip(chunk) {
            *sum += f(*v);
        }
    }
    for (sum, v) in sums.iter_mut().zip(rest) {
        *sum += f(*v);
    }
    sums.iter().sum()
}
