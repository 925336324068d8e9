//! The attention branch of a block on the GPU, frozen but for its norm: one operation, products by cuBLAS, one pass between them.

use std::sync::OnceLock;

use candle_core::backend::BackendStorage;
use candle_core::cuda::cudarc::driver::CudaView;
use candle_core::{CpuStorage, CudaDevice, CudaStorage, CustomOp3, DType, Layout, Result, Shape, Tensor};
use half::bf16;

use super::branch::{Frozen, Room, Rows, backward, begin, begin_backward, parts, takes_rows, with};
use super::launch::{by_elements, by_rows, launch, values, wrap};
use super::product::{Matrix, Number, product};
use super::scratch::{Scratch, bytes};
use crate::{Layer, Norm};

/// x + out(attention(q, k, v of norm(x))) for all tokens or for the first of each sequence; `None` if x, norm and layers are not of
/// the kind that the kernels take.
pub fn attention_branch(
    x: &Tensor,
    norm: Norm,
    [query, key, value, output]: [Layer; 4],
    heads: usize,
    causal: bool,
    first_only: bool,
) -> Result<Option<Tensor>> {
    let (Some(q), Some(k), Some(v), Some(out)) = (query.joined(), key.joined(), value.joined(), Frozen::of(output)) else {
        return Ok(None);
    };
    let [width, one] = [out.sizes()[1], q.weight.dims()[1]];
    let stacked = [k, v].iter().all(|part| part.weight.id() == q.weight.id()) && [q.start, k.start, v.start] == [0, width, 2 * width];
    let fits = q.weight.dims() == [3 * width, width] && out.sizes() == [width, one] && q.weight.dtype() == out.weight.dtype();
    if !stacked || !fits || !takes_rows(x, norm) || !matches!(q.weight.dtype(), DType::F32 | DType::BF16) {
        return Ok(None);
    }
    let qkv = Frozen { weight: q.weight.clone(), bias: q.bias.clone() };
    let kept = norm.learns(x).then(OnceLock::new);
    let branch = AttentionBranch { qkv, out, heads, causal, first_only, eps: norm.eps as f32, kept };
    Ok(Some(x.contiguous()?.apply_op3(norm.weight, norm.bias, branch)?))
}

struct AttentionBranch {
    /// Query, key and value as one layer.
    qkv: Frozen,
    out: Frozen,
    heads: usize,
    causal: bool,
    first_only: bool,
    eps: f32,
    /// Queries, keys and values by heads, and the probabilities, kept from forward to backward; `None` if nothing learns.
    kept: Option<OnceLock<CudaStorage>>,
}

/// Sizes of one call.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    tokens: usize,
    queries: usize,
    heads: usize,
    d: usize,
}

impl Sizes {
    fn rows(&self) -> Rows {
        let Self { batch, tokens, queries, heads, d } = *self;
        Rows { rows: batch * tokens, width: heads * d, tokens, queries }
    }

    /// Values of the queries, and of the keys or the values.
    fn parts(&self) -> [usize; 2] {
        [self.queries, self.tokens].map(|n| self.batch * n * self.heads * self.d)
    }

    /// Values of all scores.
    fn scores(&self) -> usize {
        self.batch * self.heads * self.queries * self.tokens
    }

    fn scale(&self) -> f32 {
        (self.d as f32).powf(-0.5)
    }
}

/// Queries, keys and values by heads `[heads, batch, ·, d]`, one behind the other.
struct Heads<'a, T> {
    parts: [CudaView<'a, T>; 3],
    sizes: Sizes,
}

impl<'a, T: Number> Heads<'a, T> {
    fn of(all: &'a CudaView<'a, T>, sizes: Sizes) -> Self {
        let [asking, each] = sizes.parts();
        let parts = [all.slice(..asking), all.slice(asking..asking + each), all.slice(asking + each..asking + 2 * each)];
        Self { parts, sizes }
    }

