//! Whether a file is still the one that was read.

use std::path::Path;
use std::time::UNIX_EPOCH;

/// A number that is another once a file was written to, or another file stands in its place; 0 if that is not known. Programs that copy
/// and unpack set the time at which a file was last written; where the system also notes the time of any change, which nobody sets,
/// that counts, too.
pub(crate) fn version(path: &Path) -> u64 {
    let Ok(file) = std::fs::metadata(path) else { return 0 };
    let written = file.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_nanos() as u64);
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let noted = (file.ctime() as u64).wrapping_mul(1_000_000_000).wrapping_add(file.ctime_nsec() as u64);
        let all: Vec<u8> = [written, noted, file.ino()].into_iter().flat_map(u64::to_le_bytes).collect();
        fnv(&all).max(1)
    }
    #[cfg(not(unix))]
    written
}

/// A short hash of bytes (FNV-1a).
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
