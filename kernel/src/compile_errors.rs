//! Compile errors with the cell's own lines, whatever script the cell is written in.

use std::collections::HashMap;

use ariadne::{Color, Config, IndexType, Label, Report, ReportKind, Source};
use evcxr::CompilationError;
use serde_json::Value;

use crate::failure::Failure;
use crate::lexer::Code;
use crate::magics;
use crate::messages::column_before;
use crate::place::{self, Place};
use crate::rewrite::Insert;

/// One labeled range: from line and column to line and column, counted in characters from 1, the end excluded.
#[derive(Clone, Debug)]
struct Mark {
    from: (usize, usize),
    to: (usize, usize),
    label: String,
    primary: bool,
}

/// Where an `impl` has what another one has.
const EARLIER_IMPL: &str =
    "an `impl` of an earlier cell has it already: change that one, or :clear; below its type, in one cell, it is replaced with the type";

/// `inserts` is what evcxr was given besides the cell, `source` what was generated for it, `taken` the variables that cells moved, and
/// which.
pub fn failure(errors: &[CompilationError], code: &str, inserts: &[Insert], source: &str, taken: &HashMap<String, usize>) -> Failure {
    let (whole, (code, command)) = (code, magics::shown(code));
    let (code, inserts) = (code.as_str(), &inserts.iter().cloned().chain(command).collect::<Vec<_>>()[..]);
    let are_errors: Vec<&CompilationError> = errors.iter().filter(|error| error.level() != "warning").collect();
    let errors = if are_errors.is_empty() { errors.iter().collect() } else { are_errors };
    let said = |error: &CompilationError, marks: &[Mark]| if ends(marks, code) { at_end(&error.message()) } else { error.message() };
    let value = errors.first().map(|error| said(error, &marks(error, inserts))).unwrap_or_default();
    let lines = errors.iter().flat_map(|error| {
        let mut marks = marks(error, inserts);
        let elsewhere = if marks.is_empty() { elsewhere(&error.json, whole, source) } else { None };
        let moved = moved(&error.message(), taken);
        let mut of_compiler = notes(error, &marks);
        if moved.is_some() {
            // the compiler's own advice is about what else has the name
            of_compiler.clear();
            marks.retain(|mark| mark.primary);
        }
        let notes: Vec<String> = elsewhere.into_iter().chain(of_compiler).chain(moved).collect();
        let message = said(error, &marks);
        if ends(&marks, code) {
            marks.iter_mut().for_each(|mark| mark.label = at_end(&mark.label));
        }
        render(&message, error.code(), &marks, &notes, code)
    });
    let lines = lines.collect();
    Failure { name: "CompileError".into(), value, lines }
}

/// Where an error stands that is not in the cell's own lines: most often in a function of an earlier cell whose types have changed.
fn elsewhere(error: &Value, code: &str, source: &str) -> Option<String> {
    let span = error["spans"].as_array()?.iter().find(|span| span["is_primary"] == true)?;
    let line = span["file_name"].as_str().filter(|name| name.ends_with("src/lib.rs")).and(span["line_start"].as_u64())?;
    match place::find(line as usize, code, source) {
        Place::Around => unclosed(code),
        place @ Place::Cell(..) => Some(place.words()),
        place @ Place::Earlier(None, _) => Some(place.words()),
        place @ Place::Earlier(Some(_), _) => {
            let words = place.words();
            Some(format!("{}; define it again here, as the cell now needs it", words.trim_end_matches(';')))
        }
    }
}

/// The variables whose types are not found where evcxr loads them: what a macro defines is there for one cell.
pub fn untyped(errors: &[CompilationError]) -> Vec<String> {
    let loaded = |error: &CompilationError| {
        let span = error.json["spans"].as_array()?.iter().find(|span| span["is_primary"] == true)?;
        let text = span["text"][0]["text"].as_str().filter(|text| text.contains("evcxr_variable_store.take_variable::<"))?;
        let name = text.rsplit_once(">(stringify!(")?.1.split_once(')')?.0;
        error.message().starts_with("cannot find type").then(|| name.to_string())
    };
    errors.iter().filter_map(loaded).collect()
}

/// What became of a variable that is not found.
fn moved(message: &str, taken: &HashMap<String, usize>) -> Option<String> {
    let before = ["cannot find value `", "expected value, found module `", "expected value, found crate `"];
    let name = before.iter().find_map(|before| message.strip_prefix(before))?.split_once('`')?.0;
    let number = taken.get(name)?;
    Some(format!("cell [{number}] took `{name}`: make it again, and clone it there to keep it"))
}

/// Whether an error stands behind the cell's last character, at what was generated after it.
fn ends(marks: &[Mark], code: &str) -> bool {
    let (offset, length) = (offsets(code), code.trim_end().chars().count());
    marks.iter().any(|mark| mark.primary && offset(mark.from) >= length)
}

