//! Parquet as people have it: columns of other names and types, cards, paths, codecs, hidden labels; and pictures read page by
//! page. The files are written here.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::{Rgb, RgbImage};
use lafter::data::{self, Dataset, OpenOptions, Split};
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use rayon::prelude::*;

/// One column's values.
#[derive(Clone)]
enum Values {
    Bytes(Vec<Option<Vec<u8>>>),
    Int(Vec<Option<i64>>),
    Int32(Vec<i32>),
    Double(Vec<f64>),
    Bool(Vec<bool>),
    List(Vec<Vec<i64>>),
}

impl Values {
    /// Rows `from..to`.
    fn part(&self, from: usize, to: usize) -> Self {
        match self {
            Self::Bytes(all) => Self::Bytes(all[from..to].to_vec()),
            Self::Int(all) => Self::Int(all[from..to].to_vec()),
            Self::Int32(all) => Self::Int32(all[from..to].to_vec()),
            Self::Double(all) => Self::Double(all[from..to].to_vec()),
            Self::Bool(all) => Self::Bool(all[from..to].to_vec()),
            Self::List(all) => Self::List(all[from..to].to_vec()),
        }
    }

    fn write(&self, writer: &mut ColumnWriter<'_>, max_def: i16) {
        let defined = |some: bool| if some { max_def } else { max_def - 1 };
        match (self, writer) {
            (Self::Bytes(all), ColumnWriter::ByteArrayColumnWriter(writer)) => {
                let values: Vec<ByteArray> = all.iter().flatten().map(|bytes| bytes.clone().into()).collect();
                let levels: Vec<i16> = all.iter().map(|value| defined(value.is_some())).collect();
                writer.write_batch(&values, Some(&levels), None).unwrap();
            }
            (Self::Int(all), ColumnWriter::Int64ColumnWriter(writer)) => {
                let values: Vec<i64> = all.iter().flatten().copied().collect();
                let levels: Vec<i16> = all.iter().map(|value| defined(value.is_some())).collect();
                writer.write_batch(&values, Some(&levels), None).unwrap();
            }
            (Self::Int32(all), ColumnWriter::Int32ColumnWriter(writer)) => {
                assert_eq!(writer.write_batch(all, None, None).unwrap(), all.len())
            }
            (Self::Double(all), ColumnWriter::DoubleColumnWriter(writer)) => {
                assert_eq!(writer.write_batch(all, None, None).unwrap(), all.len())
            }
            (Self::Bool(all), ColumnWriter::BoolColumnWriter(writer)) => {
                assert_eq!(writer.write_batch(all, None, None).unwrap(), all.len())
            }
            (Self::List(all), ColumnWriter::Int64ColumnWriter(writer)) => {
                let values: Vec<i64> = all.iter().flatten().copied().collect();
                let repeated: Vec<i16> = all.iter().flat_map(|row| (0..row.len()).map(|i| i16::from(i > 0))).collect();
                writer.write_batch(&values, Some(&vec![max_def; values.len()]), Some(&repeated)).unwrap();
            }
            _ => panic!("the schema and the values are of different types"),
        }
    }
}

struct Sheet<'a> {
    schema: &'a str,
    columns: Vec<Values>,
    /// The metadata's `huggingface` entry.
    features: Option<&'a str>,
    properties: parquet::file::properties::WriterPropertiesBuilder,
    rows_per_group: usize,
}

impl<'a> Sheet<'a> {
    /// Pictures as the hub has them, and further columns.
    fn new(columns: &'a str, pictures: Vec<Option<Vec<u8>>>, more: Vec<Values>) -> Self {
        let paths = Values::Bytes(vec![None; pictures.len()]);
        let columns_ = [vec![Values::Bytes(pictures), paths], more].concat();
        Self { schema: columns, columns: columns_, features: None, properties: WriterProperties::builder(), rows_per_group: usize::MAX }
    }

