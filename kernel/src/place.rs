//! Places in the generated file, in the words of the cell.

use std::collections::HashSet;

use crate::lexer::Code;
use crate::magics;

/// Where a line of the generated file stands: a line of the cell, or what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// A line of the cell, counted from 1, and its text.
    Cell(usize, String),
    /// A line of a function of an earlier cell: the function, the text.
    Earlier(Option<String>, String),
    /// Generated code around the cell: its last value is shown there.
    Around,
}

/// The place of line `line` of `source`, which was generated for the cell `code`.
pub fn find(line: usize, code: &str, source: &str) -> Place {
    let Some(mut index) = line.checked_sub(1) else { return Place::Around };
    let generated: Vec<&str> = source.lines().map(str::trim).collect();
    // items stand in front in any order, the cell's statements in their own order in the function
    let begin = generated.iter().position(|line| line.starts_with("pub extern \"C\" fn run_user_code_")).unwrap_or(0);
    // the brackets around the last expression, which are no line of the cell, stand above it
    let opens = |line: &&str| *line == "(" || line.starts_with("evcxr_send_text_plain(") && line.ends_with("&(");
    if index >= begin && generated.get(index).is_some_and(opens) && !code.lines().any(|line| line.trim() == "(") {
        index += 1;
    }
    let Some(text) = generated.get(index).copied().filter(|text| !text.is_empty()) else { return Place::Around };
    let region = if index >= begin { begin } else { 0 };
    let count = |lines: &[&str]| lines.iter().filter(|line| **line == text).count();
    let nth = count(&generated[region..index]);
    let end = if region == begin { generated.len() } else { begin };
    let all = count(&generated[region..end]);
    let candidates: Vec<(usize, &str)> = code.lines().enumerate().filter(|(_, line)| line.contains(text)).collect();
    let candidates = if index >= begin {
        let inside = inside_items(code);
        let own = Vec::from_iter(candidates.iter().copied().filter(|(at, _)| !inside.contains(at)));
        if own.is_empty() { candidates } else { own }
    } else {
        // two functions may have the same line
        let (of, lines) = (item(&generated[..=index]), code.lines().map(str::trim).collect::<Vec<_>>());
        Vec::from_iter(candidates.into_iter().filter(|(at, _)| item(&lines[..=*at]) == of))
    };
    let whole: Vec<(usize, &str)> = candidates.iter().copied().filter(|(_, line)| line.trim() == text).collect();
    // a part of a line may be something else
    let candidates = if whole.is_empty() || candidates.len() == all { candidates } else { whole };
    match candidates.get(nth).or(candidates.last()) {
        Some((at, line)) => Place::Cell(at + 1, line.trim().to_string()),
        None if index >= begin && begin > 0 => Place::Around,
        None => Place::Earlier(item(&generated[..=index]), text.to_string()),
    }
}

/// The lines of a cell, counted from 0, that are inside of functions, implementations, traits and modules of its own level.
fn inside_items(cell: &str) -> HashSet<usize> {
    let code = Code::new(cell);
    let line = |token: usize| code.line(token) - 1;
    let (mut lines, mut i) = (HashSet::new(), 0);
    while i < code.tokens.len() {
        match code.word(i) {
            word @ ("fn" | "trait" | "mod" | "impl") if word == "impl" || code.is_name(i + 1) => {
                if let Some(end) = code.body(i).and_then(|open| code.close(open)) {
                    let last = if end + 1 < code.tokens.len() && line(end + 1) == line(end) { line(end) } else { line(end) + 1 };
                    lines.extend(line(i) + 1..last);
                    i = end;
                }
            }
            "(" | "[" | "{" => i = code.close(i).unwrap_or(code.tokens.len()),
            _ => {}
        }
        i += 1;
    }
    lines
}

/// The function that the last of these lines is in.
pub fn item(lines: &[&str]) -> Option<String> {
    lines.iter().rev().find_map(|line| {
        let (before, behind) = line.split_once("fn ")?;
        let begins = before.is_empty() || before.ends_with(' ') && !before.contains(['"', '/', '(']);
        let name = behind.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().filter(|name| !name.is_empty() && begins)?;
        Some(name.to_string())
    })
}

impl Place {
    /// In a sentence's brackets.
    pub fn words(&self) -> String {
        match self {
            Self::Cell(line, text) => format!("line {line} of the cell: {}", magics::original(text)),
            Self::Earlier(Some(name), text) => format!("in `{name}` of an earlier cell: {text}"),
            Self::Earlier(None, text) => format!("in an earlier cell: {text}"),
            Self::Around => "where the cell's value is shown".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "fn old(i: usize) -> i32 {\n    v[i]\n}\nfn new() {\n    f();\n}\n#[unsafe(no_mangle)]\n\
                          pub extern \"C\" fn run_user_code_3(\nlet a = 1;\nf();\nf();\n(\ng()\n).evcxr_display();\n";

    #[test]
    fn statements_keep_their_order_and_a_last_expression_its_line() {
        let code = "let a = 1; f();\nf();\n  g()";
        let line = |generated| find(generated, code, SOURCE).words();
        assert_eq!(line(9), "line 1 of the cell: let a = 1; f();");
        assert_eq!(line(10), "line 1 of the cell: let a = 1; f();");
        assert_eq!(line(11), "line 2 of the cell: f();");
        assert_eq!(line(13), "line 3 of the cell: g()");
        assert_eq!(line(12), "line 3 of the cell: g()", "an overflow is that of the whole expression");
        assert_eq!(line(14), "where the cell's value is shown");
        assert_eq!(line(0), "where the cell's value is shown");
        assert_eq!(find(13, "let x = 1; g()", SOURCE).words(), "line 1 of the cell: let x = 1; g()");
    }

    #[test]
    fn items_are_of_the_cell_or_of_an_earlier_one() {
        assert_eq!(find(5, "fn new() {\n    f();\n}", SOURCE), Place::Cell(2, "f();".into()));
        assert_eq!(find(2, "old(3)", SOURCE).words(), "in `old` of an earlier cell: v[i]");
        assert_eq!(find(2, "fn other(i: usize) {\n    v[i]\n}\nold(3)", SOURCE).words(), "in `old` of an earlier cell: v[i]");
    }

    #[test]
    fn a_statement_is_not_in_a_function_of_the_cell() {
        let source = "fn get() {\n    v[9]\n}\npub extern \"C\" fn run_user_code_3(\nlet v = 1;\n(\nv[9]\n).evcxr_display();\n";
        let code = "fn get() {\n    v[9]\n}\nlet v = 1;\nv[9]";
        assert_eq!(find(7, code, source).words(), "line 5 of the cell: v[9]");
        assert_eq!(find(2, code, source).words(), "line 2 of the cell: v[9]");
    }
}
