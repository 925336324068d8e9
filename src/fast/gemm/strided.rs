//! Small products of matrices that lie in larger ones: the heads of attention.

use super::kernel::{Kernel, TILE};
use super::{Element, Target};
use crate::math;

/// A matrix inside a slice.
#[derive(Clone, Copy)]
pub(crate) struct View {
    /// The first number.
    pub at: usize,
    /// From one row to the next.
    pub row: usize,
    /// From one column to the next.
    pub column: usize,
}

impl View {
    pub fn transposed(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
    }
}

/// target[rows, columns] = scale · a[rows, inner] · b[inner, columns] (+ bias) in f32, b packed on the fly into `scratch`.
#[allow(clippy::too_many_arguments)]
pub(crate) fn multiply(
    kernel: Kernel,
    [rows, columns, inner]: [usize; 3],
    scale: f32,
    a: &[f32],
    a_view: View,
    b: &[f32],
    b_view: View,
    scratch: &mut Vec<f32>,
    mut target: Target,
) {
    if kernel.is_library() {
        if target.bias.is_some() {
            target.begin(rows, columns);
        }
        let c = View { at: 0, row: target.stride, column: 1 };
        return library(rows, columns, inner, scale, a, a_view, b, b_view, target.add, target.values, c);
    }
    let width = kernel.columns();
    if scratch.len() < inner * width {
        scratch.resize(inner * width, 0.0);
    }
    let panel = &mut scratch[..inner * width];
    let mut tile = [0f32; TILE];
    for first in (0..columns).step_by(width) {
        let some = width.min(columns - first);
        pack(b, View { at: b_view.at + first * b_view.column, ..b_view }, some, width, panel);
        for row in (0..rows).step_by(kernel.rows()) {
            let count = kernel.rows().min(rows - row);
            let (a, b) = (&bits(a)[a_view.at + row * a_view.row..], bits(panel));
            kernel.run(count, inner, a, a_view.row, a_view.column, b, b, &mut tile);
            let (tile, c) = (&tile[..count * width], &mut target.values[row * target.stride + first..]);
            math::store(kernel.isa(), tile, width, some, scale, target.bias.map(|bias| &bias[first..]), target.add, c, target.stride);
        }
    }
}

/// One panel: `some` ≤ `width` columns of b, the rest zeros.
fn pack(b: &[f32], view: View, some: usize, width: usize, panel: &mut [f32]) {
    for (i, row) in panel.chunks_mut(width).enumerate() {
        let start = view.at + i * view.row;
        if view.column == 1 {
            row[..some].copy_from_slice(&b[start..][..some]);
        } else {
            row[..some].iter_mut().zip(b[start..].iter().step_by(view.column)).for_each(|(to, x)| *to = *x);
        }
        row[some..].fill(0.0);
    }
}

fn bits(values: &[f32]) -> &[Element] {
    // SAFETY: f32 and u32 have one size and alignment, and every bit pattern is a u32.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) }
}

/// c[rows, columns] = scale · a[rows, inner] · b[inner, columns] (+ c) by the `gemm` crate, on this thread.
#[rustfmt::skip]
#[allow(clippy::too_many_arguments)]
pub(crate) fn library(
    rows: usize, columns: usize, inner: usize, scale: f32, a: &[f32], av: View, b: &[f32], bv: View, add: bool, c: &mut [f32], cv: View,
) {
    let last = |v: View, r: usize, s: usize| v.at + (r - 1) * v.row + (s - 1) * v.column;
    assert!(rows > 0 && columns > 0 && inner > 0);
    assert!(last(av, rows, inner) < a.len() && last(bv, inner, columns) < b.len() && last(cv, rows, columns) < c.len());
    // SAFETY: the assertions bound every address; c is borrowed exclusively.
    unsafe {
        gemm::gemm(
            rows, columns, inner,
            c.as_mut_ptr().add(cv.at), cv.column as isize, cv.row as isize, add,
            a.as_ptr().add(av.at), av.column as isize, av.row as isize,
            b.as_ptr().add(bv.at), bv.column as isize, bv.row as isize,
            1f32, scale, false, false, false, gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Isa, Precision};

    #[test]
    fn every_kernel_adds_the_bias() {
        let (a, b) = ([1f32, 2., 3., 4.], [1f32, 0., 0., 1.]);
        let view = View { at: 0, row: 2, column: 1 };
        for isa in Isa::available() {
            for (add, expected) in [(false, [12f32, 24., 16., 28.]), (true, [13., 25., 17., 29.])] {
                let mut y = [1f32; 4];
                let target = Target { values: &mut y, stride: 2, bias: Some(&[10., 20.]), add };
                multiply(Kernel::new(isa, Precision::F32), [2, 2, 2], 2.0, &a, view, &b, view, &mut Vec::new(), target);
                assert_eq!(y, expected, "{isa:?} {add}");
            }
        }
    }
}
