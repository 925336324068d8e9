//! Attention on the CPU in one operation: no transposed copies, no stored probabilities.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{f32_slice, with_f32};

/// softmax(q kᵀ · scale [+ causal mask]) v for all heads, read by stride from [batch, tokens, width]. The backward pass
/// computes the probabilities again instead of keeping [batch, heads, tokens, tokens] values through the whole graph.
#[derive(Clone, Copy)]
pub(super) struct FusedAttention {
    pub heads: usize,
    pub causal: bool,
}

/// Sizes of one call: `n` queries, `m` keys, `d` per head, `width` = heads · d.
#[derive(Clone, Copy)]
struct Sizes {
    n: usize,
    m: usize,
    d: usize,
    width: usize,
}

/// A matrix inside a slice: first element, row stride, column stride.
#[derive(Clone, Copy)]
struct View(usize, usize, usize);

/// c[rows, cols] = alpha · a[rows, inner] · b[inner, cols], one thread; the views must lie inside their slices.
#[rustfmt::skip]
#[allow(clippy::too_many_arguments)]
fn multiply(rows: usize, cols: usize, inner: usize, alpha: f32, a: &[f32], av: View, b: &[f32], bv: View, c: &mut [f32], cv: View) {
    let last = |v: View, r: usize, s: usize| v.0 + (r - 1) * v.1 + (s - 1) * v.2;
    assert!(rows > 0 && cols > 0 && inner > 0);
    assert!(last(av, rows, inner) < a.len() && last(bv, inner, cols) < b.len() && last(cv, rows, cols) < c.len());
    // SAFETY: the assertion above bounds every address; c is borrowed exclusively.
    unsafe {
        gemm::gemm(
            rows, cols, inner,
            c.as_mut_ptr().add(cv.0), cv.2 as isize, cv.1 as isize, false,
            a.as_ptr().add(av.0), av.2 as isize, av.1 as isize,
            b.as_ptr().add(bv.0), bv.2 as isize, bv.1 as isize,
            0f32, alpha, false, false, false, gemm::Parallelism::None,
        );
    }
}

impl FusedAttention {
    fn sizes(&self, q: &[usize], k: &[usize]) -> Result<Sizes> {
        match (q, k) {
            ([batch, n, width], [batch2, m, width2])
                if batch == batch2 && width == width2 && width % self.heads == 0 && n * m * width > 0 =>
            {
                Ok(Sizes { n: *n, m: *m, d: width / self.heads, width: *width })
            }
            _ => candle_core::bail!("attention expects [batch, tokens, width] with {} heads, got {q:?} over {k:?}", self.heads),
        }
    }

    /// The probabilities of one head, [n, m], into `p`.
    fn probabilities(&self, s: Sizes, head: usize, q: &[f32], k: &[f32], p: &mut [f32]) {
        let Sizes { n, m, d, width } = s;
        let scale = (d as f32).powf(-0.5);
        multiply(n, m, d, scale, q, View(head * d, width, 1), k, View(head * d, 1, width), p, View(0, m, 1));
        for (i, row) in p.chunks_mut(m).enumerate() {
            let seen = if self.causal { (i + 1).min(m) } else { m };
            let (row, hidden) = row.split_at_mut(seen);
            let max = row.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
            row.iter_mut().for_each(|v| *v = (*v - max).exp());
            let inverse = 1.0 / row.iter().sum::<f32>();
            row.iter_mut().for_each(|v| *v *= inverse);
            hidden.fill(0.0);
        }
    }
}

impl CustomOp3 for FusedAttention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (q, k, v) = (f32_slice(q, q_layout)?, f32_slice(k, k_layout)?, f32_slice(v, v_layout)?);
        let s = self.sizes(q_layout.dims(), k_layout.dims())?;
        let Sizes { n, m, d, width } = s;
        let mut y = vec![0f32; q.len()];
        y.par_chunks_mut(n * width).zip(q.par_chunks(n * width)).zip(k.par_chunks(m * width).zip(v.par_chunks(m * width))).for_each_init(
            || vec![0f32; n * m],
            |p, ((y, q), (k, v))| {
                for head in 0..self.heads {
                    self.probabilities(s, head, q, k, p);
                    let (values, out) = (View(head * d, width, 1), View(head * d, width, 1));
                    multiply(n, d, m, 1.0, p, View(0, m, 1), v, values, y, out);
                }
            },
        );
        Ok((CpuStorage::F32(y), q_layout.shape().clone()))
    }

    /// P = softmax(S), S = q kᵀ·scale: dv = Pᵀ g; dP = g vᵀ; dS = P (dP − Σ dP·P); dq = dS k·scale; dk = dSᵀ q·scale
    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let s = self.sizes(q.dims(), k.dims())?;
        let Sizes { n, m, d, width } = s;
        let scale = (d as f32).powf(-0.5);
        let mut dq = vec![0f32; q.elem_count()];
        let (mut dk, mut dv) = (vec![0f32; k.elem_count()], vec![0f32; k.elem_count()]);
        let mut run = |q: &[f32], k: &[f32], v: &[f32], g: &[f32]| {
            let outputs = dq.par_chunks_mut(n * width).zip(dk.par_chunks_mut(m * width).zip(dv.par_chunks_mut(m * width)));
            let queries = q.par_chunks(n * width).zip(g.par_chunks(n * width));
            let keys = k.par_chunks(m * width).zip(v.par_chunks(m * width));
            outputs.zip(queries).zip(keys).for_each_init(
                || (vec![0f32; n * m], vec![0f32; n * m]),
                |(p, dp), (((dq, (dk, dv)), (q, g)), (k, v))| {
                    for head in 0..self.heads {
                        let (rows, columns) = (View(head * d, width, 1), View(head * d, 1, width));
                        self.probabilities(s, head, q, k, p);
                        multiply(m, d, n, 1.0, p, View(0, 1, m), g, rows, dv, rows);
                        multiply(n, m, d, 1.0, g, rows, v, columns, dp, View(0, m, 1));
                        for (p, dp) in p.chunks(m).zip(dp.chunks_mut(m)) {
                            let dot: f32 = p.iter().zip(dp.iter()).map(|(p, dp)| p * dp).sum();
                            p.iter().zip(dp).for_each(|(p, dp)| *dp = p * (*dp - dot));
                        }
                        multiply(n, d, m, scale, dp, View(0, m, 1), k, rows, dq, rows);
                        multiply(m, d, n, scale, dp, View(0, 1, m), q, rows, dk, rows);
                    }
                },
            );
        };
        with_f32(q, |q| with_f32(k, |k| with_f32(v, |v| with_f32(grad, |g| run(q, k, v, g)))))????;
        let tensor = |values: Vec<f32>, like: &Tensor| Tensor::from_vec(values, like.shape(), like.device());
        Ok((Some(tensor(dq, q)?), Some(tensor(dk, k)?), Some(tensor(dv, v)?)))
    }
}
