//! Predictions as a result: a table of pictures and answers, made picture by picture, and folders of links.
//!
//! Nothing here needs a label, and nothing holds more than a batch in memory: [`Predicting`] streams any [`Dataset`](crate::data::Dataset)
//! and goes on from where it was stopped, [`save_table`] writes CSV, JSON lines or Parquet, [`ClassFolders`] sorts pictures into a
//! folder for each class without touching the originals.

mod answers;
mod folders;
mod parquet_table;
mod partial;
mod picks;
mod read_table;
mod row;
mod stream;
mod table;

pub use answers::{Answers, Rows};
pub use folders::{ClassFolders, How};
pub use partial::Partial;
pub use picks::{ClassPicks, Picks};
pub use read_table::{TwoBest, read_two_best};
pub use row::{PredictionRow, UNKNOWN};
pub use stream::{Predicted, Predicting};
pub use table::{TableFormat, is_table, save_table};

#[cfg(test)]
mod tests;
