//! What a classifier is worth: accuracies, confusion, calibration, and the report of a whole run.
//!
//! The measures are pure functions of plain numbers. The process's memory and how results are saved are here, too. Labels are
//! used for measuring only, never for training.

mod calibration;
mod confusion;
mod epoch;
mod evaluation;
mod fits;
mod json;
mod metrics;
mod ordered_map;
mod peak_memory;
mod report;
mod sections;
mod selection;
pub(crate) mod signals;
mod table;

pub use calibration::{Bin, CALIBRATION_BINS, calibration_error};
pub use confusion::Confusion;
pub use epoch::EpochRecord;
pub use evaluation::{ClassAccuracy, Evaluation};
pub use fits::{Choice, Fits, LargestShares};
pub(crate) use json::as_written;
pub use json::to_json;
pub use metrics::{agreement, argmax_rows, rank_of, unique_names};
pub use ordered_map::OrderedMap;
pub use peak_memory::peak_rss_bytes;
pub(crate) use report::unread;
pub use report::{ImageCounts, Report, Timing, TrainableCount};
pub use sections::{LafterReport, OracleBest, TextClassifierReport};
pub(crate) use selection::ONE_SIDED;
pub use selection::{Select, Selection, selected, warning};
pub use signals::Signals;
pub use table::Table;
