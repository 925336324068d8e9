//! [`Labels`]: the label column, read row by row, and the classes that it makes.

use std::collections::HashMap;

use parquet::column::page::PageReader;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;

use super::layout::Leaf;
use crate::error::{Error, Result};

/// Rows read at once.
const ROWS: usize = 1024;

/// A row without a label.
pub(in crate::data) const UNKNOWN: u32 = u32::MAX;

/// Names of at most this many classes are made up: beyond it the column is not a label column.
const MOST_CLASSES: u32 = 1_000_000;

/// Texts that tables hold if there is no label.
const PLACEHOLDERS: [&str; 7] = ["nan", "NaN", "None", "null", "<NA>", "-1", "-1.0"];

/// Labels as they are read: indices with names from elsewhere, or names that become classes in sorted order.
#[derive(Default)]
pub(in crate::data) struct Labels {
    /// Class names of numbers, and where they come from.
    names: Option<(Vec<String>, String)>,
    rows: Vec<u32>,
    /// The texts in the order they came in; `None` as long as labels are numbers.
    texts: Option<HashMap<Box<str>, u32>>,
    /// Rows of the label column that say -1, as the hub marks a hidden label, or nothing.
    pub(super) hidden: usize,
    /// The first text that stands for no label.
    pub(super) placeholder: Option<&'static str>,
}

/// One row's value.
enum Value {
    Null,
    Index(i64),
    Text(String),
    /// Neither: a fraction, or a list that has not one entry.
    Other(String),
}

impl Labels {
    pub(in crate::data) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Takes the class names of one file; all files must agree.
    pub(in crate::data) fn name(&mut self, names: Vec<String>, source: String, shown: &str) -> Result<()> {
        match &self.names {
            Some((known, _)) if *known != names => {
                Err(Error::Data(format!("{shown}: its class names differ from those of the files before it: open them apart")))
            }
            Some(_) => Ok(()),
            None => {
                self.names = Some((names, source));
                Ok(())
            }
        }
    }

    pub(in crate::data) fn unknown(&mut self, rows: usize) {
        self.rows.extend(std::iter::repeat_n(UNKNOWN, rows));
    }

    /// Reads one row group's label column of `rows` rows. `broken` makes an error of the reader's.
    pub(super) fn read(
        &mut self,
        pages: Box<dyn PageReader>,
        leaf: &Leaf,
        rows: usize,
        shown: &str,
        broken: &dyn Fn(&ParquetError) -> Error,
    ) -> Result<()> {
        let push = |labels: &mut Self, value| labels.push(value, leaf, shown);
        // a table from pandas holds whole numbers as floats if one is missing
        let number = |value: f64| {
            if value.is_nan() {
                Value::Null
            } else if value.fract() == 0.0 && value.abs() < 1e15 {
                Value::Index(value as i64)
            } else {
                Value::Other(value.to_string())
            }
        };
        match get_column_reader(leaf.descr.clone(), pages) {
            ColumnReader::Int64ColumnReader(reader) => self.rows(reader, leaf, rows, shown, broken, push, Value::Index),
            ColumnReader::Int32ColumnReader(reader) => {
                self.rows(reader, leaf, rows, shown, broken, push, |value| Value::Index(value.into()))
            }
            ColumnReader::FloatColumnReader(reader) => self.rows(reader, leaf, rows, shown, broken, push, |value| number(value.into())),
            ColumnReader::DoubleColumnReader(reader) => self.rows(reader, leaf, rows, shown, broken, push, number),
            ColumnReader::BoolColumnReader(reader) => {
                self.rows(reader, leaf, rows, shown, broken, push, |value| Value::Text(value.to_string()))
            }
            ColumnReader::ByteArrayColumnReader(reader) => {
                self.rows(reader, leaf, rows, shown, broken, push, |value| Value::Text(String::from_utf8_lossy(value.data()).into_owned()))
            }
            _ => Err(Error::Data(format!("{shown}: column \"{}\" holds neither class indices nor names", leaf.name))),
        }
    }

