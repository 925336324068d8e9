//! Variables that a cell moves and assigns again: `theta = (theta - &step)?;`.
//!
//! evcxr runs a cell in a closure, and stores the variables behind it. What is moved in the closure is the closure's, so that the new
//! value would go with it. The stand-in for Cargo tells of such variables, and the cell is compiled once more behind
//! `let mut theta: Tensor = theta;`, which makes them its own.

use serde_json::Value;

use crate::keep::Variable;
use crate::lexer::{Code, Kind};
use crate::magics::is_above;

/// Begins the line by which evcxr stores a variable.
const STORES: &str = "evcxr_variable_store.put_variable::<";

/// The variables that a cell assigns, whole or a field.
pub fn names<'a>(cell: &str, variables: &'a [Variable]) -> Vec<&'a str> {
    let code = Code::new(cell);
    let own: Vec<&str> = (0..code.tokens.len()).filter(|at| is_assigned(&code, *at)).map(|at| code.word(at)).collect();
    variables.iter().map(|(name, _)| name.as_str()).filter(|name| own.contains(name)).collect()
}

/// Whether a name begins the left side of an assignment; each name in brackets is taken for assigned that an `=` follows.
fn is_assigned(code: &Code, at: usize) -> bool {
    if !code.is_name(at) || at > 0 && [".", "let", "mut", "ref", ":"].contains(&code.word(at - 1)) {
        return false;
    }
    let mut i = at + 1;
    while code.is_mark(i, '.') && code.tokens.get(i + 1).is_some_and(|token| [Kind::Word, Kind::Number].contains(&token.kind)) {
        i += 2;
    }
    let is_in_brackets = code.is_mark(i, ',') || code.is_mark(i, ')') || code.is_mark(i, ']');
    if is_in_brackets {
        i = (i..code.tokens.len()).find(|i| !code.is_mark(*i, ',') && !code.is_name(*i) && !code.is_mark(*i, '_')).unwrap_or(i);
        while code.is_mark(i, ')') || code.is_mark(i, ']') {
            i += 1;
        }
    }
    code.is_mark(i, '=') && !(code.touch(i) && (code.is_mark(i + 1, '=') || code.is_mark(i + 1, '>')))
}

/// Those of the names that Cargo, one JSON object a line, calls moved where they are to be stored, perhaps beside variables that the cell
/// makes and moves; none if it finds another error.
pub fn moved<'a>(said: &[u8], names: &[&'a str]) -> Vec<&'a str> {
    let mut moved = Vec::new();
    for line in said.split(|byte| *byte == b'\n') {
        let Ok(said) = serde_json::from_slice::<Value>(line) else { continue };
        let message = &said["message"];
        if message["level"] != "error" || message["spans"].as_array().is_none_or(Vec::is_empty) {
            continue; // also how many errors there are
        }
        let place = message["spans"].as_array().into_iter().flatten().find(|span| span["is_primary"] == true);
        let text = place.and_then(|place| place["text"][0]["text"].as_str()).unwrap_or_default().trim();
        let name = text.strip_prefix(STORES).and_then(|text| text.rsplit_once(">(stringify!(")?.1.split_once(')')).map(|(name, _)| name);
        match name.filter(|_| message["code"]["code"] == "E0382") {
            Some(stored) => moved.extend(names.iter().filter(|known| **known == stored)),
            None => return Vec::new(),
        }
    }
    moved
}

/// What makes variables the cell's own, and the byte before which it is to stand: behind commands and attributes of the whole cell.
pub fn lets(cell: &str, moved: &str, variables: &[Variable]) -> Vec<(usize, String)> {
    let behind: usize = cell.split_inclusive('\n').take_while(|line| is_above(line)).map(str::len).sum();
    let code = Code::new(cell);
    let mut first = code.tokens.iter().position(|token| token.at.start >= behind).unwrap_or(code.tokens.len());
    while code.is_mark(first, '#') && code.is_mark(first + 1, '!') {
        first = code.close(first + 2).map_or(code.tokens.len(), |end| end + 1);
    }
    let at = code.tokens.get(first).map_or(cell.len(), |token| token.at.start);
    let own = variables.iter().filter(|(name, _)| moved.lines().any(|line| line == name));
    own.map(|(name, kind)| (at, format!("let mut {name}: {kind} = {name}; "))).collect()
}

/// The cell with blanks in place of commands that are not to be repeated.
pub fn without_commands(cell: &str) -> String {
    let mut above = true;
    let line = |line: &str| {
        above &= is_above(line);
        let repeats = above && (line.starts_with('!') || line.trim_start().starts_with(":timing"));
        if repeats { line.chars().map(|c| if c == '\n' { c } else { ' ' }).collect() } else { line.to_string() }
    };
    cell.split_inclusive('\n').map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn variables(names: &[&str]) -> Vec<Variable> {
        names.iter().map(|name| (name.to_string(), "Vec<i32>".to_string())).collect()
    }

    #[test]
    fn what_is_assigned_is_known() {
        let all = variables(&["a", "b"]);
        for cell in
            ["a = a + 1;", "for i in 0..3 { a = f(a)?; }", "let c = a.0; a.0 = c;", "a.x.y = 1;", "(a, c) = (1, a);", "[c, a] = f();"]
        {
            assert_eq!(names(cell, &all), ["a"], "{cell}");
        }
        for cell in
            ["let a = a;", "let mut a = b;", "a == b", "c.a = 1;", "match a { a => 1 }", "a += 1;", "\"a = b\"", "f(a); c = 1;", "a.f(b);"]
        {
            assert!(names(cell, &all).is_empty(), "{cell}");
        }
    }

    #[test]
    fn only_a_cell_whose_sole_errors_are_moves_is_compiled_again() {
        let error = |code: &str, name: &str| {
            let text = format!("    evcxr_variable_store.put_variable::<Vec<i32>>(stringify!({name}), {name});");
            let spans = json!([{"is_primary": true, "text": [{"text": text}]}]);
            json!({"message": {"level": "error", "code": {"code": code}, "spans": spans}}).to_string()
        };
        let sum = json!({"message": {"level": "error", "code": null, "spans": [], "message": "aborting due to 2 errors"}}).to_string();
        let said = |lines: &[String]| [lines, &[sum.clone(), "no JSON".into()]].concat().join("\n").into_bytes();
        let names = ["a", "b"];
        assert_eq!(moved(&said(&[error("E0382", "b"), error("E0382", "a")]), &names), ["b", "a"]);
        assert_eq!(moved(&said(&[error("E0382", "c"), error("E0382", "a")]), &names), ["a"]);
        for lines in [vec![error("E0382", "a"), error("E0308", "b")], vec![error("E0382", "c")], vec![]] {
            assert!(moved(&said(&lines), &names).is_empty());
        }
    }

    #[test]
    fn variables_become_the_cells_own_behind_what_must_come_first() {
        let all = variables(&["a", "b"]);
        let own = "let mut a: Vec<i32> = a; ";
        for (before, behind) in [
            ("", "a = f(a);"),
            (":dep x = \"1\"\n\n#![allow(x)] ", "a = f(a);"),
            ("// why\n:opt 0\n!ls\n", "a = f(a);"),
            ("", "::f(); a = g(a);"),
        ] {
            assert_eq!(lets(&format!("{before}{behind}"), "a\n", &all), [(before.len(), own.to_string())]);
        }
        assert_eq!(without_commands(":opt 0\n!ls é\na = !b;\n!c"), ":opt 0\n     \na = !b;\n!c");
    }
}
