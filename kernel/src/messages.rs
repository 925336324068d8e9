//! What Cargo says of a cell, one JSON object per line, before evcxr reads it.
//!
//! evcxr takes every message for an error, so warnings would come back as errors of later cells: they are taken out, and those
//! of results that are thrown away become notes. Columns are counted as if [`Insert`]s were not there.

use serde_json::{Value, json};

use crate::moved;
use crate::rewrite::Insert;

/// A warning about a line of the generated file.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    pub line: usize,
    pub text: String,
}

/// What evcxr is to read, and the notes; `source` is what it generated, `hidden` are the variables that it is to miss.
pub fn read(said: &[u8], inserts: &[Insert], source: &str, hidden: &[&str]) -> (Vec<u8>, Vec<Note>) {
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let shown = shown(source);
    for line in said.split_inclusive(|byte| *byte == b'\n') {
        let parsed = serde_json::from_slice::<Value>(line).ok().filter(|said| said["message"].is_object());
        let Some(mut said) = parsed else {
            out.extend_from_slice(line);
            continue;
        };
        if said["message"]["level"] == "warning" {
            notes.extend(note(&said["message"]));
            continue;
        }
        if primary(&said["message"]).is_some_and(is_of_the_analysis) {
            continue;
        }
        if primary(&said["message"]).is_some_and(|span| span["line_start"].as_u64().is_some_and(|at| shown.contains(&(at as usize)))) {
            // evcxr would take a note on the reader's function for the error; it compiles the last expression once more
            if let Some(children) = said["message"]["children"].as_array_mut() {
                children.retain(|child| child["spans"].as_array().is_none_or(Vec::is_empty));
            }
        }
        misses(&mut said["message"], hidden);
        name_the_variable(&mut said["message"]);
        restore_columns(&mut said["message"], inserts);
        out.extend_from_slice(format!("{said}\n").as_bytes());
    }
    (moved::named_once(&out), notes)
}

fn note(message: &Value) -> Option<Note> {
    if message["code"]["code"] != "unused_must_use" {
        return None;
    }
    let span = primary(message)?;
    let line = span["file_name"].as_str().filter(|name| name.ends_with("src/lib.rs")).and(span["line_start"].as_u64())?;
    let why = message["children"].as_array().into_iter().flatten().find(|child| child["level"] == "note");
    let why = why.and_then(|child| child["message"].as_str()).map(|why| format!("; {why}")).unwrap_or_default();
    Some(Note { line: line as usize, text: format!("{}{why}", message["message"].as_str()?) })
}

fn primary(message: &Value) -> Option<&Value> {
    message["spans"].as_array()?.iter().find(|span| span["is_primary"] == true)
}

/// Where a variable that evcxr is to miss has the name of a function, the compiler finds that.
fn misses(message: &mut Value, hidden: &[&str]) {
    let text = primary(message).and_then(|span| span["text"][0]["text"].as_str()).unwrap_or_default();
    let stored = text.trim().strip_prefix("evcxr_variable_store.put_variable::<").and_then(|text| text.rsplit_once(">(stringify!("));
    if stored.and_then(|(_, rest)| rest.split_once(')')).is_some_and(|(name, _)| hidden.contains(&name)) {
        message["code"] = json!({"code": "E0425", "explanation": null});
    }
}

/// A trait in the type of a variable is written by its last name where evcxr stores the variable: there it may be none, or another one.
fn name_the_variable(message: &mut Value) {
    if !["E0404", "E0405"].iter().any(|code| message["code"]["code"] == **code) {
        return;
    }
    let text = primary(message).and_then(|span| span["text"][0]["text"].as_str()).unwrap_or_default();
    let stored = text.trim().strip_prefix("evcxr_variable_store.put_variable::<").and_then(|text| text.rsplit_once(">(stringify!("));
    let Some((kind, name)) = stored.and_then(|(kind, rest)| Some((kind, rest.split_once(')')?.0))) else { return };
    let said = format!("the type of `{name}` has a trait in it that is not in scope: {kind}");
    let help = format!("write the type down, with the trait's whole path, as in `dyn std::error::Error`: let {name}: … = …;");
    message["children"] = json!([{"level": "help", "message": help, "spans": [], "code": null, "children": [], "rendered": null}]);
    (message["message"], message["rendered"]) = (json!(said), json!(said));
}

