//! Class names: a checked list, matched across spellings, and the closest one as a remedy in errors.

use std::collections::{HashMap, HashSet};

use crate::describe::spoken::{composed, spoken};
use crate::error::{Error, Result};

/// A checked list of class names, in label order. Names may repeat (ImageNet has two cranes): a class is its index.
///
/// ```
/// # fn main() -> lafter::Result<()> {
/// use lafter::describe::ClassNames;
/// let classes = ClassNames::new(["crane", "river", "crane", "forêt"])?;
/// assert_eq!(classes.len(), 4);
/// assert_eq!(classes.duplicates(), 1);
/// // A tab separates the name that a data set uses from the name to use: here a WordNet id and its meaning.
/// assert_eq!(ClassNames::new(["n02391049\tzebra"])?.names(), ["zebra"]);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassNames {
    pub(crate) names: Vec<String>,
    /// What a data set calls each class: the part before the tab, or the name itself.
    keys: Vec<String>,
    pub(crate) blank_lines: usize,
    pub(crate) notices: Vec<String>,
}

impl ClassNames {
    /// Checks a list of names, each optionally `key<TAB>name`; white space around a name is cut off.
    ///
    /// # Errors
    /// [`Error::Text`] if there is none, or one is empty (by its position, from 1).
    pub fn new(lines: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self> {
        Self::numbered(lines.into_iter().enumerate().map(|(i, line)| (i + 1, line)), "class")
    }

    /// `what` is what the numbers count: "class", or "names.txt, line".
    pub(crate) fn numbered(lines: impl Iterator<Item = (usize, impl AsRef<str>)>, what: &str) -> Result<Self> {
        let (mut names, mut keys) = (Vec::new(), Vec::new());
        for (number, line) in lines {
            let line = line.as_ref();
            let (key, name) = line.split_once('\t').unwrap_or((line, line));
            let (key, name) = (key.trim(), name.trim());
            if name.contains('\t') {
                return Err(Error::Text(format!("{what} {number}: has more than two columns: write key<TAB>name")));
            }
            if name.is_empty() || key.is_empty() {
                return Err(Error::Text(format!("{what} {number}: the class name is empty: give every class a name")));
            }
            keys.push(key.to_string());
            names.push(name.to_string());
        }
        if names.is_empty() {
            return Err(Error::Text("the list of class names is empty: give at least one class".to_string()));
        }
        Ok(Self { names, keys, blank_lines: 0, notices: Vec::new() })
    }

    /// From (key, name) pairs of `origin`, which were read as `form` if that is not plain.
    pub(crate) fn paired(pairs: Vec<(String, String)>, origin: &str, form: Option<&str>) -> Result<Self> {
        if pairs.is_empty() {
            return Err(Error::Text(format!("{origin}: holds no class names: give at least one")));
        }
        let lines = pairs.iter().map(|(key, name)| format!("{}\t{}", one_line(key), one_line(name)));
        let list = Self::numbered(lines.enumerate().map(|(i, line)| (i + 1, line)), &format!("{origin}, class"))?;
        let notice = form.zip(list.keys.first().zip(list.names.first())).map(|(form, (key, name))| match key == name {
            true => format!("{origin}: read as {form}: the first class is \"{name}\""),
            false => format!("{origin}: read as {form}: \"{key}\" is \"{name}\""),
        });
        Ok(Self { notices: notice.into_iter().collect(), ..list })
    }

    /// The names, in label order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// What a data set calls each class, in label order: its key, or the name itself.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// How a list that is not plain was understood, one line each.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// How many classes there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Never true: an empty list is refused.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// How many names repeat an earlier one.
    pub fn duplicates(&self) -> usize {
        self.names.len() - self.names.iter().collect::<HashSet<_>>().len()
    }

    /// How many blank lines the file held.
    pub fn blank_lines(&self) -> usize {
        self.blank_lines
    }
}

fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

/// Whether a character leaves no mark on a screen, or moves others about: controls, blanks of no width, marks of direction. Joiners, which
/// Persian and emoji need, are none.
pub(crate) fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A text as a reader sees it.
pub(crate) fn visible(text: &str) -> String {
    text.chars().filter(|c| c.is_whitespace() || !is_invisible(*c)).collect()
}

/// The form in which spellings are compared: what is [`visible`], accents composed, lower case, underscores and runs of white space as one
/// space.
pub(crate) fn normal(name: &str) -> String {
    composed(&visible(name)).replace('_', " ").to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// For each of `from` its partner in `to`: same spelling first, then same [`normal`] form, then as sentences read it; the
/// k-th of a name to the k-th. Each of `to` is used once.
pub(crate) fn match_names(from: &[String], to: &[String]) -> Vec<Option<usize>> {
    let mut found = vec![None; from.len()];
    let mut used = vec![false; to.len()];
    for form in [|name: &str| name.to_string(), normal, |name: &str| normal(&spoken(name))] {
        if found.iter().all(Option::is_some) {
            break;
        }
        let mut free: HashMap<String, Vec<usize>> = HashMap::new();
        for (i, name) in to.iter().enumerate().rev().filter(|(i, _)| !used[*i]) {
            free.entry(form(name)).or_default().push(i);
        }
        for (slot, name) in found.iter_mut().zip(from).filter(|(slot, _)| slot.is_none()) {
            *slot = free.get_mut(&form(name)).and_then(Vec::pop);
            if let Some(i) = slot {
                used[*i] = true;
            }
        }
    }
    found
}

/// The candidate with the smallest edit distance to `name`, if it is near enough to be a misspelling.
pub(crate) fn closest<'a>(name: &str, candidates: &'a [String]) -> Option<&'a str> {
    let wanted = normal(name);
    let letters = wanted.chars().count();
    let near = candidates.iter().map(|other| (strsim::levenshtein(&wanted, &normal(other)), other)).min_by_key(|(d, _)| *d);
    near.filter(|(d, _)| *d <= (letters / 3).max(2) && *d < letters).map(|(_, other)| other.as_str())
}

