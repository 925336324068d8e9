//! The standard library's source as rust-analyzer is to see it: outlines of `core`, `alloc` and `std`, with few of the processors'
//! intrinsics.
//!
//! The analyzer reads all of it before the first cell of every session. Intrinsics are the larger half of the whole, most of them
//! other processors' or AVX-512; the crates that `std` is made of (allocators, backtraces, hash tables) show in no type that a
//! cell meets. Without the workspace's Cargo.toml the analyzer puts the crates together by itself and need not ask Cargo.

use std::path::Path;

use anyhow::Result;

use crate::outline;

/// Where they are, and where the analyzer looks for them. `std_detect` has the macros that ask for a processor's features.
const CRATES: [(&str, &str); 4] = [("core", "core"), ("alloc", "alloc"), ("std", "std"), ("std_detect", "stdarch/crates/std_detect")];
/// A part of `core`: files for all processors, and folders for some.
const INTRINSICS: &str = "stdarch/crates/core_arch/src";
/// The folders of this processor.
const OF_THIS_PROCESSOR: &[&str] = if cfg!(target_arch = "aarch64") { &["arm_shared", "aarch64"] } else { &["x86", "x86_64"] };

/// Fills the folder `to`; `source` is `rust-src`'s `library`.
pub fn outline(source: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to)?; // of an older toolchain
    }
    let (intrinsics, outlined) = (source.join(INTRINSICS), to.join(INTRINSICS));
    outline::copy(&intrinsics, &outlined, &|path| path.is_file())?;
    for folder in OF_THIS_PROCESSOR {
        outline::copy(&intrinsics.join(folder), &outlined.join(folder), &|path| {
            !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("avx512"))
        })?;
    }
    let is_no_test = |path: &Path| !path.file_name().is_some_and(|name| name == "tests" || name == "tests.rs");
    CRATES.iter().try_for_each(|(from, place)| outline::copy(&source.join(from).join("src"), &to.join(place).join("src"), &is_no_test))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_cells_meet_is_outlined() {
        let data = std::env::temp_dir().join(format!("lafter-kernel-rust-src-{}", std::process::id()));
        let (source, to) = (data.join("library"), data.join("outlined"));
        let of_this = |file: &str| OF_THIS_PROCESSOR.iter().map(|folder| format!("{INTRINSICS}/{folder}/{file}")).collect::<Vec<_>>();
        let shared = ["core/src/lib.rs", "alloc/src/lib.rs", "std/src/lib.rs", "stdarch/crates/core_arch/src/mod.rs"].map(String::from);
        let wanted = [&shared[..], &of_this("mod.rs")].concat();
        let others = ["Cargo.toml", "test/src/lib.rs", "std/src/tests.rs", "stdarch/crates/core_arch/src/mips/mod.rs"].map(String::from);
        let left_out = [&others[..], &of_this("avx512f.rs")].concat();
        for file in wanted.iter().chain(&left_out) {
            fs::create_dir_all(source.join(file).parent().unwrap()).unwrap();
            fs::write(source.join(file), "fn text() { 1 }").unwrap();
        }
        fs::create_dir_all(source.join("std_detect/src")).unwrap();
        for _ in 0..2 {
            outline(&source, &to).unwrap();
        }
        for file in wanted {
            assert_eq!(fs::read_to_string(to.join(&file)).unwrap(), "fn text() {}", "{file}");
        }
        for file in left_out {
            assert!(!to.join(&file).exists(), "{file}");
        }
        assert!(to.join("stdarch/crates/std_detect/src").is_dir());
        fs::remove_dir_all(data).unwrap();
    }
}
