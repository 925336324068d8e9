//! What a cell changes of types that variables already have: their old values must not be read as the new type.
//!
//! The compiler takes a type that is defined anew under its name for the same one, if only its fields' types differ, and evcxr
//! then hands a value of the old layout to code of the new one. So what a cell defines is compared with what was there before.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::keep::Variable;
use crate::lexer::{Code, Kind};

/// The definitions and the crates of a session, as far as a type's layout depends on them.
#[derive(Clone, Default)]
pub struct Shapes {
    /// A name, and all of its definition but attributes, comments and functions' bodies. What stands in an `impl` and may be part
    /// of a layout is named after it: `C::N`, `T for C::Item`.
    items: HashMap<String, String>,
    /// `:dep` crates and what was asked of each.
    crates: HashMap<String, String>,
    /// The sources of those that are folders, which may change under the cells.
    sources: HashMap<String, u64>,
}

/// What a cell is about to change.
#[derive(Debug, Default, PartialEq)]
pub struct Change {
    /// Names that are defined anew, and otherwise.
    pub names: Vec<String>,
    /// Variables whose values are of such a type.
    pub gone: Vec<String>,
    /// Variables that the cell makes, again or for the first time.
    pub made: Vec<String>,
    /// Crates that are asked for in another way, with that of before.
    pub crates: Vec<(String, String)>,
    /// Variables of their types or of the reader's own, which the compiler knows under another name if such a crate changes.
    pub in_doubt: Vec<String>,
}

impl Change {
    /// Variables that the cell is not to find. evcxr would drop the new value, too, of a variable that the cell makes again.
    pub fn hidden(&self) -> Vec<String> {
        let made = self.in_doubt.iter().filter(|name| self.made.contains(name) && !self.gone.contains(name));
        self.gone.iter().chain(made).cloned().collect()
    }
}

impl Shapes {
    /// What a cell would change.
    pub fn before(&self, cell: &str, variables: &[Variable]) -> Change {
        let differs = |(name, shape): &(String, String)| self.items.get(name).is_some_and(|old| old != shape);
        let mut names: Vec<String> = definitions(cell).into_iter().filter(differs).map(|(name, _)| name).collect();
        names.sort();
        let other = |(name, asked): (String, String)| {
            let old = self.crates.get(&name).filter(|old| **old != asked)?.clone();
            Some((name, old))
        };
        let crates: Vec<(String, String)> = crates(cell).into_iter().filter_map(other).collect();
        let mut in_doubt = Vec::new();
        if !crates.is_empty() {
            let libraries = crates.iter().map(|(name, _)| name.replace('-', "_"));
            let is_type = |shape: &str| !["use ", "type ", "const ", "static "].iter().any(|word| shape.starts_with(word));
            let own = self.items.iter().filter(|(_, shape)| is_type(shape)).map(|(name, _)| name.clone());
            in_doubt = self.of(libraries.chain(own).collect(), variables);
        }
        let edited: Vec<String> =
            self.sources.iter().filter(|(name, was)| self.sources_of(name) != Some(**was)).map(|(name, _)| name.clone()).collect();
        let libraries = edited.iter().map(|name| name.replace('-', "_"));
        let changed = names.iter().flat_map(|name| self.meant(name)).chain(libraries).collect();
        names.extend(edited.iter().cloned());
        Change { gone: self.of(changed, variables), made: made(cell), names, crates, in_doubt }
    }

    /// After a cell that was compiled and run, to its end or not.
    pub fn ran(&mut self, cell: &str) {
        if cell.lines().any(|line| line.trim() == ":clear") {
            *self = Self::default();
        }
        self.items.extend(definitions(cell));
        self.crates.extend(crates(cell));
        let sources = |name: &String| Some((name.clone(), self.sources_of(name)?));
        self.sources = self.crates.keys().filter_map(sources).collect();
    }

    /// A hash of the sources of a crate that is asked for by its `path`.
    fn sources_of(&self, name: &str) -> Option<u64> {
        let (_, path) = self.crates.get(name)?.split_once("path")?;
        let path = path.trim_start().strip_prefix('=')?.trim_start().strip_prefix('"')?.split('"').next()?;
        let mut hasher = DefaultHasher::new();
        hash_sources(Path::new(path), DEPTH, &mut hasher);
        Some(hasher.finish())
    }

