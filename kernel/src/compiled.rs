//! Compiled cells, cached across sessions: the same cell is not compiled again.
//!
//! The prelude is the same in every session, and so is a notebook that is run a second time. A kept library is used only for
//! exactly the same source, flags and lafter library; the source is kept next to it and compared.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Result;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::layout::Layout;
use crate::lexer::{Code, Kind, tokens};

/// How many cells are kept; the least recently used go first.
const MOST: usize = 400;

/// One cell's place among the kept.
pub struct Kept {
    library: Entry,
    failure: Entry,
}

/// A file, and next to it the text that it was made from.
struct Entry {
    file: PathBuf,
    text: String,
}

/// What was kept of a cell.
#[derive(Debug, PartialEq)]
pub enum Found {
    /// The library is where it was asked for; with the notes on its source.
    Library(String),
    /// What Cargo said of a cell that does not compile.
    Failure(Vec<u8>),
}

impl Kept {
    /// `source` is what evcxr generated for the cell; `circumstances` all else that the result depends on.
    pub fn new(layout: &Layout, source: &str, circumstances: &str) -> Self {
        let entry = |source: &str, end: &str| {
            let text = format!("// {end}\n// {}\n{source}", circumstances.replace('\n', "\n// "));
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            Entry { file: layout.compiled().join(format!("{:016x}.{end}", hasher.finish())), text }
        };
        // what Cargo says names lines: it is true of the very same source only
        Self { library: entry(&in_order(source), "so"), failure: entry(source, "json") }
    }

    /// What was kept; a library is copied to `to`.
    pub fn fetch(&self, to: &Path) -> Option<Found> {
        if self.failure.is_kept() {
            return fs::read(&self.failure.file).ok().map(Found::Failure);
        }
        if !self.library.is_kept() {
            return None;
        }
        fs::create_dir_all(to.parent()?).ok()?;
        fs::copy(&self.library.file, to).ok()?;
        Some(Found::Library(fs::read_to_string(self.notes()).unwrap_or_default()))
    }

    /// Keeps a library that was just compiled, with the notes on its source.
    pub fn keep(&self, library: &Path, notes: &str) -> Result<()> {
        if !notes.is_empty() {
            fs::create_dir_all(self.library.file.parent().unwrap_or(&self.library.file))?;
            fs::write(self.notes(), notes)?;
        }
        self.library.write(&fs::read(library)?)
    }

    fn notes(&self) -> PathBuf {
        self.library.file.with_extension("notes")
    }

    /// Keeps what Cargo said of a cell that does not compile.
    pub fn keep_failure(&self, said: &[u8]) -> Result<()> {
        self.failure.write(said)
    }
}

impl Entry {
    fn source(&self) -> PathBuf {
        self.file.with_extension("rs")
    }

    /// The text is compared, not only its hash.
    fn is_kept(&self) -> bool {
        let kept = fs::read_to_string(self.source()).is_ok_and(|text| text == self.text);
        if let (true, Ok(file)) = (kept, fs::File::options().append(true).open(self.source())) {
            let _ = file.set_modified(SystemTime::now()); // in a folder that is not ours to write in it only ages
        }
        kept
    }

    /// The source last: without it nothing is found. Another session may write the same at the same time.
    fn write(&self, bytes: &[u8]) -> Result<()> {
        let folder = self.file.parent().unwrap_or(&self.file);
        fs::create_dir_all(folder)?;
        let new = folder.join(format!("new-{}", std::process::id()));
        for (path, bytes) in [(&self.file, bytes), (&self.source(), self.text.as_bytes())] {
            fs::write(&new, bytes)?;
            fs::rename(&new, path)?;
        }
        forget(folder)
    }
}

fn forget(folder: &Path) -> Result<()> {
    let sources = fs::read_dir(folder)?.flatten().filter(|entry| entry.path().extension().is_some_and(|end| end == "rs"));
    let mut all: Vec<_> = sources.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect();
    all.sort();
    for (_, source) in all.iter().rev().skip(MOST) {
        for end in ["rs", "so", "json", "notes"] {
            let _ = fs::remove_file(source.with_extension(end));
        }
    }
    Ok(())
}

/// Whether what is compiled depends on more than the source: files and variables of the environment.
pub fn reads_more(source: &str) -> bool {
    let reads = |line: &str| ["include!", "include_str!", "include_bytes!", "env!"].iter().any(|name| line.contains(name));
    let code = Code::new(source);
    // `#[path = "…"] mod name;`
    let brings = |i: usize| match code.word(i) {
        "mod" => code.is_name(i + 1) && code.is_mark(i + 2, ';'),
        "path" => i > 1 && code.is_mark(i - 1, '[') && code.is_mark(i - 2, '#'),
        _ => false,
    };
    source.lines().any(|line| !line.starts_with("//") && reads(line)) // evcxr's own comments name them too
        || (0..code.tokens.len()).any(brings)
}

