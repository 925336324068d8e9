//! Products with a frozen matrix that was put, once, into the order in which a micro-kernel reads it.
//!
//! Everything here runs on one thread and on one task's rows. Callers cut their work into tasks of about a hundred rows, which
//! with one panel fit a core's second-level cache, and give the tasks to rayon.

#[cfg(target_arch = "x86_64")]
mod amx;
mod kernel;
mod rows;
mod strided;

use std::ops::Range;

use rayon::prelude::*;

use super::math;
pub(crate) use kernel::Kernel;
use kernel::TILE;
pub(super) use rows::Rows;
pub(super) use strided::{View, library, multiply};

/// What the kernels read: one f32, or two bf16 that are neighbors along the inner dimension.
type Element = u32;

/// Length of the inner dimension that one visit of a tile adds up. A panel of this height stays in the second-level cache.
pub(super) const DEPTH: usize = 1024;

/// A frozen matrix B `[inner, columns]` as panels, each `[inner, width of a tile]`.
#[cfg_attr(test, derive(PartialEq))]
pub(crate) struct Panels {
    kernel: Kernel,
    inner: usize,
    columns: usize,
    panels: Storage,
}

#[cfg_attr(test, derive(PartialEq))]
enum Storage {
    Elements(Vec<Element>),
    /// Row by row, for the library.
    Plain(Vec<f32>),
}

/// Where the product goes.
pub(super) struct Target<'a> {
    /// First number of the first row, and on.
    pub values: &'a mut [f32],
    /// From one row to the next.
    pub stride: usize,
    /// Added to each row.
    pub bias: Option<&'a [f32]>,
    /// Whether what is there already is kept and added to.
    pub add: bool,
}

impl Target<'_> {
    /// Writes what a product is added to into `rows` rows: the bias, what is there already, both, or zeros.
    fn begin(&mut self, rows: usize, columns: usize) {
        for row in self.values.chunks_mut(self.stride).take(rows) {
            let row = &mut row[..columns];
            match (self.bias, self.add) {
                (Some(bias), true) => row.iter_mut().zip(bias).for_each(|(c, b)| *c += b),
                (Some(bias), false) => row.copy_from_slice(bias),
                (None, true) => {}
                (None, false) => row.fill(0.0),
            }
        }
        (self.bias, self.add) = (None, true);
    }
}

impl Panels {
    /// Packs the matrix whose numbers are `at(i, j)`, i < inner, j < columns.
    pub fn new(kernel: Kernel, inner: usize, columns: usize, at: impl Fn(usize, usize) -> f32 + Sync) -> Self {
        let panels = if kernel.is_library() {
            Storage::Plain((0..inner * columns).map(|n| at(n / columns, n % columns)).collect())
        } else {
            let (width, height) = (kernel.columns(), elements(kernel, inner));
            let mut panels = vec![0; columns.div_ceil(width) * width * height];
            panels.par_chunks_mut((width * height).max(1)).enumerate().for_each(|(p, panel)| {
                for (i, row) in panel.chunks_mut(width).enumerate() {
                    for (j, element) in (p * width..columns.min((p + 1) * width)).zip(row) {
                        *element = if kernel.is_bf16() {
                            let second = if 2 * i + 1 < inner { at(2 * i + 1, j) } else { 0.0 };
                            pair(at(2 * i, j), second)
                        } else {
                            at(i, j).to_bits()
                        };
                    }
                }
            });
            Storage::Elements(panels)
        };
        Self { kernel, inner, columns, panels }
    }

    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Memory of the packing.
    pub fn bytes(&self) -> usize {
        4 * match &self.panels {
            Storage::Elements(panels) => panels.len(),
            Storage::Plain(values) => values.len(),
        }
    }

    /// Some columns of B, one after another: what panels in f32 were packed from, bit for bit.
    pub fn transposed(&self, columns: Range<usize>) -> Vec<f32> {
        debug_assert!(!self.kernel.is_bf16(), "panels in bf16 are rounded");
        let mut values = vec![0f32; columns.len() * self.inner];
        values.par_chunks_mut(self.inner.max(1)).zip(columns).for_each(|(column, j)| match &self.panels {
            Storage::Elements(panels) => {
                let width = self.kernel.columns();
                let panel = panels[j / width * width * self.inner + j % width..].iter().step_by(width);
                column.iter_mut().zip(panel).for_each(|(value, bits)| *value = f32::from_bits(*bits));
            }
            Storage::Plain(rows) => column.iter_mut().zip(rows[j..].iter().step_by(self.columns)).for_each(|(value, of)| *value = *of),
        });
        values
    }

