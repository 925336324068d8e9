//! Parallel loops that stay on one thread where the work is too small to hand over.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

/// Floating-point operations below which a loop runs on the calling thread. Waking another thread and waiting for it
/// takes about as long as this many operations on one.
const WORTH: usize = 8_000_000;

/// Applies `f` to each item; results in the order of the items. How the work is cut into items must depend on its size only,
/// never on the number of threads: then the results have the same bits on any number of threads. `work` is the whole in
/// floating-point operations. As many scratches are made with `init` as items are worked on at a time, and used again.
pub(super) fn map<T: Send, S: Send, R: Send>(
    items: Vec<T>,
    work: usize,
    init: impl Fn() -> S + Sync + Send,
    f: impl Fn(&mut S, T) -> R + Sync + Send,
) -> Vec<R> {
    if items.len() < 2 || work < WORTH || rayon::current_num_threads() < 2 {
        let mut scratch = init();
        return items.into_iter().map(|item| f(&mut scratch, item)).collect();
    }
    let (idle, guard) = (Mutex::new(Vec::new()), PoisonError::into_inner);
    let work = |item| {
        let known = idle.lock().unwrap_or_else(guard).pop();
        let mut scratch = known.unwrap_or_else(&init);
        let result = f(&mut scratch, item);
        idle.lock().unwrap_or_else(guard).push(scratch);
        result
    };
    items.into_par_iter().with_max_len(1).map(work).collect()
}

/// [`map`] without scratch and results.
pub(super) fn for_each<T: Send>(items: Vec<T>, work: usize, f: impl Fn(T) + Sync + Send) {
    map(items, work, || (), |(), item| f(item));
}
