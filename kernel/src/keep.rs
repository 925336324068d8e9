//! What outlives the cells' process: values that `%keep` wrote, and the cells that `%again` runs.

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::lexer::{Code, Kind};
use crate::shapes;

/// The types that `lafter::notebook::Keep` writes, by the names that stand in a variable's type.
const WRITTEN: [&str; 25] = [
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
    "Dataset",
];

/// The most members of a tuple that it writes.
const MEMBERS: usize = 4;

/// A variable: its name and its type.
pub type Variable = (String, String);

/// The values of a session that were kept, and the cells that made its variables.
#[derive(Default)]
pub struct Kept {
    folder: PathBuf,
    /// How often `%keep` was asked for: each time writes into a folder of its own, so that one that fails spoils nothing.
    count: usize,
    /// What is kept, and in which file.
    values: Vec<(Variable, PathBuf)>,
    /// Cells that ran to their end, each time that they did, in order; without those whose variables were made anew since.
    cells: Vec<Ran>,
    /// What `%again` would run.
    pub again: Vec<String>,
    /// Variables that were lost, as long as no cell has run since.
    lost: HashSet<String>,
    /// Whether cells of `%again` run: what is kept stays.
    repeats: bool,
    /// Variables that cells named which failed: what these changed is not repeated.
    failed: HashSet<String>,
}

/// One run of a cell.
#[derive(Clone)]
struct Ran {
    code: String,
    /// Variables that it made or named.
    names: Vec<String>,
    /// Those of them that it made without their values of before.
    made: Vec<String>,
    /// Variables of before that it named.
    needs: Vec<String>,
}

impl Kept {
    pub fn new(session: &Path) -> Self {
        Self { folder: session.join("kept"), ..Self::default() }
    }