    fn write(self, path: &Path) -> PathBuf {
        const PICTURE: &str = "optional group image { optional binary bytes; optional binary path (UTF8); }";
        let text = format!("message schema {{ {} }}", self.schema.replace("IMAGE;", PICTURE));
        let schema = Arc::new(parse_message_type(&text).unwrap());
        let entry = self.features.map(|features| {
            vec![KeyValue { key: "huggingface".into(), value: Some(format!(r#"{{"info": {{"features": {features}}}}}"#)) }]
        });
        let properties = Arc::new(self.properties.set_key_value_metadata(entry).build());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, properties).unwrap();
        let rows = match &self.columns[0] {
            Values::Bytes(all) => all.len(),
            Values::List(all) => all.len(),
            _ => panic!("pictures come first"),
        };
        let depths: Vec<i16> = writer.schema_descr().columns().iter().map(|leaf| leaf.max_def_level()).collect();
        for from in (0..rows).step_by(self.rows_per_group.min(rows.max(1))) {
            let to = from.saturating_add(self.rows_per_group).min(rows);
            let mut group = writer.next_row_group().unwrap();
            for (values, depth) in self.columns.iter().zip(&depths) {
                let mut column = group.next_column().unwrap().unwrap();
                values.part(from, to).write(column.untyped(), *depth);
                column.close().unwrap();
            }
            group.close().unwrap();
        }
        writer.close().unwrap();
        path.to_path_buf()
    }
}

/// A PNG of one color.
fn png(value: usize) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    RgbImage::from_pixel(3, 2, Rgb([value as u8, (value >> 8) as u8, 7])).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn pngs(n: usize) -> Vec<Option<Vec<u8>>> {
    (0..n).map(|i| Some(png(i))).collect()
}

fn texts(all: &[&str]) -> Values {
    Values::Bytes(all.iter().map(|text| Some(text.as_bytes().to_vec())).collect())
}

fn open(path: &Path) -> lafter::Result<Dataset> {
    data::open(&path.display().to_string(), &OpenOptions::default())
}

fn says(text: &str, parts: &[&str]) {
    assert_eq!(text.lines().count(), 1, "{text}");
    parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} is not in: {text}"));
}

const NUMBER: &str = "IMAGE; optional int64 NAME;";

#[test]
fn label_columns_of_other_names_are_read_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.parquet");
    for name in ["class", "target", "Label", "category_id", "y"] {
        let set =
            open(&Sheet::new(&NUMBER.replace("NAME", name), pngs(3), vec![Values::Int(vec![Some(0), Some(2), Some(1)])]).write(&file))
                .unwrap();
        assert_eq!(set.labels(), Some(vec![0, 2, 1]), "{name}");
        assert!(set.findings().notices.iter().any(|notice| notice.contains(name) && notice.contains("--label-column")), "{name}");
        set.require_labels().unwrap();
    }
    let set =
        open(&Sheet::new("IMAGE; optional binary category (UTF8);", pngs(3), vec![texts(&["sea", "bear", ""])]).write(&file)).unwrap();
    assert_eq!((set.classes(), set.label(0), set.label(2)), (&["bear".to_string(), "sea".into()][..], Some(1), None));
    says(&set.require_labels().unwrap_err().to_string(), &["1 of 3 pictures have no label"]);
    // numbers that are written as texts stay numbers: class 1 has no picture here
    let set = open(&Sheet::new("IMAGE; optional binary label (UTF8);", pngs(3), vec![texts(&["0", "10", "2"])]).write(&file)).unwrap();
    assert_eq!((set.classes().len(), set.labels()), (11, Some(vec![0, 10, 2])));
    // a number next to its name
    let columns = "IMAGE; optional int64 label; optional binary label_text (UTF8);";
    let two = vec![Values::Int(vec![Some(1), Some(0)]), texts(&["sea", "bear"])];
    let set = open(&Sheet::new(columns, pngs(2), two.clone()).write(&file)).unwrap();
    assert_eq!((set.classes(), set.labels()), (&["bear".to_string(), "sea".into()][..], Some(vec![1, 0])));
    // two candidates: both are shown, with the option
    let set = open(&Sheet::new("IMAGE; optional int64 class; optional binary target (UTF8);", pngs(2), two).write(&file)).unwrap();
    assert!(set.classes().is_empty());
    says(&set.require_labels().unwrap_err().to_string(), &["class, target", "--label-column"]);
    let options = OpenOptions { label_column: Some("target".into()), ..OpenOptions::default() };
    assert_eq!(data::open(&file.display().to_string(), &options).unwrap().labels(), Some(vec![1, 0]));
}

#[test]
fn labels_of_every_type_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.parquet");
    let write = |column: &str, values| Sheet::new(&format!("IMAGE; {column}"), pngs(3), vec![values]).write(&file);
    for (column, values) in [
        ("required int32 label (INTEGER(8,true));", Values::Int32(vec![1, 0, 2])),
        ("required double label;", Values::Double(vec![1.0, 0.0, 2.0])),
        ("optional group label (LIST) { repeated group list { optional int64 element; } }", Values::List(vec![vec![1], vec![0], vec![2]])),
    ] {
        assert_eq!(open(&write(column, values)).unwrap().labels(), Some(vec![1, 0, 2]), "{column}");
    }
    let set = open(&write("required boolean label;", Values::Bool(vec![true, false, true]))).unwrap();
    assert_eq!((set.classes(), set.labels()), (&["false".to_string(), "true".into()][..], Some(vec![1, 0, 1])));
    let set = open(&write("required double label;", Values::Double(vec![1.0, f64::NAN, 2.0]))).unwrap();
    assert_eq!(set.label(1), None);
    for (column, values, what) in [
        ("required double label;", Values::Double(vec![1.0, 0.5, 2.0]), "row 1 has 0.5"),
        (
            "optional group label (LIST) { repeated group list { optional int64 element; } }",
            Values::List(vec![vec![1], vec![0, 1], vec![2]]),
            "row 1 has 2 labels",
        ),
        ("optional int64 label;", Values::Int(vec![Some(0), Some(-7), None]), "row 1 has label -7"),
        ("optional int64 label;", Values::Int(vec![Some(0), Some(99_999_999), None]), "--label-column"),
    ] {
        says(&open(&write(column, values)).unwrap_err().to_string(), &["a.parquet", what]);
    }
}

