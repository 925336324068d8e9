//! Where things lie: the data folder with its seed and sessions, and Jupyter's folder of kernels.
//!
//! ```text
//! DATA/bin/lafter-kernel    this binary
//! DATA/.cargo/config.toml   profile of all builds below: dependencies optimized, without assertions
//! DATA/evcxr/evcxr.toml     how evcxr starts
//! DATA/seed/                the library over lafter that all cells share, and descriptions of the crates in it
//! DATA/wrapper/             its package, where there is no checkout
//! DATA/rust-src/            outlines of the standard library's source for the analyzer
//! DATA/outlines/            the same of the crates that cells meet
//! DATA/compiled/            the cache of compiled cells
//! DATA/private              names that are not offered
//! DATA/history              the inputs of all sessions
//! DATA/shims/bin/           our stand-ins for cargo and rustup
//! DATA/sessions/PID/        where a running notebook compiles its cells
//! ```
//!
//! Who may not write in the data folder has sessions in `~/.cache/lafter-kernel`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The data folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    pub data: PathBuf,
}

/// Whose Jupyter the kernel is installed for.
#[derive(Clone, Debug, PartialEq)]
pub enum Scope {
    User,
    Prefix(PathBuf),
}

impl Scope {
    /// Jupyter's folder of this kernel.
    pub fn kernelspec(&self) -> Result<PathBuf> {
        let jupyter = match self {
            Self::Prefix(prefix) => prefix.join("share/jupyter"),
            Self::User => match std::env::var_os("JUPYTER_DATA_DIR") {
                Some(folder) => folder.into(),
                None => user_data()?.join("jupyter"),
            },
        };
        Ok(jupyter.join("kernels/lafter"))
    }

    pub fn layout(&self) -> Result<Layout> {
        let data = match self {
            Self::Prefix(prefix) => std::path::absolute(prefix)?.join("share/lafter-kernel"),
            Self::User => user_data()?.join("lafter-kernel"),
        };
        Ok(Layout { data })
    }
}

impl Layout {
    pub fn binary(&self) -> PathBuf {
        self.data.join("bin/lafter-kernel")
    }

    pub fn wrapper(&self) -> PathBuf {
        self.data.join("wrapper")
    }

    pub fn seed(&self) -> PathBuf {
        self.data.join("seed")
    }

    /// The folder of evcxr's settings.
    pub fn settings(&self) -> PathBuf {
        self.data.join("evcxr")
    }

    pub fn shims(&self) -> PathBuf {
        self.data.join("shims")
    }

    /// Outlines of the standard library's source for the analyzer.
    pub fn rust_src(&self) -> PathBuf {
        self.data.join("rust-src")
    }

    /// The same of the crates that cells meet.
    pub fn outlines(&self) -> PathBuf {
        self.data.join("outlines")
    }

    /// Sysroot and version of the toolchain that everything was built with.
    pub fn toolchain(&self) -> PathBuf {
        self.data.join("toolchain")
    }

    /// What `cargo metadata` is to say of a session.
    pub fn description(&self) -> PathBuf {
        self.data.join("metadata.json")
    }

    /// The shared library of lafter, and the folder of what the compiler reads of the crates in it.
    pub fn library(&self) -> (PathBuf, PathBuf) {
        (self.seed().join("liblafter_notebook.so"), self.seed().join("deps"))
    }

    /// There while an install is not done.
    pub fn unfinished(&self) -> PathBuf {
        self.data.join("unfinished")
    }

    /// The cache of compiled cells.
    pub fn compiled(&self) -> PathBuf {
        self.data.join("compiled")
    }

    /// Names that cells cannot use.
    pub fn private(&self) -> PathBuf {
        self.data.join("private")
    }

    /// The inputs of all sessions.
    pub fn history(&self) -> PathBuf {
        self.data.join("history")
    }

    pub fn sessions(&self) -> PathBuf {
        self.data.join("sessions")
    }
}

fn user_data() -> Result<PathBuf> {
    match std::env::var_os("XDG_DATA_HOME").filter(|folder| Path::new(folder).is_absolute()) {
        Some(folder) => Ok(folder.into()),
        None => Ok(home()?.join(".local/share")),
    }
}

fn home() -> Result<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from).context("HOME is not set: give --prefix DIR")
}

/// Bytes below a folder, hard links counted where they stand.
pub fn size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_holds_both_the_kernelspec_and_the_data() {
        let scope = Scope::Prefix("/opt/env".into());
        assert_eq!(scope.kernelspec().unwrap(), Path::new("/opt/env/share/jupyter/kernels/lafter"));
        let layout = scope.layout().unwrap();
        assert_eq!(layout.seed(), Path::new("/opt/env/share/lafter-kernel/seed"));
        assert!(layout.binary().starts_with(&layout.data));
    }
}
