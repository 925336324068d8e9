//! The MLP branch of a block on the GPU, frozen but for its norm: one operation, two products by cuBLAS, one pass between them.

use std::sync::OnceLock;

use candle_core::backend::BackendStorage;
use candle_core::cuda::cudarc::driver::CudaView;
use candle_core::{CpuStorage, CudaDevice, CudaStorage, CustomOp3, DType, Layout, Result, Shape, Tensor};
use half::bf16;

use super::branch::{Frozen, Room, Rows, backward, begin, begin_backward, takes_rows, with};
use super::launch::{by_elements, launch, values, wrap};
use super::product::{Matrix, Number, product};
use super::scratch::{Scratch, bytes};
use crate::{Gelu, Layer, Norm};

/// x + fc2(act(fc1(norm(x)))); `None` if x, norm and layers are not of the kind that the kernels take.
pub fn mlp_branch(x: &Tensor, norm: Norm, [fc1, fc2]: [Layer; 2], quick: bool) -> Result<Option<Tensor>> {
    let (Some(fc1), Some(fc2)) = (Frozen::of(fc1), Frozen::of(fc2)) else { return Ok(None) };
    let [hidden, width] = fc1.sizes();
    if fc2.sizes() != [width, hidden] || fc1.weight.dtype() != fc2.weight.dtype() || !takes_rows(x, norm) {
        return Ok(None);
    }
    let kept = norm.learns(x).then(OnceLock::new);
    let branch = MlpBranch { fc1, fc2, gelu: Gelu::new(quick), eps: norm.eps as f32, kept };
    Ok(Some(x.contiguous()?.apply_op3(norm.weight, norm.bias, branch)?))
}

struct MlpBranch {
    fc1: Frozen,
    fc2: Frozen,
    gelu: Gelu,
    eps: f32,
    /// fc1's output without its bias, kept from forward to backward; `None` if nothing learns.
    kept: Option<OnceLock<CudaStorage>>,
}

impl MlpBranch {
    fn rows(&self, dims: &[usize]) -> Result<Rows> {
        let ([hidden, width], count) = (self.fc1.sizes(), dims.iter().product::<usize>());
        if dims.last() != Some(&width) || self.fc2.sizes() != [width, hidden] || count == 0 {
            candle_core::bail!("an MLP branch of width {width} on an input of shape {dims:?}");
        }
        Ok(Rows { rows: count / width, width, tokens: 1, queries: 1 })
    }

    fn quick(&self) -> u32 {
        u32::from(self.gelu == Gelu::Quick)
    }

    fn forward<T: Number>(&self, device: &CudaDevice, rows: Rows, [x, weight, bias]: [CudaView<f32>; 3]) -> Result<CudaStorage> {
        let (Rows { rows: count, width, .. }, hidden) = (rows, self.fc1.sizes()[0]);
        // SAFETY: `begin` writes every value.
        let y = unsafe { device.alloc::<f32>(count * width)? };
        let room = [count * width, count * hidden];
        let scratch = Scratch::take(device, bytes::<T, 2>(room))?;
        let kept = self.kept.as_ref().map(|_| Room::<T, 1>::new(device, [count * hidden])).transpose()?;
        let (past, [normed, active]) = (y.slice(..), scratch.parts(room)?);
        let [z] = match &kept {
            Some(kept) => kept.parts(),
            None => [active.slice(..)], // activated where it lies if nobody needs it later
        };
        with::<T, _, 4>(device, [&self.fc1.weight, &self.fc1.bias, &self.fc2.weight, &self.fc2.bias], |[w1, b1, w2, b2]| {
            begin(device, rows, [&x, &weight, &bias], self.eps, &b2, &normed, &past)?;
            let layer = [Matrix::one(&normed, width), Matrix::one(&w1, width).t()];
            product(device, 1, [count, hidden, width], 1.0, layer, 0.0, Matrix::one(&z, hidden))?;
            let (name, quick, n, columns) = (format!("hidden_{}", T::NAME), self.quick(), z.len() as u64, hidden as u32);
            // SAFETY: n values stand behind z and active, `hidden` behind the bias.
            unsafe { launch!(device, &name, by_elements(n), &z, &b1, &quick, &n, &columns, &active) };
            let layer = [Matrix::one(&active, hidden), Matrix::one(&w2, hidden).t()];
            product(device, 1, [count, width, hidden], 1.0, layer, 1.0, Matrix::one(&past, width))
        })?;
        if let (Some(cell), Some(kept)) = (&self.kept, kept) {
            let _ = cell.set(kept.wrapped(device).0);
        }
        Ok(wrap(y, device))
    }

