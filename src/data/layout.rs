//! How a folder is laid out: splits, classes, an archive's outer folder, pictures side by side.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::data::dataset::Dataset;
use crate::data::findings::Findings;
use crate::data::folder::{self, Holds, Listing, ending, file_name};
use crate::data::options::OpenOptions;
use crate::data::split::{canonical, choose, is_split_name};
use crate::data::split_files::{Chosen, choose_files};
use crate::data::{cifar, metadata, parquet, shards};
use crate::error::{Error, Result};
use crate::progress::Event;

/// Names of folders that hold the pictures among others that hold what belongs to them.
const MAIN: [&str; 8] = ["images", "image", "imgs", "img", "photos", "pictures", "jpegimages", "data"];
/// Words in the names of the others, without a last s: `annotations`, `SegmentationClass`.
const BESIDE: [&str; 14] = [
    "annotation",
    "annot",
    "label",
    "mask",
    "meta",
    "metadata",
    "trimap",
    "segmentation",
    "bbox",
    "doc",
    "attribute",
    "part",
    "list",
    "imageset",
];

/// Opens a folder; `found` takes which part of it was opened, and why.
pub(crate) fn open_folder(
    path: &Path,
    split: Option<&str>,
    options: &OpenOptions,
    found: &mut Findings,
    events: &mut dyn FnMut(&Event),
) -> Result<Dataset> {
    if cifar::is_cifar(path) {
        return Ok(Dataset::new(cifar::open(path, split)?));
    }
    let listing = folder::list(path)?;
    if listing.others.iter().any(|file| is_parquet(file)) {
        match open_parquet_split(&listing.others, path, split, options, events) {
            Err(e) if without_pictures(&e) && has_pictures(&listing) => pass_over(&e, found),
            opened => return opened,
        }
    }
    if let Some(files) = metadata::open(path, &listing, split, options.label_column.as_deref(), found)? {
        return Ok(Dataset::new(files));
    }
    let mut parts: Vec<Part> = listing.folders.iter().map(|folder| Part::look(folder)).collect();
    if parts.iter().any(|part| part.holds == Holds::Parquet) {
        let pictures = parts.iter().filter(|part| matches!(part.holds, Holds::Pictures | Holds::Below));
        let pictures: Vec<&str> = pictures.map(|part| part.name.as_str()).collect();
        let opened = parquet_below(path).and_then(|files| open_parquet_split(&files, path, split, options, events));
        let passed_over = match &opened {
            Err(e) if without_pictures(e) && !(pictures.is_empty() && listing.pictures.is_empty()) => {
                pass_over(e, found);
                true
            }
            _ => false,
        };
        if !passed_over && !pictures.is_empty() {
            found.notices.push(format!(
                "{}: the Parquet files are opened; pictures in {} are left out",
                path.display(),
                pictures.join(", ")
            ));
        }
        if !passed_over {
            return opened;
        }
        parts.retain(|part| part.holds != Holds::Parquet);
    }
    let holders: Vec<&Part> = parts.iter().filter(|part| part.holds != Holds::Nothing).collect();
    if let [only] = parts.as_slice()
        && cifar::is_cifar(&only.path)
    {
        return Ok(Dataset::new(cifar::open(&only.path, split)?));
    }
    if listing.pictures.is_empty() && holders.is_empty() {
        let files = shards_below(&listing)?;
        if !files.is_empty() {
            return open_shards(&files, path, split, options, events);
        }
    }
    if listing.pictures.is_empty() {
        if let Some(inner) = split_folder(path, &holders, split, found)? {
            return open_folder(inner, split, options, found, events);
        }
        if let Some(inner) = inner_folder(&parts, &holders) {
            found.add_rule(&format!("inner folder {}", inner.name));
            let others: Vec<&str> = holders.iter().map(|part| part.name.as_str()).filter(|name| *name != inner.name).collect();
            if !others.is_empty() {
                found.notices.push(format!(
                    "{}: pictures in {} are left out, those in {} are opened",
                    path.display(),
                    others.join(", "),
                    inner.name
                ));
            }
            return open_folder(&inner.path, split, options, found, events);
        }
    }
    open_classes(path, listing, &parts, options, found, events)
}

