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
/// | `0 airplane`, `0: airplane`, `[0] airplane`, `0 = airplane`, also from 1, or the number last as in `airplane,0` | of the numbers |
/// | three or more columns (CSV, TSV), of which one holds the names | of the numbers, else of the lines |
/// | the part `names:` of a YAML file such as YOLO's data.yaml | of the file, or of its numbers |
/// | JSON: a list; `{"0": "airplane"}`, `{"airplane": 0}`, `{"0": ["n02000003", "cat"]}`, `{"n02000003": "cat"}`, `id2label` | of the numbers, else of the file |
///
/// Blank lines are left out and counted; a title, or a line of column titles, is left out. Where a list is not plain,
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
    let numbered = |line: &str| line.starts_with('[') && after_number(line).is_some_and(|(_, rest)| !rest.is_empty());
    let plain = text.lines().map(str::trim).filter(|line| !line.is_empty()).all(numbered);
    if (!plain && text.trim_start().starts_with(['{', '['])) || origin.to_lowercase().ends_with(".json") {
        let fault = serde_json::from_str::<Value>(text).err().map(|e| e.to_string()).unwrap_or_default();
        return refuse(format!("not JSON ({fault}): correct it, or write one class name per line"));
    }
    let lines: Vec<(usize, &str)> = text.lines().enumerate().map(|(i, line)| (i + 1, line)).collect();
    let (mut kept, blank): (Vec<(usize, &str)>, Vec<_>) = lines.into_iter().partition(|(_, line)| !line.trim().is_empty());
    match yaml_names(&kept) {
        Yaml::Names(pairs) => return ClassNames::paired(pairs, origin, Some("the names of a YAML file")),
        Yaml::Unclear => return refuse("its part `names:` is not understood: write one class name per line".into()),
        Yaml::No => {}
    }
    if let Some((number, _)) = kept.iter().find(|(_, line)| line.trim_end().ends_with('{')) {
        return refuse(format!("line {number} ends in {{, which is no list of class names: write one class name per line"));
    }
    let titles: Vec<&str> = kept.iter().map(|(_, line)| line.trim()).take_while(|line| is_title(line)).collect();
    // A list of titles alone is a list of names; a second title without a # is a name.
    let dropped = titles.iter().take_while(|line| line.starts_with('#')).count();
    let dropped = dropped + usize::from(titles.len() > dropped);
    let dropped = if dropped < kept.len() { dropped } else { 0 };
    let title = kept.drain(..dropped).next_back().map(|(_, line)| line.trim());
    if kept.iter().all(|(_, line)| line.trim().strip_prefix("- ").is_some_and(|name| !name.trim().is_empty())) {
        kept.iter_mut().for_each(|(_, line)| *line = line.trim().trim_start_matches("- "));
    }
    let texts: Vec<&str> = kept.iter().map(|(_, line)| line.trim()).collect();
    let mut classes = match published(&texts) {
        Some((pairs, form)) => ClassNames::paired(pairs, origin, Some(form))?,
        None => ClassNames::numbered(kept.into_iter(), &format!("{origin}, line"))?,
    };
    if let Some(title) = title {
        classes.notices.push(format!("{origin}: \"{title}\" is taken as a title, the first class is \"{}\"", classes.names()[0]));
    }
    if let Some(at) = classes.names().iter().position(|name| name.contains(char::is_control)) {
        return refuse(format!("the name of class {at} holds a character that is no text: is this a list of class names?"));
    }
    classes.blank_lines = blank.len();
    Ok(classes)
}

/// A line above a list that is no class: `class_name`, `labels:`, `name id`, `# CIFAR-10 classes`.
fn is_title(line: &str) -> bool {
    const TITLES: [&str; 8] = ["class", "classes", "name", "names", "label", "labels", "category", "categories"];
    const OTHERS: [&str; 4] = ["id", "index", "number", "nr"];
    let text = line.trim_end_matches(':').trim_matches(['"', '\'']).to_lowercase();
    let words = || text.split([' ', '_', '-']).filter(|word| !word.is_empty());
    line.starts_with('#')
        || (words().any(|word| TITLES.contains(&word)) && words().all(|word| TITLES.contains(&word) || OTHERS.contains(&word)))
}

/// What a file has of a YAML data set's `names:`.
enum Yaml {
    No,
    Names(Vec<Pair>),
    Unclear,
}

