//! [`Inputs`]: what was understood of a run's inputs, shown before anything is computed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::clip::{Clip, ClipSummary};
use crate::data::{Dataset, Findings};
use crate::describe::names::{normal, visible};
use crate::describe::{Source, TextSet};
use crate::error::{cut, noun};
use crate::files::fnv;

/// Class names that the block lists; longer lists show the first and the last.
const LISTED: usize = 12;
/// Characters of a prompt that the block shows: more than CLIP reads of most.
const PROMPT: usize = 300;

/// What was understood of a run's inputs: the model, the sets of pictures, the classes, how a prompt reads, and what is unusual.
///
/// Nothing is computed for it but counts. Commands print it before they begin, `lafter check` prints nothing else, and
/// `report.json` keeps it under `inputs`.
///
/// ```
/// # fn main() -> lafter::Result<()> {
/// use lafter::{clip::Clip, data::scenes, inputs::Inputs};
/// let (clip, (train, test)) = (Clip::demo()?, scenes::demo_sets(2));
/// let inputs = Inputs::new(&clip).with_set("train", &train).with_set("test", &test).with_texts(&scenes::text_set()?);
/// println!("{inputs}");
/// assert_eq!(inputs.sets[0].pictures, 1500);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inputs {
    /// The model and where its settings came from, one line each.
    pub model: Vec<String>,
    /// The sets of pictures.
    pub sets: Vec<SetInput>,
    /// How many classes there are.
    pub classes: usize,
    /// Their names, as the block lists them: all of a short list, the first and the last of a long one.
    pub class_names: String,
    /// Which texts there are, in words; empty if there are none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub texts: String,
    /// Three texts as the text tower will read them, of the first, the middle and the last class.
    pub prompts: Vec<String>,
    /// What is unusual, one line each.
    pub notices: Vec<String>,
}

/// What was understood of one set of pictures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SetInput {
    /// What it is for: `train`, `test`, `images`.
    pub name: String,
    /// Where the pictures come from.
    pub origin: String,
    /// The commit of a set of the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// How many pictures were taken.
    pub pictures: usize,
    /// How many of them have a label.
    pub labeled: usize,
    /// Classes that have pictures.
    pub classes: usize,
    /// The class with the fewest pictures, of those that have some, and their number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smallest: Option<(String, usize)>,
    /// The class with the most pictures, and their number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest: Option<(String, usize)>,
    /// The rule that chose the pictures among several splits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Files that were left out, by ending ("" for none).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, usize>,
}

impl Inputs {
    /// The model alone.
    pub fn new(clip: &Clip) -> Self {
        Self { model: model(clip), notices: clip.notices().to_vec(), ..Self::default() }
    }

    /// Adds a set of pictures under the name that tells what it is for. The classes are those of the last labeled set, unless
    /// texts name them.
    pub fn with_set(mut self, name: &str, set: &Dataset) -> Self {
        let Findings { rule, commit, left_out, notices, unlabeled, .. } = set.findings();
        let mut counts = vec![0usize; set.classes().len()];
        for label in (0..set.len()).filter_map(|i| set.label(i)) {
            if let Some(count) = counts.get_mut(label) {
                *count += 1;
            }
        }
        let labeled: usize = counts.iter().sum();
        let present: Vec<(usize, usize)> = counts.iter().copied().enumerate().filter(|(_, count)| *count > 0).collect();
        let named = |&(label, count): &(usize, usize)| (set.classes()[label].clone(), count);
        for notice in notices {
            // what holds of all sets, such as how the list of classes was read, is said once
            let end = format!(": {notice}");
            match self.notices.iter_mut().find(|said| said.ends_with(&end)) {
                Some(said) => *said = format!("{}, {name}{end}", said.strip_suffix(&end).unwrap_or_default()),
                None => self.notices.push(format!("{name}{end}")),
            }
        }
        if labeled > 0 {
            self.notices.extend(coverage(name, set, &counts, present.len()));
            self.name_classes(set.classes());
        }
        if labeled > 0 && labeled < set.len() {
            self.notices.push(format!("{name}: {} of {} pictures have no label", set.len() - labeled, set.len()));
        }
        if let Some(reason) = unlabeled.filter(|_| labeled < set.len()) {
            self.notices.push(format!("{name}: {reason}"));
        }
        self.sets.push(SetInput {
            name: name.into(),
            origin: set.origin(),
            commit,
            pictures: set.len(),
            labeled,
            classes: present.len(),
            smallest: present.iter().min_by_key(|(_, count)| *count).map(named),
            largest: present.iter().rev().max_by_key(|(_, count)| *count).map(named),
            rule,
            left_out,
        });
        self
    }