/// Class folders, or pictures without labels.
fn open_classes(
    path: &Path,
    listing: Listing,
    parts: &[Part],
    options: &OpenOptions,
    found: &mut Findings,
    events: &mut dyn FnMut(&Event),
) -> Result<Dataset> {
    let holding = parts.iter().filter(|part| part.holds != Holds::Nothing).count();
    match listing.pictures.first() {
        None if holding == 0 => return Err(nothing_recognized(path, &listing)),
        None => {}
        Some(_) if holding == 0 => return Ok(Dataset::new(folder::unlabeled(path, listing, false, found)?)),
        Some(_) if !options.labeled => {
            found.notices.push(format!("{}: holds pictures and folders of pictures: all are taken, without labels", path.display()));
            return Ok(Dataset::new(folder::unlabeled(path, listing, true, found)?));
        }
        Some(stray) => {
            return Err(Error::Data(format!(
                "{}: holds {} pictures ({}, …) next to {} class folders: move each into the folder of its class",
                path.display(),
                listing.pictures.len(),
                file_name(stray),
                listing.folders.len()
            )));
        }
    }
    folder::count(&listing.others, found);
    // Annotations and the like are not a class; another folder without pictures may be one that somebody forgot to fill.
    let (aside, classes): (Vec<&Part>, Vec<&Part>) = parts.iter().partition(|part| part.holds == Holds::Nothing && part.is_aside());
    aside.iter().for_each(|part| found.notices.push(format!("{}: holds no pictures: left out", part.path.display())));
    check_nested(path, &classes, found)?;
    let folders: Vec<PathBuf> = classes.iter().map(|part| part.path.clone()).collect();
    Ok(Dataset::new(folder::class_folders(path, &folders, options.labeled, found, events)?))
}

/// A folder in the one that is opened.
struct Part {
    path: PathBuf,
    name: String,
    holds: Holds,
}

impl Part {
    fn look(path: &Path) -> Self {
        Self { path: path.to_path_buf(), name: file_name(path), holds: folder::holds(path) }
    }

    fn is_aside(&self) -> bool {
        words(&self.name).iter().any(|word| BESIDE.contains(&word.trim_end_matches('s')))
    }

    fn is_main(&self) -> bool {
        MAIN.contains(&self.name.to_lowercase().as_str())
    }

    fn is_empty(&self) -> bool {
        std::fs::read_dir(&self.path).is_ok_and(|mut entries| entries.next().is_none())
    }
}

/// The words of a folder's name in lower case: of `seg_train`, `train2017` and `TestImages`.
fn words(name: &str) -> Vec<String> {
    let (mut words, mut small) = (vec![String::new()], false);
    for c in name.chars() {
        if !c.is_alphabetic() || (small && c.is_uppercase()) {
            words.push(String::new());
        }
        small = c.is_lowercase();
        if let (true, Some(word)) = (c.is_alphabetic(), words.last_mut()) {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The split that a folder's name tells: `train`, `Testing`, `seg_train`, `train2017`, `TestImages`.
fn split_in(name: &str) -> Option<String> {
    let words = words(name);
    // `cifar-train-test` is an archive of both
    let mut splits: Vec<String> = words.iter().filter(|word| is_split_name(word)).map(|word| canonical(word)).collect();
    splits.dedup();
    if splits.len() == 1 { splits.pop() } else { None }
}

/// The folder of the wanted split, where folders are splits; `None` if they are something else.
fn split_folder<'a>(path: &Path, holders: &[&'a Part], wanted: Option<&str>, found: &mut Findings) -> Result<Option<&'a Path>> {
    let shown = path.display().to_string();
    let named: Vec<(String, &Part)> = holders.iter().filter_map(|part| Some((split_in(&part.name)?, *part))).collect();
    let different: BTreeSet<&str> = named.iter().map(|(split, _)| split.as_str()).collect();
    let exact = |part: &Part| is_split_name(&part.name);
    let all = named.len() == holders.len();
    let nested = named.iter().any(|(_, part)| part.holds == Holds::Below);
    // "train" alone may be a class among vehicles; with folders of its own next to others it is not.
    if let ([(_, only)], false) = (named.as_slice(), all)
        && exact(only)
        && only.holds == Holds::Below
        && !holders.iter().any(|part| part.is_aside())
    {
        let others: Vec<&str> = holders.iter().map(|part| part.name.as_str()).filter(|name| *name != only.name).collect();
        return Err(Error::Data(format!(
            "{shown}: {} holds folders of pictures, and so may {}: are these splits or classes? Open the folder that is meant, such as {shown}/{}",
            only.name,
            cut(&others),
            only.name
        )));
    }
    let are_splits = match (different.len(), named.as_slice()) {
        (0, _) => false,
        (1, [(_, only)]) => all || (exact(only) && holders.iter().all(|part| part.is_aside() || part.name == only.name)),
        (1, _) => false,
        _ => all || nested || named.iter().filter(|(_, part)| exact(part)).count() > 1,
    };
    if !are_splits {
        return Ok(None);
    }
    let names: Vec<&str> = different.into_iter().collect();
    let chosen = choose(&names, wanted, &shown)?;
    let mut folders = named.iter().filter(|(split, _)| split == chosen).map(|(_, part)| *part);
    let Some(part) = folders.next() else { return Ok(None) };
    if let Some(other) = folders.next() {
        let (one, other) = (&part.name, &other.name);
        return Err(Error::Data(format!(
            "{shown}: {one} and {other} are both split \"{chosen}\": open the one that is meant, as {shown}/{one}"
        )));
    }
    found.add_rule(&match wanted {
        Some(wanted) if canonical(wanted) != chosen => format!("folder {}, in place of split \"{wanted}\"", part.name),
        _ => format!("folder {} of the splits {}", part.name, names.join(", ")),
    });
    compare_splits(&shown, part, chosen, &named, found)?;
    let others: Vec<&str> = holders.iter().filter(|part| split_in(&part.name).is_none()).map(|part| part.name.as_str()).collect();
    if !others.is_empty() {
        found.notices.push(format!("{shown}: {} is not a split: left out", cut(&others)));
    }
    Ok(Some(&part.path))
}