/// The part `names:` of a file such as YOLO's data.yaml: a list in brackets, `- airplane` or `0: airplane` below.
fn yaml_names(lines: &[(usize, &str)]) -> Yaml {
    let begins = lines.iter().enumerate().find_map(|(i, (_, line))| Some((i, line.strip_prefix("names:")?.trim())));
    let Some((at, same)) = begins else { return Yaml::No };
    let below = lines.get(at + 1..).unwrap_or_default();
    if same.starts_with(['[', '{']) {
        let all = std::iter::once(same).chain(below.iter().map(|(_, line)| *line)).collect::<Vec<_>>().join("\n");
        let end = all.find(if same.starts_with('[') { ']' } else { '}' }).unwrap_or(0);
        let text = all.get(..=end).unwrap_or_default();
        if let Some((pairs, _)) = read_literal(text).as_ref().and_then(pairs_of) {
            return Yaml::Names(pairs);
        }
        // YAML needs no quotation marks.
        let words: Vec<&str> = text.trim_matches(['[', ']']).split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
        let plain = same.starts_with('[') && !words.is_empty() && !text.contains(['"', '\'', '#', '{']);
        return if plain { Yaml::Names(words.into_iter().map(twice).collect()) } else { Yaml::Unclear };
    }
    if !same.is_empty() && !same.starts_with('#') {
        return if at == 0 { Yaml::No } else { Yaml::Unclear };
    }
    let part = |line: &&str| line.starts_with([' ', '\t', '#']) || line.starts_with("- ");
    let block = below.iter().map(|(_, line)| *line).take_while(part).map(|line| line.split(" #").next().unwrap_or(line).trim());
    let block: Vec<&str> = block.filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let entries: Option<Vec<&str>> = block.iter().map(|line| line.strip_prefix("- ")).collect();
    match entries.filter(|names| !names.is_empty()) {
        Some(names) => Yaml::Names(names.into_iter().map(|name| twice(&bare(name))).collect()),
        None => match by_number(&block) {
            Some((pairs, _)) => Yaml::Names(pairs),
            // `names:` as a title above plain lines
            None if at == 0 && block.iter().all(|line| !line.contains(':')) => Yaml::No,
            None => Yaml::Unclear,
        },
    }
}

/// A name that is its own key.
fn twice(name: &str) -> Pair {
    (name.to_string(), name.to_string())
}

/// The pairs of a published class map, and its form in words; `None` for a plain list and for `key<TAB>name`.
fn published(lines: &[&str]) -> Option<(Vec<Pair>, &'static str)> {
    let tabs = lines.iter().any(|line| line.contains('\t'));
    let columns = tabs && lines.iter().all(|line| line.split('\t').count() > 2);
    // A line of column titles is no class: all others have a form that it lacks.
    let titles = |first: &str| first.contains([',', ';', '\t']) && !first.starts_with(|c: char| c.is_ascii_digit());
    let below = lines.split_first().filter(|(first, rest)| titles(first) && rest.len() > 1).map(|(_, rest)| rest);
    let whole = |lines: &[&str]| by_id(lines).or_else(|| by_number(lines)).or_else(|| number_last(lines));
    // WordNet's ids say more than columns do.
    let ids = |lines: &[&str]| whole(lines).is_some_and(|(pairs, _)| pairs.iter().all(|(key, _)| split_wordnet_id(key).is_some()));
    if !ids(lines) && !below.is_some_and(ids) {
        let known = || whole(lines).is_some() || below.is_some_and(|lines| whole(lines).is_some());
        let swapped = || number_behind(lines).or_else(|| below.and_then(number_behind));
        if let Some(read) = by_columns(lines).or_else(|| if known() { None } else { swapped() }) {
            return Some(read);
        }
    }
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
    let inner = text.strip_prefix('[').unwrap_or(text);
    let (number, rest) = inner.split_at(digits(inner));
    let marks: &[char] = if inner.len() < text.len() { &[']'] } else { &[' ', '\t', ',', ';', ':', '.', ')', '='] };
    Some((number.parse().ok()?, rest.strip_prefix(marks)?.trim()))
}

