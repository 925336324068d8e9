//! Rust sources as rust-analyzer is to read them: declarations and their documentation.
//!
//! It reads the standard library and the crates that cells meet before the first cell of every session, and much of them again at
//! every cell. Types stand in declarations: what functions do goes, but for `const fn`, which lengths of arrays may call, attributes
//! that only a compiler asks for go, and lines of documentation become one comment, which is one token.

use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};

use crate::lexer::{self, Code, Kind};

/// Attributes that change no type and no answer of the analyzer.
const UNASKED: [&str; 8] = ["allow", "cold", "expect", "inline", "must_use", "rustc_const_stable", "stable", "track_caller"];

/// Outlines of the Rust files in a folder, and in those below it that are no packages of their own.
pub fn copy(from: &Path, to: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let path = entry?.path();
        let Some(target) = path.file_name().map(|name| to.join(name)) else { continue };
        if !wanted(&path) {
            continue;
        }
        if path.is_dir() && !path.join("Cargo.toml").is_file() {
            copy(&path, &target, wanted)?;
        } else if path.is_file() && path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            fs::write(&target, outline(&text)).with_context(|| format!("writing {}", target.display()))?;
        }
    }
    Ok(())
}

/// A source without the bodies of its functions and without comments that document nothing.
pub fn outline(text: &str) -> String {
    let code = Code::new(text);
    if code.tokens.iter().any(|token| token.open) {
        return text.to_string(); // not as this program reads Rust
    }
    let group = |i: usize| (code.is_mark(i, '$') && code.is_mark(i + 1, '(')).then(|| code.close(i + 1).map(|end| i..end)).flatten();
    let groups: Vec<Range<usize>> = (0..code.tokens.len()).filter_map(group).collect();
    let bodies = (0..code.tokens.len()).filter_map(|at| body(&code, at, &groups)).map(|body| (body, "{}".to_string()));
    let mut edits: Vec<(Range<usize>, String)> = bodies.chain(comments(text)).chain(attributes(&code)).collect();
    edits.sort_by_key(|(range, _)| range.start);
    let (mut out, mut done) = (String::with_capacity(text.len()), 0);
    for (range, put) in edits {
        if range.start >= done {
            out.push_str(&text[done..range.start]);
            out.push_str(&put);
            done = range.end;
        }
    }
    out + &text[done..]
}

/// The body of the function whose `fn` is the token at `at`; none of `const fn`, none that a macro looks for (`{ $($all:tt)* }`), and none
/// with a fragment in one of a macro's `groups`: it may be the one that says how often `$(…)` repeats.
fn body(code: &Code, at: usize, groups: &[Range<usize>]) -> Option<Range<usize>> {
    if code.word(at) != "fn" || !(code.is_name(at + 1) || code.is_mark(at + 1, '$')) || is_const(code, at) {
        return None;
    }
    let open = code.body(at)?;
    let close = code.close(open)?;
    let repeats = groups.iter().any(|group| group.contains(&at)) && (open..close).any(|i| code.is_mark(i, '$'));
    let is_named = |i: usize| code.is_mark(i, '$') && code.is_name(i + 1) && code.is_mark(i + 2, ':') && code.is_name(i + 3);
    if repeats || (open..close).any(is_named) {
        return None;
    }
    Some(code.tokens[open].at.start..code.tokens[close].at.end)
}

fn is_const(code: &Code, at: usize) -> bool {
    let before = (0..at).rev().map(|i| (code.word(i), code.tokens[i].kind));
    before
        .take_while(|(word, kind)| *kind == Kind::Text || ["unsafe", "extern", "async", "safe", "const"].contains(word))
        .any(|(word, _)| word == "const")
}

/// Attributes that nobody asks for, outside of macros, which may look for them.
fn attributes(code: &Code) -> Vec<(Range<usize>, String)> {
    let (mut edits, mut i) = (Vec::new(), 0);
    while i < code.tokens.len() {
        let open = if code.word(i) == "macro_rules" { i + 3 } else { i + 2 };
        if code.is_name(i) && code.is_mark(i + 1, '!') && ["(", "[", "{"].contains(&code.word(open)) {
            i = code.close(open).unwrap_or(open);
        } else if code.is_mark(i, '#') && code.is_mark(i + 1, '[') {
            let close = code.close(i + 1).unwrap_or(i + 1);
            if UNASKED.contains(&code.word(i + 2)) {
                edits.push((code.tokens[i].at.start..code.tokens[close].at.end, String::new()));
            }
            i = close;
        }
        i += 1;
    }
    edits
}

/// Comments and what stands in their place.
fn comments(text: &str) -> Vec<(Range<usize>, String)> {
    let mut edits = Vec::new();
    let all = lexer::tokens(text);
    let mut i = 0;
    while i < all.len() {
        let begin = beginning(&text[all[i].at.clone()]);
        let run = all[i..].iter().take_while(|next| next.kind == Kind::Comment && beginning(&text[next.at.clone()]) == begin).count();
        let range = |run: usize| all[i].at.start..all[i + run - 1].at.end;
        match begin {
            Some(begin @ ("///" | "//!")) if run > 1 => {
                let lines: Vec<&str> = all[i..i + run].iter().map(|line| &text[line.at.start + begin.len()..line.at.end]).collect();
                let lines = lines.join("\n");
                if !lines.contains("/*") && !lines.contains("*/") {
                    edits.push((range(run), format!("/*{}\n{lines}\n*/", if begin == "///" { '*' } else { '!' })));
                }
            }
            Some("//") => edits.push((range(run), " ".to_string())),
            _ => {}
        }
        i += run.max(1);
    }
    edits
}