    /// Pushes each row's value; a list of one entry counts as its entry.
    #[allow(clippy::too_many_arguments)]
    fn rows<T: DataType>(
        &mut self,
        mut reader: ColumnReaderImpl<T>,
        leaf: &Leaf,
        rows: usize,
        shown: &str,
        broken: &dyn Fn(&ParquetError) -> Error,
        push: impl Fn(&mut Self, Value) -> Result<()>,
        convert: impl Fn(T::T) -> Value,
    ) -> Result<()> {
        let (max_def, list) = (leaf.descr.max_def_level(), leaf.descr.max_rep_level() > 0);
        let (mut done, mut definitions, mut repetitions, mut values) = (0, Vec::new(), Vec::new(), Vec::new());
        while done < rows {
            definitions.clear();
            repetitions.clear();
            values.clear();
            let (read, _, levels) = reader
                .read_records(ROWS.min(rows - done), Some(&mut definitions), Some(&mut repetitions), &mut values)
                .map_err(|e| broken(&e))?;
            if read == 0 {
                let name = &leaf.name;
                return Err(Error::Data(format!("{shown}: column \"{name}\" ends after {done} of {rows} rows: fetch the file again")));
            }
            let (mut values, mut at) = (values.drain(..), 0);
            while at < levels {
                // A column that cannot be null has no levels.
                let present = |at: usize| max_def == 0 || definitions.get(at).is_some_and(|level| *level == max_def);
                let mut value = if present(at) { values.next().map_or(Value::Null, &convert) } else { Value::Null };
                at += 1;
                let mut entries = 1;
                while list && at < levels && repetitions.get(at).is_some_and(|level| *level > 0) {
                    if present(at) {
                        values.next();
                    }
                    (at, entries) = (at + 1, entries + 1);
                }
                if entries > 1 {
                    value = Value::Other(format!("{entries} labels"));
                }
                push(self, value)?;
            }
            done += read;
        }
        Ok(())
    }

    /// The hub marks pictures without a label, as in a hidden test set, by -1 or null.
    fn push(&mut self, value: Value, leaf: &Leaf, shown: &str) -> Result<()> {
        let (row, name) = (self.rows.len(), &leaf.name);
        let known = |labels: &Self| labels.rows.iter().any(|row| *row != UNKNOWN);
        let label = match value {
            Value::Null | Value::Index(-1) => UNKNOWN,
            Value::Index(value) if self.texts.is_none() => {
                let limit = self.names.as_ref().map_or(MOST_CLASSES, |(names, _)| u32::try_from(names.len()).unwrap_or(UNKNOWN));
                match u32::try_from(value).ok().filter(|index| *index < limit) {
                    Some(index) => index,
                    None => return Err(self.out_of_range(value, leaf, shown)),
                }
            }
            Value::Text(text) if is_none(&text) || self.texts.is_some() || !known(self) => self.text(&text),
            Value::Index(_) | Value::Text(_) => {
                let text = format!("{shown}: column \"{name}\" is of another kind than in the files before it: open them apart");
                return Err(Error::Data(text));
            }
            Value::Other(what) => {
                let text = format!(
                    "{shown}: row {row} has {what} in column \"{name}\": one whole number or name is expected (--label-column takes another column)"
                );
                return Err(Error::Data(text));
            }
        };
        self.add(label);
        Ok(())
    }

    /// Adds a row with a label that [`text`](Self::text) gave.
    pub(in crate::data) fn add(&mut self, label: u32) {
        self.hidden += usize::from(label == UNKNOWN);
        self.rows.push(label);
    }

    /// The place of a text among the labels; [`UNKNOWN`] for one that stands for no label.
    pub(in crate::data) fn text(&mut self, text: &str) -> u32 {
        let text = text.trim();
        if is_none(text) {
            self.placeholder = self.placeholder.or(PLACEHOLDERS.iter().copied().find(|word| *word == text));
            return UNKNOWN;
        }
        let texts = self.texts.get_or_insert_default();
        let next = u32::try_from(texts.len()).unwrap_or(UNKNOWN);
        match texts.get(text) {
            Some(place) => *place,
            None => *texts.entry(text.into()).or_insert(next),
        }
    }