/// `0 airplane`, `0: airplane`, `0,airplane`, `[0] airplane`, `0 = airplane`; names may begin with numbers themselves, so the
/// numbers have to count.
fn by_number(lines: &[&str]) -> Option<(Vec<Pair>, &'static str)> {
    let parts: Vec<(usize, &str)> = lines.iter().map(|line| after_number(line)).collect::<Option<_>>()?;
    let marked = |mark: &&str| parts.iter().all(|(_, rest)| rest.starts_with(*mark));
    let mark = ["= ", "- ", "=> ", "-> ", ": "].into_iter().find(marked).unwrap_or("");
    let rests: Vec<&str> = parts.iter().map(|(_, rest)| rest.strip_prefix(mark).unwrap_or(rest).trim()).collect();
    if !counts(parts.iter().map(|(number, _)| *number)) || rests.iter().any(|rest| rest.is_empty()) {
        return None;
    }
    let inner = by_id(&rests).map(|(pairs, _)| pairs);
    let pair = |(i, (number, _)): (usize, &(usize, &str))| match inner.as_ref().and_then(|pairs| pairs.get(i)) {
        Some(pair) => (*number, pair.clone()),
        None => (*number, (number.to_string(), bare(rests.get(i).copied().unwrap_or_default()))),
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

/// `airplane 0`, also with a tab; the line stays as key, since a data set may call the class so.
fn number_behind(lines: &[&str]) -> Option<(Vec<Pair>, &'static str)> {
    let mark = if lines.iter().any(|line| line.contains('\t')) { '\t' } else { ' ' };
    let part = |line: &&str| {
        let (name, number) = line.rsplit_once(mark)?;
        let word = name.contains(char::is_alphabetic) && split_wordnet_id(name).is_none();
        Some((number.parse::<usize>().ok().filter(|_| word)?, (line.to_string(), bare(name))))
    };
    let parts: Vec<(usize, Pair)> = lines.iter().map(part).collect::<Option<_>>()?;
    let different = parts.iter().map(|(_, (_, name))| name).collect::<HashSet<_>>().len() == parts.len();
    let fits = parts.len() > 1 && different && counts(parts.iter().map(|(number, _)| *number));
    fits.then(|| (in_order(parts), "a name and a number, in the order of the numbers"))
}

/// Three or more columns, with or without titles: the one that is called a name, else the first of words behind the first.
fn by_columns(lines: &[&str]) -> Option<(Vec<Pair>, &'static str)> {
    ['\t', ',', ';'].into_iter().find_map(|mark| columns_by(lines, mark))
}

fn columns_by(lines: &[&str], mark: char) -> Option<(Vec<Pair>, &'static str)> {
    const NAMES: [&str; 6] = ["name", "class name", "label name", "class", "label", "category"];
    let rows: Vec<Vec<String>> = lines.iter().map(|line| cells(line, mark)).collect();
    let (titles, below) = rows.split_first()?;
    let width = titles.len();
    if width < 3 || below.is_empty() || below.iter().any(|row| row.len() != width) {
        return None;
    }
    let numbers =
        |rows: &[Vec<String>], column: usize| -> Option<Vec<usize>> { rows.iter().map(|row| row.get(column)?.parse().ok()).collect() };
    let counting = |rows: &[Vec<String>]| {
        (0..width).filter_map(|column| numbers(rows, column)).find(|numbers| numbers.len() > 1 && counts(numbers.iter().copied()))
    };
    let words =
        |rows: &[Vec<String>], column: usize| rows.iter().all(|row| row.get(column).is_some_and(|cell| cell.contains(char::is_alphabetic)));
    let title = |name: &&str| titles.iter().position(|cell| cell.to_lowercase().replace('_', " ") == **name);
    let titled = NAMES.iter().filter_map(title).find(|column| words(below, *column));
    let (rows, column) = match titled {
        Some(column) => (below, column),
        None => {
            // A line of titles has no number where all others count.
            let rows = if counting(&rows).is_none() && counting(below).is_some() { below } else { rows.as_slice() };
            if mark != '\t' && numbers(rows, 0).is_none_or(|numbers| !counts(numbers.into_iter())) {
                return None;
            }
            (rows, (1..width).chain([0]).find(|column| words(rows, *column))?)
        }
    };
    let name = |row: &Vec<String>| row.get(column).map(|name| bare(name));
    let names: Vec<String> = rows.iter().map(name).collect::<Option<_>>()?;
    let form = "columns, one of which holds the names";
    match counting(rows) {
        Some(numbers) => {
            let pairs = numbers.into_iter().zip(names).map(|(number, name)| (number, (number.to_string(), name)));
            Some((in_order(pairs.collect()), form))
        }
        None => {
            let keys: Vec<&String> = rows.iter().filter_map(|row| row.first()).filter(|key| !key.is_empty()).collect();
            let keyed = keys.iter().collect::<HashSet<_>>().len() == names.len();
            let key = |i: usize, name: &String| keys.get(i).filter(|_| keyed).map_or_else(|| name.clone(), |key| key.to_string());
            Some((names.into_iter().enumerate().map(|(i, name)| (key(i, &name), name)).collect(), form))
        }
    }
}

/// The cells of a line; a cell in quotation marks may hold the separator.
fn cells(line: &str, mark: char) -> Vec<String> {
    let (mut cells, mut cell, mut inside) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '"' => inside = !inside,
            c if c == mark && !inside => cells.push(std::mem::take(&mut cell).trim().to_string()),
            c => cell.push(c),
        }
    }
    cells.push(cell.trim().to_string());
    cells
}

