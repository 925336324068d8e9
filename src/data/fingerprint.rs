//! Whether two data sets are the same.

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::data::dataset::Dataset;

/// Pictures that are looked at, evenly spread.
const SAMPLE: usize = 8;

impl Dataset {
    /// A hash of the number of pictures, the class names, the labels, the name and size of every picture's file and the pixels of
    /// eight, wherever the data set lies: a run that is resumed asks whether it was begun on the same data.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update((self.len() as u64).to_le_bytes());
        for class in self.classes() {
            hash.update(class.as_bytes());
            hash.update([0]);
        }
        for i in 0..self.len() {
            hash.update(self.label(i).map_or(u64::MAX, |label| label as u64).to_le_bytes());
        }
        let stamps: Vec<u64> = (0..self.len()).into_par_iter().map(|i| self.stamp(i)).collect();
        stamps.iter().for_each(|stamp| hash.update(stamp.to_le_bytes()));
        for i in 0..SAMPLE.min(self.len()) {
            let picture = self.image(i * (self.len() - 1) / (SAMPLE - 1).max(1));
            hash.update(picture.map(|picture| picture.into_raw()).unwrap_or_default()); // one that cannot be read counts as empty
        }
        format!("{:x}", hash.finalize())
    }

    /// A hash of the content of all pictures as far as their files' times tell; `None` if one cannot be told.
    pub(crate) fn versions(&self) -> Option<String> {
        let versions: Vec<u64> = (0..self.len()).into_par_iter().map(|i| self.version(i)).collect();
        let mut hash = Sha256::new();
        versions.iter().for_each(|version| hash.update(version.to_le_bytes()));
        (!versions.contains(&0)).then(|| format!("{:x}", hash.finalize()))
    }
}

#[cfg(test)]
mod tests {
    use crate::data::Dataset;
    use crate::data::scenes::{Domain, Scenes};

    #[test]
    fn the_same_pictures_are_the_same_and_others_are_not() {
        let set = |seed| Dataset::new(Scenes::new(Domain::Target, 20, seed));
        let whole = set(1).fingerprint();
        assert_eq!(whole, set(1).cached(1 << 20).fingerprint());
        for other in [set(2), set(1).take(19), set(1).unlabeled(), set(1).take(1), set(1).take(0)] {
            assert_ne!(whole, other.fingerprint());
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_picture_that_keeps_its_size_and_time_is_another_version() {
        let folder = tempfile::tempdir().unwrap();
        let picture = |name: &str, level: u8| {
            image::RgbImage::from_pixel(2, 2, image::Rgb([level; 3])).save(folder.path().join(name)).unwrap();
            let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
            std::fs::File::options().append(true).open(folder.path().join(name)).unwrap().set_modified(time).unwrap();
        };
        (0..20).for_each(|i| picture(&format!("{i:02}.bmp"), i));
        let open = || Dataset::open(folder.path()).unwrap().unlabeled();
        let before = open().versions();
        assert!(before.is_some() && before == open().versions());
        std::thread::sleep(std::time::Duration::from_millis(20)); // the system's clock for files is coarse
        picture("11.bmp", 99);
        assert_ne!(before, open().versions());
        std::os::unix::fs::symlink("gone", folder.path().join("20.bmp")).unwrap();
        let before = open().versions();
        assert!(before.is_some(), "one that cannot be read hides none of the others");
        std::thread::sleep(std::time::Duration::from_millis(20));
        picture("12.bmp", 98);
        assert_ne!(before, open().versions());
    }

    #[test]
    fn one_replaced_file_of_many_is_noticed_and_a_moved_folder_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let picture = |path: std::path::PathBuf, side: u32| image::RgbImage::new(side, side).save(path).unwrap();
        for root in ["a", "b"] {
            std::fs::create_dir_all(folder.path().join(root).join("cat")).unwrap();
            (0..60).for_each(|i| picture(folder.path().join(root).join("cat").join(format!("{i:02}.bmp")), 2));
        }
        let hash = |root: &str| Dataset::open(folder.path().join(root)).unwrap().cached(1 << 20).fingerprint();
        let before = hash("a");
        assert_eq!(before, hash("b"));
        picture(folder.path().join("a/cat/31.bmp"), 3);
        assert_ne!(before, hash("a"));
        std::fs::rename(folder.path().join("b/cat/31.bmp"), folder.path().join("b/cat/31x.bmp")).unwrap();
        assert_ne!(before, hash("b"));
    }
}