/// Says what the folders of the other splits tell about the one that is opened: that classes are not in it, or that it has no labels.
fn compare_splits(shown: &str, part: &Part, chosen: &str, named: &[(String, &Part)], found: &mut Findings) -> Result<()> {
    let (own, name) = (class_names(part)?, &part.name);
    for (split, other) in named.iter().filter(|(split, other)| split != chosen && other.holds == Holds::Below) {
        let classes = class_names(other)?;
        if part.holds == Holds::Pictures {
            let flat = format!("the folder {name} holds pictures, but no class folders");
            if matches!(split.as_str(), "val" | "test") {
                found.unlabeled = Some(format!("{flat}: {}, which may have labels, is opened as {shown}:{split}", other.name));
            } else {
                found.unlabeled.get_or_insert_with(|| format!("{flat}: sort them into folders of classes, as {} has", other.name));
            }
        } else if !own.is_empty() && !classes.is_subset(&own) {
            found.notices.push(format!(
                "{shown}: {} has {} classes, {name} {}: name all of them with --classes",
                other.name,
                classes.len(),
                own.len()
            ));
        }
    }
    Ok(())
}

/// The names of a split's class folders; none where its folders look like something else.
fn class_names(part: &Part) -> Result<BTreeSet<String>> {
    if part.holds != Holds::Below {
        return Ok(BTreeSet::new());
    }
    let inner: Vec<Part> = folder::list(&part.path)?.folders.iter().map(|folder| Part::look(folder)).collect();
    if inner.iter().any(|inner| inner.is_main() || inner.holds == Holds::Parquet) {
        return Ok(BTreeSet::new());
    }
    Ok(inner.into_iter().filter(|inner| inner.holds != Holds::Nothing && !inner.is_aside()).map(|inner| inner.name).collect())
}