/// "expected `;`, found keyword `fn`": what was found is not the reader's.
fn at_end(text: &str) -> String {
    match text.split_once(", found ") {
        Some((expected, _)) if expected.contains("expected ") => format!("{expected}, found the end of the cell"),
        _ => text.to_string(),
    }
}

/// A bracket that is closed by another one, or not at all.
fn unclosed(cell: &str) -> Option<String> {
    let code = Code::new(cell);
    let at = *code.unclosed().last()?;
    let line = code.line(at);
    Some(format!("`{}` is not closed: line {line} of the cell: {}", code.word(at), cell.lines().nth(line - 1)?.trim()))
}

fn marks(error: &CompilationError, inserts: &[Insert]) -> Vec<Mark> {
    let mut marks = Vec::new();
    for (i, message) in error.spanned_messages().iter().chain(error.help_spanned()).enumerate() {
        let primary = message.is_primary && i < error.spanned_messages().len();
        let Some(span) = message.span.filter(|_| primary || !message.label.is_empty()) else { continue };
        let of_cell = |line, column| (line, column_before(line, column, inserts));
        let (from, to) = (of_cell(span.start_line, span.start_column), of_cell(span.end_line, span.end_column));
        marks.push(Mark { from, to, label: message.label.clone(), primary });
    }
    marks
}

/// Help that no mark says already.
fn notes(error: &CompilationError, marks: &[Mark]) -> Vec<String> {
    let hint = match error.code() {
        Some("E0384" | "E0596") => Some("a variable of an earlier cell becomes mutable by: let mut x = x;".to_string()),
        Some("E0592" | "E0119") if is_of_earlier(&error.json, marks) => Some(EARLIER_IMPL.to_string()),
        _ => error.evcxr_extra_hint().map(String::from),
    };
    let help = error.json["children"].as_array().into_iter().flatten().filter(|child| child["level"] == "help");
    let help = help.filter_map(|child| unsaid(child, marks)).collect::<Vec<_>>();
    help.into_iter().chain(hint).collect()
}

/// Whether what an `impl` has twice stands in an earlier cell, too: neither both in this one nor one in another crate, which a note says.
fn is_of_earlier(error: &Value, marks: &[Mark]) -> bool {
    marks.len() < 2 && error["children"].as_array().is_none_or(Vec::is_empty)
}

fn unsaid(help: &Value, marks: &[Mark]) -> Option<String> {
    let message = help["message"].as_str()?;
    let said = |mark: &Mark| mark.label.strip_prefix("help: ").is_some_and(|label| label.starts_with(message));
    (!marks.iter().any(said)).then(|| match message.split_once("use `cargo add ").and_then(|(_, rest)| rest.split_once('`')) {
        Some((name, _)) => format!("a crate is added by :dep {name} = \"VERSION\""),
        None => message.to_string(),
    })
}

fn render(message: &str, code: Option<&str>, marks: &[Mark], notes: &[String], cell: &str) -> Vec<String> {
    let offset = offsets(cell);
    let at = marks.iter().find(|mark| mark.primary).or(marks.first()).map_or(0, |mark| offset(mark.from));
    let mut report = Report::build(ReportKind::Error, ("cell", at..at)).with_message(message);
    if let Some(code) = code {
        report = report.with_code(code);
    }
    for mark in marks {
        let (from, to) = (offset(mark.from), offset(mark.to));
        let color = if mark.primary { Color::Red } else { Color::Blue };
        report = report.with_label(Label::new(("cell", from..to.max(from))).with_message(&mark.label).with_color(color));
    }
    let mut text = Vec::new();
    let report = report.with_config(Config::default().with_index_type(IndexType::Char)).finish();
    if marks.is_empty() || report.write(("cell", Source::from(cell)), &mut text).is_err() {
        text = format!("\u{1b}[31merror\u{1b}[0m: {message}").into_bytes();
    }
    let notes = notes.iter().map(|note| format!("help: {note}"));
    String::from_utf8_lossy(&text).lines().map(merge).chain(notes).collect()
}

/// ariadne colors each character by itself: neighbors of one color are joined, so that words stay words.
fn merge(line: &str) -> String {
    const OFF: &str = "\u{1b}[0m";
    let (mut out, mut now) = (String::new(), "");
    let mut rest = line;
    while !rest.is_empty() {
        let (color, text, behind) = match rest.strip_prefix('\u{1b}').and_then(|_| rest.find('m')).map(|at| rest.split_at(at + 1)) {
            Some((color, tail)) => {
                let (text, behind) = tail.split_once(OFF).unwrap_or((tail, ""));
                (color, text, behind)
            }
            None => {
                let (text, behind) = rest.split_at(rest.find('\u{1b}').unwrap_or(rest.len()));
                ("", text, behind)
            }
        };
        if color != now {
            out += if now.is_empty() { "" } else { OFF };
            out += color;
            now = color;
        }
        out += text;
        rest = behind;
    }
    out + if now.is_empty() { "" } else { OFF }
}

