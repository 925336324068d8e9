//! ImageNet's size: how soon a data set of 1.28 million pictures is there, what it takes, and how fast it gives pictures.
//!
//! `cargo bench --bench million -- folders` makes 1,000 class folders of links to a few pictures in the system's temporary folder
//! (`TMPDIR`), opens them in a process of its own, and removes them. `--pictures N` takes another number (1,281,167), `--side N`
//! pictures of another side (500 × 375 pixels at 500). A row runs only if it is named:
//!
//! | row | what |
//! |---|---|
//! | folders | 1,000 class folders; every file is a hard link to one of a few pictures |
//! | links | the same with symbolic links: an inode each |
//! | shards | 1,282 tar shards, links to four of a thousand pictures each: about 300 MB at 500 |
//! | parquet | 294 Parquet files, links to four with row groups of 100 rows, in which images lie as on the hub |
//!
//! `open_seconds`: until the data set is there, again with what the first time left; `start_seconds`: with the hash that a run is
//! resumed by, the cache's slots and the first epoch's order. `rss_bytes`: resident then, before any tower; `most_rss_bytes`: the
//! peak up to there, and `after_rss_bytes` after pictures were read. `pictures_per_second`: 4,000 pictures of the shuffled epoch,
//! decoded and prepared as a weak view.

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use lafter::augment::Preprocess;
use lafter::clip::Clip;
use lafter::data::{self, OpenOptions, PictureCache, epoch_batches, prefetch_with};
use lafter::embed::Keep;
use lafter::rng::Rng;
use lafter::{Error, Result};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

#[global_allocator]
static ALLOCATOR: lafter::allocator::MiMalloc = lafter::allocator::MiMalloc;

const CLASSES: usize = 1000;
const SHARDS: usize = 1282;
const FILES: usize = 294;
/// Different pictures, and different shards and Parquet files.
const FEW: usize = 16;
const FEW_FILES: usize = 4;
/// Pictures that are read.
const READ: usize = 4000;
/// Names the data set to a process that measures.
const MEASURE: &str = "LAFTER_BENCH_DATA";

fn main() -> Result<()> {
    if let Ok(path) = std::env::var(MEASURE) {
        return measure(Path::new(&path));
    }
    let (mut rows, mut pictures, mut side) = (Vec::new(), 1_281_167, 500);
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--pictures" => pictures = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(pictures),
            "--side" => side = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(side),
            _ => rows.push(argument),
        }
    }
    for row in rows {
        let folder = tempfile::tempdir().map_err(|e| Error::io(std::env::temp_dir(), e))?;
        let (started, set) = (Instant::now(), folder.path().join("set"));
        let make = match row.as_str() {
            "folders" => folders(&set, pictures, side, |picture, to| fs::hard_link(picture, to)),
            #[cfg(unix)]
            "links" => folders(&set, pictures, side, |picture, to| std::os::unix::fs::symlink(picture, to)),
            "shards" => shards(&set, pictures, side),
            "parquet" => parquets(&set, pictures, side),
            _ => continue,
        };
        make.map_err(|e| Error::io(&set, e))?;
        eprintln!("{row}: {pictures} pictures made in {:.0} s", started.elapsed().as_secs_f64());
        let program = std::env::current_exe().map_err(|e| Error::io(&set, e))?;
        let measured = Command::new(program).env(MEASURE, &set).output().map_err(|e| Error::io(&set, e))?;
        if !measured.status.success() {
            return Err(Error::Data(String::from_utf8_lossy(&measured.stderr).into_owned()));
        }
        eprint!("{}", String::from_utf8_lossy(&measured.stderr));
        print!("{{\"row\":\"{row}\",{}", String::from_utf8_lossy(&measured.stdout).trim_start_matches('{'));
    }
    Ok(())
}

