//! Attention on the CPU in one operation: no transposed copies, no stored probabilities.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use super::gemm::{Kernel, Target, View, multiply};
use super::{Isa, Precision, f32_slice, math, on_cpu_f32, parallel, with_f32s};

/// All heads of one sequence: `n` queries, `m` keys, `d` numbers per head.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub kernel: Kernel,
    pub heads: usize,
    pub causal: bool,
    pub n: usize,
    pub m: usize,
    pub d: usize,
}

/// Queries, keys or values of one sequence: `[tokens, heads · d]` inside a slice, `stride` from one token to the next.
#[derive(Clone, Copy)]
pub(super) struct Tokens<'a> {
    pub values: &'a [f32],
    pub stride: usize,
}

impl Tokens<'_> {
    fn head(&self, at: usize) -> View {
        View { at, row: self.stride, column: 1 }
    }
}

/// The gradients of queries, keys and values in one slice: where each starts, and from one token to the next.
pub(super) struct Gradients<'a> {
    pub values: &'a mut [f32],
    pub starts: [usize; 3],
    pub stride: usize,
}

impl Gradients<'_> {
    fn head(&mut self, which: usize, at: usize) -> Target<'_> {
        to(&mut self.values[self.starts[which] + at..], self.stride, false)
    }
}

/// What one thread reuses from head to head.
#[derive(Default)]
pub(super) struct Scratch {
    p: Vec<f32>,
    dp: Vec<f32>,
    panel: Vec<f32>,
}

impl Heads {
    /// Floating-point operations of the forward pass over one sequence.
    pub fn work(&self) -> usize {
        4 * self.heads * self.n * self.m * self.d
    }

    fn scale(&self) -> f32 {
        (self.d as f32).powf(-0.5)
    }

    /// The probabilities of the head that starts at `at`, `[n, m]`.
    fn probabilities(&self, at: usize, q: Tokens, k: Tokens, p: &mut Vec<f32>, panel: &mut Vec<f32>) {
        let Self { kernel, n, m, d, .. } = *self;
        p.resize(n * m, 0.0);
        let keys = k.head(at).transposed();
        multiply(kernel, [n, m, d], self.scale(), q.values, q.head(at), k.values, keys, panel, to(p, m, false));
        for (i, row) in p.chunks_mut(m).enumerate() {
            let seen = if self.causal { (i + 1).min(m) } else { m };
            let (row, hidden) = row.split_at_mut(seen);
            math::softmax(kernel.isa(), row);
            hidden.fill(0.0);
        }
    }

    /// y[n, heads · d] = softmax(q kᵀ / √d [+ causal mask]) v, head by head; `stride` numbers from one row of y to the next.
    pub fn forward(&self, q: Tokens, k: Tokens, v: Tokens, y: &mut [f32], stride: usize, scratch: &mut Scratch) {
        let Self { kernel, n, m, d, .. } = *self;
        let Scratch { p, panel, .. } = scratch;
        for at in (0..self.heads).map(|head| head * d) {
            self.probabilities(at, q, k, p, panel);
            let rows = View { at: 0, row: m, column: 1 };
            multiply(kernel, [n, d, m], 1.0, p, rows, v.values, v.head(at), panel, to(&mut y[at..], stride, false));
        }
    }

    /// The gradients from that of y, written over what was there.
    ///
    /// P = softmax(S), S = q kᵀ·scale: dv = Pᵀ g; dP = g vᵀ; dS = P (dP − Σ dP·P); dq = dS k·scale; dk = dSᵀ q·scale
    pub fn backward(&self, q: Tokens, k: Tokens, v: Tokens, g: Tokens, mut to_grad: Gradients, scratch: &mut Scratch) {
        let Self { kernel, n, m, d, .. } = *self;
        let Scratch { p, dp, panel } = scratch;
        let (rows, scale) = (View { at: 0, row: m, column: 1 }, self.scale());
        for at in (0..self.heads).map(|head| head * d) {
            self.probabilities(at, q, k, p, panel);
            let columns = rows.transposed();
            multiply(kernel, [m, d, n], 1.0, p, columns, g.values, g.head(at), panel, to_grad.head(2, at));
            dp.resize(n * m, 0.0);
            multiply(kernel, [n, m, d], 1.0, g.values, g.head(at), v.values, v.head(at).transposed(), panel, to(dp, m, false));
            for (p, dp) in p.chunks(m).zip(dp.chunks_mut(m)) {
                math::softmax_backward(kernel.isa(), p, dp);
            }
            multiply(kernel, [n, d, m], scale, dp, rows, k.values, k.head(at), panel, to_grad.head(0, at));
            multiply(kernel, [m, d, n], scale, dp, columns, q.values, q.head(at), panel, to_grad.head(1, at));
        }
    }
}

