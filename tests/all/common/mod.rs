//! What several tests share.

use std::path::{Path, PathBuf};

/// A part of the folder that the environment variable LAFTER_TEST_DATA names.
pub fn test_data(part: &str) -> PathBuf {
    let folder = std::env::var_os("LAFTER_TEST_DATA").expect("LAFTER_TEST_DATA names no folder: tests/README.md says what it holds");
    let path = Path::new(&folder).join(part);
    assert!(path.exists(), "{} is not there: tests/README.md says where it comes from", path.display());
    path
}
