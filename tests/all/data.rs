//! Data sets in every form, the loader, and each kind of bad input.
//!
//! The Parquet fixtures are made by tests/fixtures/data.py; the rest is written into temporary folders.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::test_data;
use image::{Rgb, RgbImage};
use lafter::Error;
use lafter::data::{self, Dataset, ImageSource, OpenOptions, Skipped, Split, epoch_batches, prefetch};
use lafter::describe::ClassNames;
use lafter::rng::Rng;

fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data").join(name).display().to_string()
}

fn open(spec: impl AsRef<Path>) -> lafter::Result<Dataset> {
    data::open(&spec.as_ref().display().to_string(), &OpenOptions::default())
}

fn open_split(spec: impl AsRef<Path>, split: Split) -> lafter::Result<Dataset> {
    data::open(&spec.as_ref().display().to_string(), &OpenOptions::split(split))
}

/// The message, which must be one line and name what is wanted.
fn message<T: std::fmt::Debug>(result: lafter::Result<T>, parts: &[&str]) -> String {
    let text = result.unwrap_err().to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} is not in: {text}"));
    text
}

fn picture(path: PathBuf, value: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(4, 3, Rgb([value; 3])).save(path).unwrap();
}

/// Two classes; pictures of different formats, one a level deeper.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    picture(folder.path().join("tree/b.PNG"), 2);
    picture(folder.path().join("tree/deeper/c.bmp"), 3);
    picture(folder.path().join("Forêt noire/a.png"), 1);
    fs::write(folder.path().join("tree/notes.txt"), "x").unwrap();
    fs::write(folder.path().join(".hidden"), "x").unwrap();
    folder
}

#[test]
fn class_folders_in_the_order_of_their_names() {
    let folder = folder();
    let set = open(&folder).unwrap();
    assert_eq!(set.classes(), ["Forêt noire", "tree"]);
    assert_eq!(set.labels(), Some(vec![0, 1, 1]));
    assert!(set.name(2).ends_with("c.bmp"));
    assert_eq!(set.image(2).unwrap().get_pixel(3, 2).0, [3; 3]);
    assert!(format!("{set:?}").contains("3 pictures, 2 classes"));
}

#[test]
fn an_empty_class_folder_is_named() {
    let folder = folder();
    fs::create_dir(folder.path().join("zebra")).unwrap();
    message(open(&folder), &["zebra", "holds no pictures", "remove"]);
}

#[test]
fn pictures_beside_class_folders_are_refused() {
    let folder = folder();
    picture(folder.path().join("stray.png"), 0);
    message(open(&folder), &["stray.png", "next to 2 class folders"]);
}

#[test]
fn a_flat_folder_has_no_labels() {
    let folder = tempfile::tempdir().unwrap();
    (0..3).for_each(|i| picture(folder.path().join(format!("{i}.png")), i));
    let set = open(&folder).unwrap();
    assert_eq!((set.len(), set.labels(), set.classes().len()), (3, None, 0));
    let named = set.with_classes(&ClassNames::new(["a", "b"]).unwrap()).unwrap();
    assert_eq!((named.classes().len(), named.label(0)), (2, None));
}

#[test]
fn folders_named_as_splits_are_splits() {
    let folder = tempfile::tempdir().unwrap();
    picture(folder.path().join("train/a/1.png"), 1);
    picture(folder.path().join("train/b/2.png"), 2);
    picture(folder.path().join("valid/a/3.png"), 3);
    assert_eq!(open_split(&folder, Split::Train).unwrap().len(), 2);
    assert_eq!(open_split(&folder, Split::Val).unwrap().len(), 1);
    assert_eq!(open(format!("{}:train", folder.path().display())).unwrap().len(), 2);
    message(open(&folder), &["several splits", "train"]);
}

#[test]
fn what_is_not_a_data_set_is_described() {
    let folder = tempfile::tempdir().unwrap();
    message(open(&folder), &["it is empty", "looked for", "parquet"]);
    fs::write(folder.path().join("data_batch_1"), "x").unwrap();
    message(open(&folder), &["found data_batch_1", "binary version"]);
    fs::write(folder.path().join("x.csv"), "x").unwrap();
    message(open(folder.path().join("x.csv")), &["x.csv", "neither a folder nor"]);
    message(open(folder.path().join("absent")), &["absent", "no such file"]);
}

