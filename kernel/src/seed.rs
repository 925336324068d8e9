//! The seed: the shared library of lafter, and what cells and the analyzer read of the crates in it.
//!
//! In a checkout it is made of the crates that `cargo build --release` compiles there, so that who built the program before is half the way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};

use crate::building::{Built, Order, PACKAGE};
use crate::layout::Layout;
use crate::metadata;
use crate::private;
use crate::rust_src;
use crate::shim;
use crate::toolchain;

/// What every session runs first; after its last line evcxr knows that cells use `?`.
/// `SimpleBackend` stands in the type of each `VarBuilder`, as evcxr writes it.
pub const PRELUDE: &str = "use lafter::prelude::*;\nuse lafter::{candle_core, candle_nn, image};\n\
                           use lafter::candle_nn::var_builder::SimpleBackend;\nlafter::notebook::start();\nOk::<(), lafter::Error>(())?;";
/// Run again where the cell's process had to be restarted.
pub const RESTART: &str = "lafter::notebook::start();";
/// The file of evcxr's settings, in the folder of ours.
pub const SETTINGS: &str = "evcxr.toml";
/// How much a cell itself is optimized: loops over tensors spend their time in the library.
pub const OPT: &str = "1";

/// What `install` is asked for.
pub struct Wish {
    /// The checkout of lafter to build; `None`: the one this program was built in, or the published crate of the same version.
    pub checkout: Option<PathBuf>,
    /// A language model in the cells' process.
    pub llm: bool,
    pub jobs: Option<usize>,
}

impl Wish {
    /// The checkout to build, or `None` for the published crate.
    ///
    /// # Errors
    /// If the folder that was named is none.
    pub fn checkout(&self) -> Result<Option<PathBuf>> {
        let is_one = |folder: &Path| folder.join("Cargo.lock").is_file() && folder.join("kernel/session/Cargo.toml").is_file();
        if let Some(folder) = &self.checkout {
            let folder = std::path::absolute(folder)?;
            ensure!(is_one(&folder), "{} is no checkout of lafter: it has no kernel/session/Cargo.toml", folder.display());
            return Ok(Some(folder));
        }
        let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).parent().filter(|folder| is_one(folder));
        Ok(built_in.map(Path::to_path_buf))
    }
}

/// Compiles the shared library and takes what cells need of it into the seed.
pub fn build(layout: &Layout, wish: &Wish) -> Result<Built> {
    let checkout = wish.checkout()?;
    write(&layout.data.join(".cargo/config.toml"), CONFIG)?;
    // set from the start: the analyzer reads everything again when the manifest changes
    write(&layout.settings().join(SETTINGS), &format!("[evcxr]\nopt_level = \"{OPT}\"\n"))?;
    let (package, own_target) = match &checkout {
        Some(checkout) => (checkout.join("kernel/session"), None),
        None => {
            write(&layout.wrapper().join("Cargo.toml"), &published_manifest())?;
            write(&layout.wrapper().join("lib.rs"), WRAPPER)?;
            (layout.wrapper(), Some(layout.wrapper().join("target")))
        }
    };
    let manifest = package.join("Cargo.toml");
    let built = Order { manifest: &manifest, target: own_target.as_deref(), llm: wish.llm, jobs: wish.jobs }.build()?;

    // the whole seed, then its name: a session that starts meanwhile finds the old one
    let (seed, new) = (layout.seed(), layout.data.join("seed.new"));
    let _ = fs::remove_dir_all(&new); // of an install that was stopped
    let below = new.join("deps");
    for file in &built.described {
        copy(file, &below)?;
    }
    copy(&built.library, &new)?;
    write(&new.join("Cargo.toml"), &seed_manifest(&package))?;
    write(&new.join("src/lib.rs"), "pub use lafter::prelude::*;\n")?;
    copy(&checkout.as_ref().unwrap_or(&package).join("Cargo.lock"), &new)?;
    let _ = fs::remove_dir_all(&seed);
    fs::rename(&new, &seed).with_context(|| format!("renaming {}", new.display()))?;
    if let Some(target) = own_target {
        let _ = fs::remove_dir_all(target); // nobody else uses it
    }

    let mut metadata = Command::new("cargo");
    metadata.args(["metadata", "--format-version=1", "--offline", "--filter-platform", &toolchain::host()?]).current_dir(&seed);
    let output = metadata.env_remove("CARGO").output().context("running cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    let sources = metadata::keep(layout, &String::from_utf8_lossy(&output.stdout))?;
    fs::copy(seed.join("Cargo.lock"), layout.data.join("Cargo.lock"))?;
    fs::write(layout.toolchain(), toolchain::identity()?)?;
    let source = toolchain::library_source().context("rustc names no sysroot")?;
    rust_src::outline(&source, &layout.rust_src())?;
    let std = ["core", "alloc", "std"].map(|name| source.join(name).join("src"));
    let sources = sources.into_iter().chain(std).collect::<Vec<_>>();
    write(&layout.private(), &private::collect(&sources))?;
    for of_before in [layout.data.join("answers"), layout.compiled()] {
        let _ = fs::remove_dir_all(of_before); // of an older toolchain or library
    }
    let from = checkout.map_or_else(|| format!("lafter {} as published", env!("CARGO_PKG_VERSION")), |folder| folder.display().to_string());
    write(&layout.data.join("checkout"), &format!("{from}\n"))?;
    shim::install(layout)?;
    Ok(built)
}

/// The checkout that was installed, if its sources are newer than the library that cells use.
pub fn newer_checkout(layout: &Layout) -> Option<PathBuf> {
    let installed = layout.library().0.metadata().ok()?.modified().ok()?;
    let checkout = PathBuf::from(fs::read_to_string(layout.data.join("checkout")).ok()?.trim());
    has_newer(&checkout.join("src"), installed).then_some(checkout)
}

fn has_newer(folder: &Path, time: SystemTime) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    let is_newer = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => has_newer(&entry.path(), time),
        Ok(_) if entry.path().extension().is_some_and(|end| end == "rs") => {
            entry.metadata().and_then(|file| file.modified()).is_ok_and(|at| at > time)
        }
        _ => false,
    };
    entries.flatten().any(is_newer)
}

