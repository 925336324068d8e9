//! Ablations: a grid over any setting, seeds, one row per setting with mean and spread.
//!
//! [`Ablation`] is the grid, each of its [`Cell`]s a whole run, [`Study`] the table of what came out. Finished cells are kept
//! on disk and never run again; [`Shard`]s of one grid run on many machines over one folder, and [`Ablation::collect`]
//! joins them. [`paper`] is the grid of the questions that the paper asks: text source × image stage × noise;
//! [`methods`] sets the methods after LaFTer next to it.

mod free_memory;
mod grid;
mod methods;
mod paper;
mod run;
mod scores;
mod shard;
mod study;

pub use grid::{Ablation, Cell};
pub use methods::{Method, methods};
pub use paper::{ImageStage, TextSource, paper};
pub use shard::Shard;
pub use study::{Row, Spread, Study};
