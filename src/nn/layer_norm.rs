//! Layer normalisation whose scale and shift learn.

use candle_core::{CpuStorage, CustomOp3, D, DType, Layout, Result, Shape, Tensor};
use candle_nn::VarBuilder;
use rayon::prelude::*;

use super::{f32_slice, on_cpu_f32, with_f32};

/// y = (x − mean(x)) / √(var(x) + ε) · weight + bias over the last dimension (Ba et al. 2016, eq. 4).
///
/// `candle_nn::LayerNorm` drops the gradient on contiguous inputs; this one has a backward pass for all three inputs.
///
/// # Shapes
/// input and output [.., width]; `weight`, `bias` [width].
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use lafter::nn::LayerNorm;
/// let weight = Var::new(&[1f32, 1., 1.], &Device::Cpu)?;
/// let bias = Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu)?;
/// let norm = LayerNorm::new(weight.as_tensor().clone(), bias, 1e-5);
/// let y = norm.forward(&Tensor::new(&[[1f32, 2., 6.]], &Device::Cpu)?)?;
/// assert!(y.sum_all()?.to_scalar::<f32>()?.abs() < 1e-5);
/// assert!(y.sqr()?.sum_all()?.backward()?.get(&weight).is_some());
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone)]
pub struct LayerNorm {
    pub weight: Tensor,
    pub bias: Tensor,
    pub eps: f64,
}

impl LayerNorm {
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        Self { weight, bias, eps }
    }

    /// Reads `weight` and `bias` below `vb`.
    pub fn load(width: usize, eps: f64, vb: VarBuilder) -> Result<Self> {
        Ok(Self::new(vb.get(width, "weight")?, vb.get(width, "bias")?, eps))
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if on_cpu_f32(x) && self.weight.dtype() == DType::F32 {
            x.contiguous()?.apply_op3(&self.weight, &self.bias, FusedLayerNorm { eps: self.eps as f32 })
        } else {
            self.forward_plain(x)
        }
    }

    /// The same out of Candle's own differentiable operations: the reference, and the path on other devices.
    pub fn forward_plain(&self, x: &Tensor) -> Result<Tensor> {
        let dtype = x.dtype();
        let x = x.to_dtype(DType::F32)?;
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normalised = centred.broadcast_div(&(variance + self.eps)?.sqrt()?)?;
        normalised.broadcast_mul(&self.weight.to_dtype(DType::F32)?)?.broadcast_add(&self.bias.to_dtype(DType::F32)?)?.to_dtype(dtype)
    }

    /// The same values without a graph; sees later updates of the variables it shares storage with.
    pub fn frozen(&self) -> Self {
        Self { weight: self.weight.detach(), bias: self.bias.detach(), eps: self.eps }
    }
}

struct FusedLayerNorm {
    eps: f32,
}

/// Rows that one task handles; partial sums are added in task order, so the bits do not depend on the thread count.
const ROWS: usize = 64;

fn moments(x: &[f32], eps: f32) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = lanes(x, |v| v) / n;
    let variance = lanes(x, |v| (v - mean) * (v - mean)) / n;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// Σ f(x) in 16 independent lanes, which the compiler turns into vector registers.
fn lanes(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0f32; 16];
    let chunks = x.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().map(|v| f(*v)).sum();
    for chunk in chunks {
        for (sum, v) in sums.iter_mut().zip(chunk) {
            *sum += f(*v);
        }
    }
    sums.iter().sum::<f32>() + rest
}

impl CustomOp3 for FusedLayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight, bias) = (f32_slice(x, x_layout)?, f32_slice(weight, weight_layout)?, f32_slice(bias, bias_layout)?);
        let width = weight.len();
        if width == 0 || bias.len() != width || x_layout.dims().last() != Some(&width) {
            candle_core::bail!("layer norm of width {width} on an input of shape {:?}", x_layout.dims());
        }
        let mut y = vec![0f32; x.len()];
        y.par_chunks_mut(width * ROWS).zip(x.par_chunks(width * ROWS)).for_each(|(y, x)| {
            for (y, x) in y.chunks_mut(width).zip(x.chunks(width)) {
                let (mean, scale) = moments(x, self.eps);
                for i in 0..width {
                    y[i] = (x[i] - mean) * scale * weight[i] + bias[i];
                }
            }
        });
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let width = weight.elem_count();
        let mut dx = vec![0f32; x.elem_count()];
        // x̂ = (x − mean)·s;  dx = s·(g·w − mean(g·w) − x̂·mean(g·w·x̂));  dw = Σ g·x̂;  db = Σ g
        let partials: Vec<(Vec<f32>, Vec<f32>)> = with_f32(x, |x| {
            with_f32(weight, |w| {
                with_f32(grad, |grad| {
                    dx.par_chunks_mut(width * ROWS)
                        .zip(x.par_chunks(width * ROWS))
                        .zip(grad.par_chunks(width * ROWS))
                        .map(|((dx, x), g)| {
                            let (mut dw, mut db) = (vec![0f32; width], vec![0f32; width]);
                            for ((dx, x), g) in dx.chunks_mut(width).zip(x.chunks(width)).zip(g.chunks(width)) {
                                backward_row(x, w, g, self.eps, dx, &mut dw, &mut db);
                            }
                            (dw, db)
                        })
                        .collect()
                })
            })
        })???;
        let (mut dw, mut db) = (vec![0f32; width], vec![0f32; width]);
        for (w, b) in &partials {
            for i in 0..width {
                dw[i] += w[i];
                db[i] += b[i];
            }
        }
        let device = x.device();
        Ok((
            Some(Tensor::from_vec(dx, x.shape(), device)?),
            Some(Tensor::from_vec(dw, weight.shape(), device)?),
            Some(Tensor::from_vec(db, bias.shape(), device)?),
        ))
    }
}

fn backward_row(x: &[f32], w: &[f32], g: &[f32], eps: f32, dx: &mut [f32], dw: &mut [f32], db: &mut [f32]) {
    let (mean, scale) = moments(x, eps);
    let width = x.len();
    let (g, w, dw, db) = (&g[..width], &w[..width], &mut dw[..width], &mut db[..width]);
    for i in 0..width {
        dx[i] = g[i] * w[i]; // g·w, replaced by the gradient below
        dw[i] += g[i] * (x[i] - mean) * scale;
        db[i] += g[i];
    }
    let mean_gw = lanes(dx, |v| v) / width as f32;
    let mut dot = [0f32; 16];
    for (chunk, x) in dx.chunks(16).zip(x.chunks(16)) {
        for ((sum, gw), x) in dot.iter_mut().zip(chunk).zip(x) {
            *sum += gw * (x - mean) * scale;
        }
    }
    let mean_gwx = dot.iter().sum::<f32>() / width as f32;
    for i in 0..width {
        dx[i] = scale * (dx[i] - mean_gw - (x[i] - mean) * scale * mean_gwx);
    }
}

impl std::fmt::Debug for LayerNorm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LayerNorm({})", self.weight.elem_count())
    }
}