/// At most ten names in quotes, then how many more there are.
pub(crate) fn listed<T: AsRef<str>>(names: &[T]) -> String {
    listed_by(names, |name| format!("\"{name}\""))
}

/// As [`listed`], each with the nearest of `candidates` if one is near.
pub(crate) fn listed_with_closest<T: AsRef<str>>(names: &[T], candidates: &[String]) -> String {
    listed_by(names, |name| match closest(name, candidates) {
        Some(near) => format!("\"{name}\" (did you mean \"{near}\"?)"),
        None => format!("\"{name}\""),
    })
}

fn listed_by<T: AsRef<str>>(names: &[T], text: impl Fn(&str) -> String) -> String {
    const SHOWN: usize = 10;
    let mut list = names.iter().take(SHOWN).map(|name| text(name.as_ref())).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        list.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn spellings_match_and_the_exact_one_wins() {
        let to = strings(&["Polar Bear", "polar_bear", "sea"]);
        assert_eq!(match_names(&strings(&["polar_bear", "POLAR  bear", "SEA", "tree"]), &to), [Some(1), Some(0), Some(2), None]);
    }

    #[test]
    fn repeated_names_match_in_order() {
        let to = strings(&["crane", "x", "crane"]);
        assert_eq!(match_names(&strings(&["crane", "crane", "crane"]), &to), [Some(0), Some(2), None]);
    }

    #[test]
    fn the_closest_name_is_near() {
        let names = strings(&["airplane", "automobile", "Großer Hund", "ship"]);
        assert_eq!(closest("aeroplane", &names), Some("airplane"));
        assert_eq!(closest("grosser_hund", &names), Some("Großer Hund"));
        assert_eq!(closest("giraffe", &names), None);
        assert_eq!(closest("dog", &names), None);
    }

    #[test]
    fn what_nobody_sees_makes_no_difference() {
        let to = strings(&["cat", "dog"]);
        assert_eq!(match_names(&strings(&["\u{feff}cat", "do\u{200b}g"]), &to), [Some(0), Some(1)]);
        assert_eq!(visible("a\u{1b}[31m\tb"), "a[31m\tb");
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..12).map(|i| i.to_string()).collect();
        assert!(listed(&names).ends_with("\"9\" and 2 more"));
    }

    #[test]
    fn accents_and_numbers_before_a_name_do_not_matter() {
        let to = strings(&["crêpe", "Black footed Albatross"]);
        assert_eq!(match_names(&strings(&["001.Black_footed_Albatross", "cre\u{302}pe"]), &to), [Some(1), Some(0)]);
    }
}
