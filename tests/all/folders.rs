//! Folders as people have them: outer folders, splits of any name, files of other formats, metadata files, names that are not words.

use std::fs;
use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use lafter::data::{self, Dataset, Findings, OpenOptions, Split, pictures_in};
use lafter::describe::{ClassNames, read_class_names};
use tempfile::TempDir;

fn open(root: &Path) -> lafter::Result<Dataset> {
    Dataset::open(root)
}

fn open_split(root: &Path, split: Split) -> lafter::Result<Dataset> {
    data::open(&root.display().to_string(), &OpenOptions::split(split))
}

/// The message, which must be one line and hold all parts.
fn message<T: std::fmt::Debug>(result: lafter::Result<T>, parts: &[&str]) {
    let text = result.unwrap_err().to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} is not in: {text}"));
}

fn noted(found: &Findings, words: &[&str]) {
    let said = |word: &&str| found.notices.iter().any(|notice| notice.contains(*word));
    assert!(words.iter().all(said), "{words:?}: {found:?}");
}

fn picture(path: PathBuf) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(2, 2, Rgb([9; 3])).save(path).unwrap();
}

/// Files at these paths: pictures by their ending, else text.
fn folder(paths: &[&str]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for path in paths {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match path.extension().is_some_and(|ending| ending == "png" || ending == "jpg") {
            true => picture(path),
            false => fs::write(path, "x").unwrap(),
        }
    }
    root
}

#[test]
fn an_outer_folder_is_opened_and_told() {
    let root = folder(&["set/cat/a.png", "set/dog/b.png", "README.md"]);
    let set = open(root.path()).unwrap();
    assert_eq!(set.classes(), ["cat", "dog"]);
    assert!(set.findings().rule.unwrap().contains("inner folder set"));
    let root = folder(&["a/b/Train/cat/a.png", "a/b/Train/dog/a.png", "a/b/Test/cat/b.png", "a/b/Test/dog/b.png"]);
    assert_eq!(open_split(root.path(), Split::Test).unwrap().len(), 2);
    message(open(root.path()), &["several splits"]);
    // one class folder with pictures stays one class
    assert_eq!(open(folder(&["cat/a.png"]).path()).unwrap().classes(), ["cat"]);
}

#[test]
fn pictures_next_to_their_annotations() {
    for others in [&["annotations/a.xml"][..], &["annotations/trimaps/a.png", "docs/x.txt"], &["SegmentationClass/a.png"]] {
        let mut paths = vec!["images/cat/a.png", "images/dog/b.png"];
        paths.extend(others);
        let set = open(folder(&paths).path()).unwrap();
        assert_eq!(set.classes(), ["cat", "dog"], "{others:?}");
    }
    let flat = folder(&["images/a.jpg", "images/b.jpg", "annotations/trimaps/a.png"]);
    let set = open(flat.path()).unwrap();
    assert_eq!((set.len(), set.classes().len()), (2, 0));
}

#[test]
fn splits_by_common_names_and_never_mixed() {
    for (train, test) in
        [("Train", "Test"), ("training", "testing"), ("seg_train", "seg_test"), ("train2017", "val2017"), ("trainset/x", "test_set/x")]
    {
        let train = train.replace("trainset", "train_set");
        let paths = [format!("{train}/cat/1.png"), format!("{train}/dog/2.png"), format!("{test}/cat/3.png"), "Meta/0.png".into()];
        let root = folder(&paths.iter().map(String::as_str).collect::<Vec<_>>());
        let set = open_split(root.path(), Split::Train).unwrap();
        assert_eq!((set.len(), set.classes().len()), (2, 2), "{train}");
        noted(&set.findings(), &["Meta"]);
        let set = open_split(root.path(), Split::Test).unwrap();
        assert!(set.len() == 1 && set.name(0).ends_with("3.png"), "{test}");
    }
    // a class may be called train
    let vehicles = folder(&["bus/1.png", "car/2.png", "train/3.png"]);
    assert_eq!(open(vehicles.path()).unwrap().classes(), ["bus", "car", "train"]);
    let one = folder(&["train/cat/1.png", "train/dog/1.png", "extra/cat/2.png"]);
    message(open(one.path()), &["extra", "splits or classes"]);
    message(open_split(folder(&["asl_train/A/1.png", "asl_train/B/1.png"]).path(), Split::Test), &["no split \"test\""]);
    let inside = folder(&["cat/train/1.png", "cat/test/2.png", "dog/train/1.png", "dog/test/2.png"]);
    message(open(inside.path()), &["cat", "test, train"]);
}

