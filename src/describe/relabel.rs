//! The classes of a data set under a list of class names: by key, by name, or by number.

use std::collections::HashMap;

use crate::describe::names::{ClassNames, listed_with_closest, match_names, normal};
use crate::error::{Error, Result};

/// The new label of each class of a data set under a list.
#[derive(Debug, PartialEq)]
pub(crate) struct Relabeling {
    pub(crate) labels: Vec<usize>,
    /// How it was found, if that is not plain.
    pub(crate) notice: Option<String>,
}

/// The new label of each class of a data set under `list` (see `Dataset::with_classes`), in linear time.
pub(crate) fn relabeling(classes: &[String], list: &ClassNames, origin: &str) -> Result<Relabeling> {
    let numbers: Option<Vec<usize>> = classes.iter().map(|name| number(name)).collect();
    let missing = |found: &[Option<usize>]| found.iter().filter(|found| found.is_none()).count();
    let mut wanted = list.keys();
    let mut found = match_names(classes, wanted);
    if missing(&found) > 0 {
        // A published list gives an id to each name; the data set may have the names.
        let by_name = match_names(classes, list.names());
        if missing(&by_name) < missing(&found) {
            (wanted, found) = (list.names(), by_name);
        }
    }
    let keys_count = || list.keys().iter().all(|key| number(key).is_some());
    if let Some(numbers) = numbers.filter(|_| missing(&found) == classes.len() || (missing(&found) > 0 && keys_count())) {
        return by_number(&numbers, list, origin);
    }
    // A name that the data set has once and the list twice does not say which of the two is meant.
    let (here, there) = (counts(classes), counts(wanted));
    let twofold = |name: &&String| {
        let (name, count) = (normal(name), |counts: &HashMap<String, usize>, name: &str| counts.get(name).copied().unwrap_or(0));
        count(&there, &name) > 1 && count(&there, &name) != count(&here, &name)
    };
    if let Some(name) = classes.iter().find(twofold) {
        return Err(Error::Data(format!(
            "{origin}: class \"{name}\" stands several times in the list of class names: tell them apart with lines `{name}<TAB>new name`"
        )));
    }
    let missing: Vec<&String> = classes.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(name, _)| name).collect();
    if missing.is_empty() {
        return Ok(Relabeling { labels: found.into_iter().flatten().collect(), notice: None });
    }
    Err(Error::Data(format!(
        "{origin}: {} of {} classes are not in the list of class names: {}; rename them in the list, or write lines `{}<TAB>new name`",
        missing.len(),
        classes.len(),
        listed_with_closest(&missing, wanted),
        missing.first().map_or("name", |name| name.as_str()),
    )))
}

/// Classes that are only numbered: by the list's own numbers, else line by line, from 0 or from 1.
fn by_number(numbers: &[usize], list: &ClassNames, origin: &str) -> Result<Relabeling> {
    let keys: Option<HashMap<usize, usize>> = list.keys().iter().enumerate().map(|(i, key)| Some((number(key)?, i))).collect();
    let (lowest, highest) = (numbers.iter().min().copied().unwrap_or(0), numbers.iter().max().copied().unwrap_or(0));
    let refuse = |what: String| Err(Error::Data(format!("{origin}: {what}")));
    if let Some(keys) = keys {
        let labels: Option<Vec<usize>> = numbers.iter().map(|number| keys.get(number).copied()).collect();
        return match labels {
            Some(labels) => Ok(Relabeling { labels, notice: None }),
            None => refuse(format!(
                "classes are numbered {lowest} to {highest}, and the list of class names lacks some of these numbers: add them"
            )),
        };
    }
    let (first, names) = (usize::from(lowest > 0), list.len());
    if highest + 1 > names + first {
        return refuse(format!("labels go up to {highest}, but the list names only {names} classes: give the list of this data set"));
    }
    if lowest > 0 && highest != names {
        return refuse(format!(
            "classes are numbered {lowest} to {highest}, and the list names {names}: does it begin with 0 or 1? Write lines `{lowest}<TAB>name`"
        ));
    }
    let is = |number: usize| list.names().get(number - first).map(|name| format!("class {number} is \"{name}\""));
    let mut ends: Vec<String> = [lowest, highest].into_iter().filter_map(is).collect();
    ends.dedup();
    let from = if first == 1 { "classes are numbered from 1: " } else { "" };
    let more = match names + first - highest - 1 {
        0 => String::new(),
        more => format!("; {more} more names of the list follow"),
    };
    let notice = Some(format!("{from}{} (by position in the list{more})", ends.join(", ")));
    Ok(Relabeling { labels: numbers.iter().map(|number| number - first).collect(), notice })
}

