//! Our stand-ins for `cargo`, `rustc` and `rustup`, which evcxr and its rust-analyzer call.
//!
//! The lafter library is not a dependency in the sessions' Cargo.toml: Cargo would check some 300 packages at every cell.
//! Instead `cargo build` goes on with flags that name the library built at installation, and `cargo metadata` answers with
//! a description that has it among the packages, kept from the installation: only crates whose types cells meet are in it,
//! so that the analyzer starts in a second. Everything else goes to the real Cargo as it is.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio, exit};

use anyhow::{Context, Result};

use crate::assigned;
use crate::compiled::{self, Found, Kept};
use crate::identity;
use crate::layout::Layout;
use crate::messages::{self, Note};
use crate::metadata;
use crate::rewrite;
use crate::toolchain;

/// The data folder, for the stand-in.
const DATA: &str = "LAFTER_KERNEL_DATA";
/// The library's file as it was when the session began.
const LIBRARY: &str = "LAFTER_KERNEL_LIBRARY";
/// What `CARGO_HOME` was; empty if it was not set.
const HOME: &str = "LAFTER_KERNEL_CARGO_HOME";
/// Set where a cell is to be compiled without optimization.
const PLAIN: &str = "LAFTER_KERNEL_PLAIN";
/// The file of a session with notes on the cell that was compiled last.
pub const NOTES: &str = "notes";
/// The file of a session with the variables that the next cell is not to find: their type is defined anew.
pub const HIDDEN: &str = "hidden";
/// The file of a session with the variables that the cell assigns, and that with those of them that it moves before: where there are
/// some, compiling ends there.
pub const ASSIGNED: &str = "assigned";
pub const MOVED: &str = "moved";
/// Begins what is kept of such a cell.
const AGAIN: &[u8] = b"moved: ";
/// Cargo's exit status for a failure.
const FAILED: i32 = 101;
/// What evcxr generated for the cell.
pub const SOURCE: &str = "src/lib.rs";

/// Puts the stand-in in the way of evcxr (by PATH) and of rust-analyzer (by CARGO_HOME).
///
/// # Safety
/// Only before any thread is started.
pub unsafe fn set_environment(layout: &Layout) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = [layout.shims().join("bin")].into_iter().chain(std::env::split_paths(&path));
    let path = std::env::join_paths(folders)?;
    // SAFETY: as the caller promises
    unsafe {
        std::env::set_var(HOME, std::env::var_os("CARGO_HOME").unwrap_or_default());
        std::env::set_var(DATA, &layout.data);
        std::env::set_var(LIBRARY, toolchain::stamp(&layout.library().0).unwrap_or_default());
        std::env::set_var("CARGO_HOME", layout.shims());
        std::env::set_var("RUST_SRC_PATH", layout.rust_src());
        std::env::set_var("PATH", path);
        std::env::remove_var("CARGO");
        std::env::remove_var("RUSTC");
    }
    Ok(())
}

/// Makes the links whose names the binary looks at.
pub fn install(layout: &Layout) -> Result<()> {
    let bin = layout.shims().join("bin");
    std::fs::create_dir_all(&bin)?;
    for name in ["cargo", "rustc", "rustup"] {
        let link = bin.join(name);
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink("../../bin/lafter-kernel", &link).with_context(|| format!("linking {}", link.display()))?;
    }
    Ok(())
}

/// Acts as `cargo`, `rustc` or `rustup` where the program was called by that name.
pub fn hook() {
    let mut arguments = std::env::args_os();
    let name = arguments.next().map(PathBuf::from).and_then(|path| path.file_name().map(OsString::from));
    let (Some(name), Some(data)) = (name, std::env::var_os(DATA)) else { return };
    let layout = Layout { data: data.into() };
    let arguments: Vec<OsString> = arguments.collect();
    let result = match name.to_str() {
        Some("cargo") => cargo(&layout, &arguments),
        Some("rustc") => rustc(&layout, &arguments),
        Some("rustup") => rustup(&layout, &arguments),
        _ => return,
    };
    if let Err(error) = result {
        eprintln!("error: {error:#}");
        exit(FAILED)
    }
}

/// Questions about the compiler are answered from what it said before: it takes a moment to start, and a session asks seven.
fn rustc(layout: &Layout, arguments: &[OsString]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let mut command = Command::new(real(layout, "rustc")?);
    restore(&mut command).args(identity::steady(Path::new("."), arguments.to_vec()));
    if std::env::var_os(PLAIN).is_some() && words.windows(2).any(|pair| pair == ["--crate-name", "ctx"]) {
        command.arg("-Copt-level=0");
    }
    let only_asks = matches!(words[..], ["--version" | "-V" | "-vV" | "-Vv"] | ["--print", _]) && words.len() == arguments.len();
    if only_asks {
        memo(layout, &[&["rustc"], &words[..]].concat(), &mut command)?;
    }
    Err(command.exec().into())
}