    /// The variables whose types have one of these names in them, or that of a definition that has.
    fn of(&self, mut names: HashSet<String>, variables: &[Variable]) -> Vec<String> {
        let has = |text: &str, names: &HashSet<String>| words(text).any(|word| names.contains(word));
        loop {
            let count = names.len();
            let affected = self.items.iter().filter(|(_, shape)| has(shape, &names));
            let more: Vec<String> = affected.flat_map(|(name, _)| self.meant(name)).collect();
            names.extend(more);
            if names.len() == count {
                break;
            }
        }
        // what a `dyn Any` holds is told by the type's name, which stays
        let any = |kind: &str| !names.is_empty() && self.holds_any(kind);
        variables.iter().filter(|(_, kind)| has(kind, &names) || any(kind)).map(|(name, _)| name.clone()).collect()
    }

    /// Whether a type, or one of the reader's own in it, has an `Any` in it.
    fn holds_any(&self, kind: &str) -> bool {
        let mut seen = HashSet::new();
        let mut open: Vec<&str> = words(kind).collect();
        while let Some(word) = open.pop() {
            if word == "Any" {
                return true;
            }
            if seen.insert(word) {
                open.extend(self.items.get(word).into_iter().flat_map(|shape| words(shape)));
            }
        }
        false
    }

    /// The words by which other definitions depend on this one. A type gets constants and types from its `impl` without a word of
    /// them where it is used; a function is called.
    fn meant(&self, name: &str) -> Vec<String> {
        let Some((of, last)) = name.rsplit_once("::") else { return vec![name.to_string()] };
        let called = self.items.get(name).is_some_and(|shape| shape.contains("fn "));
        let known = |word: &&str| self.items.contains_key(*word);
        if called { vec![last.to_string()] } else { words(of).filter(known).map(String::from).collect() }
    }
}

/// Folders of a crate are followed this deep.
const DEPTH: usize = 8;

/// The Rust files and the manifest in a folder and below it, in the order of their names, without what is built and hidden.
fn hash_sources(folder: &Path, depth: usize, hasher: &mut DefaultHasher) {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if depth > 0 && name != "target" && !name.starts_with('.') {
                hash_sources(&path, depth - 1, hasher);
            }
        } else if name.ends_with(".rs") || name == "Cargo.toml" {
            (name, std::fs::read(&path).unwrap_or_default()).hash(hasher);
        }
    }
}

/// Whether a cell defines one of these names.
pub fn defines(cell: &str, names: &[String]) -> bool {
    definitions(cell).iter().any(|(name, _)| names.contains(name))
}

