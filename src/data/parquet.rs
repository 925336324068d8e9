//! Parquet files in the hub's image layout.
//!
//! A picture column (`img`, `image`, or the one the metadata calls an Image) is a struct {bytes, path} or plain bytes; a
//! label column holds class indices, named in the metadata's `huggingface` entry
//! (`info.features.<column>.names`), or class names themselves. Row groups are read one at a time, and in them a few
//! rows at a time, into [`Blobs`].

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbImage;
use parquet::basic::Type as Physical;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::SchemaDescriptor;
use serde_json::Value;

use crate::catch_panic::catch_panic;
use crate::data::blobs::{Blobs, BlobsBuilder};
use crate::data::decode::decode;
use crate::data::source::ImageSource;
use crate::error::{Error, Result};
use crate::progress::check_interrupt;

/// Rows read at once: with large pictures still tens of megabytes only.
const ROWS: usize = 64;

/// Label columns by preference: CIFAR-100 has a fine and a coarse one.
const LABELS: [&str; 4] = ["label", "fine_label", "labels", "coarse_label"];

/// The files, one after the other.
struct Parquet {
    origin: String,
    classes: Vec<String>,
    labels: Vec<Option<usize>>,
    blobs: Blobs,
    /// First row of each file.
    files: Vec<(usize, PathBuf)>,
}

/// Opens Parquet files as one data set; `memory_limit` bytes of encoded pictures stay in memory.
pub(crate) fn open(paths: &[PathBuf], origin: &str, label_column: Option<&str>, memory_limit: usize) -> Result<impl ImageSource + use<>> {
    let mut blobs = BlobsBuilder::new(memory_limit);
    let mut labels = Labels::default();
    let mut files = Vec::new();
    for path in paths {
        files.push((labels.len(), path.clone()));
        // The Parquet reader panics on some damaged files (it asserts what a footer says); what was read is dropped with them.
        let read = catch_panic(|| read_file(path, label_column, &mut blobs, &mut labels));
        read.unwrap_or_else(|| Err(broken(path, &ParquetError::General("its parts contradict each other".to_string()))))?;
    }
    let (classes, labels) = labels.finish(origin)?;
    if labels.is_empty() {
        return Err(Error::Data(format!("{origin}: the Parquet files hold no rows: fetch them again, or name another split")));
    }
    Ok(Parquet { origin: origin.to_string(), classes, labels, blobs: blobs.finish()?, files })
}

fn broken(path: &Path, error: &ParquetError) -> Error {
    let text = error.to_string();
    let fault = text.lines().next().unwrap_or("unreadable");
    if fault.contains("Disabled feature") {
        let remedy = "write it again with snappy or zstd";
        return Error::Data(format!("{}: its compression is not supported: {fault}: {remedy}", path.display()));
    }
    Error::Data(format!("{}: not a whole Parquet file: {fault}: fetch it again", path.display()))
}

fn read_file(path: &Path, label_column: Option<&str>, blobs: &mut BlobsBuilder, labels: &mut Labels) -> Result<()> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let reader = SerializedFileReader::new(file).map_err(|e| broken(path, &e))?;
    let meta = reader.metadata().file_metadata();
    let features = meta
        .key_value_metadata()
        .and_then(|entries| entries.iter().find(|entry| entry.key == "huggingface"))
        .and_then(|entry| serde_json::from_str::<Value>(entry.value.as_deref()?).ok())
        .and_then(|meta| meta.pointer("/info/features").cloned())
        .unwrap_or(Value::Null);
    let layout = Layout::find(meta.schema_descr(), &features, label_column, path)?;
    if let Some(label) = &layout.label {
        labels.name(&features, label, path)?;
    }
    for group in 0..reader.num_row_groups() {
        check_interrupt("reading pictures")?;
        let group = reader.get_row_group(group).map_err(|e| broken(path, &e))?;
        let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        let column = |i: usize| group.get_column_reader(i).map_err(|e| broken(path, &e));
        let ColumnReader::ByteArrayColumnReader(pictures) = column(layout.picture.index)? else {
            return Err(Error::Data(format!("{}: the picture column does not hold bytes", path.display())));
        };
        rows_of(pictures, &layout.picture, rows, path, |value: Option<ByteArray>| {
            blobs.push(value.as_ref().map(ByteArray::data).filter(|bytes| !bytes.is_empty()))
        })?;
        match &layout.label {
            None => labels.unknown(rows),
            Some(label) => match column(label.index)? {
                ColumnReader::Int64ColumnReader(values) => rows_of(values, label, rows, path, |value| labels.push_index(value, path))?,
                ColumnReader::Int32ColumnReader(values) => {
                    rows_of(values, label, rows, path, |value| labels.push_index(value.map(i64::from), path))?;
                }
                ColumnReader::ByteArrayColumnReader(values) => rows_of(values, label, rows, path, |value| labels.push_name(value))?,
                _ => {
                    let text = format!("{}: column \"{}\" holds neither class indices nor names", path.display(), label.name);
                    return Err(Error::Data(text));
                }
            },
        }
    }
    Ok(())
}