fn to(values: &mut [f32], stride: usize, add: bool) -> Target<'_> {
    Target { values, stride, bias: None, add }
}

/// softmax(q kᵀ / √d [+ causal mask]) v in each of the heads: queries `[batch, n, width]`, keys and values `[batch, m, width]` →
/// `[batch, n, width]`, for f32 on the CPU. The backward pass computes the probabilities again instead of keeping
/// `[batch, heads, n, m]` values through the whole graph.
///
/// Candle's operations copy queries, keys and values into heads and back, and make a tensor of every score twice and of its
/// gradient three times. With the four layers around it, the same in both: 87 ms against 138
/// (`cargo bench --bench ops -- attention attention_candle`).
///
/// # Errors
/// If the three differ in width or batch, or the heads do not divide the width.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize, causal: bool) -> Result<Option<Tensor>> {
    if [q, k, v].into_iter().all(on_cpu_f32) {
        let fused = FusedAttention { heads, causal, isa: Isa::best() };
        return Ok(Some(q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, fused)?));
    }
    Ok(None)
}

/// [`Heads`] as an operation.
#[derive(Clone, Copy)]
struct FusedAttention {
    heads: usize,
    causal: bool,
    isa: Isa,
}

impl FusedAttention {
    fn heads(&self, q: &[usize], k: &[usize], v: &[usize]) -> Result<Heads> {
        let Self { heads, causal, isa } = *self;
        match (q, k) {
            ([batch, n, width], [batch2, m, width2])
                if k == v && batch == batch2 && width == width2 && heads > 0 && width % heads == 0 && n * m * width > 0 =>
            {
                Ok(Heads { kernel: Kernel::new(isa, Precision::F32), heads, causal, n: *n, m: *m, d: width / heads })
            }
            _ => candle_core::bail!(
                "attention expects queries, keys and values [batch, tokens, width] with tokens, of one width that {heads} heads divide, \
                got {q:?}, {k:?} and {v:?}"
            ),
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
        let heads = self.heads(q_layout.dims(), k_layout.dims(), v_layout.dims())?;
        let width = heads.heads * heads.d;
        let mut y = vec![0f32; q.len()];
        let (n, m) = (heads.n * width, heads.m * width);
        let tasks: Vec<_> = y.chunks_mut(n).zip(q.chunks(n)).zip(k.chunks(m).zip(v.chunks(m))).collect();
        let work = heads.work() * tasks.len();
        let tokens = |values| Tokens { values, stride: width };
        parallel::map(tasks, work, Scratch::default, |scratch, ((y, q), (k, v))| {
            heads.forward(tokens(q), tokens(k), tokens(v), y, width, scratch);
        });
        Ok((CpuStorage::F32(y), q_layout.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let heads = self.heads(q.dims(), k.dims(), v.dims())?;
        let width = heads.heads * heads.d;
        let (n, m) = (heads.n * width, heads.m * width);
        let (batch, tokens) = (q.dims()[0], heads.n + 2 * heads.m);
        // [batch, n + 2 m, width]: the three gradients of a sequence, concatenated
        let mut all = vec![0f32; batch * tokens * width];
        let mut run = |q: &[f32], k: &[f32], v: &[f32], g: &[f32]| {
            let inputs = q.chunks(n).zip(g.chunks(n)).zip(k.chunks(m).zip(v.chunks(m)));
            let tasks: Vec<_> = all.chunks_mut(tokens * width).zip(inputs).collect();
            let rows = |values| Tokens { values, stride: width };
            parallel::map(tasks, 3 * heads.work() * batch, Scratch::default, |scratch, (values, ((q, g), (k, v)))| {
                let to = Gradients { values, starts: [0, n, n + m], stride: width };
                heads.backward(rows(q), rows(k), rows(v), rows(g), to, scratch);
            });
        };
        with_f32s([q, k, v, grad], |[q, k, v, g]| run(q, k, v, g))?;
        let all = Tensor::from_vec(all, (batch, tokens, width), q.device())?;
        let part = |start, len| all.narrow(1, start, len);
        Ok((Some(part(0, heads.n)?), Some(part(heads.n, heads.m)?), Some(part(heads.n + heads.m, heads.m)?)))
    }
}
