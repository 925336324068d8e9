//! The pictures that `predict` was given.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use lafter::data::{self, Dataset, Findings, OpenOptions, pictures_in};
use lafter::predictions::is_table;
use lafter::progress::Event;
use lafter::{Error, Result};

use super::bars::Bars;
use super::data_args::SplitArgs;

/// One data set in any form, or files as they are and of folders all pictures in them and below, in the order of their names; `-` stands
/// for paths on standard input, one a line, or as `find -print0` gives them.
///
/// Pictures next to Parquet files or tar shards are refused, since either may be meant; `table` is the command's own. Those below
/// `link_into`, where the command sorts its answers, are left out.
pub fn data(arguments: &[PathBuf], split: &SplitArgs, table: Option<&Path>, link_into: Option<&Path>, bars: &mut Bars) -> Result<Dataset> {
    let options = [("--split", split.split.is_some()), ("--label-column", split.label_column.is_some())];
    match (arguments, options.into_iter().find(|(_, given)| *given)) {
        (_, None) => {}
        ([only], Some(_)) => return open(only, split, bars),
        (_, Some((option, _))) => {
            return Err(Error::Usage(format!("{option} belongs to one data set: give that alone, or leave {option} out")));
        }
    }
    let mut files = Vec::new();
    for path in arguments {
        let shown = path.display().to_string();
        if shown.contains("://") {
            return Err(Error::Usage(format!("{shown}: is a web address: download the picture and give the file")));
        }
        if shown == "-" {
            let mut given = Vec::new();
            std::io::stdin()
                .lock()
                .read_to_end(&mut given)
                .map_err(|e| Error::Usage(format!("standard input: {e}: give one path a line")))?;
            files.extend(paths(&given)?);
        } else if path.is_dir() {
            match (pictures_in(path), arguments) {
                (Ok((found, findings)), _) => {
                    if let ([only], Some(others)) = (arguments, data_files(path, &findings, table)) {
                        let (shown, count) = (only.display(), found.len());
                        return Err(Error::Usage(format!(
                            "{shown}: holds pictures ({count}) and data files ({others}): name the file or the inner folder that is meant, \
                             as {shown}/NAME, or the pictures one by one, as find {shown} -name '*.jpg' lists them for -"
                        )));
                    }
                    let left_out = findings.left_out_by_ending().map(|counts| format!("{shown}: left out by ending: {counts}"));
                    findings.notices.into_iter().chain(left_out).for_each(|notice| bars.show(&Event::Notice(notice)));
                    files.extend(found);
                }
                (Err(_), [only]) => return open(only, split, bars), // Parquet files, CIFAR's
                (Err(error), _) => return Err(error),
            }
        } else if let ([only], true) = (arguments, is_data_set(path)) {
            return open(only, split, bars);
        } else {
            files.push(path.clone());
        }
    }
    if let Some(folder) = link_into {
        files = without_sorted(files, folder, bars);
    }
    match (arguments, files.as_slice()) {
        (_, []) => Err(Error::Usage("no picture was given: name files or folders, or paths on standard input with -".into())),
        ([only], _) if only.as_os_str() != "-" && !only.exists() => {
            Err(Error::Usage(format!("{}: no such file or folder: check the path", only.display())))
        }
        _ => Ok(Dataset::from_files(files)),
    }
}

/// Leaves out pictures below a folder, where an earlier command sorted them; if all lie there, they are what is meant.
fn without_sorted(files: Vec<PathBuf>, folder: &Path, bars: &mut Bars) -> Vec<PathBuf> {
    let Ok(root) = folder.canonicalize() else { return files }; // not made yet
    let mut last = (PathBuf::new(), false);
    let (sorted, others): (Vec<PathBuf>, Vec<PathBuf>) = files.into_iter().partition(|file| {
        // what is asked is where the picture lies, not what it leads to
        let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if last.0 != parent {
            last = (parent.to_path_buf(), parent.canonicalize().is_ok_and(|parent| parent.starts_with(&root)));
        }
        last.1
    });
    if others.is_empty() {
        return sorted;
    }
    if !sorted.is_empty() {
        let (shown, count) = (folder.display(), sorted.len());
        bars.show(&Event::Notice(format!(
            "{shown}: {count} pictures in it are left out, since --link-into sorts answers there: give it alone to have them answered"
        )));
    }
    others
}

