//! What an installation needs besides the toolchain: room on the disks, and folders that may be written in and are no Cargo workspace's.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use crate::toolchain::Need;

/// Bytes that Cargo's compiled crates take where nothing was compiled before, and those of the installed kernel.
const COMPILED: u64 = 2 << 30;
const INSTALLED: u64 = 1 << 30;

/// Whether both folders can be made and written in, whether Cargo takes cells there for themselves, and whether there is room.
pub fn needs(data: &Path, kernelspec: &Path, compiled_in: &Path) -> Vec<Need> {
    let mut needs: Vec<Need> = [("data", data), ("kernels", kernelspec)].map(|(name, folder)| writable(name, folder)).into();
    if needs.iter().all(|need| need.found.is_ok()) {
        needs.push(alone(data));
        needs.push(room(data, compiled_in));
    }
    needs
}

fn writable(name: &'static str, folder: &Path) -> Need {
    let probe = folder.join(format!(".probe-{}", std::process::id()));
    let tried = fs::create_dir_all(folder).and_then(|()| fs::write(&probe, "")).and_then(|()| fs::remove_file(&probe));
    let remedy = |error| format!("{} cannot be written in ({error}); give --prefix DIR, a folder of yours", folder.display());
    Need { name, found: tried.map(|()| folder.display().to_string()).map_err(remedy) }
}

/// Cells are packages below the data folder: Cargo must not count them to a workspace above it.
fn alone(data: &Path) -> Need {
    let probe = data.join(format!(".probe-{}", std::process::id()));
    let manifest = probe.join("Cargo.toml");
    let package = "[package]\nname = \"probe\"\nedition = \"2024\"\n\n[lib]\npath = \"lib.rs\"\n";
    let mut cargo = Command::new("cargo");
    cargo.args(["locate-project", "--workspace", "--message-format=plain", "--manifest-path"]).arg(&manifest);
    let tried = fs::create_dir_all(&probe).and_then(|()| fs::write(&manifest, package)).and_then(|()| cargo.output());
    let _ = fs::remove_dir_all(&probe);
    let said = match tried {
        Ok(output) if output.status.success() => format!("workspace: {}", String::from_utf8_lossy(&output.stdout)),
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    let found = match said.lines().find_map(|line| line.strip_prefix("workspace:")).map(str::trim) {
        Some(root) if Path::new(root).parent().is_some_and(|folder| folder.file_name() == probe.file_name()) => {
            Ok("none above the data folder".to_string())
        }
        Some(root) => Err(format!("they would be in the workspace of {root}")),
        None => Err(said.lines().next().unwrap_or_default().to_string()),
    };
    let remedy = |why| format!("Cargo cannot compile cells in {} ({why}); give --prefix DIR, a folder outside of it", data.display());
    Need { name: "workspace", found: found.map_err(remedy) }
}

/// The same disk holds both, or each its part.
fn room(data: &Path, compiled_in: &Path) -> Need {
    let parts = match device(data).zip(device(compiled_in)) {
        Some((one, other)) if one != other => vec![(data, INSTALLED), (compiled_in, COMPILED)],
        _ => vec![(data, INSTALLED + COMPILED)],
    };
    let mut found = Vec::new();
    for (folder, needed) in parts {
        let Some(free) = free(folder) else { continue };
        if free < needed {
            let remedy = format!(
                "{} GB are free in {}, {} are needed; make room or give another --prefix",
                free >> 30,
                folder.display(),
                needed >> 30
            );
            return Need { name: "disk", found: Err(remedy) };
        }
        found.push(format!("{} GB free in {}", free >> 30, folder.display()));
    }
    Need { name: "disk", found: Ok(found.join(", ")) }
}

fn device(folder: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    folder.metadata().ok().map(|metadata| metadata.dev())
}

/// Bytes that a user may still write there.
fn free(folder: &Path) -> Option<u64> {
    let path = CString::new(folder.as_os_str().as_bytes()).ok()?;
    let mut disk = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends with a zero, and the struct is read only if it was filled.
    let disk = unsafe { (libc::statvfs(path.as_ptr(), disk.as_mut_ptr()) == 0).then(|| disk.assume_init())? };
    #[allow(clippy::unnecessary_cast)] // 32 bits on macOS
    Some(disk.f_bavail as u64 * disk.f_frsize as u64)
}

/// Processor seconds of all programs that this one started and waited for, and of theirs.
pub fn seconds_of_children() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: as above
    let Some(usage) = (unsafe { (libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) == 0).then(|| usage.assume_init()) }) else {
        return 0.0;
    };
    [usage.ru_utime, usage.ru_stime].iter().map(|time| time.tv_sec as f64 + time.tv_usec as f64 * 1e-6).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_made_is_named_and_room_is_told() {
        let here = std::env::temp_dir().join(format!("lafter-kernel-machine-{}", std::process::id()));
        let found = needs(&here.join("data"), &here.join("kernels"), &here);
        assert!(found.len() == 4 && found.iter().all(|need| need.found.is_ok()));
        fs::write(here.join("file"), "").unwrap();
        let refused = needs(&here.join("file/data"), &here, &here);
        assert!(refused[0].found.as_ref().is_err_and(|remedy| remedy.contains("file/data") && remedy.contains("--prefix")));
        assert_eq!(refused.len(), 2, "no room is told of a folder that is not there");
        assert!(free(&here).unwrap() > 0 && device(&here).is_some());
        let workspace = |text: &str| fs::write(here.join("Cargo.toml"), text).unwrap();
        workspace("[workspace]\n");
        assert!(alone(&here.join("data")).found.is_err_and(|remedy| remedy.contains("machine") && remedy.contains("Cargo.toml);")));
        workspace("[workspace]\nexclude = [\"data\"]\n");
        assert!(alone(&here.join("data")).found.is_ok());
        fs::remove_dir_all(here).unwrap();
    }
}