    /// The code that writes the named variables, or all that can be written, and what it writes where. `own` are the names that the
    /// session defines itself.
    ///
    /// # Errors
    /// If one is no variable, or of a type that cannot be written.
    pub fn writing(
        &mut self,
        names: &[String],
        all: &[Variable],
        own: &HashSet<String>,
    ) -> Result<(String, Vec<(Variable, PathBuf)>), Failure> {
        let can_be_written = |kind: &str| can_be_written(kind, own);
        let refuse = |why: String| Failure::new("Error", why);
        let mut chosen = Vec::new();
        for name in names {
            let Some(variable) = all.iter().find(|(known, _)| known == name) else {
                return Err(refuse(format!("{name} is no variable; %vars lists them")));
            };
            if !can_be_written(&variable.1) {
                let what = "tensors, pictures, data sets, numbers, texts and collections of them can; %again makes others anew";
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
        let line = |((name, _), path): &(Variable, PathBuf)| match names.is_empty() {
            // one that is too large does not stop the others
            true => format!("if let Err(e) = lafter::notebook::keep(&{name}, {path:?}) {{ eprintln!(\"{name} is not kept: {{e}}\") }}\n"),
            false => format!("lafter::notebook::keep(&{name}, {path:?})?;\n"),
        };
        Ok((values.iter().map(line).collect(), values))
    }

    /// After [`Self::writing`]'s code ran: what was written, and how many bytes.
    pub fn written(&mut self, mut values: Vec<(Variable, PathBuf)>) -> (Vec<Variable>, u64) {
        values.retain(|(_, path)| path.is_file());
        let variables = values.iter().map(|(variable, _)| variable.clone()).collect();
        self.remove(|name| values.iter().any(|((new, _), _)| new == name));
        let bytes = values.iter().filter_map(|(_, path)| Some(path.metadata().ok()?.len())).sum();
        self.values.extend(values);
        (variables, bytes)
    }

    /// Removes what was written of some names.
    fn remove(&mut self, is: impl Fn(&str) -> bool) {
        let (old, stay): (Vec<_>, Vec<_>) = std::mem::take(&mut self.values).into_iter().partition(|((name, _), _)| is(name));
        old.iter().for_each(|(_, path)| drop(std::fs::remove_file(path)));
        self.values = stay;
    }

    /// The code that reads what was kept of variables that are gone; a value of another type is an older one's.
    pub fn reading(&self, lost: &[Variable]) -> (String, Vec<String>) {
        let values: Vec<_> = self.values.iter().filter(|(variable, _)| lost.contains(variable)).collect();
        let line = |((name, kind), path): &&(Variable, PathBuf)| format!("let mut {name}: {kind} = lafter::notebook::kept({path:?})?;\n");
        (values.iter().map(line).collect(), values.iter().map(|((name, _), _)| name.clone()).collect())
    }

    /// Kept variables that are there, and that the cells of `%again` name.
    pub fn in_the_way(&self, all: &[Variable]) -> Vec<String> {
        let cells: Vec<Code> = self.again.iter().map(|cell| Code::new(cell)).collect();
        let named = |name: &str| cells.iter().any(|code| mentions(code, 0..code.tokens.len(), name));
        let is = |variable: &&Variable| self.values.iter().any(|(kept, _)| kept == *variable) && named(&variable.0);
        all.iter().filter(is).map(|(name, _)| name.clone()).collect()
    }

    /// Those that were lost before these.
    pub fn earlier(&self, lost: &[String]) -> Vec<String> {
        let mut earlier: Vec<String> = self.lost.iter().filter(|name| !lost.contains(name)).cloned().collect();
        earlier.sort();
        earlier
    }

    /// Around the cells of `%again`.
    pub fn repeats(&mut self, repeats: bool) {
        self.repeats = repeats;
    }

    /// What was lost is not asked for any more.
    pub fn forget(&mut self) {
        self.again.clear();
        self.lost.clear();
    }

    /// The session begins anew; what is kept stays on disk, for a variable of its name and type.
    pub fn clear(&mut self) {
        self.forget();
        self.cells.clear();
        self.failed.clear();
    }

    /// After a cell that ran to its end. Whether a cell that names a variable changes it cannot be known: `x.step()` may.
    pub fn ran(&mut self, cell: &str, before: &[Variable], after: &[Variable]) {
        let code = Code::new(cell);
        let is_new = |name: &str| !before.iter().any(|(known, _)| known == name);
        let all = |of: &[Variable], is: &dyn Fn(&str) -> bool| of.iter().map(|(name, _)| name.clone()).filter(|name| is(name)).collect();
        self.lost.clear();
        let names: Vec<String> = all(after, &|name| is_new(name) || mentions(&code, 0..code.tokens.len(), name));
        if names.is_empty() {
            return;
        }
        let made: Vec<String> = all(after, &|name| is_new(name) || makes(&code, name));
        let needs = all(before, &|name| !made.iter().any(|other| other == name) && reads(&code, 0..code.tokens.len(), name));
        self.failed.retain(|name| !made.contains(name));
        if !self.repeats {
            self.remove(|name| made.iter().any(|other| other == name)); // an older variable's
        }
        self.cells.push(Ran { code: shapes::without_crates(cell), names, made, needs }); // the crates stay
        let used = self.making(after.iter().map(|(name, _)| name.clone()).collect(), &[]);
        self.cells = used.into_iter().map(|at| self.cells[at].clone()).collect();
    }

    /// After a cell that ran and failed.
    pub fn failed(&mut self, cell: &str, before: &[Variable]) {
        let code = Code::new(cell);
        let named = before.iter().filter(|(name, _)| mentions(&code, 0..code.tokens.len(), name));
        self.failed.extend(named.map(|(name, _)| name.clone()));
    }

    /// Those of the variables that such a cell named.
    pub fn unsure(&self, lost: &[String]) -> Vec<String> {
        lost.iter().filter(|name| self.failed.contains(*name)).cloned().collect()
    }

    /// The cells that made or named these variables, or what those were made of, as far as it is not there.
    fn making(&self, mut names: HashSet<String>, there: &[Variable]) -> Vec<usize> {
        let mut used = Vec::new();
        for (at, cell) in self.cells.iter().enumerate().rev() {
            if cell.names.iter().any(|name| names.contains(name)) {
                used.push(at);
                names.retain(|name| !cell.made.contains(name));
                names.extend(cell.needs.iter().filter(|name| !there.iter().any(|(known, _)| known == *name)).cloned());
            }
        }
        used.reverse();
        used
    }

    /// After variables were lost, and those that are still there: what `%again` will run.
    pub fn lose(&mut self, lost: &[String], there: &[Variable]) {
        self.lost.extend(lost.iter().cloned());
        self.lost.retain(|name| !there.iter().any(|(known, _)| known == name));
        self.again = self.making(self.lost.clone(), there).into_iter().map(|at| self.cells[at].code.clone()).collect();
    }

    /// After variables were dropped because types were defined anew: a cell with the old definition would bring that back. How many
    /// cells `%again` will run.
    pub fn drop(&mut self, lost: &[String], anew: &[String], there: &[Variable]) -> usize {
        self.cells.retain(|cell| !shapes::defines(&cell.code, anew));
        self.lose(lost, there);
        self.again.len()
    }
}

/// Whether a variable stands in a part of a cell.
fn mentions(code: &Code, mut part: Range<usize>, name: &str) -> bool {
    part.any(|at| code.word(at) == name)
}

/// The same, or in a text: `println!("{x}")`.
fn reads(code: &Code, part: Range<usize>, name: &str) -> bool {
    let shown = [":", "}"].map(|end| format!("{{{name}{end}"));
    let shows = |at: usize| code.tokens[at].kind == Kind::Text && shown.iter().any(|text| code.word(at).contains(text));
    mentions(code, part.clone(), name) || part.into_iter().any(shows)
}

/// Whether a cell makes a variable by a `let` of its own level, and did not look at its value of before.
fn makes(code: &Code, name: &str) -> bool {
    let mut i = 0;
    while i < code.tokens.len() {
        // no `if let`
        if code.word(i) == "let" && (i == 0 || [";", "}", "]"].contains(&code.word(i - 1))) {
            let end = code.at_top(i, &[';']).unwrap_or(code.tokens.len());
            let value = code.at_top(i, &['=', ';']).unwrap_or(end);
            if mentions(code, i + 1..value, name) {
                return !reads(code, 0..i, name) && !reads(code, value..end, name);
            }
        }
        i = if ["(", "[", "{"].contains(&code.word(i)) { code.close(i).unwrap_or(code.tokens.len()) } else { i } + 1;
    }
    false
}

/// Whether each name in a type is of one that `Keep` writes, not one of the reader's `own`, and each tuple, too.
fn can_be_written(kind: &str, own: &HashSet<String>) -> bool {
    let mut words = kind.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).filter(|word| !word.is_empty());
    let last = |word: &str| word.rsplit(':').next().unwrap_or("").to_string();
    let known = |word: &str| {
        let name = last(word);
        WRITTEN.contains(&name.as_str()) && !own.contains(&name) || word.chars().all(|c| c.is_ascii_digit())
    };
    !kind.contains(['&', '*']) && words.all(known) && tuples_can(kind)
}

fn tuples_can(kind: &str) -> bool {
    let mut members = Vec::new(); // of each open bracket
    let mut before = ' ';
    for c in kind.chars().filter(|c| !c.is_whitespace()) {
        match c {
            '(' | '[' | '<' => members.push(1),
            ')' | ']' | '>' => {
                let count = members.pop().unwrap_or(0);
                if c == ')' && (before == '(' || count > MEMBERS) {
                    return false;
                }
            }
            ',' => members.iter_mut().last().into_iter().for_each(|count| *count += 1),
            _ => {}
        }
        before = c;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str, kind: &str) -> Variable {
        (name.into(), kind.into())
    }

    #[test]
    fn types_are_known_by_all_their_names() {
        for kind in [
            "f32",
            "candle_core::Tensor",
            "std::vec::Vec<(String, [f32; 3])>",
            "HashMap<u8, Option<bool>>",
            "(lafter::data::Dataset, Dataset)",
            "(u8, (i32,), HashMap<u8, f32>, Vec<(u8, u8, u8, u8)>)",
        ] {
            assert!(can_be_written(kind, &HashSet::new()), "{kind}");
        }
        for kind in ["&str", "Clip", "Vec<Clip>", "()", "fn(f32) -> f32", "Vec<()>", "(u8, ())", "Vec<(u8, u8, u8, u8, u8)>"] {
            assert!(!can_be_written(kind, &HashSet::new()), "{kind}");
        }
        assert!(!can_be_written("Vec<Dataset>", &HashSet::from(["Dataset".into()])), "the reader's own");
    }

    /// What `%again` runs after these cells, each with the variables that there are after it; all are lost but `there`.
    fn again(cells: &[(&str, &str)], there: &str) -> Vec<String> {
        let variables = |names: &str| names.split_whitespace().map(|name| variable(name, "i32")).collect::<Vec<_>>();
        let (mut kept, mut before) = (Kept::new(Path::new("/nowhere")), String::new());
        for (cell, after) in cells {
            kept.ran(cell, &variables(&before), &variables(after));
            before = after.to_string();
        }
        let lost: Vec<String> = before.split_whitespace().filter(|name| !there.contains(name)).map(String::from).collect();
        kept.lose(&lost, &variables(there));
        kept.again
    }

    #[test]
    fn each_run_of_a_cell_is_repeated_in_its_order() {
        let cells = [("let mut n = 0;", "n"), ("n += 1;", "n"), ("n += 1;", "n"), ("1 + 1", "n"), ("n += 1;", "n")];
        assert_eq!(again(&cells, ""), ["let mut n = 0;", "n += 1;", "n += 1;", "n += 1;"]);
        // made anew by the first cell, after all
        assert_eq!(again(&[&cells[..], &[("let mut n = 0;", "n")]].concat(), ""), ["let mut n = 0;"]);
        // but not by one that looks at the old value
        for anew in
            ["let n = n + 1;", "f(n); let n = 1;", "println!(\"{n:?}\"); let n = 1;", "let n = { n };", "if let Some(n) = f() { n }"]
        {
            assert_eq!(again(&[&cells[..2], &[(anew, "n")]].concat(), ""), ["let mut n = 0;", "n += 1;", anew]);
        }
    }

    #[test]
    fn cells_are_run_again_that_made_or_named_what_is_lost() {
        let cells = [("let x = 1;", "x"), ("let y = x + 1;", "x y"), ("let (x, z) = (5, 6);", "x y z")];
        assert_eq!(again(&cells, ""), cells.map(|(cell, _)| cell));
        assert_eq!(again(&cells, "x y"), ["let (x, z) = (5, 6);"]);
        assert_eq!(again(&cells, "x z"), ["let y = x + 1;"], "of what is there");
        // what a cell took
        let cells = [("let v = vec![1];", "v"), ("let m = v.into_iter().sum::<i32>();", "m"), ("drop(1);", "m")];
        assert_eq!(again(&cells, ""), ["let v = vec![1];", "let m = v.into_iter().sum::<i32>();"]);
        let mut kept = Kept::new(Path::new("/nowhere"));
        let file = std::env::temp_dir().join(format!("lafter-kernel-kept-{}", std::process::id()));
        std::fs::write(&file, "1").unwrap();
        let (variables, bytes) =
            kept.written(vec![(variable("x", "i32"), file.clone()), (variable("large", "Dataset"), "/nowhere/large".into())]);
        assert_eq!((variables, bytes), (vec![variable("x", "i32")], 1), "what was not written is not kept");
        let (code, names) = kept.reading(&[variable("x", "i32"), variable("large", "Dataset")]);
        assert_eq!((code, names), (format!("let mut x: i32 = lafter::notebook::kept({file:?})?;\n"), vec!["x".to_string()]));
        assert!(kept.reading(&[variable("x", "String")]).1.is_empty(), "an older variable of the name");
        kept.again = vec!["let x = 1; let y = x;".into()];
        assert_eq!(kept.in_the_way(&[variable("x", "i32"), variable("y", "i32")]), ["x"], "what is kept, and there");
        kept.failed("x += 1; f()?", &[variable("x", "i32"), variable("y", "i32")]);
        assert_eq!(kept.unsure(&["x".into(), "y".into()]), ["x"]);
        kept.ran("let x = 2;", &[variable("x", "i32")], &[variable("x", "i32")]);
        assert!(kept.unsure(&["x".into()]).is_empty(), "made anew");
        assert!(!file.exists() && kept.reading(&[variable("x", "i32")]).1.is_empty(), "the kept value is another variable's");
    }

    #[test]
    fn what_was_lost_before_is_made_again_with_what_is_lost_now() {
        let mut kept = Kept::new(Path::new("/nowhere"));
        let [a, b] = ["a", "b"].map(|name| variable(name, "i32"));
        kept.ran("let a = 1;", &[], std::slice::from_ref(&a));
        kept.ran("let b = 2;", std::slice::from_ref(&a), &[a.clone(), b.clone()]);
        kept.lose(&["a".into()], std::slice::from_ref(&b));
        kept.lose(&["b".into()], &[]);
        assert_eq!((kept.again.clone(), kept.earlier(&["b".into()])), (vec!["let a = 1;".into(), "let b = 2;".into()], vec!["a".into()]));
        // not what a reader went on without
        kept.ran("let c = 3;", &[], &[variable("c", "i32")]);
        kept.lose(&["c".into()], &[]);
        assert_eq!((kept.again.clone(), kept.earlier(&["c".into()])), (vec!["let c = 3;".to_string()], vec![]));
        kept.forget();
        kept.lose(&[], &[]);
        assert!(kept.again.is_empty() && kept.earlier(&[]).is_empty());
    }

    #[test]
    fn what_cannot_be_written_is_refused_by_its_name() {
        let folder = std::env::temp_dir().join(format!("lafter-kernel-keep-{}", std::process::id()));
        let mut kept = Kept::new(&folder);
        let (all, own) = ([variable("clip", "Clip"), variable("n", "usize")], HashSet::new());
        let error = kept.writing(&["clip".into()], &all, &own).unwrap_err();
        assert!(error.lines[0].contains("clip is a Clip"), "{:?}", error.lines);
        assert!(kept.writing(&["m".into()], &all, &own).unwrap_err().lines[0].contains("no variable"));
        let (code, values) = kept.writing(&[], &all, &own).unwrap();
        assert!(code.starts_with("if let Err(e) = lafter::notebook::keep(&n, "), "{code}");
        assert!(values.len() == 1 && values[0].0 == variable("n", "usize"));
        assert!(kept.writing(&["n".into()], &all, &own).unwrap().0.starts_with("lafter::notebook::keep(&n, "));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
