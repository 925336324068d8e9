//! The MLP branch of a block, frozen but for its norm, in one operation.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

#[cfg(feature = "cuda")]
use super::cuda;
use super::gemm::{Rows, Target};
use super::norm_rows::{Affine, NormGradients};
use super::packed::PackedLinear;
use super::{Gelu, Layer, Norm, f32_slice, math, on_cpu_f32, parallel, with_f32s};

/// x + fc2(act(fc1(norm(x)))): x `[.., width]` → the same, for [packed](super::Packed) layers and one of the two activations of
/// [`gelu`](super::gelu()). Only x and the norm have gradients: with z = fc1(norm(x)), dz = (g W₂)·act′(z), the norm's output has the
/// gradient dz W₁, and dx is that taken back through the norm, plus g.
///
/// A task takes 96 rows through all of it, so that between the two products they stay in the core's cache; Candle's own operations
/// write and read five tensors of `[rows, hidden]` and add three gradients of that size to zeros. What the backward pass needs is
/// kept: fc1's output; the norm is computed again. A block, which is this and the attention branch, takes 231 ms against 579
/// (`cargo bench --bench ops -- block block_candle`).
///
/// On a GPU, for f32 `x` and layers in f32 or bf16: products by cuBLAS, and one kernel between the two.
///
/// # Errors
/// If `x` has another width than the layers.
pub fn mlp_branch(x: &Tensor, norm: Norm, layers: [Layer; 2], quick: bool) -> Result<Option<Tensor>> {
    #[cfg(feature = "cuda")]
    if let Some(y) = cuda::mlp_branch(x, norm, layers, quick)? {
        return Ok(Some(y));
    }
    let [Some(fc1), Some(fc2)] = layers.map(|layer| layer.part().and_then(|part| part.alone())) else { return Ok(None) };
    let fits = fc1.outputs() == fc2.inputs() && fc2.outputs() == fc1.inputs();
    if !fits || !on_cpu_f32(x) || ![norm.weight, norm.bias].into_iter().all(on_cpu_f32) {
        return Ok(None);
    }
    let (fc1, fc2, kept) = (fc1.clone(), fc2.clone(), norm.learns(x).then(OnceLock::new));
    let branch = MlpBranch { fc1, fc2, gelu: Gelu::new(quick), eps: norm.eps as f32, kept };
    Ok(Some(x.contiguous()?.apply_op3(&norm.weight.contiguous()?, &norm.bias.contiguous()?, branch)?))
}

struct MlpBranch {
    fc1: Arc<PackedLinear>,
    fc2: Arc<PackedLinear>,
    gelu: Gelu,
    eps: f32,
    /// fc1's output `[rows, hidden]`, one buffer per task, kept from forward to backward; `None` if nothing learns.
    kept: Option<OnceLock<Vec<Vec<f32>>>>,
}

/// Rows of one task: enough to reuse a panel, few enough for the second-level cache.
const ROWS: usize = 96;

/// Columns of the hidden layer that are activated and multiplied at a time.
const SLICE: usize = 768;

/// What one thread reuses from task to task.
struct Scratch {
    /// `[rows, width]`: what the first product reads
    narrow: Rows,
    /// `[rows, a slice of hidden]`: what the second reads
    hidden: Rows,
    slice: Vec<f32>,
    row: Vec<f32>,
}

impl MlpBranch {
    fn work(&self, rows: usize) -> usize {
        4 * rows * self.fc1.inputs() * self.fc1.outputs()
    }

    /// For the layers in the order in which they multiply: a layer of odd width stays in f32 next to one in bf16.
    fn scratch(&self, first: &PackedLinear, second: &PackedLinear) -> Scratch {
        let hidden = self.fc1.outputs().min(SLICE);
        Scratch {
            narrow: Rows::new(first.kernel(), ROWS, self.fc1.inputs()),
            hidden: Rows::new(second.kernel(), ROWS, hidden),
            slice: vec![0.0; ROWS * hidden],
            row: vec![0.0; self.fc1.inputs().max(hidden)],
        }
    }

    /// One task: rows of x to rows of y, and of fc1's output if it is kept.
    fn forward_rows(&self, norm: Affine, x: &[f32], y: &mut [f32], mut kept: Option<&mut [f32]>, scratch: &mut Scratch) -> Result<()> {
        let (fc1, fc2, isa) = (self.fc1.forward()?, self.fc2.forward()?, self.fc1.isa());
        let (width, hidden) = (self.fc1.inputs(), self.fc1.outputs());
        let rows = x.len() / width;
        let Scratch { narrow: normed, hidden: active, slice, row } = scratch;
        norm.rows(isa, x, normed);
        y.copy_from_slice(x);
        for start in (0..hidden).step_by(SLICE) {
            let columns = start..hidden.min(start + SLICE);
            let some = columns.len();
            // [rows, some], in the kept output or in the scratch
            let (z, stride) = match &mut kept {
                Some(kept) => (&mut kept[start..], hidden),
                None => (&mut slice[..], some),
            };
            let bias = Some(&self.fc1.bias()[columns.clone()]);
            fc1.multiply(normed, 0..width, columns.clone(), Target { values: &mut *z, stride, bias, add: false });
            active.resize(rows, some);
            for r in 0..rows {
                math::activate(isa, self.gelu, &z[r * stride..][..some], &mut row[..some]);
                active.set(r, &row[..some]);
            }
            let bias = (start == 0).then_some(self.fc2.bias());
            fc2.multiply(active, columns, 0..width, Target { values: &mut *y, stride: width, bias, add: true });
        }
        Ok(())
    }