/// What a comment begins with: lines that document, other lines and blocks, and blocks that document.
fn beginning(comment: &str) -> Option<&str> {
    let is = |begin: &str, not: &str| comment.starts_with(begin) && !comment.starts_with(not);
    match comment {
        _ if is("///", "////") => Some("///"),
        _ if comment.starts_with("//!") => Some("//!"),
        _ if comment.starts_with("/*!") || is("/**", "/***") && comment != "/**/" => Some("/**"),
        _ if comment.starts_with("//") || comment.starts_with("/*") => Some("//"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_go_and_declarations_stay() {
        let same = [
            "const fn f() -> usize { 3 }",
            "pub const unsafe extern \"C\" fn f() { g() }",
            "trait A { fn a(&self); fn b() where [(); { 1 }]:; }",
            "static S: fn(u8) -> u8 = |x| { x };",
            "macro_rules! m { ($(fn $name:ident() $body:block)*) => { $(fn $name() $body)* } }",
            "let s = \"fn a() { b }\";",
            "macro_rules! m { (fn $name:ident() { $($all:tt)* }) => {} }",
            "macro_rules! m { ($($v:ident)?) => { $(fn f() { g::$v() })? } }",
        ];
        for text in same {
            assert_eq!(outline(text), text);
        }
        let cases = [
            ("impl A { pub fn a(&self) -> B { c() } fn d() {} }", "impl A { pub fn a(&self) -> B {} fn d() {} }"),
            (
                "fn a<const N: usize>() -> Simd<{ N + 1 }> where A: B { if c { d } }",
                "fn a<const N: usize>() -> Simd<{ N + 1 }> where A: B {}",
            ),
            ("macro_rules! m { ($t:ty) => { fn $name(x: $t) -> $t { x } } }", "macro_rules! m { ($t:ty) => { fn $name(x: $t) -> $t {} } }"),
            ("async unsafe fn a() { '{' }", "async unsafe fn a() {}"),
            ("fn a<T>() where T: B, { c } impl D { fn e() { f } }", "fn a<T>() where T: B, {} impl D { fn e() {} }"),
            (
                "macro_rules! m { ($($v:ident)?) => { $(fn f(v: $v) { 1 })? } }",
                "macro_rules! m { ($($v:ident)?) => { $(fn f(v: $v) {})? } }",
            ),
            ("fn a() { fn b() { c } const fn d() {} }", "fn a() {}"),
        ];
        for (text, right) in cases {
            assert_eq!(outline(text), right);
        }
    }

    #[test]
    fn attributes_for_the_compiler_go_outside_of_macros() {
        let same = [
            "#[derive(Debug)] #[lang = \"add\"] struct A;",
            "#![allow(a)]",
            "m! { #[stable(b)] c }",
            "macro_rules! m { (#[inline]) => {} }",
        ];
        for text in same {
            assert_eq!(outline(text), text);
        }
        assert_eq!(outline("#[inline] #[stable(since = \"]\")]#[unstable(a)] pub struct A;"), " #[unstable(a)] pub struct A;");
        assert_eq!(outline("if a != (b) { #[allow(c)] d }"), "if a != (b) {  d }");
        assert_eq!(outline("if !a { #[allow(c)] d }"), "if !a {  d }");
    }

    #[test]
    fn documentation_stays_in_one_comment() {
        let cases = [
            ("/// One.\n    /// Two `{`.\n    fn f() { 1 }", "/**\n One.\n Two `{`.\n*/\n    fn f() {}"),
            ("//! One.\n//!\n//! Two.\nuse a;", "/*!\n One.\n\n Two.\n*/\nuse a;"),
            ("/// One.\nfn f();", "/// One.\nfn f();"),
            ("/// `a/*`\n/// b\nfn f();", "/// `a/*`\n/// b\nfn f();"),
            ("/** a */ b", "/** a */ b"),
            ("a/* b */c // d\n//// e\nf", "a c  \nf"),
            ("/// a\n// b\n/// c\nd", "/// a\n \n/// c\nd"),
        ];
        for (text, right) in cases {
            assert_eq!(outline(text), right);
        }
    }

    #[test]
    fn sources_stay_sources_and_packages_below_are_left_out() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let to = std::env::temp_dir().join(format!("lafter-kernel-outline-{}", std::process::id()));
        copy(here, &to, &|path| path.file_name() != Some("main.rs".as_ref())).unwrap();
        let outlined = fs::read_to_string(to.join("src/outline.rs")).unwrap();
        assert!(outlined.starts_with("/*!\n") && Code::new(&outlined).unclosed().is_empty());
        assert_eq!(outline(&outlined), outlined);
        assert!(!to.join("src/main.rs").exists() && !to.join("session").exists() && !to.join("Cargo.toml").exists());
        fs::remove_dir_all(to).unwrap();
    }
}