    fn q(&self) -> Matrix<'_, T> {
        Matrix::batch(&self.parts[0], self.sizes.d, self.sizes.queries * self.sizes.d)
    }

    fn k(&self) -> Matrix<'_, T> {
        Matrix::batch(&self.parts[1], self.sizes.d, self.sizes.tokens * self.sizes.d)
    }

    fn v(&self) -> Matrix<'_, T> {
        Matrix::batch(&self.parts[2], self.sizes.d, self.sizes.tokens * self.sizes.d)
    }
}

impl AttentionBranch {
    fn sizes(&self, dims: &[usize]) -> Result<Sizes> {
        let heads = self.heads;
        match *dims {
            [batch, tokens, width]
                if batch * tokens * width > 0 && self.qkv.sizes() == [3 * width, width] && heads > 0 && width % heads == 0 =>
            {
                let queries = if self.first_only { 1 } else { tokens };
                Ok(Sizes { batch, tokens, queries, heads, d: width / heads })
            }
            _ => candle_core::bail!("attention expects [batch, tokens, width] with {heads} heads, got {dims:?}"),
        }
    }

    fn forward<T: Number>(&self, device: &CudaDevice, sizes: Sizes, [x, weight, bias]: [CudaView<f32>; 3]) -> Result<CudaStorage> {
        let (Sizes { batch, tokens, queries, heads, d }, rows) = (sizes, sizes.rows());
        let (width, count, [asking, each], scores) = (rows.width, batch * heads, sizes.parts(), sizes.scores());
        // SAFETY: `begin` writes every value.
        let y = unsafe { device.alloc::<f32>(asking)? };
        let (room, later) = ([rows.rows * width, 3 * rows.rows * width], [asking + 2 * each, scores]);
        let scratch = Scratch::take(device, bytes::<T, 2>(room) + if self.kept.is_none() { bytes::<T, 2>(later) } else { 0 })?;
        let kept = self.kept.as_ref().map(|_| Room::<T, 2>::new(device, later)).transpose()?;
        let (past, [normed, qkv]) = (y.slice(..), scratch.parts(room)?);
        let [all, p] = kept.as_ref().map_or_else(|| scratch.parts(later), |kept| Ok(kept.parts()))?;
        let (by_head, mixed) = (normed.slice(..asking), qkv.slice(..asking)); // what stood there is used up by then
        let layers = [&self.qkv.weight, &self.qkv.bias, &self.out.weight, &self.out.bias];
        with::<T, _, 4>(device, layers, |[w_qkv, b_qkv, w_out, b_out]| {
            begin(device, rows, [&x, &weight, &bias], self.eps, &b_out, &normed, &past)?;
            let layer = [Matrix::one(&normed, width), Matrix::one(&w_qkv, width).t()];
            product(device, 1, [rows.rows, 3 * width, width], 1.0, layer, 0.0, Matrix::one(&qkv, 3 * width))?;
            self.split(device, sizes, &qkv, &b_qkv, &all)?;
            let split = Heads::of(&all, sizes);
            let to = Matrix::batch(&p, tokens, queries * tokens);
            product(device, count, [queries, tokens, d], sizes.scale(), [split.q(), split.k().t()], 0.0, to)?;
            self.probabilities(device, sizes, &p)?;
            let to_heads = Matrix::batch(&by_head, d, queries * d);
            product(device, count, [queries, d, tokens], 1.0, [to, split.v()], 0.0, to_heads)?;
            self.mix::<T>(device, sizes, &by_head, &mixed)?;
            let layer = [Matrix::one(&mixed, width), Matrix::one(&w_out, width).t()];
            product(device, 1, [rows.asking(), width, width], 1.0, layer, 1.0, Matrix::one(&past, width))
        })?;
        if let (Some(cell), Some(kept)) = (&self.kept, kept) {
            let _ = cell.set(kept.wrapped(device).0);
        }
        Ok(wrap(y, device))
    }