/// Code that evcxr generates to learn the types of variables: a `&str` in the type of an earlier one is an error there, and hides
/// what is wrong with the cell.
fn is_of_the_analysis(span: &Value) -> bool {
    span["text"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|line| line["text"].as_str().is_some_and(|text| text.contains("evcxr_variable_store(")))
}

/// The lines of the last expression, where it is shown by its own method.
fn shown(source: &str) -> std::ops::Range<usize> {
    let lines: Vec<&str> = source.lines().collect();
    let end = lines.iter().rposition(|line| *line == ").evcxr_display();").unwrap_or(0);
    let start = lines[..end].iter().rposition(|line| *line == "(").unwrap_or(end);
    start + 2..end + 1
}

/// Corrects the columns of all spans, wherever they stand in the message.
fn restore_columns(value: &mut Value, inserts: &[Insert]) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(|value| restore_columns(value, inserts)),
        Value::Object(fields) => {
            if fields.get("file_name").and_then(Value::as_str).is_some_and(|name| name.ends_with("src/lib.rs")) {
                for (line, column) in [("line_start", "column_start"), ("line_end", "column_end")] {
                    let number = |name: &str| fields.get(name).and_then(Value::as_u64);
                    if let (Some(at), Some(old)) = (number(line), number(column)) {
                        fields.insert(column.into(), json!(column_before(at as usize, old as usize, inserts)));
                    }
                }
            }
            fields.values_mut().filter(|value| value.is_array() || value.is_object()).for_each(|value| restore_columns(value, inserts));
        }
        _ => {}
    }
}

/// A column as it was without the inserts of its line.
pub fn column_before(line: usize, column: usize, inserts: &[Insert]) -> usize {
    inserts.iter().filter(|insert| insert.line == line).fold(column, |column, insert| match column {
        _ if column >= insert.column + insert.length => column - insert.length,
        _ => column.min(insert.column),
    })
}

/// The notes as the session's folder keeps them.
pub fn to_text(notes: &[Note]) -> String {
    notes.iter().map(|note| format!("{} {}\n", note.line, note.text.replace('\n', " "))).collect()
}

