//! The attention branch of a block, frozen but for its norm, in one operation.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use super::attention::{Gradients, Heads, Scratch as HeadScratch, Tokens};
#[cfg(feature = "cuda")]
use super::cuda;
use super::gemm::{Kernel, Rows, Target};
use super::norm_rows::{Affine, NormGradients};
use super::packed::PackedLinear;
use super::{Layer, Norm, Precision, f32_slice, on_cpu_f32, parallel, with_f32s};

/// x + out(attention(q, k, v of norm(x))): x `[batch, tokens, width]` → the same, for [packed](super::Packed) layers in the order
/// query, key, value, output, of which the first three were packed as one stack. Only x and the norm have gradients.
///
/// Backward: g W_out is the gradient of attention's output, from which those of query, key and value are made; their product with
/// W_qkv is the gradient of the norm's output, and dx is that taken back through the norm, plus g.
///
/// A task takes one sequence (several, if they are short) through all of it. Query, key and value are one stacked layer, and
/// attention reads its output by stride. That output is kept for the backward pass; the norm and the probabilities are computed
/// again. This replaces three products, three transposed copies, the batched products and softmax of
/// `[batch, heads, tokens, tokens]`, and the gradients of each; for the gain see [`mlp_branch`](super::mlp_branch()).
///
/// On a GPU, for f32 `x` and layers in f32 or bf16 of which the first three were [joined](super::Joined::of): products by cuBLAS, and
/// one kernel between each two. Queries, keys, values and probabilities are kept.
///
/// # Errors
/// If `x` has another width or rank than the layers.
pub fn attention_branch(x: &Tensor, norm: Norm, layers: [Layer; 4], heads: usize, causal: bool) -> Result<Option<Tensor>> {
    #[cfg(feature = "cuda")]
    if let Some(y) = cuda::attention_branch(x, norm, layers, heads, causal, false)? {
        return Ok(Some(y));
    }
    let [Some(query), Some(key), Some(value), Some(output)] = layers.map(|layer| layer.part()) else { return Ok(None) };
    let Some(out) = output.alone().filter(|_| query.is_stacked_with([key, value])) else { return Ok(None) };
    let (qkv, out) = (query.stack.clone(), out.clone());
    let fits = [out.inputs(), out.outputs()] == [qkv.inputs(); 2] && out.kernel() == qkv.kernel();
    if !fits || !on_cpu_f32(x) || ![norm.weight, norm.bias].into_iter().all(on_cpu_f32) {
        return Ok(None);
    }
    let kept = norm.learns(x).then(OnceLock::new);
    let branch = AttentionBranch { qkv, out, heads, causal, eps: norm.eps as f32, kept };
    Ok(Some(x.contiguous()?.apply_op3(&norm.weight.contiguous()?, &norm.bias.contiguous()?, branch)?))
}

/// [`attention_branch`] of the first token alone, which asks all of them: `[batch, tokens, width]` → `[batch, 1, width]`. On a GPU.
///
/// # Errors
/// As [`attention_branch`].
#[cfg_attr(not(feature = "cuda"), allow(unused_variables))]
pub fn first_attention_branch(x: &Tensor, norm: Norm, layers: [Layer; 4], heads: usize) -> Result<Option<Tensor>> {
    #[cfg(feature = "cuda")]
    return cuda::attention_branch(x, norm, layers, heads, false, true);
    #[cfg(not(feature = "cuda"))]
    Ok(None)
}

struct AttentionBranch {
    qkv: Arc<PackedLinear>,
    out: Arc<PackedLinear>,
    heads: usize,
    causal: bool,
    eps: f32,
    /// The stacked layer's output `[batch, tokens, 3 width]`, one buffer per task, kept from forward to backward; `None`
    /// if nothing learns.
    kept: Option<OnceLock<Vec<Vec<f32>>>>,
}

/// What one thread reuses from task to task.
struct Scratch {
    /// `[rows, width]`
    narrow: Rows,
    /// `[rows, 3 width]`
    wide: Rows,
    qkv: Vec<f32>,
    mixed: Vec<f32>,
    heads: HeadScratch,
}

impl AttentionBranch {
    fn sizes(&self, dims: &[usize]) -> Result<Heads> {
        let (heads, causal) = (self.heads, self.causal);
        match *dims {
            [_, n, width] if n > 0 && width > 0 && width == self.qkv.inputs() && heads > 0 && width % heads == 0 => {
                Ok(Heads { kernel: Kernel::new(self.qkv.isa(), Precision::F32), heads, causal, n, m: n, d: width / heads })
            }
            _ => candle_core::bail!(
                "attention expects [batch, tokens, width] with tokens and {heads} heads that divide the width, got {dims:?}"
            ),
        }
    }