    /// Says so where test pictures are training pictures, too: the same file, or the same row of one.
    pub fn with_overlap(mut self, train: &Dataset, test: &Dataset) -> Self {
        let mut learned = places(train);
        learned.sort_unstable();
        let both = places(test).iter().filter(|file| learned.binary_search(file).is_ok()).count();
        if both > 0 {
            let (both, all) = (thousands(both), thousands(test.len()));
            self.notices.push(format!("test: training pictures are among these, {both} of {all}: of new pictures fewer may be right"));
        }
        self
    }

    /// Adds the texts of the classes, with three of the prompts made of them.
    pub fn with_texts(mut self, texts: &TextSet) -> Self {
        self.notices.extend(texts.notices().iter().cloned());
        let of_class = |class: usize| {
            let sentences =
                || texts.labels().iter().zip(texts.sources()).zip(texts.sentences()).filter(move |((label, _), _)| **label == class);
            let template = sentences().find(|((_, source), _)| **source == Source::Template);
            template.or_else(|| sentences().next()).map(|(_, sentence)| sentence.clone())
        };
        let prompts: Vec<String> = thirds(texts.classes().len()).into_iter().filter_map(of_class).collect();
        Self { texts: texts.summary(), ..self }.with_prompts(texts.classes(), &prompts)
    }

    /// Adds the classes, and prompts as they will be read.
    pub fn with_prompts(mut self, classes: &[String], prompts: &[String]) -> Self {
        self.name_classes(classes);
        self.prompts = prompts.to_vec();
        self
    }

    fn name_classes(&mut self, classes: &[String]) {
        self.classes = classes.len();
        let list = |names: &[String]| names.iter().map(cut).collect::<Vec<_>>().join(", ");
        self.class_names = match classes {
            [first @ .., last] if classes.len() > LISTED => format!("{}, …, {}", list(&first[..LISTED - 1]), cut(last)),
            all => list(all),
        };
        let labeled = self.sets.iter().any(|set| set.labeled > 0); // then the set's own notice says it
        let said = odd_names(classes).filter(|said| (classes.len() > 1 || !labeled) && !self.notices.contains(said));
        self.notices.extend(said);
    }
}

/// A hash of where each picture lies, however its path is spelled, links followed; none of pictures that lie in no file.
fn places(set: &Dataset) -> Vec<u64> {
    let in_files = set.version(0) != 0;
    let place = |known: &mut Known, i: usize| match set.file(i) {
        Some(file) => Some(known.file(&file)),
        None => in_files.then(|| known.row(&set.name(i))),
    };
    (0..set.len()).into_par_iter().map_init(Known::default, place).flatten_iter().collect()
}

/// The folder, or the file of many pictures, that was met last: as it is spelled, and its canonical path.
#[derive(Default)]
struct Known {
    spelled: PathBuf,
    canonical: PathBuf,
}

impl Known {
    fn canonical(&mut self, spelled: &Path) -> &Path {
        if self.spelled.as_os_str() != spelled.as_os_str() {
            self.canonical = spelled.canonicalize().unwrap_or_else(|_| spelled.to_path_buf());
            self.spelled = spelled.to_path_buf();
        }
        &self.canonical
    }

    /// The place of a file of its own.
    fn file(&mut self, file: &Path) -> u64 {
        let target = if file.is_symlink() { file.canonicalize().ok() } else { None };
        let path = target.unwrap_or_else(|| {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            self.canonical(folder).join(file.file_name().unwrap_or_default())
        });
        fnv(path.as_os_str().as_encoded_bytes())
    }

