//! Lists of class names as people have them: plain lines, published class maps, CSV, JSON, lines of a script.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;

use crate::describe::literal::{read_literal, unmarked};
use crate::describe::names::ClassNames;
use crate::describe::spoken::{digits, split_wordnet_id};
use crate::error::{Error, Result};
use crate::files::read_text;

/// What a data set calls a class, and its name.
type Pair = (String, String);

/// Reads class names, UTF-8:
///
/// | form | label order |
/// |---|---|
/// | one name a line, also in quotes and with commas as in a script | of the lines |
/// | `key<TAB>name`, where the data set calls the class `key` | of the lines |
/// | `n02000003 cat, house cat`, `n02000003,cat`: WordNet's ids; the first of several names is taken | of the lines |
/// | `0 airplane`, `0: airplane`, `0,airplane`, also from 1, or the number last as in `airplane,0` | of the numbers |
/// | JSON: a list; `{"0": "airplane"}`, `{"airplane": 0}`, `{"0": ["n02000003", "cat"]}`, `{"n02000003": "cat"}`, `id2label` | of the numbers, else of the file |
///
/// Blank lines are left out and counted; a line of column titles is left out. Where a list is not plain,
/// [`ClassNames::notices`] says how it was understood.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Text`] if it is not UTF-8, holds no name or an empty one, or JSON of
/// another form.
pub fn read_class_names(path: impl AsRef<Path>) -> Result<ClassNames> {
    let path = path.as_ref();
    parse(&read_text(path)?, &path.display().to_string())
}

/// [`read_class_names`] on a text; `origin` stands in errors.
pub(crate) fn parse(text: &str, origin: &str) -> Result<ClassNames> {
    let refuse = |what: String| Err(Error::Text(format!("{origin}: {what}")));
    if text.trim().is_empty() {
        return refuse("holds no class names: write one per line".into());
    }
    if let Some(value) = read_literal(text).filter(|value| value.is_array() || value.is_object()) {
        return match pairs_of(&value) {
            Some((pairs, form)) => ClassNames::paired(pairs, origin, form),
            None => {
                refuse("its JSON is no list of class names: expected [\"name\", …], {\"0\": \"name\", …} or {\"id\": \"name\", …}".into())
            }
        };
    }
    if text.trim_start().starts_with(['{', '[']) || origin.to_lowercase().ends_with(".json") {
        let fault = serde_json::from_str::<Value>(text).err().map(|e| e.to_string()).unwrap_or_default();
        return refuse(format!("not JSON ({fault}): correct it, or write one class name per line"));
    }
    let lines: Vec<(usize, &str)> = text.lines().enumerate().map(|(i, line)| (i + 1, line)).collect();
    let (kept, blank): (Vec<(usize, &str)>, Vec<_>) = lines.into_iter().partition(|(_, line)| !line.trim().is_empty());
    let texts: Vec<&str> = kept.iter().map(|(_, line)| line.trim()).collect();
    let mut classes = match published(&texts) {
        Some((pairs, form)) => ClassNames::paired(pairs, origin, Some(form))?,
        None => ClassNames::numbered(kept.into_iter(), &format!("{origin}, line"))?,
    };
    if let Some(at) = classes.names().iter().position(|name| name.contains(char::is_control)) {
        return refuse(format!("the name of class {at} holds a character that is no text: is this a list of class names?"));
    }
    classes.blank_lines = blank.len();
    Ok(classes)
}

