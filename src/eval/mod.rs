//! What a classifier is worth: accuracies, confusion, calibration, and the report of a whole run.
//!
//! The measures are pure functions of plain numbers; beside them stand the process's memory and how results are saved. Labels
//! are used for measuring only, never for training.

mod calibration;
mod evaluation;
mod memory;
mod metrics;
mod ordered;
mod report;
mod save;
mod sections;
mod table;

pub use crate::files::save_atomically;
pub use calibration::{Bin, CALIBRATION_BINS, calibration_error};
pub use evaluation::{ClassAccuracy, Evaluation};
pub use memory::peak_rss_bytes;
pub use metrics::{agreement, argmax_rows, rank_of, unique_names};
pub use ordered::Named;
pub use report::{ImageCounts, Report, Timing, Trainable};
pub use save::to_json;
pub use sections::{LafterReport, OracleBest, TextClassifierReport};
pub use table::Table;