    /// Sequences of one task: as many as come to about a hundred rows, two images of ViT-B/32.
    fn together(n: usize) -> usize {
        (100 / n).max(1)
    }

    fn work(&self, heads: &Heads, batch: usize) -> usize {
        batch * (heads.work() + 8 * heads.n * self.qkv.inputs().pow(2))
    }

    fn scratch(&self, rows: usize) -> Scratch {
        let width = self.qkv.inputs();
        Scratch {
            narrow: Rows::new(self.qkv.kernel(), rows, width),
            wide: Rows::new(self.qkv.kernel(), 0, 0),
            qkv: vec![0.0; if self.kept.is_none() { rows * 3 * width } else { 0 }],
            mixed: vec![0.0; rows * width],
            heads: HeadScratch::default(),
        }
    }

    /// One task: whole sequences of x to y, and of qkv if it is kept.
    fn forward_rows(
        &self,
        heads: &Heads,
        norm: Affine,
        x: &[f32],
        y: &mut [f32],
        kept: Option<&mut [f32]>,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let (project, out) = (self.qkv.forward()?, self.out.forward()?);
        let width = norm.width();
        let Scratch { narrow, qkv, mixed, heads: head_scratch, .. } = scratch;
        let qkv = kept.unwrap_or(qkv); // [rows, 3 width]
        norm.rows(self.qkv.isa(), x, narrow);
        let bias = Some(self.qkv.bias());
        project.multiply(narrow, 0..width, 0..3 * width, Target { values: &mut *qkv, stride: 3 * width, bias, add: false });
        let sequences = x.len() / (heads.n * width);
        for i in 0..sequences {
            let qkv = &qkv[i * heads.n * 3 * width..][..heads.n * 3 * width];
            let [q, k, v] = thirds(qkv, width);
            heads.forward(q, k, v, &mut mixed[i * heads.n * width..][..heads.n * width], width, head_scratch);
        }
        for (r, row) in mixed.chunks(width).take(x.len() / width).enumerate() {
            narrow.set(r, row);
        }
        y.copy_from_slice(x);
        out.multiply(narrow, 0..width, 0..width, Target { values: y, stride: width, bias: Some(self.out.bias()), add: true });
        Ok(())
    }

    /// One task: dx from g = dy, the sums over its rows for the norm.
    #[allow(clippy::too_many_arguments)]
    fn backward_rows(
        &self,
        heads: &Heads,
        norm: Affine,
        x: &[f32],
        qkv: &[f32],
        g: &[f32],
        dx: &mut [f32],
        scratch: &mut Scratch,
    ) -> Result<NormGradients> {
        let (project, out) = (self.qkv.backward()?, self.out.backward()?);
        let width = norm.width();
        let (rows, size) = (x.len() / width, heads.n * width);
        let Scratch { narrow, wide, mixed, heads: head_scratch, .. } = scratch;
        narrow.resize(rows, width);
        g.chunks(width).enumerate().for_each(|(r, row)| narrow.set(r, row));
        out.multiply(narrow, 0..width, 0..width, Target { values: &mut *mixed, stride: width, bias: None, add: false });
        let mut dqkv = vec![0f32; 3 * x.len()];
        for ((values, qkv), dy) in dqkv.chunks_mut(3 * size).zip(qkv.chunks(3 * size)).zip(mixed.chunks(size)) {
            let [q, k, v] = thirds(qkv, width);
            let to = Gradients { values, starts: [0, width, 2 * width], stride: 3 * width };
            heads.backward(q, k, v, Tokens { values: dy, stride: width }, to, head_scratch);
        }
        wide.resize(rows, 3 * width);
        dqkv.chunks(3 * width).enumerate().for_each(|(r, row)| wide.set(r, row));
        let dn = &mut mixed[..x.len()]; // [rows, width]: the gradient of the norm's output
        project.multiply(wide, 0..3 * width, 0..width, Target { values: &mut *dn, stride: width, bias: None, add: false });
        dx.copy_from_slice(g);
        Ok(norm.backward(self.qkv.isa(), x, dn, dx))
    }
}

/// Queries, keys and values of a stacked output `[n, 3 width]`.
fn thirds(qkv: &[f32], width: usize) -> [Tokens<'_>; 3] {
    [0, width, 2 * width].map(|start| Tokens { values: &qkv[start..], stride: 3 * width })
}