#[test]
fn texts_that_mean_a_number_or_no_label_are_read_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.parquet");
    let write = |all: &[&str]| Sheet::new("IMAGE; optional binary label (UTF8);", pngs(all.len()), vec![texts(all)]).write(&file);
    let set = open(&write(&["0.0", "3.0", "nan"])).unwrap();
    assert_eq!((set.classes().len(), set.label(0), set.label(1), set.label(2)), (4, Some(0), Some(3), None));
    let set = open(&write(&["cat", "dog ", "NaN", "None", "null", "<NA>", "-1", "-1.0", " ", "cat "])).unwrap();
    assert_eq!((set.classes(), set.label(1), set.label(9)), (&["cat".to_string(), "dog".into()][..], Some(1), Some(0)));
    assert!((2..9).all(|i| set.label(i).is_none()));
    says(&set.require_labels().unwrap_err().to_string(), &["7 of 10", "\"label\"", "\"NaN\""]);
    assert_eq!(open(&write(&["1.0", "1.5"])).unwrap().classes(), ["1.0", "1.5"]);
}

#[test]
fn numbers_without_names_may_begin_at_1_but_are_no_ids() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.parquet");
    let write = |all: &[i64]| {
        let labels = Values::Int(all.iter().copied().map(Some).collect());
        Sheet::new("IMAGE; optional int64 label;", pngs(all.len()), vec![labels]).write(&file)
    };
    let set = open(&write(&[3, 1, -1])).unwrap();
    assert_eq!((set.classes(), set.label(0), set.label(1), set.label(2)), (&["1", "2", "3"].map(String::from)[..], Some(2), Some(0), None));
    assert_eq!(open(&write(&[3, 0])).unwrap().classes().len(), 4);
    assert_eq!(open(&write(&[3, 2])).unwrap().labels(), Some(vec![3, 2]));
    // the pictures of a column of ids can be used, its labels not
    let set = open(&write(&[17, 180_003])).unwrap();
    assert!(set.classes().is_empty() && set.label(0).is_none());
    says(&set.require_labels().unwrap_err().to_string(), &["\"label\" goes up to 180003 in 2 rows", "--label-column"]);
    let options = OpenOptions { label_column: Some("label".into()), ..OpenOptions::default() };
    assert_eq!(data::open(&file.display().to_string(), &options).unwrap().label(1), Some(180_003));
    assert_eq!(open(&write(&[0, 999])).unwrap().label(1), Some(999));
}