/// Calls `f` with each row's value, or `None` for a null.
fn rows_of<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    column: &Column,
    rows: usize,
    path: &Path,
    mut f: impl FnMut(Option<T::T>) -> Result<()>,
) -> Result<()> {
    let (mut done, mut levels, mut values) = (0, Vec::new(), Vec::new());
    while done < rows {
        levels.clear();
        values.clear();
        let (read, ..) = reader.read_records(ROWS, Some(&mut levels), None, &mut values).map_err(|e| broken(path, &e))?;
        if read == 0 {
            let text = format!("{}: column \"{}\" ends after {done} of {rows} rows: fetch the file again", path.display(), column.name);
            return Err(Error::Data(text));
        }
        let mut values = values.drain(..);
        for row in 0..read {
            // A column that cannot be null has no levels.
            let present = column.max_def == 0 || levels.get(row).is_some_and(|level| *level == column.max_def);
            f(if present { values.next() } else { None })?;
        }
        done += read;
    }
    Ok(())
}

/// One leaf column.
struct Column {
    index: usize,
    /// The top-level name.
    name: String,
    max_def: i16,
}

struct Layout {
    picture: Column,
    label: Option<Column>,
}

impl Layout {
    fn find(schema: &SchemaDescriptor, features: &Value, label_column: Option<&str>, path: &Path) -> Result<Self> {
        let leaves: Vec<(Vec<&str>, Column, Physical)> = schema
            .columns()
            .iter()
            .enumerate()
            .filter(|(_, leaf)| leaf.max_rep_level() == 0) // a list of pictures in a row is another layout
            .map(|(index, leaf)| {
                let parts: Vec<&str> = leaf.path().parts().iter().map(String::as_str).collect();
                let name = parts.first().copied().unwrap_or_default().to_string();
                (parts, Column { index, name, max_def: leaf.max_def_level() }, leaf.physical_type())
            })
            .collect();
        let found = || {
            let names: Vec<&str> = schema.root_schema().get_fields().iter().map(|field| field.name()).collect();
            if names.is_empty() { "none".to_string() } else { names.join(", ") }
        };
        let kind = |name: &str| features.get(name).and_then(|feature| feature.get("_type")).and_then(Value::as_str);
        let bytes_of = |name: &str| {
            let is = |parts: &[&str]| parts == [name, "bytes"] || parts == [name];
            leaves.iter().position(|(parts, _, physical)| *physical == Physical::BYTE_ARRAY && is(parts))
        };
        let declared = features.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).filter(|name| kind(name) == Some("Image"));
        let structs = leaves.iter().filter(|(parts, ..)| matches!(parts[..], [_, "bytes"])).map(|(_, column, _)| column.name.as_str());
        let picture = ["img", "image"].into_iter().chain(declared).chain(structs).find_map(bytes_of).ok_or_else(|| {
            let shown = path.display();
            let text = format!("{shown}: holds no pictures: columns found: {}; expected img or image, a struct {{bytes, path}}", found());
            Error::Data(text)
        })?;
        let flat = |name: &str| leaves.iter().position(|(parts, ..)| parts[..] == [name]);
        let label = match label_column {
            Some(name) => Some(flat(name).ok_or_else(|| {
                let text = format!("{}: has no label column \"{name}\": columns found: {}", path.display(), found());
                Error::Usage(text)
            })?),
            None => {
                let classes = leaves.iter().position(|(parts, ..)| matches!(parts[..], [name] if kind(name) == Some("ClassLabel")));
                LABELS.iter().find_map(|name| flat(name)).or(classes)
            }
        };
        let mut leaves: Vec<Option<Column>> = leaves.into_iter().map(|(_, column, _)| Some(column)).collect();
        let mut take = |at: usize| leaves.get_mut(at).and_then(Option::take);
        let label = label.filter(|at| *at != picture).and_then(&mut take);
        let picture = take(picture).ok_or_else(|| Error::Data(format!("{}: holds no pictures", path.display())))?;
        Ok(Self { picture, label })
    }
}

