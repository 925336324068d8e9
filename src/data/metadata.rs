//! `metadata.jsonl` and `metadata.csv` of datasets' imagefolder: which picture has which label.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value};

use crate::data::findings::Findings;
use crate::data::folder::{self, Files, Listing, file_name};
use crate::data::options::OpenOptions;
use crate::data::repeats::repeats;
use crate::data::split::{canonical, choose, is_split_name, of_one};
use crate::error::{Error, Result};
use crate::files::read_text;

/// Columns that name the picture, by preference.
const PICTURES: [&str; 5] = ["file_name", "image_file_name", "filename", "image", "path"];
/// Columns that are labels, by preference; any case.
const LABELS: [&str; 9] = ["label", "labels", "class", "category", "class_name", "label_name", "fine_label", "target", "species"];
/// Columns that may tell the split of a row, by preference.
const SPLITS: [&str; 5] = ["split", "subset", "partition", "set", "fold"];

/// Opens the pictures that a metadata file in the folder lists, with their labels. `None` if there is no such file, or it has no
/// labels while folders may have some.
///
/// # Errors
/// [`Error::Data`] for a file that cannot be read, a column that is not there, a picture outside the folder.
pub(crate) fn open(
    root: &Path,
    listing: &Listing,
    split: Option<&str>,
    options: &OpenOptions,
    found: &mut Findings,
) -> Result<Option<Files>> {
    let is_metadata = |file: &&PathBuf| matches!(file_name(file).as_str(), "metadata.jsonl" | "metadata.csv");
    let Some(file) = listing.others.iter().find(is_metadata) else { return Ok(None) };
    let shown = file.display();
    let rows = if folder::ending(file) == "csv" { csv(&read_text(file)?, file)? } else { jsonl(&read_text(file)?, file)? };
    let mut columns: Vec<&String> = Vec::new();
    rows.iter().flat_map(|row| row.keys()).for_each(|name| {
        if !columns.contains(&name) {
            columns.push(name)
        }
    });
    let list = || columns.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    let find = |wanted: &str| columns.iter().copied().find(|name| plain(name) == plain(wanted));
    let Some(pictures) = PICTURES.iter().find_map(|name| find(name)) else {
        let text = format!("{shown}: has no column file_name among {}: passed over", list());
        found.unlabeled.get_or_insert_with(|| text.clone());
        found.notices.push(text);
        return Ok(None);
    };
    let label = match options.label_column.as_deref() {
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
        let text = format!("{shown}: no column of labels among {}: name one with --label-column if there is one", list());
        found.unlabeled.get_or_insert_with(|| text.clone());
        found.notices.push(text);
        if !listing.folders.is_empty() {
            return Ok(None);
        }
    }
    let split_column = SPLITS.iter().filter_map(|name| find(name)).find(|column| tells_splits(&rows, column, file, found));
    let (mut entries, mut splits) = (Vec::new(), Vec::new());
    for (i, row) in rows.iter().enumerate() {
        let refuse = |what: String| Error::Data(format!("{shown}, row {}: {what}", i + 1));
        let name = row.get(pictures).and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| refuse(format!("column {pictures} names no picture: correct the row")))?;
        if Path::new(name).components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(refuse(format!("\"{name}\" leads out of the folder: give paths below it")));
        }
        let of = split_column
            .and_then(|column| row.get(column))
            .and_then(Value::as_str)
            .map(str::trim)
            .or_else(|| name.trim_start_matches("./").split_once('/').map(|(folder, _)| folder));
        splits.push(of.filter(|name| is_split_name(name)).map(canonical));
        let label = label.and_then(|column| row.get(column)).map_or(Ok(None), text).map_err(refuse)?;
        entries.push((root.join(name), label));
    }
    if let Some((path, _)) = entries.first().filter(|(path, _)| !path.exists()) {
        return Err(Error::Data(format!("{shown}: no picture at {}: paths start from the folder of the file", path.display())));
    }
    whole_numbers(&mut entries);
    let classes = class_names(entries.iter().filter_map(|(_, label)| label.as_deref()));
    note_unlisted(listing, file, &entries, found)?;
    let different: BTreeSet<&str> = splits.iter().flatten().map(String::as_str).collect();
    let unknown = splits.iter().filter(|split| split.is_none()).count();
    if unknown > 0 && !different.is_empty() {
        let what = if different.len() > 1 { "left out" } else { "taken like the others" };
        found.notices.push(format!("{shown}: {unknown} of {} rows are of no split (train, val, test): they are {what}", rows.len()));
    }
    let names: Vec<&str> = different.into_iter().collect();
    match names.as_slice() {
        [] => {}
        [only] => found.notices.extend(of_one(only, split, options, &root.display().to_string(), &shown.to_string())?),
        names => {
            let chosen = choose(names, split, &root.display().to_string())?;
            found.add_rule(&format!("rows of split {chosen}"));
            let kept = entries.into_iter().zip(&splits).filter(|(_, split)| split.as_deref() == Some(chosen));
            entries = kept.map(|(entry, _)| entry).collect();
        }
    }
    let repeated = repeats(entries.iter().map(|(path, label)| (path.as_path(), label)));
    found.notices.extend(repeated.map(|text| format!("{shown}: {text}")));
    let index: BTreeMap<&str, usize> = classes.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
    let files: Vec<(PathBuf, Option<usize>)> =
        entries.iter().map(|(path, label)| (path.clone(), label.as_deref().and_then(|label| index.get(label).copied()))).collect();
    note(listing, file, label, &files, found);
    Ok(Some(Files { origin: root.display().to_string(), root: root.to_path_buf(), classes, files: files.into_iter().collect() }))
}