/// The pairs of a published class map, and its form in words; `None` for a plain list and for `key<TAB>name`.
fn published(lines: &[&str]) -> Option<(Vec<Pair>, &'static str)> {
    let tabs = lines.iter().any(|line| line.contains('\t'));
    let columns = tabs && lines.iter().all(|line| line.split('\t').count() > 2);
    // A line of column titles is no class: all others have a form that it lacks.
    let titles = |first: &str| first.contains([',', ';', '\t']) && !first.starts_with(|c: char| c.is_ascii_digit());
    let below = lines.split_first().filter(|(first, rest)| titles(first) && rest.len() > 1).map(|(_, rest)| rest);
    if tabs && !columns {
        let keyed = |line: &&str| {
            let (key, name) = line.split_once('\t')?;
            let (key, name) = (key.trim(), name.trim());
            let id = digits(key) == key.len() || split_wordnet_id(key).is_some();
            (id && !key.is_empty()).then(|| (key.to_string(), name.to_string()))
        };
        let titled = below.filter(|_| lines.first().is_some_and(|first| keyed(first).is_none()))?;
        return Some((titled.iter().map(keyed).collect::<Option<_>>()?, "a key and a name below a line of titles"));
    }
    let whole = |lines: &[&str]| by_id(lines).or_else(|| by_number(lines)).or_else(|| number_last(lines));
    let quoted = || {
        let names: Option<Vec<String>> = lines.iter().map(|line| unmarked(line)).collect();
        names.map(|names| (names.into_iter().map(|name| (name.clone(), name)).collect(), "names in quotes"))
    };
    whole(lines).or_else(|| below.and_then(whole)).or_else(quoted)
}

/// `n02000003 cat, house cat`, also with a comma, colon or tab behind the id, and with a number between (`n02119789 1 kit_fox`).
fn by_id(lines: &[&str]) -> Option<(Vec<Pair>, &'static str)> {
    let mut parts: Vec<(&str, &str)> = lines.iter().map(|line| wordnet_line(line)).collect::<Option<_>>()?;
    if parts.iter().all(|(_, rest)| after_number(rest).is_some_and(|(_, rest)| !rest.is_empty())) {
        parts.iter_mut().for_each(|part| part.1 = after_number(part.1).map_or(part.1, |(_, rest)| rest));
    }
    Some((parts.into_iter().map(|(id, names)| (id.to_string(), first_of(names))).collect(), "an id and names, the first of which is taken"))
}

fn wordnet_line(line: &str) -> Option<(&str, &str)> {
    let (id, rest) = split_wordnet_id(line)?;
    let name = rest.trim_start_matches([',', ':', ';', ' ', '\t']);
    (!name.is_empty() && name.len() < rest.len()).then_some((id, name))
}

/// A number, and what stands behind it and one separator.
fn after_number(text: &str) -> Option<(usize, &str)> {
    let end = digits(text);
    let number = text[..end].parse().ok()?;
    let rest = text[end..].strip_prefix([' ', '\t', ',', ';', ':', '.', ')'])?;
    Some((number, rest.trim()))
}

/// `0 airplane`, `0: airplane`, `0,airplane`; names may begin with numbers themselves, so the numbers have to count.
fn by_number(lines: &[&str]) -> Option<(Vec<Pair>, &'static str)> {
    let parts: Vec<(usize, &str)> = lines.iter().map(|line| after_number(line)).collect::<Option<_>>()?;
    let rests: Vec<&str> = parts.iter().map(|(_, rest)| *rest).collect();
    if !counts(parts.iter().map(|(number, _)| *number)) || rests.iter().any(|rest| rest.is_empty()) {
        return None;
    }
    let inner = by_id(&rests).map(|(pairs, _)| pairs);
    let pair = |(i, (number, rest)): (usize, &(usize, &str))| match inner.as_ref().and_then(|pairs| pairs.get(i)) {
        Some(pair) => (*number, pair.clone()),
        None => (*number, (number.to_string(), bare(rest))),
    };
    Some((in_order(parts.iter().enumerate().map(pair).collect()), "a number and a name, in the order of the numbers"))
}

/// `airplane,0`.
fn number_last(lines: &[&str]) -> Option<(Vec<Pair>, &'static str)> {
    let part = |line: &&str| {
        let (name, number) = line.rsplit_once([',', ';', ':'])?;
        Some((number.trim().parse::<usize>().ok()?, bare(name)))
    };
    let parts: Vec<(usize, String)> = lines.iter().map(part).collect::<Option<_>>()?;
    let pairs = parts.iter().map(|(number, name)| (*number, (name.clone(), name.clone()))).collect();
    counts(parts.iter().map(|(number, _)| *number)).then(|| (in_order(pairs), "a name and a number, in the order of the numbers"))
}

