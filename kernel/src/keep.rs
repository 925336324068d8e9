//! What outlives the cells' process: values that `%keep` wrote, and the cells that `%again` runs.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::lexer::{Code, Kind};

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
    values: Vec<Variable>,
    /// Cells that ran to their end and the variables that they made, in order.
    cells: Vec<(String, Vec<String>)>,
    /// What `%again` would run.
    pub again: Vec<String>,
}

impl Kept {
    pub fn new(session: &Path) -> Self {
        Self { folder: session.join("kept"), values: Vec::new(), cells: Vec::new(), again: Vec::new() }
    }

    /// The code that writes the named variables, or all that can be written, and which these are.
    ///
    /// # Errors
    /// If one is no variable, or of a type that cannot be written.
    pub fn writing(&self, names: &[String], all: &[Variable]) -> Result<(String, Vec<Variable>), Failure> {
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
        std::fs::create_dir_all(&self.folder).map_err(|error| refuse(format!("{}: {error}", self.folder.display())))?;
        let line = |(name, _): &Variable| format!("lafter::notebook::keep(&{name}, {:?})?;\n", self.folder.join(name));
        Ok((chosen.iter().map(line).collect(), chosen))
    }

    /// After [`Self::writing`]'s code ran.
    pub fn written(&mut self, values: Vec<Variable>) {
        self.values.retain(|(name, _)| !values.iter().any(|(new, _)| new == name));
        self.values.extend(values);
    }

    /// How many bytes they have.
    pub fn size(&self, values: &[Variable]) -> u64 {
        values.iter().filter_map(|(name, _)| Some(self.folder.join(name).metadata().ok()?.len())).sum()
    }

    /// The code that reads what was kept of variables that are gone.
    pub fn reading(&self, lost: &[Variable]) -> (String, Vec<String>) {
        let values: Vec<&Variable> = self.values.iter().filter(|(name, _)| lost.iter().any(|(gone, _)| gone == name)).collect();
        let line = |(name, kind): &&Variable| format!("let mut {name}: {kind} = lafter::notebook::kept({:?})?;\n", self.folder.join(name));
        (values.iter().map(line).collect(), values.iter().map(|(name, _)| name.clone()).collect())
    }

    /// After a cell that ran to its end: the variables that it made.
    pub fn ran(&mut self, code: &str, before: &[Variable], after: &[Variable]) {
        let bound = bound(code);
        let is_new = |name: &String| bound.contains(name) || !before.iter().any(|(known, _)| known == name);
        let made: Vec<String> = after.iter().map(|(name, _)| name.clone()).filter(is_new).collect();
        self.cells.retain(|(other, _)| other != code);
        if !made.is_empty() {
            self.cells.push((code.to_string(), made));
        }
    }

    /// After variables were lost: what `%again` will run.
    pub fn lose(&mut self, lost: &[String]) {
        let makes = |names: &Vec<String>| names.iter().any(|name| lost.contains(name));
        self.again = self.cells.iter().filter(|(_, names)| makes(names)).map(|(code, _)| code.clone()).collect();
    }
}

/// Whether each name in a type is of one that `Keep` writes.
fn can_be_written(kind: &str) -> bool {
    let words = kind.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).filter(|word| !word.is_empty());
    let last = |word: &str| word.rsplit(':').next().unwrap_or("").to_string();
    let known = |word: &str| WRITTEN.contains(&last(word).as_str()) || word.chars().all(|c| c.is_ascii_digit());
    kind != "()" && !kind.contains(['&', '*']) && words.map(known).fold(true, |all, one| all && one)
}

/// The names that a cell binds by `let`.
fn bound(cell: &str) -> HashSet<String> {
    let code = Code::new(cell);
    let lets = (0..code.tokens.len()).filter(|i| code.word(*i) == "let");
    let until = |from: usize| (from..code.tokens.len()).take_while(|at| !["=", ";"].contains(&code.word(*at)));
    lets.flat_map(|at| until(at + 1).filter(|at| code.tokens[*at].kind == Kind::Word).map(|at| code.word(at).to_string())).collect()
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
    fn cells_are_run_again_for_what_they_made() {
        let mut kept = Kept::new(Path::new("/nowhere"));
        let (x, y) = (variable("x", "i32"), variable("y", "Clip"));
        kept.ran("let x = 1;", &[], std::slice::from_ref(&x));
        kept.ran("x + 1", std::slice::from_ref(&x), std::slice::from_ref(&x));
        kept.ran("let y = Clip::demo()?;", std::slice::from_ref(&x), &[x.clone(), y.clone()]);
        kept.ran("let (mut x, z) = (2, 3);", &[x.clone(), y.clone()], &[x.clone(), y]);
        kept.lose(&["x".into()]);
        assert_eq!(kept.again, ["let x = 1;", "let (mut x, z) = (2, 3);"]);
        kept.written(vec![x.clone()]);
        let (code, names) = kept.reading(&[x]);
        assert_eq!((code.as_str(), names), ("let mut x: i32 = lafter::notebook::kept(\"/nowhere/kept/x\")?;\n", vec!["x".to_string()]));
    }

    #[test]
    fn what_cannot_be_written_is_refused_by_its_name() {
        let kept = Kept::new(&std::env::temp_dir());
        let all = [variable("clip", "Clip"), variable("n", "usize")];
        let error = kept.writing(&["clip".into()], &all).unwrap_err();
        assert!(error.lines[0].contains("clip is a Clip"), "{:?}", error.lines);
        assert!(kept.writing(&["m".into()], &all).unwrap_err().lines[0].contains("no variable"));
        assert_eq!(kept.writing(&[], &all).unwrap().1, [variable("n", "usize")]);
    }
}
