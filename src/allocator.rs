//! The allocator of a program that trains: mimalloc, told to keep the memory that it is given back.
//!
//! A step frees and asks again for the same large blocks. An allocator that returns them to the system meanwhile gets them
//! back as pages that the system must clear first. `MIMALLOC_PURGE_DELAY=0 cargo bench --bench towers` shows what that costs: a
//! tuning step takes 1.3 times as long.

pub use mimalloc::MiMalloc;

/// Keeps freed memory for the next allocation, from now on. It has no effect on other allocators: call it in a program
/// whose global allocator is [`MiMalloc`]. The environment variable `MIMALLOC_PURGE_DELAY` (milliseconds) takes precedence.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: lafter::allocator::MiMalloc = lafter::allocator::MiMalloc;
/// lafter::allocator::keep_freed_memory();
/// ```
pub fn keep_freed_memory() {
    /// `mi_option_purge_delay` of mimalloc.h, versions 2 and 3; the binding does not name it.
    const PURGE_DELAY: i32 = 15;
    const NEVER: std::ffi::c_long = -1;
    // SAFETY: sets a number inside mimalloc, which may be called at any time from any thread.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, NEVER) }
}