fn note(listing: &Listing, file: &Path, label: Option<&String>, files: &[(PathBuf, Option<usize>)], found: &mut Findings) {
    found.has_columns = true;
    found.add_rule(&match label {
        Some(label) => format!("labels from column {label} of {}", file_name(file)),
        None => format!("pictures of {}", file_name(file)),
    });
    let others: Vec<PathBuf> = listing.others.iter().filter(|other| *other != file).cloned().collect();
    folder::count(&others, found);
    let unknown = files.iter().filter(|(_, label)| label.is_none()).count();
    if label.is_some() && unknown > 0 {
        let text = format!("{}: {unknown} of {} rows have no label", file.display(), files.len());
        found.unlabeled.get_or_insert_with(|| format!("{text} (empty, -1, nan, None and null are none): fill it in or remove them"));
        found.notices.push(text);
    }
}

/// Says how many pictures in the folder and below it are in no row.
fn note_unlisted(listing: &Listing, file: &Path, entries: &[(PathBuf, Option<String>)], found: &mut Findings) -> Result<()> {
    let listed: BTreeSet<&PathBuf> = entries.iter().map(|(path, _)| path).collect();
    let count = |pictures: &[PathBuf]| pictures.iter().filter(|picture| !listed.contains(picture)).count();
    let (here, below) = (count(&listing.pictures), count(&folder::below(&listing.folders)?));
    for (missing, place) in [(here, "next to it"), (below, "in folders below")] {
        if missing > 0 {
            found.notices.push(format!("{}: {missing} pictures {place} are not in it, and are left out", file.display()));
        }
    }
    Ok(())
}

/// True if the column's values are names of splits; other values that differ get a notice.
fn tells_splits(rows: &[Map<String, Value>], column: &str, file: &Path, found: &mut Findings) -> bool {
    let values = rows.iter().filter_map(|row| row.get(column)).filter_map(|value| text(value).ok().flatten());
    let values: BTreeSet<String> = values.collect();
    let known = values.iter().filter(|value| is_split_name(value)).count();
    // If the column is called split, other names among the known ones are left out.
    if known > 0 && (known == values.len() || plain(column) == "split") {
        return true;
    }
    if values.len() > 1 {
        let some: Vec<&str> = values.iter().take(3).map(String::as_str).collect();
        let (file, some) = (file.display(), format!("{}{}", some.join(", "), if values.len() > 3 { ", …" } else { "" }));
        found.notices.push(format!("{file}: column {column} ({some}) does not say train, val or test: no split is read from it"));
    }
    false
}

/// A column's title without case, blanks, underscores.
fn plain(title: &str) -> String {
    title.chars().filter(|c| !matches!(c, ' ' | '_')).flat_map(char::to_lowercase).collect()
}

