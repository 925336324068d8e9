//! What the kernel's process and this crate share: the static that one offers and the other fills. `kernel/` compiles this same
//! file, so that the two layouts cannot differ.

use std::ptr::null_mut;
use std::sync::atomic::AtomicPtr;

/// The variable in which the process that loads the cells names itself and the place of its [`Hooks`]: `number:address`, both
/// decimal.
pub const HOOKS_VARIABLE: &str = "LAFTER_NOTEBOOK_HOOKS";

/// How [`Hooks`] begin. Change it with the layout: a kernel that was installed from another version has other letters.
pub(crate) const MAGIC: u64 = u64::from_be_bytes(*b"LaFTerH1");

/// Functions that the process calls; null until `lafter::notebook::start()` has filled them.
#[repr(C)]
pub struct Hooks {
    /// The letters `LaFTerH1`: what is here has this layout.
    pub magic: u64,
    /// Before a cell runs.
    pub begin: AtomicPtr<()>,
    /// After it has run.
    pub end: AtomicPtr<()>,
    /// In the handler of the interrupt signal: only what is safe there.
    pub interrupt: AtomicPtr<()>,
}

impl Hooks {
    /// Hooks that nobody has filled yet.
    pub const fn empty() -> Self {
        Self { magic: MAGIC, begin: AtomicPtr::new(null_mut()), end: AtomicPtr::new(null_mut()), interrupt: AtomicPtr::new(null_mut()) }
    }
}
