//! Pictures sorted into a folder for each class, without touching the originals.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::data::{Holds, SORTED, holds_pictures};
use crate::error::{Error, Result};

/// How a picture gets into its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// As a link to the original.
    Link,
    /// As a copy.
    Copy,
}

/// The longest name of a file, in bytes, as most systems have it.
const LONGEST: usize = 255;
/// The longest name of a class's folder, in bytes: a number may follow.
const LONGEST_CLASS: usize = 200;

/// A folder with one folder a class.
///
/// An original is never moved, changed or written over. A picture that lies there already, from an earlier run over the same
/// pictures, is left as it is; two pictures of one name get different ones. A data set that is opened around the folder leaves it out.
pub struct ClassFolders {
    root: PathBuf,
    how: How,
    /// The folder of each class.
    folders: HashMap<String, PathBuf>,
    /// Their names in lower case: some systems do not tell cases apart.
    taken: HashSet<String>,
    /// What lay in folders of classes before, by its name without a number.
    before: HashMap<OsString, Vec<PathBuf>>,
    elsewhere: usize,
}

impl ClassFolders {
    /// Below `root`, which is made.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be made; [`Error::Usage`] for links on a system that has none, and for a folder that holds pictures,
    /// which would be taken for sorted ones.
    pub fn new(root: impl AsRef<Path>, how: How) -> Result<Self> {
        if how == How::Link && !cfg!(unix) {
            return Err(Error::Usage("this system makes links for administrators only: ask for copies".into()));
        }
        let root = root.as_ref();
        std::fs::create_dir_all(root).map_err(|e| Error::io(root, e))?;
        let root = root.canonicalize().map_err(|e| Error::io(root, e))?;
        match holds_pictures(&root) {
            Holds::Pictures if !root.join(SORTED).exists() => {
                let shown = root.display();
                return Err(Error::Usage(format!("{shown} holds pictures of its own: sort into a new folder, as {shown}/sorted")));
            }
            Holds::Nothing if before(&root).is_empty() => {
                // a later data set around this folder leaves it out
                let mark = root.join(SORTED);
                std::fs::write(&mark, "").map_err(|e| Error::io(&mark, e))?;
            }
            _ => {}
        }
        Ok(Self { before: before(&root), root, how, folders: HashMap::new(), taken: HashSet::new(), elsewhere: 0 })
    }

    /// Names the folders of these classes, in this order: every run over them names them alike, whichever is answered first.
    pub fn name<S: AsRef<str>>(&mut self, classes: &[S]) {
        classes.iter().for_each(|class| drop(self.folder(class.as_ref())));
    }

    /// The folder above those of the classes.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How many of the pictures that were added lie in the folder of another class, too, from before.
    pub fn elsewhere(&self) -> usize {
        self.elsewhere
    }

    /// Puts a picture into the folder of its class, and returns where it lies.
    ///
    /// # Errors
    /// [`Error::Usage`] for a picture that is not a file of its own (a row of a Parquet file); [`Error::Io`].
    pub fn add(&mut self, picture: &Path, class: &str) -> Result<PathBuf> {
        let original = picture.canonicalize().ok().filter(|path| path.is_file());
        let (Some(original), Some(name)) = (original, picture.file_name()) else {
            let picture = picture.display();
            return Err(Error::Usage(format!("{picture} is no file that can be linked or copied, or is gone: repeat the command")));
        };
        let folder = self.folder(class);
        std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
        let known = self.before.get(&unnumbered(name)).into_iter().flatten();
        self.elsewhere += usize::from(known.filter(|path| path.parent() != Some(&folder)).any(|path| self.is(path, &original)));
        let (mut number, mut path) = (1, folder.join(name));
        while !self.is(&path, &original) {
            // a name that is taken, perhaps this moment by another command, stays
            if std::fs::symlink_metadata(&path).is_err() {
                if self.make(&original, &path)? {
                    break;
                }
                continue; // what took it may be this very picture
            }
            number += 1;
            path = folder.join(numbered(Path::new(name), number));
        }
        Ok(path)
    }

    fn folder(&mut self, class: &str) -> PathBuf {
        if let Some(folder) = self.folders.get(class) {
            return folder.clone();
        }
        // two names that become one folder name keep apart
        let plain = plain(class);
        let (mut name, mut number) = (plain.clone(), 2);
        while !self.taken.insert(name.to_lowercase()) {
            name = format!("{plain} ({number})");
            number += 1;
        }
        let folder = self.root.join(name);
        self.folders.insert(class.to_string(), folder.clone());
        folder
    }