/// Opens the set twice and reads some of it.
fn measure(path: &Path) -> Result<()> {
    let clip = Clip::demo()?;
    let weak = Preprocess::clip(224);
    let rss = || {
        let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
    };
    let base = rss();
    let options = OpenOptions { index_cache: Some(path.with_extension("index")), ..OpenOptions::default() };
    let open = || {
        let started = Instant::now();
        let set = data::open(&path.display().to_string(), &options)?;
        Ok::<_, Error>((set, started.elapsed().as_secs_f64()))
    };
    let (first, first_seconds) = open()?;
    drop(first);
    let most_first = lafter::eval::peak_rss_bytes();
    let started = Instant::now();
    let (set, seconds) = open()?;
    let opened = rss();
    let set = set.cached_in(&PictureCache::new_in(path.with_extension("cache"), 64 << 20));
    let fingerprint = Instant::now();
    Keep::decisive(&clip, &set, "");
    let fingerprint = fingerprint.elapsed().as_secs_f64();
    let mut batches = epoch_batches(set.len(), 50, true, Some(&mut Rng::new(1)));
    let (start, resident, most) = (started.elapsed().as_secs_f64(), rss(), lafter::eval::peak_rss_bytes());
    let (pictures, classes) = (set.len(), set.classes().len());
    batches.truncate(READ / 50);
    let (started, mut read) = (Instant::now(), 0);
    for batch in
        prefetch_with(&set, batches, 2, move |set, index| set.view(index, weak.geometry_key(), None, &|picture| weak.image(picture)))
    {
        read += batch?.len();
    }
    let rate = read as f64 / started.elapsed().as_secs_f64();
    let line = serde_json::json!({
        "pictures": pictures, "classes": classes, "first_open_seconds": first_seconds, "open_seconds": seconds,
        "fingerprint_seconds": fingerprint, "start_seconds": start, "base_rss_bytes": base, "opened_rss_bytes": opened,
        "first_most_rss_bytes": most_first, "rss_bytes": resident, "most_rss_bytes": most, "after_rss_bytes": rss(),
        "pictures_per_second": rate, "threads": rayon::current_num_threads(),
    });
    println!("{line}");
    Ok(())
}

/// A noisy picture of about a hundred thousand bytes at side 500, as photographs have.
fn jpeg(number: usize, side: u32) -> Vec<u8> {
    let mut rng = Rng::new(number as u64);
    let height = side * 3 / 4;
    let noise: Vec<f32> = (0..side * height).map(|_| rng.normal()).collect();
    let picture = image::RgbImage::from_fn(side, height, |x, y| {
        let grain = 9.0 * noise[(y * side + x) as usize];
        image::Rgb([x, y, x + y].map(|value| ((value * 255 / side.max(1)) as f32 * 0.5 + 60.0 + grain) as u8))
    });
    let mut bytes = Vec::new();
    let _ = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 85).encode_image(&picture);
    bytes
}

/// A few pictures as files.
fn few(folder: &Path, side: u32) -> std::io::Result<Vec<PathBuf>> {
    fs::create_dir_all(folder)?;
    let file = |number: usize| {
        let path = folder.join(format!("{number}.jpg"));
        fs::write(&path, jpeg(number, side)).map(|()| path)
    };
    (0..FEW).map(file).collect()
}

/// Class folders named as ImageNet's.
fn folders(set: &Path, pictures: usize, side: u32, link: impl Fn(&Path, &Path) -> std::io::Result<()>) -> std::io::Result<()> {
    // a file has at most 65,000 names on ext4
    let of = pictures.div_ceil(60_000).max(1);
    let sources: Vec<Vec<PathBuf>> =
        (0..of.div_ceil(FEW)).map(|part| few(&set.with_extension(format!("few{part}")), side)).collect::<Result<_, _>>()?;
    let sources = sources.concat();
    for class in 0..CLASSES {
        let name = format!("n{:08}", 1_440_764 + 131 * class);
        let folder = set.join(&name);
        fs::create_dir_all(&folder)?;
        for picture in (class..pictures).step_by(CLASSES) {
            link(&sources[picture / CLASSES % sources.len()], &folder.join(format!("{name}_{}.JPEG", picture / CLASSES)))?;
        }
    }
    Ok(())
}

