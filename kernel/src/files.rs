//! Names of files, where a cell has one: in a string, behind `!`, behind `%cd`.

use std::ops::Range;
use std::path::Path;

use crate::environment;
use crate::lexer::{Kind, Token, tokens};

/// More are not offered.
const MOST: usize = 200;

/// Where a file's name is being written: the bytes of it before the cursor, and whether a shell reads it.
#[derive(Debug, PartialEq)]
pub struct Spot {
    pub name: Range<usize>,
    pub shell: bool,
}

/// The spot of the cursor, if a file's name may stand there. `None` inside Rust.
pub fn spot(code: &str, cursor: usize) -> Option<Spot> {
    let line = code[..cursor].rfind('\n').map_or(0, |end| end + 1);
    let (first, in_first) = (code.split('\n').next().unwrap_or(code), !code[..cursor].contains('\n'));
    let command = |name: &str| first.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
    let script = (command("%%sh") || command("%%bash")) && !in_first;
    let one_line = in_first && ["%sh", "%cd", "%bash"].into_iter().any(|name| command(name) && cursor > name.len());
    if script || one_line || code[line..cursor].starts_with('!') {
        let begins = |c: char| c.is_whitespace() || "!;|&<>\"'=(".contains(c);
        let start = code[line..cursor].char_indices().rfind(|(_, c)| begins(*c)).map_or(line, |(at, c)| line + at + c.len_utf8());
        return Some(Spot { name: start..cursor, shell: true });
    }
    let around = |token: &Token| token.kind == Kind::Text && token.at.start < cursor && (cursor < token.at.end || token.open);
    let text = tokens(code).into_iter().find(around)?;
    let quote = text.at.start + code[text.at.clone()].find('"')? + 1;
    let name = quote..cursor;
    (quote <= cursor && !code[name.clone()].contains(['\n', '{'])).then_some(Spot { name, shell: false })
}

/// Files and folders whose names begin like `name`: what is written behind its last slash, and the length of that.
pub fn matching(name: &str, folder: &Path, shell: bool) -> (Vec<String>, usize) {
    let (above, begin) = name.rsplit_once('/').map_or(("", name), |(above, begin)| (above, begin));
    let above = match above {
        "" if name.starts_with('/') => "/".into(),
        "" => folder.to_path_buf(),
        above => folder.join(environment::home(above)),
    };
    let mut found: Vec<String> = std::fs::read_dir(above)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let file = entry.file_name().into_string().ok()?;
            let wanted = file.starts_with(begin) && (!file.starts_with('.') || begin.starts_with('.'));
            let end = if entry.path().is_dir() { "/" } else { "" };
            let file = if shell { file.replace(' ', "\\ ") } else { file };
            wanted.then(|| file + end)
        })
        .collect();
    found.sort();
    found.truncate(MOST);
    (found, begin.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_strings_and_in_commands() {
        let name = |code: &str| spot(code, code.len()).map(|spot| code[spot.name].to_string());
        assert_eq!(name("Clip::from_dir(\"/data/cl").as_deref(), Some("/data/cl"));
        assert_eq!(name("f(\"a\"); g(r\"mod").as_deref(), Some("mod"));
        assert_eq!(name("!ls -l src/ma").as_deref(), Some("src/ma"));
        assert_eq!(name("%cd da").as_deref(), Some("da"));
        assert_eq!(name("%%sh\ncat a b").as_deref(), Some("b"));
        assert_eq!(name("!ls\u{3000}da").as_deref(), Some("da"), "a space of three bytes");
        assert_eq!(name("let a = \"done\"; Clip::"), None);
        assert_eq!(name("println!(\"{lo"), None);
        assert_eq!(name("%cd"), None);
        let code = "f(\"da\", x)";
        assert_eq!(spot(code, 5), Some(Spot { name: 3..5, shell: false }));
        assert_eq!(spot(code, 9), None);
    }

    #[test]
    fn files_are_offered_by_their_beginning() {
        let folder = std::env::temp_dir().join(format!("lafter-kernel-files-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("data set")).unwrap();
        for file in ["data.txt", "other", ".data", "data set/in"] {
            std::fs::write(folder.join(file), "").unwrap();
        }
        let names = |name: &str, shell| matching(name, &folder, shell);
        assert_eq!(names("da", false), (vec!["data set/".into(), "data.txt".into()], 2));
        assert!(names("da", true).0.contains(&"data\\ set/".to_string()));
        assert_eq!(names("data set/", false), (vec!["in".into()], 0));
        assert_eq!(names(".d", false).0, [".data"]);
        assert_eq!(names(&format!("{}/oth", folder.display()), false), (vec!["other".into()], 3));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
