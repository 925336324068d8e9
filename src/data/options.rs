//! How to open a data set.

use std::path::PathBuf;

use crate::data::split::Split;
use crate::hub::HubOptions;

/// How to open a data set; the defaults suit most.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Which split to open where a data set has several; `None` opens the only one.
    pub split: Option<Split>,
    /// CoOp's JSON file that says which picture belongs to which split; the data set is then the folder its paths start from.
    pub split_file: Option<PathBuf>,
    /// Whether labels will be asked for. Where not, an empty class folder is left out with a notice, and pictures next to folders
    /// of pictures are all taken; else both are errors.
    pub labeled: bool,
    /// The label column of a Parquet file or of `metadata.jsonl`, the entry of the `.json` of tar shards; `None` takes `label`,
    /// `fine_label`, `labels` or `coarse_label`, the one that the metadata calls a class label, or the only one with another usual name
    /// (`class`, `category`, `target`, …).
    pub label_column: Option<String>,
    /// Encoded pictures of Parquet files that are kept in memory, in bytes; beyond it, those asked for the longest ago are
    /// read again from their file when they are needed.
    pub memory_limit: usize,
    /// A folder where the index of tar shards is kept, so that a later start does not read their headers; `None` keeps none.
    pub index_cache: Option<PathBuf>,
    /// The hub that `hf:` names come from; `None`: as the environment says ([`HubOptions::from_env`]; `HF_DATASETS_OFFLINE` counts, too).
    pub hub: Option<HubOptions>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { split: None, split_file: None, labeled: true, label_column: None, memory_limit: 1 << 30, index_cache: None, hub: None }
    }
}

impl OpenOptions {
    /// The defaults, with this split if there are several. Labels of training pictures are never asked for.
    pub fn split(split: Split) -> Self {
        Self { split: Some(split), labeled: split != Split::Train, ..Self::default() }
    }
}