#[test]
fn columns_that_compete_are_noted_and_those_that_say_the_split_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.parquet");
    let numbers = || Values::Int(vec![Some(0), Some(1)]);
    let set = Sheet {
        features: Some(
            r#"{"breed": {"names": ["a", "b"], "_type": "ClassLabel"}, "species": {"names": ["c", "d"], "_type": "ClassLabel"}}"#,
        ),
        ..Sheet::new("IMAGE; optional int64 breed; optional int64 species;", pngs(2), vec![numbers(), numbers()])
    };
    let set = open(&set.write(&file)).unwrap();
    assert_eq!(set.classes(), ["a", "b"]);
    says(&set.findings().notices.join(" "), &["breed, species", "\"breed\" is taken", "--label-column"]);

    for (column, values, rule) in [
        ("split", ["train", "test"], true),
        ("Subset", ["training", "val"], true),
        ("split", ["train", "train"], false),
        ("set", ["train", "blue"], false),
    ] {
        let columns = format!("IMAGE; optional int64 label; optional binary {column} (UTF8);");
        let path = Sheet::new(&columns, pngs(2), vec![numbers(), texts(&values)]).write(&file).display().to_string();
        let open = |spec: &str, split| data::open(spec, &OpenOptions { split, ..OpenOptions::default() });
        let test = open(&path, Some(Split::Test)).unwrap();
        let found = test.findings();
        assert_eq!((test.len(), found.rule.is_some()), (if rule { 1 } else { 2 }, rule), "{found:?}");
        if rule {
            assert_eq!(test.labels(), Some(vec![1]), "test, or val where there is no test");
            assert!(found.rule.unwrap().contains(column));
            assert_eq!(open(&format!("{path}:train"), Some(Split::Test)).unwrap().labels(), Some(vec![0]));
            says(&open(&path, None).unwrap_err().to_string(), &["several splits", ":NAME"]);
        }
        if values == ["train", "train"] {
            // as a wish it is told, by name it is refused
            says(&found.notices.join(" "), &["column \"split\"", "no row is of split \"test\", only of \"train\""]);
            says(&open(&format!("{path}:test"), Some(Split::Test)).unwrap_err().to_string(), &["no split \"test\", only \"train\""]);
            let named = open(&format!("{path}:train"), Some(Split::Test)).unwrap();
            assert!(named.len() == 2 && !named.findings().notices.join(" ").contains("no row"), "{:?}", named.findings());
        }
    }
}

