//! `cargo rustc` of the session's library with a bar of our own: crates done of all, and about how long the rest takes.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

/// The package of the shared library.
pub const PACKAGE: &str = "lafter-notebook";

/// Processor seconds of the crates that take long (benches/README.md); any other takes about [`SMALL`].
const COSTLY: [(&str, f64); 9] = [
    ("lafter", 240.0),
    ("candle-core", 150.0),
    ("tokenizers", 40.0),
    ("image", 36.0),
    ("parquet", 35.0),
    ("rustls", 23.0),
    ("read-fonts", 22.0),
    ("lafter-fast", 21.0),
    ("lafter-loops", 4.0),
];
const SMALL: f64 = 1.5;

/// Whether a variable is of the Cargo that runs us: build scripts ask for its crate's name, and other flags or a build script that runs
/// anew would compile the crates again.
fn of_outer_cargo(name: &str) -> bool {
    let known = [
        "CARGO",
        "CARGO_BIN_NAME",
        "CARGO_CRATE_NAME",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_PRIMARY_PACKAGE",
        "OUT_DIR",
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTFLAGS",
    ];
    let starts = ["CARGO_MANIFEST_", "CARGO_PKG_"];
    known.contains(&name) || starts.iter().any(|start| name.starts_with(start))
}

/// What is to be compiled.
pub struct Order<'a> {
    /// Of the workspace or package that has [`PACKAGE`].
    pub manifest: &'a Path,
    /// Where Cargo puts what it compiles; `None` for its own choice.
    pub target: Option<&'a Path>,
    /// With a language model in the process.
    pub llm: bool,
    pub jobs: Option<usize>,
}

/// What came out.
pub struct Built {
    /// The shared library.
    pub library: PathBuf,
    /// What the compiler reads of the crates below it: descriptions and macros.
    pub described: Vec<PathBuf>,
    /// Crates in all, and those that had to be compiled.
    pub crates: (usize, usize),
}

impl Order<'_> {
    /// A command of the real Cargo for this package.
    pub fn cargo(&self, subcommand: &str) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.arg(subcommand).arg("--manifest-path").arg(self.manifest);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_outer_cargo)) {
            cargo.env_remove(name);
        }
        if let Some(target) = self.target {
            cargo.env("CARGO_TARGET_DIR", target);
        }
        cargo
    }

    fn features(&self) -> &[&str] {
        if self.llm { &["--features", "llm"] } else { &[] }
    }

    /// Compiles. What an earlier call compiled before it was interrupted is taken over.
    pub fn build(&self) -> Result<Built> {
        let crates = self.crates()?;
        println!("{} crates, but for those that are compiled already; it may be stopped: the same command goes on", crates.len());
        let mut cargo = self.cargo("rustc");
        cargo.args(["--release", "--quiet", "--lib", "--message-format=json-render-diagnostics", "-p", PACKAGE]).args(self.features());
        if let Some(jobs) = self.jobs {
            cargo.arg("--jobs").arg(jobs.to_string());
        }
        // only this crate is told to take Rust's library as a shared one: all others are those of `cargo build --release`
        cargo.args(["--", "-Cprefer-dynamic"]).stdout(Stdio::piped());
        let mut child = cargo.spawn().context("starting cargo")?;
        let output = child.stdout.take().context("cargo has no output")?;
        let mut way = Way::new(crates.iter().map(|name| cost(name)).sum(), crates.len());
        let mut built = Built { library: PathBuf::new(), described: Vec::new(), crates: (crates.len(), 0) };
        for line in BufReader::new(output).lines() {
            let Ok(message) = serde_json::from_str::<Value>(&line.context("reading what cargo says")?) else { continue };
            let script = message["target"]["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "custom-build"));
            if message["reason"] != "compiler-artifact" || script {
                continue; // a crate is done when its library is
            }
            let files = message["filenames"].as_array().into_iter().flatten().filter_map(Value::as_str).map(PathBuf::from);
            let fresh = message["fresh"] == true;
            let id = message["package_id"].as_str().unwrap_or_default();
            let name = name_of(id);
            if name == PACKAGE {
                built.library = files.into_iter().find(|file| is(file, &["so", "dylib"])).context("cargo names no shared library")?;
            } else {
                built.described.extend(files.filter(|file| is(file, &["rmeta", "so", "dylib"])));
            }
            if way.step(id, name, fresh) && !fresh {
                built.crates.1 += 1;
            }
        }
        way.end();
        let status = child.wait().context("waiting for cargo")?;
        ensure!(status.success(), "building lafter failed: see the messages above; the same command goes on from here");
        ensure!(built.library.is_file(), "cargo made no shared library");
        Ok(built)
    }

    /// The names of the crates below the library; a name stands twice where two versions are compiled.
    fn crates(&self) -> Result<Vec<String>> {
        let mut cargo = self.cargo("tree");
        cargo.args(["-p", PACKAGE, "-e", "no-dev", "--prefix", "none", "--format", "{p}"]).args(self.features());
        let output = cargo.output().context("running cargo tree")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let crates: HashSet<&str> = text.lines().map(|line| line.trim_end_matches(" (*)")).filter(|line| !line.is_empty()).collect();
        Ok(crates.iter().map(|line| line.split(' ').next().unwrap_or_default().to_string()).collect())
    }
}