    fn out_of_range(&self, value: i64, leaf: &Leaf, shown: &str) -> Error {
        let (row, name) = (self.rows.len(), &leaf.name);
        Error::Data(match &self.names {
            Some((names, source)) => {
                format!("{shown}: row {row} has label {value} in column \"{name}\", but {source} names {} classes", names.len())
            }
            None if value < 0 => {
                format!("{shown}: row {row} has label {value} in column \"{name}\": class numbers start at 0 (-1: no label)")
            }
            None => format!(
                "{shown}: row {row} has {value} in column \"{name}\": too high to be a class number: --label-column takes another column"
            ),
        })
    }

    /// The highest label, where labels are numbers without names and so many more than the rows that they must be ids.
    pub(in crate::data) fn looks_like_ids(&self) -> Option<u32> {
        let numbers = self.texts.as_ref().map(written_numbers);
        let highest = match numbers {
            Some(numbers) => numbers?.into_iter().max(),
            None if self.names.is_some() => None,
            None => self.rows.iter().copied().filter(|row| *row != UNKNOWN).max(),
        };
        highest.filter(|highest| *highest > 1000 && *highest as usize > self.rows.len().saturating_mul(10))
    }

    /// Class names, the label of each row, and what is to be said. Numbers without names are named by their digits, from 0 on, or
    /// from 1 on where no 0 occurs.
    pub(in crate::data) fn finish(mut self) -> (Vec<String>, Vec<u32>, Option<String>) {
        if let Some(numbers) = self.texts.as_ref().and_then(written_numbers) {
            self.rows.iter_mut().for_each(|row| *row = numbers.get(*row as usize).copied().unwrap_or(UNKNOWN));
            self.texts = None;
        }
        if let Some(texts) = self.texts {
            let mut sorted: Vec<(Box<str>, u32)> = texts.into_iter().collect();
            sorted.sort_unstable();
            let mut place = vec![UNKNOWN; sorted.len()];
            (0..).zip(&sorted).for_each(|(new, (_, old))| {
                if let Some(place) = place.get_mut(*old as usize) {
                    *place = new;
                }
            });
            let rows = self.rows.iter().map(|row| place.get(*row as usize).copied().unwrap_or(UNKNOWN)).collect();
            return (sorted.into_iter().map(|(text, _)| text.into()).collect(), rows, None);
        }
        let known = || self.rows.iter().copied().filter(|row| *row != UNKNOWN);
        let (lowest, highest) = (known().min(), known().max());
        match (self.names, highest) {
            (Some((names, source)), _) => {
                let notice = (!source.is_empty() && source != super::METADATA).then(|| format!("class names are taken from {source}"));
                (names, self.rows, notice)
            }
            // that they are not words is seen where the user's own list of names is known
            (None, Some(highest)) => {
                let first = u32::from(lowest == Some(1));
                self.rows.iter_mut().filter(|row| **row != UNKNOWN).for_each(|row| *row -= first);
                ((first..=highest).map(|i| i.to_string()).collect(), self.rows, None)
            }
            (None, None) => (Vec::new(), self.rows, None),
        }
    }
}

/// Whether a text stands for no label.
pub(super) fn is_none(text: &str) -> bool {
    text.trim().is_empty() || PLACEHOLDERS.contains(&text.trim())
}

/// The numbers that all texts write ("0", "12", also "12.0"), by the place that each text has now; `None` if one is not a whole
/// number, so that all are names.
fn written_numbers(texts: &HashMap<Box<str>, u32>) -> Option<Vec<u32>> {
    let mut numbers = vec![UNKNOWN; texts.len()];
    for (text, place) in texts {
        let whole = text.split_once('.').filter(|(_, rest)| !rest.is_empty() && rest.bytes().all(|byte| byte == b'0'));
        let text = whole.map_or(&**text, |(whole, _)| whole);
        let number = text.parse::<u32>().ok().filter(|number| *number < MOST_CLASSES && number.to_string() == text)?;
        *numbers.get_mut(*place as usize)? = number;
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_all_whole_numbers_are_numbers() {
        let numbers = |texts: &[&str]| written_numbers(&(0..).zip(texts).map(|(i, text)| ((*text).into(), i)).collect());
        assert_eq!(numbers(&["0.0", "3.0", "12"]), Some(vec![0, 3, 12]));
        for names in [["1.0", "1.5"], ["1.", "2"], ["1.0", "cat"], ["-2.0", "1.0"], ["007", "1"]] {
            assert_eq!(numbers(&names), None, "{names:?}");
        }
    }
}
