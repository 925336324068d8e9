//! A linear layer with a packed weight as one operation.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::gemm::{Panels, Rows, Target};
use super::{Packed, f32_slice, parallel, with_f32};

/// Rows that one task multiplies: enough to reuse a panel, few enough that no thread waits long for another's last task.
const ROWS: usize = 48;

/// One layer of a stack as an operation: `[.., inputs]` → `[.., outputs]`; only the input has a gradient.
pub(crate) struct FrozenLinear {
    pub part: Packed,
    /// Whether the bias that it was packed with is added.
    pub biased: bool,
}

/// y[rows, columns] = x[rows, inner] · B[inner, columns] (+ bias), by blocks of rows.
fn multiply(packed: &Panels, x: &[f32], inner: Range<usize>, columns: Range<usize>, bias: Option<&[f32]>) -> Vec<f32> {
    let (width, height) = (columns.len(), inner.len());
    let mut y = vec![0f32; x.len() / height.max(1) * width];
    let work = 2 * x.len() * width;
    let tasks: Vec<_> = y.chunks_mut(width * ROWS).zip(x.chunks(height * ROWS)).collect();
    parallel::map(
        tasks,
        work,
        || Rows::new(packed.kernel(), ROWS, height),
        |a, (y, x)| {
            a.resize(x.len() / height, height);
            x.chunks(height).enumerate().for_each(|(r, row)| a.set(r, row));
            packed.multiply(a, inner.clone(), columns.clone(), Target { values: y, stride: width, bias, add: false });
        },
    );
    y
}

impl CustomOp1 for FrozenLinear {
    fn name(&self) -> &'static str {
        "frozen-linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Packed { stack, outputs, .. } = &self.part;
        let bias = self.biased.then(|| &stack.bias()[outputs.clone()]);
        let y = multiply(stack.forward()?, f32_slice(x, layout)?, 0..stack.inputs(), outputs.clone(), bias);
        let mut dims = layout.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = outputs.len();
        }
        Ok((CpuStorage::F32(y), Shape::from(dims)))
    }

    /// dx = g W
    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let Packed { stack, outputs, .. } = &self.part;
        let packed = stack.backward()?;
        let dx = with_f32(grad, |grad| multiply(packed, grad, outputs.clone(), 0..stack.inputs(), None))?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}