/// The fixtures' rows: red is the row, green the label.
fn check_rows(set: &Dataset) {
    assert_eq!(set.labels(), Some((0..12).map(|i| i % 3).collect()));
    for i in 0..12 {
        let image = set.image(i).unwrap();
        assert_eq!((image.dimensions(), image.get_pixel(3, 2).0), ((4, 3), [i as u8, i as u8 % 3, 7]));
    }
}

#[test]
fn parquet_with_several_row_groups() {
    let set = open(fixture("snappy.parquet")).unwrap();
    assert_eq!(set.classes(), ["polar bear", "sea", "Forêt"]);
    check_rows(&set);
    assert!(set.name(11).ends_with("snappy.parquet, row 11"));
}

#[test]
fn parquet_beyond_the_memory_limit_comes_from_the_disk() {
    let options = OpenOptions { memory_limit: 300, ..OpenOptions::default() };
    check_rows(&data::open(&fixture("snappy.parquet"), &options).unwrap());
}

#[test]
fn parquet_with_zstd_and_two_label_columns() {
    let set = open(fixture("zstd.parquet")).unwrap();
    assert_eq!(set.classes().len(), 3);
    check_rows(&set);
    let options = OpenOptions { label_column: Some("coarse_label".into()), ..OpenOptions::default() };
    let coarse = data::open(&fixture("zstd.parquet"), &options).unwrap();
    assert_eq!((coarse.classes(), coarse.label(2)), (&["cold".to_string(), "warm".to_string()][..], Some(1)));
    let options = OpenOptions { label_column: Some("no".into()), ..OpenOptions::default() };
    let text = message(data::open(&fixture("zstd.parquet"), &options), &["\"no\"", "fine_label"]);
    assert!(text.contains("image"));
}

#[test]
fn parquet_without_metadata_numbers_its_classes() {
    let set = open(fixture("plain.parquet")).unwrap();
    assert_eq!(set.classes(), ["0", "1", "2"]);
    check_rows(&set);
    let named = set.with_classes(&ClassNames::new(["x", "y", "z", "more"]).unwrap()).unwrap();
    assert_eq!((named.classes().len(), named.label(2)), (4, Some(2)));
}

#[test]
fn parquet_with_names_as_labels_and_plain_bytes() {
    let set = open(fixture("names.parquet")).unwrap();
    assert_eq!((set.classes(), set.labels()), (&["bear".to_string(), "sea".to_string()][..], Some(vec![1, 0, 1])));
    assert_eq!(set.image(2).unwrap().get_pixel(0, 0).0, [2, 1, 7]);
}

#[test]
fn odd_rows_of_parquet() {
    let set = open(fixture("odd.parquet")).unwrap();
    assert_eq!((0..4).map(|i| set.label(i)).collect::<Vec<_>>(), [Some(0), None, Some(2), None]);
    assert_eq!(set.labels(), None);
    assert!(set.image(0).is_ok());
    message(set.image(1), &["odd.parquet, row 1", "no bytes"]);
    message(set.image(2), &["odd.parquet, row 2"]);
}

#[test]
fn bad_parquet_is_explained() {
    message(open(fixture("no_images.parquet")), &["text, label", "img or image"]);
    message(open(fixture("truncated.parquet")), &["truncated.parquet", "fetch it again"]);
    message(open(fixture("damaged.parquet")), &["damaged.parquet"]);
    message(open(fixture("contradictory.parquet")), &["contradictory.parquet", "fetch it again"]);
    message(open(fixture("brotli.parquet")), &["brotli.parquet", "compression", "brotli", "zstd"]);
    message(open(fixture("label_out_of_range.parquet")), &["row 1 has label 3", "3 classes"]);
}

#[test]
fn parquet_in_gzip_pages() {
    check_rows(&open(fixture("gzip.parquet")).unwrap());
}