    /// The place of `PATH, row 3` in a Parquet file, or of `PATH, member` in a tar shard.
    fn row(&mut self, name: &str) -> u64 {
        let known = self.spelled.as_os_str().as_encoded_bytes();
        let is_file = |at: &usize| &name.as_bytes()[..*at] == known || Path::new(&name[..*at]).is_file();
        let end = name.match_indices(", ").map(|(at, _)| at).find(is_file).unwrap_or(0);
        let (file, rest) = name.split_at(end);
        let file = if end > 0 { self.canonical(Path::new(file)) } else { Path::new("") };
        fnv(&[file.as_os_str().as_encoded_bytes(), rest.as_bytes()].concat())
    }
}

/// Says so where the names can tell nothing apart: one alone, or one that stands several times.
fn odd_names(classes: &[String]) -> Option<String> {
    let mut spelled: BTreeMap<String, Vec<String>> = BTreeMap::new();
    classes.iter().for_each(|name| spelled.entry(normal(name)).or_default().push(visible(name).trim().to_string()));
    if let [name] = classes {
        return Some(format!("classes: there is only one, {name}: every picture is answered with it"));
    }
    let several = |mut names: Vec<String>| {
        let count = names.len();
        names.dedup();
        (count > 1).then(|| names.join(" = "))
    };
    let repeated: Vec<String> = spelled.into_values().filter_map(several).collect();
    let shown = repeated.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if repeated.len() > 3 { ", …" } else { "" };
    let stands = if repeated.len() == 1 { "stands" } else { "stand" };
    (!repeated.is_empty())
        .then(|| format!("classes: {shown}{more} {stands} several times: nothing tells such classes apart; give each name once"))
}

/// The model in two lines: what it is, and how pictures and texts reach it.
fn model(clip: &Clip) -> Vec<String> {
    let ClipSummary { layout, weights, commit, image_settings, tokenizer, end_of_text } = clip.summary();
    let commit = commit.as_ref().map_or_else(String::new, |commit| format!(", commit {commit}"));
    let parameters = clip.parameter_count() as f64 / 1e6;
    vec![
        format!("{}: {layout}, {weights}, {parameters:.1} M parameters{commit}", clip.id()),
        format!("pictures: {image_settings}; texts: {tokenizer}, read {end_of_text}"),
    ]
}

/// First, middle and last index of `n`.
pub fn thirds(n: usize) -> Vec<usize> {
    let mut indices = vec![0, n / 2, n.saturating_sub(1)];
    indices.dedup();
    indices.truncate(n);
    indices
}

/// Says so where a labeled set has pictures of one class alone, or of only some of the classes.
fn coverage(name: &str, set: &Dataset, counts: &[usize], present: usize) -> Option<String> {
    let missing: Vec<&str> = counts.iter().zip(set.classes()).filter(|(count, _)| **count == 0).map(|(_, class)| class.as_str()).collect();
    if counts.len() == 1 {
        return Some(format!("{name}: there is only one class, {}: every answer is right, so an accuracy says nothing", set.classes()[0]));
    }
    let shown = missing.iter().take(3).map(cut).collect::<Vec<_>>().join(", ");
    let more = if missing.len() > 3 { ", …" } else { "" };
    (!missing.is_empty()).then(|| format!("{name}: only {present} of {} classes have pictures; none of {shown}{more}", counts.len()))
}

impl SetInput {
    /// One line: `1,500 pictures, 10 classes of 40 (cat) to 60 (dog)`.
    fn counts(&self) -> String {
        let pictures = format!("{} {}", thousands(self.pictures), noun(self.pictures, "picture"));
        let classes = format!("{} {}", thousands(self.classes), noun(self.classes, "class"));
        match (&self.smallest, &self.largest) {
            (Some((small, fewest)), Some((large, most))) if fewest < most => {
                let (fewest, most) = (thousands(*fewest), thousands(*most));
                format!("{pictures}, {classes} of {fewest} ({}) to {most} ({})", cut(small), cut(large))
            }
            (Some((_, each)), Some(_)) => format!("{pictures}, {classes} of {}", thousands(*each)),
            _ => format!("{pictures}, without labels"),
        }
    }
}

