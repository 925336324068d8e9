//! What can be completed while a cell runs, when the analyzer is not free: names.

/// Keywords that begin something.
const KEYWORDS: [&str; 33] = [
    "as", "async", "await", "break", "const", "continue", "crate", "dyn", "else", "enum", "false", "fn", "for", "if", "impl", "in", "let",
    "loop", "match", "mod", "move", "mut", "pub", "ref", "return", "static", "struct", "trait", "true", "type", "unsafe", "use", "while",
];

/// The names that are in scope.
#[derive(Default)]
pub struct Known {
    variables: Vec<(String, String)>,
    items: Vec<String>,
    /// What every cell finds in scope.
    scope: Vec<Name>,
}

/// A name, and what it is.
pub type Name = (String, String);

impl Known {
    /// After a cell.
    pub fn learn(&mut self, variables: Vec<(String, String)>, items: Vec<String>) {
        (self.variables, self.items) = (variables, items);
    }

    /// What the analyzer offers where a statement begins.
    pub fn in_scope(&mut self, names: Vec<Name>) {
        self.scope = names;
    }

    /// Names that begin with `word`: variables first.
    pub fn names(&self, word: &str) -> Vec<Name> {
        let of = |name: &str, kind: &str| (name.to_string(), kind.to_string());
        let variables = self.variables.iter().map(|(name, _)| of(name, "instance"));
        let items = self.items.iter().map(|name| of(name, "function"));
        let all = variables.chain(items).chain(self.scope.iter().cloned()).chain(KEYWORDS.map(|name| of(name, "keyword")));
        let mut seen = std::collections::HashSet::new();
        all.filter(|(name, _)| name.starts_with(word) && seen.insert(name.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_come_first_and_each_name_once() {
        let mut known = Known::default();
        known.learn(vec![("loss".into(), "f32".into())], vec!["load".into(), "loss".into()]);
        known.in_scope(vec![("load_all".into(), "function".into()), ("loss".into(), "function".into())]);
        let names: Vec<String> = known.names("lo").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["loss", "load", "load_all", "loop"]);
    }
}
