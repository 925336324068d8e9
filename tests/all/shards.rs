//! WebDataset's tar shards as data: keys, labels, splits, damage, the index that is kept. The shards are written here.

use std::fs;
use std::path::Path;
use std::time::Instant;

use image::{ImageFormat, Rgb, RgbImage};
use lafter::data::{self, Dataset, OpenOptions, Split};
use rayon::prelude::*;

use crate::tar_file::{archive, member};

/// A picture of one shade.
fn png(shade: u8) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    RgbImage::from_pixel(3, 2, Rgb([shade; 3])).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn open(path: impl AsRef<Path>) -> Dataset {
    Dataset::open(path).unwrap()
}

fn refusal(path: impl AsRef<Path>) -> String {
    let message = Dataset::open(path).unwrap_err().to_string();
    assert_eq!(message.lines().count(), 1);
    message
}

fn shade(set: &Dataset, i: usize) -> u8 {
    set.image(i).unwrap().get_pixel(2, 1).0[0]
}

/// Three shards with the labels in `.cls`, and texts.
fn three(root: &Path) {
    for shard in 0..3u8 {
        let keys: Vec<[String; 3]> = (0..4).map(|i| ["png", "cls", "txt"].map(|ending| format!("{i:04}.{ending}"))).collect();
        let files: Vec<(&str, Vec<u8>)> = (0u8..)
            .zip(&keys)
            .flat_map(|(i, [png_, cls, txt])| {
                [(png_.as_str(), png(shard * 10 + i)), (cls, format!("{}\n", i % 2).into()), (txt, b"a text".to_vec())]
            })
            .collect();
        write(&root.join(format!("{shard:05}.tar")), &archive(&files));
    }
}

#[test]
fn a_pattern_a_folder_and_a_file_are_data() {
    let folder = tempfile::tempdir().unwrap();
    three(folder.path());
    for spec in [folder.path().join("{00000..00002}.tar"), folder.path().to_path_buf()] {
        let set = open(&spec);
        assert_eq!((set.len(), set.classes()), (12, &["0".to_string(), "1".into()][..]));
        assert_eq!(set.labels().unwrap(), [0, 1].repeat(6));
        // several readers at once, in any order
        let shades: Vec<u8> = (0..12).into_par_iter().rev().map(|i| shade(&set, i)).collect();
        assert_eq!(shades, (0..3).flat_map(|shard| (0..4).map(move |i| shard * 10 + i)).rev().collect::<Vec<u8>>());
        assert!(set.name(5).ends_with("00001.tar, 0001.png"), "{}", set.name(5));
        let found = set.findings();
        assert_eq!(found.rule.as_deref(), Some("3 shards, labels by .cls"));
        assert_eq!(found.left_out_by_ending().as_deref(), Some("12 .txt"));
        assert!(set.image(12).unwrap_err().is_usage());
    }
    assert_eq!(open(folder.path().join("00001.tar")).len(), 4);
    let missing = refusal(folder.path().join("{00001..00004}.tar"));
    assert!(missing.contains("2 of 4 shards are not there") && missing.contains("00003.tar"), "{missing}");
}

#[test]
fn the_folders_of_splits_and_the_names_of_clip_benchmark() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("train/0.tar"), &archive(&[("a.webp", b"x".to_vec()), ("a.cls", b"2".to_vec())]));
    write(&folder.path().join("test/0.tar"), &archive(&[("s0.png", png(7)), ("s0.cls", b"1".to_vec())]));
    fs::write(folder.path().join("classnames.txt"), "sea lion\nice\nbear\n").unwrap();
    let set = data::open(&folder.path().display().to_string(), &OpenOptions::split(Split::Test)).unwrap();
    assert_eq!((set.len(), set.label(0), set.classes().len()), (1, Some(1), 3));
    assert_eq!(set.classes()[0], "sea lion");
    assert!(set.findings().rule.unwrap().contains("split \"test\""));
    assert!(set.findings().notices.iter().any(|notice| notice.contains("classnames.txt")));
    fs::write(folder.path().join("classnames.txt"), "sea lion\n").unwrap();
    assert!(refusal(folder.path().join("test")).contains("label 1, but class names are taken from"));
}

