//! Which pictures make which batch of an epoch.

use crate::rng::Rng;

/// The indices 0..n in batches of `batch_size`, shuffled where a generator is given.
///
/// With `drop_last` the last, partial batch is left out (the released LaFTer code does so in tuning), except if it is
/// the only one: a set smaller than one batch still trains. A `batch_size` of 0 counts as 1.
///
/// ```
/// use lafter::data::epoch_batches;
/// use lafter::rng::Rng;
/// assert_eq!(epoch_batches(5, 2, false, None), [vec![0, 1], vec![2, 3], vec![4]]);
/// let shuffled = epoch_batches(5, 2, true, Some(&mut Rng::new(7777)));
/// assert_eq!(shuffled.len(), 2);
/// ```
pub fn epoch_batches(n: usize, batch_size: usize, drop_last: bool, rng: Option<&mut Rng>) -> Vec<Vec<usize>> {
    let batch_size = batch_size.max(1);
    let mut order: Vec<usize> = (0..n).collect();
    if let Some(rng) = rng {
        rng.shuffle(&mut order);
    }
    let mut batches: Vec<Vec<usize>> = order.chunks(batch_size).map(<[usize]>::to_vec).collect();
    if drop_last && batches.len() > 1 && batches.last().is_some_and(|last| last.len() < batch_size) {
        batches.pop();
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_stands_once_and_the_seed_decides() {
        let a = epoch_batches(103, 10, false, Some(&mut Rng::new(1)));
        assert_eq!(a, epoch_batches(103, 10, false, Some(&mut Rng::new(1))));
        assert_ne!(a, epoch_batches(103, 10, false, Some(&mut Rng::new(2))));
        let mut all = a.concat();
        all.sort_unstable();
        assert_eq!(all, (0..103).collect::<Vec<_>>());
    }

    #[test]
    fn the_edges() {
        assert_eq!(epoch_batches(103, 10, true, None).len(), 10);
        assert_eq!(epoch_batches(100, 10, true, None).len(), 10);
        assert_eq!(epoch_batches(3, 10, true, None), [vec![0, 1, 2]]);
        assert!(epoch_batches(0, 10, false, None).is_empty());
        assert_eq!(epoch_batches(2, 0, false, None).len(), 2);
    }
}