fn cost(name: &str) -> f64 {
    COSTLY.iter().find(|(costly, _)| *costly == name).map_or(SMALL, |(_, cost)| *cost)
}

fn is(file: &Path, endings: &[&str]) -> bool {
    file.extension().is_some_and(|ending| endings.iter().any(|one| ending == *one))
}

/// "registry+https://…#serde@1.0.2" and "path+file:///a/lafter#0.1.0" → the package's name.
fn name_of(id: &str) -> &str {
    let (place, version) = id.rsplit_once('#').unwrap_or((id, ""));
    match version.split_once('@') {
        Some((name, _)) => name,
        None => place.rsplit('/').next().unwrap_or(place),
    }
}

/// How far the build is.
struct Way {
    bar: ProgressBar,
    seen: HashSet<String>,
    started: Instant,
    /// In processor seconds of a known machine: what is left, and what was compiled here.
    left: f64,
    compiled: f64,
    last: Instant,
}

impl Way {
    fn new(cost: f64, crates: usize) -> Self {
        let bar = ProgressBar::with_draw_target(Some(crates as u64), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos} of {len} crates, {elapsed} so far{msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_secs(1));
        Self { bar, seen: HashSet::new(), started: Instant::now(), left: cost, compiled: 0.0, last: Instant::now() }
    }

    /// Whether the crate is counted for the first time: one that serves a build script, too, may be compiled twice.
    fn step(&mut self, id: &str, name: &str, fresh: bool) -> bool {
        if !self.seen.insert(id.to_string()) {
            return false;
        }
        let cost = cost(name);
        self.left = (self.left - cost).max(0.0);
        self.compiled += if fresh { 0.0 } else { cost };
        self.bar.inc(1);
        let left = (self.compiled > 20.0).then(|| self.started.elapsed().as_secs_f64() * self.left / self.compiled);
        let left = left.map_or(String::new(), |seconds| format!(", about {:.0} min left", (seconds / 60.0).ceil()));
        self.bar.set_message(format!("{left} ({name})"));
        // where nobody watches a bar, a line a minute
        if self.bar.is_hidden() && self.last.elapsed() > Duration::from_secs(60) {
            self.last = Instant::now();
            eprintln!("{} of {} crates{left}", self.seen.len(), self.bar.length().unwrap_or(0));
        }
        true
    }

    fn end(self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_run_tells_its_program_is_kept_from_build_scripts() {
        assert!(["CARGO_PKG_NAME", "CARGO_MANIFEST_DIR", "OUT_DIR", "RUSTFLAGS"].into_iter().all(of_outer_cargo));
        assert!(!["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_NET_OFFLINE", "PATH", "CC"].into_iter().any(of_outer_cargo));
    }

    #[test]
    fn a_package_is_known_by_its_id() {
        let ids = [
            ("registry+https://example.org/index#serde@1.0.228", "serde"),
            ("path+file:///home/me/lafter#0.1.0", "lafter"),
            ("path+file:///home/me/checkout/kernel/session#lafter-notebook@0.1.0", PACKAGE),
        ];
        for (id, name) in ids {
            assert_eq!(name_of(id), name);
        }
    }

    #[test]
    fn a_crate_counts_once_and_what_was_there_is_no_measure_of_speed() {
        let mut way = Way::new(300.0, 3);
        assert!(way.step("a#image@1", "image", true) && !way.step("a#image@1", "image", true) && way.step("b#lafter@1", "lafter", false));
        assert_eq!((way.left, way.compiled), (24.0, 240.0));
        way.end();
    }
}