/// True where numbers count from 0 or 1 without a gap, in any order.
fn counts(numbers: impl Iterator<Item = usize>) -> bool {
    let numbers: Vec<usize> = numbers.collect();
    let first = numbers.iter().min().copied().unwrap_or(0);
    let different: HashSet<usize> = numbers.iter().copied().collect();
    first <= 1 && different.len() == numbers.len() && numbers.iter().max().is_some_and(|max| max - first + 1 == numbers.len())
}

fn in_order(mut pairs: Vec<(usize, Pair)>) -> Vec<Pair> {
    pairs.sort_by_key(|(number, _)| *number);
    pairs.into_iter().map(|(_, pair)| pair).collect()
}

/// The first of WordNet's names of one meaning: `cat, house cat`.
fn first_of(names: &str) -> String {
    let names = bare(names);
    names.split([',', '\t']).map(str::trim).find(|name| !name.is_empty()).map(str::to_string).unwrap_or(names)
}

/// Without the marks of a script or a CSV file.
fn bare(name: &str) -> String {
    unmarked(name).unwrap_or_else(|| name.trim().trim_end_matches(',').to_string())
}

/// The pairs that JSON holds and, where that is not plain, how they were understood; `None` for another form.
fn pairs_of(value: &Value) -> Option<(Vec<Pair>, Option<&'static str>)> {
    const INNER: [&str; 7] = ["id2label", "names", "classes", "class_names", "categories", "class_to_idx", "label2id"];
    let holds_list = |value: &&Value| value.is_array() || value.is_object();
    match value {
        Value::Array(entries) => {
            let plain = entries.iter().all(Value::is_string);
            let pairs: Option<Vec<Pair>> = entries.iter().map(pair_of).collect();
            Some((pairs?, (!plain).then_some("an id and a name")))
        }
        Value::Object(map) => {
            if let Some(inner) = INNER.iter().filter_map(|key| map.get(*key)).find(holds_list) {
                return pairs_of(inner);
            }
            if let Some(numbers) = map.values().map(|value| Some(value.as_u64()? as usize)).collect::<Option<Vec<usize>>>() {
                let different = numbers.iter().collect::<HashSet<_>>().len() == numbers.len();
                let pairs = numbers.into_iter().zip(map.keys()).map(|(number, name)| (number, (name.clone(), name.clone())));
                return different.then(|| (in_order(pairs.collect()), Some("a name and its number, in the order of the numbers")));
            }
            let mut pairs = Vec::new();
            for (key, value) in map {
                let pair = match value {
                    Value::String(name) if split_wordnet_id(key).is_some() => (key.clone(), first_of(name)),
                    Value::String(name) => (key.clone(), name.clone()),
                    Value::Array(names) => match (names.first()?.as_str()?, names.get(1).and_then(Value::as_str)) {
                        (id, Some(name)) if split_wordnet_id(id).is_some() => (id.to_string(), name.to_string()),
                        // a list of sentences under a class name is a file of descriptions
                        (name, _) if split_wordnet_id(key).is_some() || digits(key) == key.len() => (key.clone(), name.to_string()),
                        _ => return None,
                    },
                    _ => return None,
                };
                pairs.push((key.parse::<usize>(), pair));
            }
            if pairs.iter().all(|(number, _)| number.is_ok()) {
                pairs.sort_by_key(|(number, _)| number.clone().unwrap_or(0));
                return Some((pairs.into_iter().map(|(_, pair)| pair).collect(), Some("a number and a name, in the order of the numbers")));
            }
            Some((pairs.into_iter().map(|(_, pair)| pair).collect(), Some("an id and a name")))
        }
        _ => None,
    }
}

