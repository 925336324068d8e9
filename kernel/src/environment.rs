//! `%cd` and `%env`: the folder and the variables of the cells' process and of what `!` starts.
//!
//! The cells' process changes by code that it runs; this process changes, too, so that shell commands and a cells' process
//! that has to be started again find the same.

use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::shim;

/// The variable with the folder that the kernel was started in: the notebook's.
pub const FOLDER_VARIABLE: &str = "LAFTER_KERNEL_FOLDER";

/// Where cells and commands are that know no better: the current folder, but the notebook's while the engine starts in that of its
/// settings.
pub fn here() -> Option<PathBuf> {
    let now = std::env::current_dir().ok()?;
    let settings = std::env::var_os("EVCXR_CONFIG_DIR").and_then(|folder| Path::new(&folder).canonicalize().ok());
    let notebook = std::env::var_os(FOLDER_VARIABLE).map(PathBuf::from);
    if settings.as_ref() == Some(&now) { notebook } else { Some(now) }
}

/// The folder that `%cd` names; `now` is that of the cells.
pub fn folder(name: &str, now: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let now = now.or_else(|| std::env::current_dir().ok()).unwrap_or_default();
    let path = now.join(home(name));
    path.canonicalize()
        .ok()
        .filter(|path| path.is_dir())
        .ok_or_else(|| Failure::new("Error", format!("{}: no such folder", path.display())))
}

/// A name with the home folder for its `~`; empty is the home folder.
pub fn home(name: &str) -> PathBuf {
    let own = std::env::home_dir().unwrap_or_default();
    match name.strip_prefix('~') {
        _ if name.is_empty() => own,
        Some("") => own,
        Some(below) if below.starts_with('/') => own.join(below.trim_start_matches('/')),
        _ => name.into(),
    }
}

/// Changes this process' folder; what the cells' process is to run.
pub fn change_folder(folder: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::new("Error", format!("{}: {error}", folder.display()));
    let text = folder.to_str().ok_or_else(|| Failure::new("Error", "the folder's name is not Unicode"))?;
    std::env::set_current_dir(folder).map_err(failed)?;
    Ok(format!("std::env::set_current_dir({text:?})?;")) // a line that begins with a colon is a command
}

/// The variable, or all of them, as `!env` would show them.
pub fn show(name: &str) -> Result<String, Failure> {
    let mut command = std::process::Command::new("true");
    let changed = shim::restore(&mut command).get_envs();
    let changed: Vec<_> = changed.map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
    let ours =
        |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("LAFTER_KERNEL_") || name.to_string_lossy().starts_with("EVCXR_");
    let unchanged = std::env::vars_os().filter(|(name, _)| !ours(name) && changed.iter().all(|(other, _)| other != name));
    let all = unchanged.chain(changed.clone().into_iter().filter_map(|(name, value)| Some((name, value?))));
    let mut lines: Vec<String> = all.filter(|(other, _)| name.is_empty() || other == name).map(line).collect();
    lines.sort();
    match (lines.is_empty(), name.is_empty()) {
        (true, false) => Err(Failure::new("Error", format!("{name} is not set"))),
        _ => Ok(lines.concat()),
    }
}

fn line((name, value): (std::ffi::OsString, std::ffi::OsString)) -> String {
    format!("{}={}\n", name.to_string_lossy(), value.to_string_lossy())
}

/// Sets a variable in this process; what the cells' process is to run.
pub fn set(name: &str, value: &str) -> Result<String, Failure> {
    let is_name = !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
    if !is_name || name.starts_with("LAFTER_KERNEL_") || name.starts_with("EVCXR_") {
        return Err(Failure::new("Error", format!("{name:?} cannot be set")));
    }
    // SAFETY: the other threads of this process read the environment through std only, which locks it.
    unsafe { shim::set_variable(name, value) };
    Ok(format!("unsafe {{ std::env::set_var({name:?}, {value:?}) }};"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_found_from_where_the_cells_are() {
        let base = std::env::temp_dir().join(format!("lafter-kernel-environment-{}", std::process::id())).join("a b");
        std::fs::create_dir_all(&base).unwrap();
        let base = base.canonicalize().unwrap();
        assert_eq!(folder("a b", base.parent().map(Path::to_path_buf)).unwrap(), base);
        assert_eq!(folder("..", Some(base.clone())).unwrap(), base.parent().unwrap());
        assert!(folder("none", Some(base.clone())).unwrap_err().value.ends_with("none: no such folder"));
        assert_eq!(home("~/x").file_name().unwrap(), "x");
        std::fs::remove_dir_all(base.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_variable_is_set_for_this_process_and_in_words_of_rust() {
        assert_eq!(set("LAFTER_TEST_ENV", "a \"b\"").unwrap(), "unsafe { std::env::set_var(\"LAFTER_TEST_ENV\", \"a \\\"b\\\"\") };");
        assert_eq!(show("LAFTER_TEST_ENV").unwrap(), "LAFTER_TEST_ENV=a \"b\"\n");
        assert!(show("").unwrap().contains("LAFTER_TEST_ENV="));
        assert!(show("LAFTER_TEST_NONE").is_err() && set("EVCXR_TMPDIR", "/").is_err() && set("", "x").is_err());
    }
}
