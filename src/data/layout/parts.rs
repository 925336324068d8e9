//! The folders in a folder: splits, classes, what belongs beside them, an archive's outer folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::data::findings::Findings;
use crate::data::folder::{self, Holds, file_name};
use crate::data::split::{canonical, choose, is_split_name};
use crate::error::{Error, Result};

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
/// What a run and an ablation leave in their folders.
const OUTPUT: [&str; 4] = ["lafter.safetensors", "checkpoint.safetensors", "text-checkpoint.safetensors", "study.json"];

/// A folder in the one that is opened.
pub(super) struct Part {
    pub path: PathBuf,
    pub name: String,
    pub holds: Holds,
}

impl Part {
    pub fn look(path: &Path) -> Self {
        Self { path: path.to_path_buf(), name: file_name(path), holds: folder::holds(path) }
    }

    /// The same as if there were no Parquet files in it.
    pub fn beside_parquet(&self) -> Self {
        let holds = if self.holds == Holds::Parquet { folder::holds_pictures(&self.path) } else { self.holds };
        Self { path: self.path.clone(), name: self.name.clone(), holds }
    }

    pub fn is_aside(&self) -> bool {
        let is_output = || self.holds == Holds::Nothing && OUTPUT.iter().any(|file| self.path.join(file).is_file());
        words(&self.name).iter().any(|word| BESIDE.contains(&word.trim_end_matches('s'))) || is_output()
    }

    fn is_main(&self) -> bool {
        MAIN.contains(&self.name.to_lowercase().as_str())
    }

    pub fn is_empty(&self) -> bool {
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
pub(super) fn split_folder<'a>(path: &Path, holders: &[&'a Part], wanted: Option<&str>, found: &mut Findings) -> Result<Option<&'a Path>> {
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
pub(super) fn inner_folder<'a>(parts: &'a [Part], holders: &[&'a Part]) -> Option<&'a Part> {
    let main: Vec<&Part> = holders.iter().copied().filter(|part| part.is_main()).collect();
    match (holders, main.as_slice()) {
        // an empty folder next to it may be a class that somebody forgot to fill
        ([only], _) if only.holds == Holds::Below && !parts.iter().any(Part::is_empty) => Some(only),
        (_, [main]) if parts.iter().all(|part| part.name == main.name || part.is_aside()) => Some(main),
        _ => None,
    }
}

/// The first names of a list.
pub(super) fn cut(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::{BESIDE, split_in, words};

    #[test]
    fn a_folder_tells_its_split() {
        for name in ["train", "Training", "seg_train", "train2017", "TrainImages", "asl-alphabet-train", "training_set"] {
            assert_eq!(split_in(name).as_deref(), Some("train"), "{name}");
        }
        assert_eq!(split_in("Test").as_deref(), Some("test"));
        assert_eq!(split_in("valid").as_deref(), Some("val"));
        assert!(["metal", "partridge", "maskun"].iter().all(|name| !words(name).iter().any(|word| BESIDE.contains(&word.as_str()))));
        for name in ["trainer", "contest", "Meta", "0", "strain", "cifar-train-test"] {
            assert_eq!(split_in(name), None, "{name}");
        }
    }
}
