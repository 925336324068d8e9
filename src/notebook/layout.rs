//! What the kernel's process and this crate share: the static that one offers and the other fills. `kernel/` compiles this same
//! file, so that the two layouts cannot differ.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, AtomicPtr};

/// The variable in which the process that loads the cells names itself and the place of its [`Hooks`]: `number:address`, both
/// decimal.
pub const HOOKS_VARIABLE: &str = "LAFTER_NOTEBOOK_HOOKS";

/// How [`Hooks`] begin. Change it with the layout: a kernel that was installed from another version has other letters.
pub(crate) const MAGIC: u64 = u64::from_be_bytes(*b"LaFTerH2");

/// Functions that the process calls, null until `lafter::notebook::start()` has filled them, and what it offers.
#[repr(C)]
pub struct Hooks {
    /// The letters `LaFTerH2`: what is here has this layout.
    pub magic: u64,
    /// Before a cell runs.
    pub begin: AtomicPtr<()>,
    /// After it has run.
    pub end: AtomicPtr<()>,
    /// In the handler of the interrupt signal: only what is safe there.
    pub interrupt: AtomicPtr<()>,
    /// The descriptor on which answers to `input` come: standard input is empty in a cell.
    pub answers: AtomicI32,
}

impl Hooks {
    /// Hooks that nobody has filled yet.
    pub const fn empty() -> Self {
        let [begin, end, interrupt] = [const { AtomicPtr::new(null_mut()) }; 3];
        Self { magic: MAGIC, begin, end, interrupt, answers: AtomicI32::new(-1) }
    }
}