/// `"cat"`, `["n02000003", "cat"]`, `{"id": 3, "name": "cat"}`.
fn pair_of(entry: &Value) -> Option<Pair> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    match entry {
        Value::String(name) => Some((name.clone(), name.clone())),
        Value::Array(parts) => match parts.as_slice() {
            [key, name] => Some((text(key)?, text(name)?)),
            _ => None,
        },
        Value::Object(map) => {
            let name = ["name", "class_name", "label", "class"].iter().find_map(|key| map.get(*key)?.as_str())?;
            let key = ["wnid", "synset", "id"].iter().find_map(|key| text(map.get(*key)?));
            Some((key.unwrap_or_else(|| name.to_string()), name.to_string()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `key=name` of each class; the key alone where both are the same.
    fn read(text: &str) -> Vec<String> {
        let list = parse(text, "list.txt").unwrap();
        let shown = |(key, name): (&String, &String)| if key == name { name.clone() } else { format!("{key}={name}") };
        list.keys().iter().zip(list.names()).map(shown).collect()
    }

    #[test]
    fn published_class_maps() {
        for text in [
            "n02000003 cat\nn02000004 dog\n",
            "n02000003 cat, house cat\nn02000004 dog\n",
            "n02000003: cat\nn02000004: dog\n",
            "wnid,name\nn02000003,cat\nn02000004,dog\n",
            "n02000003 1 cat\nn02000004 2 dog\n",
            "0 n02000003 cat\n1 n02000004 dog\n",
            "2\tn02000004\tdog\n1\tn02000003\tcat\n",
            r#"{"0": ["n02000003", "cat"], "1": ["n02000004", "dog"]}"#,
            r#"{"n02000003": "cat", "n02000004": "dog"}"#,
            r#"{"n02000003": ["cat", "house cat"], "n02000004": ["dog"]}"#,
            r#"[["n02000003", "cat"], ["n02000004", "dog"]]"#,
            "n02000003\tcat\nn02000004\tdog\n",
        ] {
            assert_eq!(read(text), ["n02000003=cat", "n02000004=dog"], "{text}");
        }
    }

    #[test]
    fn numbered_lists() {
        for text in [
            "0 cat\n1 dog\n",
            "1: dog\n0: cat\n",
            "0,cat\n1,dog\n",
            "id,name\n0,\"cat\"\n1,\"dog\"\n",
            "{0: 'cat',\n 1: 'dog'}",
            r#"{"1": "dog", "0": "cat"}"#,
            r#"{"model": "x", "id2label": {"0": "cat", "1": "dog"}}"#,
            r#"{"categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]}"#,
        ] {
            assert_eq!(read(text), ["0=cat", "1=dog"], "{text}");
        }
        assert_eq!(read("2 dog\n1 cat"), ["1=cat", "2=dog"]);
        assert_eq!(read(r#"{"dog": 1, "cat": 0}"#), ["cat", "dog"]);
        assert_eq!(read("name,label\ndog,1\ncat,0\n"), ["cat", "dog"]);
    }

    #[test]
    fn plain_lists_stay_as_they_are() {
        for (text, names) in [
            ("cat\ndog\n", ["cat", "dog"]),
            ("2012 BMW M3\n2013 Audi", ["2012 BMW M3", "2013 Audi"]),
            ("737-800\n747-400", ["737-800", "747-400"]),
            ("7\n3", ["7", "3"]),
            ("cat, house cat\ndog, hound", ["cat, house cat", "dog, hound"]),
            ("n02000003\nn02000004", ["n02000003", "n02000004"]),
            ("'cat',\n'dog',", ["cat", "dog"]),
            ("['cat', 'dog']", ["cat", "dog"]),
            (r#"["cat", "dog"]"#, ["cat", "dog"]),
        ] {
            assert_eq!(read(text), names, "{text}");
        }
        assert!(parse("cat\ndog", "x").unwrap().notices().is_empty());
        let notices = parse("n02000003 cat, house cat", "x.txt").unwrap().notices().to_vec();
        assert!(notices.len() == 1 && notices[0].contains("x.txt") && notices[0].contains("\"n02000003\" is \"cat\""), "{notices:?}");
    }

    #[test]
    fn json_of_another_form_is_refused() {
        for text in [r#"{"a": {"b": 1}}"#, "[1, 2]", r#"{"a": 0, "b": 0}"#, "{\"a\": ", "[]", r#"{"cat": ["A cat."]}"#] {
            let error = parse(text, "x.json").unwrap_err().to_string();
            assert!(error.starts_with("x.json: ") && error.lines().count() == 1, "{error}");
        }
    }
}
