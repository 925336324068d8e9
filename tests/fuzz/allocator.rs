//! Counts what each thread holds, so that an input that takes a gigabyte is a failure with a number and not a full machine.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What one input may hold beyond what was held before, and ask for at once.
pub const LIMIT: isize = 1 << 30;
/// Where the process ends at once, because it would take the machine with it.
const END: isize = 6 << 30;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` and gives the most bytes that this thread held meanwhile, or asked for at once.
pub fn peak_of<T>(f: impl FnOnce() -> T) -> (T, isize) {
    LIVE.set(0);
    PEAK.set(0);
    WATCHED.set(true);
    let result = f();
    WATCHED.set(false);
    (result, PEAK.get())
}

fn note(bytes: isize) {
    let live = LIVE.get() + bytes;
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
    if live > END && WATCHED.get() && bytes > 0 && bytes < END {
        end("an input holds more than 6 GiB");
    }
}

/// Says which test it was and ends the process; allocates nothing.
fn end(what: &str) -> ! {
    use std::io::Write;
    WATCHED.set(false);
    let thread = std::thread::current();
    let _ = writeln!(std::io::stderr(), "fuzz: {}: {what}; it lies in target/fuzz", thread.name().unwrap_or("?"));
    std::process::abort()
}

pub struct Counting;

// SAFETY: the system's allocator does the work; the counters are thread locals without destructors.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        let found = unsafe { System.alloc(layout) };
        if found.is_null() && WATCHED.get() {
            end("an input asks for more memory than there is");
        }
        found
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        let found = unsafe { System.alloc_zeroed(layout) };
        if found.is_null() && WATCHED.get() {
            end("an input asks for more memory than there is");
        }
        found
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size as isize - layout.size() as isize);
        unsafe { System.realloc(pointer, layout, size) }
    }
}