/// evcxr asks `rustup which cargo` and `rustup which rustc`.
fn rustup(layout: &Layout, arguments: &[OsString]) -> Result<()> {
    match arguments {
        [which, tool] if which == "which" && (tool == "cargo" || tool == "rustc") => {
            println!("{}", layout.shims().join("bin").join(tool).display());
        }
        [which, tool] if which == "which" => println!("{}", real(layout, &tool.to_string_lossy())?.display()),
        _ => return Err(restore(&mut Command::new("rustup")).args(arguments).exec().into()),
    }
    exit(0)
}

fn cargo(layout: &Layout, arguments: &[OsString]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let mut command = Command::new(real(layout, "cargo")?);
    restore(&mut command).args(arguments);
    let folder = std::env::var_os("EVCXR_TMPDIR"); // not always below the data folder
    let session = |manifest: &str| folder.as_ref().is_some_and(|folder| Path::new(manifest).starts_with(folder));
    match words.iter().find(|word| !word.starts_with('-')) {
        Some(&subcommand @ ("build" | "check")) => {
            // evcxr's and ours one by one: RUSTFLAGS is split at blanks, which a folder's name may have
            let given = std::env::var("RUSTFLAGS").unwrap_or_default();
            let flags = given.split_whitespace().map(String::from).chain(flags(layout)?).collect::<Vec<_>>().join("\u{1f}");
            command.env("CARGO_ENCODED_RUSTFLAGS", &flags);
            match after(&words, "--target") {
                Some(target) if subcommand == "build" => return build(layout, &words, target, &flags, &mut command),
                Some(_) => return check(&mut command),
                None => {} // not evcxr's
            }
        }
        Some(&"metadata") => match after(&words, "--manifest-path") {
            Some(manifest) if session(manifest) && !words.contains(&"--no-deps") => {
                let description = metadata::of_session(layout, Path::new(manifest), || output(&mut command))?;
                println!("{description}");
                exit(0)
            }
            Some(manifest) if !session(manifest) => memo(layout, &words, &mut command)?,
            Some(_) => {}
            // evcxr tries a new dependency: versions that the lock file of lafter names come first
            None => pin(layout)?,
        },
        Some(&"rustc" | &"config") if words.contains(&"--print") || words.contains(&"get") => memo(layout, &words, &mut command)?,
        None => memo(layout, &words, &mut command)?, // --version
        _ => {}
    }
    Err(command.exec().into())
}

/// Compiles a cell, unless the same was compiled before. Cells with `:dep` crates are not cached.
fn build(layout: &Layout, words: &[&str], target: &str, flags: &str, command: &mut Command) -> Result<()> {
    let manifest = std::fs::read_to_string("Cargo.toml").unwrap_or_default();
    let source = std::fs::read_to_string(SOURCE).unwrap_or_default();
    is_of_session(&layout.library().0, std::env::var(LIBRARY).ok())?;
    let compiler = toolchain::recorded(layout);
    let is_same = toolchain::is_as_recorded(&compiler);
    anyhow::ensure!(is_same, "Rust has changed since the kernel was installed: install it again, then restart the kernel");
    let compiled = Path::new("target").join(target).join("debug/libctx.so");
    if metadata::has_dependencies(&manifest) || compiled::reads_more(&source) {
        command.stderr(Stdio::inherit()); // it says what it compiles
        let (output, said, notes) = compile(&source, &manifest, command)?;
        std::fs::write(NOTES, messages::to_text(&notes))?;
        return answer(&said, output.status.code());
    }
    let library = layout.library().0;
    let age = library.metadata().and_then(|library| library.modified()).context("asking for the library's age")?;
    let hidden = std::fs::read_to_string(HIDDEN).unwrap_or_default();
    let circumstances = format!("{words:?}\n{flags}\n{manifest}\n{age:?}\n{compiler}\nrewritten {}\n{hidden}", rewrite::VERSION);
    let kept = Kept::new(layout, &source, &circumstances);
    match kept.fetch(&compiled) {
        Some(Found::Library(notes)) => {
            std::fs::write(NOTES, notes)?;
            // where evcxr reads which file to load
            let path = std::env::var_os("EVCXR_EXECUTION_SO_PATH").context("EVCXR_EXECUTION_SO_PATH is not set")?;
            std::fs::write(path, std::env::current_dir()?.join(&compiled).to_string_lossy().as_bytes())?;
            exit(0)
        }
        Some(Found::Failure(said)) => match said.strip_prefix(AGAIN) {
            Some(names) => {
                std::fs::write(MOVED, names)?;
                anyhow::bail!("variables are moved and assigned again");
            }
            None => return answer(&said, Some(FAILED)),
        },
        None => {}
    }
    let compiled_now = compile(&source, &manifest, command);
    if let Ok(names) = std::fs::read(MOVED) {
        let _ = kept.keep_failure(&[AGAIN, &names].concat());
    }
    let (output, said, notes) = compiled_now?;
    let notes = messages::to_text(&notes);
    std::fs::write(NOTES, &notes)?;
    // keeping is no more than a saving of time: the folder may not be ours to write in
    if output.status.success() {
        let _ = kept.keep(&compiled, &notes);
    } else if output.status.code() == Some(FAILED) && contains(&said, b"\"code\":\"E") && !contains(&output.stderr, b"signal") {
        let _ = kept.keep_failure(&said); // not where an interrupt ended the compiler
    }
    std::io::Write::write_all(&mut std::io::stderr(), &output.stderr)?;
    answer(&said, output.status.code())
}

