//! Compile errors with the cell's own lines, whatever script the cell is written in.

use ariadne::{Color, Config, IndexType, Label, Report, ReportKind, Source};
use evcxr::CompilationError;

use crate::failure::Failure;

/// One labeled range: from line and column to line and column, counted in characters from 1, the end excluded.
#[derive(Clone, Debug)]
struct Mark {
    from: (usize, usize),
    to: (usize, usize),
    label: String,
    primary: bool,
}

pub fn failure(errors: &[CompilationError], code: &str) -> Failure {
    let value = errors.first().map(CompilationError::message).unwrap_or_default();
    let lines = errors.iter().flat_map(|error| render(&error.message(), error.code(), &marks(error), &notes(error), code)).collect();
    Failure { name: "CompileError".into(), value, lines }
}

fn marks(error: &CompilationError) -> Vec<Mark> {
    let mut marks = Vec::new();
    for (i, message) in error.spanned_messages().iter().chain(error.help_spanned()).enumerate() {
        let primary = message.is_primary && i < error.spanned_messages().len();
        let Some(span) = message.span.filter(|_| primary || !message.label.is_empty()) else { continue };
        let (from, to) = ((span.start_line, span.start_column), (span.end_line, span.end_column));
        marks.push(Mark { from, to, label: message.label.clone(), primary });
    }
    marks
}

fn notes(error: &CompilationError) -> Vec<String> {
    let hint = match error.code() {
        Some("E0384" | "E0596") => Some("a variable of an earlier cell becomes mutable by: let mut x = x;".to_string()),
        _ => error.evcxr_extra_hint().map(String::from),
    };
    error.help().into_iter().chain(hint).collect()
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