#[test]
fn damaged_parquet_gives_one_line_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.parquet");
    let mut rng = Rng::new(1);
    for name in ["snappy.parquet", "zstd.parquet", "plain.parquet", "names.parquet"] {
        let whole = fs::read(fixture(name)).unwrap();
        for _ in 0..100 {
            let mut bytes = whole.clone();
            for _ in 0..3 {
                let at = rng.below(bytes.len());
                bytes[at] = rng.below(256) as u8;
            }
            fs::write(&path, bytes).unwrap();
            match open(&path) {
                Ok(set) => (0..set.len()).for_each(|i| drop(set.image(i))),
                Err(e) => assert_eq!(e.to_string().lines().count(), 1, "{e}"),
            }
        }
    }
}

#[test]
fn a_folder_of_parquet_files_has_splits_and_shards() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    for name in ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "test-00000-of-00001.parquet"] {
        fs::copy(fixture("snappy.parquet"), data.join(name)).unwrap();
    }
    let set = open_split(&folder, Split::Train).unwrap();
    assert_eq!((set.len(), set.image(13).unwrap().get_pixel(0, 0).0[0]), (24, 1));
    assert!(set.name(13).ends_with("train-00001-of-00002.parquet, row 1"), "{}", set.name(13));
    assert_eq!(open_split(&folder, Split::Test).unwrap().len(), 12);
    message(open(&folder), &["\"test\", \"train\""]);
    fs::remove_file(data.join("test-00000-of-00001.parquet")).unwrap();
    message(open_split(&folder, Split::Test), &["no split \"test\"", "\"train\""]);
}

/// A record: label bytes, then red, green and blue planes, each counting up from the label.
fn cifar_record(labels: &[u8]) -> Vec<u8> {
    let label = labels[labels.len() - 1];
    let planes = (0..3u8).flat_map(|channel| (0..1024).map(move |i| label.wrapping_add(channel * 50).wrapping_add(i as u8)));
    labels.iter().copied().chain(planes).collect()
}

#[test]
fn cifar_10_binary() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("cifar-10-batches-bin");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("batches.meta.txt"), "airplane\nautomobile\nbird\n\n").unwrap();
    fs::write(root.join("data_batch_1.bin"), [cifar_record(&[2]), cifar_record(&[0])].concat()).unwrap();
    fs::write(root.join("data_batch_2.bin"), cifar_record(&[1])).unwrap();
    fs::write(root.join("test_batch.bin"), cifar_record(&[1])).unwrap();
    // The folder itself or the one it was unpacked into.
    for spec in [root.as_path(), folder.path()] {
        let train = open_split(spec, Split::Train).unwrap();
        assert_eq!((train.classes().len(), train.labels()), (3, Some(vec![2, 0, 1])));
        // Pixel (5, 1) is the 37th of each plane.
        assert_eq!(train.image(0).unwrap().get_pixel(5, 1).0, [39, 89, 139]);
        assert_eq!(open_split(spec, Split::Test).unwrap().len(), 1);
    }
    fs::write(root.join("test_batch.bin"), &cifar_record(&[1])[..3000]).unwrap();
    message(open_split(&root, Split::Test), &["test_batch.bin", "cut off"]);
    fs::write(root.join("test_batch.bin"), cifar_record(&[9])).unwrap();
    message(open_split(&root, Split::Test), &["record 0", "3 class names"]);
    fs::remove_file(root.join("batches.meta.txt")).unwrap();
    message(open_split(&root, Split::Train), &["batches.meta.txt", "class names"]);
}

#[test]
fn cifar_100_binary_has_fine_labels() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("fine_label_names.txt"), "apple\nbear\n").unwrap();
    fs::write(folder.path().join("train.bin"), cifar_record(&[17, 1])).unwrap();
    let set = open(&folder).unwrap();
    assert_eq!((set.classes()[1].as_str(), set.label(0)), ("bear", Some(1)));
    assert_eq!(set.image(0).unwrap().get_pixel(0, 0).0, [1, 51, 101]);
}

