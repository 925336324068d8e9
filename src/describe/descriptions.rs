//! Descriptions: sentences for classes, in CuPL's JSON.

use std::fmt;
use std::path::Path;

use serde::de::Deserializer as _;

use crate::describe::cupl_json::WholeFile;
use crate::describe::names::{ClassNames, listed, listed_with_closest, match_names, normal};
use crate::error::{Error, Result};
use crate::files::read_text;

/// Sentences for classes, in the order of the file.
///
/// Two layouts are read:
/// - by name, as CuPL and LaFTer publish them: `{"class name": ["sentence", …], …}`. A key may stand as often as there are
///   classes of that name; the k-th belongs to the k-th. A key that stands once serves all classes of that name;
/// - by index, for classes that share a name: `{"0": [...], "1": [...]}` or a list of lists.
///
/// ```
/// # fn main() -> lafter::Result<()> {
/// use lafter::describe::Descriptions;
/// let by_name = Descriptions::parse(r#"{"polar bear": ["A white bear."], "sea": ["Blue water."]}"#, "by name")?;
/// assert_eq!(by_name.for_classes(&["sea", "Polar_Bear"])?, [["Blue water."], ["A white bear."]]);
/// let by_index = Descriptions::parse(r#"[["A bird."], ["A machine that lifts."]]"#, "by index")?;
/// assert_eq!(by_index.for_classes(&["crane", "crane"])?[1], ["A machine that lifts."]);
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Descriptions {
    /// A key and its sentences; the keys of a list of lists are its positions.
    entries: Vec<(String, Vec<String>)>,
    /// True for a list of lists: keys are never class names.
    listed: bool,
    origin: String,
}

impl Descriptions {
    /// Parses JSON; `origin` (a file name) stands in errors.
    ///
    /// # Errors
    /// [`Error::Text`] with line and column if the JSON is broken or cut off, naming the class whose entry is not a list of
    /// sentences.
    pub fn parse(json: &str, origin: &str) -> Result<Self> {
        let broken = |e: serde_json::Error| {
            let hint = match e.classify() {
                serde_json::error::Category::Eof => " (the file is cut off: fetch or write it again)",
                serde_json::error::Category::Syntax => " (from there on it is no JSON: correct it, or fetch it again)",
                _ => "",
            };
            Error::Text(format!("{origin}: {}{hint}", e.to_string().lines().next().unwrap_or("not JSON")))
        };
        let mut reader = serde_json::Deserializer::from_str(json);
        let (entries, listed) = reader.deserialize_any(WholeFile).map_err(broken)?;
        reader.end().map_err(broken)?;
        if entries.is_empty() {
            return Err(Error::Text(format!("{origin}: holds no descriptions: expected {{\"class name\": [\"sentence\", …], …}}")));
        }
        Ok(Self { entries, listed, origin: origin.to_string() })
    }

    /// [`Descriptions::parse`] on a file.
    ///
    /// # Errors
    /// As [`Descriptions::parse`], and [`Error::Io`] if the file cannot be read.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(&read_text(path)?, &path.display().to_string())
    }

    /// Descriptions by name from memory.
    pub fn from_entries(entries: impl IntoIterator<Item = (String, Vec<String>)>, origin: &str) -> Self {
        Self { entries: entries.into_iter().collect(), listed: false, origin: origin.to_string() }
    }

    /// Keys and sentences, in the order of the file.
    pub fn entries(&self) -> &[(String, Vec<String>)] {
        &self.entries
    }

    /// Where they came from, as errors name it: the file.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// How many sentences there are in all.
    pub fn sentence_count(&self) -> usize {
        self.entries.iter().map(|(_, sentences)| sentences.len()).sum()
    }

    /// Only the entries of these classes: for tuning to some of the classes that a file describes.
    pub fn only<S: AsRef<str>>(&self, classes: &[S]) -> Self {
        let wanted: std::collections::HashSet<String> = classes.iter().map(|name| normal(name.as_ref())).collect();
        let entries = self.entries.iter().filter(|(key, _)| wanted.contains(&normal(key))).cloned().collect();
        Self { entries, ..self.clone() }
    }

    /// The sentences of each class, in label order. Case, underscores and white space in names do not matter.
    ///
    /// # Errors
    /// [`Error::Text`] listing the classes that have no sentence, or the entries that fit no class, with the nearest names.
    pub fn for_classes<S: AsRef<str>>(&self, classes: &[S]) -> Result<Vec<Vec<String>>> {
        let classes = ClassNames::new(classes)?.names().to_vec();
        let keys: Vec<String> = self.entries.iter().map(|(key, _)| key.clone()).collect();
        let index = |key: &String| key.parse::<usize>().ok().filter(|&i| i.to_string() == *key);
        let by_name = if self.listed { vec![None; keys.len()] } else { match_names(&keys, &classes) };
        let by_index = self.listed || (by_name.iter().all(Option::is_none) && keys.iter().all(|key| index(key).is_some()));

        let mut sentences: Vec<Option<&Vec<String>>> = vec![None; classes.len()];
        let mut unknown: Vec<&str> = Vec::new();
        for (position, (key, own)) in self.entries.iter().enumerate() {
            let class = if by_index { index(key) } else { by_name.get(position).copied().flatten() };
            match class.and_then(|class| sentences.get_mut(class)) {
                Some(slot) => *slot = Some(own),
                None => unknown.push(key),
            }
        }
        if let (true, Some(first)) = (by_index, unknown.first()) {
            let n = classes.len();
            return Err(Error::Text(format!(
                "{}: describes class {first}, but there are {n} classes, 0 to {}: give one entry per class, in the order of the class names",
                self.origin,
                n - 1
            )));
        }
        if !by_index {
            // One entry serves all classes that share its name, unless the file tells them apart.
            let same = |class: &String| {
                let named = classes.iter().zip(&sentences).filter(|(other, own)| own.is_some() && normal(other) == normal(class));
                named.map(|(_, own)| *own).next().flatten()
            };
            sentences = classes.iter().zip(&sentences).map(|(class, own)| own.or_else(|| same(class))).collect();
        }
        let empty = |own: &Option<&Vec<String>>| own.is_none_or(|own| own.iter().all(|sentence| is_empty_sentence(sentence)));
        let missing: Vec<&String> = classes.iter().zip(&sentences).filter(|(_, own)| empty(own)).map(|(class, _)| class).collect();
        let mut faults = Vec::new();
        if !unknown.is_empty() {
            faults.push(format!("describes what is not a class: {}", listed_with_closest(&unknown, &classes)));
        }
        if !missing.is_empty() {
            let (few, all) = (missing.len(), classes.len());
            faults.push(format!("has no sentence for {few} of {all} classes: {}", listed(&missing)));
        }
        if !faults.is_empty() {
            let text = format!("{}: {}; one entry is needed for each class name, and no other", self.origin, faults.join("; "));
            return Err(Error::Text(text));
        }
        Ok(sentences.into_iter().map(|own| own.cloned().unwrap_or_default()).collect())
    }
}

/// Language models leave "." or nothing where they had nothing to say.
pub(crate) fn is_empty_sentence(sentence: &str) -> bool {
    matches!(sentence.trim(), "" | ".")
}

impl fmt::Debug for Descriptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Descriptions({}: {} sentences for {} classes)", self.origin, self.sentence_count(), self.entries.len())
    }
}
