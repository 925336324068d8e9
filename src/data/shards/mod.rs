//! WebDataset's shards: tar archives of pictures, with their labels next to them.
//!
//! Members `KEY.jpg` (or another picture), `KEY.cls` and `KEY.json` belong together, where KEY is everything before the first dot of
//! the file's name, the folders included, and they follow one another. Opening reads headers and labels, never pictures; nothing
//! is extracted: a picture is read from its place in the shard when it is asked for, by any number of threads. The index of headers
//! and labels is kept where [`OpenOptions::index_cache`] says.

mod braces;
mod index;
mod kept;
mod tar;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use image::RgbImage;
use rayon::prelude::*;

use self::index::{Index, NONE};
use self::kept::Stamp;
use crate::data::decode::decode;
use crate::data::findings::Findings;
use crate::data::folder::file_name;
use crate::data::options::OpenOptions;
use crate::data::parquet::labels::{Labels, UNKNOWN};
use crate::data::slow::Slow;
use crate::data::source::ImageSource;
use crate::data::split_files::Chosen;
use crate::error::{Error, Result};
use crate::files::read_text;
use crate::files::{fnv, version};
use crate::progress::Event;

pub(crate) use braces::expand;

/// The names of numbered classes, next to the shards or above them, as CLIP's benchmarks have it.
pub(crate) const NAMES: &str = "classnames.txt";

/// Shards that are listed between two reports of progress.
const AT_A_TIME: usize = 64;

/// Faults that are listed; more are counted.
const SHOWN: usize = 3;

/// The shards, one after the other.
struct Shards {
    origin: String,
    paths: Vec<PathBuf>,
    indices: Vec<Index>,
    /// The first picture of each shard.
    firsts: Vec<usize>,
    labels: Vec<u32>,
    classes: Vec<String>,
    findings: Findings,
}

/// Opens shards as one data set; `chosen` says how they were chosen.
///
/// # Errors
/// [`Error::Data`] if none of them holds a picture, or labels go beyond their names; [`Error::Io`] if one cannot be opened;
/// [`Error::Usage`] for an entry of labels that no `.json` has.
pub(crate) fn open(
    paths: &[PathBuf],
    origin: &str,
    options: &OpenOptions,
    chosen: &Chosen,
    events: &mut dyn FnMut(&Event),
) -> Result<impl ImageSource + use<>> {
    let entry = options.label_column.as_deref();
    let mut indices = indices(paths, options, events)?;
    let mut findings = Findings { rule: chosen.rule.clone(), notices: chosen.notices.clone(), has_columns: true, ..Findings::default() };
    note_faults(paths, &indices, &mut findings);
    let (mut firsts, mut pictures) = (Vec::new(), 0);
    for index in &indices {
        firsts.push(pictures);
        pictures += index.ends.len();
        index.facts.left_out.iter().for_each(|(ending, count)| *findings.left_out.entry(ending.clone()).or_insert(0) += count);
    }
    if pictures == 0 {
        return Err(nothing(origin, paths, &indices, &findings));
    }
    let sum = |count: fn(&Index) -> usize| indices.iter().map(count).sum::<usize>();
    let (by_cls, by_json, lost) = (sum(|index| index.facts.by_cls), sum(|index| index.facts.by_json), sum(|index| index.facts.lost));
    if let (Some(entry), 0) = (entry, by_json) {
        return Err(Error::Usage(format!("{origin}: no member .json has an entry \"{entry}\": name another with --label-column")));
    }
    let by = match (by_cls, by_json) {
        (0, 0) => "without labels",
        (_, 0) => "labels by .cls",
        (0, _) => "labels by .json",
        _ => "labels by .cls and .json",
    };
    findings.add_rule(&format!("{} shard{}, {by}", paths.len(), if paths.len() == 1 { "" } else { "s" }));
    if lost > 0 {
        findings.notices.push(format!("{lost} labels have no picture of the same key next to them (a shard is written key after key)"));
    }
    let (classes, labels) = labels(paths, &mut indices, &mut findings, origin)?;
    if by_cls + by_json == 0 {
        let text = "no KEY.cls stands next to KEY.jpg, nor label or class in KEY.json (an archive of class folders is to be unpacked)";
        findings.unlabeled = Some(text.into());
    } else if by_cls + by_json < pictures {
        let text = format!("{} of {pictures} pictures have no .cls or .json of the same key next to them", pictures - by_cls - by_json);
        findings.unlabeled.get_or_insert(text);
    }
    Ok(Shards { origin: origin.into(), paths: paths.to_vec(), indices, firsts, labels, classes, findings })
}