/// Labels as they are read: indices with names from the metadata, or names that become classes in sorted order.
#[derive(Default)]
struct Labels {
    names: Option<Vec<String>>,
    rows: Vec<Label>,
}

enum Label {
    Unknown,
    Index(usize),
    Name(Arc<str>),
}

impl Labels {
    fn len(&self) -> usize {
        self.rows.len()
    }

    /// Takes the class names of one file's metadata; all files must agree.
    fn name(&mut self, features: &Value, label: &Column, path: &Path) -> Result<()> {
        let names = features.get(&label.name).and_then(|feature| feature.get("names")).and_then(Value::as_array);
        let Some(names) = names else { return Ok(()) };
        let names: Vec<String> = names.iter().filter_map(|name| name.as_str().map(str::to_string)).collect();
        match &self.names {
            Some(known) if *known != names => {
                let text = format!("{}: its class names differ from those of the files before it: open them apart", path.display());
                Err(Error::Data(text))
            }
            _ => {
                self.names = Some(names);
                Ok(())
            }
        }
    }

    fn unknown(&mut self, rows: usize) {
        self.rows.extend((0..rows).map(|_| Label::Unknown));
    }

    /// The hub marks pictures without a label, as in a hidden test set, by -1 or null.
    fn push_index(&mut self, value: Option<i64>, path: &Path) -> Result<()> {
        let label = match value {
            None | Some(-1) => Label::Unknown,
            Some(value) => match usize::try_from(value) {
                Ok(index) if self.names.as_ref().is_none_or(|names| index < names.len()) => Label::Index(index),
                _ => {
                    let (path, row, classes) = (path.display(), self.rows.len(), self.names.as_ref().map_or(0, Vec::len));
                    return Err(Error::Data(format!("{path}: row {row} has label {value}, but the metadata names {classes} classes")));
                }
            },
        };
        self.rows.push(label);
        Ok(())
    }

    fn push_name(&mut self, value: Option<ByteArray>) -> Result<()> {
        self.rows.push(value.map_or(Label::Unknown, |name| Label::Name(String::from_utf8_lossy(name.data()).into())));
        Ok(())
    }

    /// Class names and the label of each row. Indices without names are named by their digits.
    fn finish(self, origin: &str) -> Result<(Vec<String>, Vec<Option<usize>>)> {
        let highest = self.rows.iter().filter_map(|row| if let Label::Index(i) = row { Some(*i) } else { None }).max();
        // Names of at most this many classes are made up: beyond it the column is no label column.
        if self.names.is_none() && highest.is_some_and(|highest| highest >= 1_000_000) {
            let text = format!("{origin}: the label column goes up to {}: name the right column", highest.unwrap_or(0));
            return Err(Error::Data(text));
        }
        let mut texts: Vec<&str> =
            self.rows.iter().filter_map(|row| if let Label::Name(name) = row { Some(&**name) } else { None }).collect();
        texts.sort_unstable();
        texts.dedup();
        let classes = match (self.names, highest) {
            (Some(names), _) => names,
            (None, Some(highest)) => (0..=highest).map(|i| i.to_string()).collect(),
            (None, None) => texts.iter().map(ToString::to_string).collect(),
        };
        let by_name: HashMap<&str, usize> = classes.iter().map(String::as_str).zip(0..).collect();
        let label = |row: &Label| match row {
            Label::Unknown => None,
            Label::Index(i) => Some(*i),
            Label::Name(name) => by_name.get(&**name).copied(),
        };
        let labels = self.rows.iter().map(label).collect();
        Ok((classes, labels))
    }
}

impl ImageSource for Parquet {
    fn len(&self) -> usize {
        self.blobs.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, i: usize) -> Option<usize> {
        self.labels.get(i).copied().flatten()
    }

    fn name(&self, i: usize) -> String {
        match self.files.iter().rev().find(|(first, _)| *first <= i) {
            Some((first, path)) => format!("{}, row {}", path.display(), i - first),
            None => format!("{}, row {i}", self.origin),
        }
    }

    fn image(&self, i: usize) -> Result<RgbImage> {
        match self.blobs.get(i)? {
            Some(bytes) => decode(&bytes, &self.name(i)),
            None => Err(Error::Image(format!("{}: holds no bytes for this picture", self.name(i)))),
        }
    }

    fn origin(&self) -> String {
        self.origin.clone()
    }
}