/// A cell without its `:dep` lines: the crates stay when variables are lost.
pub fn without_crates(cell: &str) -> String {
    let line = |line: &str| if line.trim_start().starts_with(":dep") { String::new() } else { line.to_string() };
    cell.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// The crates that a cell asks for: `:dep name = …`, or the name alone.
fn crates(cell: &str) -> Vec<(String, String)> {
    let asked = |line: &str| {
        let (name, how) = line.trim().strip_prefix(":dep ").map(|asked| asked.split_once('=').unwrap_or((asked, "\"*\"")))?;
        Some((name.trim().to_string(), how.trim().to_string()))
    };
    cell.lines().filter_map(asked).collect()
}

/// The words between each `let` of the cell's own level and its type or its value.
fn made(cell: &str) -> Vec<String> {
    let code = Code::new(cell);
    let (mut names, mut i) = (Vec::new(), 0);
    while i < code.tokens.len() {
        match code.word(i) {
            "let" => {
                let pattern = (i + 1..code.tokens.len()).take_while(|at| !["=", ":", ";"].contains(&code.word(*at)));
                names.extend(pattern.filter(|at| code.is_name(*at)).map(|at| code.word(at).to_string()));
            }
            "{" | "(" | "[" => i = code.close(i).unwrap_or(code.tokens.len()),
            _ => {}
        }
        i += 1;
    }
    names
}

/// The types, constants, traits, modules and imports at the cell's own level, each by its name.
fn definitions(cell: &str) -> Vec<(String, String)> {
    let code = Code::new(cell);
    let mut all = Vec::new();
    collect(&code, 0, code.tokens.len(), &mut all);
    all
}

fn collect(code: &Code, from: usize, to: usize, all: &mut Vec<(String, String)>) {
    let (mut i, mut layout) = (from, String::new());
    while i < to {
        let past = |open: usize| code.close(open).map_or(to, |end| end + 1);
        let name = code.word(i + 1).to_string();
        match code.word(i) {
            "#" if code.word(i + 2) == "repr" => {
                layout = shape(code, i, past(i + 1));
                i = past(i + 1);
            }
            // `union` is also a method's name
            "struct" | "enum" | "union" | "trait" if code.is_name(i + 1) => {
                let end = end(code, i, to);
                all.push((name, shape(code, i, end) + &std::mem::take(&mut layout)));
                i = end;
            }
            // neither `*const T` nor `&raw const x` nor `<const N: usize>`
            "type" | "const" | "static" if code.is_name(i + 1) && (i == from || !["*", "raw", "<", ","].contains(&code.word(i - 1))) => {
                match (i + 1..i + 4).find(|at| code.word(*at) == "fn" && code.is_name(at + 1)) {
                    // an array's length may be what it computes
                    Some(at) => {
                        let end = end(code, at, to);
                        all.push((code.word(at + 1).to_string(), text(code, i, end)));
                        i = end;
                    }
                    None => {
                        let end = end(code, i, to);
                        all.push((name, shape(code, i, end)));
                        i = end;
                    }
                }
            }
            "impl" if i == from || [";", "}", "]", "unsafe"].contains(&code.word(i - 1)) => {
                let open = (i..to).find(|at| code.is_mark(*at, '{')).unwrap_or(to);
                let (mut inside, end) = (Vec::new(), past(open));
                collect(code, open + 1, end, &mut inside);
                let of = text(code, i + 1, open);
                all.extend(inside.into_iter().map(|(name, shape)| (format!("{of}::{name}"), shape)));
                i = end;
            }
            "macro_rules" if code.is_mark(i + 1, '!') => {
                let end = past(i + 3);
                all.push((code.word(i + 2).to_string(), text(code, i, end)));
                i = end;
            }
            "mod" if code.is_mark(i + 2, '{') => {
                let (mut inside, end) = (Vec::new(), past(i + 2));
                collect(code, i + 3, end, &mut inside);
                inside.sort();
                all.push((name, inside.into_iter().map(|(name, shape)| format!("{name}: {shape}; ")).collect()));
                i = end;
            }
            "use" => {
                let end = end(code, i, to);
                imports(code, i + 1, end, &mut String::new(), all);
                i = end;
            }
            // a macro that may define: `bitflags! { struct … }`
            "!" if i > from && code.is_name(i - 1) && ["{", "("].contains(&code.word(i + 1)) => {
                let end = past(i + 1);
                let names = (i + 2..end).filter(|at| ["struct", "enum", "union"].contains(&code.word(*at)) && code.is_name(at + 1));
                all.extend(names.map(|at| (code.word(at + 1).to_string(), shape(code, i + 1, end))));
                i = end;
            }
            "{" | "(" | "[" => i = past(i),
            _ => i += 1,
        }
    }
}

/// Behind an item: its semicolon, or the braces of a type or a function.
fn end(code: &Code, from: usize, to: usize) -> usize {
    let mut i = from;
    let braced = ["struct", "enum", "union", "trait", "fn"].contains(&code.word(from));
    while i < to {
        match code.tokens[i].kind {
            Kind::Mark(';') => return i + 1,
            Kind::Mark('{') if braced => return code.close(i).map_or(to, |end| end + 1),
            Kind::Mark('(' | '[' | '{') => i = code.close(i).unwrap_or(to),
            _ => {}
        }
        i += 1;
    }
    to
}

fn text(code: &Code, from: usize, to: usize) -> String {
    (from..to).map(|at| code.word(at)).collect::<Vec<_>>().join(" ")
}

/// An item's text, without attributes other than `repr`, and without what functions do.
fn shape(code: &Code, from: usize, to: usize) -> String {
    let (mut words, mut i, mut function) = (Vec::new(), from, false);
    while i < to {
        if code.is_mark(i, '#') && code.is_mark(i + 1, '[') && code.word(i + 2) != "repr" {
            i = code.close(i + 1).unwrap_or(to) + 1;
            continue;
        }
        match code.word(i) {
            "fn" if code.is_name(i + 1) => function = true, // not `Call(fn(f32) -> f32), K { v: u8 }`
            ";" => function = false,
            "{" if function => {
                (i, function) = (code.close(i).unwrap_or(to) + 1, false);
                words.push(";");
                continue;
            }
            _ => {}
        }
        words.push(code.word(i));
        i += 1;
    }
    words.join(" ")
}

/// The names that a `use` brings, each with its path.
fn imports(code: &Code, from: usize, to: usize, path: &mut String, all: &mut Vec<(String, String)>) {
    let (mut i, length) = (from, path.len());
    while i < to {
        match code.word(i) {
            "{" => {
                let end = code.close(i).unwrap_or(to);
                imports(code, i + 1, end, path, all);
                i = end;
            }
            "," | ";" => path.truncate(length),
            "as" => {
                all.push((code.word(i + 1).to_string(), format!("use {path}")));
                path.truncate(length);
                i += 1;
            }
            word => {
                path.push_str(word);
                let last = i + 1 >= to || [",", ";", "}"].contains(&code.word(i + 1));
                if last && code.is_name(i) {
                    let of = path.strip_suffix("::self").unwrap_or(path);
                    all.push((words(of).last().unwrap_or_default().to_string(), format!("use {of}")));
                }
            }
        }
        i += 1;
    }
    path.truncate(length);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str, kind: &str) -> Variable {
        (name.into(), kind.into())
    }

    /// The variables that the second cell drops after the first.
    fn gone(first: &str, second: &str, kind: &str) -> bool {
        let mut shapes = Shapes::default();
        shapes.ran(first);
        !shapes.before(second, &[variable("x", kind)]).gone.is_empty()
    }

    #[test]
    fn what_a_dyn_any_holds_may_be_of_the_old_type() {
        for kind in ["Box<dyn std::any::Any>", "Vec<Holder>"] {
            assert!(gone("struct R { n: u64 } struct Holder(Box<dyn std::any::Any>);", "struct R { n: f64 }", kind), "{kind}");
        }
        assert!(!gone("struct R { n: u64 }", "struct R { n: u64 }", "Box<dyn std::any::Any>"));
    }

    #[test]
    fn a_crate_that_is_edited_takes_the_values_of_its_types() {
        let folder = std::env::temp_dir().join(format!("lafter-kernel-edited-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("src")).unwrap();
        let write = |text: &str| std::fs::write(folder.join("src/lib.rs"), text).unwrap();
        write("pub struct P { pub x: f32 }");
        let mut shapes = Shapes::default();
        shapes.ran(&format!(":dep my-crate = {{ path = {folder:?} }}\nuse my_crate::P;\nstruct Own(P);"));
        let variables = [variable("p", "my_crate::P"), variable("o", "Vec<Own>"), variable("n", "i32")];
        assert_eq!(shapes.before("(p.x, n)", &variables), Change::default());
        write("pub struct P { pub x: u32 }");
        let change = shapes.before("(p.x, n)", &variables);
        assert_eq!((change.gone, change.names), (vec!["p".to_string(), "o".into()], vec!["my-crate".to_string()]));
        shapes.ran("(p.x, n)");
        assert_eq!(shapes.before("n", &variables), Change::default());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_value_of_another_layout_is_dropped() {
        for (first, second, kind) in [
            ("struct A { n: i64 }", "struct A { n: String }", "A"),
            ("struct A { n: i64 }", "pub struct A { n: i64, m: u8 }", "Vec<(u8, A)>"),
            ("struct A { n: i64 } struct B(A); type C = Vec<B>;", "struct A(u8); let y = A(1);", "std::rc::Rc<C>"),
            ("const N: usize = 3; struct A([f32; N]);", "const N: usize = 4;", "A"),
            ("trait T { fn f(&self); }", "trait T { fn g(&self); fn f(&self); }", "Box<dyn T>"),
            ("mod m { pub struct A(u8); }", "mod m { pub struct A(u16); }", "m::A"),
            ("use a::X; struct A(X);", "use b::{c, X};", "A"),
            ("struct A { n: u8 }", "#[repr(C)] struct A { n: u8 }", "A"),
            ("bitflags! { struct F: u8 { } }", "bitflags! { struct F: u16 { } }", "F"),
            ("const fn n() -> usize { 3 } struct B([u64; n()]);", "const fn n() -> usize { 4 }", "B"),
            (
                "pub const unsafe fn n() -> usize { 3 } const N: usize = unsafe { n() }; struct B([u64; N]);",
                "const unsafe fn n() -> usize { 4 }",
                "B",
            ),
            ("struct C; impl C { const N: usize = 3; } struct B([f32; C::N]);", "struct C; impl C { pub const N: usize = 4; }", "B"),
            (
                "struct C; impl C { const fn n() -> usize { 3 } } struct B([f32; C::n()]);",
                "struct C; impl C { const fn n() -> usize { 4 } }",
                "B",
            ),
            ("struct C; impl Iterator for C { type Item = u8; }", "struct C; impl Iterator for C { type Item = u16; }", "Peekable<C>"),
            (
                "trait T { type X; } struct C; impl T for C { type X = u8; } struct W<A: T>(A::X);",
                "impl T for C { type X = String; }",
                "W<C>",
            ),
            ("enum E { Call(fn(f32) -> f32), K { v: u8 } }", "enum E { Call(fn(f32) -> f32), K { v: String } }", "E"),
            ("macro_rules! n { () => { 3 } } struct B([u64; n!()]);", "macro_rules! n { () => { 4 } }", "B"),
        ] {
            assert!(gone(first, second, kind), "{first} / {second}");
        }
    }

    #[test]
    fn the_same_definition_again_drops_nothing() {
        for (first, second, kind) in [
            ("struct A { n: i64 }", "/// Doc\n#[derive(Debug, Clone)]\npub struct A {\n n: i64 } // again", "A"),
            ("struct A { n: i64 } impl A { fn f(&self) {} }", "impl A { fn f(&self) { g() } fn h() {} }", "A"),
            ("trait T { fn f(&self) { 1; } }", "trait T { fn f(&self) { 2; } }", "Box<dyn T>"),
            ("mod m { pub struct A(u8); fn f() {} }", "mod m { fn g() -> u8 { 1 } pub struct A(u8); }", "m::A"),
            ("use a::{X, Y as Z, b::{self, c}};", "use a::b; use a::{b::c, Y as Z}; use a::X;", "HashMap<X, (Z, b::Q, c)>"),
            ("struct A<const N: usize = 3>([u8; N]);", "fn f<const A: usize>(p: *const A) { struct A; }", "A<3>"),
            ("struct A(u8);", "struct B(u8);", "A"),
            (
                "struct A(u8); impl A { pub const fn new() -> A { A(1) } const N: u8 = 1; }",
                "impl A { const N: u8 = 1; const fn new() -> A { A(2) } }",
                "A",
            ),
            (
                "struct A(u8); impl T for A { const N: u8 = 1; }",
                "impl U for A { const N: u8 = 2; } fn f() -> impl T { const N: u8 = 3; A(N) }",
                "A",
            ),
            ("const fn n() -> usize { 3 } struct A([u8; 3]);", "const fn n() -> usize { 4 }", "A"),
            ("fn f() {}", "let p: *const f = 1;", "f"),
        ] {
            assert!(!gone(first, second, kind), "{first} / {second}");
        }
    }

    #[test]
    fn a_crate_that_is_asked_for_in_another_way() {
        let mut shapes = Shapes::default();
        shapes.ran(":dep small-vec = \"1.0\"\nuse std::rc::Rc; struct A(small_vec::V);");
        let variables = [variable("a", "A"), variable("v", "small_vec::V<u8>"), variable("n", "Rc<i32>"), variable("t", "Tensor")];
        let change = |cell: &str| shapes.before(cell, &variables);
        assert_eq!(change(":dep small-vec = \"1.0\"\n:dep half = \"2\""), Change::default());
        assert_eq!(change("let (mut a, b): (u8, u8) = { let d = c; d };").made, ["mut", "a", "b"]);
        let found = change(":dep small-vec = \"2.0\"");
        assert_eq!(found.crates, [("small-vec".to_string(), "\"1.0\"".to_string())]);
        assert_eq!((found.in_doubt, found.gone), (vec!["a".to_string(), "v".into()], vec![]));
        shapes.ran(":clear");
        assert!(shapes.items.is_empty() && shapes.crates.is_empty());
        assert_eq!(without_crates(":dep a = \"1\"\nlet x = 1;"), "\nlet x = 1;");
    }
}
