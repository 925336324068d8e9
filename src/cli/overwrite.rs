//! No command writes over what it reads.

use std::io::ErrorKind::{NotADirectory, NotFound};
use std::path::{Path, PathBuf};

use lafter::clip::Weights;
use lafter::predictions::is_table;
use lafter::{Error, Result};

/// Refuses to write a file that is read as well, however its path is spelled, or one that lies in a folder that is read: a picture, a
/// shard, a model's weights. What commands write there, and none reads, may be written anew.
pub fn check<'a>(written: &Path, read: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    if written.is_dir() {
        return Err(Error::Usage(format!("{} is a folder, and a file is written: name a file", written.display())));
    }
    let refused = |why: &str| Error::Usage(format!("{} {why} and would be overwritten: choose another name", written.display()));
    for read in read {
        if read == written {
            return Err(refused("is read by this very command"));
        }
        let Ok(file) = written.canonicalize() else { continue }; // it is not there yet
        for named in named_by(read).iter().filter_map(|path| path.canonicalize().ok()) {
            if named == file {
                return Err(refused("is read by this very command"));
            }
            if file.is_file() && named.is_dir() && file.starts_with(&named) && !is_output(&file) {
                return Err(refused(&format!("lies in {}, which is read by this very command,", read.display())));
            }
            if Weights::files(&named).iter().any(|weights| weights.canonicalize().is_ok_and(|weights| weights == file)) {
                return Err(refused(&format!("holds the weights of {}, which is read by this very command,", read.display())));
            }
        }
    }
    Ok(())
}

/// Refuses one name for both files that a command writes.
pub fn differ(a: &Option<PathBuf>, b: &Option<PathBuf>) -> Result<()> {
    match (a, b) {
        (Some(a), Some(b)) if std::path::absolute(a).ok() == std::path::absolute(b).ok() => {
            Err(Error::Usage(format!("{} would be written twice: give --out and --answers different names", a.display())))
        }
        _ => Ok(()),
    }
}

/// How a folder of files that are not all there yet is called, here as in a merge.
pub const UNFINISHED: &str = ".unfinished-";

/// Refuses a folder that holds something; what a killed command left unfinished is nothing.
pub fn new_or_empty(out: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(out) {
        Err(e) if e.kind() == NotFound => return Ok(()),
        Err(e) if e.kind() == NotADirectory => {
            return Err(Error::Usage(format!("--out {} is a file, or below one: name a folder", out.display())));
        }
        entries => entries.map_err(|e| Error::io(out, e))?,
    };
    match entries.flatten().any(|entry| !entry.file_name().to_string_lossy().starts_with(UNFINISHED)) {
        true => Err(Error::Usage(format!("--out {} is not empty: name another folder", out.display()))),
        false => Ok(()),
    }
}

/// What an argument may name: a path as it is, one with a split behind it (`folder:test`), a pattern (`shards/{00..12}.tar`).
fn named_by(read: &Path) -> Vec<PathBuf> {
    let text = read.to_str().unwrap_or_default();
    let before_split = text.rsplit_once(':').map(|(path, _)| PathBuf::from(path));
    let before_pattern = text.split_once('{').map(|(path, _)| match Path::new(path) {
        path if text.contains("/{") => path.to_path_buf(),
        path => path.parent().unwrap_or(path).to_path_buf(),
    });
    let here = |path: PathBuf| if path.as_os_str().is_empty() { PathBuf::from(".") } else { path };
    [Some(read.to_path_buf()), before_split, before_pattern.map(here)].into_iter().flatten().collect()
}

/// Whether a file is such as commands write and none reads where pictures or a model are expected.
fn is_output(file: &Path) -> bool {
    let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().to_lowercase();
    match part(file.extension()).as_str() {
        "onnx" => true,
        "safetensors" => !part(file.file_stem()).contains("model"), // a model's, also one that is not read now
        _ => is_table(file),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir, write};

    use super::*;

    #[test]
    fn a_file_is_the_same_however_it_is_spelled() {
        let folder = tempfile::tempdir().unwrap();
        let (file, spelled) = (folder.path().join("set.parquet"), folder.path().join("./set.parquet"));
        write(&file, "x").unwrap();
        let split = folder.path().join("set.parquet:test");
        for read in [&file, &spelled, &split] {
            assert!(check(&file, [read.as_path()]).is_err(), "{}", read.display());
        }
        check(&folder.path().join("new"), [file.as_path(), folder.path()]).unwrap();
        assert!(check(folder.path(), []).unwrap_err().to_string().contains("name a file"));
    }

    #[test]
    fn a_folder_with_what_was_not_finished_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        create_dir(path.join(".unfinished-a1b2c3")).unwrap();
        for folder in [path, &path.join("new")] {
            new_or_empty(folder).unwrap();
        }
        write(path.join("notes.txt"), "x").unwrap();
        assert!(new_or_empty(path).unwrap_err().to_string().contains("is not empty"));
        assert!(new_or_empty(&path.join("notes.txt")).unwrap_err().to_string().contains("is a file"));
    }

    #[test]
    fn the_weights_of_a_clip_stay_under_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        create_dir(at("clip")).unwrap();
        for file in ["clip/vit.safetensors", "clip/config.json", "elsewhere.safetensors"] {
            write(at(file), "{}").unwrap();
        }
        let refused = |file: &str| check(&at(file), [at("clip").as_path()]).unwrap_err().to_string();
        assert!(refused("clip/vit.safetensors").contains("would be overwritten"));
        check(&at("elsewhere.safetensors"), [at("clip").as_path()]).unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(at("clip/vit.safetensors"), at("link.safetensors")).unwrap();
            assert!(refused("link.safetensors").contains("would be overwritten"));
            std::fs::remove_file(at("clip/vit.safetensors")).unwrap();
            std::os::unix::fs::symlink(at("elsewhere.safetensors"), at("clip/vit.safetensors")).unwrap();
            assert!(refused("elsewhere.safetensors").contains("elsewhere.safetensors holds the weights of"));
        }
        // another of the usual names is read, so this one is not
        write(at("clip/model.safetensors"), "x").unwrap();
        write(at("clip/lafter.safetensors"), "x").unwrap();
        check(&at("clip/lafter.safetensors"), [at("clip").as_path()]).unwrap();
    }

    #[test]
    fn what_lies_in_a_folder_that_is_read_stays_and_results_are_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        create_dir(at("in")).unwrap();
        for file in ["in/0.png", "in/a.tar", "in/model.safetensors", "in/foreign.csv", "in/x.onnx", "in/features.safetensors"] {
            write(at(file), "x").unwrap();
        }
        write(at("in/table.csv"), "picture,class,probability,runner_up,margin\na.png,dog,0.9,cat,0.8\n").unwrap();
        for read in ["in", "in:test", "in/{a,b}.tar", "in/a{0..2}.tar", "{in,out}/a.tar"].map(at) {
            for file in ["in/0.png", "in/a.tar", "in/model.safetensors", "in/foreign.csv"] {
                let error = check(&at(file), [read.as_path()]).unwrap_err().to_string();
                assert!(error.contains("would be overwritten"), "{error}");
            }
            for file in ["in/x.onnx", "in/features.safetensors", "in/table.csv", "in/new.png"] {
                check(&at(file), [read.as_path()]).unwrap();
            }
        }
    }
}
