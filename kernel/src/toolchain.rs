//! What the kernel needs from the machine, and how to get what is missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::layout::Layout;

/// One need: what was found, or what to do.
pub struct Need {
    pub name: &'static str,
    pub found: Result<String, String>,
}

/// Cargo, rustc, a linker, and the standard library's source, which completion and types of variables need.
pub fn needs() -> Vec<Need> {
    let rust = "not found; install Rust from https://rustup.rs";
    let source = library_source().filter(|folder| folder.join("core/src/lib.rs").is_file()).map(|folder| folder.display().to_string());
    let need = |name, found: Option<String>, remedy: &str| Need { name, found: found.ok_or_else(|| remedy.to_string()) };
    vec![
        need("cargo", first_line("cargo", "--version"), rust),
        need("rustc", first_line("rustc", "--version"), rust),
        need("linker", first_line("cc", "--version"), "not found; install a C compiler, for example: apt install gcc libc6-dev"),
        need("rust-src", source, "not found; run: rustup component add rust-src"),
    ]
}

/// Sysroot, version, the compiler's file and its host: a library built by one compiler is of no use to another.
pub fn identity() -> anyhow::Result<String> {
    let sysroot = first_line("rustc", "--print=sysroot").context("rustc does not run: install Rust from https://rustup.rs")?;
    let version = first_line("rustc", "--version").unwrap_or_default();
    Ok(format!("{sysroot}\n{version}\n{}\n{}\n", stamp(&compiler(&sysroot)).unwrap_or_default(), host()?))
}

/// The triple of this machine.
pub fn host() -> anyhow::Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("running rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(String::from).context("rustc -vV names no host")
}

/// What [`identity`] was at installation; empty if nothing was recorded.
pub fn recorded(layout: &Layout) -> String {
    std::fs::read_to_string(layout.toolchain()).unwrap_or_default()
}

/// Whether the recorded compiler is still the same; asks only the file system, because rustc itself takes a moment to start.
pub fn is_as_recorded(identity: &str) -> bool {
    let mut lines = identity.lines();
    matches!((lines.next(), lines.nth(1)), (Some(sysroot), Some(recorded)) if stamp(&compiler(sysroot)).is_some_and(|now| now == recorded))
}

/// The version of the recorded rustc alone: "1.95.0".
pub fn rust_version(identity: &str) -> Option<&str> {
    identity.lines().nth(1)?.split(' ').nth(1)
}

fn compiler(sysroot: &str) -> PathBuf {
    Path::new(sysroot).join("bin/rustc")
}

/// Size and time of a file.
pub fn stamp(file: &Path) -> Option<String> {
    let file = file.metadata().ok()?;
    let modified = file.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(format!("{} {}", file.len(), modified.as_nanos()))
}

pub fn library_source() -> Option<PathBuf> {
    Some(PathBuf::from(first_line("rustc", "--print=sysroot")?).join("lib/rustlib/src/rust/library"))
}

fn first_line(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok().filter(|output| output.status.success())?;
    String::from_utf8_lossy(&output.stdout).lines().next().map(String::from)
}

/// A Jupyter started from a desktop may not have Cargo's folder in its PATH.
pub fn complete_path() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Some(cargo) = std::env::home_dir().map(|home| home.join(".cargo/bin")) else { return };
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if !folders.contains(&cargo)
        && cargo.is_dir()
        && let Ok(path) = std::env::join_paths(folders.into_iter().chain([cargo]))
    {
        // SAFETY: called before any thread is started
        unsafe { std::env::set_var("PATH", path) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_is_known_by_its_file() {
        let sysroot = std::env::temp_dir().join(format!("lafter-kernel-toolchain-{}", std::process::id()));
        let rustc = sysroot.join("bin/rustc");
        std::fs::create_dir_all(sysroot.join("bin")).unwrap();
        std::fs::write(&rustc, "one").unwrap();
        let identity = format!("{}\nrustc 1.95.0 (abc)\n{}\n", sysroot.display(), stamp(&rustc).unwrap());
        assert!(is_as_recorded(&identity));
        assert_eq!(rust_version(&identity), Some("1.95.0"));
        std::fs::write(&rustc, "another").unwrap();
        assert!(!is_as_recorded(&identity));
        std::fs::remove_dir_all(sysroot).unwrap();
        assert!(!is_as_recorded(&identity) && !is_as_recorded(""));
    }
}