#[test]
fn split_files_of_coop() {
    let folder = folder();
    let file = folder.path().join("split_x.json");
    let json = r#"{"train": [["tree/b.PNG", 1, "tree"], ["Forêt noire/a.png", 0, "forest"]], "val": [], "test": [["tree/deeper/c.bmp", 1, "tree"]]}"#;
    fs::write(&file, json).unwrap();
    let train = data::open(&file.display().to_string(), &OpenOptions::split(Split::Train)).unwrap();
    assert_eq!((train.classes(), train.labels()), (&["forest".to_string(), "tree".to_string()][..], Some(vec![1, 0])));
    assert_eq!(train.image(1).unwrap().get_pixel(0, 0).0, [1; 3]);
    let options = OpenOptions { split_file: Some(file.clone()), ..OpenOptions::split(Split::Test) };
    assert_eq!(data::open(&folder.path().display().to_string(), &options).unwrap().len(), 1);
    let wrong_root = folder.path().join("tree").display().to_string();
    message(data::open(&wrong_root, &options), &["no picture at", "paths start from"]);
    message(open_split(&file, Split::Val), &["no split \"val\"", "train"]);

    let twice = r#"{"train": [["tree/b.PNG", 1, "tree"], ["tree/b.PNG", 0, "forest"]], "test": [["tree/b.PNG", 1, "tree"]]}"#;
    fs::write(&file, twice).unwrap();
    let notices = open_split(&file, Split::Train).unwrap().findings().notices.join(" ");
    assert!(notices.contains("1 pictures stand in several rows, 1 of them with different labels"), "{notices}");
    assert!(open_split(&file, Split::Test).unwrap().findings().notices.is_empty());

    for (json, parts) in [
        (r#"{"train": [["a", 0]]}"#, &["not a split file", "line 1"][..]),
        (r#"{"train": [["a", 0, "x"], ["b", 0, "y"]]}"#, &["label 0", "\"x\"", "\"y\""]),
        (r#"{"train": [["a", 1, "x"]]}"#, &["no picture has label 0"]),
        (r#"{"train": []}"#, &["empty"]),
    ] {
        fs::write(&file, json).unwrap();
        message(open_split(&file, Split::Train), parts);
    }
}

/// `n` pictures whose red is their index; those in `bad` cannot be read.
struct Numbers {
    n: usize,
    bad: Vec<usize>,
    decoded: Arc<AtomicUsize>,
}

impl ImageSource for Numbers {
    fn len(&self) -> usize {
        self.n
    }
    fn classes(&self) -> &[String] {
        &[]
    }
    fn label(&self, _: usize) -> Option<usize> {
        None
    }
    fn name(&self, i: usize) -> String {
        format!("number {i}")
    }
    fn image(&self, i: usize) -> lafter::Result<RgbImage> {
        self.decoded.fetch_add(1, Ordering::SeqCst);
        if self.bad.contains(&i) {
            return Err(Error::Image(format!("number {i}: broken")));
        }
        Ok(RgbImage::from_pixel(1, 1, Rgb([i as u8; 3])))
    }
}

fn numbers(n: usize, bad: &[usize]) -> (Dataset, Arc<AtomicUsize>) {
    let decoded = Arc::new(AtomicUsize::new(0));
    (Dataset::new(Numbers { n, bad: bad.to_vec(), decoded: decoded.clone() }), decoded)
}

#[test]
fn batches_come_in_order_whatever_the_depth() {
    let (set, _) = numbers(100, &[]);
    let batches = epoch_batches(100, 7, false, Some(&mut Rng::new(1)));
    for depth in [0, 1, 3, 100] {
        let got: Vec<_> = prefetch(&set, batches.clone(), depth, |i, image| (i, image.get_pixel(0, 0).0[0])).map(Result::unwrap).collect();
        assert_eq!(got.iter().map(|batch| batch.indices.clone()).collect::<Vec<_>>(), batches);
        assert!(got.iter().flat_map(|batch| &batch.items).all(|(i, red)| *i == usize::from(*red)));
    }
}

#[test]
fn unreadable_pictures_are_left_out_and_listed_once() {
    let (set, _) = numbers(100, &[3, 50]);
    let log = Skipped::new(set.len());
    for _ in 0..2 {
        let loader = prefetch(&set, epoch_batches(100, 10, false, None), 2, |i, _| i).log(&log);
        let all: Vec<usize> = loader.flat_map(|batch| batch.unwrap().items).collect();
        assert_eq!(all.len(), 98);
    }
    assert_eq!((log.count(), log.indices(), log.entries()[1].0.as_str()), (2, vec![3, 50], "number 50"));
    assert!(log.summary().unwrap().contains("2 of 100 pictures"));
}

#[test]
fn a_batch_without_any_readable_picture_comes_empty() {
    let (set, _) = numbers(4, &[2, 3]);
    let batches: Vec<_> = prefetch(&set, epoch_batches(4, 2, false, None), 2, |i, _| i).max_unreadable(0.5).map(Result::unwrap).collect();
    assert_eq!((batches.len(), batches[0].items.clone(), batches[1].items.clone()), (2, vec![0, 1], vec![]));
}

#[test]
fn too_many_unreadable_pictures_end_the_iteration() {
    let (set, _) = numbers(100, &[1, 2, 3, 4, 5, 6, 7, 8]);
    let mut loader = prefetch(&set, epoch_batches(100, 10, false, None), 2, |i, _| i);
    message(loader.next().unwrap(), &["6 of 100", "5 %", "number 1: broken", "remove them"]);
    assert!(loader.next().is_none());
}

#[test]
fn dropping_the_loader_stops_it() {
    let (set, decoded) = numbers(100_000, &[]);
    let mut loader = prefetch(&set, epoch_batches(100_000, 10, false, None), 2, |i, _| i);
    assert_eq!(loader.next().unwrap().unwrap().len(), 10);
    drop(loader);
    let at = decoded.load(Ordering::SeqCst);
    assert!(at < 1000, "{at}");
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(decoded.load(Ordering::SeqCst), at);
}

#[test]
fn mistakes_of_the_caller_end_the_iteration_with_an_error() {
    let (set, _) = numbers(4, &[]);
    let mut loader = prefetch(&set, vec![vec![0], vec![4]], 2, |i, _| i);
    assert!(loader.next().unwrap().unwrap_err().is_usage());
    assert!(loader.next().is_none());
    let mut loader = prefetch(&set, vec![vec![0], vec![1]], 2, |i, _| if i == 1 { panic!("on purpose") } else { i });
    assert!(loader.next().unwrap().is_ok());
    message(loader.next().unwrap(), &["panicked"]);
    assert!(loader.next().is_none());
}

#[test]
fn pictures_of_a_cached_set_are_decoded_once() {
    let (set, decoded) = numbers(20, &[]);
    let cached = set.cached(1000);
    for _ in 0..3 {
        let count = prefetch(&cached, epoch_batches(20, 5, false, None), 2, |_, _| ()).map(|batch| batch.unwrap().len()).sum::<usize>();
        assert_eq!(count, 20);
    }
    assert_eq!(decoded.load(Ordering::SeqCst), 20);
}

#[test]
#[ignore = "needs LAFTER_TEST_DATA, see tests/README.md"]
fn real_cifar_10() {
    let path = test_data("cifar10");
    for (split, least) in [(Split::Train, 10_000), (Split::Test, 2_000)] {
        let set = open_split(&path, split).unwrap();
        let count = set.len();
        assert!(count >= least && set.classes().len() == 10, "{split:?}: {count} pictures of {} classes", set.classes().len());
        assert_eq!((set.classes()[0].as_str(), set.classes()[9].as_str()), ("airplane", "truck"));
        let labels = set.labels().unwrap();
        for class in 0..10 {
            let share = labels.iter().filter(|label| **label == class).count() * 10;
            assert!((count * 8 / 10..=count * 12 / 10).contains(&share), "class {class}: {share} of {count}");
        }
        assert_eq!(set.image(count - 1).unwrap().dimensions(), (32, 32));
    }
}

#[test]
#[ignore = "needs LAFTER_TEST_DATA, see tests/README.md"]
fn real_photographs_decode() {
    let set = open(test_data("photos")).unwrap();
    assert_eq!((set.labels(), set.is_empty()), (None, false));
    let few = set.take(8);
    let loader = prefetch(&few, epoch_batches(few.len(), 4, false, None), 2, |_, image| image.dimensions());
    let skipped = loader.skipped();
    assert!(loader.flat_map(|batch| batch.unwrap().items).all(|(width, height)| width > 50 && height > 50));
    assert_eq!(skipped.count(), 0);
}