pub fn from_text(text: &str) -> Vec<Note> {
    let note = |line: &str| {
        let (line, text) = line.split_once(' ')?;
        Some(Note { line: line.parse().ok()?, text: text.into() })
    };
    text.lines().filter_map(note).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_become_notes_or_nothing() {
        let warning = |code: &str| {
            let span =
                json!({"file_name": "src/lib.rs", "is_primary": true, "line_start": 7, "line_end": 7, "column_start": 1, "column_end": 2});
            let children = json!([{"level": "note", "message": "this `Result` may be an `Err` variant", "spans": []}]);
            let code = json!({"code": code});
            let message = json!({"level": "warning", "code": code, "message": "unused `Result`", "spans": [span], "children": children});
            json!({"reason": "compiler-message", "message": message})
        };
        let artifact = "{\"reason\":\"compiler-artifact\"}\n";
        let said = format!("{}\n{}\n{artifact}", warning("unused_must_use"), warning("dead_code"));
        let (left, notes) = read(said.as_bytes(), &[], "", &[]);
        assert_eq!(String::from_utf8(left).unwrap(), artifact);
        assert_eq!(notes, [Note { line: 7, text: "unused `Result`; this `Result` may be an `Err` variant".into() }]);
        assert_eq!(from_text(&to_text(&notes)), notes);
    }

    #[test]
    fn a_note_does_not_take_the_place_of_an_error_in_the_last_expression() {
        let source = "fn f(s: &str) {}\nlet a = 1;\n(\nf(a)\n).evcxr_display();\n";
        assert_eq!(shown(source), 4..5);
        let children = |line: u64| {
            let span = json!({"is_primary": true, "line_start": line, "file_name": "src/lib.rs"});
            let help = json!([{"level": "note", "spans": [span.clone()]}, {"level": "help", "spans": []}]);
            let said = json!({"message": {"level": "error", "spans": [span], "children": help}});
            let (left, _) = read(format!("{said}\n").as_bytes(), &[], source, &[]);
            serde_json::from_slice::<Value>(&left).unwrap()["message"]["children"].as_array().unwrap().len()
        };
        assert_eq!((children(4), children(2)), (1, 2));
        assert_eq!(shown("fn f() {}").count(), 0);
    }

    #[test]
    fn a_function_of_its_name_is_not_the_variable_that_is_missed() {
        let text = "evcxr_variable_store.put_variable::<A>(stringify!(a), a);";
        let span = json!({"is_primary": true, "line_start": 1, "file_name": "src/lib.rs", "text": [{"text": text}]});
        let said = json!({"message": {"level": "error", "code": {"code": "E0308"}, "spans": [span], "children": []}}).to_string() + "\n";
        let code = |hidden: &[&str]| {
            let left = serde_json::from_slice::<Value>(&read(said.as_bytes(), &[], "", hidden).0).unwrap();
            left["message"]["code"]["code"].as_str().unwrap().to_string()
        };
        assert_eq!((code(&["a"]), code(&["b"])), ("E0425".to_string(), "E0308".to_string()));
    }

    #[test]
    fn a_trait_that_is_not_in_scope_names_the_variable() {
        let text = "evcxr_variable_store.put_variable::<Result<String, Box<dyn Error>>>(stringify!(r), r);";
        let span = json!({"is_primary": true, "line_start": 1, "file_name": "src/lib.rs", "text": [{"text": text}]});
        let help = json!([{"level": "help", "message": "consider importing this trait instead", "spans": []}]);
        let message = json!({"level": "error", "code": {"code": "E0404"}, "message": "expected trait", "spans": [span], "children": help});
        let (left, _) = read(format!("{}\n", json!({"message": message})).as_bytes(), &[], "", &[]);
        let said: Value = serde_json::from_slice(&left).unwrap();
        let expected = "the type of `r` has a trait in it that is not in scope: Result<String, Box<dyn Error>>";
        assert_eq!(said["message"]["message"], expected);
        assert!(said["message"]["children"][0]["message"].as_str().unwrap().contains("let r: …"));
    }

    #[test]
    fn what_is_wrong_with_the_analysis_is_not_the_readers() {
        let said = |text: &str| {
            let span = json!({"is_primary": true, "line_start": 1, "file_name": "src/lib.rs", "text": [{"text": text}]});
            let said = json!({"message": {"level": "error", "spans": [span], "children": []}});
            read(format!("{said}\n").as_bytes(), &[], "", &[]).0.len()
        };
        assert_eq!(said("evcxr_variable_store(m);"), 0);
        assert!(said("f(m);") > 0);
    }

    #[test]
    fn columns_are_those_of_the_cell() {
        let inserts = [Insert { line: 3, column: 7, length: 100 }, Insert { line: 3, column: 20, length: 100 }];
        let columns = [3, 7, 50, 107, 115, 130, 220, 225].map(|column| column_before(3, column, &inserts));
        assert_eq!(columns, [3, 7, 7, 7, 15, 20, 20, 25]);
        assert_eq!(column_before(4, 130, &inserts), 130);
        let span = json!({"file_name": "src/lib.rs", "line_start": 3, "line_end": 3, "column_start": 115, "column_end": 225});
        let said = json!({"message": {"level": "error", "code": null, "spans": [span.clone()], "children": [{"spans": [span]}]}});
        let (left, _) = read(format!("{said}\n").as_bytes(), &inserts, "", &[]);
        let left: Value = serde_json::from_slice(&left).unwrap();
        assert_eq!(left["message"]["spans"][0]["column_start"], 15);
        assert_eq!(left["message"]["children"][0]["spans"][0]["column_end"], 25);
    }
}
