//! `metadata.jsonl` and `metadata.csv` of datasets' imagefolder: which picture has which label.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value};

use crate::data::findings::Findings;
use crate::data::folder::{self, Files, Listing, file_name};
use crate::data::split::{canonical, choose, is_split_name};
use crate::error::{Error, Result};
use crate::files::read_text;

/// Columns that name the picture, by preference.
const PICTURES: [&str; 5] = ["file_name", "image_file_name", "filename", "image", "path"];
/// Columns that are labels, by preference; any case.
const LABELS: [&str; 9] = ["label", "labels", "class", "category", "class_name", "label_name", "fine_label", "target", "species"];

/// Opens the pictures that a metadata file in the folder lists, with their labels. `None` where there is no such file, or it has no
/// labels while folders may have some.
///
/// # Errors
/// [`Error::Data`] for a file that cannot be read, a column that is not there, a picture outside the folder.
pub(crate) fn open(
    root: &Path,
    listing: &Listing,
    split: Option<&str>,
    label_column: Option<&str>,
    found: &mut Findings,
) -> Result<Option<Files>> {
    let is_metadata = |file: &&PathBuf| matches!(file_name(file).as_str(), "metadata.jsonl" | "metadata.csv");
    let Some(file) = listing.others.iter().find(is_metadata) else { return Ok(None) };
    let shown = file.display();
    let rows = if folder::ending(file) == "csv" { csv(&read_text(file)?) } else { jsonl(&read_text(file)?, file)? };
    let mut columns: Vec<&String> = Vec::new();
    rows.iter().flat_map(|row| row.keys()).for_each(|name| {
        if !columns.contains(&name) {
            columns.push(name)
        }
    });
    let list = || columns.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    let find = |wanted: &str| columns.iter().copied().find(|name| name.eq_ignore_ascii_case(wanted));
    let Some(pictures) = PICTURES.iter().find_map(|name| find(name)) else {
        found.notices.push(format!("{shown}: has no column file_name among {}: passed over", list()));
        return Ok(None);
    };
    let label = match label_column {
        Some(name) => Some(
            columns
                .iter()
                .copied()
                .find(|column| *column == name)
                .ok_or_else(|| Error::Data(format!("{shown}: has no column \"{name}\" (--label-column), only {}", list())))?,
        ),
        None => LABELS.iter().find_map(|name| find(name)),
    };
    if label.is_none() {
        found.notices.push(format!("{shown}: no column of labels among {}: name one with --label-column if there is one", list()));
        if !listing.folders.is_empty() {
            return Ok(None);
        }
    }
    let (mut entries, mut splits) = (Vec::new(), Vec::new());
    for (i, row) in rows.iter().enumerate() {
        let refuse = |what: String| Error::Data(format!("{shown}, row {}: {what}", i + 1));
        let name = row.get(pictures).and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| refuse(format!("column {pictures} names no picture: correct the row")))?;
        if Path::new(name).components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(refuse(format!("\"{name}\" leads out of the folder: give paths below it")));
        }
        let of = find("split")
            .and_then(|column| row.get(column))
            .and_then(Value::as_str)
            .or_else(|| name.split_once('/').map(|(folder, _)| folder));
        splits.push(of.filter(|name| is_split_name(name)).map(canonical));
        let label = label.and_then(|column| row.get(column)).map_or(Ok(None), text).map_err(refuse)?;
        entries.push((root.join(name), label));
    }
    if let Some((path, _)) = entries.first().filter(|(path, _)| !path.exists()) {
        return Err(Error::Data(format!("{shown}: no picture at {}: paths start from the folder of the file", path.display())));
    }
    let different: BTreeSet<&str> = splits.iter().flatten().map(String::as_str).collect();
    if different.len() > 1 {
        let names: Vec<&str> = different.into_iter().collect();
        let chosen = choose(&names, split, &root.display().to_string())?;
        found.add_rule(&format!("rows of split {chosen}"));
        let kept = entries.into_iter().zip(&splits).filter(|(_, split)| split.as_deref() == Some(chosen));
        entries = kept.map(|(entry, _)| entry).collect();
    }
    let classes = class_names(entries.iter().filter_map(|(_, label)| label.as_deref()));
    let index: BTreeMap<&str, usize> = classes.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
    let files: Vec<(PathBuf, Option<usize>)> =
        entries.iter().map(|(path, label)| (path.clone(), label.as_deref().and_then(|label| index.get(label).copied()))).collect();
    note(listing, file, label, &files, found);
    Ok(Some(Files { origin: root.display().to_string(), root: root.to_path_buf(), classes, files }))
}