#[test]
fn class_names_come_from_the_metadata_else_the_card_else_a_notice() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data/test-00000-of-00001.parquet");
    let labels = || vec![Values::Int(vec![Some(1), Some(0)])];
    let set = open(&Sheet::new("IMAGE; optional int64 label;", pngs(2), labels()).write(&file)).unwrap();
    assert_eq!(set.classes(), ["0", "1"]);
    assert!(set.findings().notices.iter().any(|notice| notice.contains("--classes")), "{:?}", set.findings());
    let card = "---\ndataset_info:\n  features:\n  - name: image\n    dtype: image\n  - name: label\n    dtype:\n      class_label:\n        names:\n          '0': sea\n          '1': polar bear\n---\n";
    fs::write(folder.path().join("README.md"), card).unwrap();
    let set = open(folder.path()).unwrap();
    assert_eq!(set.classes(), ["sea", "polar bear"]);
    says(&set.findings().notices.join(" "), &["README.md"]);
    let named = Sheet {
        features: Some(r#"{"label": {"names": ["house", "tree"], "_type": "ClassLabel"}}"#),
        ..Sheet::new("IMAGE; optional int64 label;", pngs(2), labels())
    };
    let set = open(&named.write(&file)).unwrap();
    assert_eq!((set.classes(), set.findings().notices.len()), (&["house".to_string(), "tree".into()][..], 0));
}

#[test]
fn hidden_labels_are_seen_at_once_and_lead_to_the_split_that_has_some() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, label: i64| {
        let pictures = if label < 0 { vec![Some(b"no picture".to_vec())] } else { pngs(1) };
        Sheet::new("IMAGE; optional int64 label;", pictures, vec![Values::Int(vec![Some(label)])]).write(&folder.path().join(name));
    };
    write("test-00000-of-00001.parquet", -1);
    write("validation-00000-of-00001.parquet", 0);
    write("train-00000-of-00001.parquet", 0);
    let spec = folder.path().display().to_string();
    let set = data::open(&spec, &OpenOptions::split(Split::Test)).unwrap();
    says(&set.require_labels().unwrap_err().to_string(), &["has no labels", "-1", ":validation"]);
    assert_eq!(set.findings().rule.as_deref(), Some("files of split \"test\""));
    data::open(&format!("{spec}:validation"), &OpenOptions::default()).unwrap().require_labels().unwrap();
}

#[test]
fn what_stands_beside_a_parquet_file_is_told() {
    let folder = tempfile::tempdir().unwrap();
    Sheet::new("IMAGE;", vec![Some(png(1)), Some(png(2))], vec![]).write(&folder.path().join("a.parquet"));
    assert_eq!(open(folder.path()).unwrap().findings().notices.join(" ").matches("beside").count(), 0);
    for file in ["cat/1.png", "dog/2.png", "own.png", "more.tar"] {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, png(3)).unwrap();
    }
    let set = open(folder.path()).unwrap();
    assert_eq!(set.len(), 2);
    says(&set.findings().notices.join(" "), &["Parquet files are opened", "1 pictures, 2 folders of pictures, 1 tar shards"]);
}

#[test]
fn pictures_may_be_paths_beside_the_file_and_never_outside() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("d/files")).unwrap();
    fs::write(folder.path().join("secret.png"), png(1)).unwrap();
    for i in 0..2 {
        fs::write(folder.path().join(format!("d/files/{i}.png")), png(i)).unwrap();
    }
    let file = folder.path().join("d/data/a.parquet");
    let write = |paths: &[&str]| {
        let mut sheet = Sheet::new("IMAGE;", vec![None; paths.len()], vec![]);
        sheet.columns[1] = texts(paths);
        sheet.write(&file)
    };
    let set = open(&write(&["files/0.png", "files/1.png", "../../secret.png", "/etc/hosts", "files/2.png"])).unwrap();
    assert_eq!(set.image(1).unwrap().get_pixel(0, 0).0, [1, 0, 7]);
    says(&set.findings().notices.join(" "), &["5 of 5 rows hold no picture's bytes"]);
    for i in 2..5 {
        says(&set.image(i).unwrap_err().to_string(), &[&format!("row {i}"), "path"]);
    }
    says(&open(&write(&["nowhere/0.png"])).unwrap_err().to_string(), &["holds paths (nowhere/0.png)", "bytes"]);
    // a picture written as a text
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, png(5));
    for text in [text.clone(), format!("data:image/png;base64,{text}")] {
        assert_eq!(open(&write(&[&text])).unwrap().image(0).unwrap().get_pixel(0, 0).0, [5, 0, 7]);
    }
    // a column of texts alone
    let mut sheet = Sheet::new("optional binary image (UTF8);", vec![], vec![]);
    sheet.columns = vec![texts(&["files/0.png"])];
    assert_eq!(open(&sheet.write(&file)).unwrap().image(0).unwrap().get_pixel(0, 0).0, [0, 0, 7]);
}

