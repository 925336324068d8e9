//! Sums over the neighbors of a graph, and a softmax on top of them.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

use super::isa::madd;
use super::{Isa, f32_slice, math, on_cpu_f32, parallel};
use crate::vectorized;

/// A sparse matrix `[n, m]`, row by row: the entries of row i stand at `starts[i] .. starts[i + 1]`.
#[derive(Clone, Copy, Debug)]
pub struct SparseRows<'a> {
    /// Where each row begins, and the end: n + 1 numbers.
    pub starts: &'a [usize],
    /// The column of each entry.
    pub columns: &'a [u32],
    /// The value of each entry.
    pub values: &'a [f32],
}

impl SparseRows<'_> {
    fn check(&self, rows: usize, columns: usize) -> Result<()> {
        let ordered = self.starts.first() == Some(&0) && self.starts.is_sorted() && self.starts.last() == Some(&self.columns.len());
        let inside = self.columns.iter().all(|column| (*column as usize) < columns);
        match ordered && inside && self.starts.len() == rows + 1 && self.columns.len() == self.values.len() {
            true => Ok(()),
            false => candle_core::bail!("a sparse matrix that is not [{rows}, {columns}]: give each row its entries"),
        }
    }

    /// y ← y + Σ_j w_ij x_j
    fn add_row(&self, isa: Isa, row: usize, x: &[f32], y: &mut [f32]) {
        let (range, width) = (self.starts[row]..self.starts[row + 1], y.len());
        let of = |column: u32| &x[column as usize * width..][..width];
        let (columns, last_columns) = self.columns[range.clone()].as_chunks::<4>();
        let (values, last_values) = self.values[range].as_chunks::<4>();
        columns.iter().zip(values).for_each(|(columns, w)| add_four(isa, *w, columns.map(of), y));
        last_columns.iter().zip(last_values).for_each(|(column, w)| add_scaled(isa, *w, of(*column), y));
    }
}

vectorized! {
    /// y ← y + w x
    fn add_scaled(w: f32, x: &[f32], y: &mut [f32]) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y = madd::<FMA>(w, *x, *y));
    }
}

vectorized! {
    /// The same for four rows one after the other: y is read and written once.
    fn add_four(w: [f32; 4], x: [&[f32]; 4], y: &mut [f32]) {
        let x = x.map(|x| &x[..y.len()]);
        for (i, y) in y.iter_mut().enumerate() {
            *y = (0..4).fold(*y, |y, row| madd::<FMA>(w[row], x[row][i], y));
        }
    }
}

/// G x: each row the sum of some rows of x, with weights. f32 on the CPU; no gradient.
///
/// # Shapes
/// G `[n, m]`, x `[m, C]` → `[n, C]`.
///
/// # Errors
/// If the sizes do not fit.
pub fn sparse_product(graph: SparseRows, x: &Tensor) -> Result<Option<Tensor>> {
    if !on_cpu_f32(x) || x.track_op() {
        return Ok(None);
    }
    graph.check(graph.starts.len().saturating_sub(1), x.dims2()?.0)?;
    Ok(Some(x.contiguous()?.apply_op1_no_bwd(&Product { graph })?))
}

/// z ← softmax(ℓ + G z), `rounds` times over; all rows change at once. f32 on the CPU; no gradient.
///
/// One pass over a row takes its logits, adds the rows of its neighbors and normalizes, so that nothing but z is written.
///
/// # Shapes
/// logits ℓ `[n, C]`, z `[n, C]`, G `[n, n]` → `[n, C]`.
///
/// # Errors
/// If the sizes do not fit.
pub fn sparse_softmax(logits: &Tensor, z: &Tensor, graph: SparseRows, rounds: usize) -> Result<Option<Tensor>> {
    if !on_cpu_f32(logits) || !on_cpu_f32(z) || logits.track_op() || z.track_op() {
        return Ok(None);
    }
    let rows = logits.dims2()?.0;
    graph.check(rows, rows)?;
    if logits.dims() != z.dims() {
        candle_core::bail!("expected logits and z of one shape, got {:?} and {:?}", logits.dims(), z.dims());
    }
    Ok(Some(logits.contiguous()?.apply_op2_no_bwd(&z.contiguous()?, &Smoothed { graph, rounds })?))
}

/// Rows that one task computes.
const ROWS: usize = 64;

/// Applies `f` to each row of y by its number.
fn each_row(y: &mut [f32], width: usize, work: usize, f: impl Fn(usize, &mut [f32]) + Sync + Send) {
    let tasks = y.chunks_mut((width * ROWS).max(1)).enumerate().collect();
    parallel::for_each(tasks, work, |(task, rows): (usize, &mut [f32])| {
        rows.chunks_mut(width.max(1)).enumerate().for_each(|(row, y)| f(task * ROWS + row, y));
    });
}

struct Product<'a> {
    graph: SparseRows<'a>,
}

impl CustomOp1 for Product<'_> {
    fn name(&self) -> &'static str {
        "sparse-product"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, width, isa) = (f32_slice(x, layout)?, layout.shape().dims2()?.1, Isa::best());
        let rows = self.graph.starts.len() - 1;
        let mut y = vec![0f32; rows * width];
        each_row(&mut y, width, 2 * self.graph.columns.len() * width, |row, y| self.graph.add_row(isa, row, x, y));
        Ok((CpuStorage::F32(y), Shape::from((rows, width))))
    }
}

struct Smoothed<'a> {
    graph: SparseRows<'a>,
    rounds: usize,
}

impl CustomOp2 for Smoothed<'_> {
    fn name(&self) -> &'static str {
        "sparse-softmax"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout, z: &CpuStorage, of_z: &Layout) -> Result<(CpuStorage, Shape)> {
        let (logits, first, isa) = (f32_slice(logits, layout)?, f32_slice(z, of_z)?, Isa::best());
        let width = layout.shape().dims2()?.1;
        let work = 20 * logits.len() + 2 * self.graph.columns.len() * width;
        let round = |z: &[f32], y: &mut [f32]| {
            each_row(y, width, work, |row, y| {
                y.copy_from_slice(&logits[row * width..][..width]);
                self.graph.add_row(isa, row, z, y);
                math::softmax(isa, y);
            });
        };
        if self.rounds == 0 {
            return Ok((CpuStorage::F32(first.to_vec()), layout.shape().clone()));
        }
        let (mut z, mut next) = (vec![0f32; logits.len()], Vec::new());
        round(first, &mut z);
        for _ in 1..self.rounds {
            next.resize(logits.len(), 0.0);
            round(&z, &mut next);
            std::mem::swap(&mut z, &mut next);
        }
        Ok((CpuStorage::F32(z), layout.shape().clone()))
    }
}
