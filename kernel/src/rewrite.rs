//! What evcxr generates for a cell, changed before it is compiled: a failed `?` says its line, loops ask for an interrupt. What it is
//! given: macros are known above the line that defines them.
//!
//! No line is added, so that every place that the compiler or a panic names stays the same but for columns, which
//! [`Insert`] tells how to count.

use crate::lexer::{Code, Kind};

/// The media type under which a cell says why a `?` failed: the line of the generated file, then the error.
pub const FAILED: &str = "lafter/failed";
/// What a cell prints of each variable that it drops, for evcxr.
pub const LOST: &str = "EVCXR_VARIABLE_CHANGED_TYPE:";
/// Part of what a compiled cell is kept by: change it with what is written here.
pub const VERSION: u32 = 7;
/// More calls in one literal take LLVM minutes (160 with `?`: 57 s against 1.3 s without optimization; the time grows with the
/// cube): each must drop all those before it.
const MOST_CALLS: usize = 40;
/// The same of plain values: an array of 20,000 numbers takes half a minute.
const MOST_VALUES: usize = 1000;
/// Not where a value is dropped because of a first interrupt: a second panic would end the process.
const ASK: &str = " if ::lafter::progress::interrupted() && !::std::thread::panicking() { \
                   ::std::panic::resume_unwind(::std::boxed::Box::new(\"interrupted\")) }";
/// Makes a macro known in the whole file, also above its definition: evcxr writes items in an order that changes from session to session.
const EXPORT: &str = "#[macro_export] ";

/// Text that was put into a line; what stands behind it has moved. Line and column count from 1, the column in characters.
#[derive(Clone, Debug, PartialEq)]
pub struct Insert {
    pub line: usize,
    pub column: usize,
    pub length: usize,
}

/// Makes `?` say where it failed, in one message with the error: evcxr's own way writes the error to another channel.
pub fn errors_say_their_line(source: &str) -> String {
    let Some(at) = source.find("> From<T> for EvcxrUserCodeError {") else { return source.to_string() };
    let (before, behind) = source.split_at(at);
    let Some((says, rest)) = behind.split_once("println!(\"{}\", evcxr_internal_runtime::USER_ERROR_OCCURRED);") else {
        return source.to_string(); // the analyzer's
    };
    let mut says = says.replace("fn from(", "#[track_caller] fn from(");
    if let (Some(from), Some(to)) = (says.find("eprintln!("), says.rfind(", error);")) {
        let format = &says[from + "eprintln!(".len()..to];
        let told = format!(
            "println!(\"EVCXR_BEGIN_CONTENT {FAILED}\\n{{}}\\n{{}}\\nEVCXR_END_CONTENT\", ::std::panic::Location::caller().line(), \
             ::std::format!({format}, error));"
        );
        says.replace_range(from..to + ", error);".len(), &told);
    }
    tells_early_returns(&format!("{before}{says}println!(\"{{}}\", evcxr_internal_runtime::USER_ERROR_OCCURRED);{rest}"))
}

/// A cell that ends with `return Ok(())` before its end has not stored the variables that it made, which evcxr has to hear: it would
/// look for them in the next cell and end the process.
fn tells_early_returns(source: &str) -> String {
    let (begin, end) = ("let _ = (|| -> std::result::Result<(), EvcxrUserCodeError> {", "Ok(())})();");
    let Some((before, rest)) = source.split_once(begin) else { return source.to_string() }; // none asks, or the cell awaits
    let Some((inside, behind)) = rest.rsplit_once(end) else { return source.to_string() };
    let begin = begin.replace("let _ =", "let evcxr_whole = ::std::cell::Cell::new(false); let evcxr_result =");
    format!(
        "{before}{begin}{inside}evcxr_whole.set(true); {end} if evcxr_result.is_ok() && !evcxr_whole.get() {{ println!(\"{{}}\", \
         evcxr_internal_runtime::USER_ERROR_OCCURRED); }}{behind}"
    )
}

/// Takes the named variables from the cell, whatever the compiler takes their types for: their values are dropped as what they are,
/// and evcxr, which misses them when it stores all variables, forgets them. It says nothing of what it drops: the kernel does.
pub fn hides(source: &str, names: &[&str]) -> String {
    let of = |line: &str| Some(line.trim().strip_suffix(");")?.rsplit_once(">(stringify!(")?.1.trim_end_matches(')').to_string());
    let hidden = |line: &str| of(line).filter(|name| names.contains(&name.as_str()));
    let change = |line: &str| match hidden(line) {
        Some(_) if line.trim().starts_with("vars_ok &= evcxr_variable_store.check_variable::<") => "\n".to_string(),
        Some(name) if line.contains(" = evcxr_variable_store.take_variable::<") => {
            format!("evcxr_variable_store.put_variable::<()>(\"{name}\", ());\n")
        }
        _ => line.to_string(),
    };
    let changed: String = source.split_inclusive('\n').map(change).collect();
    let (begin, end) = ("eprintln!(\"The type of the variable {name}", ");");
    let said = changed.find(begin).and_then(|at| Some((at, at + changed[at..].find(end)? + end.len())));
    said.map_or(changed.clone(), |(from, to)| format!("{}{}", &changed[..from], &changed[to..]))
}