/// Looks for errors where the analyzer does not know a variable's type.
fn check(command: &mut Command) -> Result<()> {
    let source = std::fs::read_to_string(SOURCE).unwrap_or_default();
    let (output, said, _) = compile(&source, "", command)?;
    std::io::Write::write_all(&mut std::io::stderr(), &output.stderr)?;
    answer(&said, output.status.code())
}

/// The cells' process goes on with the library that it began with: a cell that is compiled against another would take the one's
/// values for the other's.
fn is_of_session(library: &Path, then: Option<String>) -> Result<()> {
    let is_same = then.is_none_or(|then| toolchain::stamp(library).is_none_or(|now| now == then));
    anyhow::ensure!(is_same, "the kernel was installed again while this notebook ran: restart the kernel");
    Ok(())
}

/// Compiles the cell's file as [`rewrite`] changes it; the file is then again what evcxr wrote.
fn compile(source: &str, manifest: &str, command: &mut Command) -> Result<(Output, Vec<u8>, Vec<Note>)> {
    let hidden = std::fs::read_to_string(HIDDEN).unwrap_or_default();
    let said = rewrite::errors_say_their_line(&rewrite::hides(source, &hidden.lines().collect::<Vec<_>>()));
    // loops that are to be optimized well are left alone
    let loops = ["opt-level = 0", "opt-level = 1"].iter().any(|level| manifest.contains(level));
    let (changed, inserts) = rewrite::fill(&said, loops);
    if rewrite::has_long_literal(source) {
        command.env(PLAIN, "1");
    }
    std::fs::write(SOURCE, changed)?;
    let output = command.output().context("running cargo");
    std::fs::write(SOURCE, source)?;
    let output = output?;
    let assigned = std::fs::read_to_string(ASSIGNED).unwrap_or_default();
    let moved = assigned::moved(&output.stdout, &assigned.lines().collect::<Vec<_>>());
    if !moved.is_empty() {
        std::fs::write(MOVED, moved.join("\n"))?;
        anyhow::bail!("variables are moved and assigned again");
    }
    let hidden: Vec<&str> = hidden.lines().collect();
    let (said, notes) = messages::read(&output.stdout, &inserts, source, &hidden);
    Ok((output, said, notes))
}

/// Ends the stand-in as Cargo would have ended.
fn answer(said: &[u8], status: Option<i32>) -> Result<()> {
    std::io::Write::write_all(&mut std::io::stdout(), said)?;
    exit(status.unwrap_or(FAILED))
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

/// Answers from a file what was asked before of the same toolchain; what is asked does not depend on the session.
fn memo(layout: &Layout, words: &[&str], command: &mut Command) -> Result<()> {
    let key: String = words.iter().filter(|word| !word.contains("/sessions/")).copied().collect::<Vec<_>>().join(" ");
    let key: String = key.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
    let folder = layout.data.join("answers");
    let file = folder.join(&key[key.len().saturating_sub(200)..]);
    if let Ok(answer) = std::fs::read(&file) {
        let (status, text) = answer.split_first().context("an empty answer was kept")?;
        std::io::Write::write_all(&mut std::io::stdout(), text)?;
        exit(i32::from(*status))
    }
    let output = command.output()?;
    std::io::Write::write_all(&mut std::io::stdout(), &output.stdout)?;
    std::io::Write::write_all(&mut std::io::stderr(), &output.stderr)?;
    let status = output.status.code().unwrap_or(FAILED);
    let new = folder.join(format!("new-{}", std::process::id()));
    let kept = [vec![status as u8], output.stdout].concat();
    if std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&new, kept)).is_ok() {
        let _ = std::fs::rename(new, file); // a folder that is not ours to write in only costs time
    }
    exit(status)
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().context("running cargo metadata")?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// Where the session's lock file knows only the cell, lafter's takes its place; Cargo drops from it what is not used.
fn pin(layout: &Layout) -> Result<()> {
    let lock = std::env::current_dir()?.join("Cargo.lock");
    let bare = std::fs::read_to_string(&lock).map_or(true, |text| text.matches("[[package]]").count() <= 1);
    if bare {
        std::fs::copy(layout.data.join("Cargo.lock"), &lock).with_context(|| format!("writing {}", lock.display()))?;
    }
    Ok(())
}

