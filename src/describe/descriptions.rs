//! Descriptions: sentences for classes, in CuPL's JSON.

use std::collections::HashMap;
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
                serde_json::error::Category::Syntax => " (from there on it is not JSON: correct it, or fetch it again)",
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

    /// The keys of the entries that fit none of these classes, in the order of the file; empty for a file by index.
    pub fn unused<S: AsRef<str>>(&self, classes: &[S]) -> Vec<String> {
        let classes: Vec<String> = classes.iter().map(|name| name.as_ref().to_string()).collect();
        match self.fitting(&classes) {
            Fitting::ByName(fits) => {
                self.entries.iter().zip(fits).filter(|(_, fit)| fit.is_none()).map(|((key, _), _)| key.clone()).collect()
            }
            Fitting::ByIndex => Vec::new(),
        }
    }

    /// A line about the entries that fit none of these classes, if there are any.
    pub fn notice_of_unused<S: AsRef<str>>(&self, classes: &[S]) -> Option<String> {
        let (unused, origin) = (self.unused(classes), &self.origin);
        (!unused.is_empty()).then(|| format!("{origin}: descriptions of {} other classes are not used: {}", unused.len(), listed(&unused)))
    }

    /// How the entries find their classes.
    fn fitting(&self, classes: &[String]) -> Fitting {
        let keys: Vec<String> = self.entries.iter().map(|(key, _)| key.clone()).collect();
        if self.listed {
            return Fitting::ByIndex;
        }
        let by_name = match_names(&keys, classes);
        let none = by_name.iter().all(Option::is_none);
        if none && keys.iter().all(|key| index(key).is_some()) { Fitting::ByIndex } else { Fitting::ByName(by_name) }
    }

    /// The sentences of each class, in label order. Case, underscores and white space in names do not matter. Entries by name of
    /// other classes are passed over ([`unused`](Self::unused) names them).
    ///
    /// # Errors
    /// [`Error::Text`] listing the classes that have no sentence, with the entries that fit no class and the nearest names; for
    /// an entry by index beyond the classes, and a class that is described more often than it stands among them.
    pub fn for_classes<S: AsRef<str>>(&self, classes: &[S]) -> Result<Vec<Vec<String>>> {
        let classes = ClassNames::new(classes)?.names().to_vec();
        let fitting = self.fitting(&classes);
        let by_index = matches!(fitting, Fitting::ByIndex);

        let mut sentences: Vec<Option<&Vec<String>>> = vec![None; classes.len()];
        let mut unknown: Vec<&str> = Vec::new();
        for (position, (key, own)) in self.entries.iter().enumerate() {
            let class = match &fitting {
                Fitting::ByIndex => index(key),
                Fitting::ByName(fits) => fits.get(position).copied().flatten(),
            };
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
            let mut first: HashMap<String, &Vec<String>> = HashMap::new();
            for (class, own) in classes.iter().zip(&sentences) {
                if let Some(own) = own {
                    first.entry(normal(class)).or_insert(own);
                }
            }
            if let Some(again) = unknown.iter().find(|key| first.contains_key(&normal(key))) {
                let text = "describes class \"{}\" more often than it stands among the classes: join its entries";
                return Err(Error::Text(format!("{}: {}", self.origin, text.replace("{}", again))));
            }
            let shared = |class: &String| first.get(&normal(class)).copied();
            sentences = classes.iter().zip(&sentences).map(|(class, own)| own.or_else(|| shared(class))).collect();
        }
        let empty = |own: &Option<&Vec<String>>| own.is_none_or(|own| own.iter().all(|sentence| is_empty_sentence(sentence)));
        let missing: Vec<&String> = classes.iter().zip(&sentences).filter(|(_, own)| empty(own)).map(|(class, _)| class).collect();
        if !missing.is_empty() {
            let (few, all) = (missing.len(), classes.len());
            let other = match unknown.as_slice() {
                [] => String::new(),
                unknown => format!(", and describes what is not a class: {}", listed_with_closest(unknown, &classes)),
            };
            let text =
                format!("has no sentence for {few} of {all} classes: {}{other}; one entry is needed for each class name", listed(&missing));
            return Err(Error::Text(format!("{}: {text}", self.origin)));
        }
        Ok(sentences.into_iter().map(|own| own.cloned().unwrap_or_default()).collect())
    }
}

/// How entries find their classes: by position, or each by its name.
enum Fitting {
    ByIndex,
    ByName(Vec<Option<usize>>),
}

fn index(key: &str) -> Option<usize> {
    key.parse::<usize>().ok().filter(|&i| i.to_string() == key)
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
