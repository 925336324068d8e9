//! The nearest of many features, exactly, without a matrix of all pairs.

use candle_core::{Device, Error, Tensor};
use rayon::prelude::*;

use crate::nn::{Isa, Linear, Precision};

/// For each query the keys with the greatest products.
#[derive(Clone, Debug, PartialEq)]
pub struct Nearest {
    /// How many each query has.
    pub k: usize,
    /// Rows of the keys, `[queries, k]`, the nearest first; of equally near ones the first.
    pub indices: Vec<u32>,
    /// Their products with the query, `[queries, k]`: cosines, if all rows have unit length.
    pub cosines: Vec<f32>,
}

/// Queries and keys of one tile of products.
const TILE: (usize, usize) = (1024, 4096);

/// The `k` keys with the greatest products with each query, or all if there are fewer. With `itself` false a query is not compared
/// with the key of its own number: keys are the queries.
///
/// Products are made in tiles of 1,024 × 4,096, so that all pairs are looked at and none is kept; the keys of a tile are packed once
/// for all queries. `done` hears how many of the queries' worth of products are made, and may stop it with an error.
///
/// # Shapes
/// queries `[n, d]`, keys `[m, d]`.
///
/// # Errors
/// If the widths differ (Candle's), and those of `done`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use lafter::transduct::nearest;
/// let x = Tensor::new(&[[1f32, 0.], [0.8, 0.6], [0., 1.]], &Device::Cpu)?;
/// assert_eq!(nearest(&x, &x, 1, false, |_| Ok::<_, candle_core::Error>(()))?.indices, [1, 0, 1]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn nearest<E: From<Error>>(
    queries: &Tensor,
    keys: &Tensor,
    k: usize,
    itself: bool,
    mut done: impl FnMut(usize) -> Result<(), E>,
) -> Result<Nearest, E> {
    let (n, m) = (queries.dim(0)?, keys.dim(0)?);
    let k = k.min(if itself { m } else { m.saturating_sub(1) });
    let mut best = vec![Best { k, found: Vec::with_capacity(k + 1) }; n];
    for from in (0..m).step_by(TILE.1) {
        let columns = TILE.1.min(m - from);
        let tile = Linear::new(keys.narrow(0, from, columns)?.contiguous()?, None).packed(Precision::F32, Isa::best())?;
        for first in (0..n).step_by(TILE.0) {
            let rows = TILE.0.min(n - first);
            let products = tile.forward(&queries.narrow(0, first, rows)?)?; // [rows, columns]
            let products = products.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
            let best = best[first..first + rows].par_iter_mut();
            best.zip(products.par_chunks(columns)).enumerate().for_each(|(row, (best, products))| {
                best.look_at(products, from, if itself { usize::MAX } else { first + row });
            });
            // products of whole rows, if they were made row by row
            done(((n * from + (first + rows) * columns) / m).min(n))?;
        }
    }
    Ok(Nearest {
        k,
        indices: best.iter().flat_map(|best| best.found.iter().map(|(key, _)| *key)).collect(),
        cosines: best.iter().flat_map(|best| best.found.iter().map(|(_, cosine)| *cosine)).collect(),
    })
}

/// The greatest so far, in falling order.
#[derive(Clone)]
struct Best {
    k: usize,
    found: Vec<(u32, f32)>,
}

impl Best {
    /// Products with the keys `from ..`.
    fn look_at(&mut self, products: &[f32], from: usize, own: usize) {
        const BLOCK: usize = 32;
        if self.k == 0 {
            return;
        }
        for (block, values) in products.chunks(BLOCK).enumerate() {
            let least = if self.found.len() < self.k { f32::NEG_INFINITY } else { self.found[self.k - 1].1 };
            // most blocks hold nothing near: one comparison without a branch a value
            if !values.iter().fold(false, |any, value| any | (*value > least)) {
                continue;
            }
            for (at, value) in values.iter().enumerate() {
                let key = from + block * BLOCK + at;
                if key != own {
                    self.offer(key as u32, *value);
                }
            }
        }
    }

    fn offer(&mut self, key: u32, value: f32) {
        let place = self.found.iter().take_while(|(_, found)| *found >= value).count();
        if place < self.k {
            self.found.insert(place, (key, value));
            self.found.truncate(self.k);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn silent(_: usize) -> candle_core::Result<()> {
        Ok(())
    }

    #[test]
    fn all_pairs_are_looked_at_across_tiles() {
        let device = Device::Cpu;
        let keys = Rng::new(1).normal_tensor((TILE.1 + 700, 8), 1.0, &device).unwrap();
        let queries = keys.narrow(0, 0, TILE.0 + 3).unwrap();
        let mut heard = Vec::new();
        let found = nearest(&queries, &keys, 3, false, |done| -> candle_core::Result<()> {
            heard.push(done);
            Ok(())
        })
        .unwrap();
        assert!(heard.is_sorted() && heard.len() == 4 && heard[3] == TILE.0 + 3, "{heard:?}");
        let products = queries.matmul(&keys.t().unwrap()).unwrap().to_vec2::<f32>().unwrap();
        for (row, products) in products.iter().enumerate() {
            let mut order: Vec<usize> = (0..products.len()).filter(|key| *key != row).collect();
            order.sort_by(|a, b| products[*b].total_cmp(&products[*a]));
            let expected: Vec<u32> = order[..3].iter().map(|key| *key as u32).collect();
            assert_eq!(found.indices[row * 3..][..3], expected, "{row}");
        }
    }

    #[test]
    fn few_keys_and_equal_ones() {
        let x = Tensor::new(&[[1f32], [1.0], [1.0]], &Device::Cpu).unwrap();
        let found = nearest(&x, &x, 9, false, silent).unwrap();
        assert_eq!((found.k, found.indices), (2, vec![1, 2, 0, 2, 0, 1]));
        let itself = nearest(&x, &x, 1, true, silent).unwrap();
        assert_eq!(itself.indices, [0, 0, 0]);
        let alone = x.narrow(0, 0, 1).unwrap();
        assert_eq!(nearest(&alone, &alone, 3, false, silent).unwrap().k, 0);
    }
}
