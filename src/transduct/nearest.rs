//! The nearest of many features, exactly, without a matrix of all pairs.

use candle_core::{Device, Error, Tensor};
use lafter_fast::with_f32;
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

/// Features of one side of a tile where they are compared with themselves: the tile is read twice and should stay in a cache.
const SQUARE: usize = 1024;

/// The `k` keys with the greatest products (f32) with each query, or all if there are fewer. With `itself` false a query is not compared
/// with the key of its own number: keys are the queries.
///
/// Products are made in tiles of 1,024 × 4,096, so that all pairs are looked at and none is kept; the keys of a tile are packed once
/// for all queries. Where keys and queries are one tensor, each pair is multiplied once and looked at from both sides: half the
/// products. `done` hears how many of the queries' worth of products are made, and may stop it with an error.
///
/// # Shapes
/// queries `[n, d]`, keys `[m, d]`.
///
/// # Errors
/// If the widths differ (Candle's) or a feature is not finite, and those of `done`.
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
    let one = queries.id() == keys.id();
    let tile = if one { (SQUARE, SQUARE) } else { TILE };
    let (mut made, whole) = (0, if one { n * (n + 1) / 2 } else { n * m });
    for from in (0..m).step_by(tile.1) {
        let columns = tile.1.min(m - from);
        let packed = Linear::new(keys.narrow(0, from, columns)?.contiguous()?, None).packed(Precision::F32, Isa::best())?;
        for first in (if one { from } else { 0 }..n).step_by(tile.0) {
            let rows = tile.0.min(n - first);
            let products = packed.forward(&queries.narrow(0, first, rows)?)?.to_device(&Device::Cpu)?; // [rows, columns]
            let all_finite = with_f32(&products, |products| {
                if !products.par_chunks(columns).all(|row| row.iter().fold(true, |all, value| all & value.is_finite())) {
                    return false;
                }
                let queries = best[first..first + rows].par_iter_mut().zip(products.par_chunks(columns)).enumerate();
                queries.for_each(|(row, (best, products))| best.look_at(products, from, if itself { usize::MAX } else { first + row }));
                if one && first > from {
                    let keys = best[from..from + columns].par_chunks_mut(BLOCK).enumerate();
                    keys.for_each(|(block, best)| look_down(best, &products[block * BLOCK..], columns, first));
                }
                true
            })?;
            if !all_finite {
                return Err(Error::Msg("a feature is not finite: nothing is near to it".into()).into());
            }
            // a square on the diagonal is more than its half of the pairs
            made += if one && first == from { rows * (rows + 1) / 2 } else { rows * columns };
            done((n as f64 * made as f64 / whole as f64) as usize)?; // as whole rows, if they were made row by row
        }
    }
    Ok(Nearest {
        k,
        indices: best.iter().flat_map(|best| best.found.iter().map(|(key, _)| *key)).collect(),
        cosines: best.iter().flat_map(|best| best.found.iter().map(|(_, cosine)| *cosine)).collect(),
    })
}

/// For each column of z `[n, C]` the `k` greatest entries, or all if there are fewer: their rows and values, the greatest first; of
/// equal ones the first.
pub(super) fn greatest(z: &Tensor, k: usize) -> candle_core::Result<Vec<Vec<(u32, f32)>>> {
    let (n, classes) = z.dims2()?;
    let mut best = vec![Best { k: k.min(n), found: Vec::new() }; classes];
    with_f32(&z.to_device(&Device::Cpu)?, |z| {
        best.par_chunks_mut(BLOCK).enumerate().for_each(|(block, best)| look_down(best, &z[block * BLOCK..], classes, 0));
    })?;
    Ok(best.into_iter().map(|best| best.found).collect())
}

/// Numbers that are compared at once.
const BLOCK: usize = 32;

/// The greatest so far, in falling order. Keys come in rising order, so that of equal ones the first stays.
#[derive(Clone)]
struct Best {
    k: usize,
    found: Vec<(u32, f32)>,
}

impl Best {
    /// What a product must exceed.
    fn least(&self) -> f32 {
        if self.found.len() < self.k { f32::NEG_INFINITY } else { self.found.last().map_or(f32::INFINITY, |(_, found)| *found) }
    }

    /// Products with the keys `from ..`.
    fn look_at(&mut self, products: &[f32], from: usize, own: usize) {
        for (block, values) in products.chunks(BLOCK).enumerate() {
            let least = self.least();
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

/// The same from the side of up to 32 keys: their columns of a tile of products, `stride` from row to row; its rows are the keys'
/// own keys `from ..`.
fn look_down(best: &mut [Best], products: &[f32], stride: usize, from: usize) {
    let mut least = [f32::INFINITY; BLOCK];
    least.iter_mut().zip(&*best).for_each(|(least, best)| *least = best.least());
    for (row, values) in products.chunks(stride).enumerate() {
        let values = &values[..best.len()];
        if !values.iter().zip(&least).fold(false, |any, (value, least)| any | (value > least)) {
            continue;
        }
        for ((best, least), value) in best.iter_mut().zip(&mut least).zip(values) {
            if *value > *least {
                best.offer((from + row) as u32, *value);
                *least = best.least();
            }
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
    fn pairs_of_one_set_are_multiplied_once_and_seen_from_both_sides() {
        let device = Device::Cpu;
        // small whole numbers: products are exact, and many are equal
        let values = Rng::new(2).normal_tensor((2 * SQUARE + 70, 8), 1.0, &device).unwrap().round().unwrap();
        let (twin, mut heard) = (values.copy().unwrap(), Vec::new());
        for itself in [false, true] {
            let found = nearest(&values, &values, 5, itself, |done| -> candle_core::Result<()> {
                heard.push(done);
                Ok(())
            })
            .unwrap();
            assert_eq!(found, nearest(&values, &twin, 5, itself, silent).unwrap());
            assert!(heard.is_sorted() && heard.len() == 6 && heard[5] == 2 * SQUARE + 70, "{heard:?}");
            heard.clear();
        }
    }

    #[test]
    fn the_greatest_of_a_column_are_those_of_a_sort() {
        let z = Rng::new(3).normal_tensor((90, BLOCK + 5), 1.0, &Device::Cpu).unwrap().round().unwrap();
        let found = greatest(&z, 4).unwrap();
        for (class, found) in found.iter().enumerate() {
            let column = z.narrow(1, class, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let mut order: Vec<u32> = (0..90).collect();
            order.sort_by(|a, b| column[*b as usize].total_cmp(&column[*a as usize])); // stable
            assert_eq!(*found, order[..4].iter().map(|row| (*row, column[*row as usize])).collect::<Vec<_>>(), "{class}");
        }
        assert_eq!(greatest(&z, 200).unwrap()[3].len(), 90);
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