#[test]
fn nested_class_folders_keep_working() {
    let root = folder(&["cat/left/1.png", "cat/right/2.png", "dog/left/1.png", "dog/right/2.png"]);
    let set = open(root.path()).unwrap();
    assert_eq!((set.classes(), set.len()), (&["cat".to_string(), "dog".into()][..], 4));
    noted(&set.findings(), &["left"]);
    let plain = open(folder(&["cat/1.png", "cat/more/2.png", "dog/3.png"]).path()).unwrap();
    assert_eq!((plain.labels(), plain.findings()), (Some(vec![0, 0, 1]), Findings::default()));
}

#[test]
fn files_that_are_left_out_are_counted() {
    let root =
        folder(&["cat/1.png", "cat/2.heic", "cat/3.HEIC", "cat/Thumbs.db", "dog/4.png", "dog/5.avif", "dog/noending", "classes.txt"]);
    let jpeg = root.path().join("dog/picture");
    RgbImage::new(2, 2).save_with_format(&jpeg, image::ImageFormat::Jpeg).unwrap();
    let set = open(root.path()).unwrap();
    assert_eq!(set.len(), 3);
    assert!(set.image(2).is_ok() && set.name(2).ends_with("picture"));
    let found = set.findings();
    let counts: Vec<(&str, usize)> = found.left_out.iter().map(|(ending, count)| (ending.as_str(), *count)).collect();
    assert_eq!(counts, [("", 1), ("avif", 1), ("db", 1), ("heic", 2), ("txt", 1)]);
    noted(&found, &["3 pictures of kinds that are not read (.avif, .heic)"]);
    message(open(folder(&["cat/1.png", "dog/1.heic"]).path()), &["dog", "1 .heic", "convert"]);
}

#[test]
fn empty_class_folders_and_system_folders() {
    let root = folder(&["cat/1.png", "dog/2.png", "lost+found/x", "@eaDir/1.png"]);
    fs::create_dir(root.path().join("zebra")).unwrap();
    message(open_split(root.path(), Split::Test), &["zebra"]);
    let train = open_split(root.path(), Split::Train).unwrap();
    assert_eq!(train.classes(), ["cat", "dog"]);
    noted(&train.findings(), &["zebra"]);
    picture(root.path().join("stray.png"));
    message(open_split(root.path(), Split::Test), &["stray.png", "class folders"]);
    let train = open_split(root.path(), Split::Train).unwrap();
    assert_eq!((train.len(), train.labels()), (3, None));
    noted(&train.findings(), &["without labels"]);
}

#[test]
fn numbered_folders_take_the_list_line_by_line() {
    for first in [0, 1] {
        let paths: Vec<String> = (first..first + 12).map(|i| format!("{i}/{i}.png")).collect();
        let root = folder(&paths.iter().map(String::as_str).collect::<Vec<_>>());
        let set = open(root.path()).unwrap();
        assert_eq!(set.classes()[2], (first + 2).to_string());
        noted(&set.findings(), &["--classes"]);
        let names: Vec<String> = (0..12).map(|i| format!("name of {}", char::from(b'a' + i))).collect();
        let named = set.with_classes(&ClassNames::new(&names).unwrap()).unwrap();
        assert_eq!(named.labels(), Some((0..12).collect()));
        assert!(named.findings().notices.iter().all(|notice| !notice.contains("--classes")), "{:?}", named.findings());
    }
}

