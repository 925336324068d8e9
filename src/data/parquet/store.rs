//! [`Store`]: encoded pictures by row, read from the files' pages when they are asked for.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use parquet::column::page::PageReader;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::serialized_reader::SerializedPageReader;

use super::layout::{Leaf, Pictures};
use super::read_at::ReadAt;
use crate::catch_panic::catch_panic;

/// One file: its footer, and which columns hold its pictures.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) meta: ParquetMetaData,
    pub(super) pictures: Pictures,
}

/// The pages of one row group. A page is the smallest part that can be read: some pictures, compressed together.
struct Group {
    source: usize,
    /// Its place in the file.
    index: usize,
    /// Its first row among those of all files.
    first: usize,
    rows: usize,
    /// First row of each page, counted in the group: of the bytes, of the paths. Known once a page was asked for.
    starts: [OnceLock<Vec<usize>>; 2],
}

/// Which of a picture's two columns.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Bytes,
    Path,
}

/// The pictures' columns of all files, one file after the other. Pages that were read stay in memory up to a limit, those
/// asked for last; reading is thread-safe, and two threads that need one page read it once.
pub(super) struct Store {
    sources: Vec<Source>,
    /// First row of each file.
    firsts: Vec<usize>,
    groups: Vec<Group>,
    rows: usize,
    pages: Mutex<Pages>,
}

/// Values of one page, or why it cannot be read. Shared buffers: a value is not a copy.
type Page = Result<Vec<Option<ByteArray>>, String>;

/// Group, part, page.
type Key = (usize, u8, usize);

struct Kept {
    page: Arc<OnceLock<Page>>,
    bytes: usize,
    used: u64,
}

struct Pages {
    kept: HashMap<Key, Kept>,
    bytes: usize,
    clock: u64,
    limit: usize,
}

/// Bytes of pages that threads read from at a time: one of about a megabyte each, and those that the next pictures lie in.
const IN_USE: usize = 64 << 20;
/// Pictures of more than so many times the limit are too many to be kept.
const MULTIPLE: usize = 4;

/// Bytes that the pictures of a file take once they are unpacked.
fn bytes(source: &Source) -> usize {
    let Some(leaf) = &source.pictures.bytes else { return 0 };
    let sizes = source.meta.row_groups().iter().map(|group| group.column(leaf.index).uncompressed_size());
    sizes.map(|size| usize::try_from(size).unwrap_or(0)).fold(0, usize::saturating_add)
}

impl Store {
    /// `limit`: bytes of pages that stay in memory; of pictures that take a multiple of it, pages are dropped before they are asked for
    /// again, so only those in use stay, up to [`IN_USE`].
    pub(super) fn new(sources: Vec<Source>, limit: usize) -> Self {
        let all: usize = sources.iter().map(bytes).fold(0, usize::saturating_add);
        let limit = if all / MULTIPLE > limit { limit.min(IN_USE) } else { limit };
        let (mut firsts, mut groups, mut rows) = (Vec::new(), Vec::new(), 0);
        for (at, source) in sources.iter().enumerate() {
            firsts.push(rows);
            for (index, group) in source.meta.row_groups().iter().enumerate() {
                let count = usize::try_from(group.num_rows()).unwrap_or(0);
                groups.push(Group { source: at, index, first: rows, rows: count, starts: Default::default() });
                rows += count;
            }
        }
        Self { sources, firsts, groups, rows, pages: Mutex::new(Pages { kept: HashMap::new(), bytes: 0, clock: 0, limit }) }
    }

    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// The file of a row, and the row's place in it.
    pub(super) fn place(&self, row: usize) -> Option<(&Source, usize)> {
        let source = self.groups.get(self.group_of(row)?)?.source;
        Some((self.sources.get(source)?, row - self.firsts.get(source)?))
    }

    /// Another number once the pictures of the row's group take other room in the file: nothing is read for it.
    pub(super) fn stamp(&self, row: usize) -> u64 {
        let Some(group) = self.group_of(row).and_then(|at| self.groups.get(at)) else { return 0 };
        let Some(source) = self.sources.get(group.source) else { return 0 };
        let leaf = source.pictures.bytes.as_ref().or(source.pictures.path.as_ref());
        let (start, len) = leaf.map_or((0, 0), |leaf| source.meta.row_group(group.index).column(leaf.index).byte_range());
        start.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ len.rotate_left(32) ^ (row - group.first) as u64
    }

