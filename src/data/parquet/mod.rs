//! Parquet files in the hub's image layout.
//!
//! A picture column (`img`, `image`, or the one the metadata calls an Image) is a struct {bytes, path}, plain bytes, or paths of
//! files next to the Parquet file; a label column holds class indices, named in the metadata's `huggingface` entry
//! (`info.features.<column>.names`) or in the [card](super::card), or class names themselves. Opening reads footers and labels;
//! a picture is read from its page when it is asked for.

pub(in crate::data) mod labels;
mod layout;
mod predictions;
mod read_at;
mod splits;
mod store;

use std::path::{Component, Path, PathBuf};

use base64::Engine;
use image::RgbImage;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::statistics::Statistics;
use serde_json::Value;

use self::labels::{Labels, UNKNOWN};
use self::layout::Layout;
use self::predictions::holds_predictions;
pub(crate) use self::predictions::{PREDICTIONS_MARK, instead_of_predictions, is_predictions};
use self::read_at::ReadAt;
use self::splits::Splits;
use self::store::{Part, Source, Store, caught, line};
use crate::data::card::Card;
use crate::data::decode::{decode, decode_file};
use crate::data::findings::Findings;
use crate::data::options::OpenOptions;
use crate::data::slow::Slow;
use crate::data::source::ImageSource;
use crate::data::split_files::Chosen;
use crate::error::{Error, Result, cut};
use crate::files::{fnv, version};
use crate::progress::Event;

/// Where class names come from if nothing need be said about it.
const METADATA: &str = "the metadata";

/// The files, one after the other.
struct Parquet {
    origin: String,
    classes: Vec<String>,
    labels: Vec<u32>,
    store: Store,
    findings: Findings,
}

/// Opens Parquet files as one data set; `chosen` says how they were chosen, and what else there is. Where the files' names tell
/// no split and a column does, the rows of the wanted split come with it.
pub(crate) fn open(
    paths: &[PathBuf],
    origin: &str,
    options: &OpenOptions,
    chosen: &Chosen,
    events: &mut dyn FnMut(&Event),
) -> Result<(impl ImageSource + use<>, Option<Vec<usize>>)> {
    let mut labels = Labels::default();
    let mut findings = Findings { rule: chosen.rule.clone(), notices: chosen.notices.clone(), has_columns: true, ..Findings::default() };
    let (mut sources, mut column, mut nulls) = (Vec::new(), None, 0);
    let mut splits = Splits::default();
    let mut slow = Slow::new(events, "reading labels", paths.len(), "files");
    for (done, path) in paths.iter().enumerate() {
        slow.done(done)?;
        let opened = open_file(path, options.label_column.as_deref())?;
        if let (None, true, Some(reason)) = (&opened.layout.label, findings.unlabeled.is_none(), &opened.layout.unlabeled) {
            findings.unlabeled = Some(reason.clone());
        }
        findings.notices.extend(opened.layout.notice.clone().filter(|notice| !findings.notices.contains(notice)));
        if let (Some((names, from)), Some(_)) = (opened.names, &opened.layout.label) {
            labels.name(names, from, &path.display().to_string())?;
        }
        column = column.or(opened.layout.label.as_ref().map(|leaf| leaf.name.clone()));
        nulls += null_pictures(&opened.meta, &opened.layout);
        let source = Source { path: path.clone(), meta: opened.meta, pictures: opened.layout.pictures.clone() };
        let before = labels.len();
        read_labels(&source, &opened.layout, &mut labels)?;
        if let Some(leaf) = &opened.layout.split {
            splits.read(&source, leaf, before).map_err(|fault| broken(path, &fault))?;
        }
        sources.push(source);
    }
    slow.done(paths.len())?;
    if labels.len() == 0 {
        return Err(Error::Data(format!("{origin}: the Parquet files hold no rows: fetch them again, or name another split")));
    }
    if nulls > 0 {
        let by_path = sources.iter().any(|source: &Source| source.pictures.path.is_some());
        let what = if by_path { "no picture's bytes: the files that their paths name are read" } else { "no picture (null)" };
        findings.notices.push(format!("{nulls} of {} rows hold {what}", labels.len()));
    }
    let rows = splits.choose(labels.len(), chosen, options, origin, &mut findings)?;
    let column = column.as_deref().unwrap_or("label");
    if let (Some(highest), None) = (labels.looks_like_ids(), &options.label_column) {
        let all = labels.len();
        findings.unlabeled = Some(format!(
            "column \"{column}\" goes up to {highest} in {all} rows, as ids do: name the label column with --label-column, be it this one"
        ));
        labels = Labels::default();
        labels.unknown(all);
    }
    let (hidden, placeholder) = (labels.hidden, labels.placeholder);
    let (classes, labels, notice) = labels.finish();
    findings.notices.extend(notice);
    if hidden > 0 {
        let (all, or) = (labels.len(), placeholder.map_or(String::new(), |text| format!(" or \"{text}\" (rename it if it is a class)")));
        let text = format!(
            "{hidden} of {all} labels in column \"{column}\" are -1 or null{or}, as the hub marks hidden ones: {}",
            chosen.instead()
        );
        findings.unlabeled = Some(text);
    }
    let store = Store::new(sources, options.memory_limit);
    let opened = Parquet { origin: origin.to_string(), classes, labels, store, findings };
    opened.try_first()?;
    Ok((opened, rows))
}

