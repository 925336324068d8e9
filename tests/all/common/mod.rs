//! What several tests share.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use lafter::data::ImageSource;
use lafter::data::scenes::{Domain, Scenes, class_names};
use tempfile::TempDir;

/// A part of the folder that the environment variable LAFTER_TEST_DATA names.
pub fn test_data(part: &str) -> PathBuf {
    let folder = std::env::var_os("LAFTER_TEST_DATA").expect("LAFTER_TEST_DATA names no folder: tests/README.md says what it holds");
    let path = Path::new(&folder).join(part);
    assert!(path.exists(), "{} is not there: tests/README.md says where it comes from", path.display());
    path
}

/// The program, with a cache of this run of the tests, whatever the user's environment: inside of a job of SLURM it would take a share.
pub fn program() -> Command {
    static CACHE: OnceLock<PathBuf> = OnceLock::new();
    let cache = CACHE.get_or_init(|| {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
        let _ = std::fs::remove_dir_all(&cache); // of an earlier run
        cache
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_lafter"));
    command.env("XDG_CACHE_HOME", cache);
    for (name, _) in std::env::vars_os() {
        let of_a_job = ["SLURM_", "OMPI_", "PMI", "LAFTER_"].iter().any(|start| name.to_string_lossy().starts_with(start));
        if of_a_job && name != "LAFTER_MAX_ISA" {
            command.env_remove(name);
        }
    }
    command
}

/// `lafter LINE` in this folder, with a cache of its own there and nothing on standard input.
pub fn lafter(folder: &Path, line: &str) -> Command {
    let mut command = program();
    command.args(line.split(' ')).current_dir(folder).env("XDG_CACHE_HOME", folder.join("cache"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Whether [`lafter`] ended well, and what it wrote to standard output and standard error.
pub fn tried(folder: &Path, line: &str) -> (bool, String, String) {
    let output = lafter(folder, line).output().unwrap();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `n` rendered pictures in the flat folder photos, named by number, and the class names as names.txt.
pub fn pictures(domain: Domain, n: usize) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let scenes = Scenes::new(domain, n, 3);
    std::fs::create_dir(root.path().join("photos")).unwrap();
    for i in 0..n {
        scenes.image(i).unwrap().save(root.path().join(format!("photos/{i:03}.png"))).unwrap();
    }
    std::fs::write(root.path().join("names.txt"), class_names().join("\n")).unwrap();
    root
}