/// Cargo's settings above all sessions.
pub const CONFIG: &str = "# Cells are compiled as evcxr says; what a `:dep` brings is compiled once, for speed.
[profile.dev.package.\"*\"]
opt-level = 3
debug = false
debug-assertions = false
overflow-checks = false
";

/// The shared library's only file, the same with a checkout and without; a link here, so that the published kernel has it, too.
const WRAPPER: &str = include_str!("notebook_library.rs");

/// The shared library over the published crate of this program's version.
fn published_manifest() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "[package]\nname = \"{PACKAGE}\"\nversion = \"{version}\"\nedition = \"2024\"\n\n[lib]\ncrate-type = [\"dylib\"]\npath = \"lib.rs\"\n\n\
         [features]\nllm = [\"lafter/llm\"]\n\n[dependencies]\ncandle-core = \"=0.11.1\"\ncandle-nn = \"=0.11.1\"\n\
         image = {{ version = \"0.25\", default-features = false }}\nlafter = \"={version}\"\n\n[profile.release]\ndebug = false\n\n[workspace]\n"
    )
}

/// A package that depends on the shared library as a cell does: nothing is compiled in it, Cargo describes it to the analyzer.
fn seed_manifest(package: &Path) -> String {
    format!(
        "[package]\nname = \"ctx\"\nversion = \"1.0.0\"\nedition = \"2024\"\n\n[lib]\ncrate-type = [\"cdylib\"]\npath = \"src/lib.rs\"\n\n\
         [dependencies]\nlafter = {{ path = {package:?}, package = {PACKAGE:?} }}\n\n[workspace]\n"
    )
}

fn copy(file: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let name = file.file_name().context("a file without a name")?;
    fs::copy(file, folder.join(name)).with_context(|| format!("copying {}", file.display()))?;
    Ok(())
}

/// Leaves a file alone that is right already: Cargo looks at its time.
fn write(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let folder = path.parent().context("a path without a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkout_that_is_newer_than_the_library_is_known() {
        let data = std::env::temp_dir().join(format!("lafter-kernel-newer-{}", std::process::id()));
        let (layout, checkout) = (Layout { data: data.clone() }, data.join("checkout of mine"));
        let source = checkout.join("src/deep/a.rs");
        write(&source, "").unwrap();
        write(&checkout.join("src/deep/.a.swp"), "").unwrap();
        write(&layout.library().0, "").unwrap();
        write(&layout.data.join("checkout"), &format!("{}\n", checkout.display())).unwrap();
        let now = SystemTime::now();
        let set = |file: &Path, at| fs::File::options().write(true).open(file).unwrap().set_modified(at).unwrap();
        set(&layout.library().0, now);
        set(&source, now - std::time::Duration::from_secs(9));
        set(&checkout.join("src/deep/.a.swp"), now + std::time::Duration::from_secs(9));
        assert_eq!(newer_checkout(&layout), None);
        set(&source, now + std::time::Duration::from_secs(9));
        assert_eq!(newer_checkout(&layout), Some(checkout));
        fs::write(layout.data.join("checkout"), "lafter 0.1.0 as published\n").unwrap();
        assert_eq!(newer_checkout(&layout), None);
        fs::remove_dir_all(data).unwrap();
    }
}
