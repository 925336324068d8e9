//! No command writes over what it reads.

use std::path::Path;

use lafter::{Error, Result};

/// Refuses to write a file that is read as well, however its path is spelled. A data set may be named with its split behind it
/// (`file.parquet:test`).
pub fn check<'a>(written: &Path, read: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    let same = |a: &Path| a == written || matches!((a.canonicalize(), written.canonicalize()), (Ok(a), Ok(b)) if a == b);
    let without_split = |path: &Path| path.to_str().and_then(|path| path.rsplit_once(':')).is_some_and(|(path, _)| same(Path::new(path)));
    match read.into_iter().any(|path| same(path) || without_split(path)) {
        true => {
            Err(Error::Usage(format!("{} is read by this very command and would be overwritten: choose another name", written.display())))
        }
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_same_however_it_is_spelled() {
        let folder = tempfile::tempdir().unwrap();
        let (file, spelled) = (folder.path().join("set.parquet"), folder.path().join("./set.parquet"));
        std::fs::write(&file, "x").unwrap();
        let split = folder.path().join("set.parquet:test");
        for read in [&file, &spelled, &split] {
            assert!(check(&file, [read.as_path()]).is_err(), "{}", read.display());
        }
        check(&folder.path().join("new"), [file.as_path(), folder.path()]).unwrap();
    }
}