    /// target[rows, columns] = a[rows, inner] · B[inner, columns], for a part of B's inner dimension (an even start for
    /// bf16, which come in pairs) and of its columns; a is laid out for the same kernel.
    pub fn multiply(&self, a: &Rows, inner: Range<usize>, columns: Range<usize>, mut target: Target) {
        assert!(inner.end <= self.inner && columns.end <= self.columns && inner.len() == a.columns());
        assert!(a.kernel() == self.kernel, "rows for {:?}, panels for {:?}", a.kernel(), self.kernel);
        assert!(target.bias.is_none_or(|bias| bias.len() == columns.len()));
        if a.rows() == 0 || inner.is_empty() || columns.is_empty() {
            return;
        }
        match &self.panels {
            Storage::Plain(values) => {
                let b = View { at: inner.start * self.columns + columns.start, row: self.columns, column: 1 };
                let (values_a, stride) = a.as_f32();
                let view = View { at: 0, row: stride, column: 1 };
                target.begin(a.rows(), columns.len());
                let c = View { at: 0, row: target.stride, column: 1 };
                strided::library(a.rows(), columns.len(), inner.len(), 1.0, values_a, view, values, b, true, target.values, c);
            }
            Storage::Elements(panels) => {
                assert!(!self.kernel.is_bf16() || inner.start.is_multiple_of(2), "bf16 come in pairs");
                let whole = elements(self.kernel, inner.len());
                for start in (0..whole).step_by(DEPTH) {
                    let depth = DEPTH.min(whole - start);
                    let first = elements(self.kernel, inner.start) + start;
                    self.slice(panels, a, start, first, depth, &columns, &mut target);
                    (target.bias, target.add) = (None, true);
                }
            }
        }
    }

    /// One slice of the inner dimension: elements `at ..` of a's rows, `first ..` of B's.
    #[allow(clippy::too_many_arguments)]
    fn slice(&self, panels: &[Element], a: &Rows, at: usize, first: usize, depth: usize, columns: &Range<usize>, target: &mut Target) {
        let (kernel, width) = (self.kernel, self.kernel.columns());
        let height = elements(kernel, self.inner);
        let (values, stride) = a.elements();
        let mut tile = [0f32; TILE];
        for p in columns.start / width..columns.end.div_ceil(width) {
            let (low, high) = (columns.start.max(p * width), columns.end.min((p + 1) * width));
            let panel = &panels[(p * height + first) * width..][..depth * width];
            // comes into the cache meanwhile, a quarter with each tile
            let next = panels.get(((p + 1) * height + first) * width..).unwrap_or(panel);
            let out = low - columns.start..high - columns.start;
            let bias = target.bias.map(|bias| &bias[out.clone()]);
            for row in (0..a.rows()).step_by(kernel.rows()) {
                let rows = kernel.rows().min(a.rows() - row);
                let ahead = next.get(row / kernel.rows() % 4 * (depth / 4 * width)..).unwrap_or(panel);
                kernel.run(rows, depth, &values[row * stride + at..], stride, 1, panel, ahead, &mut tile);
                let (tile, c) = (&tile[low - p * width..rows * width], &mut target.values[row * target.stride + out.start..]);
                math::store(kernel.isa(), tile, width, out.len(), 1.0, bias, target.add, c, target.stride);
            }
        }
    }
}

/// Elements that hold `numbers` numbers of the inner dimension.
fn elements(kernel: Kernel, numbers: usize) -> usize {
    if kernel.is_bf16() { numbers.div_ceil(2) } else { numbers }
}

/// Two numbers, rounded to bf16, in one element.
fn pair(first: f32, second: f32) -> Element {
    let bits = |x: f32| Element::from(half::bf16::from_f32(x).to_bits());
    bits(first) | bits(second) << 16
}

impl std::fmt::Debug for Panels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Panels({} × {}, {:?})", self.inner, self.columns, self.kernel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::{Isa, Precision};

    #[test]
    fn every_kernel_agrees_with_f64_on_parts_and_odd_sizes() {
        for isa in Isa::available() {
            for precision in [Precision::F32, Precision::Bf16] {
                for (rows, inner, columns) in [(1, 2, 1), (3, 5, 7), (12, 64, 32), (13, 1030, 33), (100, 96, 130)] {
                    let kernel = Kernel::new(isa, precision);
                    let (x, w) = (Random(1).normals(rows * inner, 1.0), Random(2).normals(inner * columns, 1.0));
                    let packed = Panels::new(kernel, inner, columns, |i, j| w[i * columns + j]);
                    let (part, some) = (inner / 4 * 2..inner, columns / 3..columns);
                    let mut a = Rows::new(kernel, rows, part.len());
                    (0..rows).for_each(|r| a.set(r, &x[r * inner..][part.clone()]));
                    let bias = vec![0.5; some.len()];
                    let mut y = vec![2f32; rows * (some.len() + 3)];
                    let target = Target { values: &mut y, stride: some.len() + 3, bias: Some(&bias), add: true };
                    packed.multiply(&a, part.clone(), some.clone(), target);
                    let tolerance = if kernel.is_bf16() { 2e-2 } else { 1e-5 } * (part.len() as f64).sqrt();
                    for (r, row) in y.chunks(some.len() + 3).enumerate() {
                        for (j, y) in some.clone().zip(row) {
                            let sum: f64 = part.clone().map(|i| f64::from(x[r * inner + i]) * f64::from(w[i * columns + j])).sum();
                            assert!((f64::from(*y) - 2.5 - sum).abs() < tolerance, "{kernel:?} {rows} {inner} {columns}: {y} {sum}");
                        }
                        assert!(row[some.len()..].iter().all(|rest| *rest == 2.0), "{kernel:?} wrote beyond its columns");
                    }
                }
            }
        }
    }
}