    /// One task: dx from g = dy, the sums over its rows for the norm.
    fn backward_rows(&self, norm: Affine, x: &[f32], z: &[f32], g: &[f32], dx: &mut [f32], scratch: &mut Scratch) -> Result<NormGradients> {
        let (fc1, fc2, isa) = (self.fc1.backward()?, self.fc2.backward()?, self.fc1.isa());
        let (width, hidden) = (self.fc1.inputs(), self.fc1.outputs());
        let rows = x.len() / width;
        let Scratch { narrow: upstream, hidden: inner, slice, .. } = scratch;
        upstream.resize(rows, width);
        g.chunks(width).enumerate().for_each(|(r, row)| upstream.set(r, row));
        let mut dn = vec![0f32; x.len()];
        for start in (0..hidden).step_by(SLICE) {
            let columns = start..hidden.min(start + SLICE);
            let some = columns.len();
            fc2.multiply(upstream, 0..width, columns.clone(), Target { values: &mut slice[..], stride: some, bias: None, add: false });
            inner.resize(rows, some);
            for (r, row) in slice.chunks_mut(some).take(rows).enumerate() {
                math::activate_backward(isa, self.gelu, &z[r * hidden..][columns.clone()], row);
                inner.set(r, row);
            }
            fc1.multiply(inner, columns, 0..width, Target { values: &mut dn, stride: width, bias: None, add: start > 0 });
        }
        dx.copy_from_slice(g);
        Ok(norm.backward(isa, x, &dn, dx))
    }
}

impl CustomOp3 for MlpBranch {
    fn name(&self) -> &'static str {
        "mlp-branch"
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
        let norm = Affine::new(f32_slice(weight, weight_layout)?, f32_slice(bias, bias_layout)?, self.eps, layout.dims())?;
        if norm.width() != self.fc1.inputs() {
            candle_core::bail!("a layer norm of width {} before an MLP of width {}", norm.width(), self.fc1.inputs());
        }
        // packed here, before the tasks ask for them
        self.fc1.forward()?;
        self.fc2.forward()?;
        let (width, hidden) = (self.fc1.inputs(), self.fc1.outputs());
        let rows = x.len() / width.max(1);
        let mut y = vec![0f32; x.len()];
        let tasks = y.chunks_mut(width * ROWS).zip(x.chunks(width * ROWS)).collect();
        let task = |scratch: &mut Scratch, (y, x): (&mut [f32], &[f32])| -> Result<Vec<f32>> {
            let mut kept = self.kept.as_ref().map(|_| vec![0f32; x.len() / width * hidden]);
            self.forward_rows(norm, x, y, kept.as_deref_mut(), scratch)?;
            Ok(kept.unwrap_or_default())
        };
        let kept = parallel::map(tasks, self.work(rows), || self.scratch(&self.fc1, &self.fc2), task).into_iter().collect::<Result<_>>()?;
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
        let Some(z) = self.kept.as_ref().and_then(OnceLock::get) else {
            candle_core::bail!("the MLP branch was run without a graph");
        };
        self.fc1.backward()?;
        self.fc2.backward()?;
        let width = self.fc1.inputs();
        let mut dx = vec![0f32; x.elem_count()];
        let mut run = |x: &[f32], weight: &[f32], bias: &[f32], g: &[f32]| -> Result<Vec<NormGradients>> {
            let norm = Affine { weight, bias, eps: self.eps };
            let inputs = x.chunks(width * ROWS).zip(g.chunks(width * ROWS)).zip(z);
            let tasks = dx.chunks_mut(width * ROWS).zip(inputs).collect();
            let work = self.work(x.len() / width);
            #[allow(clippy::type_complexity)]
            let task = |scratch: &mut Scratch, (dx, ((x, g), z)): (&mut [f32], ((&[f32], &[f32]), &Vec<f32>))| {
                self.backward_rows(norm, x, z, g, dx, scratch)
            };
            parallel::map(tasks, work, || self.scratch(&self.fc2, &self.fc1), task).into_iter().collect()
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
    use crate::{Isa, Packed, Precision, Weight};

    #[test]
    fn a_norm_of_another_width_is_refused() {
        let mut random = Random(1);
        let layers = [random.tensor((12, 4), 1.0), random.tensor((4, 12), 1.0)].map(|weight| {
            let [packed] = Packed::stack([Layer::plain(&weight, None)], Precision::F32, Isa::best()).unwrap();
            packed.unwrap()
        });
        let layers = layers.each_ref().map(|part| Layer { weight: Weight::Packed(part), bias: None, joined: None });
        let (scale, shift) = (Tensor::ones(6, DType::F32, &Device::Cpu).unwrap(), Tensor::zeros(6, DType::F32, &Device::Cpu).unwrap());
        let norm = Norm { weight: &scale, bias: &shift, eps: 1e-5 };
        let error = mlp_branch(&random.tensor((3, 6), 1.0), norm, layers, true).unwrap_err().to_string();
        assert!(error.contains("width 6 before an MLP of width 4"), "{error}");
    }
}