#[test]
fn labels_stand_in_json_or_are_names_or_are_missing() {
    let folder = tempfile::tempdir().unwrap();
    let json = |text: &str| text.as_bytes().to_vec();
    let path = folder.path().join("a.tar");
    write(
        &path,
        &archive(&[
            ("x/1.PNG", png(1)),
            ("x/1.json", json(r#"{"class": "ice", "kind": "water"}"#)),
            ("x/2.png", png(2)),
            ("x/2.json", json(r#"{"label": "bear", "kind": "animal"}"#)),
            ("y/2.png", png(3)),
            ("y/2.json", json("not JSON")),
            ("._y.png", b"of a system".to_vec()),
        ]),
    );
    let set = open(&path);
    assert_eq!(set.classes(), ["bear", "ice"]);
    assert_eq!((0..3).map(|i| set.label(i)).collect::<Vec<_>>(), [Some(1), Some(0), None]);
    assert!(set.require_labels().unwrap_err().to_string().contains("1 of 3 pictures have no .cls or .json"));
    let options = |name: &str| OpenOptions { label_column: Some(name.into()), ..OpenOptions::default() };
    let by_kind = data::open(&path.display().to_string(), &options("kind")).unwrap();
    assert_eq!(by_kind.classes(), ["animal", "water"]);
    let error = data::open(&path.display().to_string(), &options("none")).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("no member .json has an entry \"none\""), "{error}");

    // no labels at all: an archive of class folders
    write(&path, &archive(&[("cat/1.png", png(1)), ("dog/1.png", png(2))]));
    let set = open(&path);
    assert_eq!((set.len(), set.classes().len()), (2, 0));
    assert!(set.require_labels().unwrap_err().to_string().contains("to be unpacked"));
}

#[test]
fn long_names_and_pax_entries_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let long = format!("{}/é.v2.png", "folder".repeat(40));
    let path = folder.path().join("a.tar");
    let mut bytes = member(b"folder/", b"", b'5');
    bytes.extend(member(b"PaxHeaders/1", b"18 path=p/one.png\n13 mtime=1.5\n", b'x'));
    bytes.extend(member(b"short", &png(5), b'0'));
    bytes.extend(archive(&[(&long, png(6)), ("b.png", png(7))]));
    write(&path, &bytes);
    let set = open(&path);
    // everything after the first dot is the ending: `v2.png` is none of a picture
    assert_eq!((set.len(), shade(&set, 0), shade(&set, 1)), (2, 5, 7));
    assert!(set.name(0).ends_with("p/one.png"), "{}", set.name(0));
    assert_eq!(set.findings().left_out_by_ending().as_deref(), Some("1 .png"));
}

#[test]
fn what_is_whole_of_a_damaged_shard_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let whole = archive(&[("1.png", png(1)), ("2.png", b"no picture".to_vec()), ("3.png", png(3))]);
    write(&path, &whole);
    let set = open(&path);
    assert!(set.len() == 3 && set.image(1).unwrap_err().to_string().contains("2.png"), "a skipped picture when it is read");
    // shortened after it was opened
    fs::write(&path, &whole[..2 * 1024 + 100]).unwrap();
    assert!(set.image(2).unwrap_err().to_string().contains("fetch the shard again"));
    let cut = open(&path);
    assert_eq!(cut.len(), 2);
    let mut changed = whole.clone();
    changed[2048] ^= 1;
    fs::write(&path, &changed).unwrap();
    for (set, fault) in [(cut, "in the middle of a member"), (open(&path), "no tar header at byte 2048")] {
        let notices = set.findings().notices;
        assert!(set.len() == 2 && notices[0].contains(fault) && notices[0].contains("2 pictures before it"), "{notices:?}");
    }
    for (bytes, words) in [
        (&b"hello"[..], "not a whole tar archive"),
        (&[0x1f, 0x8b, 8, 0], "gunzip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (&archive(&[("a.txt", b"x".to_vec())]), "no pictures, but 1 .txt"),
        (b"", "empty"),
    ] {
        fs::write(&path, bytes).unwrap();
        assert!(refusal(&path).contains(words), "{}", refusal(&path));
    }
}

#[test]
fn the_index_is_kept_and_follows_the_shards() {
    let folder = tempfile::tempdir().unwrap();
    let (data, cache) = (folder.path().join("data"), folder.path().join("cache"));
    three(&data);
    let options = OpenOptions { index_cache: Some(cache.clone()), ..OpenOptions::default() };
    let open = || data::open(&data.display().to_string(), &options).unwrap();
    let labels = open().labels();
    let kept = || fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).next().unwrap();
    let (first, written) = (fs::read(kept()).unwrap(), || fs::metadata(kept()).unwrap().modified().unwrap());
    let (once, _) = (written(), open());
    assert_eq!(written(), once, "nothing was listed anew");
    assert_eq!((open().labels(), shade(&open(), 9)), (labels.clone(), 21));
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 1);
    // other labels of the same size, at the same time: the shard is listed anew
    let shard = data.join("00002.tar");
    let time = fs::metadata(&shard).unwrap().modified().unwrap();
    let bytes = fs::read(&shard).unwrap();
    let swapped = Vec::from_iter(bytes.chunks(512).flat_map(|block| match block {
        [label @ (b'0' | b'1'), b'\n', 0, ..] => [&[label ^ 1], &block[1..]].concat(),
        block => block.to_vec(),
    }));
    fs::write(&shard, &swapped).unwrap();
    fs::File::options().write(true).open(&shard).unwrap().set_modified(time).unwrap();
    let before = open().labels();
    assert_ne!((before, swapped == bytes), (labels, false));
    assert_ne!(fs::read(kept()).unwrap(), first);
    // and another number of pictures
    fs::write(&shard, archive(&[("0.png", png(1)), ("0.cls", b"1".to_vec())])).unwrap();
    assert_eq!(open().len(), 9);
    // a damaged index is none
    let mut damaged = fs::read(kept()).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(kept(), &damaged).unwrap();
    assert_eq!(open().len(), 9);
    assert_ne!(fs::read(kept()).unwrap(), damaged);
}

