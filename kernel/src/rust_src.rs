//! The standard library's source as rust-analyzer is to see it: all of it, but for the AVX-512 intrinsics.
//!
//! They are a fifth of the whole, and the analyser would read them before the first cell of every session. The folder holds
//! links to the real files, and empty files in place of those.

use std::fs;
use std::io::Result;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Below the source's folder, the folders that hold such files.
const INTRINSICS: [&str; 2] = ["stdarch/crates/core_arch/src/x86", "stdarch/crates/core_arch/src/x86_64"];

/// Fills the folder `to`; `source` is `rust-src`'s `library`.
pub fn link(source: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?; // of an older toolchain
    }
    link_level(source, to, Path::new(""))
}

/// A real folder where something below is to differ, else a link.
fn link_level(source: &Path, to: &Path, below: &Path) -> Result<()> {
    fs::create_dir_all(to.join(below))?;
    for entry in fs::read_dir(source.join(below))? {
        let name = entry?.file_name();
        let path: PathBuf = below.join(&name);
        if INTRINSICS.iter().any(|folder| Path::new(folder).starts_with(&path)) {
            link_level(source, to, &path)?;
        } else if INTRINSICS.iter().any(|folder| below == Path::new(folder)) && name.to_string_lossy().starts_with("avx512") {
            fs::write(to.join(path), "")?;
        } else {
            symlink(source.join(&path), to.join(path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_linked_but_for_the_intrinsics() {
        let data = std::env::temp_dir().join(format!("lafter-kernel-rust-src-{}", std::process::id()));
        let (source, to) = (data.join("library"), data.join("linked"));
        let files = ["Cargo.toml", "core/src/lib.rs", "stdarch/crates/core_arch/src/mod.rs"].map(String::from);
        let intrinsics = ["avx.rs", "avx512f.rs"].map(|name| format!("{}/{name}", INTRINSICS[0]));
        for file in files.iter().chain(&intrinsics) {
            fs::create_dir_all(source.join(file).parent().unwrap()).unwrap();
            fs::write(source.join(file), "text").unwrap();
        }
        for _ in 0..2 {
            link(&source, &to).unwrap();
        }
        for file in files.iter().chain(&intrinsics[..1]) {
            assert_eq!(fs::read_to_string(to.join(file)).unwrap(), "text", "{file}");
        }
        assert_eq!(fs::read_to_string(to.join(&intrinsics[1])).unwrap(), "");
        assert_eq!(fs::read_to_string(source.join(&intrinsics[1])).unwrap(), "text");
        fs::remove_dir_all(data).unwrap();
    }
}
