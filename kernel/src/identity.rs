//! The name under which the compiler knows a session's cells: it decides whether a variable of the reader's own type is taken
//! for the same type in the next cell.
//!
//! Cargo makes it of the cell's dependencies, so that each `:dep` would drop such variables. It may stay as long as every
//! crate that was there before is still the same: then no type of before has changed.

use std::ffi::OsString;
use std::path::Path;

/// The file in the session's folder: the name, then the crates.
const FILE: &str = "identity";
/// The name of cells without further crates, in every session: what is cached was compiled under it.
const FIRST: &str = "metadata=lafter";

/// The arguments of the compiler, with the name of before if it may stay.
pub fn steady(folder: &Path, arguments: Vec<OsString>) -> Vec<OsString> {
    let words: Vec<&str> = arguments.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    let follows = |name: &str, value: &str| words.windows(2).any(|pair| pair == [name, value]);
    let Some(at) = words.iter().position(|word| word.starts_with("metadata=")) else { return arguments };
    let links = words.iter().any(|word| word.starts_with("--emit=") && word.contains("link"));
    if !links || !follows("--crate-name", "ctx") || !follows("--crate-type", "cdylib") {
        return arguments;
    }
    let crates: Vec<&str> = words.windows(2).filter(|pair| pair[0] == "--extern").map(|pair| pair[1]).collect();
    let kept = std::fs::read_to_string(folder.join(FILE)).unwrap_or_default();
    let mut lines = kept.lines();
    let before = lines.next().unwrap_or(FIRST);
    let name = match lines.all(|file| crates.contains(&file)) {
        _ if crates.is_empty() => FIRST,
        true => before,
        false => words[at],
    };
    let text = [&[name], &crates[..]].concat().join("\n");
    if text != kept {
        let _ = std::fs::write(folder.join(FILE), text); // then variables are lost, which is said
    }
    let name = OsString::from(name);
    let mut arguments = arguments;
    arguments[at] = name;
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_further_crate_changes_nothing_another_version_does() {
        let folder = std::env::temp_dir().join(format!("lafter-kernel-identity-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let name = |own: &str, crates: &[&str], kind: &str| {
            let own = format!("metadata={own}");
            let mut words = vec!["--crate-name", "ctx", "--crate-type", kind, "-C", &own, "--emit=dep-info,link"];
            crates.iter().for_each(|file| words.extend(["--extern", file]));
            let given: Vec<OsString> = words.iter().map(OsString::from).collect();
            steady(&folder, given)[5].to_str().unwrap().to_string()
        };
        assert_eq!(name("one", &[], "cdylib"), FIRST);
        assert_eq!(name("two", &["half=a.rlib"], "cdylib"), FIRST);
        assert_eq!(name("three", &["half=a.rlib", "json=b.rlib"], "cdylib"), FIRST);
        assert_eq!(name("four", &["half=c.rlib", "json=b.rlib"], "cdylib"), "metadata=four");
        assert_eq!(name("five", &["half=c.rlib", "json=b.rlib"], "cdylib"), "metadata=four");
        assert_eq!(name("six", &[], "lib"), "metadata=six");
        assert_eq!(name("seven", &[], "cdylib"), FIRST, "forgotten with the crates");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