/// With `loops`, makes every loop ask whether the reader has interrupted the cell; and where text was put in.
pub fn fill(source: &str, loops: bool) -> (String, Vec<Insert>) {
    let asks = if loops { loop_bodies(&Code::new(source)) } else { Vec::new() };
    insert(source, asks.into_iter().map(|at| (at, ASK)).collect())
}

/// Exports the macros of a cell: for the compiler, and for the analyzer, which would not find them in a module either.
pub fn exports(cell: &str) -> Vec<(usize, String)> {
    macros(&Code::new(cell)).into_iter().map(|at| (at, EXPORT.to_string())).collect()
}

/// Puts each text before a byte of the source.
pub fn insert(source: &str, mut puts: Vec<(usize, impl AsRef<str>)>) -> (String, Vec<Insert>) {
    let (mut out, mut inserts, mut from) = (String::with_capacity(source.len() * 2), Vec::new(), 0);
    puts.sort_by_key(|(at, _)| *at);
    for (at, text) in puts {
        out.push_str(&source[from..at]);
        out.push_str(text.as_ref());
        from = at;
        let start = source[..at].rfind('\n').map_or(0, |end| end + 1);
        let line = source[..at].matches('\n').count() + 1;
        inserts.push(Insert { line, column: source[start..at].chars().count() + 1, length: text.as_ref().chars().count() });
    }
    out.push_str(&source[from..]);
    (out, inserts)
}

/// Where the definitions of macros begin that stand in no bracket.
fn macros(code: &Code) -> Vec<usize> {
    let (mut all, mut i) = (Vec::new(), 0);
    while i < code.tokens.len() {
        match code.word(i) {
            "macro_rules" if code.is_mark(i + 1, '!') => all.push(code.tokens[i].at.start),
            "(" | "[" | "{" => i = code.close(i).unwrap_or(code.tokens.len()),
            _ => {}
        }
        i += 1;
    }
    all
}

/// Behind the opening brace of each loop that may call a function: not in what is evaluated by the compiler, nor in a macro.
pub fn loop_bodies(code: &Code) -> Vec<usize> {
    let (mut bodies, mut open, mut i) = (Vec::new(), Vec::new(), 0);
    while i < code.tokens.len() {
        let past = |end: Option<usize>| end.map_or(code.tokens.len(), |end| end + 1);
        let before = if i > 0 { code.word(i - 1) } else { "" };
        match code.word(i) {
            "const" if code.is_mark(i + 1, '{') => {
                i = past(code.close(i + 1));
                continue;
            }
            // neither `<const N: usize>` nor `*const T` nor `&raw const x`
            "const" | "static" if !["<", ",", "*", "raw"].contains(&before) => {
                let is_function = (i + 1..i + 4).any(|at| code.word(at) == "fn");
                let end = code.at_top(i + 1, if is_function { &['{', ';'] } else { &[';'] });
                i = end.map_or(i + 1, |end| if code.is_mark(end, '{') { past(code.close(end)) } else { end });
                continue;
            }
            // a macro's own words, and those that it is given; not `if !flag {`
            "!" if i > 0 && code.is_name(i - 1) => {
                let bracket = if before == "macro_rules" { i + 2 } else { i + 1 };
                if ["(", "[", "{"].contains(&code.word(bracket)) {
                    i = past(code.close(bracket));
                    continue;
                }
            }
            // a constant argument: `<{ … }>` and `<T, { … }>`
            "{" if before == "<" || before == "," && code.close(i).is_some_and(|end| code.is_mark(end + 1, '>')) => {
                i = past(code.close(i));
                continue;
            }
            "(" | "[" | "{" => open.push(i),
            ")" | "]" | "}" => drop(open.pop()),
            // an array's length
            ";" => {
                if let Some(array) = open.pop_if(|at| code.is_mark(*at, '[')) {
                    i = past(code.close(array));
                    continue;
                }
            }
            "loop" if code.is_mark(i + 1, '{') => bodies.extend(body(code, i + 1)),
            word @ ("for" | "while") => bodies.extend(header_end(code, i, word).and_then(|at| body(code, at))),
            _ => {}
        }
        i += 1;
    }
    bodies
}

