//! What a cell of the LaFTer kernel (`kernel/`) uses: shown values, updating displays, live progress, input.
//!
//! A cell's process talks to the kernel over its standard output: lines that begin with [`MARK`] carry a JSON object, all
//! else is text. Outside the kernel nothing here is needed, and nothing happens unless [`start`] was called.

mod display;
mod hooks;
mod keep;
mod last;
mod layout;
mod live;
mod timing;

pub(crate) use display::print_media;
pub use display::{Display, Html, Markdown, Show, clear_output, display, input};
pub use hooks::start;
pub use keep::{Keep, keep, kept};
pub use last::ShowLast;
pub use layout::{HOOKS_VARIABLE, Hooks};
pub use timing::timeit;

/// The beginning of a line that is a message to the kernel.
pub const MARK: &str = "\u{1e}LAFTER ";

/// Sends one message, in order with what the cell prints.
fn tell(message: &serde_json::Value) {
    println!("{MARK}{message}");
}