/// Reads "3.0" as 3 where all labels are whole numbers: pandas writes them so if one is missing.
fn whole_numbers(entries: &mut [(PathBuf, Option<String>)]) {
    let digits = |label: &str| {
        let number = label.strip_suffix(".0").unwrap_or(label);
        (!number.is_empty() && number.chars().all(|c| c.is_ascii_digit())).then(|| number.to_string())
    };
    let whole: Option<Vec<String>> = entries.iter().filter_map(|(_, label)| label.as_deref()).map(digits).collect();
    if let Some(whole) = whole {
        entries.iter_mut().filter_map(|(_, label)| label.as_mut()).zip(whole).for_each(|(label, number)| *label = number);
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

/// A label as a class name; hidden and missing labels (null, -1, pandas' nan) are none.
fn text(value: &Value) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if matches!(text.trim(), "" | "-1" | "-1.0" | "nan" | "NaN" | "None" | "null" | "<NA>") => Ok(None),
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

/// Rows below a line of titles, which tells whether commas, semicolons or tabs stand between the cells. A cell beyond the titles is an
/// error: a text that holds the mark was not put into quotes.
fn csv(text: &str, file: &Path) -> Result<Vec<Map<String, Value>>> {
    let titles = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let between = [',', ';', '\t'].into_iter().find(|between| titles.contains(*between)).unwrap_or(',');
    let lines = records(text, between).map_err(|line| {
        Error::Data(format!("{}, line {line}: a quote (\") opens here and does not close: correct the line", file.display()))
    })?;
    let is_blank = |cell: &String| cell.trim().is_empty();
    let (mut titles, mut rows, mut next) = (Vec::new(), Vec::new(), 1);
    for cells in lines {
        let line = next;
        next += 1 + cells.iter().map(|cell| cell.matches('\n').count()).sum::<usize>();
        if cells.iter().all(is_blank) {
            continue;
        }
        if titles.is_empty() {
            let last = cells.iter().rposition(|cell| !is_blank(cell)).unwrap_or(0);
            titles = cells.iter().take(last + 1).map(|title| title.trim().to_string()).collect();
            continue;
        }
        if !cells.iter().skip(titles.len()).all(is_blank) {
            let mark = match between {
                ',' => "a comma",
                ';' => "a semicolon",
                _ => "a tab",
            };
            return Err(Error::Data(format!(
                "{}, line {line}: more cells than titles: put a text with {mark} into quotes, or give each column a title",
                file.display()
            )));
        }
        rows.push(titles.iter().cloned().zip(cells.into_iter().map(Value::String)).collect());
    }
    Ok(rows)
}

/// The cells of a CSV file (RFC 4180): commas, quotes, doubled quotes, line breaks in quotes. A quote opens at the start of a cell
/// only; else it is a letter. The error is the line of a quote that does not close.
fn records(text: &str, between: char) -> Result<Vec<Vec<String>>, usize> {
    let (mut rows, mut row, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    // `start`: nothing but blanks in the cell so far.
    let (mut start, mut line, mut opened) = (true, 1, 1);
    let mut letters = text.chars().peekable();
    while let Some(c) = letters.next() {
        line += usize::from(c == '\n');
        match c {
            '"' if quoted && letters.peek() == Some(&'"') => cell.extend(letters.next()),
            '"' if quoted => quoted = false,
            '"' if start => {
                cell.clear();
                (quoted, start, opened) = (true, false, line);
            }
            c if c == between && !quoted => {
                row.push(std::mem::take(&mut cell));
                start = true;
            }
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
                start = true;
            }
            '\r' if !quoted => {}
            c => {
                start &= c == ' ';
                cell.push(c);
            }
        }
    }
    if quoted {
        return Err(opened);
    }
    if !cell.is_empty() || !row.is_empty() {
        row.push(cell);
        rows.push(row);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_csv() {
        let cells = |text: &str| records(text, ',').unwrap();
        assert_eq!(cells("a,\"b, \"\"c\"\"\"\r\n1,2"), [vec!["a".to_string(), "b, \"c\"".into()], vec!["1".into(), "2".into()]]);
        let file = Path::new("metadata.csv");
        assert_eq!(csv("file_name,label\na.png,cat\n\n", file).unwrap()[0]["label"], "cat");
        for between in [';', '\t'] {
            let text = format!("file_name{between}label\na.png{between}cat, small\n");
            assert_eq!(csv(&text, file).unwrap()[0]["label"], "cat, small");
        }
    }

    #[test]
    fn quotes_open_at_the_start_of_a_cell_only() {
        let cells = |text: &str| records(text, ',').unwrap();
        assert_eq!(cells("5\" pipe,a\nb,c\n"), [["5\" pipe", "a"], ["b", "c"]]);
        assert_eq!(cells("a, \"b, c\"\n"), [["a", "b, c"]]);
        assert_eq!(cells("\"\",\"a\"b\"\n"), [["", "ab\""]]);
        assert_eq!(records("a,b\n\"c,d\ne,f\n", ','), Err(2));
        let error = csv("file_name,label\na.png,\"cat\n", Path::new("metadata.csv")).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("does not close"), "{error}");
    }

    #[test]
    fn cells_beyond_the_titles_are_an_error_that_names_the_line() {
        let read = |text: &str| csv(text, Path::new("metadata.csv"));
        let rows = read("\nfile_name,label,,\n\"a\nb.png\",\"crane, bird\", ,\n\n2.png,crane,,,\n3.png\n").unwrap();
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[0]["label"], "crane, bird");
        for (text, said) in [
            ("file_name,label\n1.jpg,crane, bird\n2.jpg,crane, machine\n", "line 2: more cells than titles: put a text with a comma"),
            (
                "\nfile_name;label;\n\"a\nb.png\";crane\n\n2.png;crane; bird\n",
                "line 6: more cells than titles: put a text with a semicolon",
            ),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn labels_that_pandas_writes() {
        let labels = |labels: &[&str]| {
            let mut entries: Vec<(PathBuf, Option<String>)> =
                labels.iter().map(|label| (PathBuf::new(), text(&serde_json::json!(label)).unwrap())).collect();
            whole_numbers(&mut entries);
            entries.into_iter().map(|(_, label)| label.unwrap_or_default()).collect::<Vec<_>>()
        };
        assert_eq!(labels(&["0.0", "", "10.0", "3"]), ["0", "", "10", "3"]);
        assert_eq!(labels(&["1.0", "1.5"]), ["1.0", "1.5"]);
        assert_eq!(labels(&["cat", "nan", "NaN", "None", "null", "<NA>", "-1", "-1.0"]), ["cat", "", "", "", "", "", "", ""]);
        assert_eq!(plain("File Name"), plain("file_name"));
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