/// The index of each shard: as it was kept, where the shard is as it was then; else read, and all of them kept.
fn indices(paths: &[PathBuf], options: &OpenOptions, events: &mut dyn FnMut(&Event)) -> Result<Vec<Index>> {
    let entry = options.label_column.as_deref();
    let file = options.index_cache.as_ref().map(|folder| kept::path(folder, paths, entry));
    let stamps: Vec<Option<Stamp>> = paths.par_iter().map(|path| Stamp::of(path)).collect();
    let mut known = file.as_deref().and_then(kept::read).filter(|known| known.len() == paths.len());
    let kept: Vec<Option<Index>> = match &mut known {
        Some(known) => known.drain(..).zip(&stamps).map(|((then, index), now)| (then.is_some() && then == *now).then_some(index)).collect(),
        None => paths.iter().map(|_| None).collect(),
    };
    let whole = kept.iter().all(Option::is_some);
    let read = |(kept, path): (Option<Index>, &PathBuf)| kept.map_or_else(|| Index::read(path, entry), Ok);
    let mut slow = Slow::new(events, "listing shards", paths.len(), "shards");
    let (mut kept, mut indices) = (kept, Vec::with_capacity(paths.len()));
    for part in paths.chunks(AT_A_TIME) {
        let known: Vec<Option<Index>> = kept.drain(..part.len()).collect();
        indices.extend(known.into_par_iter().zip(part).map(read).collect::<Result<Vec<_>>>()?);
        slow.done(indices.len())?;
    }
    let (Some(file), false) = (file, whole) else { return Ok(indices) };
    let mut all: Vec<(Option<Stamp>, Index)> = stamps.into_iter().zip(indices).collect();
    // A folder that cannot be written keeps nothing: the next start is slower, not wrong.
    let _ = kept::write(&file, &mut all);
    Ok(all.into_iter().map(|(_, index)| index).collect())
}

/// Says which shards are not whole, and how much of them is taken.
fn note_faults(paths: &[PathBuf], indices: &[Index], findings: &mut Findings) {
    let faults = || paths.iter().zip(indices).filter_map(|(path, index)| Some((path, index, index.facts.fault.as_ref()?)));
    for (path, index, fault) in faults().take(SHOWN) {
        let (shown, taken) = (path.display(), index.ends.len());
        findings.notices.push(format!("{shown}: {fault}: {taken} pictures before it are taken: fetch the shard again"));
    }
    let more = faults().count().saturating_sub(SHOWN);
    if more > 0 {
        findings.notices.push(format!("{more} more shards are not whole"));
    }
}

/// What to do where no picture was found.
fn nothing(origin: &str, paths: &[PathBuf], indices: &[Index], findings: &Findings) -> Error {
    let fault = paths.iter().zip(indices).find_map(|(path, index)| Some((path, index.facts.fault.as_ref()?)));
    Error::Data(match (fault, findings.left_out_by_ending()) {
        (Some((path, fault)), _) => {
            let shown = path.display();
            let mut first = [0; 24];
            let read = File::open(path).and_then(|mut file| file.read(&mut first)).unwrap_or(0);
            if first.get(..read).is_some_and(|first| first.starts_with(b"version https://git-lfs")) {
                format!("{shown}: is not the file but Git LFS's note of it: run git lfs pull there, or name the set as hf:owner/name")
            } else if first.starts_with(&[0x1f, 0x8b]) {
                format!("{shown}: is compressed: unpack it with gunzip, since pictures are read where they lie")
            } else {
                format!("{shown}: not a whole tar archive: it {fault}: fetch it again")
            }
        }
        (None, Some(found)) => format!("{origin}: the shards hold no pictures, but {found}: KEY.jpg, .png or .webp is expected"),
        (None, None) => format!("{origin}: the shards are empty: fetch them again"),
    })
}