    fn split<T: Number>(&self, device: &CudaDevice, sizes: Sizes, qkv: &CudaView<T>, bias: &CudaView<T>, to: &CudaView<T>) -> Result<()> {
        let Sizes { batch, tokens, queries, heads, d } = sizes;
        let [batch, tokens, queries, heads, d] = [batch, tokens, queries, heads, d].map(|n| n as u32);
        let name = format!("split_{}", T::NAME);
        // SAFETY: batch · tokens · 3 width values stand behind qkv, 3 width behind bias, and as many as the kernel writes behind `to`.
        unsafe { launch!(device, &name, by_elements(to.len() as u64), qkv, bias, &batch, &tokens, &queries, &heads, &d, to) };
        Ok(())
    }

    fn probabilities<T: Number>(&self, device: &CudaDevice, sizes: Sizes, p: &CudaView<T>) -> Result<()> {
        let (rows, tokens, queries) = ((sizes.scores() / sizes.tokens) as u32, sizes.tokens as u32, sizes.queries as u32);
        let (name, causal) = (format!("probabilities_{}", T::NAME), u32::from(self.causal));
        // SAFETY: rows · tokens values stand behind p.
        unsafe { launch!(device, &name, by_rows(rows), p, &rows, &tokens, &queries, &causal) };
        Ok(())
    }

    /// P = softmax(S), S = q kᵀ·scale: dv = Pᵀ g; dP = g vᵀ; dS = P (dP − Σ dP·P); dq = dS k·scale; dk = dSᵀ q·scale; with these as
    /// g_qkv, the norm's output has the gradient g_qkv W_qkv.
    fn backward<T: Number>(
        &self,
        device: &CudaDevice,
        sizes: Sizes,
        [x, weight, g]: [CudaView<f32>; 3],
        gradients: [&CudaView<f32>; 2],
    ) -> Result<()> {
        let (Sizes { batch, tokens, queries, heads, d }, rows) = (sizes, sizes.rows());
        let (width, count, [asking, each], scores) = (rows.width, batch * heads, sizes.parts(), sizes.scores());
        let Some(kept) = self.kept.as_ref().and_then(OnceLock::get) else {
            candle_core::bail!("the attention branch was run without a graph");
        };
        let [all, p] = parts(kept.as_cuda_slice::<T>()?, [asking + 2 * each, scores]);
        let typed = if T::NAME == f32::NAME { 0 } else { asking };
        let (exact, room) = ([rows.partial()], [typed, asking, scores, asking + 2 * each, 3 * rows.rows * width, rows.rows * width]);
        let scratch = Scratch::take(device, bytes::<f32, 1>(exact) + bytes::<T, 6>(room))?;
        let ([partial], [typed, by_head, dp, d_all, joined, dn]) = (scratch.parts::<f32, 1>(exact)?, scratch.parts::<T, 6>(room)?);
        let split = Heads::of(&all, sizes);
        let d_split = Heads::of(&d_all, sizes);
        with::<T, _, 2>(device, [&self.qkv.weight, &self.out.weight], |[w_qkv, w_out]| {
            let g_out = T::of(device, &g, &typed)?;
            // by heads: each by its columns of W_out
            let by_heads = [Matrix::batch(g_out, width, 0), Matrix::batch(&w_out, width, d)];
            product(device, heads, [rows.asking(), d, width], 1.0, by_heads, 0.0, Matrix::batch(&by_head, d, rows.asking() * d))?;
            let (g_heads, scores) = (Matrix::batch(&by_head, d, queries * d), queries * tokens);
            let (p, dp_all) = (Matrix::batch(&p, tokens, scores), Matrix::batch(&dp, tokens, scores));
            product(device, count, [tokens, d, queries], 1.0, [p.t(), g_heads], 0.0, d_split.v())?;
            product(device, count, [queries, tokens, d], 1.0, [g_heads, split.v().t()], 0.0, dp_all)?;
            self.probabilities_backward(device, sizes, &p, &dp)?;
            product(device, count, [queries, d, tokens], sizes.scale(), [dp_all, split.k()], 0.0, d_split.q())?;
            product(device, count, [tokens, d, queries], sizes.scale(), [dp_all.t(), split.q()], 0.0, d_split.k())?;
            self.join(device, sizes, &d_all, &joined)?;
            let layer = [Matrix::one(&joined, 3 * width), Matrix::one(&w_qkv, width)];
            product(device, 1, [rows.rows, width, 3 * width], 1.0, layer, 0.0, Matrix::one(&dn, width))?;
            begin_backward(device, rows, [&x, &weight], self.eps, (&dn, &g), gradients, &partial)
        })
    }