/// evcxr writes imports and variables in an order that changes from session to session, one per line. Which of them comes
/// first makes no difference, so runs of such lines are sorted; all other lines stay where they are, as do those of a text.
fn in_order(source: &str) -> String {
    let texts: Vec<Range<usize>> = tokens(source).into_iter().filter(|token| token.kind == Kind::Text).map(|token| token.at).collect();
    let in_text = |line: &str| {
        let start = line.as_ptr() as usize - source.as_ptr() as usize;
        let before = texts.partition_point(|text| text.start < start);
        before > 0 && start < texts[before - 1].end
    };
    let kind = |line: &str| match line {
        _ if line.starts_with("use ") && line.ends_with(';') => Some(0),
        _ if line.starts_with("let ") && line.contains(" = evcxr_variable_store.take_variable::<") => Some(1),
        _ if line.starts_with("vars_ok &= evcxr_variable_store.check_variable::<") => Some(2),
        _ if line.starts_with("evcxr_variable_store.put_variable::<") => Some(3),
        _ => None,
    };
    let mut lines: Vec<(Option<u8>, &str)> = source.lines().map(|line| (kind(line).filter(|_| !in_text(line)), line)).collect();
    lines.chunk_by_mut(|(a, _), (b, _)| a.is_some() && a == b).for_each(<[_]>::sort_unstable);
    lines.into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_order_of_imports_and_variables_is_free() {
        let take = |name: &str| format!("let {name} = evcxr_variable_store.take_variable::<i32>(stringify!({name}));\n");
        let one = format!("use a::b;\nuse c::d;\n{}{}f();\ng();\n", take("x"), take("mut y"));
        let other = format!("use c::d;\nuse a::b;\n{}{}f();\ng();\n", take("mut y"), take("x"));
        assert_eq!(in_order(&one), in_order(&other));
        assert_ne!(in_order("f();\ng();"), in_order("g();\nf();"));
        assert_eq!(
            in_order("use b;\nuse a;\nlet t = \"é\nuse d;\nuse c;\n\";\nuse f;\nuse e;"),
            "use a;\nuse b;\nlet t = \"é\nuse d;\nuse c;\n\";\nuse e;\nuse f;"
        );
    }

    #[test]
    fn a_cell_that_reads_a_file_while_it_is_compiled_is_known() {
        assert!(reads_more("let text = include_str!(\"a.txt\");") && reads_more("option_env!(\"HOME\")"));
        assert!(reads_more("#[path = \"a.rs\"]\nmod a;") && reads_more("#[path = \"a\"] mod a { mod b; }") && reads_more("pub mod a;"));
        assert!(!reads_more("// included via include_str!\nlet a = 1;"));
        assert!(!reads_more("mod a { fn f(path: [u8; 1]) {} } let text = \"mod a;\"; // mod a;"));
    }

    #[test]
    fn the_same_cell_is_found_again_and_no_other() {
        let data = std::env::temp_dir().join(format!("lafter-kernel-compiled-{}", std::process::id()));
        let layout = Layout { data: data.clone() };
        fs::create_dir_all(&data).unwrap();
        let (library, to) = (data.join("libctx.so"), data.join("out/libctx.so"));
        fs::write(&library, "compiled").unwrap();
        let kept = Kept::new(&layout, "fn a() {}", "opt 1");
        assert_eq!(kept.fetch(&to), None);
        kept.keep(&library, "3 unused\n").unwrap();
        assert_eq!(kept.fetch(&to), Some(Found::Library("3 unused\n".into())));
        assert_eq!(fs::read_to_string(&to).unwrap(), "compiled");
        assert_eq!(Kept::new(&layout, "fn a() {}", "opt 2").fetch(&to), None);
        let wrong = Kept::new(&layout, "fn b() {}", "opt 1");
        assert_eq!(wrong.fetch(&to), None);
        wrong.keep_failure(b"no").unwrap();
        assert_eq!(wrong.fetch(&to), Some(Found::Failure(b"no".to_vec())));
        // in another order the library is the same, but what Cargo says names other lines
        let two = |first: &str, second: &str| Kept::new(&layout, &format!("use {first};\nuse {second};\n"), "opt 1");
        two("a", "b").keep(&library, "").unwrap();
        assert_eq!(two("b", "a").fetch(&to), Some(Found::Library(String::new())));
        two("a", "b").keep_failure(b"line 1").unwrap();
        assert_eq!(two("a", "b").fetch(&to), Some(Found::Failure(b"line 1".to_vec())));
        assert_eq!(two("b", "a").fetch(&to), Some(Found::Library(String::new())));
        // the text is compared, not only its hash
        fs::write(kept.library.source(), "something else").unwrap();
        assert_eq!(kept.fetch(&to), None);
        fs::remove_dir_all(data).unwrap();
    }
}
