//! [`Paths`]: a million paths with their labels in little memory.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// A picture's file without its folder, which many share, and its label.
struct Place {
    folder: u32,
    /// A class, or [`NONE`].
    label: u32,
    name: Box<OsStr>,
}

const NONE: u32 = u32::MAX;

/// Paths with labels, in their order; a folder's own path is held once for all files in it that follow one another.
#[derive(Default)]
pub(crate) struct Paths {
    folders: Vec<PathBuf>,
    places: Vec<Place>,
}

impl Paths {
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Path `i` as it was given.
    pub(crate) fn path(&self, i: usize) -> Option<PathBuf> {
        let Place { folder, name, .. } = self.places.get(i)?;
        Some(self.folders.get(*folder as usize)?.join(&**name))
    }

    pub(crate) fn label(&self, i: usize) -> Option<usize> {
        self.places.get(i).filter(|place| place.label != NONE).map(|place| place.label as usize)
    }

    fn push(&mut self, path: &Path, label: Option<usize>) {
        let label = label.and_then(|label| u32::try_from(label).ok()).unwrap_or(NONE);
        let parts = path.parent().zip(path.file_name());
        // `a//b` and the like are held as they are
        let (folder, name) = match parts.filter(|(folder, name)| folder.join(name).as_os_str() == path.as_os_str()) {
            Some(parts) => parts,
            None => (Path::new(""), path.as_os_str()),
        };
        if self.folders.last().is_none_or(|last| last.as_os_str() != folder.as_os_str()) {
            self.folders.push(folder.to_path_buf());
        }
        let folder = u32::try_from(self.folders.len() - 1).unwrap_or(NONE);
        self.places.push(Place { folder, label, name: name.into() });
    }
}

impl Extend<(PathBuf, Option<usize>)> for Paths {
    fn extend<I: IntoIterator<Item = (PathBuf, Option<usize>)>>(&mut self, paths: I) {
        paths.into_iter().for_each(|(path, label)| self.push(&path, label));
    }
}

impl FromIterator<(PathBuf, Option<usize>)> for Paths {
    fn from_iter<I: IntoIterator<Item = (PathBuf, Option<usize>)>>(paths: I) -> Self {
        let mut all = Self::default();
        all.extend(paths);
        all.places.shrink_to_fit();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_back_as_they_were() {
        let given =
            ["a/b/c.jpg", "a/b/d.jpg", "a/e.jpg", "./x.png", "x.png", "/r.jpg", "a//f.jpg", "a/./g.jpg", "..", "", "a/b/h.jpg", "/"];
        let label = |i: usize| (!i.is_multiple_of(3)).then_some(i);
        let paths: Paths = given.iter().enumerate().map(|(i, path)| (PathBuf::from(path), label(i))).collect();
        for (i, path) in given.iter().enumerate() {
            assert_eq!((paths.path(i).unwrap().into_os_string(), paths.label(i)), ((*path).into(), label(i)));
        }
        assert_eq!((paths.len(), paths.path(given.len()), paths.label(given.len())), (given.len(), None, None));
        let two: Paths = (0..2).map(|i| (PathBuf::from(format!("a/b/{i}")), None)).collect();
        assert_eq!(two.folders.len(), 1);
    }
}