/// The one folder that holds everything: an archive's outer folder, or the pictures next to their annotations.
fn inner_folder<'a>(parts: &'a [Part], holders: &[&'a Part]) -> Option<&'a Part> {
    let main: Vec<&Part> = holders.iter().copied().filter(|part| part.is_main()).collect();
    match (holders, main.as_slice()) {
        // an empty folder next to it may be a class that somebody forgot to fill
        ([only], _) if only.holds == Holds::Below && !parts.iter().any(Part::is_empty) => Some(only),
        (_, [main]) if parts.iter().all(|part| part.name == main.name || part.is_aside()) => Some(main),
        _ => None,
    }
}

/// Class folders that hold folders: pictures of a train and a test split are not mixed, and what looks like several data sets
/// is told.
fn check_nested(path: &Path, classes: &[&Part], found: &mut Findings) -> Result<()> {
    let mut nested = Vec::new();
    for part in classes.iter().filter(|part| part.holds == Holds::Below) {
        let names: Vec<String> = folder::list(&part.path)?.folders.iter().map(|folder| file_name(folder)).collect();
        let splits: BTreeSet<String> = names.iter().filter(|name| is_split_name(name)).map(|name| canonical(name)).collect();
        if splits.len() > 1 {
            return Err(Error::Data(format!(
                "{}: holds the splits {}: lay the folders out as split/class, or open one split's folders alone",
                part.path.display(),
                splits.into_iter().collect::<Vec<_>>().join(", ")
            )));
        }
        nested.push(names);
    }
    if let ([first, second, ..], true) = (nested.as_slice(), nested.len() == classes.len()) {
        let common: Vec<&str> = first.iter().filter(|name| second.contains(name)).map(String::as_str).collect();
        if common.len() > 1 {
            let names: Vec<&str> = classes.iter().map(|part| part.name.as_str()).collect();
            found.notices.push(format!(
                "{}: the classes are {}, and each holds the folders {}: are those the classes? Then open {}/{}",
                path.display(),
                cut(&names),
                cut(&common),
                path.display(),
                names.first().unwrap_or(&"…")
            ));
        }
    }
    Ok(())
}

/// The first names of a list.
fn cut(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", "))
}

fn nothing_recognized(path: &Path, listing: &Listing) -> Error {
    let Listing { folders, others, .. } = listing;
    let below = folders.iter().filter_map(|folder| folder::list(folder).ok()).flat_map(|listing| listing.others);
    if let Some(file) = others.iter().cloned().chain(below).find(|file| ending(file) == "arrow") {
        return Error::Data(arrow(&file));
    }
    let shown: Vec<String> = folders.iter().map(|folder| format!("{}/", file_name(folder))).collect();
    let shown: Vec<String> = shown.into_iter().chain(others.iter().map(|file| file_name(file))).collect();
    let hint = if shown.iter().any(|name| name == "data_batch_1") {
        " (this is CIFAR for Python: fetch its binary version)"
    } else if others.iter().any(|file| is_archive(file)) {
        " (unpack archives)"
    } else {
        ""
    };
    let found = match shown.as_slice() {
        [] => "it is empty".to_string(),
        [first @ .., _] if first.len() >= 5 => format!("found {}, … ({} entries)", first[..5].join(", "), shown.len()),
        all => format!("found {}", all.join(", ")),
    };
    Error::Data(format!(
        "{}: no data set recognized: {found}{hint}; looked for class folders with pictures, pictures, *.parquet, *.tar, CIFAR's *.bin",
        path.display()
    ))
}

/// What to do about the Arrow files of datasets' `save_to_disk` and of its cache.
pub(crate) fn arrow(file: &Path) -> String {
    let remedy = "write it as Parquet, as in load_from_disk(…).to_parquet(\"test.parquet\"), and open that";
    format!("{}: is an Arrow file of datasets' save_to_disk or cache, which is not read: {remedy}", file.display())
}

pub(crate) fn is_archive(path: &Path) -> bool {
    matches!(ending(path).as_str(), "zip" | "tar" | "gz" | "tgz" | "bz2" | "xz" | "zst" | "7z" | "rar")
}

fn is_parquet(path: &Path) -> bool {
    ending(path) == "parquet"
}

/// The Parquet files one or two levels below a folder that has none itself (`data/`, `default/train/`).
fn parquet_below(path: &Path) -> Result<Vec<PathBuf>> {
    let mut level = folder::list(path)?.folders;
    for _ in 0..3 {
        let (mut files, mut below) = (Vec::new(), Vec::new());
        for folder in level.iter().filter(|folder| folder::holds(folder) == Holds::Parquet) {
            let listing = folder::list(folder)?;
            files.extend(listing.others.into_iter().filter(|file| is_parquet(file)));
            below.extend(listing.folders);
        }
        if !files.is_empty() {
            return Ok(files);
        }
        level = below;
    }
    Err(Error::Data(format!("{}: its Parquet files lie too deep: open the folder that they are in", path.display())))
}

