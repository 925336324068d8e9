//! The left factor of one task: rows laid out for the micro-kernel.

use super::{Element, Kernel, elements, pair};
use crate::vectorized;

/// Up to a fixed number of rows, f32 or pairs of bf16 as the kernel reads them, each on cache lines of its own.
pub(crate) struct Rows {
    kernel: Kernel,
    rows: usize,
    columns: usize,
    stride: usize,
    values: Vec<Element>,
}

impl Rows {
    pub fn new(kernel: Kernel, rows: usize, columns: usize) -> Self {
        let mut empty = Self { kernel, rows: 0, columns: 0, stride: 0, values: Vec::new() };
        empty.resize(rows, columns);
        empty
    }

    /// Makes room for other sizes; what was there is void.
    pub fn resize(&mut self, rows: usize, columns: usize) {
        // an odd number of cache lines per row: rows that lie a power of two apart would push each other out of the cache
        let lines = elements(self.kernel, columns).div_ceil(16) | 1;
        (self.rows, self.columns, self.stride) = (rows, columns, lines * 16);
        if self.values.len() < rows * self.stride {
            self.values.resize(rows * self.stride, 0);
        }
    }

    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Writes one row.
    pub fn set(&mut self, row: usize, values: &[f32]) {
        debug_assert!(values.len() == self.columns);
        let to = &mut self.values[row * self.stride..][..elements(self.kernel, values.len())];
        if self.kernel.is_bf16() {
            let (pairs, rest) = values.as_chunks::<2>();
            round(self.kernel.isa(), pairs, to);
            if let ([last], Some(to)) = (rest, to.last_mut()) {
                *to = pair(*last, 0.0);
            }
        } else {
            to.iter_mut().zip(values).for_each(|(to, x)| *to = x.to_bits());
        }
    }

    /// The elements, and how many from one row to the next.
    pub(super) fn elements(&self) -> (&[Element], usize) {
        (&self.values, self.stride)
    }

    /// The same as numbers, for the library.
    pub(super) fn as_f32(&self) -> (&[f32], usize) {
        let values = &self.values;
        // SAFETY: f32 and u32 have one size and alignment, and every bit pattern is an f32.
        (unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) }, self.stride)
    }
}

vectorized! {
    /// Each number rounded to the nearest bf16, ties to even; NaN stays NaN.
    fn round(pairs: &[[f32; 2]], to: &mut [Element]) {
        for (to, pair) in to.iter_mut().zip(pairs) {
            let [first, second] = pair.map(|x| {
                let bits = x.to_bits();
                let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
                if x.is_nan() { bits | 0x0040_0000 } else { rounded }
            });
            *to = first >> 16 | second & 0xffff_0000;
        }
    }
}
