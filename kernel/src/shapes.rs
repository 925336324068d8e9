//! What a cell changes of types that variables already have: their old values must not be read as the new type.
//!
//! The compiler takes a type that is defined anew under its name for the same one, if only its fields' types differ, and evcxr
//! then hands a value of the old layout to code of the new one. So what a cell defines is compared with what was there before.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::definitions::{COMMON, DEFAULTS, FILE, INSIDE, definitions, functions, made, words};
use crate::keep::Variable;

/// The definitions and the crates of a session, as far as a type's layout depends on them.
#[derive(Clone, Default)]
pub struct Shapes {
    /// A name, and all of its definition but attributes, comments and functions' bodies. What stands in an `impl` and may be part
    /// of a layout is named after it: `C::N`, `T for C::Item`; what a `use a::*` brings is told by [`Shapes::brought`].
    items: HashMap<String, String>,
    /// `:dep` crates and what was asked of each.
    crates: HashMap<String, String>,
    /// The files that the cells were compiled from, which may change under them.
    files: HashMap<PathBuf, u64>,
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
        names.extend(functions(cell).into_iter().filter(|name| self.is_type(name)));
        names.sort();
        names.dedup();
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
        let mut changed: HashSet<String> = names.iter().flat_map(|name| self.meant(name)).collect();
        names.retain(|name| !name.starts_with(DEFAULTS)); // with the trait
        names.iter_mut().for_each(|name| name.truncate(name.strip_suffix("::*").map_or(name.len(), str::len)));
        if self.files.iter().any(|(file, was)| hash(file) != *was) {
            let edited = self.of_files();
            changed.extend(edited.iter().map(|name| name.replace('-', "_")));
            names.extend(edited);
        }
        Change { gone: self.of(changed, variables), made: made(cell), names, crates, in_doubt }
    }

    /// Whether a type or a trait has this name, which a function would take from it.
    fn is_type(&self, name: &str) -> bool {
        let words = ["struct ", "enum ", "union ", "trait ", "type "];
        self.items.get(name).is_some_and(|shape| words.iter().any(|word| shape.starts_with(word)))
    }

    /// After a cell that was compiled, from these files, and run, to its end or not.
    pub fn ran(&mut self, cell: &str, files: Vec<PathBuf>) {
        if cell.lines().any(|line| line.trim() == ":clear") {
            *self = Self::default();
        }
        functions(cell).into_iter().for_each(|name| drop(self.items.remove(&name)));
        self.items.extend(definitions(cell));
        self.crates.extend(crates(cell));
        self.files = files.into_iter().map(|file| (file.clone(), hash(&file))).collect();
    }

    /// The crates and the modules that files are read for.
    fn of_files(&self) -> Vec<String> {
        let crates = self.crates.iter().filter(|(_, asked)| asked.contains("path")).map(|(name, _)| name);
        let is_read = |shape: &str| shape.starts_with("mod ") && shape.contains(FILE);
        let modules = self.items.iter().filter(|(_, shape)| is_read(shape)).map(|(name, _)| name);
        let mut names: Vec<String> = crates.chain(modules).cloned().collect();
        names.sort();
        names
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
        let unknown =
            |kind: &str| names.contains(UNKNOWN) && words(kind).any(|word| word.starts_with(char::is_uppercase) && !COMMON.contains(&word));
        let lost = |kind: &str| has(kind, &names) || any(kind) || unknown(kind);
        variables.iter().filter(|(_, kind)| lost(kind)).map(|(name, _)| name.clone()).collect()
    }

    /// Whether a type, or one of the reader's own in it, has an `Any` in it, or an error, which may be asked for what it is, too.
    fn holds_any(&self, kind: &str) -> bool {
        let own_error = self.items.get("Error").is_some_and(|shape| !shape.starts_with("use "));
        let mut seen = HashSet::new();
        let mut open: Vec<&str> = words(kind).collect();
        while let Some(word) = open.pop() {
            if word == "Any" || word == "Error" && (!own_error || kind.contains("dyn ")) {
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
        if let Some(module) = glob(name) {
            return self.brought(module, DEPTH);
        }
        let Some((of, last)) = name.rsplit_once("::") else { return vec![name.to_string()] };
        let called = self.items.get(name).is_some_and(|shape| shape.contains("fn "));
        let known = |word: &&str| self.items.contains_key(*word);
        if called { vec![last.to_string()] } else { words(of).filter(known).map(String::from).collect() }
    }

    /// The names that a module brings, or [`UNKNOWN`].
    fn brought(&self, module: &str, depth: usize) -> Vec<String> {
        let unknown = || vec![UNKNOWN.to_string()];
        if words(module).all(|word| ["self", "super", "crate"].contains(&word)) {
            return vec![]; // what stands at the cells' own level is known by its name
        }
        let known: Vec<&String> = words(module).filter_map(|word| self.items.get(word)).collect();
        if known.is_empty() || depth == 0 {
            return unknown();
        }
        let names = known.into_iter().flat_map(|shape| match shape.strip_prefix("use ") {
            Some(other) => self.brought(other, depth - 1),
            None if shape.strip_prefix("mod ").is_some_and(|inside| inside.starts_with(FILE)) => unknown(),
            None => {
                let inside = shape.split(INSIDE).skip(1).filter_map(|item| item.split_once(": ")).map(|(name, _)| name);
                let of = |name: &str| match glob(name) {
                    Some(other) => self.brought(other, depth - 1),
                    None if name.ends_with('!') => unknown(),
                    None => vec![name.to_string()],
                };
                inside.flat_map(of).collect()
            }
        });
        names.collect()
    }
}

/// Stands among names for all those that a module brings which is not known.
const UNKNOWN: &str = "*";
/// Modules that bring what others bring are followed this deep.
const DEPTH: usize = 8;
/// The module of a `use module::*`, by the name of the import.
fn glob(name: &str) -> Option<&str> {
    name.strip_prefix("use ")?.strip_suffix("::*")
}

/// Of a file's text; of one that is gone, too.
fn hash(file: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    std::fs::read(file).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}

/// The files that Cargo says it compiled the session's cells from, and the manifests of their packages; not the session's own.
pub fn files(session: &Path) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(session.join("target")).into_iter().flatten().flatten().map(|entry| entry.path());
    let text: String = folders.filter_map(|folder| std::fs::read_to_string(folder.join("debug/libctx.d")).ok()).collect();
    let named = text.lines().filter_map(|line| line.split_once(": ")).map(|(_, files)| files.replace("\\ ", "\0"));
    let mut files: HashSet<PathBuf> =
        named.flat_map(|files| files.split_whitespace().map(|file| PathBuf::from(file.replace('\0', " "))).collect::<Vec<_>>()).collect();
    files.retain(|file| !file.starts_with(session));
    let manifest = |file: &PathBuf| file.ancestors().map(|folder| folder.join("Cargo.toml")).find(|manifest| manifest.is_file());
    let manifests: Vec<PathBuf> = files.iter().filter_map(manifest).collect();
    files.into_iter().chain(manifests).collect()
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

/// The crates that a cell asks for: `:dep name = …`, the name alone, or the folder alone. A folder is said from the root on: that of the
/// cells may change.
fn crates(cell: &str) -> Vec<(String, String)> {
    let absolute = |path: &str| std::fs::canonicalize(path).map_or(path.to_string(), |path| path.display().to_string());
    let asked = |line: &str| {
        let asked = line.trim().strip_prefix(":dep ")?.trim();
        if asked.starts_with(['.', '/']) {
            let folder = absolute(asked);
            let manifest = std::fs::read_to_string(Path::new(&folder).join("Cargo.toml")).ok()?;
            let name = manifest.lines().find_map(|line| line.trim().strip_prefix("name")?.trim_start().strip_prefix('='))?;
            return Some((name.trim().trim_matches('"').to_string(), format!("{{ path = {folder:?} }}")));
        }
        let (name, how) = asked.split_once('=').unwrap_or((asked, "\"*\""));
        let quoted = how.split_once("path").and_then(|(_, path)| path.split('"').nth(1));
        let how = quoted.map_or(how.to_string(), |path| how.replacen(&format!("\"{path}\""), &format!("\"{}\"", absolute(path)), 1));
        Some((name.trim().to_string(), how.trim().to_string()))
    };
    cell.lines().filter_map(asked).collect()
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
        shapes.ran(first, vec![]);
        !shapes.before(second, &[variable("x", kind)]).gone.is_empty()
    }

    #[test]
    fn a_function_takes_the_name_of_a_type() {
        assert!(gone("struct R { n: u64 }", "fn R(n: u64) -> u64 { n }", "R"));
        assert!(!gone("struct R { n: u64 }", "struct S; impl S { fn R(&self) {} } mod m { fn R() {} }", "R"));
        assert!(!gone("fn r() {}", "fn r() -> u8 { 1 }", "Vec<u8>"));
    }

    #[test]
    fn what_a_dyn_any_holds_may_be_of_the_old_type() {
        for kind in ["Box<dyn std::any::Any>", "Vec<Holder>"] {
            assert!(gone("struct R { n: u64 } struct Holder(Box<dyn std::any::Any>);", "struct R { n: f64 }", kind), "{kind}");
        }
        assert!(!gone("struct R { n: u64 }", "struct R { n: u64 }", "Box<dyn std::any::Any>"));
        for (first, kind, lost) in [
            ("struct R { n: u64 }", "Box<dyn std::error::Error>", true),
            ("struct R { n: u64 } enum Error { A }", "Result<(), Error>", false),
            ("struct R { n: u64 } enum Error { A }", "Box<dyn std::error::Error>", true),
            ("struct R { n: u64 } use std::io::Error;", "Error", true),
            ("struct R { n: u64 }", "Result<u8, ParseIntError>", false),
        ] {
            assert_eq!(gone(first, "struct R { n: f64 }", kind), lost, "{first} {kind}");
        }
    }

    #[test]
    fn a_file_that_is_edited_takes_the_values_of_what_is_read_from_it() {
        let folder = std::env::temp_dir().join(format!("lafter-kernel-edited {}", std::process::id()));
        let (session, source) = (folder.join("session"), folder.join("my crate/src/lib.rs"));
        let write = |path: &Path, text: &str| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(&source, "pub struct P { pub x: f32 }");
        write(&folder.join("my crate/Cargo.toml"), "[package]\nname = \"my-crate\"\n");
        let escaped = |path: &Path| path.display().to_string().replace(' ', "\\ ");
        let (of_cell, all) = (escaped(&session.join("src/lib.rs")), escaped(&source));
        write(&session.join("target/host/debug/libctx.d"), &format!("libctx.so: {of_cell} {all}\n"));
        let read = files(&session);
        assert_eq!(read, [source.clone(), folder.join("my crate/Cargo.toml")]);
        let variables = [variable("p", "my_crate::P"), variable("o", "Vec<Own>"), variable("m", "inp::Q"), variable("n", "i32")];
        for asked in [format!(":dep my-crate = {{ path = {:?} }}", folder.join("my crate")), format!(":dep {}/my crate", folder.display())]
        {
            let cell = format!("{asked}\nuse my_crate::P;\nstruct Own(P);\n#[path = \"/a.rs\"] pub mod inp;");
            let mut shapes = Shapes::default();
            shapes.ran(&cell, read.clone());
            assert_eq!(shapes.before("(p.x, n)", &variables), Change::default());
            for edited in [&source, &folder.join("my crate/Cargo.toml")] {
                let before = std::fs::read_to_string(edited).unwrap();
                write(edited, &(before.clone() + "\n"));
                let change = shapes.before("(p.x, n)", &variables);
                assert_eq!(
                    (change.gone, change.names),
                    (vec!["p".to_string(), "o".into(), "m".into()], vec!["inp".into(), "my-crate".into()])
                );
                write(edited, &before);
            }
        }
        assert!(gone("#[path = \"/a.rs\"] mod inp;", "#[path = \"/b.rs\"] mod inp;", "inp::Q"));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_a_glob_brings_is_of_its_module() {
        let lost = |first: &[&str], second: &str, kind: &str| {
            let mut shapes = Shapes::default();
            first.iter().for_each(|cell| shapes.ran(cell, vec![]));
            !shapes.before(second, &[variable("x", kind)]).gone.is_empty()
        };
        let (old, new) = ("mod a { pub struct P { pub x: i64 } pub const N: usize = 3; }", "mod a { pub struct P { pub x: f64 } }");
        for kind in ["P", "Vec<P>", "W", "G"] {
            assert!(lost(&[old, "use a::*; struct W { p: P } struct G([f64; N]);"], new, kind), "{kind}");
            assert!(lost(&[old, "mod b { pub use super::a::*; } use b::*; struct W(P); struct G([u8; N]);"], new, kind), "{kind}");
        }
        assert!(!lost(&[old, "use a::*; struct Q(u8);"], new, "Q") && !lost(&[old, "use std::rc::*;"], new, "Rc<u8>"));
        assert!(!lost(&[old, "use a::*; use std::rc::*;"], old, "P"));
        // a module that is not known may bring any type
        let macros = "macro_rules! mk { ($t:ty) => { pub struct Made($t); } } mod m { use super::*; mk!(i64); }";
        assert!(lost(&[macros, "use m::*;"], "mod m { use super::*; mk!(f64); }", "Made"));
        assert!(!lost(&[macros, "use m::*;"], "mod m { use super::*; mk!(f64); }", "Vec<String>"));
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
            (
                "macro_rules! mk { ($n:ident, $t:ty) => { pub struct $n($t); } } mod m { use super::*; mk!(Q, i64); } struct B(m::Q);",
                "mod m { use super::*; mk!(Q, f64); }",
                "B",
            ),
            ("macro_rules! mk { ($t:ty) => {} } mod m { super::mk![i64]; }", "macro_rules! mk { ($t:ty) => { f() } }", "m::Q"),
            ("trait H { const N: usize = 3; } struct C; impl H for C {} struct B([f32; C::N]);", "trait H { const N: usize = 5; }", "B"),
            (
                "trait H { const N: usize = 3; } struct C; impl H for C {} struct B([f32; C::N]);",
                "impl H for C { const N: usize = 5; }",
                "B",
            ),
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
        shapes.ran(":dep small-vec = \"1.0\"\nuse std::rc::Rc; struct A(small_vec::V);", vec![]);
        let variables = [variable("a", "A"), variable("v", "small_vec::V<u8>"), variable("n", "Rc<i32>"), variable("t", "Tensor")];
        let change = |cell: &str| shapes.before(cell, &variables);
        assert_eq!(change(":dep small-vec = \"1.0\"\n:dep half = \"2\""), Change::default());
        assert_eq!(change("let (mut a, b): (u8, u8) = { let d = c; d };").made, ["mut", "a", "b"]);
        let found = change(":dep small-vec = \"2.0\"");
        assert_eq!(found.crates, [("small-vec".to_string(), "\"1.0\"".to_string())]);
        assert_eq!((found.in_doubt, found.gone), (vec!["a".to_string(), "v".into()], vec![]));
        shapes.ran(":clear", vec![]);
        assert!(shapes.items.is_empty() && shapes.crates.is_empty());
        assert_eq!(without_crates(":dep a = \"1\"\nlet x = 1;"), "\nlet x = 1;");
    }
}
