//! Hidden names for `impl`s and blocks of foreign functions, so that a cell of them can run again.
//!
//! evcxr replaces what a cell defines by its name; an `impl`, or an `extern "C" { … }`, goes with the named item before it in its cell. One with none before it would
//! stay beside its next version for ever, so it is given one: a constant, named after what no two `impl`s that may stand beside each other
//! have in common.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use crate::lexer::Code;

/// How the hidden names begin.
pub const HIDDEN: &str = "LAFTER_IMPL_";
/// What begins an item that evcxr knows by a name.
const NAMED: [&str; 9] = ["fn", "struct", "enum", "union", "trait", "mod", "const", "static", "type"];

/// Whether a name is one of them.
pub fn is_hidden(name: &str) -> bool {
    name.starts_with(HIDDEN)
}

/// A constant for each `impl` and foreign block that nothing with a name precedes, and the byte before which it is to stand.
pub fn names(cell: &str) -> Vec<(usize, String)> {
    let code = Code::new(cell);
    let (mut puts, mut begin, mut i) = (Vec::new(), 0, 0);
    while i < code.tokens.len() {
        let past = |open: usize| code.close(open).unwrap_or(code.tokens.len());
        match code.word(i) {
            // an attribute is a part of what follows it, or of the whole cell
            "#" if code.is_mark(i + 1, '[') => i = past(i + 1),
            "#" if code.is_mark(i + 1, '!') => (i, begin) = (past(i + 2), past(i + 2) + 1),
            "impl" | "extern" if (i == begin || ["]", "unsafe"].contains(&code.word(i - 1))) && is_block(&code, i) => {
                let Some(open) = code.body(i) else { break };
                let name = format!("const {HIDDEN}{:016x}: () = (); ", hash(&code, i, open, past(open)));
                puts.push((code.tokens[begin].at.start, name));
                (i, begin) = (past(open), past(open) + 1);
            }
            word if NAMED.contains(&word) => break,
            "{" => (i, begin) = (past(i), past(i) + 1),
            "(" | "[" => i = past(i),
            ";" => begin = i + 1,
            _ => {}
        }
        i += 1;
    }
    puts
}

/// Whether an `impl` or an `extern "C" { … }` begins here, and no `extern "C" fn` or `extern crate`.
fn is_block(code: &Code, at: usize) -> bool {
    code.word(at) == "impl" || code.is_mark(at + 1, '{') || code.is_mark(at + 2, '{')
}

/// A name that two items of the cell's own level have, and the line of the second: evcxr keeps the last of them alone, also where they
/// are a function and a macro, or belong to two systems.
pub fn twice(code: &Code) -> Option<(String, usize)> {
    let (mut names, mut i) = (HashSet::new(), 0);
    while i < code.tokens.len() {
        let end =
            |from: usize| code.body(from).map_or_else(|| code.at_top(from, &[';']), |open| code.close(open)).unwrap_or(code.tokens.len());
        let word = code.word(i);
        match word {
            "const" if ["fn", "unsafe", "async", "extern"].contains(&code.word(i + 1)) => {}
            "(" | "[" | "{" => i = code.close(i).unwrap_or(code.tokens.len()),
            "let" | "use" => i = code.at_top(i, &[';']).unwrap_or(code.tokens.len()),
            "impl" => i = end(i),
            _ if NAMED.contains(&word) || word == "macro_rules" => {
                let at = (i + 1..i + 3).find(|at| !["mut", "ref", "!"].contains(&code.word(*at))).unwrap_or(i + 1);
                let name = code.word(at);
                if code.is_name(at) && name != "_" {
                    if !names.insert(name) {
                        return Some((name.to_string(), code.line(at)));
                    }
                    i = if word == "macro_rules" { code.close(at + 1).unwrap_or(code.tokens.len()) } else { end(i) };
                }
            }
            _ => {}
        }
        i += 1;
    }
    None
}