#[test]
fn what_is_no_picture_column_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.parquet");
    let write = |schema: &str, columns: Vec<Values>| Sheet { columns, ..Sheet::new(schema, vec![], vec![]) }.write(&file);
    let list = "optional group image (LIST) { repeated group list { optional int64 element; } }";
    says(
        &open(&write(list, vec![Values::List(vec![vec![1, 2, 3]])])).unwrap_err().to_string(),
        &["\"image\"", "lists of numbers", "PNG or JPEG"],
    );
    let pixels = "optional group pixels (LIST) { repeated group list { optional int64 element; } }";
    says(&open(&write(pixels, vec![Values::List(vec![vec![1, 2, 3]])])).unwrap_err().to_string(), &["\"pixels\"", "lists of numbers"]);
    // the only column of bytes, whatever its name
    let set = open(&write("optional binary thumbnail;", vec![Values::Bytes(pngs(2))])).unwrap();
    assert_eq!(set.image(1).unwrap().get_pixel(0, 0).0, [1, 0, 7]);
    let nulls = open(&write("optional binary jpg;", vec![Values::Bytes(vec![Some(png(0)), None])])).unwrap();
    says(&nulls.findings().notices.join(" "), &["1 of 2 rows hold no picture"]);
}

/// A file of many pages and groups, whatever the codec and the pages' version, gives every row in any order, also where hardly
/// a page stays in memory.
#[test]
fn pages_are_read_when_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let n = 700;
    let pictures: Vec<Option<Vec<u8>>> = (0..n).map(|i| (i != 333).then(|| png(i))).collect();
    let zstd = Compression::ZSTD(ZstdLevel::default());
    for (codec, version, dictionary) in [
        (Compression::UNCOMPRESSED, WriterVersion::PARQUET_1_0, true),
        (Compression::SNAPPY, WriterVersion::PARQUET_1_0, false),
        (Compression::GZIP(Default::default()), WriterVersion::PARQUET_2_0, false),
        (Compression::LZ4_RAW, WriterVersion::PARQUET_1_0, true),
        (zstd, WriterVersion::PARQUET_2_0, true),
    ] {
        let mut sheet =
            Sheet::new("IMAGE; optional int64 label;", pictures.clone(), vec![Values::Int((0..n as i64).map(|i| Some(i % 7)).collect())]);
        sheet.rows_per_group = 300;
        let properties = WriterProperties::builder().set_compression(codec).set_writer_version(version).set_dictionary_enabled(dictionary);
        sheet.properties = properties.set_data_page_size_limit(2000).set_write_batch_size(8).set_dictionary_page_size_limit(2000);
        let path = sheet.write(&folder.path().join("a.parquet")).display().to_string();
        for memory_limit in [1, 5000, 1 << 30] {
            let set = data::open(&path, &OpenOptions { memory_limit, ..OpenOptions::default() }).unwrap();
            assert_eq!((set.len(), set.label(699)), (n, Some(699 % 7)));
            (0..n).into_par_iter().for_each(|i| {
                let i = i * 391 % n; // scattered
                match set.image(i) {
                    Ok(picture) => assert_eq!(picture.get_pixel(2, 1).0, [i as u8, (i >> 8) as u8, 7], "{i}"),
                    Err(error) => assert!(i == 333 && error.to_string().contains("row 333"), "{error}"),
                }
            });
            assert!(set.image(333).is_err());
        }
    }
}