/// rustc's flags for the library and for what its types come from.
fn flags(layout: &Layout) -> Result<[String; 4]> {
    let (library, below) = layout.library();
    anyhow::ensure!(library.is_file(), "{} is not there: install the kernel again", library.display());
    // evcxr moves the compiled cell: a path relative to it would lead astray
    let std = sysroot(layout)?.join("lib/rustlib").join(recorded(layout, 3)?).join("lib");
    let [seed, std] = [&layout.seed(), &std].map(|folder| format!("-Clink-arg=-Wl,-rpath,{}", folder.display()));
    Ok([format!("--extern=lafter={}", library.display()), format!("-Ldependency={}", below.display()), seed, std])
}

fn real(layout: &Layout, tool: &str) -> Result<PathBuf> {
    Ok(sysroot(layout)?.join("bin").join(tool))
}

fn sysroot(layout: &Layout) -> Result<PathBuf> {
    recorded(layout, 0).map(PathBuf::from)
}

/// A line of what the installation recorded of the toolchain.
fn recorded(layout: &Layout, line: usize) -> Result<String> {
    let recorded = std::fs::read_to_string(layout.toolchain()).context("no toolchain was recorded: install the kernel again")?;
    recorded.lines().nth(line).map(String::from).context("the kernel was installed by an older version: install it again")
}

/// Sets a variable as a reader means it: what stands in front of it stays in front.
///
/// # Safety
/// As for [`std::env::set_var`].
pub unsafe fn set_variable(name: &str, value: &str) {
    let path = || {
        let shims = std::env::var_os(DATA).map(|data| Layout { data: data.into() }.shims().join("bin"));
        std::env::join_paths(shims.into_iter().chain(std::env::split_paths(value))).ok()
    };
    let (name, value) = match (name, std::env::var_os(DATA).is_some()) {
        ("PATH", true) => (name, path().unwrap_or_else(|| value.into())),
        ("CARGO_HOME", true) => (HOME, value.into()),
        _ => (name, value.into()),
    };
    // SAFETY: as the caller promises
    unsafe { std::env::set_var(name, value) }
}

/// Gives a command the environment as it was before [`set_environment`].
pub fn restore(command: &mut Command) -> &mut Command {
    let Some(data) = std::env::var_os(DATA) else { return command };
    match std::env::var_os(HOME).filter(|home| !home.is_empty()) {
        Some(home) => command.env("CARGO_HOME", home),
        None => command.env_remove("CARGO_HOME"),
    };
    command.env_remove("RUST_SRC_PATH");
    let shims = Layout { data: data.into() }.shims().join("bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Ok(path) = std::env::join_paths(std::env::split_paths(&path).filter(|folder| *folder != shims)) {
        command.env("PATH", path);
    }
    command
}

fn after<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_was_installed_again_is_refused() {
        let library = std::env::temp_dir().join(format!("lafter-kernel-library-{}", std::process::id()));
        std::fs::write(&library, "one").unwrap();
        let then = toolchain::stamp(&library);
        assert!(is_of_session(&library, then.clone()).is_ok() && is_of_session(&library, None).is_ok());
        std::fs::write(&library, "another").unwrap();
        assert!(is_of_session(&library, then).unwrap_err().to_string().ends_with("restart the kernel"));
        std::fs::remove_file(library).unwrap();
    }

    #[test]
    fn flags_stay_whole_in_a_folder_with_a_blank() {
        let layout = Layout { data: std::env::temp_dir().join(format!("lafter kernel flags {}", std::process::id())) };
        let library = layout.library().0;
        std::fs::create_dir_all(layout.seed()).unwrap();
        std::fs::write(&library, "").unwrap();
        std::fs::write(layout.toolchain(), "/rust\nrustc 1\n0 0\nhost\n").unwrap();
        let [library_flag, _, seed, std] = flags(&layout).unwrap();
        assert_eq!(library_flag, format!("--extern=lafter={}", library.display()));
        assert_eq!(seed, format!("-Clink-arg=-Wl,-rpath,{}", layout.seed().display()));
        assert!(std.ends_with(",/rust/lib/rustlib/host/lib"));
        std::fs::remove_dir_all(layout.data).unwrap();
    }
}
