//! A layer norm inside a fused operation: rows in, rows out, gradients summed in a fixed order.

use candle_core::{Result, Tensor};

use super::gemm::Rows;
use super::{Isa, math};

/// Scale, shift and ε of a layer norm, as slices.
#[derive(Clone, Copy)]
pub(super) struct Affine<'a> {
    pub weight: &'a [f32],
    pub bias: &'a [f32],
    pub eps: f32,
}

impl<'a> Affine<'a> {
    /// Checked against the input that it is to normalize.
    pub fn new(weight: &'a [f32], bias: &'a [f32], eps: f32, dims: &[usize]) -> Result<Self> {
        let width = weight.len();
        if width == 0 || bias.len() != width || dims.last() != Some(&width) {
            candle_core::bail!("layer norm of width {width} on an input of shape {dims:?}");
        }
        Ok(Self { weight, bias, eps })
    }

    pub fn width(&self) -> usize {
        self.weight.len()
    }

    /// Normalizes rows straight into a product's left factor.
    pub fn rows(&self, isa: Isa, x: &[f32], to: &mut Rows) {
        let mut row = vec![0f32; self.width()];
        to.resize(x.len() / self.width(), self.width());
        for (r, x) in x.chunks(self.width()).enumerate() {
            math::layer_norm(isa, x, self.weight, self.bias, self.eps, &mut row);
            to.set(r, &row);
        }
    }

    /// Adds the gradient through the norm, from that of its output, `g`, to dx.
    pub fn backward(&self, isa: Isa, x: &[f32], g: &[f32], dx: &mut [f32]) -> NormGradients {
        let width = self.width();
        let mut sums = NormGradients { weight: vec![0f32; width], bias: vec![0f32; width] };
        for ((dx, x), g) in dx.chunks_mut(width).zip(x.chunks(width)).zip(g.chunks(width)) {
            math::layer_norm_backward(isa, x, self.weight, g, self.eps, dx, &mut sums.weight, &mut sums.bias);
        }
        sums
    }
}

/// The gradients of scale and shift over some rows.
pub(super) struct NormGradients {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl NormGradients {
    /// What a backward pass returns: dx, and the tasks' sums added in their order.
    pub fn tensors(
        partial: Vec<Self>,
        dx: Vec<f32>,
        x: &Tensor,
        weight: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let width = weight.elem_count();
        let (mut dw, mut db) = (vec![0f32; width], vec![0f32; width]);
        for Self { weight, bias } in &partial {
            dw.iter_mut().zip(weight).for_each(|(sum, w)| *sum += w);
            db.iter_mut().zip(bias).for_each(|(sum, b)| *sum += b);
        }
        let tensor = |values: Vec<f32>, like: &Tensor| Tensor::from_vec(values, like.shape(), like.device());
        Ok((Some(tensor(dx, x)?), Some(tensor(dw, weight)?), Some(tensor(db, weight)?)))
    }
}
