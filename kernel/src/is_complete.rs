//! Whether a console should run the cell or ask for another line.

use jupyter_protocol::{IsCompleteReply, IsCompleteReplyStatus};

use crate::lexer::{Code, Kind};

/// What a cell lacks.
#[derive(Debug, PartialEq)]
enum Lacks {
    Nothing,
    /// Brackets left open; an open string or comment counts as one.
    Ends(usize),
    /// An operand, a semicolon, a body: an empty line shows that none will come.
    More,
    /// A bracket closes that was never opened.
    Sense,
}

pub fn reply(code: &str) -> IsCompleteReply {
    let (status, indent) = match lacks(code) {
        Lacks::Nothing => (IsCompleteReplyStatus::Complete, 0),
        Lacks::Ends(depth) => (IsCompleteReplyStatus::Incomplete, depth.min(8)),
        Lacks::More => (IsCompleteReplyStatus::Incomplete, 1),
        Lacks::Sense => (IsCompleteReplyStatus::Invalid, 0),
    };
    IsCompleteReply { status, indent: "    ".repeat(indent) }
}

fn lacks(cell: &str) -> Lacks {
    let cell = match cell.split_once('\n') {
        Some((first, rest)) if first.starts_with("%%time") => rest,
        _ if cell.starts_with(['%', '!', ':', '?']) => return Lacks::Nothing,
        _ => cell,
    };
    let code = Code::new(cell);
    let mut open = Vec::new();
    for token in &code.tokens {
        match token.kind {
            _ if token.open => return Lacks::Ends(open.len().max(1)),
            Kind::Mark('(') => open.push(')'),
            Kind::Mark('[') => open.push(']'),
            Kind::Mark('{') => open.push('}'),
            Kind::Mark(bracket @ (')' | ']' | '}')) if open.pop() != Some(bracket) => return Lacks::Sense,
            _ => {}
        }
    }
    let ends_in_an_empty_line = cell.trim_end_matches([' ', '\t']).ends_with('\n');
    match open.len() {
        0 if !ends_in_an_empty_line && expects_more(&code) => Lacks::More,
        depth if depth > 0 => Lacks::Ends(depth),
        _ => Lacks::Nothing,
    }
}

/// Whether the last statement cannot be all, although every bracket is closed.
fn expects_more(code: &Code) -> bool {
    let Some(last) = code.tokens.len().checked_sub(1) else { return false };
    let word = code.word(last);
    match code.tokens[last].kind {
        // `1..` is a range, `f()?` a value
        Kind::Mark('.') => return last == 0 || !code.is_mark(last - 1, '.') || !code.touch(last - 1),
        Kind::Mark('+' | '-' | '*' | '/' | '%' | '^' | '&' | '|' | '=' | '<' | '>' | '!' | ':' | ',' | '#' | '@') => return true,
        Kind::Mark(';') => return false,
        Kind::Word
            if ["as", "in", "mut", "ref", "move", "else", "let", "where", "impl", "dyn", "unsafe", "async", "pub"].contains(&word) =>
        {
            return true;
        }
        _ => {}
    }
    let start = statement(code, last);
    let first = (start..=last).find(|i| !["pub", "unsafe", "async", "extern"].contains(&code.word(*i))).unwrap_or(start);
    match code.word(first) {
        "let" | "use" | "static" | "type" => true,
        "const" if code.word(first + 1) != "fn" => true,
        "fn" | "struct" | "enum" | "union" | "impl" | "trait" | "mod" | "const" | "if" | "for" | "while" | "loop" | "match"
            if code.is_name(first) =>
        {
            word != "}"
        }
        "#" => word == "]" && code.close(first + 1) == Some(last), // an attribute of nothing
        _ => false,
    }
}

/// The first token of the statement that ends at `last`.
fn statement(code: &Code, last: usize) -> usize {
    let (mut depth, mut start) = (0usize, 0);
    for i in 0..last {
        match code.tokens[i].kind {
            Kind::Mark('(' | '[' | '{') => depth += 1,
            Kind::Mark(')' | ']') => depth = depth.saturating_sub(1),
            Kind::Mark('}') => {
                depth = depth.saturating_sub(1);
                // `if a {} else {}` and `let P { x } = p` go on
                let goes_on = ["else", "=", ".", "?"].contains(&code.word(i + 1)) || in_let(code, start);
                if depth == 0 && !goes_on {
                    start = i + 1;
                }
            }
            Kind::Mark(';') if depth == 0 => start = i + 1,
            _ => {}
        }
    }
    start
}

fn in_let(code: &Code, start: usize) -> bool {
    ["let", "use", "const", "static"].contains(&code.word(start)) && code.word(start + 1) != "fn"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete() {
        for code in [
            "let a = 1;",
            "f('{', \"(\", r#\"[\"# )",
            "// {",
            "/* { /* ( */ */ 1",
            "fn f<'a>(x: &'a str) -> &'a str { x }",
            "'\\''",
            "%%time",
            "r#fn",
            "",
            "1..",
            "f()?",
            "let P { x } = p;",
            "if a { 1 } else { 2 }",
            "struct Unit;",
            "for i in 0..3 { f(i) }\ni",
            "#[derive(Debug)]\nstruct P { x: f32 }",
            "let v = if a { 1 } else { 2 };\nv",
            "let x = 1\n",
            "unsafe { f() }",
            "?HashMap",
            "const fn f() -> i32 { 1 }",
            "x.iter()",
        ] {
            assert_eq!(lacks(code), Lacks::Nothing, "{code}");
        }
    }

    #[test]
    fn brackets_and_strings_are_open_or_closed_too_often() {
        for (code, open) in [("fn f() {", 1), ("f(g(", 2), ("\"abc", 1), ("/* a", 1), ("r#\"a\"", 1), ("let v = vec![{", 2)] {
            assert_eq!(lacks(code), Lacks::Ends(open), "{code}");
        }
        assert_eq!(lacks("%%time\nfor i in 0..3 {"), Lacks::Ends(1));
        assert_eq!(lacks("f)"), Lacks::Sense);
        assert_eq!(lacks("f(]"), Lacks::Sense);
    }

    #[test]
    fn an_operand_a_semicolon_or_a_body_is_to_come() {
        for code in [
            "1 +",
            "let x =",
            "let x",
            "let x = 1",
            "let P { x } = p",
            "x.",
            "a &&",
            "use std::",
            "use std::fs",
            "fn f() -> i32",
            "struct P",
            "if a { 1 } else",
            "for i in v",
            "x as",
            "#[derive(Debug)]",
            "let a = 1;\nlet b = a *",
        ] {
            assert_eq!(lacks(code), Lacks::More, "{code}");
        }
        assert_eq!(lacks("1 +\n"), Lacks::Nothing, "an empty line ends it");
    }
}
