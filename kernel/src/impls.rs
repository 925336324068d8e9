//! Hidden names for `impl`s, so that a cell of them can run again.
//!
//! evcxr replaces what a cell defines by its name; an `impl` goes with the named item before it in its cell. One with none before it would
//! stay beside its next version for ever, so it is given one: a constant, named after what no two `impl`s that may stand beside each other
//! have in common.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use crate::lexer::Code;
use crate::rewrite::{Insert, insert};

/// How the hidden names begin.
const HIDDEN: &str = "LAFTER_IMPL_";
/// What begins an item that evcxr knows by a name.
const NAMED: [&str; 9] = ["fn", "struct", "enum", "union", "trait", "mod", "const", "static", "type"];

/// Whether a name is one of them.
pub fn is_hidden(name: &str) -> bool {
    name.starts_with(HIDDEN)
}

/// The cell with a constant before each `impl` that nothing with a name precedes, in its line; and where.
pub fn named(cell: &str) -> (String, Vec<Insert>) {
    let code = Code::new(cell);
    let (mut puts, mut begin, mut i) = (Vec::new(), 0, 0);
    while i < code.tokens.len() {
        let past = |open: usize| code.close(open).unwrap_or(code.tokens.len());
        match code.word(i) {
            // an attribute is a part of what follows it, or of the whole cell
            "#" if code.is_mark(i + 1, '[') => i = past(i + 1),
            "#" if code.is_mark(i + 1, '!') => (i, begin) = (past(i + 2), past(i + 2) + 1),
            "impl" if i == begin || ["]", "unsafe"].contains(&code.word(i - 1)) => {
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
    insert(cell, puts)
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
    use super::*;

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
        for cell in
            ["struct A; impl A { fn f() {} }", "fn f() -> impl Fn() { g } impl A {}", "let a: Vec<impl A> = b;", "f(|| { impl A {} })", ""]
        {
            assert_eq!(named(cell), (cell.to_string(), vec![]), "{cell}");
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