/// The brace that begins the body of a `for` or a `while`.
fn header_end(code: &Code, at: usize, word: &str) -> Option<usize> {
    let from = if word == "for" { pattern_end(code, at + 1, "in")? + 1 } else { at + 1 };
    let mut i = from;
    while !code.is_mark(i, '{') {
        match code.word(i) {
            "let" => i = pattern_end(code, i + 1, "=")?,
            "(" | "[" => i = code.close(i)?,
            // a block in the header would be taken for the body
            "match" | "if" | "unsafe" | "loop" | "async" | "const" => return None,
            "" | ";" | ")" | "]" | "}" => return None,
            _ => {}
        }
        i += 1;
    }
    (i > from).then_some(i)
}

/// The `in` or the `=` behind a pattern; none in `impl A for B {` and `for<'a>`, which are no loops.
fn pattern_end(code: &Code, from: usize, end: &str) -> Option<usize> {
    let mut i = from;
    while code.word(i) != end || end == "=" && code.is_mark(i - 1, '.') {
        match code.word(i) {
            "(" | "[" => i = code.close(i)?,
            "{" => {
                i = code.close(i)?;
                if ![end, "|"].contains(&code.word(i + 1)) {
                    return None;
                }
            }
            "" | ";" | ")" | "]" | "}" => return None,
            _ => {}
        }
        i += 1;
    }
    Some(i)
}

/// Where the body begins, unless with an attribute of its own.
fn body(code: &Code, brace: usize) -> Option<usize> {
    let attribute = code.is_mark(brace + 1, '#') && code.is_mark(brace + 2, '!');
    (!attribute).then(|| code.tokens[brace].at.end)
}

