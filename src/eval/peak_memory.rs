//! The most memory this process has held.

/// The greatest resident set size of this process so far, in bytes; `None` if the system does not say.
///
/// ```
/// # #[cfg(unix)]
/// assert!(lafter::eval::peak_rss_bytes().is_some_and(|bytes| bytes > 100_000));
/// ```
#[cfg(unix)]
pub fn peak_rss_bytes() -> Option<u64> {
    // SAFETY: getrusage only writes to the struct it is given; all-zero bytes are a valid `rusage`.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::getrusage(libc::RUSAGE_SELF, &mut usage) == 0).then_some(usage)
    }?;
    // macOS counts in bytes, the others in kilobytes.
    let unit = if cfg!(any(target_os = "macos", target_os = "ios")) { 1 } else { 1024 };
    u64::try_from(usage.ru_maxrss).ok().filter(|peak| *peak > 0).map(|peak| peak * unit)
}

/// The greatest resident set size of this process so far, in bytes; `None` if the system does not say.
#[cfg(not(unix))]
pub fn peak_rss_bytes() -> Option<u64> {
    None
}
