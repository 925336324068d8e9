//! What outlives the cells' process: values that `%keep` wrote, and the cells that `%again` runs.

use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::lexer::Code;
use crate::shapes;

/// The types that `lafter::notebook::Keep` writes, by the names that stand in a variable's type.
const WRITTEN: [&str; 24] = [
    "u8",
    "u16",
    "u32",
    "u64",
    "u128",
    "usize",
    "i8",
    "i16",
    "i32",
    "i64",
    "i128",
    "isize",
    "f32",
    "f64",
    "bool",
    "char",
    "String",
    "Tensor",
    "Vec",
    "Option",
    "HashMap",
    "BTreeMap",
    "RandomState",
    "RgbImage",
];

/// A variable: its name and its type.
pub type Variable = (String, String);

/// The values of a session that were kept, and the cells that made its variables.
pub struct Kept {
    folder: PathBuf,
    /// How often `%keep` was asked for: each time writes into a folder of its own, so that one that fails spoils nothing.
    count: usize,
    /// What is kept, and in which file.
    values: Vec<(Variable, PathBuf)>,
    /// Cells that ran to their end, in order, and the variables that each made or named.
    cells: Vec<(String, Vec<String>)>,
    /// What `%again` would run.
    pub again: Vec<String>,
}

impl Kept {
    pub fn new(session: &Path) -> Self {
        Self { folder: session.join("kept"), count: 0, values: Vec::new(), cells: Vec::new(), again: Vec::new() }
    }

    /// The code that writes the named variables, or all that can be written, and what it writes where.
    ///
    /// # Errors
    /// If one is no variable, or of a type that cannot be written.
    pub fn writing(&mut self, names: &[String], all: &[Variable]) -> Result<(String, Vec<(Variable, PathBuf)>), Failure> {
        let refuse = |why: String| Failure::new("Error", why);
        let mut chosen = Vec::new();
        for name in names {
            let Some(variable) = all.iter().find(|(known, _)| known == name) else {
                return Err(refuse(format!("{name} is no variable; %vars lists them")));
            };
            if !can_be_written(&variable.1) {
                let what = "tensors, pictures, numbers, texts and collections of them can; %again makes others anew";
                return Err(refuse(format!("{name} is a {}, which cannot be kept: {what}", variable.1)));
            }
            chosen.push(variable.clone());
        }
        if names.is_empty() {
            chosen = all.iter().filter(|(_, kind)| can_be_written(kind)).cloned().collect();
        }
        self.count += 1;
        let folder = self.folder.join(self.count.to_string());
        std::fs::create_dir_all(&folder).map_err(|error| refuse(format!("{}: {error}", folder.display())))?;
        let values: Vec<_> = chosen.into_iter().map(|variable| (variable.clone(), folder.join(variable.0))).collect();
        let line = |((name, _), path): &(Variable, PathBuf)| format!("lafter::notebook::keep(&{name}, {path:?})?;\n");
        Ok((values.iter().map(line).collect(), values))
    }

    /// After [`Self::writing`]'s code ran: how many bytes were written.
    pub fn written(&mut self, values: Vec<(Variable, PathBuf)>) -> u64 {
        let (old, stay): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.values).into_iter().partition(|((name, _), _)| values.iter().any(|((new, _), _)| new == name));
        old.iter().for_each(|(_, path)| drop(std::fs::remove_file(path)));
        let bytes = values.iter().filter_map(|(_, path)| Some(path.metadata().ok()?.len())).sum();
        self.values = stay.into_iter().chain(values).collect();
        bytes
    }

    /// The code that reads what was kept of variables that are gone.
    pub fn reading(&self, lost: &[Variable]) -> (String, Vec<String>) {
        let values: Vec<_> = self.values.iter().filter(|((name, _), _)| lost.iter().any(|(gone, _)| gone == name)).collect();
        let line = |((name, kind), path): &&(Variable, PathBuf)| format!("let mut {name}: {kind} = lafter::notebook::kept({path:?})?;\n");
        (values.iter().map(line).collect(), values.iter().map(|((name, _), _)| name.clone()).collect())
    }

    /// After a cell that ran to its end. Whether a cell that names a variable changes it cannot be known: `x.step()` may.
    pub fn ran(&mut self, cell: &str, before: &[Variable], after: &[Variable]) {
        let code = Code::new(cell);
        let names = |name: &String| (0..code.tokens.len()).any(|at| code.word(at) == name);
        let is_new = |name: &String| !before.iter().any(|(known, _)| known == name);
        let names: Vec<String> = after.iter().map(|(name, _)| name.clone()).filter(|name| is_new(name) || names(name)).collect();
        let cell = shapes::without_crates(cell); // they stay
        match self.cells.iter_mut().find(|(other, _)| *other == cell) {
            Some((_, known)) => *known = names,
            None if names.is_empty() => {}
            None => self.cells.push((cell, names)),
        }
    }

    /// After variables were lost: what `%again` will run.
    pub fn lose(&mut self, lost: &[String]) {
        let makes = |names: &Vec<String>| names.iter().any(|name| lost.contains(name));
        self.again = self.cells.iter().filter(|(_, names)| makes(names)).map(|(code, _)| code.clone()).collect();
    }

    /// After variables were dropped because types were defined anew: a cell with the old definition would bring that back. How many
    /// cells `%again` will run.
    pub fn drop(&mut self, lost: &[String], anew: &[String]) -> usize {
        self.cells.retain(|(cell, _)| !shapes::defines(cell, anew));
        self.lose(lost);
        self.again.len()
    }
}