/// Of what it is for and the trait, which one `impl` alone may have; without a trait, also of the first function.
fn hash(code: &Code, at: usize, open: usize, close: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    let is_of_trait = (at..open).any(|i| code.word(i) == "for" && !code.is_mark(i + 1, '<'));
    let first = (open..close).find(|i| code.word(*i) == "fn" && code.is_name(i + 1)).map(|i| i + 1..i + 2);
    let within = if is_of_trait { open..open } else { first.unwrap_or(open..close) };
    (at..open).chain(within).for_each(|i| code.word(i).hash(&mut hasher));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::{Code, is_hidden, twice};
    use crate::rewrite::{Insert, insert};

    fn named(cell: &str) -> (String, Vec<Insert>) {
        insert(cell, super::names(cell))
    }

    /// The hidden names of a cell.
    fn names(cell: &str) -> Vec<String> {
        named(cell).0.split("const ").filter(|part| is_hidden(part)).map(|part| part.split(':').next().unwrap().to_string()).collect()
    }

    #[test]
    fn an_impl_without_an_item_before_it_is_named() {
        let cell = "#![allow(a)]\n/// é\n#[allow(c)] unsafe impl A for B {\n}\nB::f()";
        let (text, inserts) = named(cell);
        let constant = format!("const {}: () = (); ", names(cell)[0]);
        assert_eq!(text, cell.replace("#[allow", &format!("{constant}#[allow")));
        assert_eq!(inserts, [Insert { line: 3, column: 1, length: constant.len() }]);
        assert_eq!(
            names("unsafe extern \"C\" { fn abs(x: i32) -> i32; }"),
            names("extern \"C\" { pub fn abs(x: i32) -> i32; fn b(); }").as_slice()
        );
        for cell in [
            "extern \"C\" fn f() {}",
            "extern crate a;",
            "struct A; impl A { fn f() {} }",
            "fn f() -> impl Fn() { g } impl A {}",
            "let a: Vec<impl A> = b;",
            "f(|| { impl A {} })",
            "",
        ] {
            assert_eq!(named(cell), (cell.to_string(), vec![]), "{cell}");
        }
    }

    #[test]
    fn two_items_of_one_name_are_found() {
        for (cell, name, line) in [
            ("#[cfg(unix)] fn os() {}\n#[cfg(not(unix))] fn os() {}", "os", 2),
            ("macro_rules! square { ($x:expr) => { $x } }\n\npub(crate) const fn square() {}", "square", 3),
            ("mod hash { pub fn a() {} }\nfn hash() {}", "hash", 2),
            ("static mut A: u8 = 1;\nconst A: u8 = 2;", "A", 2),
        ] {
            assert_eq!(twice(&Code::new(cell)), Some((name.to_string(), line)), "{cell}");
        }
        for cell in [
            "fn a() { fn b() {} } fn b() {} struct C; impl C { fn a() {} } impl C { fn b() {} }",
            "const _: () = (); const _: () = (); let f: fn(u8) = g; let h: fn(u8) = g;",
            "mod a { struct X; } mod b { struct X; } use a::{self, X}; let p = &x as *const u8; let q = p as *const u8;",
            "let type_ = 1; { fn a() {} } { fn a() {} } f(|x| { fn a() {} }); match x { fn_ => 1 }",
            "unsafe extern \"C\" { fn a(); fn b(); } trait T { fn a(); fn b() {} } async fn c() {} const fn d() {}",
        ] {
            assert_eq!(twice(&Code::new(cell)), None, "{cell}");
        }
    }

    #[test]
    fn the_same_name_is_that_of_the_next_version() {
        let one = |cell: &str| <[String; 1]>::try_from(names(cell)).unwrap();
        let same = [
            ("impl A { fn f(&self) {} }", "let a = 1; impl A { const N: u8 = 1; pub fn f(&self) -> u8 { 2 } fn g() {} }"),
            ("impl<T> A<T> for B<T> { fn f() {} }", "impl<T> A<T> for B<T> { type C = D; }"),
        ];
        let others = [
            ("impl A { fn f() {} }", "impl A { fn g() {} }"),
            ("impl A { fn f() {} }", "impl B { fn f() {} }"),
            ("impl A<{ 1 }> for B {}", "impl A<{ 1 }> for C {}"),
            ("impl A { m!(a); }", "impl A { m!(b); }"),
            ("impl<F: for<'a> Fn(&'a u8)> A<F> { fn f() {} }", "impl<F: for<'a> Fn(&'a u8)> A<F> { fn g() {} }"),
        ];
        same.iter().for_each(|(a, b)| assert_eq!(one(a), one(b)));
        others.iter().for_each(|(a, b)| assert_ne!(one(a), one(b)));
        assert_eq!(names("impl A for B {} impl A for C {} fn f() {} impl D {}").len(), 2);
    }
}
