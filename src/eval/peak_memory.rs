//! The most memory this process has held.

/// The greatest resident set size of this process so far, in bytes; `None` if the system does not say.
///
/// ```
/// # #[cfg(unix)]
/// assert!(lafter::eval::peak_rss_bytes().is_some_and(|bytes| bytes > 100_000));
/// ```
#[cfg(unix)]
pub fn peak_rss_bytes() -> Option<u64> {
    own_peak().or_else(greatest)
}

/// What Linux keeps of this program's own memory: `getrusage` also counts that of the process that started it.
#[cfg(unix)]
fn own_peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(unix)]
fn greatest() -> Option<u64> {
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_the_parent_is_not_counted() {
        const CHILD: &str = "LAFTER_TEST_PEAK";
        if std::env::var_os(CHILD).is_some() {
            println!("peak {}", peak_rss_bytes().unwrap());
            return;
        }
        let held = vec![1u8; 300 << 20];
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let name = "eval::peak_memory::tests::the_memory_of_the_parent_is_not_counted";
        let said = child.args(["--exact", name, "--nocapture"]).env(CHILD, "1").output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let peak = said.split_once("peak ").and_then(|(_, rest)| rest.lines().next()?.trim().parse::<usize>().ok());
        assert!(peak.is_some_and(|peak| peak < held.len() / 2), "{said}");
        assert!(peak_rss_bytes().is_some_and(|peak| peak as usize > held.len()));
    }
}