/// What a file's footer tells.
struct Opened {
    meta: ParquetMetaData,
    layout: Layout,
    /// The class names of its label column, and where they come from.
    names: Option<(Vec<String>, String)>,
}

fn open_file(path: &Path, label_column: Option<&str>) -> Result<Opened> {
    let meta = footer(path)?;
    if holds_predictions(&meta) {
        return Err(Error::Data(instead_of_predictions(path)));
    }
    let features = features(&meta);
    let card = std::cell::OnceCell::new();
    let names = |column: &str| {
        let list = features.get(column).and_then(|feature| feature.get("names")).and_then(Value::as_array);
        let list = list.map(|names| names.iter().filter_map(|name| name.as_str().map(str::to_string)).collect::<Vec<_>>());
        let from_card = || {
            let card: &Option<Card> = card.get_or_init(|| Card::near(path));
            card.as_ref().and_then(|card| Some((card.names(column, path)?, card.path().display().to_string())))
        };
        list.filter(|names| !names.is_empty()).map(|names| (names, METADATA.to_string())).or_else(from_card)
    };
    let schema = meta.file_metadata().schema_descr();
    let layout = Layout::find(schema, &features, label_column, &|column| names(column).is_some(), &path.display().to_string())?;
    let names = layout.label.as_ref().filter(|leaf| leaf.kind != parquet::basic::Type::BYTE_ARRAY).and_then(|leaf| names(&leaf.name));
    Ok(Opened { meta, layout, names })
}

/// The footer, with each part that it points to inside the file.
fn footer(path: &Path) -> Result<ParquetMetaData> {
    let file = ReadAt::open(path).map_err(|e| Error::io(path, e))?;
    let size = file.len();
    let meta = caught(|| {
        let meta = ParquetMetaDataReader::new().parse_and_finish(&file)?;
        for group in meta.row_groups() {
            let rows = u64::try_from(group.num_rows()).unwrap_or(u64::MAX);
            let ends = group.columns().iter().map(|column| column.byte_range()).map(|(start, len)| start.saturating_add(len));
            if ends.max().unwrap_or(0) > size {
                return Err(ParquetError::EOF(format!("its {size} bytes end before its pages do")));
            }
            if rows > size.saturating_mul(1000) {
                return Err(ParquetError::General(format!("it claims {rows} rows in {size} bytes")));
            }
        }
        Ok(meta)
    });
    meta.map_err(|fault| match file.get_bytes(0, size.min(24) as usize) {
        Ok(head) if head.starts_with(b"version https://git-lfs") => {
            let shown = path.display();
            Error::Data(format!(
                "{shown}: is not the file but Git LFS's note of it: run git lfs pull there, or name the set as hf:owner/name"
            ))
        }
        _ => broken(path, &fault),
    })
}