/// Class names and the label of each picture, joined over the shards.
fn labels(paths: &[PathBuf], indices: &mut [Index], findings: &mut Findings, origin: &str) -> Result<(Vec<String>, Vec<u32>)> {
    let mut joined = Labels::default();
    let files = paths.first().into_iter().flat_map(|path| path.ancestors().skip(1).take(2)).map(|folder| folder.join(NAMES));
    if let Some(file) = files.into_iter().find(|file| file.is_file()) {
        let names: Vec<String> = read_text(&file)?.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_string).collect();
        joined.name(names, file.display().to_string(), origin)?;
    }
    for index in indices {
        let places: Vec<u32> = index.facts.texts.iter().map(|text| joined.text(text)).collect();
        let of = |label: u32| if label == NONE { UNKNOWN } else { places.get(label as usize).copied().unwrap_or(UNKNOWN) };
        std::mem::take(&mut index.labels).into_iter().for_each(|label| joined.add(of(label)));
    }
    if let Some(highest) = joined.looks_like_ids() {
        let all = joined.len();
        let text = format!("labels go up to {highest} in {all} pictures, as ids do: --label-column names another entry of the .json");
        findings.unlabeled = Some(text);
        joined = Labels::default();
        joined.unknown(all);
    }
    let (mut classes, labels, notice) = joined.finish();
    let highest = labels.iter().filter(|label| **label != UNKNOWN).max();
    match highest.map(|highest| *highest as usize) {
        None => classes = Vec::new(),
        Some(highest) if highest >= classes.len() => {
            let from = notice.unwrap_or_default();
            let remedy = "correct that file, or remove it and pass --classes";
            return Err(Error::Data(format!("{origin}: has label {highest}, but {from}, which names {} classes: {remedy}", classes.len())));
        }
        Some(_) => findings.notices.extend(notice),
    }
    Ok((classes, labels))
}

impl Shards {
    /// The shard of picture `i`, and its name, first byte and size there.
    fn place(&self, i: usize) -> Option<(&Path, &str, u64, u32)> {
        let shard = self.firsts.partition_point(|first| *first <= i).checked_sub(1)?;
        let (name, start, size) = self.indices.get(shard)?.get(i - self.firsts.get(shard)?)?;
        Some((self.paths.get(shard)?, name, start, size))
    }
}

impl ImageSource for Shards {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, i: usize) -> Option<usize> {
        self.labels.get(i).filter(|label| **label != UNKNOWN).map(|label| *label as usize)
    }

    fn name(&self, i: usize) -> String {
        match self.place(i) {
            Some((path, name, ..)) => format!("{}, {name}", path.display()),
            None => format!("{}, picture {i}", self.origin),
        }
    }

    fn image(&self, i: usize) -> Result<RgbImage> {
        let Some((path, _, start, size)) = self.place(i) else {
            return Err(Error::Usage(format!("{}: picture {i} of {} was asked for", self.origin, self.len())));
        };
        let read = || {
            // Opened anew: a data set may have more files than a process may hold open, and threads do not disturb each other.
            let mut file = File::open(path)?;
            if file.metadata()?.len() < start.saturating_add(size.into()) {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            file.seek(SeekFrom::Start(start))?;
            let mut bytes = vec![0; size as usize];
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        let fault =
            |e: std::io::Error| Error::Image(format!("{}: cannot be read from its shard ({e}): fetch the shard again", self.name(i)));
        decode(&read().map_err(fault)?, &self.name(i))
    }

    fn origin(&self) -> String {
        self.origin.clone()
    }

    /// The shard's and the member's name, and its place and size.
    fn stamp(&self, i: usize) -> u64 {
        let Some((path, name, start, size)) = self.place(i) else { return 0 };
        let place = start.rotate_left(32) ^ u64::from(size);
        fnv(file_name(path).as_bytes()).rotate_left(7) ^ fnv(name.as_bytes()) ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn version(&self, i: usize) -> u64 {
        self.place(i).map_or(0, |(path, ..)| version(path))
    }

    fn findings(&self) -> Findings {
        self.findings.clone()
    }
}