    /// Whether what lies at `path` is this picture.
    fn is(&self, path: &Path, original: &Path) -> bool {
        match self.how {
            How::Link => path.canonicalize().is_ok_and(|found| found == original),
            How::Copy => same_bytes(path, original),
        }
    }

    /// `false` if the name is taken.
    fn make(&self, original: &Path, path: &Path) -> Result<bool> {
        match self.how {
            #[cfg(unix)]
            How::Link => match std::os::unix::fs::symlink(original, path) {
                Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(Error::io(path, e)),
                made => Ok(made.is_ok()),
            },
            #[cfg(not(unix))]
            How::Link => Err(Error::Usage("this system makes links for administrators only: ask for copies".into())),
            How::Copy => {
                let bytes = std::fs::read(original).map_err(|e| Error::io(original, e))?;
                crate::files::save_new(path, &bytes)
            }
        }
    }
}

/// Files in the folders below `root`, by their names without a number.
fn before(root: &Path) -> HashMap<OsString, Vec<PathBuf>> {
    let in_folder = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut before: HashMap<OsString, Vec<PathBuf>> = HashMap::new();
    for path in in_folder(root).filter(|path| path.is_dir()).flat_map(|folder| in_folder(&folder).collect::<Vec<_>>()) {
        if let Some(name) = path.file_name() {
            before.entry(unnumbered(name)).or_default().push(path);
        }
    }
    before
}

/// `a (2).jpg` → `a.jpg`: what [`numbered`] makes names of.
fn unnumbered(name: &OsStr) -> OsString {
    let path = Path::new(name);
    let stem = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.strip_suffix(')')?.rsplit_once(" ("));
    let Some((stem, _)) = stem.filter(|(_, number)| number.parse::<usize>().is_ok()) else { return name.into() };
    path.extension().map_or(stem.into(), |ending| format!("{stem}.{}", ending.to_string_lossy()).into())
}

fn same_bytes(a: &Path, b: &Path) -> bool {
    let size = |path: &Path| std::fs::metadata(path).map(|file| file.len()).ok();
    size(a) == size(b) && matches!((std::fs::read(a), std::fs::read(b)), (Ok(a), Ok(b)) if a == b)
}

/// `a.jpg` → `a (2).jpg`, the stem cut where the whole would be too long.
fn numbered(name: &Path, number: usize) -> String {
    let stem = name.file_stem().unwrap_or_default().to_string_lossy();
    let ending = name.extension().map_or(String::new(), |ending| format!(".{}", ending.to_string_lossy()));
    let number = format!(" ({number}){ending}");
    format!("{}{number}", &stem[..stem.floor_char_boundary(LONGEST.saturating_sub(number.len()))])
}

