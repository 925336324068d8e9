//! [`Splits`]: what a column of texts says of the split of each row.

use std::collections::BTreeSet;

use super::labels::is_none;
use super::layout::{Leaf, plain};
use super::store::{self, Source, caught};
use crate::data::findings::Findings;
use crate::data::options::OpenOptions;
use crate::data::split::{Split, choose, of_one};
use crate::data::split_files::Chosen;
use crate::error::Result;

/// Words of the column that a notice shows.
const SHOWN: usize = 3;

/// The split of each row, as far as the column of its file names one.
#[derive(Default)]
pub(super) struct Splits {
    /// The name of the column; `None` if no file has one.
    column: Option<String>,
    rows: Vec<Option<&'static str>>,
    /// Other words, no more than show that there are some.
    others: BTreeSet<String>,
}

impl Splits {
    /// Adds the rows of one file, which follow on `before` others.
    ///
    /// # Errors
    /// What is wrong with its pages.
    pub(super) fn read(&mut self, source: &Source, leaf: &Leaf, before: usize) -> Result<(), String> {
        self.column.get_or_insert_with(|| leaf.name.clone());
        self.rows.resize(before, None); // files without such a column
        for index in 0..source.meta.num_row_groups() {
            for value in caught(|| store::column(source, index, leaf))? {
                let word = value.map(|value| String::from_utf8_lossy(value.data()).trim().to_string()).filter(|word| !is_none(word));
                let split = word.as_deref().and_then(|word| word.parse::<Split>().ok()).map(Split::as_str);
                self.others.extend(word.filter(|_| split.is_none() && self.others.len() <= SHOWN));
                self.rows.push(split);
            }
        }
        Ok(())
    }

    /// Which of all `count` rows are of the wanted split, where the files' names tell none and the column does, by the rule of metadata
    /// files; `None` if all are taken. What was found goes to `findings`.
    ///
    /// # Errors
    /// [`Error::Data`](crate::Error::Data) if the wanted split is not there, or none is wanted of several.
    pub(super) fn choose(
        mut self,
        count: usize,
        chosen: &Chosen,
        options: &OpenOptions,
        origin: &str,
        findings: &mut Findings,
    ) -> Result<Option<Vec<usize>>> {
        let Some(column) = self.column else { return Ok(None) };
        let notices = &mut findings.notices;
        self.rows.resize(count, None);
        let found: BTreeSet<&str> = self.rows.iter().copied().flatten().collect();
        // If the column is called split, other words among the splits are left out.
        if found.is_empty() || !(self.others.is_empty() || plain(&column) == "split") {
            let words: Vec<&str> = found.into_iter().chain(self.others.iter().map(String::as_str)).collect();
            if chosen.split.is_none() && words.len() > 1 {
                let (some, more) = (words[..SHOWN.min(words.len())].join(", "), if words.len() > SHOWN { ", …" } else { "" });
                notices.push(format!("column \"{column}\" ({some}{more}) does not say train, val or test: no split is read from it"));
            }
            return Ok(None);
        }
        let found: Vec<&str> = found.into_iter().collect();
        if let Some(split) = &chosen.split {
            if found.len() > 1 {
                let found = found.join(", ");
                notices.push(format!("the files' names say split \"{split}\", and column \"{column}\" says {found}: the names count"));
            }
            return Ok(None);
        }
        let unknown = self.rows.iter().filter(|row| row.is_none()).count();
        if unknown > 0 {
            let what = if found.len() > 1 { "left out" } else { "taken like the others" };
            notices.push(format!("{unknown} of {count} rows are of no split in column \"{column}\" (train, val, test): they are {what}"));
        }
        match found.as_slice() {
            [only] => {
                let place = format!("column \"{column}\"");
                notices.extend(of_one(only, chosen.wanted.as_deref(), options, origin, &place)?);
                Ok(None)
            }
            found => {
                let split = choose(found, chosen.wanted.as_deref(), origin)?;
                findings.rule = Some(format!("rows of split \"{split}\", as column \"{column}\" says"));
                Ok(Some((0..count).filter(|row| self.rows[*row] == Some(split)).collect()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;
    use std::sync::Arc;

    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use crate::data::{Dataset, OpenOptions, open};

    /// Pictures next to a column of words.
    fn write(path: &Path, column: &str, words: &[Option<&str>]) {
        let schema = format!("message m {{ required binary image; optional binary {column} (UTF8); }}");
        let schema = Arc::new(parse_message_type(&schema).unwrap());
        let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, Default::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let levels: Vec<i16> = words.iter().map(|word| i16::from(word.is_some())).collect();
        let values: Vec<ByteArray> = words.iter().flatten().map(|word| ByteArray::from(*word)).collect();
        let pictures = vec![ByteArray::from("x"); words.len()];
        for (values, levels) in [(pictures, None), (values, Some(levels.as_slice()))] {
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&values, levels, None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
    }

    fn test_split(path: &Path) -> Dataset {
        open(&format!("{}:test", path.display()), &OpenOptions::default()).unwrap()
    }

    #[test]
    fn rows_of_no_split_are_left_out_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.parquet");
        for (column, words, said) in [
            ("split", [Some("train"), Some("test"), Some("holdout"), None], "2 of 4 rows are of no split in column \"split\""),
            ("subset", [Some("train"), Some("test"), Some("val"), None], "1 of 4 rows are of no split in column \"subset\""),
        ] {
            write(&file, column, &words);
            let set = test_split(&file);
            assert_eq!((set.len(), set.name(0).ends_with("row 1")), (1, true), "{column}");
            let notices = set.findings().notices.join(" ");
            assert!(notices.contains(said) && notices.contains("left out"), "{notices}");
        }
        // nor are those of a file without the column taken
        write(&folder.path().join("b.parquet"), "kind", &[Some("x"), Some("y")]);
        let set = test_split(folder.path());
        assert!(set.len() == 1 && set.findings().notices.join(" ").contains("3 of 6 rows"), "{:?}", set.findings());
    }

    #[test]
    fn a_column_that_says_no_split_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.parquet");
        for (column, words) in [
            ("set", [Some("train"), Some("blue"), Some("test")]),
            ("split", [Some("a"), Some("b"), None]),
            ("partition", [Some("1"), Some("2"), Some("3")]),
        ] {
            write(&file, column, &words);
            let set = test_split(&file);
            let notices = set.findings().notices.join(" ");
            assert!(set.len() == 3 && notices.contains(&format!("column \"{column}\"")), "{notices}");
            assert!(notices.contains("does not say train, val or test"), "{notices}");
        }
    }
}
