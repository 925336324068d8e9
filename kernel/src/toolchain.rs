//! What the kernel needs from the machine, and how to get what is missing.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;

/// One need: what was found, or what to do.
pub struct Need {
    pub name: &'static str,
    pub found: Result<String, &'static str>,
    /// Nothing works without it.
    pub required: bool,
}

/// Cargo, rustc, a linker, and the standard library's source, which completion and types of variables need.
pub fn needs() -> Vec<Need> {
    let rust = "install Rust from https://rustup.rs";
    let source = library_source().filter(|folder| folder.join("core/src/lib.rs").is_file());
    vec![
        Need { name: "cargo", found: first_line("cargo", "--version").ok_or(rust), required: true },
        Need { name: "rustc", found: first_line("rustc", "--version").ok_or(rust), required: true },
        Need {
            name: "linker",
            found: first_line("cc", "--version").ok_or("install a C compiler, for example: apt install gcc libc6-dev"),
            required: true,
        },
        Need {
            name: "rust-src",
            found: source.map(|folder| folder.display().to_string()).ok_or("run: rustup component add rust-src"),
            required: true,
        },
    ]
}

/// Sysroot and version: a library built by one compiler is of no use to another.
pub fn identity() -> anyhow::Result<String> {
    let sysroot = first_line("rustc", "--print=sysroot").context("rustc does not run: install Rust from https://rustup.rs")?;
    Ok(format!("{sysroot}\n{}\n", first_line("rustc", "--version").unwrap_or_default()))
}

/// The version of rustc alone: "1.95.0".
pub fn rust_version() -> Option<String> {
    first_line("rustc", "--version")?.split(' ').nth(1).map(String::from)
}

fn library_source() -> Option<PathBuf> {
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
