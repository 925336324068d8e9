//! A sparse graph of pictures: sums over neighbors, and a softmax on top of them.

use candle_core::{D, Result, Tensor};
use lafter_fast as fast; // fast::

/// A sparse matrix `[n, m]`: which rows of another are added to each row, with what weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// Where the entries of each row begin, and the end of the last: n + 1 numbers.
    pub starts: Vec<usize>,
    /// The column of each entry.
    pub columns: Vec<u32>,
    /// The value of each entry.
    pub values: Vec<f32>,
}

impl Graph {
    /// Of `n` rows, from entries (row, column, value) in any order; those of one place are added up.
    ///
    /// # Errors
    /// For an entry of a row that is not below `n`.
    pub fn new(n: usize, mut entries: Vec<(u32, u32, f32)>) -> Result<Self> {
        if let Some((row, ..)) = entries.iter().find(|(row, ..)| *row as usize >= n) {
            candle_core::bail!("a graph of {n} rows has no row {row}");
        }
        entries.sort_by_key(|(row, column, _)| (*row, *column)); // stable: sums have one order
        let (mut starts, mut columns, mut values) = (vec![0; n + 1], Vec::new(), Vec::new());
        let mut last = None;
        for (row, column, value) in entries {
            if last == Some((row, column)) {
                values.iter_mut().last().into_iter().for_each(|sum| *sum += value);
                continue;
            }
            last = Some((row, column));
            columns.push(column);
            values.push(value);
            starts[row as usize + 1] += 1;
        }
        (0..n).for_each(|row| starts[row + 1] += starts[row]);
        Ok(Self { starts, columns, values })
    }

    /// A + Aᵀ of the entries of A `[n, n]`, times `scale`.
    ///
    /// # Errors
    /// For an entry outside.
    pub fn symmetric(n: usize, entries: impl IntoIterator<Item = (u32, u32, f32)>, scale: f32) -> Result<Self> {
        let both = |(i, j, value): (u32, u32, f32)| [(i, j, scale * value), (j, i, scale * value)];
        Self::new(n, entries.into_iter().flat_map(both).collect())
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// The sum of each row's values.
    pub fn row_sums(&self) -> Vec<f32> {
        self.starts.windows(2).map(|row| self.values[row[0]..row[1]].iter().sum()).collect()
    }

    /// The row and the column of each entry.
    pub fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        let rows = self.starts.windows(2).enumerate().flat_map(|(row, range)| std::iter::repeat_n(row, range[1] - range[0]));
        rows.zip(self.columns.iter().map(|column| *column as usize))
    }

    fn sparse(&self) -> fast::SparseRows<'_> {
        fast::SparseRows { starts: &self.starts, columns: &self.columns, values: &self.values } // fast::
    }

    /// G x.
    ///
    /// # Shapes
    /// x `[m, C]` → `[n, C]`.
    ///
    /// # Errors
    /// If x has too few rows (Candle's).
    pub fn product(&self, x: &Tensor) -> Result<Tensor> {
        fast::prefer!(fast::sparse_product(self.sparse(), x));
        self.product_plain(x)
    }

    /// The same out of Candle's operations: the reference.
    ///
    /// # Errors
    /// As [`product`](Self::product).
    pub fn product_plain(&self, x: &Tensor) -> Result<Tensor> {
        let device = x.device();
        let mut y = Tensor::zeros((self.rows(), x.dim(D::Minus1)?), x.dtype(), device)?;
        let rows: Vec<u32> = self.places().map(|(row, _)| row as u32).collect();
        // as many entries at a time as there are rows: memory for one more y
        for from in (0..rows.len()).step_by(self.rows().max(1)) {
            let range = from..rows.len().min(from + self.rows());
            let columns = Tensor::new(&self.columns[range.clone()], device)?;
            let values = Tensor::new(&self.values[range.clone()], device)?.to_dtype(x.dtype())?.unsqueeze(1)?;
            let addends = x.index_select(&columns, 0)?.broadcast_mul(&values)?; // [entries, C]
            y = y.index_add(&Tensor::new(&rows[range], device)?, &addends, 0)?;
        }
        Ok(y)
    }

    /// z ← softmax(ℓ + G z), `rounds` times over; all rows change at once.
    ///
    /// # Shapes
    /// logits ℓ `[n, C]`, z `[n, C]` → `[n, C]`.
    ///
    /// # Errors
    /// If the sizes do not fit (Candle's).
    pub fn softmax(&self, logits: &Tensor, z: &Tensor, rounds: usize) -> Result<Tensor> {
        fast::prefer!(fast::sparse_softmax(logits, z, self.sparse(), rounds));
        self.softmax_plain(logits, z, rounds)
    }

    /// The same out of Candle's operations: the reference.
    ///
    /// # Errors
    /// As [`softmax`](Self::softmax).
    pub fn softmax_plain(&self, logits: &Tensor, z: &Tensor, rounds: usize) -> Result<Tensor> {
        (0..rounds).try_fold(z.clone(), |z, _| candle_nn::ops::softmax(&(logits + self.product_plain(&z)?)?, D::Minus1))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::rng::Rng;

    fn far(a: &Tensor, b: &Tensor) -> f32 {
        (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn fused_and_plain_agree() {
        let mut rng = Rng::new(5);
        for (n, classes) in [(1, 1), (7, 3), (150, 70)] {
            let entries = (0..4 * n).map(|_| (rng.below(n) as u32, rng.below(n) as u32, rng.range(-1.0, 1.0))).collect::<Vec<_>>();
            let graph = Graph::symmetric(n, entries, 0.5).unwrap();
            let z = rng.normal_tensor((n, classes), 1.0, &Device::Cpu).unwrap();
            let logits = rng.normal_tensor((n, classes), 2.0, &Device::Cpu).unwrap();
            assert!(far(&graph.product(&z).unwrap(), &graph.product_plain(&z).unwrap()) < 1e-5);
            for rounds in 0..4 {
                let (fused, plain) = (graph.softmax(&logits, &z, rounds).unwrap(), graph.softmax_plain(&logits, &z, rounds).unwrap());
                assert!(far(&fused, &plain) < 1e-5, "{n} {classes} {rounds}");
            }
        }
    }

    #[test]
    fn entries_of_one_place_add_up_and_no_entry_is_no_row() {
        let graph = Graph::symmetric(3, [(0, 1, 2.0), (1, 0, 3.0)], 1.0).unwrap();
        assert_eq!((graph.starts.clone(), graph.columns.clone(), graph.values.clone()), (vec![0, 1, 2, 2], vec![1, 0], vec![5.0, 5.0]));
        assert_eq!((graph.row_sums(), graph.places().collect::<Vec<_>>()), (vec![5.0, 5.0, 0.0], vec![(0, 1), (1, 0)]));
        let z = Tensor::new(&[[1f32], [10.0], [100.0]], &Device::Cpu).unwrap();
        assert_eq!(graph.product(&z).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap(), [50.0, 5.0, 0.0]);
        assert!(Graph::new(3, vec![(0, 7, 1.0)]).unwrap().product(&z).is_err());
        assert!(Graph::new(3, vec![(3, 0, 1.0)]).is_err() && Graph::symmetric(3, [(0, 5, 1.0)], 1.0).is_err());
        assert!(graph.softmax(&z, &z.narrow(0, 0, 2).unwrap(), 1).is_err());
    }
}