/// Whether the cell has a literal that is not to be optimized.
pub fn has_long_literal(source: &str) -> bool {
    let code = Code::new(source);
    let mut open: Vec<(usize, usize)> = Vec::new(); // calls and commas in each open bracket
    for i in 0..code.tokens.len() {
        match code.tokens[i].kind {
            Kind::Mark('[') => open.push((0, 0)),
            Kind::Mark(']') => {
                let (calls, commas) = open.pop().unwrap_or((0, 0));
                if calls > MOST_CALLS || commas > MOST_VALUES {
                    return true;
                }
                if let Some(outer) = open.last_mut() {
                    *outer = (outer.0 + calls, outer.1 + commas);
                }
            }
            Kind::Mark('(') if i > 0 && code.is_name(i - 1) => open.iter_mut().last().into_iter().for_each(|(calls, _)| *calls += 1),
            Kind::Mark(',') => open.iter_mut().last().into_iter().for_each(|(_, commas)| *commas += 1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_mark_names_its_line() {
        let source = "struct EvcxrUserCodeError {}\n    impl<T: std::fmt::Display> From<T> for EvcxrUserCodeError {\n        \
                      fn from(error: T) -> Self {\n            eprintln!(\"{}\", error);\n            println!(\"{}\", evcxr_internal_runtime::USER_ERROR_OCCURRED);\n";
        let changed = errors_say_their_line(source);
        assert_eq!(changed.lines().count(), source.lines().count());
        assert!(changed.contains("#[track_caller] fn from(error: T)") && changed.contains("Location::caller().line()"), "{changed}");
        assert!(!changed.contains("eprintln") && changed.contains("USER_ERROR_OCCURRED"), "{changed}");
        assert!(changed.contains("::std::format!(\"{}\", error)"), "{changed}");
        assert_eq!(errors_say_their_line("fn f() {}"), "fn f() {}");
        let cell = format!("{source}\nlet _ = (|| -> std::result::Result<(), EvcxrUserCodeError> {{\nreturn Ok(());\nOk(())}})();\n");
        let changed = errors_say_their_line(&cell);
        assert_eq!(changed.lines().count(), cell.lines().count());
        assert!(changed.contains("evcxr_whole.set(true); Ok(())})(); if evcxr_result.is_ok()"), "{changed}");
    }

    #[test]
    fn a_variable_is_hidden_without_a_word() {
        let check = |name: &str| format!("vars_ok &= evcxr_variable_store.check_variable::<A<(u8)>>(stringify!({name}));\n");
        let take = |name: &str| format!("let mut {name} = evcxr_variable_store.take_variable::<A<(u8)>>(stringify!({name}));\n");
        let said = "if v.is_none() {\neprintln!(\"The type of the variable {name} was redefined, so was lost.\",);\nx()\n}\n";
        let changed = hides(&[check("a"), check("b"), take("a"), take("b"), said.into()].concat(), &["b"]);
        let dropped = "evcxr_variable_store.put_variable::<()>(\"b\", ());\n";
        assert_eq!(changed, [&check("a"), "\n", &take("a"), dropped, "if v.is_none() {\n\nx()\n}\n"].concat());
    }

    #[test]
    fn loops_ask_and_what_is_no_loop_stays() {
        for (source, count) in [
            ("loop { f(); }", 1),
            ("for i in 0..3 {\n    while x < 3 { x += 1; }\n}", 2),
            ("'a: for (i, x) in v.iter().map(|x| { x + 1 }).enumerate() { g(x)?; }", 1),
            ("impl Drop for P { fn drop(&mut self) {} }", 0),
            ("fn f<F>(f: F) where F: for<'a> Fn(&'a str) -> bool { g() }", 0),
            ("const fn f() -> i32 { let mut i = 0; while i < 3 { i += 1; } i }", 0),
            ("const N: usize = { let mut i = 0; loop { break; } 3 }; loop { f() }", 1),
            ("fn f<const N: usize>(p: *const u8) { for i in 0..N { g() } }", 1),
            ("macro_rules! m { ($x:expr) => { for i in 0..$x { f() } } }", 0),
            ("println!(\"for x in y {{\"); // loop {", 0),
            ("while let Some(x) = stack.pop() { f(x) }", 1),
            ("for x in match y { _ => v } { f(x) }", 0),
            ("if a != b { loop { f() } }", 1),
            ("while let Step { done, .. } = game.next() { f(done) }", 1),
            ("while let Step { done: 0..=5, .. } | Step { done: 9, .. } = game.next() && let P { x } = p { f(x) }", 1),
            ("for P { x, y } in v { f(x, y) }", 1),
            ("impl A for B { fn f(&self) { for x in v { g(x) } } } for x in v { f(x) }", 2),
            ("let v = [0u8; { let mut n = 0; while n < 3 { n += 1 } n }]; loop { f() }", 1),
            ("let v = [{ loop { break f() } }; 3]; let w: [[u8; { loop { break 1 } }]; 2] = g();", 1),
            ("let v = S::<{ loop { break 3 } }>::new(T::<u8, { loop { break 3 } }>::new()); f(1, { loop { g() } });", 1),
            ("f(1, const { loop { break 3 } }); const { while false {} }", 0),
            ("f(&raw const x); loop { f() }", 1),
            ("const fn n<const N: usize>() -> [u8; { 3 }] { loop {} } loop { f() }", 1),
            ("fn f() -> impl Iterator<Item = u8> { loop { g() } }", 1),
            ("if !a { loop { f() } }", 1),
            ("while !a { f() } if !a.b() { for i in 0..3 { f() } }", 2),
            ("while f(|| { loop { break 1 } }) { g() }", 2),
        ] {
            let (changed, _) = fill(source, true);
            assert_eq!(changed.matches(ASK).count(), count, "{source}: {changed}");
            assert_eq!(changed.lines().count(), source.lines().count());
        }
        assert!(fill("while let S { a, .. } = f() { g() }", true).0.starts_with("while let S { a, .. } = f() { if ::lafter"));
        let (changed, inserts) = fill("é;\nlöop; loop { f() }", true);
        assert_eq!(inserts, [Insert { line: 2, column: 13, length: ASK.len() }]);
        assert!(changed.starts_with("é;\nlöop; loop { if ::lafter::progress::interrupted()"));
    }

    #[test]
    fn macros_are_known_above_their_definition() {
        let source = "fn f() { m!(); macro_rules! n { () => {} } }\n#[allow(a)] macro_rules! m { () => { loop {} } }\n";
        let (changed, inserts) = insert(source, exports(source));
        assert_eq!(changed, source.replace("macro_rules! m", "#[macro_export] macro_rules! m"));
        assert_eq!(inserts, [Insert { line: 2, column: 13, length: EXPORT.len() }]);
    }

    #[test]
    fn a_literal_of_many_calls_is_known() {
        let literal = |n: usize| format!("let v = vec![{}];", vec!["[Tensor::zeros(2, D)?]"; n].join(", "));
        assert!(!has_long_literal(&literal(MOST_CALLS)));
        assert!(has_long_literal(&literal(MOST_CALLS + 1)));
        assert!(!has_long_literal(&format!("let v = [{}];", vec!["(1, 2)"; 100].join(", "))));
        assert!(!has_long_literal(&"f(); ".repeat(100)));
        assert!(has_long_literal(&format!("let v = [{}];", "[1, 2], ".repeat(600))) && !has_long_literal(&"f(1, 2); ".repeat(2000)));
    }
}