/// The number that a name is, `7` or `007`; numbers of more than six digits are names.
pub(crate) fn number(name: &str) -> Option<usize> {
    let digits = (1..=6).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| name.parse().ok()).flatten()
}

fn counts(names: &[String]) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    names.iter().for_each(|name| *counts.entry(normal(name)).or_insert(0) += 1);
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn labels(classes: &[&str], list: &[&str]) -> Result<Vec<usize>> {
        relabeling(&strings(classes), &ClassNames::new(list)?, "here").map(|found| found.labels)
    }

    #[test]
    fn a_name_the_list_has_twice_needs_keys() {
        let error = labels(&["crane"], &["crane", "crane"]).unwrap_err().to_string();
        assert!(error.contains("several times"), "{error}");
        assert_eq!(labels(&["crane", "crane"], &["crane", "crane"]).unwrap(), [0, 1]);
    }

    #[test]
    fn numbers_from_0_or_from_1() {
        assert_eq!(labels(&["0", "2", "10"], &["x"; 11]).unwrap(), [0, 2, 10]);
        assert_eq!(labels(&["00", "01"], &["a", "b", "c"]).unwrap(), [0, 1]);
        let from_1 = relabeling(&strings(&["1", "2", "3"]), &ClassNames::new(["a", "b", "c"]).unwrap(), "here").unwrap();
        assert!(from_1.labels == [0, 1, 2] && from_1.notice.unwrap().contains("from 1"));
        assert!(labels(&["0", "1", "2"], &["a", "b"]).unwrap_err().to_string().contains("only 2"));
        assert!(labels(&["1", "2"], &["a", "b", "c"]).unwrap_err().to_string().contains("begin with 0 or 1"));
        // numbers that are the names of the list are names
        assert_eq!(labels(&["1", "0"], &["0", "1"]).unwrap(), [1, 0]);
    }

    #[test]
    fn what_a_position_means_is_said() {
        let notice =
            |classes: &[&str], list: &[&str]| relabeling(&strings(classes), &ClassNames::new(list).unwrap(), "here").unwrap().notice;
        assert_eq!(notice(&["0", "1"], &["cat", "dog"]).unwrap(), "class 0 is \"cat\", class 1 is \"dog\" (by position in the list)");
        let more = notice(&["0", "1"], &["class", "cat", "dog"]).unwrap();
        assert!(more.contains("class 1 is \"cat\"") && more.contains("1 more names"), "{more}");
        assert_eq!(notice(&["0", "1"], &["0\tcat", "1\tdog"]), None);
        assert_eq!(notice(&["cat"], &["cat", "dog"]), None);
    }

    #[test]
    fn by_key_then_by_name() {
        assert_eq!(labels(&["n01", "n02"], &["n02\tdog", "n01\tcat"]).unwrap(), [1, 0]);
        assert_eq!(labels(&["cat", "dog"], &["n02\tdog", "n01\tcat"]).unwrap(), [1, 0]);
        assert_eq!(labels(&["007", "3"], &["7\tcat", "3\tdog"]).unwrap(), [0, 1]);
        assert!(labels(&["0", "9"], &["0\ta", "1\tb"]).is_err());
    }

    #[test]
    fn ten_thousand_classes_take_no_time() {
        let names: Vec<String> = (0..10_000).map(|i| format!("class_of_things {i}")).collect();
        let back: Vec<String> = names.iter().rev().cloned().collect();
        let started = std::time::Instant::now();
        let found = relabeling(&back, &ClassNames::new(&names).unwrap(), "here").unwrap();
        assert_eq!(found.labels[0], 9_999);
        assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    }
}