fn features(meta: &ParquetMetaData) -> Value {
    let entries = meta.file_metadata().key_value_metadata();
    entries
        .and_then(|entries| entries.iter().find(|entry| entry.key == "huggingface"))
        .and_then(|entry| serde_json::from_str::<Value>(entry.value.as_deref()?).ok())
        .and_then(|meta| meta.pointer("/info/features").cloned())
        .unwrap_or(Value::Null)
}

fn broken(path: &Path, fault: &str) -> Error {
    let shown = path.display();
    Error::Data(if fault.contains("Disabled feature") || fault.contains("codec type") {
        format!("{shown}: its compression is not supported: {fault}: write it again with snappy or zstd")
    } else if fault.contains("encrypt") {
        format!("{shown}: is encrypted ({fault}): write it again without encryption")
    } else {
        format!("{shown}: not a whole Parquet file: {fault}: fetch it again")
    })
}

fn read_labels(source: &Source, layout: &Layout, labels: &mut Labels) -> Result<()> {
    let (path, shown) = (&source.path, source.path.display().to_string());
    for (index, group) in source.meta.row_groups().iter().enumerate() {
        let rows = usize::try_from(group.num_rows()).unwrap_or(0);
        match &layout.label {
            None => labels.unknown(rows),
            Some(leaf) => {
                let pages = caught(|| store::pages(source, index, leaf)).map_err(|fault| broken(path, &fault))?;
                let fault = |error: &ParquetError| broken(path, &line(error));
                // What was read is dropped with the panic.
                let read = crate::catch_panic::catch_panic(|| labels.read(Box::new(pages), leaf, rows, &shown, &fault));
                read.unwrap_or_else(|| Err(broken(path, "its parts contradict each other")))?;
            }
        }
    }
    Ok(())
}

/// Rows without bytes, as far as the footer counts them.
fn null_pictures(meta: &ParquetMetaData, layout: &Layout) -> u64 {
    let Some(bytes) = &layout.pictures.bytes else { return 0 };
    let counts = meta.row_groups().iter().filter_map(|group| group.column(bytes.index).statistics().and_then(Statistics::null_count_opt));
    counts.sum()
}

impl Parquet {
    /// Reads the first picture's bytes, so that a codec that is missing, damage, or paths that lead nowhere are said at once.
    fn try_first(&self) -> Result<()> {
        let Some((source, _)) = self.store.place(0) else { return Ok(()) };
        let fault = |fault: String| broken(&source.path, &fault);
        if self.bytes(0).map_err(fault)?.is_none()
            && let Some(value) = self.store.get(0, Part::Path).map_err(fault)?
        {
            let path = String::from_utf8_lossy(value.data()).into_owned();
            if from_base64(&path).is_some() {
                return Ok(());
            }
            if next_to(&source.path, &path).is_none_or(|file| !file.is_file()) {
                let (shown, name) = (source.path.display(), &source.pictures.name);
                let remedy = "put the files there, or store the pictures' bytes";
                let path = cut(&path);
                return Err(Error::Data(format!(
                    "{shown}: column \"{name}\" holds paths ({path}), but there is no such file next to it: {remedy}"
                )));
            }
        }
        Ok(())
    }

    /// The picture's bytes; `None` if they are null or empty.
    fn bytes(&self, i: usize) -> std::result::Result<Option<parquet::data_type::ByteArray>, String> {
        Ok(self.store.get(i, Part::Bytes)?.filter(|bytes| !bytes.is_empty()))
    }
}

/// The file that a path in a row means: below the Parquet file's folder or the one above it, never outside.
fn next_to(file: &Path, path: &str) -> Option<PathBuf> {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if path.is_empty() || !plain {
        return None;
    }
    let found: Vec<PathBuf> = file.ancestors().skip(1).take(2).map(|folder| folder.join(path)).collect();
    found.iter().find(|path| path.is_file()).or(found.first()).cloned()
}

/// A picture written as a text: `data:image/png;base64,…`, or what follows the comma alone.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_prefix("data:").and_then(|text| text.split_once(";base64,")).map_or(text, |(_, text)| text).trim();
    if text.len() < 64 {
        return None; // a path
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    image::guess_format(&bytes).is_ok().then_some(bytes)
}