#[test]
fn a_file_that_loses_its_end_later_is_an_unreadable_picture() {
    let folder = tempfile::tempdir().unwrap();
    let mut sheet = Sheet::new("IMAGE;", pngs(100), vec![]);
    sheet.rows_per_group = 10;
    let path = sheet.write(&folder.path().join("a.parquet"));
    let set = open(&path).unwrap();
    set.image(5).unwrap();
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    says(&set.image(95).unwrap_err().to_string(), &["row 95", "fetch the file again"]);
    fs::write(folder.path().join("lfs.parquet"), "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n").unwrap();
    says(&open(&folder.path().join("lfs.parquet")).unwrap_err().to_string(), &["git lfs pull"]);
    // a cut file has no footer
    says(&open(&path).unwrap_err().to_string(), &["not a whole Parquet file"]);
}

#[test]
fn splits_that_stand_in_names_are_never_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, rows: usize| Sheet::new("IMAGE;", pngs(rows), vec![]).write(&folder.path().join(name));
    for (train, test) in [("cifar10_train.parquet", "cifar10_test.parquet"), ("partial-train/0000.parquet", "partial-test/0000.parquet")] {
        write(&format!("{}/{train}", train.len()), 4);
        write(&format!("{}/{test}", train.len()), 2);
        let spec = folder.path().join(train.len().to_string()).display().to_string();
        let len = |split| data::open(&spec, &OpenOptions::split(split)).unwrap().len();
        assert_eq!((len(Split::Train), len(Split::Test)), (4, 2), "{train}");
        says(&data::open(&spec, &OpenOptions::default()).unwrap_err().to_string(), &["several splits"]);
    }
    // one of three shards is said, two versions of a set are refused
    write("part/test-00000-of-00003-b4aa.parquet", 2);
    let set = open(&folder.path().join("part")).unwrap();
    says(&set.findings().notices.join(" "), &["1 of 3 shards"]);
    write("part/test-00000-of-00001-7dbb.parquet", 2);
    says(&open(&folder.path().join("part")).unwrap_err().to_string(), &["\"test\" twice", "one version"]);
}

/// Prints what a pass in random order costs: `cargo test --release --test all -- --ignored --nocapture random_order`.
#[test]
#[ignore = "a measurement"]
fn random_order_pass() {
    let folder = tempfile::tempdir().unwrap();
    let n = 3000;
    let noise = |seed: usize| {
        let mut state = seed as u32;
        let picture = RgbImage::from_fn(224, 224, |x, y| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Rgb([(x as u8) ^ (seed as u8), (y as u8).wrapping_add((state >> 27) as u8), (state >> 26) as u8])
        });
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
        bytes.into_inner()
    };
    let some: Vec<Vec<u8>> = (0..100).into_par_iter().map(noise).collect();
    let mut sheet = Sheet::new("IMAGE;", (0..n).map(|i| Some(some[i % 100].clone())).collect(), vec![]);
    sheet.rows_per_group = 100; // as the hub writes pictures
    sheet.properties = WriterProperties::builder().set_compression(Compression::SNAPPY);
    // another file, of as many pictures or more
    let path = std::env::var("LAFTER_PARQUET").map_or_else(|_| sheet.write(&folder.path().join("a.parquet")), PathBuf::from);
    println!("{n} pictures, {} MB", fs::metadata(&path).unwrap().len() >> 20);
    for (memory_limit, what) in [(1 << 30, "all in memory"), (50 << 20, "50 MB in memory"), (1, "a page in memory")] {
        let started = std::time::Instant::now();
        let set = data::open(&path.display().to_string(), &OpenOptions { memory_limit, ..OpenOptions::default() }).unwrap();
        let opened = started.elapsed();
        for pass in 1..=2 {
            let started = std::time::Instant::now();
            (0..n).into_par_iter().for_each(|i| drop(set.image(i * 1777 % n * (set.len() / n)).unwrap()));
            println!("{what}: opened in {opened:.1?}, pass {pass} in {:.2?}", started.elapsed());
        }
    }
}
