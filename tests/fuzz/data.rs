//! Pictures: every format that is decoded, Parquet, CIFAR, split files.

use std::path::Path;

use image::ImageReader;
use lafter::Result;
use lafter::data::decode::{MAX_PIXELS, decode};
use lafter::data::{self, Dataset, OpenOptions};

use crate::containers::mend_png;
use crate::{Form, Loader, fixture, tar_file};

/// The decoded size is the one that the file states, upright or turned.
fn pictures(name: &'static str, form: Form, files: &[&str]) {
    let seeds = files.iter().map(|file| fixture(&format!("augment/decode/{file}"))).collect();
    Loader { name, inputs: 300, file: "picture", form, seeds, others: vec![] }.check(|folder| {
        let bytes = std::fs::read(folder.join("picture")).unwrap_or_default();
        let (width, height) = decode(&bytes, "picture")?.dimensions();
        assert!(u64::from(width) * u64::from(height) <= MAX_PIXELS, "a picture above the limit");
        let reader = ImageReader::new(std::io::Cursor::new(&bytes)).with_guessed_format();
        let mut mended = bytes.clone();
        mend_png(&mut mended, &[b"IHDR", b"PLTE", b"IDAT"]);
        assert!(form != Form::Png || mended == bytes, "a wrong checksum");
        if let Some(stated) = reader.ok().and_then(|reader| reader.into_dimensions().ok()) {
            assert!(stated == (width, height) || stated == (height, width), "{width} x {height} of {stated:?}");
        }
        Ok(())
    });
}

#[test]
fn png() {
    let files = [
        "1.png",
        "l.png",
        "l16.png",
        "la.png",
        "la16.png",
        "orientation_6.png",
        "p.png",
        "p_transparent.png",
        "rgb.png",
        "rgb16.png",
        "rgba.png",
    ];
    pictures("png", Form::Png, &files);
}

#[test]
fn jpeg() {
    let files = ["cmyk.jpg", "ycck.jpg", "grey.jpg", "keep_rgb.jpg", "orientation_6.jpg", "progressive.jpg", "rgb420.jpg", "rgb444.jpg"];
    pictures("jpeg", Form::Bytes, &files);
}

#[test]
fn gif() {
    pictures("gif", Form::Bytes, &["animated.gif", "p.gif", "p_transparent.gif"]);
}

#[test]
fn bmp() {
    pictures("bmp", Form::Bytes, &["l.bmp", "p.bmp", "rgb.bmp"]);
}

#[test]
fn webp() {
    pictures("webp", Form::Bytes, &["lossless.webp", "lossless_rgba.webp", "lossy.webp", "orientation_8.webp"]);
}

#[test]
fn tiff() {
    pictures("tiff", Form::Bytes, &["cmyk.tiff", "l.tiff", "l16.tiff", "rgb.tiff", "rgb_lzw.tiff", "rgba.tiff"]);
}

#[test]
fn pnm() {
    pictures("pnm", Form::Bytes, &["1.pbm", "l.pgm", "l16.pgm", "rgb.ppm"]);
}

/// Labels are classes; the pictures can be asked for.
pub fn right(set: &Dataset) -> Result<()> {
    let classes = set.classes().len();
    let labels: Vec<usize> = (0..set.len()).filter_map(|i| set.label(i)).collect();
    assert!(labels.iter().all(|label| *label < classes), "labels beyond {classes} classes");
    assert!(set.classes().iter().all(|name| !name.trim().is_empty()), "a class without a name");
    let _ = (set.findings(), format!("{set:?}"));
    for i in 0..set.len().min(12) {
        let _ = set.name(i);
        if let Ok(picture) = set.image(i) {
            assert!(picture.width() > 0 && picture.height() > 0);
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<Dataset> {
    data::open(&path.display().to_string(), &OpenOptions::default())
}

#[test]
fn parquet() {
    let seeds = ["plain", "snappy", "zstd", "odd", "names"].map(|name| fixture(&format!("data/{name}.parquet"))).to_vec();
    let loader = Loader { name: "parquet", inputs: 300, file: "train.parquet", form: Form::Bytes, seeds, others: vec![] };
    loader.check(|folder| right(&open(&folder.join("train.parquet"))?));
}

#[test]
fn cifar() {
    let record = |label: u8| [vec![label], (0..3072).map(|i| (i * 7) as u8).collect()].concat();
    let (seed, names) = ((0..3).flat_map(record).collect(), b"airplane\nautomobile\nbird\n".to_vec());
    let others = vec![("batches.meta.txt", names)];
    Loader { name: "cifar", inputs: 300, file: "data_batch_1.bin", form: Form::Bytes, seeds: vec![seed], others }.check(|folder| {
        let set = open(folder)?;
        right(&set)?;
        assert!((0..set.len()).all(|i| set.image(i).is_ok_and(|picture| picture.dimensions() == (32, 32))), "no picture of 32 x 32");
        Ok(())
    });
}

#[test]
fn split_file() {
    let seed = br#"{"train": [["a/1.ppm", 0, "house"], ["b/1.ppm", 1, "fish"]], "val": [], "test": [["a/1.ppm", 0, "house"]]}"#.to_vec();
    let others = vec![("a/1.ppm", fixture("augment/decode/rgb.ppm")), ("b/1.ppm", fixture("augment/decode/rgb.ppm"))];
    Loader { name: "split_file", inputs: 400, file: "split.json", form: Form::Json, seeds: vec![seed], others }.check(|folder| {
        let options = OpenOptions::split(data::Split::Train);
        right(&data::open(&folder.join("split.json").display().to_string(), &options)?)
    });
}

/// A folder of pictures with the file of datasets' imagefolder that gives their labels.
fn metadata(name: &'static str, file: &str, form: Form, seeds: &[&str]) {
    let others = vec![("1.ppm", fixture("augment/decode/rgb.ppm")), ("b/2.ppm", fixture("augment/decode/rgb.ppm"))];
    let seeds = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    Loader { name, inputs: 300, file, form, seeds, others }.check(|folder| right(&open(folder)?));
}

#[test]
fn metadata_jsonl() {
    let seed = r#"{"file_name": "1.ppm", "label": "house"}
{"file_name": "b/2.ppm", "label": "fish"}
"#;
    metadata("metadata_jsonl", "metadata.jsonl", Form::JsonLines, &[seed]);
}

#[test]
fn metadata_csv() {
    metadata("metadata_csv", "metadata.csv", Form::Lines, &["file_name,label\n1.ppm,house\nb/2.ppm,\"fish, small\"\n"]);
}

#[test]
fn shards() {
    let picture = fixture("augment/decode/rgb.ppm");
    let plain = [("1.ppm", picture.clone()), ("1.cls", b"0".to_vec()), ("2.ppm", picture.clone()), ("2.json", br#"{"label": 1}"#.to_vec())];
    let long = "a/".repeat(80) + "3.ppm";
    let mut pax = tar_file::member(b"x", b"14 path=4.ppm\n12 size=100\n", b'x');
    pax.extend(tar_file::member(b"4", &picture[..100.min(picture.len())], b'0'));
    let seeds = vec![tar_file::archive(&plain), tar_file::archive(&[(&long, picture), ("b.cls", b"cat".to_vec())]), pax];
    Loader { name: "shards", inputs: 400, file: "0.tar", form: Form::Bytes, seeds, others: vec![] }
        .check(|folder| right(&open(&folder.join("0.tar"))?));
}