    /// Heads `[heads, batch, queries, d]` → `[batch, queries, width]`.
    fn mix<T: Number>(&self, device: &CudaDevice, sizes: Sizes, x: &CudaView<T>, to: &CudaView<T>) -> Result<()> {
        let Sizes { batch, queries, heads, d, .. } = sizes;
        let ([batch, queries, heads, d], name) = ([batch, queries, heads, d].map(|n| n as u32), format!("from_heads_{}", T::NAME));
        // SAFETY: batch · queries · heads · d values stand behind both.
        unsafe { launch!(device, &name, by_elements(to.len() as u64), x, &batch, &queries, &heads, &d, to) };
        Ok(())
    }

    fn probabilities_backward<T: Number>(&self, device: &CudaDevice, sizes: Sizes, p: &Matrix<T>, g: &CudaView<T>) -> Result<()> {
        let (rows, tokens, name) =
            ((sizes.scores() / sizes.tokens) as u32, sizes.tokens as u32, format!("probabilities_backward_{}", T::NAME));
        // SAFETY: rows · tokens values stand behind p and g.
        unsafe { launch!(device, &name, by_rows(rows), p.values(), &rows, &tokens, g) };
        Ok(())
    }

    fn join<T: Number>(&self, device: &CudaDevice, sizes: Sizes, x: &CudaView<T>, to: &CudaView<T>) -> Result<()> {
        let Sizes { batch, tokens, queries, heads, d } = sizes;
        let [batch, tokens, queries, heads, d] = [batch, tokens, queries, heads, d].map(|n| n as u32);
        let name = format!("join_{}", T::NAME);
        // SAFETY: queries, keys and values by heads stand behind x, batch · tokens · 3 width values behind `to`.
        unsafe { launch!(device, &name, by_elements(to.len() as u64), x, &batch, &tokens, &queries, &heads, &d, to) };
        Ok(())
    }
}

impl CustomOp3 for AttentionBranch {
    fn name(&self) -> &'static str {
        "attention-branch"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        candle_core::bail!("an attention branch on the GPU, its input is on the CPU")
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        layout: &Layout,
        weight: &CudaStorage,
        weight_layout: &Layout,
        bias: &CudaStorage,
        bias_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (device, sizes) = (x.device(), self.sizes(layout.dims())?);
        let inputs = [values::<f32>(x, layout)?, values::<f32>(weight, weight_layout)?, values::<f32>(bias, bias_layout)?];
        if inputs[1..].iter().any(|norm| norm.len() != sizes.rows().width) {
            candle_core::bail!("a layer norm of width {} before attention of width {}", inputs[1].len(), sizes.rows().width);
        }
        let y = match self.qkv.weight.dtype() {
            DType::BF16 => self.forward::<bf16>(device, sizes, inputs)?,
            _ => self.forward::<f32>(device, sizes, inputs)?,
        };
        Ok((y, Shape::from((sizes.batch, sizes.queries, sizes.rows().width))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let sizes = self.sizes(x.dims())?;
        backward([x, weight, bias, grad], |device, inputs, gradients| match self.qkv.weight.dtype() {
            DType::BF16 => self.backward::<bf16>(device, sizes, inputs, gradients),
            _ => self.backward::<f32>(device, sizes, inputs, gradients),
        })
    }
}