/// One header block of a tar archive.
fn header(name: &str, size: usize) -> [u8; 512] {
    let mut header = [0; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644");
    put(124, &format!("{size:011o}"));
    put(136, "00000000000");
    put(148, "        0");
    put(257, "ustar\x00\x30\x30");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header
}

/// Links to `few` files, `count` in all.
fn linked(few: &[PathBuf], count: usize, to: impl Fn(usize) -> PathBuf) -> std::io::Result<()> {
    (0..count).try_for_each(|number| fs::hard_link(&few[number % few.len()], to(number)))
}

fn shards(set: &Path, pictures: usize, side: u32) -> std::io::Result<()> {
    let source = set.with_extension("few");
    fs::create_dir_all(&source)?;
    fs::create_dir_all(set)?;
    let (each, jpegs) = (pictures.div_ceil(SHARDS), (0..FEW).map(|number| jpeg(number, side)).collect::<Vec<_>>());
    let mut few = Vec::new();
    for shard in 0..FEW_FILES {
        let path = source.join(format!("{shard}.tar"));
        let mut file = std::io::BufWriter::new(File::create(&path)?);
        for i in 0..each {
            let (key, label) = (format!("{:09}", shard * each + i), ((shard * each + i) % CLASSES).to_string());
            for (ending, bytes) in [("jpg", jpegs[i % FEW].as_slice()), ("cls", label.as_bytes())] {
                file.write_all(&header(&format!("{key}.{ending}"), bytes.len()))?;
                file.write_all(bytes)?;
                file.write_all(&vec![0; bytes.len().next_multiple_of(512) - bytes.len()])?;
            }
        }
        file.write_all(&[0; 1024])?;
        file.flush()?;
        few.push(path);
    }
    linked(&few, SHARDS, |shard| set.join(format!("{shard:05}.tar")))
}

fn parquets(set: &Path, pictures: usize, side: u32) -> std::io::Result<()> {
    let source = set.with_extension("few");
    fs::create_dir_all(&source)?;
    fs::create_dir_all(set)?;
    let other = |error: parquet::errors::ParquetError| std::io::Error::other(error.to_string());
    let text = "message schema { optional group image { optional binary bytes; optional binary path (UTF8); } optional int64 label; }";
    let schema = Arc::new(parse_message_type(text).map_err(other)?);
    let names: Vec<String> = (0..CLASSES).map(|class| format!("class {class}")).collect();
    let features =
        serde_json::json!({"info": {"features": {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}}});
    let entry = KeyValue { key: "huggingface".into(), value: Some(features.to_string()) };
    let properties = Arc::new(WriterProperties::builder().set_key_value_metadata(Some(vec![entry])).set_dictionary_enabled(false).build());
    let (each, jpegs) = (pictures.div_ceil(FILES), (0..FEW).map(|number| ByteArray::from(jpeg(number, side))).collect::<Vec<_>>());
    let mut few = Vec::new();
    for number in 0..FEW_FILES {
        let path = source.join(format!("{number}.parquet"));
        let mut writer = SerializedFileWriter::new(File::create(&path)?, schema.clone(), properties.clone()).map_err(other)?;
        for first in (0..each).step_by(100) {
            let rows = first..(first + 100).min(each);
            let mut group = writer.next_row_group().map_err(other)?;
            let mut place = 0;
            while let Some(mut column) = group.next_column().map_err(other)? {
                match column.untyped() {
                    ColumnWriter::ByteArrayColumnWriter(column) => {
                        let value = |row: usize| match place {
                            0 => jpegs[row % FEW].clone(),
                            _ => format!("n{:08}_{row}.JPEG", row % CLASSES).into_bytes().into(),
                        };
                        let values: Vec<ByteArray> = rows.clone().map(value).collect();
                        column.write_batch(&values, Some(&vec![2; values.len()]), None).map_err(other)?;
                    }
                    ColumnWriter::Int64ColumnWriter(column) => {
                        let values: Vec<i64> = rows.clone().map(|row| ((number * each + row) % CLASSES) as i64).collect();
                        column.write_batch(&values, Some(&vec![1; values.len()]), None).map_err(other)?;
                    }
                    _ => {}
                }
                column.close().map_err(other)?;
                place += 1;
            }
            group.close().map_err(other)?;
        }
        writer.close().map_err(other)?;
        few.push(path);
    }
    linked(&few, FILES, |file| set.join(format!("train-{file:05}-of-{FILES:05}.parquet")))
}