/// True where numbers count from 0 or 1 without a gap, in any order.
pub(crate) fn counts(numbers: impl Iterator<Item = usize>) -> bool {
    let numbers: Vec<usize> = numbers.collect();
    let first = numbers.iter().min().copied().unwrap_or(0);
    let different: HashSet<usize> = numbers.iter().copied().collect();
    first <= 1 && different.len() == numbers.len() && numbers.iter().max().is_some_and(|max| max - first < numbers.len())
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
    const INNER: [&str; 8] = ["id2label", "names", "classes", "class_names", "categories", "labels", "class_to_idx", "label2id"];
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
                    Value::Object(_) if split_wordnet_id(key).is_some() || digits(key) == key.len() => (key.clone(), pair_of(value)?.1),
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
    fn a_title_is_no_class() {
        for title in
            ["class", "Class_Name", "classes:", "NAME", "names", "names:", "label", "labels", "category", "# CIFAR-10 classes", "#a\n# b"]
        {
            let list = parse(&format!("{title}\ncat\ndog\n"), "x.txt").unwrap();
            assert_eq!(list.names(), ["cat", "dog"], "{title}");
            assert!(list.notices().len() == 1 && list.notices()[0].contains("title"), "{:?}", list.notices());
        }
        assert_eq!(read("__background__\ncat"), ["__background__", "cat"]);
        assert_eq!(read("cat\nlabel"), ["cat", "label"]);
        assert_eq!(read("label"), ["label"]);
    }

    #[test]
    fn yaml_of_a_data_set() {
        for (names, keyed) in [
            ("names:\n  0: cat\n  1: dog # a comment\n", true),
            ("names:\n- cat\n- 'dog'\n", false),
            ("names:\n  - cat\n  - dog\n", false),
            ("names: ['cat', \"dog\"]\n", false),
            ("names: [cat,\n  dog]\n", false),
            ("names: {0: cat, 1: dog}\n", true),
        ] {
            for text in [names.to_string(), format!("train: ../images\nnc: 2\n{names}roboflow:\n  version: 1\n")] {
                if names.contains('{') {
                    assert!(parse(&text, "data.yaml").unwrap_err().to_string().contains("one class name per line"), "{text}");
                    continue;
                }
                assert_eq!(read(&text), if keyed { ["0=cat", "1=dog"] } else { ["cat", "dog"] }, "{text}");
            }
        }
        assert!(parse("nc: 2\nnames:\n  cat\n  dog", "data.yaml").unwrap_err().to_string().contains("names:"));
    }

    #[test]
    fn marks_and_numbers_around_names_go() {
        for text in ["[0] cat\n[1] dog", "0 = cat\n1 = dog", "0=cat\n1=dog", "0 - cat\n1 - dog", "0 : cat\n1 : dog", "- 0: cat\n- 1: dog"] {
            assert_eq!(read(text), ["0=cat", "1=dog"], "{text}");
        }
        assert_eq!(read("- cat\n- dog"), ["cat", "dog"]);
        assert_eq!(read("- cat\ndog"), ["- cat", "dog"]);
        for text in ["dog 1\ncat 0", "cat\t0\ndog\t1", "name\tlabel\ncat\t0\ndog\t1", "name id\ncat 0\ndog 1"] {
            assert_eq!(parse(text, "x").unwrap().names(), ["cat", "dog"], "{text}");
        }
        for text in ["digit 0\ndigit 1", "cat 0\ndog 18446744073709551615", "Cessna 172\nDC 9", "0\tMiG 1\n1\tSu 2"] {
            let names: Vec<&str> = text.lines().map(|line| line.rsplit('\t').next().unwrap()).collect();
            assert_eq!(parse(text, "x").unwrap().names(), names);
        }
        let error = parse("item {\n  name: 'cat'\n}", "x.pbtxt").unwrap_err().to_string();
        assert!(error.contains("one class name per line"), "{error}");
    }

    #[test]
    fn three_columns() {
        for text in [
            "id\tname\tgroup\n1\tdog\tpet\n0\tcat\tpet",
            "group,id,name\npet,0,cat\npet,1,dog",
            "0,cat,pet\n1,dog,pet",
            "0\tcat\tpet\n1\tdog\tpet",
            "x,id,category\na,1,dog\nb,0,cat",
            "id,label,text\n0,\"cat\",\"small, soft\"\n1,dog,loud",
        ] {
            assert_eq!(read(text), ["0=cat", "1=dog"], "{text}");
        }
        assert_eq!(read("m.1\tcat\tpet\nm.2\tdog\tpet"), ["m.1=cat", "m.2=dog"]);
        assert_eq!(read("a, b, c\nd, e, f"), ["a, b, c", "d, e, f"]);
    }

    #[test]
    fn names_within_json() {
        assert_eq!(read(r#"{"labels": ["cat", "dog"]}"#), ["cat", "dog"]);
        assert_eq!(read(r#"{"1": {"name": "dog"}, "0": {"name": "cat"}}"#), ["0=cat", "1=dog"]);
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