    fn group_of(&self, row: usize) -> Option<usize> {
        // groups without rows share their first row with the next
        (row < self.rows).then(|| self.groups.partition_point(|group| group.first <= row).checked_sub(1)).flatten()
    }

    /// One row's value of one part; `None` if it is null, or the file lacks this column.
    pub(super) fn get(&self, row: usize, part: Part) -> Result<Option<ByteArray>, String> {
        let Some(at) = self.group_of(row) else { return Ok(None) };
        let Some(group) = self.groups.get(at) else { return Ok(None) };
        let Some(source) = self.sources.get(group.source) else { return Ok(None) };
        let leaf = match part {
            Part::Bytes => &source.pictures.bytes,
            Part::Path => &source.pictures.path,
        };
        let Some(leaf) = leaf else { return Ok(None) };
        let row = row - group.first;
        let starts = &group.starts[part as usize];
        let starts = match starts.get() {
            Some(known) => known,
            // what fails once is tried again: the disk may be far away
            None => {
                let read = caught(|| page_starts(source, group, leaf))?;
                starts.get_or_init(|| read)
            }
        };
        let page = starts.partition_point(|start| *start <= row).saturating_sub(1);
        let start = starts.get(page).copied().unwrap_or(0);
        let end = starts.get(page + 1).copied().unwrap_or(group.rows).min(group.rows);
        let (key, kept) = ((at, part as u8, page), self.kept((at, part as u8, page)));
        // Outside of the lock: other pages are read meanwhile, and whoever needs this one waits here.
        let values = kept.get_or_init(|| caught(|| read_page(source, group, leaf, start, end)));
        self.count(key, values);
        if values.is_err() {
            self.forget(key);
        }
        Ok(values.as_ref()?.get(row - start).cloned().flatten())
    }

    /// The place of a page, filled or not.
    fn kept(&self, key: Key) -> Arc<OnceLock<Page>> {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.clock += 1;
        let used = pages.clock;
        let kept = pages.kept.entry(key).or_insert_with(|| Kept { page: Arc::default(), bytes: 0, used });
        kept.used = used;
        kept.page.clone()
    }

    /// A page that could not be read is read again when it is asked for.
    fn forget(&self, key: Key) {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = pages.kept.remove(&key) {
            pages.bytes -= kept.bytes;
        }
    }

    /// Counts a page that was just read, and drops those that were not asked for the longest if there are too many.
    fn count(&self, key: Key, page: &Page) {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(kept) = pages.kept.get_mut(&key).filter(|kept| kept.bytes == 0) else { return };
        let values = page.as_ref().map(Vec::as_slice).unwrap_or_default();
        let bytes: usize = values.iter().map(|value| size_of_val(value) + value.as_ref().map_or(0, ByteArray::len)).sum();
        kept.bytes = bytes.max(1);
        pages.bytes += bytes.max(1);
        if pages.bytes <= pages.limit {
            return;
        }
        // Down to seven eighths in one go, because this looks at every page.
        let mut order: Vec<(u64, Key, usize)> = pages.kept.iter().map(|(key, kept)| (kept.used, *key, kept.bytes)).collect();
        order.sort_unstable();
        for (_, old, bytes) in order {
            if pages.bytes <= pages.limit / 8 * 7 || old == key {
                break;
            }
            pages.kept.remove(&old);
            pages.bytes -= bytes;
        }
    }

    /// Bytes of pages in memory now.
    #[cfg(test)]
    pub(super) fn in_memory(&self) -> usize {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }
}

/// The Parquet reader panics on some damaged files (it asserts what a footer says).
pub(super) fn caught<T>(f: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    match catch_panic(f) {
        Some(result) => result.map_err(|error| line(&error)),
        None => Err("its parts contradict each other".to_string()),
    }
}

/// The reader's error in one line.
pub(super) fn line(error: &ParquetError) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or("unreadable").trim_start_matches("Parquet error: ").to_string()
}

/// The pages of one column in one row group.
pub(super) fn pages(source: &Source, group: usize, leaf: &Leaf) -> Result<SerializedPageReader<ReadAt>, ParquetError> {
    // Opened anew: a data set may have more files than a process may hold open.
    let file = Arc::new(ReadAt::open(&source.path)?);
    let group = source.meta.row_group(group);
    SerializedPageReader::new(file, group.column(leaf.index), usize::try_from(group.num_rows()).unwrap_or(0), None)
}

