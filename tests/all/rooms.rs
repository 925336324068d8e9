//! The picture of the rooms in `src/lib.rs` is true: each room knows only rooms of its own line and of those below.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true if !path.ends_with("src/fast") && !path.ends_with("src/loops") => sources(&path, found),
            _ if path.extension().is_some_and(|ending| ending == "rs") => found.push(path),
            _ => {}
        }
    }
}

/// The modules of the crate that code names: after `crate::` or `lafter::`, also in braces.
fn named(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let word = |text: &str| text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_string();
    for after in code.split("crate::").skip(1).chain(code.split("lafter::").skip(1)) {
        match after.strip_prefix('{').and_then(|list| list.split_once(';')) {
            Some((list, _)) => names.extend(list.split([',', ' ', '\n', '{', '}']).map(word)),
            None => drop(names.insert(word(after))),
        }
    }
    names
}

#[test]
fn rooms_know_only_what_the_picture_says() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let library = std::fs::read_to_string(src.join("lib.rs")).unwrap();
    let picture = library.split_once("# The rooms").and_then(|(_, rest)| rest.split_once("```text\n")).unwrap().1;
    let lines = picture.lines().take_while(|line| !line.contains("```")).map(|line| line.trim_start_matches("//!").trim());
    let floors: BTreeMap<String, usize> =
        lines.enumerate().flat_map(|(floor, line)| line.split(" · ").map(move |room| (room.to_string(), floor))).collect();
    for line in library.lines() {
        let module = line.trim_start_matches("pub ").strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';'));
        assert!(module.is_none_or(|module| floors.contains_key(module)), "the picture lacks {module:?}");
    }
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut known = 0;
    for path in files {
        let inside = path.strip_prefix(&src).unwrap();
        let room = inside.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_string();
        let Some(floor) = floors.get(&room) else { continue }; // lib.rs and main.rs
        let source = std::fs::read_to_string(&path).unwrap();
        let code = source.split("#[cfg(test)]").next().unwrap().lines();
        let code: String = code.filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect();
        for other in named(&code).iter().filter(|other| floors.contains_key(*other)) {
            assert!(floors[other] >= *floor, "{}: {room} stands below {other} and must not know it", inside.display());
            known += usize::from(*other != room);
        }
    }
    assert!(known > 200, "{known} uses of other rooms in all");
}