#[test]
fn names_of_other_forms_find_their_classes() {
    let root = folder(&["n02000003/a.png", "n02000004/b.png"]);
    let list = root.path().with_extension("txt");
    fs::write(&list, "n02000004 dog, hound\nn02000003 cat\n").unwrap();
    let set = open(root.path()).unwrap();
    noted(&set.findings(), &["n02000003, n02000004", "--classes"]);
    let set = set.with_classes(&read_class_names(&list).unwrap()).unwrap();
    assert_eq!((set.classes(), set.labels()), (&["dog".to_string(), "cat".into()][..], Some(vec![1, 0])));
    noted(&set.findings(), &["\"n02000004\" is \"dog\""]);
    fs::remove_file(list).unwrap();
    let accents = folder(&["cafe\u{301}/a.png", "cre\u{302}pe/b.png"]);
    let list = ClassNames::new(["crêpe", "café", "thé"]).unwrap();
    let set = open(accents.path()).unwrap().with_classes(&list).unwrap();
    assert_eq!(set.labels(), Some(vec![1, 0]));
}

#[cfg(unix)]
#[test]
fn a_folder_name_that_is_no_text() {
    use std::os::unix::ffi::OsStrExt;
    let root = folder(&["tea/1.png"]);
    picture(root.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9")).join("1.png"));
    let set = open(root.path()).unwrap();
    assert_eq!(set.len(), 2);
    noted(&set.findings(), &["--classes"]);
}

#[test]
fn metadata_files_bring_labels() {
    let csv = "file_name,label,note\na.png,dog,\"x, y\"\nb.png,cat,\n";
    let jsonl = "{\"file_name\": \"a.png\", \"label\": \"dog\"}\n{\"file_name\": \"b.png\", \"label\": \"cat\"}\n";
    for (name, text) in [("metadata.csv", csv), ("metadata.jsonl", jsonl)] {
        let root = folder(&["a.png", "b.png", "c.png"]);
        fs::write(root.path().join(name), text).unwrap();
        let set = open(root.path()).unwrap();
        assert_eq!((set.classes(), set.labels()), (&["cat".to_string(), "dog".into()][..], Some(vec![1, 0])), "{name}");
        noted(&set.findings(), &["1 pictures next to it are not in it"]);
    }
    let root = folder(&["train/x/a.png", "train/b.png"]);
    let file = root.path().join("train/metadata.jsonl");
    fs::write(&file, "{\"file_name\": \"x/a.png\", \"kind\": 10}\n{\"file_name\": \"b.png\", \"kind\": 9}\n").unwrap();
    let options = |column: &str| OpenOptions { label_column: Some(column.into()), ..OpenOptions::split(Split::Train) };
    let spec = root.path().display().to_string();
    assert_eq!(data::open(&spec, &options("kind")).unwrap().labels(), Some(vec![1, 0]));
    message(data::open(&spec, &options("sort")), &["\"sort\"", "file_name, kind"]);
    let root = folder(&["train/a.png", "test/b.png", "test/c.png"]);
    fs::write(root.path().join("metadata.csv"), "file_name,label\ntrain/a.png,cat\ntest/b.png,cat\ntest/c.png,dog\n").unwrap();
    assert_eq!(open_split(root.path(), Split::Test).unwrap().labels(), Some(vec![0, 1]));
    assert_eq!(open_split(root.path(), Split::Train).unwrap().len(), 1);
    message(open(root.path()), &["several splits"]);
    fs::write(root.path().join("metadata.csv"), "file_name,label\n../a.png,cat\n").unwrap();
    message(open(root.path()), &["row 1", "out of the folder"]);
}

/// Opens one split of a folder whose metadata file is this.
fn with_metadata(root: &TempDir, name: &str, text: &str, split: Split) -> lafter::Result<Dataset> {
    fs::write(root.path().join(name), text).unwrap();
    open_split(root.path(), split)
}

#[test]
fn a_quote_within_a_cell_of_metadata_swallows_no_rows() {
    let root = folder(&["a.png", "b.png", "c.png"]);
    let rows = "file_name,label,note\na.png,dog,5\" wide\nb.png,cat,x\nc.png,dog,7\" wide\n";
    assert_eq!(with_metadata(&root, "metadata.csv", rows, Split::Test).unwrap().labels(), Some(vec![1, 0, 1]));
    let rows = "file_name,label\na.png,\"dog\nb.png,cat\n";
    message(with_metadata(&root, "metadata.csv", rows, Split::Test), &["metadata.csv, line 2", "does not close"]);
    let rows = "File Name;Label\na.png;dog\nb.png;cat\nc.png;dog\n";
    assert_eq!(with_metadata(&root, "metadata.csv", rows, Split::Test).unwrap().labels(), Some(vec![1, 0, 1]));
}

#[test]
fn a_comma_without_quotes_in_metadata_merges_no_classes() {
    let root = folder(&["1.jpg", "2.jpg"]);
    let rows = "file_name,label\n1.jpg,crane, bird\n2.jpg,crane, machine\n";
    message(with_metadata(&root, "metadata.csv", rows, Split::Test), &["metadata.csv, line 2: more cells than titles", "into quotes"]);
    let rows = "file_name,label\n1.jpg,\"crane, bird\",\n2.jpg,\"crane, machine\", ,\n";
    assert_eq!(with_metadata(&root, "metadata.csv", rows, Split::Test).unwrap().classes(), ["crane, bird", "crane, machine"]);
}

#[test]
fn pictures_that_metadata_lists_several_times_are_counted() {
    let root = folder(&["1.jpg", "2.jpg", "3.jpg"]);
    let rows = "file_name,label\n1.jpg,cat\n2.jpg,dog\n./1.jpg,dog\n3.jpg,dog\n2.jpg,dog\n";
    let set = with_metadata(&root, "metadata.csv", rows, Split::Test).unwrap();
    assert_eq!(set.labels(), Some(vec![0, 1, 1, 1, 1]));
    noted(&set.findings(), &["metadata.csv: 2 pictures stand in several rows, 1 of them with different labels: each row counts"]);
}

#[test]
fn labels_that_pandas_writes_in_metadata() {
    let root = folder(&["a.png", "b.png", "c.png"]);
    let set = with_metadata(&root, "metadata.csv", "file_name,label\na.png,10.0\nb.png,nan\nc.png,9.0\n", Split::Test).unwrap();
    assert_eq!(set.classes(), ["9", "10"]);
    assert_eq!((set.label(0), set.label(1), set.label(2)), (Some(1), None, Some(0)));
    noted(&set.findings(), &["1 of 3 rows have no label"]);
    message(set.require_labels(), &["1 of 3", "nan"]);
    let root = folder(&["a.png", "b.png"]);
    let rows = "{\"file_name\": \"a.png\", \"label\": 3.0}\n{\"file_name\": \"b.png\", \"label\": null}\n";
    assert_eq!(with_metadata(&root, "metadata.jsonl", rows, Split::Test).unwrap().classes(), ["3"]);
}

#[test]
fn splits_in_other_columns_of_metadata() {
    for column in ["split", "subset", "partition", "Set", "fold"] {
        let root = folder(&["a.png", "b.png", "c.png"]);
        let rows = format!("file_name,label,{column}\na.png,cat,train\nb.png,dog,test\nc.png,eel,train\n");
        let set = with_metadata(&root, "metadata.csv", &rows, Split::Test).unwrap();
        // the classes are those of all rows, and no picture of another split counts as forgotten
        assert_eq!((set.len(), set.classes(), set.labels()), (1, &["cat".into(), "dog".into(), "eel".to_string()][..], Some(vec![1])));
        assert!(set.findings().notices.is_empty(), "{column}: {:?}", set.findings());
        let rows = format!("file_name,label,{column}\na.png,cat,0\nb.png,dog,1\nc.png,eel,2\n");
        let set = with_metadata(&root, "metadata.csv", &rows, Split::Test).unwrap();
        assert_eq!(set.len(), 3);
        noted(&set.findings(), &["(0, 1, 2) does not say train, val or test"]);
    }
    let root = folder(&["a.png", "b.png", "c.png"]);
    let rows = "file_name,label,split\na.png,cat,train\nb.png,dog,test\nc.png,eel,holdout\n";
    let set = with_metadata(&root, "metadata.csv", rows, Split::Test).unwrap();
    assert_eq!(set.len(), 1);
    noted(&set.findings(), &["1 of 3 rows are of no split", "left out"]);
    // one split alone: another is told as a wish, and refused by name
    let rows = "file_name,label,split\na.png,cat,train\nb.png,dog,train\nc.png,eel,train\n";
    let set = with_metadata(&root, "metadata.csv", rows, Split::Test).unwrap();
    assert_eq!(set.len(), 3);
    noted(&set.findings(), &["metadata.csv: no row is of split \"test\", only of \"train\""]);
    assert!(with_metadata(&root, "metadata.csv", rows, Split::Train).unwrap().findings().notices.is_empty());
    let named = |name: &str| data::open(&format!("{}:{name}", root.path().display()), &OpenOptions::split(Split::Test));
    message(named("test"), &["no split \"test\", only \"train\""]);
    assert_eq!(named("train").unwrap().len(), 3);
}

#[test]
fn what_metadata_does_not_list_or_label_is_told() {
    let root = folder(&["cat/a.png", "cat/b.png", "dog/c.png", "dog/d.png"]);
    let set = with_metadata(&root, "metadata.csv", "file_name,label\ncat/a.png,cat\n./dog/c.png,dog\n", Split::Test).unwrap();
    assert_eq!(set.len(), 2);
    noted(&set.findings(), &["2 pictures in folders below are not in it"]);
    let root = folder(&["a.png"]);
    let set = with_metadata(&root, "metadata.csv", "file_name,kind\na.png,cat\n", Split::Test).unwrap();
    message(set.require_labels(), &["file_name, kind", "--label-column"]);
}

#[test]
fn splits_that_differ_are_told() {
    let root = folder(&["train/cat/1.png", "train/dog/2.png", "train/eel/3.png", "test/dog/4.png"]);
    noted(&open_split(root.path(), Split::Test).unwrap().findings(), &["train has 3 classes, test 1: name all of them with --classes"]);
    assert!(open_split(root.path(), Split::Train).unwrap().findings().notices.is_empty());
    let root = folder(&["test/1.png", "train/cat/2.png", "train/dog/3.png", "val/cat/4.png", "val/dog/5.png"]);
    let test = open_split(root.path(), Split::Test).unwrap();
    let val = format!("{}:val", root.path().display());
    message(test.require_labels(), &["folder test", &val]);
    assert!(data::open(&val, &OpenOptions::default()).unwrap().require_labels().is_ok());
}

#[cfg(unix)]
#[test]
fn links_that_lead_back_and_pipes_are_passed_over() {
    use std::os::unix::fs::symlink;
    let root = folder(&["cat/1.png", "dog/2.png", "elsewhere/eel/3.png"]);
    let set = root.path().join("set");
    fs::create_dir(&set).unwrap();
    for (target, link) in [("../cat", "cat"), ("../dog", "dog"), ("../elsewhere/eel", "eel"), (".", "latest"), ("..", "up")] {
        symlink(target, set.join(link)).unwrap();
    }
    symlink(".", root.path().join("cat/latest")).unwrap();
    symlink("../..", root.path().join("dog/up")).unwrap();
    symlink("../dog", root.path().join("cat/dog")).unwrap();
    symlink("../cat", root.path().join("dog/cat")).unwrap();
    for pipe in ["set/pipe", "cat/pipe", "dog/pipe.png"] {
        assert!(std::process::Command::new("mkfifo").arg(root.path().join(pipe)).status().unwrap().success());
    }
    symlink("pipe", root.path().join("cat/linked")).unwrap();
    let opened = open(&set).unwrap();
    assert_eq!(opened.classes(), ["cat", "dog", "eel"]);
    // each of cat and dog holds a link to the other
    assert_eq!(opened.labels(), Some(vec![0, 0, 1, 1, 2]));
    assert!(opened.findings().left_out.is_empty(), "{:?}", opened.findings());
}

/// A Parquet file without pictures, as tools write them next to a data set.
fn embeddings(path: PathBuf, lists: bool) {
    use parquet::data_type::FloatType;
    let schema = parquet::schema::parser::parse_message_type(match lists {
        true => "message schema { REPEATED FLOAT value; }",
        false => "message schema { REQUIRED FLOAT value; }",
    })
    .unwrap();
    let file = fs::File::create(path).unwrap();
    let mut writer = parquet::file::writer::SerializedFileWriter::new(file, schema.into(), Default::default()).unwrap();
    let mut rows = writer.next_row_group().unwrap();
    let mut column = rows.next_column().unwrap().unwrap();
    column.typed::<FloatType>().write_batch(&[1.0, 2.0], lists.then_some(&[1, 1]), lists.then_some(&[0, 0])).unwrap();
    column.close().unwrap();
    rows.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn parquet_files_without_pictures_do_not_hide_pictures() {
    let places = ["embeddings.parquet", "features/embeddings.parquet"];
    for (place, lists) in places.into_iter().flat_map(|place| [(place, false), (place, true)]) {
        let root = folder(&["cat/1.png", "dog/2.png", "features/readme.txt"]);
        embeddings(root.path().join(place), lists);
        fs::remove_file(root.path().join("features/readme.txt")).unwrap();
        if place == "embeddings.parquet" {
            fs::remove_dir(root.path().join("features")).unwrap();
        }
        let set = open(root.path()).unwrap();
        assert_eq!(set.classes(), ["cat", "dog"], "{place}");
        noted(&set.findings(), &["columns found: value", "ignored"]);
        let alone = folder(&["a.txt", "features/a.txt"]);
        embeddings(alone.path().join(place), lists);
        message(open(alone.path()), &["columns found: value"]);
    }
}

/// A table of predictions: known by its mark, or by its columns, as earlier versions wrote it.
fn predictions(path: PathBuf, marked: bool) {
    use parquet::file::{metadata::KeyValue, properties::WriterProperties, writer::SerializedFileWriter};
    let schema = match marked {
        true => "message schema { REQUIRED BINARY image (UTF8); REQUIRED BINARY label (UTF8); }",
        false => {
            "message schema { REQUIRED BINARY picture (UTF8); REQUIRED BINARY class (UTF8); REQUIRED DOUBLE probability; \
             REQUIRED BINARY runner_up (UTF8); REQUIRED DOUBLE margin; OPTIONAL BOOLEAN changed; }"
        }
    };
    let mark = marked.then(|| vec![KeyValue::new("lafter".to_string(), "predictions".to_string())]);
    let properties = WriterProperties::builder().set_key_value_metadata(mark).build();
    let schema = parquet::schema::parser::parse_message_type(schema).unwrap();
    SerializedFileWriter::new(fs::File::create(path).unwrap(), schema.into(), properties.into()).unwrap().close().unwrap();
}

#[test]
fn tables_of_predictions_are_no_data_set() {
    let places = ["answers.parquet", "test-answers.parquet", "out/answers.parquet"];
    for (place, marked) in places.into_iter().flat_map(|place| [(place, false), (place, true)]) {
        let root = folder(&["cat/1.png", "dog/2.png"]);
        fs::create_dir_all(root.path().join(place).parent().unwrap()).unwrap();
        predictions(root.path().join(place), marked);
        let set = open_split(root.path(), Split::Train).unwrap();
        assert_eq!((set.classes(), set.len()), (&["cat".to_string(), "dog".into()][..], 2), "{place}");
        noted(&set.findings(), &[&format!("{place}: is a table of predictions: left out")]);
        let rows = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data/snappy.parquet");
        fs::copy(rows, root.path().join("pictures.parquet")).unwrap();
        assert_eq!(open_split(root.path(), Split::Train).unwrap().len(), 12, "{place}");
        let alone = folder(&["out/a.txt"]);
        predictions(alone.path().join(place), marked);
        message(open(alone.path()), &[place, "is a table of predictions", "give the folder or file of its pictures"]);
        message(open(&alone.path().join(place)), &[place, "is a table of predictions", "give the folder or file of its pictures"]);
    }
}

#[test]
fn what_the_program_wrote_below_the_pictures_is_no_class() {
    let root = folder(&[
        "cat/1.png",
        "cat/lafter.safetensors",
        "dog/2.png",
        "lafter-out/check.png",
        "results/lafter.safetensors",
        "results/figures/views.svg",
        "stopped/text-checkpoint.safetensors",
    ]);
    let set = open(root.path()).unwrap();
    assert_eq!((set.classes(), set.len()), (&["cat".to_string(), "dog".into()][..], 2));
    noted(&set.findings(), &["lafter-out: holds what this program wrote: left out", "results: holds no pictures: left out"]);
    let (pictures, found) = pictures_in(root.path()).unwrap();
    assert_eq!(pictures.len(), 2);
    noted(&found, &["lafter-out: holds what this program wrote: left out"]);
    message(open(folder(&["lafter-out/check.png"]).path()), &["found lafter-out/"]);
    assert_eq!(open(&root.path().join("lafter-out")).unwrap().len(), 1, "by its name it is opened");
}

#[test]
fn features_in_a_class_folder_do_not_hide_its_pictures() {
    let root = folder(&["cat/2019/1.png", "dog/2.png"]);
    embeddings(root.path().join("cat/features.parquet"), false);
    let set = open(root.path()).unwrap();
    assert_eq!((set.classes(), set.len()), (&["cat".to_string(), "dog".into()][..], 2));
    noted(&set.findings(), &["columns found: value", "ignored"]);
    let root = folder(&["cat/2019/1.png", "dog/2019/2.png"]);
    for place in ["cat/features.parquet", "dog/features.parquet", "features.parquet"] {
        embeddings(root.path().join(place), false);
        assert_eq!(open(root.path()).unwrap().classes(), ["cat", "dog"], "{place}");
    }
}

#[test]
fn what_is_no_folder_of_pictures_is_told_with_a_remedy() {
    let root = folder(&["data-00000-of-00001.arrow", "state.json", "dataset_info.json"]);
    message(open(root.path()), &["Arrow", "to_parquet"]);
    message(open(folder(&["train/data-00000-of-00001.arrow", "dataset_dict.json"]).path()), &["Arrow", "to_parquet"]);
    let root = folder(&["set.zip", "set.tar.gz", "one.png"]);
    message(open(&root.path().join("set.zip")), &["set.zip", "unpack"]);
    message(open(&root.path().join("set.tar.gz")), &["unpack"]);
    message(open(&root.path().join("one.png")), &["one picture"]);
    message(open(folder(&["set.zip"]).path()), &["set.zip", "unpack"]);
    message(open(Path::new("https://example.org/set.zip")), &["web address"]);
}

#[test]
fn all_pictures_of_a_folder() {
    let root = folder(&["b.png", "a/c.png", "a/d.heic", "e.txt"]);
    let (pictures, found) = pictures_in(root.path()).unwrap();
    assert!(pictures.len() == 2 && pictures[0].ends_with("b.png") && pictures[1].ends_with("a/c.png"));
    noted(&found, &[".heic"]);
    message(pictures_in(root.path().join("nothing")), &["nothing"]);
    message(pictures_in(folder(&["a.txt"]).path()), &["no pictures", "1 .txt"]);
}

/// The real command; standard output as JSON.
fn lafter(arguments: &[&std::ffi::OsStr]) -> (Option<i32>, serde_json::Value, String) {
    let output = crate::common::program().args(arguments).output().unwrap();
    let json = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), json, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn words<'a>(line: &'a str, paths: &[&'a Path]) -> Vec<&'a std::ffi::OsStr> {
    line.split(' ').map(std::ffi::OsStr::new).chain(paths.iter().map(|path| path.as_os_str())).collect()
}

#[test]
fn underscores_are_read_as_blanks() {
    let score = |names: [&str; 2]| {
        let root = folder(&[&format!("{}/1.png", names[0]), &format!("{}/2.png", names[1])]);
        let (status, json, stderr) = lafter(&words("zero-shot --json --model demo --test", &[root.path()]));
        assert_eq!(status, Some(0), "{stderr}");
        (json["zero_shot"]["confusion"].clone(), json["zero_shot"]["mean_confidence"].clone())
    };
    assert_eq!(score(["red_house", "002.big_fish"]), score(["red house", "big fish"]));
}

#[test]
fn limits_cover_every_class_and_predict_takes_folders() {
    let paths: Vec<String> = ["house", "fish"].iter().flat_map(|class| (0..6).map(move |i| format!("{class}/{i}.png"))).collect();
    let root = folder(&paths.iter().map(String::as_str).collect::<Vec<_>>());
    let out = tempfile::tempdir().unwrap();
    let line = "run --json --model demo --text-epochs 2 --epochs 1 --prompts 2 --batch-size 4 --limit-test 4 --limit-train 8 --train";
    let mut arguments = words(line, &[root.path(), Path::new("--test"), root.path(), Path::new("--out"), out.path()]);
    let (status, json, stderr) = lafter(&arguments);
    assert_eq!(status, Some(0), "{stderr}");
    assert_eq!((&json["images"]["train"], &json["images"]["test"]), (&8.into(), &4.into()));
    for row in json["zero_shot"]["confusion"].as_array().unwrap() {
        assert_eq!(row.as_array().unwrap().iter().filter_map(|count| count.as_u64()).sum::<u64>(), 2);
    }
    let weights = out.path().join("lafter.safetensors");
    let predict = |what: &Path| lafter(&words("predict --json --model demo --weights", &[&weights, what]));
    let (status, json, stderr) = predict(&root.path().join("fish"));
    assert_eq!((status, json.as_array().map(Vec::len)), (Some(0), Some(6)), "{stderr}");
    // data files next to a picture: which are meant is not guessed; a table of answers is known, other files are told
    let mixed = folder(&["a.png", "b.tar", "c.json"]);
    let (status, _, stderr) = predict(mixed.path());
    assert!(status == Some(2) && stderr.contains("pictures (1) and data files (1 .tar)"), "{stderr}");
    let fish = root.path().join("fish");
    let (status, json, stderr) = lafter(&words("predict --json --model demo --weights", &[&weights, mixed.path(), &fish]));
    assert_eq!((status, json.as_array().map(Vec::len)), (Some(0), Some(7)), "{stderr}");
    assert!(stderr.contains("left out by ending: 1 .") && stderr.contains("1 .json") && stderr.contains("1 .tar"), "{stderr}");
    let photos = folder(&["a.png"]);
    let table = photos.path().join("answers.parquet");
    for _ in 0..2 {
        let (status, _, stderr) =
            lafter(&words("predict --json --model demo --weights", &[&weights, photos.path(), Path::new("--out"), &table]));
        assert_eq!(status, Some(0), "{stderr}");
    }
    let (status, _, stderr) = predict(photos.path());
    assert_eq!(status, Some(0), "an earlier table is not pictures: {stderr}");
    for (what, said) in [("https://example.org/a.png", "web address"), ("/no/such.png", "no such file")] {
        let (status, _, stderr) = predict(Path::new(what));
        assert!(status == Some(2) && stderr.contains(said), "{stderr}");
    }
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        let broken = Path::new(std::ffi::OsStr::from_bytes(b"/no/caf\xe9"));
        arguments = words("zero-shot --model demo --test", &[broken]);
        let (status, _, stderr) = lafter(&arguments);
        assert!(status == Some(2) && stderr.contains("--test") && stderr.contains("UTF-8"), "{stderr}");
    }
}
