//! Tables of predictions, which `predict` and `run` write: they name pictures and hold none.

use std::path::Path;

use parquet::file::metadata::{KeyValue, ParquetMetaData};

use super::footer;

/// The entry in a file's metadata that marks such a table.
pub(crate) const PREDICTIONS_MARK: (&str, &str) = ("lafter", "predictions");

/// Its first columns; tables of earlier versions have no mark.
const COLUMNS: [&str; 5] = ["picture", "class", "probability", "runner_up", "margin"];

pub(crate) fn is_predictions(path: &Path) -> bool {
    footer(path).is_ok_and(|meta| holds_predictions(&meta))
}

pub(super) fn holds_predictions(meta: &ParquetMetaData) -> bool {
    let meta = meta.file_metadata();
    let marked = |entry: &KeyValue| (entry.key.as_str(), entry.value.as_deref()) == (PREDICTIONS_MARK.0, Some(PREDICTIONS_MARK.1));
    meta.key_value_metadata().is_some_and(|entries| entries.iter().any(marked))
        || meta.schema_descr().columns().iter().map(|column| column.name()).take(COLUMNS.len()).eq(COLUMNS)
}

/// What to do about one that is given as pictures.
pub(crate) fn instead_of_predictions(path: &Path) -> String {
    format!("{}: is a table of predictions, which holds no pictures: give the folder or file of its pictures", path.display())
}
