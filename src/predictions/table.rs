//! The table of predictions as a file.

use std::io::Write;
use std::path::Path;

use super::parquet_table;
use super::{Partial, PredictionRow, read_two_best};
use crate::data::is_predictions;
use crate::error::{Error, Result};
use crate::files::{NewFile, replace_file};

/// How a table is written; the ending of its file says which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TableFormat {
    /// `.csv`: a line of names, then a line a picture (RFC 4180, UTF-8).
    #[default]
    Csv,
    /// `.jsonl`: a JSON object a line.
    JsonLines,
    /// `.parquet`
    Parquet,
}

impl TableFormat {
    /// By the ending of a path.
    ///
    /// # Errors
    /// [`Error::Usage`] for any other ending.
    pub fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("csv") => Ok(Self::Csv),
            Some("jsonl" | "ndjson") => Ok(Self::JsonLines),
            Some("parquet") => Ok(Self::Parquet),
            _ => Err(Error::Usage(format!("{}: a table ends in .csv, .jsonl or .parquet: choose one", path.display()))),
        }
    }

    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Csv, Self::JsonLines, Self::Parquet];

    /// The table of a run, in its folder.
    pub(crate) fn file_name(self) -> &'static str {
        match self {
            Self::Csv => "predictions.csv",
            Self::JsonLines => "predictions.jsonl",
            Self::Parquet => "predictions.parquet",
        }
    }
}

/// The columns, in their order.
pub(super) const COLUMNS: [&str; 8] = ["picture", "class", "probability", "runner_up", "margin", "zero_shot", "text_classifier", "changed"];

/// Whether a file is a table that [`save_table`] wrote.
pub fn is_table(path: impl AsRef<Path>) -> bool {
    let path = path.as_ref();
    match TableFormat::of(path) {
        Ok(TableFormat::Parquet) => is_predictions(path),
        Ok(TableFormat::Csv | TableFormat::JsonLines) => read_two_best(path).is_ok(),
        Err(_) => false,
    }
}

/// Writes all rows to `path`, whole or not at all, one after the other.
///
/// # Errors
/// [`Error::Usage`] for an unknown ending, [`Error::Io`] if a file cannot be read or written.
pub fn save_table(path: impl AsRef<Path>, rows: &Partial) -> Result<()> {
    let path = path.as_ref();
    match TableFormat::of(path)? {
        TableFormat::Parquet => {
            let new = NewFile::begin(path)?;
            parquet_table::write(new.file(), path, rows)?;
            new.finish()
        }
        format => {
            let mut failed = None;
            let written = replace_file(path, |file| {
                if format == TableFormat::Csv {
                    writeln!(file, "{}", COLUMNS.join(","))?;
                }
                let result = rows.each(|row| {
                    let line = if format == TableFormat::Csv { csv(row) } else { json(row)? };
                    writeln!(file, "{line}").map_err(|e| Error::io(path, e))
                });
                result.map_err(|error| {
                    failed = Some(error);
                    std::io::Error::other("rows")
                })
            });
            failed.map_or(written, Err)
        }
    }
}

fn json(row: &PredictionRow) -> Result<String> {
    serde_json::to_string(row).map_err(|e| Error::Data(e.to_string()))
}

fn csv(row: &PredictionRow) -> String {
    let text = |value: &str| match value.contains([',', '"', '\n', '\r']) || value.starts_with(' ') || value.ends_with(' ') {
        true => format!("\"{}\"", value.replace('"', "\"\"")),
        false => value.to_string(),
    };
    let maybe = |value: &Option<String>| value.as_deref().map(text).unwrap_or_default();
    [
        text(&row.picture),
        text(&row.class),
        format!("{:.6}", row.probability),
        text(&row.runner_up),
        format!("{:.6}", row.margin),
        maybe(&row.zero_shot),
        maybe(&row.text_classifier),
        row.changed.map(|changed| changed.to_string()).unwrap_or_default(),
    ]
    .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_commas_quotes_and_lines_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["a,b.jpg", "say \"hi\".png", "two\nlines.png", "plain.jpg", " blank.jpg"];
        let row = |name: &str| PredictionRow {
            index: 0,
            picture: name.into(),
            class: "house, small".into(),
            probability: 0.75,
            runner_up: "fish".into(),
            margin: 0.5,
            zero_shot: Some("fish".into()),
            text_classifier: Some("house, small".into()),
            changed: Some(false),
            top: vec![],
        };
        let mut rows = Partial::open(&folder.path().join("rows"), "x").unwrap();
        rows.add(&names.map(row), vec![]).unwrap();
        for ending in ["csv", "jsonl", "parquet"] {
            save_table(folder.path().join(format!("table.{ending}")), &rows).unwrap();
        }
        let csv = std::fs::read_to_string(folder.path().join("table.csv")).unwrap();
        assert!(csv.starts_with("picture,class,probability,runner_up,margin,zero_shot,text_classifier,changed\n\"a,b.jpg\",\"house, small\",0.750000,fish,0.500000,fish,\"house, small\",false\n"), "{csv}");
        assert!(
            csv.contains("\n\"say \"\"hi\"\".png\",") && csv.contains("\n\"two\nlines.png\",") && csv.contains("\nplain.jpg,"),
            "{csv}"
        );
        let lines = std::fs::read_to_string(folder.path().join("table.jsonl")).unwrap();
        let back: Vec<PredictionRow> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(back, names.map(row));
        assert_eq!(parquet_table::read_column(&folder.path().join("table.parquet"), 0), names);
        let error = save_table(folder.path().join("table.xlsx"), &rows).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains(".csv"), "{error}");
    }
}