/// The tar shards in a folder that holds nothing else, or in the folders of its splits.
fn shards_below(listing: &Listing) -> Result<Vec<PathBuf>> {
    let is_shard = |file: &PathBuf| ending(file) == "tar";
    let mut files: Vec<PathBuf> = listing.others.iter().filter(|file| is_shard(file)).cloned().collect();
    let mut level = if files.is_empty() { listing.folders.clone() } else { Vec::new() };
    for _ in 0..2 {
        let mut below = Vec::new();
        for folder in &level {
            let listing = folder::list(folder)?;
            files.extend(listing.others.into_iter().filter(is_shard));
            below.extend(listing.folders);
        }
        if !files.is_empty() {
            break;
        }
        level = below;
    }
    Ok(files)
}

/// Opens the shards of one split among those below `root`.
fn open_shards(
    files: &[PathBuf],
    root: &Path,
    split: Option<&str>,
    options: &OpenOptions,
    events: &mut dyn FnMut(&Event),
) -> Result<Dataset> {
    let (files, origin, chosen) = of_split(files, root, split)?;
    Ok(Dataset::new(shards::open(&files, &origin, options, &chosen, events)?))
}

/// True for the error of a Parquet file without a column of pictures: embeddings, attributes, a list.
fn without_pictures(error: &Error) -> bool {
    matches!(error, Error::Data(text) if text.contains("columns found: "))
}

fn has_pictures(listing: &Listing) -> bool {
    let below = |folder: &PathBuf| matches!(folder::holds(folder), Holds::Pictures | Holds::Below);
    !listing.pictures.is_empty() || listing.folders.iter().any(below)
}

fn pass_over(error: &Error, found: &mut Findings) {
    found.notices.push(format!("{error} (ignored: the pictures next to it are opened)"));
}

/// Opens the files of one split among Parquet files below `root`.
fn open_parquet_split(
    files: &[PathBuf],
    root: &Path,
    split: Option<&str>,
    options: &OpenOptions,
    events: &mut dyn FnMut(&Event),
) -> Result<Dataset> {
    let files: Vec<PathBuf> = files.iter().filter(|file| is_parquet(file)).cloned().collect();
    let (files, origin, chosen) = of_split(&files, root, split)?;
    open_parquet(&files, &origin, options, &chosen, events)
}

/// The files of one split, how a message names them, and how they were chosen.
fn of_split(files: &[PathBuf], root: &Path, split: Option<&str>) -> Result<(Vec<PathBuf>, String, Chosen)> {
    let shown = root.display().to_string();
    let relative = |file: &PathBuf| file.strip_prefix(root).unwrap_or(file).to_string_lossy().into_owned();
    let names: Vec<String> = files.iter().map(relative).collect();
    let mut chosen = choose_files(&names, split, &shown)?;
    // A part of a set is worth a try, but not without a word.
    chosen.notices.extend(chosen.missing.as_ref().map(|missing| format!("only {missing} are here")));
    let files: Vec<PathBuf> = chosen.files.iter().filter_map(|i| files.get(*i).cloned()).collect();
    let origin = chosen.split.as_ref().map_or_else(|| shown.clone(), |split| format!("{shown}:{split}"));
    Ok((files, origin, chosen))
}

pub(crate) fn open_parquet(
    files: &[PathBuf],
    origin: &str,
    options: &OpenOptions,
    chosen: &Chosen,
    events: &mut dyn FnMut(&Event),
) -> Result<Dataset> {
    let (source, rows) = parquet::open(files, origin, options, chosen, events)?;
    let all = Dataset::new(source);
    rows.map_or_else(|| Ok(all.clone()), |rows| all.subset(&rows))
}

#[cfg(test)]
mod tests {
    use super::split_in;

    #[test]
    fn a_folder_tells_its_split() {
        for name in ["train", "Training", "seg_train", "train2017", "TrainImages", "asl-alphabet-train", "training_set"] {
            assert_eq!(split_in(name).as_deref(), Some("train"), "{name}");
        }
        assert_eq!(split_in("Test").as_deref(), Some("test"));
        assert_eq!(split_in("valid").as_deref(), Some("val"));
        assert!(
            ["metal", "partridge", "maskun"]
                .iter()
                .all(|name| !super::words(name).iter().any(|word| super::BESIDE.contains(&word.as_str())))
        );
        for name in ["trainer", "contest", "Meta", "0", "strain", "cifar-train-test"] {
            assert_eq!(split_in(name), None, "{name}");
        }
    }
}