impl CustomOp3 for AttentionBranch {
    fn name(&self) -> &'static str {
        "attention-branch"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = f32_slice(x, layout)?;
        let heads = self.sizes(layout.dims())?;
        let norm = Affine::new(f32_slice(weight, weight_layout)?, f32_slice(bias, bias_layout)?, self.eps, layout.dims())?;
        // packed here, before the tasks ask for them
        self.qkv.forward()?;
        self.out.forward()?;
        let rows = heads.n * Self::together(heads.n);
        let chunk = rows * norm.width();
        let mut y = vec![0f32; x.len()];
        let tasks = y.chunks_mut(chunk).zip(x.chunks(chunk)).collect();
        let work = self.work(&heads, layout.dims()[0]);
        let task = |scratch: &mut Scratch, (y, x): (&mut [f32], &[f32])| -> Result<Vec<f32>> {
            let mut kept = self.kept.as_ref().map(|_| vec![0f32; 3 * x.len()]);
            self.forward_rows(&heads, norm, x, y, kept.as_deref_mut(), scratch)?;
            Ok(kept.unwrap_or_default())
        };
        let kept = parallel::map(tasks, work, || self.scratch(rows), task).into_iter().collect::<Result<_>>()?;
        if let Some(cell) = &self.kept {
            let _ = cell.set(kept);
        }
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some(qkv) = self.kept.as_ref().and_then(OnceLock::get) else {
            candle_core::bail!("the attention branch was run without a graph");
        };
        self.qkv.backward()?;
        self.out.backward()?;
        let heads = self.sizes(x.dims())?;
        let rows = heads.n * Self::together(heads.n);
        let chunk = rows * self.qkv.inputs();
        let mut dx = vec![0f32; x.elem_count()];
        let mut run = |all: &[f32], weight: &[f32], bias: &[f32], g: &[f32]| -> Result<Vec<NormGradients>> {
            let norm = Affine { weight, bias, eps: self.eps };
            let inputs = all.chunks(chunk).zip(g.chunks(chunk)).zip(qkv);
            let tasks = dx.chunks_mut(chunk).zip(inputs).collect();
            let work = self.work(&heads, x.dims()[0]);
            #[allow(clippy::type_complexity)]
            let task = |scratch: &mut Scratch, (dx, ((x, g), qkv)): (&mut [f32], ((&[f32], &[f32]), &Vec<f32>))| {
                self.backward_rows(&heads, norm, x, qkv, g, dx, scratch)
            };
            parallel::map(tasks, work, || self.scratch(rows), task).into_iter().collect()
        };
        let partial = with_f32s([x, weight, bias, grad], |[x, w, b, g]| run(x, w, b, g))??;
        NormGradients::tensors(partial, dx, x, weight)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::random::Random;
    use crate::{Isa, Packed, Weight};

    #[test]
    fn layers_packed_for_two_kernels_are_left_to_the_plain_form() {
        let (mut random, width) = (Random(1), 16);
        let weights: [Tensor; 4] = std::array::from_fn(|_| random.tensor((width, width), 0.25));
        let x = random.tensor((2, 3, width), 1.0);
        let (scale, shift) =
            (Tensor::ones(width, DType::F32, &Device::Cpu).unwrap(), Tensor::zeros(width, DType::F32, &Device::Cpu).unwrap());
        let norm = Norm { weight: &scale, bias: &shift, eps: 1e-5 };
        let formats: Vec<_> = Isa::available().into_iter().flat_map(|isa| [(Precision::F32, isa), (Precision::Bf16, isa)]).collect();
        for (precision, isa) in &formats {
            for (other, other_isa) in &formats {
                let [query, key, value, output] = weights.each_ref().map(|weight| Layer::plain(weight, None));
                let [query, key, value] = Packed::stack([query, key, value], *precision, *isa).unwrap().map(Option::unwrap);
                let [output] = Packed::stack([output], *other, *other_isa).unwrap().map(Option::unwrap);
                let layer = |part| Layer { weight: Weight::Packed(part), bias: None, joined: None };
                let y = attention_branch(&x, norm, [&query, &key, &value, &output].map(layer), 2, false).unwrap();
                assert_eq!(y.is_some(), query.stack.kernel() == output.stack.kernel(), "{precision:?} {isa:?}, {other:?} {other_isa:?}");
            }
        }
    }
}