/// The Parquet files and tar shards among what a folder's pictures leave out, by ending, but for the table that was asked for and those
/// that earlier commands wrote directly there.
fn data_files(folder: &Path, found: &Findings, table: Option<&Path>) -> Option<String> {
    let is_of = |path: &Path, ending: &str| path.extension().is_some_and(|of| of.eq_ignore_ascii_case(ending));
    let own = |ending: &str| {
        let here = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let files = here.chain(table.map(Path::to_path_buf)).filter(|path| is_of(path, ending) && is_table(path));
        let root = folder.canonicalize().ok();
        let below = |path: &PathBuf| root.as_ref().is_some_and(|root| path.starts_with(root));
        files.filter_map(|path| path.canonicalize().ok()).filter(below).collect::<BTreeSet<_>>().len()
    };
    let count = |ending: &str| Some((ending.to_string(), found.left_out.get(ending)?.saturating_sub(own(ending))));
    let left_out = ["parquet", "tar"].into_iter().filter_map(count).filter(|(_, count)| *count > 0).collect();
    Findings { left_out, ..Findings::default() }.left_out_by_ending()
}

/// Paths, one a line, or with a zero byte behind each, as `find -print0` gives them.
fn paths(given: &[u8]) -> Result<Vec<PathBuf>> {
    let given = given.strip_prefix(b"\xef\xbb\xbf").unwrap_or(given); // a byte order mark
    if given.contains(&0) {
        return given.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(path).collect();
    }
    let lines = given.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.filter(|line| !line.is_empty()).map(path).collect()
}

#[cfg(unix)]
fn path(bytes: &[u8]) -> Result<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    Ok(std::ffi::OsStr::from_bytes(bytes).into())
}

#[cfg(not(unix))]
fn path(bytes: &[u8]) -> Result<PathBuf> {
    let path = std::str::from_utf8(bytes).map_err(|e| Error::Usage(format!("standard input: {e}: give one path a line, in UTF-8")))?;
    Ok(path.into())
}

/// Whether it is the name of a data set, not of a picture or a folder.
fn is_data_set(path: &Path) -> bool {
    let shown = path.to_string_lossy();
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    let split = shown.rsplit_once(':').is_some_and(|(folder, _)| !path.exists() && Path::new(folder).exists());
    let pattern = shown.contains('{') && ending == "tar" && !path.exists();
    shown.starts_with("hf:") && !path.exists() || split || pattern || ["parquet", "tar", "json", "arrow"].contains(&ending.as_str())
}

fn open(path: &Path, split: &SplitArgs, bars: &mut Bars) -> Result<Dataset> {
    let options = OpenOptions { labeled: false, ..split.options(None) };
    let dataset = data::open_with(&path.to_string_lossy(), &options, |event| bars.show(event))?;
    split.check([&dataset])?;
    Ok(dataset.unlabeled())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_standard_input() {
        let read =
            |given: &[u8]| paths(given).unwrap().into_iter().map(|path| path.into_os_string().into_encoded_bytes()).collect::<Vec<_>>();
        assert_eq!(read(b"a,b.png\r\n\nc d.png"), [b"a,b.png".to_vec(), b"c d.png".to_vec()]);
        assert_eq!(read(b"two\nlines.png\0c.png\r\0"), [b"two\nlines.png".to_vec(), b"c.png\r".to_vec()]);
        assert_eq!(read(b"\xef\xbb\xbfa.png\r\n"), [b"a.png".to_vec()]);
        assert!(read(b"").is_empty());
        #[cfg(unix)]
        assert_eq!(read(b"caf\xe9.png\n"), [b"caf\xe9.png".to_vec()]);
    }

    #[test]
    fn what_was_sorted_before_is_no_picture_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (root, sorted) = (folder.path(), folder.path().join("sorted"));
        std::fs::create_dir_all(sorted.join("cat")).unwrap();
        let (first, link) = (root.join("1.png"), sorted.join("cat/1.png"));
        [&first, &link].into_iter().for_each(|file| std::fs::write(file, "x").unwrap());
        let split = SplitArgs { split: None, label_column: None, memory_limit: None };
        let count = |given: &[&Path], into: &Path| {
            let given: Vec<PathBuf> = given.iter().map(|path| path.to_path_buf()).collect();
            data(&given, &split, None, Some(into), &mut Bars::new(true)).unwrap().len()
        };
        assert_eq!(count(&[root], &root.join("./sorted")), 1);
        assert_eq!(count(&[&first, &sorted], &sorted), 1);
        assert_eq!(count(&[&first, &link], &sorted), 1);
        assert_eq!(count(&[&sorted], &sorted), 1, "it alone is meant");
        assert_eq!(count(&[root], &root.join("new")), 2);
        assert_eq!(count(&[&first, &sorted], root), 2, "all lie there");
    }
}