#[test]
fn check_says_what_was_understood() {
    let folder = tempfile::tempdir().unwrap();
    three(&folder.path().join("set"));
    let pattern = folder.path().join("set/{00000..00002}.tar");
    let mut command = crate::common::program();
    command.args(["check", "--model", "demo", "--test"]).arg(&pattern).env("XDG_CACHE_HOME", folder.path().join("cache"));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    for words in ["12 pictures, 2 classes of 6", "3 shards, labels by .cls", "left out by ending: 12 .txt"] {
        assert!(said.contains(words), "{said}{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(fs::read_dir(folder.path().join("cache/lafter/shards")).unwrap().count(), 1);
}

/// ImageNet's number of pictures: `LAFTER_SHARDS=1282 cargo test --test all shards:: -- --ignored --nocapture`.
#[test]
#[ignore = "writes 2 kB for each of 1,000 pictures in a shard: 2.6 GB for ImageNet's number"]
fn listing_many_pictures() {
    let shards = std::env::var("LAFTER_SHARDS").ok().and_then(|number| number.parse().ok()).unwrap_or(200);
    let folder = tempfile::tempdir().unwrap();
    for shard in 0..shards {
        let names: Vec<[String; 2]> = (0..1000).map(|i| ["jpg", "cls"].map(|ending| format!("{:09}.{ending}", shard * 1000 + i))).collect();
        let files = names.iter().zip(0..).flat_map(|([jpg, cls], i)| [(jpg.as_str(), vec![1; 100]), (cls, format!("{i}").into())]);
        fs::write(folder.path().join(format!("{shard:05}.tar")), archive(&files.collect::<Vec<_>>())).unwrap();
    }
    let options = OpenOptions { index_cache: Some(folder.path().join(".cache")), ..OpenOptions::default() };
    for what in ["headers read", "index read"] {
        let started = Instant::now();
        let set = data::open(&folder.path().display().to_string(), &options).unwrap();
        println!("{} pictures, {what}: {:.2} s", set.len(), started.elapsed().as_secs_f64());
        assert_eq!((set.len(), set.classes().len()), (1000 * shards, 1000));
    }
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default());
    }
}