fn note(listing: &Listing, file: &Path, label: Option<&String>, files: &[(PathBuf, Option<usize>)], found: &mut Findings) {
    found.add_rule(&match label {
        Some(label) => format!("labels from column {label} of {}", file_name(file)),
        None => format!("pictures of {}", file_name(file)),
    });
    let others: Vec<PathBuf> = listing.others.iter().filter(|other| *other != file).cloned().collect();
    folder::count(&others, found);
    let listed: BTreeSet<&PathBuf> = files.iter().map(|(path, _)| path).collect();
    let missing = listing.pictures.iter().filter(|picture| !listed.contains(picture)).count();
    if missing > 0 {
        found.notices.push(format!("{}: {missing} pictures next to it are not in it, and are left out", file.display()));
    }
    let unknown = files.iter().filter(|(_, label)| label.is_none()).count();
    if label.is_some() && unknown > 0 {
        found.notices.push(format!("{}: {unknown} of {} rows have no label", file.display(), files.len()));
    }
}

/// Numbers in their order, else words in theirs.
fn class_names<'a>(labels: impl Iterator<Item = &'a str>) -> Vec<String> {
    let different: BTreeSet<&str> = labels.collect();
    let mut names: Vec<String> = different.into_iter().map(str::to_string).collect();
    if names.iter().all(|name| name.parse::<u64>().is_ok()) {
        names.sort_by_key(|name| name.parse::<u64>().unwrap_or(0));
    }
    names
}

/// A label as a class name; hidden labels (null, -1) are none.
fn text(value: &Value) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if matches!(text.trim(), "" | "-1") => Ok(None),
        Value::String(text) => Ok(Some(text.trim().to_string())),
        Value::Number(number) if number.as_f64().is_some_and(|number| number < 0.0) => Ok(None),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Bool(truth) => Ok(Some(truth.to_string())),
        Value::Array(values) if values.len() == 1 => text(&values[0]),
        _ => Err("its label is neither a name nor a number: one class per picture is needed".to_string()),
    }
}

fn jsonl(text: &str, file: &Path) -> Result<Vec<Map<String, Value>>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let row = |(i, line): (usize, &str)| {
        serde_json::from_str(line)
            .map_err(|e| Error::Data(format!("{}, line {}: not a JSON object ({e}): correct it", file.display(), i + 1)))
    };
    lines.map(row).collect()
}

/// Rows below a line of titles.
fn csv(text: &str) -> Vec<Map<String, Value>> {
    let mut lines = records(text).into_iter().filter(|line| line.iter().any(|cell| !cell.trim().is_empty()));
    let titles = lines.next().unwrap_or_default();
    let row = |cells: Vec<String>| titles.iter().map(|title| title.trim().to_string()).zip(cells.into_iter().map(Value::String)).collect();
    lines.map(row).collect()
}

/// The cells of a CSV file (RFC 4180): commas, quotes, doubled quotes, line breaks in quotes.
fn records(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(c) = letters.next() {
        match c {
            '"' if quoted && letters.peek() == Some(&'"') => cell.extend(letters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            '\r' if !quoted => {}
            c => cell.push(c),
        }
    }
    if !cell.is_empty() || !row.is_empty() {
        row.push(cell);
        rows.push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_csv() {
        assert_eq!(records("a,\"b, \"\"c\"\"\"\r\n1,2"), [vec!["a".to_string(), "b, \"c\"".into()], vec!["1".into(), "2".into()]]);
        assert_eq!(csv("file_name,label\na.png,cat\n\n")[0]["label"], "cat");
    }

    #[test]
    fn labels_as_class_names() {
        assert_eq!(class_names(["10", "9", "9"].into_iter()), ["9", "10"]);
        assert_eq!(class_names(["dog", "cat"].into_iter()), ["cat", "dog"]);
        assert_eq!(text(&serde_json::json!(-1)), Ok(None));
        assert_eq!(text(&serde_json::json!(["cat"])), Ok(Some("cat".into())));
        assert!(text(&serde_json::json!(["cat", "dog"])).is_err());
    }
}