impl ImageSource for Parquet {
    fn len(&self) -> usize {
        self.store.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, i: usize) -> Option<usize> {
        self.labels.get(i).filter(|label| **label != UNKNOWN).map(|label| *label as usize)
    }

    fn name(&self, i: usize) -> String {
        match self.store.place(i) {
            Some((source, row)) => format!("{}, row {row}", source.path.display()),
            None => format!("{}, row {i}", self.origin),
        }
    }

    fn image(&self, i: usize) -> Result<RgbImage> {
        let fault = |fault: String| Error::Image(format!("{}: its page cannot be read ({fault}): fetch the file again", self.name(i)));
        if let Some(bytes) = self.bytes(i).map_err(fault)? {
            return decode(bytes.data(), &self.name(i));
        }
        let Some(path) = self.store.get(i, Part::Path).map_err(fault)? else {
            return Err(Error::Image(format!("{}: holds no bytes for this picture", self.name(i))));
        };
        let path = String::from_utf8_lossy(path.data()).into_owned();
        if let Some(bytes) = from_base64(&path) {
            return decode(&bytes, &self.name(i));
        }
        let file = self.store.place(i).and_then(|(source, _)| next_to(&source.path, &path)).filter(|file| file.is_file());
        match file {
            Some(file) => decode_file(file),
            None => {
                Err(Error::Image(format!("{}: holds no bytes, and there is no file at its path ({}) next to it", self.name(i), cut(&path))))
            }
        }
    }

    fn origin(&self) -> String {
        self.origin.clone()
    }

    fn stamp(&self, i: usize) -> u64 {
        self.store.stamp(i)
    }

    /// That of the Parquet file and, since bytes may be missing or empty, of the file that the row's path means. Pictures of which paths
    /// alone are known have none.
    fn version(&self, i: usize) -> u64 {
        let Some((source, _)) = self.store.place(i) else { return 0 };
        if source.pictures.bytes.is_none() && source.pictures.path.is_some() {
            return 0;
        }
        let Ok(path) = self.store.get(i, Part::Path) else { return 0 };
        let beside = path.and_then(|path| next_to(&source.path, &String::from_utf8_lossy(path.data()))).filter(|file| file.is_file());
        match (version(&source.path), beside.map(|file| version(&file))) {
            (0, _) | (_, Some(0)) => 0,
            (own, None) => own,
            (own, Some(beside)) => fnv(&[own, beside].map(u64::to_le_bytes).concat()).max(1),
        }
    }

    fn findings(&self) -> Findings {
        self.findings.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Arc;

    use parquet::column::writer::ColumnWriter;
    use parquet::data_type::ByteArray;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use crate::data::{OpenOptions, open};

    /// Bytes may be empty, and then a path means a file.
    #[test]
    fn a_file_that_a_path_means_is_seen_to_change() {
        let folder = tempfile::tempdir().unwrap();
        let (file, beside) = (folder.path().join("pictures.parquet"), folder.path().join("a.png"));
        let schema = "message m { required group image { required binary bytes; required binary path (UTF8); } }";
        let mut writer =
            SerializedFileWriter::new(File::create(&file).unwrap(), Arc::new(parse_message_type(schema).unwrap()), Default::default())
                .unwrap();
        let mut group = writer.next_row_group().unwrap();
        for values in [["", "bytes"], ["a.png", "nowhere.png"]] {
            let mut column = group.next_column().unwrap().unwrap();
            let ColumnWriter::ByteArrayColumnWriter(typed) = column.untyped() else { panic!("not bytes") };
            typed.write_batch(&values.map(ByteArray::from), None, None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
        let picture = |side: u32| image::RgbImage::new(side, side).save(&beside).unwrap();
        picture(3);
        let set = open(&file.display().to_string(), &OpenOptions::default()).unwrap();
        let (first, second) = (set.take(1), set.subset(&[1]).unwrap());
        let before = [first.versions().unwrap(), second.versions().unwrap()];
        picture(4);
        assert_ne!(first.versions().unwrap(), before[0]);
        assert_eq!(second.versions().unwrap(), before[1]);
        std::fs::write(&file, "other").unwrap();
        assert_ne!(second.versions(), Some(before[1].clone()));
    }
}
