//! The table of predictions as a Parquet file.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::{Partial, PredictionRow};
use crate::data::PREDICTIONS_MARK;
use crate::error::{Error, Result};

const SCHEMA: &str = "message predictions {
    required binary picture (utf8);
    required binary class (utf8);
    required double probability;
    required binary runner_up (utf8);
    required double margin;
    optional binary zero_shot (utf8);
    optional binary text_classifier (utf8);
    optional boolean changed;
}";

/// Rows of a row group: all that is held in memory.
const GROUP: usize = 10_000;

pub(super) fn write(file: &File, path: &Path, rows: &Partial) -> Result<()> {
    let fault = |e: parquet::errors::ParquetError| Error::io(path, std::io::Error::other(e.to_string()));
    let schema = Arc::new(parse_message_type(SCHEMA).map_err(fault)?);
    let (key, value) = PREDICTIONS_MARK;
    let mark = vec![KeyValue::new(key.to_string(), value.to_string())];
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).set_key_value_metadata(Some(mark));
    let properties = Arc::new(properties.build());
    let mut writer = SerializedFileWriter::new(file, schema, properties).map_err(fault)?;
    let mut group = Vec::new();
    rows.each(|row| {
        group.push(row.clone());
        if group.len() == GROUP {
            write_group(&mut writer, &group).map_err(fault)?;
            group.clear();
        }
        Ok(())
    })?;
    if !group.is_empty() {
        write_group(&mut writer, &group).map_err(fault)?;
    }
    writer.close().map_err(fault)?;
    Ok(())
}

fn write_group(writer: &mut SerializedFileWriter<&File>, rows: &[PredictionRow]) -> parquet::errors::Result<()> {
    let bytes = |value: &str| ByteArray::from(value);
    let texts = |of: fn(&PredictionRow) -> &str| rows.iter().map(|row| bytes(of(row))).collect::<Vec<_>>();
    let maybe = |of: fn(&PredictionRow) -> Option<&str>| {
        let levels: Vec<i16> = rows.iter().map(|row| i16::from(of(row).is_some())).collect();
        (rows.iter().filter_map(of).map(bytes).collect::<Vec<_>>(), levels)
    };
    let mut group = writer.next_row_group()?;
    let mut at = 0;
    while let Some(mut column) = group.next_column()? {
        match at {
            0 => column.typed::<ByteArrayType>().write_batch(&texts(|row| &row.picture), None, None)?,
            1 => column.typed::<ByteArrayType>().write_batch(&texts(|row| &row.class), None, None)?,
            2 => column.typed::<DoubleType>().write_batch(&rows.iter().map(|row| row.probability).collect::<Vec<_>>(), None, None)?,
            3 => column.typed::<ByteArrayType>().write_batch(&texts(|row| &row.runner_up), None, None)?,
            4 => column.typed::<DoubleType>().write_batch(&rows.iter().map(|row| row.margin).collect::<Vec<_>>(), None, None)?,
            5 | 6 => {
                let (values, levels) =
                    if at == 5 { maybe(|row| row.zero_shot.as_deref()) } else { maybe(|row| row.text_classifier.as_deref()) };
                column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None)?
            }
            _ => {
                let levels: Vec<i16> = rows.iter().map(|row| i16::from(row.changed.is_some())).collect();
                let values: Vec<bool> = rows.iter().filter_map(|row| row.changed).collect();
                column.typed::<BoolType>().write_batch(&values, Some(&levels), None)?
            }
        };
        column.close()?;
        at += 1;
    }
    group.close()?;
    Ok(())
}

/// A column of text, for tests.
#[cfg(test)]
pub(super) fn read_column(path: &Path, column: usize) -> Vec<String> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    reader.get_row_iter(None).unwrap().map(|row| row.unwrap().get_string(column).unwrap().clone()).collect()
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;

    /// Data sets know it by that.
    #[test]
    fn a_table_is_marked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.parquet");
        let rows = Partial::open(&folder.path().join("rows"), "x").unwrap();
        write(&File::create(&path).unwrap(), &path, &rows).unwrap();
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let entries = reader.metadata().file_metadata().key_value_metadata().unwrap();
        assert!(entries.contains(&KeyValue::new("lafter".to_string(), "predictions".to_string())));
    }
}
