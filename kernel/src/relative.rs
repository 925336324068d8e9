//! Files that a cell names for the compiler: it looks for them where the generated file is, not where the cells are.

use std::path::Path;

use crate::lexer::{Code, Kind};

/// The cells' folder for each relative path in an `include!`, `include_str!`, `include_bytes!` or `#[path = …]`, and the byte before which
/// it is to stand.
pub fn folders(cell: &str, folder: &Path) -> Vec<(usize, String)> {
    let code = Code::new(cell);
    let Some(folder) = folder.to_str().filter(|folder| folder.starts_with('/')) else { return vec![] };
    let included = |i: usize| ["include", "include_str", "include_bytes"].contains(&code.word(i)) && code.is_mark(i + 1, '!');
    let path = |i: usize| i > 1 && code.word(i) == "path" && code.word(i - 1) == "[" && code.word(i - 2) == "#" && code.is_mark(i + 1, '=');
    let names = (0..code.tokens.len()).filter_map(|i| if included(i) { Some(i + 3) } else { path(i).then_some(i + 2) });
    let put = |i: usize| {
        let token = code.tokens.get(i).filter(|token| token.kind == Kind::Text && !token.open)?;
        let (before, name) = code.word(i).split_once('"')?;
        let folder = if before.is_empty() { folder.replace('\\', "\\\\").replace('"', "\\\"") } else { folder.to_string() };
        (!name.starts_with('/')).then(|| (token.at.start + before.len() + 1, format!("{folder}/")))
    };
    names.filter_map(put).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewrite::insert;

    #[test]
    fn a_relative_path_is_one_of_the_cells_folder() {
        for (cell, expected) in [
            ("let é = include_str!(\"a b.txt\");", "let é = include_str!(\"/x \\\"y/a b.txt\");"),
            ("#[path = \"a.rs\"] mod a;", "#[path = \"/x \\\"y/a.rs\"] mod a;"),
            ("include_bytes!(r\"a\")", "include_bytes!(r\"/x \"y/a\")"),
            ("include!(\"/a.rs\") // include!(\"b\")", "include!(\"/a.rs\") // include!(\"b\")"),
            ("include_str!(concat!(\"a\", \"b\"))", "include_str!(concat!(\"a\", \"b\"))"),
        ] {
            assert_eq!(insert(cell, folders(cell, Path::new("/x \"y"))).0, expected);
        }
        assert!(folders("include!(\"a\")", Path::new("")).is_empty());
    }
}
