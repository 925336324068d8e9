//! Names that no cell can use, which the analyzer offers all the same: it takes every crate for one that is being edited.
//!
//! They are read from the sources at installation, line by line, as rustfmt writes them: a name that is never public there.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

use crate::layout::Layout;
use crate::lexer::Code;

/// Private names: `Type::method`, `Type.field`, `.field` where no type has a public one, and the items of modules.
#[derive(Default)]
pub struct Private(HashSet<String>);

/// What encloses a line.
#[derive(Clone, PartialEq)]
enum Block {
    /// All in it is as public as the trait, of the type that has it.
    Trait(Option<String>),
    /// The methods of a type.
    Type(String),
    /// The fields of a type.
    Struct(String),
    /// Whatever it makes may be public.
    Macro,
}

impl Private {
    /// What the installation found.
    pub fn read(layout: &Layout) -> Self {
        Self(std::fs::read_to_string(layout.private()).unwrap_or_default().lines().map(String::from).collect())
    }

    /// Whether a completion is of no use: a name without its brackets, what it is, and the type that it would be a member of.
    pub fn hides(&self, name: &str, kind: &str, of: &Of) -> bool {
        match (kind, of) {
            ("keyword" | "magic", _) => false,
            ("instance", Of::Value(owner)) => {
                self.0.contains(&format!(".{name}")) || owner.as_ref().is_some_and(|owner| self.0.contains(&format!("{owner}.{name}")))
            }
            ("function", Of::Value(Some(owner)) | Of::Path(Some(owner))) if begins_large(owner) => {
                self.0.contains(&format!("{owner}::{name}"))
            }
            ("instance", _) | (_, Of::Value(_)) => false,
            _ => self.0.contains(name),
        }
    }
}

/// What stands before a completed name.
pub enum Of {
    /// A value and a dot; its type, where it is a variable.
    Value(Option<String>),
    /// A path and `::`; its last name.
    Path(Option<String>),
}

fn begins_large(name: &str) -> bool {
    name.starts_with(char::is_uppercase)
}

/// The name of a type without its path and its own types: `std::vec::Vec<u8>` → `Vec`.
pub fn type_name(text: &str) -> &str {
    let bare = text.trim_start_matches(['&', ' ']).trim_start_matches("mut ").split(['<', ' ', '{', ';']).next().unwrap_or("");
    bare.rsplit("::").next().unwrap_or(bare)
}

/// Reads all sources below the folders; what is written for [`Private::read`].
pub fn collect(folders: &[PathBuf]) -> String {
    let (mut private, mut public) = (BTreeSet::new(), HashSet::new());
    let mut todo: Vec<PathBuf> = folders.to_vec();
    while let Some(folder) = todo.pop() {
        for path in std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                of_file(&std::fs::read_to_string(&path).unwrap_or_default(), &mut private, &mut public);
            }
        }
    }
    private.into_iter().filter(|name| !public.contains(name)).map(|name| name + "\n").collect()
}

fn of_file(text: &str, private: &mut BTreeSet<String>, public: &mut HashSet<String>) {
    let mut blocks: Vec<(usize, Block)> = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if trimmed.starts_with('}') {
            blocks.retain(|(at, _)| *at < indent);
        }
        let (visible, item) = visibility(trimmed);
        let within = blocks.last().map(|(_, block)| block.clone());
        if within == Some(Block::Macro) {
            public.extend(named(item.trim_start_matches("unsafe ")).map(String::from));
            continue;
        }
        if let Some(Block::Struct(owner)) = &within {
            if let Some(name) = item.split_once(": ").map(|(name, _)| name).filter(|name| is_name(name)) {
                note(format!(".{name}"), visible == Some(true), private, public);
                note(format!("{owner}.{name}"), visible == Some(true), private, public);
            }
            continue;
        }
        let words = item.trim_start_matches("unsafe ").trim_start_matches("default ");
        let opens = |block| (!line.trim_end().ends_with(['}', ';'])).then_some((indent, block));
        if words.starts_with("trait ") {
            blocks.extend(opens(Block::Trait(None)));
        } else if let Some(header) = impl_header(words) {
            blocks.extend(opens(match header.split_once(" for ") {
                Some((_, owner)) => Block::Trait(Some(type_name(owner).to_string())),
                None => Block::Type(type_name(header).to_string()),
            }));
        } else if let Some(name) = named(words).filter(|_| words.starts_with("struct ") && !line.ends_with('(')) {
            blocks.extend(opens(Block::Struct(name.to_string())));
        } else if words.starts_with("macro_rules!") || words.starts_with("macro ") {
            blocks.extend(opens(Block::Macro));
        }
        let Some(name) = named(words) else { continue };
        match &within {
            Some(Block::Type(owner)) => note(format!("{owner}::{name}"), visible == Some(true), private, public),
            Some(Block::Trait(Some(owner))) => note(format!("{owner}::{name}"), true, private, public),
            Some(Block::Trait(None)) => note(name.to_string(), true, private, public),
            _ => note(name.to_string(), visible == Some(true), private, public),
        }
    }
}

