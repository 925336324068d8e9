//! Published class maps by lines: ids and names, numbers and names, columns.

use std::collections::HashSet;

use super::Pair;
use crate::describe::literal::unmarked;
use crate::describe::spoken::{digits, split_wordnet_id};

/// A name that is its own key.
pub(super) fn twice(name: &str) -> Pair {
    (name.to_string(), name.to_string())
}

/// The pairs of a published class map, and its form in words; `None` for a plain list and for `key<TAB>name`.
pub(super) fn published(lines: &[&str]) -> Option<(Vec<Pair>, &'static str)> {
    let tabs = lines.iter().any(|line| line.contains('\t'));
    let columns = tabs && lines.iter().all(|line| line.split('\t').count() > 2);
    // A line of column titles is not a class: all others have a form that it lacks.
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
        if let Some(read) = by_number_key(lines).or_else(|| below.and_then(by_number_key)) {
            return Some(read);
        }
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
pub(super) fn after_number(text: &str) -> Option<(usize, &str)> {
    let inner = text.strip_prefix('[').unwrap_or(text);
    let (number, rest) = inner.split_at(digits(inner));
    let marks: &[char] = if inner.len() < text.len() { &[']'] } else { &[' ', '\t', ',', ';', ':', '.', ')', '='] };
    Some((number.parse().ok()?, rest.strip_prefix(marks)?.trim()))
}

/// `0 airplane`, `0: airplane`, `0,airplane`, `[0] airplane`, `0 = airplane`; names may begin with numbers themselves, so the
/// numbers have to count.
pub(super) fn by_number(lines: &[&str]) -> Option<(Vec<Pair>, &'static str)> {
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

/// `7<TAB>horse` of numbers that count, but not line by line; the data set may call the class by the number as it stands.
fn by_number_key(lines: &[&str]) -> Option<(Vec<Pair>, &'static str)> {
    let part = |line: &&str| {
        let (key, name) = line.split_once('\t')?;
        let (key, name) = (key.trim(), name.trim());
        Some((key.parse::<usize>().ok().filter(|_| digits(key) == key.len())?, (key.to_string(), name.to_string())))
    };
    let parts: Vec<(usize, Pair)> = lines.iter().map(part).collect::<Option<_>>()?;
    let counts = counts(parts.iter().map(|(number, _)| *number)) && parts.iter().all(|(_, (_, name))| !name.is_empty());
    (counts && !parts.is_sorted_by_key(|(number, _)| *number))
        .then(|| (in_order(parts), "a number and a name, in the order of the numbers"))
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

/// True if numbers count from 0 or 1 without a gap, in any order.
pub(crate) fn counts(numbers: impl Iterator<Item = usize>) -> bool {
    let numbers: Vec<usize> = numbers.collect();
    let first = numbers.iter().min().copied().unwrap_or(0);
    let different: HashSet<usize> = numbers.iter().copied().collect();
    first <= 1 && different.len() == numbers.len() && numbers.iter().max().is_some_and(|max| max - first < numbers.len())
}

pub(super) fn in_order(mut pairs: Vec<(usize, Pair)>) -> Vec<Pair> {
    pairs.sort_by_key(|(number, _)| *number);
    pairs.into_iter().map(|(_, pair)| pair).collect()
}

/// The first of WordNet's names of one meaning: `cat, house cat`.
pub(super) fn first_of(names: &str) -> String {
    let names = bare(names);
    names.split([',', '\t']).map(str::trim).find(|name| !name.is_empty()).map(str::to_string).unwrap_or(names)
}

/// Without the marks of a script or a CSV file.
pub(super) fn bare(name: &str) -> String {
    unmarked(name).unwrap_or_else(|| name.trim().trim_end_matches(',').to_string())
}