    /// dz = (g W₂)·act′(z); the norm's output has the gradient dz W₁.
    fn backward<T: Number>(
        &self,
        device: &CudaDevice,
        rows: Rows,
        [x, weight, g]: [CudaView<f32>; 3],
        gradients: [&CudaView<f32>; 2],
    ) -> Result<()> {
        let (Rows { rows: count, width, .. }, hidden) = (rows, self.fc1.sizes()[0]);
        let Some(kept) = self.kept.as_ref().and_then(OnceLock::get) else {
            candle_core::bail!("the MLP branch was run without a graph");
        };
        let z = kept.as_cuda_slice::<T>()?.slice(..count * hidden);
        let typed = if T::NAME == f32::NAME { 0 } else { count * width };
        let (exact, room) = ([rows.partial()], [typed, count * hidden, count * width]);
        let scratch = Scratch::take(device, bytes::<f32, 1>(exact) + bytes::<T, 3>(room))?;
        let ([partial], [typed, dz, dn]) = (scratch.parts::<f32, 1>(exact)?, scratch.parts::<T, 3>(room)?);
        with::<T, _, 3>(device, [&self.fc1.weight, &self.fc1.bias, &self.fc2.weight], |[w1, b1, w2]| {
            let layer = [Matrix::one(T::of(device, &g, &typed)?, width), Matrix::one(&w2, hidden)];
            product(device, 1, [count, hidden, width], 1.0, layer, 0.0, Matrix::one(&dz, hidden))?;
            let (name, quick, n, columns) = (format!("hidden_backward_{}", T::NAME), self.quick(), z.len() as u64, hidden as u32);
            // SAFETY: n values stand behind z and dz, `hidden` behind the bias.
            unsafe { launch!(device, &name, by_elements(n), &z, &b1, &quick, &n, &columns, &dz) };
            let layer = [Matrix::one(&dz, hidden), Matrix::one(&w1, width)];
            product(device, 1, [count, width, hidden], 1.0, layer, 0.0, Matrix::one(&dn, width))?;
            begin_backward(device, rows, [&x, &weight], self.eps, (&dn, &g), gradients, &partial)
        })
    }
}

impl CustomOp3 for MlpBranch {
    fn name(&self) -> &'static str {
        "mlp-branch"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        candle_core::bail!("an MLP branch on the GPU, its input is on the CPU")
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
        let (device, rows) = (x.device(), self.rows(layout.dims())?);
        let inputs = [values::<f32>(x, layout)?, values::<f32>(weight, weight_layout)?, values::<f32>(bias, bias_layout)?];
        if inputs[1..].iter().any(|norm| norm.len() != rows.width) {
            candle_core::bail!("a layer norm of width {} before an MLP of width {}", inputs[1].len(), rows.width);
        }
        let y = match self.fc1.weight.dtype() {
            DType::BF16 => self.forward::<bf16>(device, rows, inputs)?,
            _ => self.forward::<f32>(device, rows, inputs)?,
        };
        Ok((y, layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let rows = self.rows(x.dims())?;
        backward([x, weight, bias, grad], |device, inputs, gradients| match self.fc1.weight.dtype() {
            DType::BF16 => self.backward::<bf16>(device, rows, inputs, gradients),
            _ => self.backward::<f32>(device, rows, inputs, gradients),
        })
    }
}
