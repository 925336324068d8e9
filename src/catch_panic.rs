//! Panics of other crates on damaged input, contained: the caller gets a value to make an error of, the user no backtrace.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f`; `None` if it panicked. What `f` was writing to must be dropped then. Nothing is printed.
pub(crate) fn catch_panic<T>(f: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = take_hook();
        set_hook(Box::new(move |info| {
            if !QUIET.get() {
                others(info);
            }
        }));
    });
    let before = QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(f)).ok();
    QUIET.set(before);
    result
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_panic_becomes_none_and_a_value_some() {
        assert_eq!(super::catch_panic(|| 1), Some(1));
        assert_eq!(super::catch_panic(|| -> usize { panic!("damaged") }), None);
    }
}