/// Line and column, counted in characters from 1, to a count of characters from the start.
fn offsets(cell: &str) -> impl Fn((usize, usize)) -> usize {
    let mut starts = vec![0];
    let mut total = 0;
    for character in cell.chars() {
        total += 1;
        if character == '\n' {
            starts.push(total);
        }
    }
    move |(line, column)| (starts.get(line.saturating_sub(1)).copied().unwrap_or(total) + column.saturating_sub(1)).min(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(lines: &[String]) -> String {
        let text = lines.join("\n");
        let mut out = String::new();
        let mut parts = text.split('\u{1b}');
        out.push_str(parts.next().unwrap());
        parts.for_each(|part| out.push_str(part.split_once('m').unwrap().1));
        out
    }

    #[test]
    fn a_cell_in_any_script_shows_its_own_line() {
        let cell = "let größe = \"日本語\";\nlet x: u32 = größe;";
        let mark = Mark { from: (2, 14), to: (2, 19), label: "expected `u32`".into(), primary: true };
        let text = plain(&render("mismatched types", Some("E0308"), &[mark], &["try this".into()], cell));
        assert!(text.contains("[E0308]") && text.contains("mismatched types"), "{text}");
        assert!(text.contains("cell:2:14"), "{text}");
        assert!(text.contains("2 │ let x: u32 = größe;"), "{text}");
        assert!(text.contains("expected `u32`") && text.ends_with("help: try this"), "{text}");
    }

    #[test]
    fn help_is_said_once_and_a_place_in_an_earlier_cell_is_named() {
        let mark = Mark { from: (1, 1), to: (1, 2), label: "help: consider borrowing here: `&`".into(), primary: false };
        let help = |message: &str| serde_json::json!({"level": "help", "message": message, "spans": [{"suggested_replacement": "&"}]});
        assert_eq!(unsaid(&help("consider borrowing here"), std::slice::from_ref(&mark)), None);
        assert_eq!(unsaid(&help("add a bound"), &[mark]).as_deref(), Some("add a bound"));
        let span = serde_json::json!({"file_name": "src/lib.rs", "is_primary": true, "line_start": 2});
        let source = "fn norm(p: &P) -> f32 {\n    p.x\n}\npub extern \"C\" fn run_user_code_3(\n";
        let place = elsewhere(&serde_json::json!({"spans": [span]}), "struct P { y: f32 }", source).unwrap();
        assert!(place.starts_with("in `norm` of an earlier cell: p.x"), "{place}");
    }

    #[test]
    fn an_impl_of_an_earlier_cell_is_told_from_others() {
        let mark = Mark { from: (1, 1), to: (1, 2), label: "other definition for `a`".into(), primary: false };
        let alone = serde_json::json!({"children": []});
        let elsewhere = serde_json::json!({"children": [{"level": "note", "message": "conflicting implementation in crate `core`"}]});
        assert!(is_of_earlier(&alone, std::slice::from_ref(&mark)) && !is_of_earlier(&elsewhere, std::slice::from_ref(&mark)));
        assert!(!is_of_earlier(&alone, &[mark.clone(), mark]));
    }

    #[test]
    fn what_is_missing_is_said_in_words_of_the_cell() {
        let mark = |column| Mark { from: (2, column), to: (2, column), label: String::new(), primary: true };
        let code = "let é = 1;\nlet a = é\n";
        assert!(ends(&[mark(10)], code) && !ends(&[mark(9)], code));
        assert_eq!(at_end("expected `;`, found keyword `fn`"), "expected `;`, found the end of the cell");
        assert_eq!(at_end("mismatched types"), "mismatched types");
        assert_eq!(unclosed("f();\nprintln!(\"(\", [1);\n").unwrap(), "`[` is not closed: line 2 of the cell: println!(\"(\", [1);");
        assert_eq!(unclosed("{ ( ) } // ("), None);
        let help = serde_json::json!({"message": "if you wanted to use a crate named `rand`, use `cargo add rand` to add it to your `Cargo.toml`"});
        assert_eq!(unsaid(&help, &[]).unwrap(), "a crate is added by :dep rand = \"VERSION\"");
    }

    #[test]
    fn neighbors_of_one_color_are_joined() {
        let (red, off) = ("\u{1b}[31m", "\u{1b}[0m");
        assert_eq!(merge(&format!("a{red}b{off}{red}c{off} {red}d{off}")), format!("a{red}bc{off} {red}d{off}"));
        assert_eq!(merge("plain"), "plain");
    }

    #[test]
    fn places_outside_the_cell_do_no_harm() {
        let mark = Mark { from: (9, 9), to: (1, 1), label: "here".into(), primary: true };
        assert!(!render("odd", None, &[mark], &[], "é").is_empty());
        assert!(plain(&render("no place", None, &[], &[], "")).contains("error: no place"));
    }
}