/// Behind `impl` and its types.
fn impl_header(words: &str) -> Option<&str> {
    let rest = words.strip_prefix("impl")?;
    let mut depth = 0usize;
    let end = rest.char_indices().find(|(_, c)| {
        match c {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0
    });
    match rest.chars().next()? {
        '<' => Some(rest[end?.0 + 1..].trim_start()),
        ' ' => Some(rest.trim_start()),
        _ => None, // implements
    }
}

fn note(name: String, is_public: bool, private: &mut BTreeSet<String>, public: &mut HashSet<String>) {
    if is_public {
        public.insert(name);
    } else {
        private.insert(name);
    }
}

/// Whether a visibility is written, and which; what stands behind it.
fn visibility(line: &str) -> (Option<bool>, &str) {
    if let Some(behind) = line.strip_prefix("pub ") {
        return (Some(true), behind);
    }
    match line.strip_prefix("pub(").and_then(|behind| behind.split_once(") ")) {
        Some((_, behind)) => (Some(false), behind),
        None => (None, line),
    }
}

/// The name of the item that begins here.
fn named(words: &str) -> Option<&str> {
    let mut rest = words;
    for before in ["const ", "async ", "unsafe ", "extern \"C\" ", "extern \"Rust\" "] {
        if rest.starts_with("const ") && !rest.contains("fn ") {
            break;
        }
        rest = rest.strip_prefix(before).unwrap_or(rest);
    }
    let kinds = ["fn ", "struct ", "enum ", "mod ", "const ", "static ", "type ", "trait ", "union "];
    let behind = kinds.iter().find_map(|kind| rest.strip_prefix(kind))?;
    behind.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().filter(|name| !name.is_empty())
}

fn is_name(text: &str) -> bool {
    !begins_large(text) && !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// The names of a cell that defines something: a reader's own, whatever a library calls private.
pub fn own(cell: &str) -> impl Iterator<Item = String> {
    let code = Code::new(cell);
    let defines =
        (0..code.tokens.len()).any(|i| ["fn", "struct", "enum", "trait", "mod", "const", "static", "type"].contains(&code.word(i)));
    let names: Vec<String> = (0..code.tokens.len()).filter(|i| defines && code.is_name(*i)).map(|i| code.word(i).to_string()).collect();
    names.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_never_public_is_hidden() {
        let folder = std::env::temp_dir().join(format!("lafter-kernel-private-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("src/inner")).unwrap();
        let text = "
pub trait Backend {
    fn zeros_impl(&self);
}
impl<'a, T: Into<&'a str>> Tensor {
    pub fn zeros(n: usize) -> Self {
    }
    pub(crate) fn zeros_impl() {}
    fn helper() {}
    pub const fn len() {}
}
impl Module for Tensor {
    fn forward(&self) {}
}
struct P {
    pub width: f32,
    height: f32,
}
pub struct Q<T>
where
    T: Copy,
{
    width: T,
}
macro_rules! m {
    () => {
        fn made() {}
    };
}
mod inner;
pub mod open;
const fn hidden() {}
fn both() {}
";
        std::fs::write(folder.join("src/lib.rs"), text).unwrap();
        std::fs::write(folder.join("src/inner/mod.rs"), "pub fn both() {}\n").unwrap();
        let found = collect(&[folder.join("src")]);
        assert_eq!(
            found.lines().collect::<Vec<_>>(),
            [".height", "P", "P.height", "Q.width", "Tensor::helper", "Tensor::zeros_impl", "hidden", "inner"]
        );
        let private = Private(found.lines().map(String::from).collect());
        let value = |name: &str| Of::Value(Some(name.to_string()));
        let path = |name: &str| Of::Path(Some(name.to_string()));
        let of = [path("Tensor"), value("Tensor")];
        assert!(of.iter().all(|of| private.hides("zeros_impl", "function", of) && !private.hides("zeros", "function", of)));
        assert!(private.hides("width", "instance", &value("Q")) && !private.hides("width", "instance", &value("P")));
        assert!(private.hides("height", "instance", &Of::Value(None)) && !private.hides("height", "instance", &Of::Path(None)));
        assert!(private.hides("inner", "module", &path("lib")) && !private.hides("open", "module", &Of::Path(None)));
        assert!(!private.hides("zeros_impl", "function", &Of::Value(None)));
        assert_eq!(type_name("candle_core::Tensor"), "Tensor");
        assert_eq!(type_name("Vec<std::string::String>"), "Vec");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_readers_own_names_are_never_hidden() {
        assert!(own("struct P { height: f32 }").any(|name| name == "height"));
        assert_eq!(own("height + 1").count(), 0);
    }
}
