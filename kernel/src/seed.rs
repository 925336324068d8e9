//! The seed: the wrapper crate and a build folder in which it is compiled as evcxr will ask for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::layout::Layout;
use crate::metadata;
use crate::rust_src;
use crate::shim;
use crate::toolchain;

/// What every session runs first; after its last line evcxr knows that cells use `?`.
pub const PRELUDE: &str =
    "use lafter::prelude::*;\nuse lafter::{candle_core, candle_nn, image};\nlafter::notebook::start();\nOk::<(), lafter::Error>(())?;";
/// Run again where the cell's process had to be restarted.
pub const RESTART: &str = "lafter::notebook::start();";
/// How much a cell itself is optimized: loops over tensors spend their time in the library.
pub const OPT: &str = "1";

/// The checkout that this program was built in.
pub fn built_in() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.parent().unwrap_or(folder).to_path_buf()
}

/// The line of a manifest for the wrapper.
fn dependency(layout: &Layout) -> String {
    format!("lafter = {{ path = {:?}, package = \"lafter-notebook\" }}", layout.wrapper())
}

/// Writes the wrapper and compiles it with all it depends on; Cargo's own bar shows the way.
pub fn build(layout: &Layout, checkout: &Path) -> Result<()> {
    let lock = checkout.join("Cargo.lock");
    ensure!(lock.is_file(), "{} is not there: name a checkout of lafter with --checkout DIR", lock.display());
    write(&layout.data.join("checkout"), &format!("{}\n", checkout.display()))?;
    write(&layout.data.join(".cargo/config.toml"), CONFIG)?;
    // set from the start: the analyzer reads everything again when the manifest changes
    write(&layout.settings().join("evcxr.toml"), &format!("[evcxr]\nopt_level = \"{OPT}\"\n"))?;
    write(&layout.wrapper().join("Cargo.toml"), &wrapper_manifest(checkout))?;
    write(&layout.wrapper().join("lib.rs"), WRAPPER)?;
    let seed = layout.seed();
    write(&seed.join("Cargo.toml"), &seed_manifest(layout))?;
    write(&seed.join("src/lib.rs"), "pub use lafter::prelude::*;\n")?;
    fs::copy(&lock, seed.join("Cargo.lock")).with_context(|| format!("copying {}", lock.display()))?;
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--target", &host()?]).current_dir(&seed);
    cargo.env("CARGO_TARGET_DIR", "target").env("CARGO_BUILD_BUILD_DIR", "target").env("RUSTFLAGS", "-Cprefer-dynamic");
    for variable in ["RUSTC_WRAPPER", "CARGO_ENCODED_RUSTFLAGS", "CARGO", "RUSTC"] {
        cargo.env_remove(variable); // of the Cargo that runs us
    }
    let status = cargo.status().context("starting cargo")?;
    ensure!(status.success(), "building lafter failed: see the messages above");
    fs::copy(seed.join("Cargo.lock"), layout.data.join("Cargo.lock"))?;
    let mut metadata = Command::new("cargo");
    metadata.args(["metadata", "--format-version=1", "--offline", "--filter-platform", &host()?]).current_dir(&seed);
    let output = metadata.env_remove("CARGO").output().context("running cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    metadata::keep(layout, &String::from_utf8_lossy(&output.stdout))?;
    fs::write(layout.toolchain(), toolchain::identity()?)?;
    let source = toolchain::library_source().context("rustc names no sysroot")?;
    rust_src::link(&source, &layout.rust_src()).with_context(|| format!("linking {}", source.display()))?;
    for of_before in [layout.data.join("answers"), layout.compiled()] {
        let _ = fs::remove_dir_all(of_before); // of an older toolchain or library
    }
    shim::install(layout)
}

const CONFIG: &str = "# Cells are compiled as evcxr says; what they depend on is compiled once, for speed.
[profile.dev.package.\"*\"]
opt-level = 3
debug = false
debug-assertions = false
overflow-checks = false
";

const WRAPPER: &str = "//! lafter and the crates of its types, as one library that all cells of a notebook share.

pub use ::lafter::*;
pub use ::{candle_core, candle_nn, image};
";

fn wrapper_manifest(checkout: &Path) -> String {
    format!(
        "[package]\nname = \"lafter-notebook\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[lib]\ncrate-type = [\"dylib\"]\npath = \"lib.rs\"\n\n\
         [dependencies]\nlafter = {{ path = {checkout:?}, features = [\"llm\"] }}\ncandle-core = \"=0.11.1\"\ncandle-nn = \"=0.11.1\"\n\
         image = {{ version = \"0.25\", default-features = false }}\n\n[workspace]\n"
    )
}

/// What evcxr 0.22 writes for a cell with the wrapper as its only dependency: another profile would be compiled again.
fn seed_manifest(layout: &Layout) -> String {
    format!(
        "\n[package]\nname = \"ctx\"\nversion = \"1.0.0\"\nedition = \"2024\"\n\n[lib]\ncrate-type = [\"cdylib\"]\npath = \"src/lib.rs\"\n\n\
         [profile.dev]\nopt-level = {OPT}\ndebug = false\nstrip = \"debuginfo\"\nrpath = true\nlto = false\ndebug-assertions = true\n\
         codegen-units = 16\npanic = 'unwind'\nincremental = true\noverflow-checks = true\n\n[dependencies]\n{}\n\n",
        dependency(layout)
    )
}

fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("running rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(String::from).context("rustc -vV names no host")
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