/// 1500 as 1,500.
fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The block: a word on the left for each part, its lines on the right; notices last, each with `note:` before it.
impl fmt::Display for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<(String, Vec<String>)> = vec![("model".into(), self.model.clone())];
        for set in &self.sets {
            let mut lines = vec![format!("{}: {}", set.origin, set.counts())];
            lines.extend(set.commit.as_ref().map(|commit| format!("commit {commit}")));
            lines.extend(set.rule.clone());
            let findings = Findings { left_out: set.left_out.clone(), ..Findings::default() };
            lines.extend(findings.left_out_by_ending().map(|counts| format!("left out by ending: {counts}")));
            parts.push((set.name.clone(), lines));
        }
        if self.classes > 0 {
            parts.push(("classes".into(), vec![format!("{}: {}", thousands(self.classes), self.class_names)]));
        }
        if !self.texts.is_empty() {
            parts.push(("texts".into(), vec![self.texts.clone()]));
        }
        let shown = |prompt: &String| match prompt.char_indices().nth(PROMPT) {
            Some((end, _)) => format!("\"{}…\"", &prompt[..end]),
            None => format!("\"{prompt}\""),
        };
        parts.push(("prompts".into(), self.prompts.iter().map(shown).collect()));
        let mut lines = Vec::new();
        for (part, texts) in parts {
            lines.extend(texts.iter().enumerate().map(|(i, text)| format!("{:8} {text}", if i == 0 { part.as_str() } else { "" })));
        }
        lines.extend(self.notices.iter().map(|notice| format!("note: {notice}")));
        f.write_str(&lines.join("\n"))
    }
}

impl Inputs {
    /// Shows the block in a notebook (called by evcxr).
    pub fn evcxr_display(&self) {
        crate::notebook::print_media(self.to_string().as_str());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_tell_nothing_apart_are_told() {
        let names = |list: &[&str]| list.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let notices = |list: &[&str]| Inputs::default().with_prompts(&names(list), &[]).notices;
        assert!(notices(&["cat", "dog"]).is_empty());
        assert_eq!(notices(&["cat"]), ["classes: there is only one, cat: every picture is answered with it"]);
        for (again, name) in [("cat ", "cat"), ("cat\u{200b}", "cat"), ("Cat", "cat = Cat")] {
            let said = notices(&["cat", "dog", again]);
            assert_eq!(said, [format!("classes: {name} stands several times: nothing tells such classes apart; give each name once")]);
            let inputs = Inputs::default().with_prompts(&names(&["cat", "dog", again]), &[]);
            assert_eq!(inputs.with_prompts(&names(&["cat", "dog", again]), &[]).notices, said, "each is said once");
        }
    }

    #[test]
    fn one_is_singular() {
        let set = |pictures: usize, classes: usize| {
            let each = Some(("cat".to_string(), pictures / classes));
            SetInput { pictures, classes, smallest: each.clone(), largest: each, ..SetInput::default() }.counts()
        };
        assert_eq!([set(1, 1), set(2400, 1200)], ["1 picture, 1 class of 1", "2,400 pictures, 1,200 classes of 2"]);
    }

    #[test]
    #[cfg(unix)]
    fn training_pictures_are_known_behind_links_and_other_spellings() {
        let said = |train: &Path, test: &Path| {
            let (train, test) = (Dataset::open(train).unwrap(), Dataset::open(test).unwrap());
            Inputs::default().with_overlap(&train, &test).notices.join(" ")
        };
        let folder = tempfile::tempdir().unwrap();
        let (photos, sorted) = (folder.path().join("photos"), folder.path().join("sorted"));
        for new in [&photos, &sorted.join("cat"), &sorted.join("dog")] {
            std::fs::create_dir_all(new).unwrap();
        }
        std::fs::write(photos.join("1.png"), "x").unwrap();
        std::fs::write(sorted.join("dog/1.png"), "x").unwrap();
        assert_eq!(said(&photos, &sorted.join("dog")), "");
        std::os::unix::fs::symlink("../../photos/1.png", sorted.join("cat/other name.png")).unwrap();
        assert!(said(&photos, &sorted).contains("training pictures are among these, 1 of 2"));
        let tables = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data");
        let said = said(&tables.join("snappy.parquet"), &tables.join("./snappy.parquet"));
        assert!(said.contains("training pictures are among these, 12 of 12"), "{said}");
    }
}
