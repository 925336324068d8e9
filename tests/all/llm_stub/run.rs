//! `lafter describe` in a folder of its own, asking a stub.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::Stub;

pub const KEY: &str = "sk-this-must-never-be-seen-4711";

/// A folder with a class file and a place for the output.
pub struct Run {
    pub dir: TempDir,
    pub address: String,
    pub extra: Vec<String>,
}

impl Run {
    pub fn new(stub: &Stub, classes: &str, extra: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("names.txt"), classes).unwrap();
        Self { dir, address: stub.address.clone(), extra: extra.iter().map(ToString::to_string).collect() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn command(&self) -> Command {
        let mut command = lafter();
        command.arg("describe").arg("--classes").arg(self.path("names.txt")).arg("--out").arg(self.path("texts.json"));
        command.args(["--endpoint", &self.address, "--llm", "stub"]).args(&self.extra);
        command.env("OPENAI_API_KEY", KEY).stdin(Stdio::null());
        command
    }

    pub fn run(&self) -> Output {
        self.command().output().unwrap()
    }

    pub fn good(&self) -> String {
        let output = self.run();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    }

    pub fn lines(&self, name: &str) -> Vec<Value> {
        self.read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub fn lafter() -> Command {
    let mut command = crate::common::program();
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "OPENAI_API_KEY"] {
        command.env_remove(name);
    }
    command
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Fails with this status and one line that holds every one of `words`; the key is nowhere.
pub fn refused(output: &Output, status: i32, words: &[&str]) -> String {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    assert!(!stderr.contains(KEY) && !text(&output.stdout).contains(KEY), "{stderr}");
    for word in words {
        assert!(errors[0].contains(word), "\"{}\" does not say \"{word}\"", errors[0]);
    }
    errors[0].to_string()
}

pub fn wait_for(mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "waited for a minute");
        std::thread::sleep(Duration::from_millis(10));
    }
}