/// A class name as the name of a folder, on any system.
fn plain(class: &str) -> String {
    let plain: String = class.chars().map(|c| if c.is_control() || r#"/\:*?"<>|"#.contains(c) { '_' } else { c }).collect();
    match plain[..plain.floor_char_boundary(LONGEST_CLASS)].trim().trim_end_matches('.') {
        "" => "_".into(),
        name => name.to_string(),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn pictures_that_lie_in_the_folder_of_another_class_too_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let odd: &OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"caf\xe9.jpg");
        let pictures = [folder.path().join(odd), folder.path().join("b (2).jpg"), folder.path().join("sub/b.jpg")];
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        pictures.iter().enumerate().for_each(|(i, picture)| std::fs::write(picture, [i as u8]).unwrap());
        for how in [How::Link, How::Copy] {
            let sort = |classes: [&str; 3]| {
                let mut folders = ClassFolders::new(folder.path().join(format!("{how:?}")), how).unwrap();
                pictures.iter().zip(classes).for_each(|(picture, class)| assert!(folders.add(picture, class).unwrap().exists()));
                folders.elsewhere()
            };
            assert_eq!(sort(["cup", "cup", "car"]), 0);
            assert_eq!(sort(["cup", "cup", "car"]), 0);
            assert_eq!(sort(["car", "cup", "cup"]), 2);
        }
    }

    #[test]
    fn two_commands_at_once_lose_no_picture() {
        let folder = tempfile::tempdir().unwrap();
        for how in [How::Link, How::Copy] {
            let out = folder.path().join(format!("{how:?}"));
            std::thread::scope(|scope| {
                for side in ["a", "b", "c"] {
                    let (folder, out) = (folder.path(), &out);
                    scope.spawn(move || {
                        std::fs::create_dir_all(folder.join(side)).unwrap();
                        let mut folders = ClassFolders::new(out, how).unwrap();
                        for i in 0..40 {
                            let picture = folder.join(format!("{side}/{i}.png"));
                            std::fs::write(&picture, format!("{side}{i}")).unwrap();
                            folders.add(&picture, "cup").unwrap();
                        }
                    });
                }
            });
            assert_eq!(std::fs::read_dir(out.join("cup")).unwrap().count(), 120);
        }
    }

    #[test]
    fn folders_are_named_by_the_order_of_the_classes_and_never_too_long() {
        let folder = tempfile::tempdir().unwrap();
        let picture = folder.path().join(format!("{}.png", "L".repeat(251)));
        let other = folder.path().join("b").join(picture.file_name().unwrap());
        std::fs::create_dir(folder.path().join("b")).unwrap();
        [&picture, &other].into_iter().for_each(|path| std::fs::write(path, path.to_string_lossy().as_bytes()).unwrap());
        let long = "茶".repeat(100);
        for answered in [["house/", "house_"], ["house_", "house/"]] {
            let mut folders = ClassFolders::new(folder.path().join("sorted"), How::Copy).unwrap();
            folders.name(&["house/", "house_", &long]);
            for class in answered {
                let placed = folders.add(&picture, class).unwrap();
                assert_eq!(placed.parent().unwrap().ends_with("house_"), class == "house/");
            }
            assert!(folders.add(&other, "house_").unwrap().to_string_lossy().ends_with("L (2).png"));
            assert!(folders.add(&picture, &long).unwrap().exists());
        }
    }

    #[test]
    fn a_folder_of_pictures_is_not_sorted_into() {
        let folder = tempfile::tempdir().unwrap();
        let (own, deep) = (folder.path().join("1.png"), folder.path().join("deep/a/b"));
        std::fs::write(&own, "").unwrap();
        let refused = ClassFolders::new(folder.path(), How::Link).err().unwrap().to_string();
        assert!(refused.contains("sort into a new folder"), "{refused}");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::rename(own, deep.join("1.png")).unwrap();
        ClassFolders::new(folder.path().join("deep"), How::Link).unwrap();
        assert!(!folder.path().join("deep").join(SORTED).exists(), "its own pictures are found later, too");
    }

    #[test]
    fn links_and_copies_leave_the_originals_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        };
        let pictures = [file("in/a/1.jpg", "one"), file("in/b/1.jpg", "two"), file("in/c", "three")];
        for how in [How::Link, How::Copy] {
            let out = folder.path().join(format!("{how:?}"));
            for _ in 0..2 {
                // a second run finds all of it there
                let mut folders = ClassFolders::new(&out, how).unwrap();
                let placed: Vec<PathBuf> = pictures.iter().map(|picture| folders.add(picture, "tea/cup").unwrap()).collect();
                let names: Vec<_> =
                    placed.iter().map(|path| path.strip_prefix(out.canonicalize().unwrap()).unwrap().to_path_buf()).collect();
                assert_eq!(names, ["tea_cup/1.jpg", "tea_cup/1 (2).jpg", "tea_cup/c"].map(PathBuf::from));
                for (path, text) in placed.iter().zip(["one", "two", "three"]) {
                    assert_eq!(std::fs::read_to_string(path).unwrap(), text);
                    assert_eq!(std::fs::symlink_metadata(path).unwrap().is_symlink(), how == How::Link);
                }
                assert_eq!(std::fs::read_dir(out.join("tea_cup")).unwrap().count(), 3);
                // two names that would share a folder do not
                assert!(folders.add(&pictures[0], "tea:cup").unwrap().to_string_lossy().contains("tea_cup (2)"));
            }
        }
        for (picture, text) in pictures.iter().zip(["one", "two", "three"]) {
            assert_eq!(std::fs::read_to_string(picture).unwrap(), text);
        }
        let mut folders = ClassFolders::new(folder.path().join("Link"), How::Link).unwrap();
        assert!(folders.add(Path::new("set.parquet row 7"), "a").unwrap_err().is_usage());
        assert!(folders.add(&pictures[0], "..").unwrap().starts_with(folder.path().canonicalize().unwrap().join("Link")));
    }
}
