//! How much memory this process can still get: what the machine has, and what a container or a cluster's job is allowed.

use std::fs::read_to_string;
use std::path::Path;

/// The least of what the system can give and of what each control group around this process leaves it, in bytes; `None`
/// if the system does not say (elsewhere than on Linux).
pub(super) fn free_memory() -> Option<u64> {
    let text = read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let available = line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()? * 1024;
    let groups = read_to_string("/proc/self/cgroup").unwrap_or_default();
    let left = groups.lines().filter_map(|group| left_by_group(group, Path::new("/sys/fs/cgroup")));
    Some(left.fold(available, u64::min))
}

/// Files of one version of control groups: limit, what is taken, and the name of the files' pages in memory.stat that the
/// system takes back when they are needed.
struct Version {
    limit: &'static str,
    taken: &'static str,
    reclaimable: &'static str,
}

const V1: Version = Version { limit: "memory.limit_in_bytes", taken: "memory.usage_in_bytes", reclaimable: "total_inactive_file " };
const V2: Version = Version { limit: "memory.max", taken: "memory.current", reclaimable: "inactive_file " };

/// What the groups from a line of /proc/self/cgroup ("4:memory:/job/step", "0::/user.slice") up to the root leave, if any
/// of them limits memory.
fn left_by_group(line: &str, root: &Path) -> Option<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
    let (root, version) = match controllers {
        "" => (root.to_path_buf(), V2),
        some if some.split(',').any(|name| name == "memory") => (root.join("memory"), V1),
        _ => return None,
    };
    // inside a container the path may be the host's, and the root the container's own group
    Path::new(path).ancestors().filter_map(|group| left_in(&root.join(group), &version)).min()
}

fn left_in(group: &Path, version: &Version) -> Option<u64> {
    let number = |file: &str| read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok(); // "max" is none
    let (limit, taken) = (number(version.limit)?, number(version.taken)?);
    let stat = read_to_string(group.join("memory.stat")).unwrap_or_default();
    let reclaimable = stat.lines().find_map(|line| line.strip_prefix(version.reclaimable)?.trim().parse().ok()).unwrap_or(0);
    Some(limit.saturating_sub(taken.saturating_sub(reclaimable)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn the_tightest_group_decides() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory/memory.usage_in_bytes", "5000\n"),
                ("memory/job/memory.limit_in_bytes", "1000\n"),
                ("memory/job/memory.usage_in_bytes", "700\n"),
                ("memory/job/memory.stat", "cache 9\ntotal_inactive_file 200\n"),
                ("memory/job/step/memory.limit_in_bytes", "2000\n"),
                ("memory/job/step/memory.usage_in_bytes", "100\n"),
                ("slice/memory.max", "max\n"),
                ("slice/memory.current", "1\n"),
                ("slice/job/memory.max", "300\n"),
                ("slice/job/memory.current", "500\n"),
            ],
        );
        let left = |line| left_by_group(line, root.path());
        assert_eq!(left("4:memory:/job/step"), Some(500));
        assert_eq!(left("4:cpuset,memory:/elsewhere"), Some(9223372036854766712));
        assert_eq!(left("0::/slice"), None);
        assert_eq!(left("0::/slice/job"), Some(0));
        assert_eq!((left("3:cpu:/job"), left(""), left("x")), (None, None, None));
    }
}