/// Whether each name in a type is of one that `Keep` writes.
fn can_be_written(kind: &str) -> bool {
    let mut words = kind.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).filter(|word| !word.is_empty());
    let last = |word: &str| word.rsplit(':').next().unwrap_or("").to_string();
    let known = |word: &str| WRITTEN.contains(&last(word).as_str()) || word.chars().all(|c| c.is_ascii_digit());
    kind != "()" && !kind.contains(['&', '*']) && words.all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str, kind: &str) -> Variable {
        (name.into(), kind.into())
    }

    #[test]
    fn types_are_known_by_all_their_names() {
        for kind in ["f32", "candle_core::Tensor", "std::vec::Vec<(String, [f32; 3])>", "HashMap<u8, Option<bool>>"] {
            assert!(can_be_written(kind), "{kind}");
        }
        for kind in ["&str", "Clip", "Vec<Clip>", "()", "Dataset", "fn(f32) -> f32"] {
            assert!(!can_be_written(kind), "{kind}");
        }
    }

    #[test]
    fn cells_are_run_again_that_made_or_named_what_is_lost() {
        let mut kept = Kept::new(Path::new("/nowhere"));
        let (x, y) = (variable("x", "i32"), variable("y", "Clip"));
        kept.ran("let mut x = 1;", &[], std::slice::from_ref(&x));
        kept.ran("let y = Clip::demo()?;", std::slice::from_ref(&x), &[x.clone(), y.clone()]);
        kept.ran("x += 1;", &[x.clone(), y.clone()], &[x.clone(), y.clone()]);
        kept.ran("1 + 1", &[x.clone(), y.clone()], &[x.clone(), y.clone()]);
        kept.ran("let mut x = 1;", &[x.clone(), y.clone()], &[x.clone(), y]);
        kept.lose(&["x".into()]);
        assert_eq!(kept.again, ["let mut x = 1;", "x += 1;"]);
        kept.written(vec![(x.clone(), "/nowhere/kept/1/x".into())]);
        let (code, names) = kept.reading(&[x]);
        assert_eq!((code.as_str(), names), ("let mut x: i32 = lafter::notebook::kept(\"/nowhere/kept/1/x\")?;\n", vec!["x".to_string()]));
    }

    #[test]
    fn what_cannot_be_written_is_refused_by_its_name() {
        let folder = std::env::temp_dir().join(format!("lafter-kernel-keep-{}", std::process::id()));
        let mut kept = Kept::new(&folder);
        let all = [variable("clip", "Clip"), variable("n", "usize")];
        let error = kept.writing(&["clip".into()], &all).unwrap_err();
        assert!(error.lines[0].contains("clip is a Clip"), "{:?}", error.lines);
        assert!(kept.writing(&["m".into()], &all).unwrap_err().lines[0].contains("no variable"));
        let (code, values) = kept.writing(&[], &all).unwrap();
        assert!(code.starts_with("lafter::notebook::keep(&n, ") && values.len() == 1 && values[0].0 == variable("n", "usize"), "{code}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