/// All values of a column in one row group.
pub(super) fn column(source: &Source, index: usize, leaf: &Leaf) -> Result<Vec<Option<ByteArray>>, ParquetError> {
    let rows = usize::try_from(source.meta.row_group(index).num_rows()).unwrap_or(0);
    read_page(source, &Group { source: 0, index, first: 0, rows, starts: Default::default() }, leaf, 0, rows)
}

/// First row of each page, from the pages' headers alone.
fn page_starts(source: &Source, group: &Group, leaf: &Leaf) -> Result<Vec<usize>, ParquetError> {
    let mut pages = pages(source, group.index, leaf)?;
    let (mut starts, mut row) = (Vec::new(), 0usize);
    while row < group.rows {
        let Some(page) = pages.peek_next_page()? else {
            return Err(ParquetError::EOF(format!("column \"{}\" ends after {row} of {} rows", leaf.name, group.rows)));
        };
        if !page.is_dict {
            starts.push(row);
            row = row.saturating_add(page.num_rows.or(page.num_levels).unwrap_or(0));
        }
        pages.skip_next_page()?;
    }
    Ok(starts)
}

/// Rows `start..end` of a group, which are those of one page.
fn read_page(source: &Source, group: &Group, leaf: &Leaf, start: usize, end: usize) -> Result<Vec<Option<ByteArray>>, ParquetError> {
    let pages = pages(source, group.index, leaf)?;
    let mut reader = ColumnReaderImpl::<ByteArrayType>::new(leaf.descr.clone(), Box::new(pages));
    let (max, wanted) = (leaf.descr.max_def_level(), end.saturating_sub(start));
    let short = |rows: usize| ParquetError::EOF(format!("column \"{}\" ends after {rows} of {} rows", leaf.name, group.rows));
    let skipped = reader.skip_records(start)?;
    if skipped < start {
        return Err(short(skipped));
    }
    let (mut rows, mut levels, mut values) = (Vec::new(), Vec::new(), Vec::new());
    while rows.len() < wanted {
        levels.clear();
        values.clear();
        let (read, ..) = reader.read_records(wanted - rows.len(), Some(&mut levels), None, &mut values)?;
        if read == 0 {
            return Err(short(start + rows.len()));
        }
        let mut values = values.drain(..);
        // A column that cannot be null has no levels.
        rows.extend((0..read).map(|row| if max == 0 || levels.get(row) == Some(&max) { values.next() } else { None }));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use parquet::column::writer::ColumnWriter;
    use parquet::file::metadata::ParquetMetaDataReader;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    #[test]
    fn memory_stays_at_its_limit_whatever_the_order() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let schema = Arc::new(parse_message_type("message m { required binary image; }").unwrap());
        let properties = WriterProperties::builder().set_data_page_size_limit(1000).set_write_batch_size(2).set_dictionary_enabled(false);
        let mut writer = SerializedFileWriter::new(File::create(file.path()).unwrap(), schema, Arc::new(properties.build())).unwrap();
        for part in 0..4u8 {
            let mut group = writer.next_row_group().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            let values: Vec<ByteArray> = (0..50u8).map(|row| vec![part * 50 + row; 300].into()).collect();
            let ColumnWriter::ByteArrayColumnWriter(typed) = column.untyped() else { panic!("not bytes") };
            typed.write_batch(&values, None, None).unwrap();
            column.close().unwrap();
            group.close().unwrap();
        }
        writer.close().unwrap();
        for limit in [1, 5000, 1 << 20] {
            let meta = ParquetMetaDataReader::new().parse_and_finish(&File::open(file.path()).unwrap()).unwrap();
            let descr = meta.file_metadata().schema_descr().column(0);
            let leaf = Leaf { index: 0, name: "image".into(), kind: descr.physical_type(), descr };
            let pictures = Pictures { name: "image".into(), bytes: Some(leaf), path: None };
            let store = Store::new(vec![Source { path: file.path().to_path_buf(), meta, pictures }], limit);
            for i in 0..400 {
                let row = i * 77 % 200;
                assert_eq!(store.get(row, Part::Bytes).unwrap().unwrap().data(), [row as u8; 300]);
                // at most one page more than the limit: the one that is in use
                assert!(store.in_memory() <= limit + 2000, "{} of {limit}", store.in_memory());
            }
            assert_eq!((store.place(123).unwrap().1, store.len()), (123, 200));
            assert_eq!(bytes(&store.sources[0]) / 60_000, 1, "200 pictures of 300 bytes");
            assert!(store.get(200, Part::Bytes).unwrap().is_none() && store.get(0, Part::Path).unwrap().is_none());
        }
    }
}
