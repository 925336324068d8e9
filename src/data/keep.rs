//! [`Keep`] of data sets: pictures that are files stay where they are, others are written with their pixels.

use std::path::PathBuf;

use image::RgbImage;

use crate::data::dataset::Dataset;
use crate::data::decode::decode_file;
use crate::data::source::ImageSource;
use crate::error::{Error, Result};
use crate::files::version;
use crate::notebook::Keep;

/// The most bytes of pixels that are written.
const LIMIT: usize = 1 << 30;

struct Kept {
    origin: String,
    classes: Vec<String>,
    pictures: Vec<Picture>,
}

struct Picture {
    name: String,
    label: Option<usize>,
    stamp: u64,
    place: Place,
}

enum Place {
    File(PathBuf),
    /// What its version was, and the picture unless it could not be read.
    Written(u64, Option<RgbImage>),
}

/// The pictures, their names, labels and classes, as they are now; what opening the data set found is not kept, nor what it keeps in
/// memory ([`Dataset::cached`]).
///
/// # Errors
/// [`Error::Data`] if pictures that are no files of their own take more than a GiB.
impl Keep for Dataset {
    fn write(&self, out: &mut Vec<u8>) -> Result<()> {
        write(self, LIMIT, out)
    }

    fn read(from: &mut &[u8]) -> Result<Self> {
        let (origin, classes, count) = <(String, Vec<String>, usize)>::read(from)?;
        let picture = |_| {
            let (name, label, stamp) = <(String, Option<usize>, u64)>::read(from)?;
            let place = match <Option<Vec<u8>>>::read(from)? {
                Some(bytes) => Place::File(path(bytes)?),
                None => <(u64, Option<RgbImage>)>::read(from).map(|(version, picture)| Place::Written(version, picture))?,
            };
            Ok(Picture { name, label, stamp, place })
        };
        Ok(Self::new(Kept { origin, classes, pictures: (0..count).map(picture).collect::<Result<_>>()? }))
    }
}

/// Writes the data set with at most `left` bytes of pixels.
fn write(set: &Dataset, mut left: usize, out: &mut Vec<u8>) -> Result<()> {
    (set.origin(), set.classes().to_vec(), set.len()).write(out)?;
    for i in 0..set.len() {
        (set.name(i), set.label(i), set.stamp(i)).write(out)?;
        let file = set.file(i).map(|file| std::path::absolute(&file).map_err(|e| Error::io(file, e))).transpose()?;
        file.as_ref().map(|file| file.as_os_str().as_encoded_bytes().to_vec()).write(out)?;
        if file.is_none() {
            let picture = set.image(i).ok();
            left = left.checked_sub(picture.as_ref().map_or(0, |picture| picture.as_raw().len())).ok_or_else(|| {
                let what = "no files of their own, and their pixels take more than 1 GiB; keep some (`take`, `sample`), or open it again";
                Error::Data(format!("{}: its pictures are {what}", set.origin()))
            })?;
            (set.version(i), picture).write(out)?;
        }
    }
    Ok(())
}

#[cfg(unix)]
fn path(bytes: Vec<u8>) -> Result<PathBuf> {
    Ok(PathBuf::from(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes)))
}

#[cfg(not(unix))]
fn path(bytes: Vec<u8>) -> Result<PathBuf> {
    String::from_utf8(bytes).map(PathBuf::from).map_err(|_| Error::Data("a kept path is no text".into()))
}

impl ImageSource for Kept {
    fn len(&self) -> usize {
        self.pictures.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, i: usize) -> Option<usize> {
        self.pictures.get(i)?.label
    }

    fn name(&self, i: usize) -> String {
        self.pictures.get(i).map(|picture| picture.name.clone()).unwrap_or_default()
    }

    fn file(&self, i: usize) -> Option<PathBuf> {
        match &self.pictures.get(i)?.place {
            Place::File(file) => Some(file.clone()),
            Place::Written(..) => None,
        }
    }

    fn image(&self, i: usize) -> Result<RgbImage> {
        match self.pictures.get(i).map(|picture| (&picture.place, &picture.name)) {
            Some((Place::File(file), _)) => decode_file(file),
            Some((Place::Written(_, Some(picture)), _)) => Ok(picture.clone()),
            Some((Place::Written(_, None), name)) => Err(Error::Image(format!("{name}: could not be read when it was kept"))),
            None => Err(Error::Usage(format!("{}: picture {i} of {} was asked for", self.origin, self.pictures.len()))),
        }
    }

    fn origin(&self) -> String {
        self.origin.clone()
    }

    fn stamp(&self, i: usize) -> u64 {
        self.pictures.get(i).map_or(0, |picture| picture.stamp)
    }

    fn version(&self, i: usize) -> u64 {
        match self.pictures.get(i).map(|picture| &picture.place) {
            Some(Place::File(file)) => version(file),
            Some(Place::Written(version, _)) => *version,
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::OpenOptions;
    use crate::data::scenes::{Domain, Scenes};
    use crate::notebook::{keep, kept};

    fn twice(set: &Dataset) -> Result<Dataset> {
        let folder = tempfile::tempdir().unwrap();
        keep(set, folder.path().join("set"))?;
        kept(folder.path().join("set"))
    }

    fn same(one: &Dataset, other: &Dataset) {
        assert_eq!((one.classes(), one.labels(), one.origin()), (other.classes(), other.labels(), other.origin()));
        assert_eq!((one.fingerprint(), one.versions()), (other.fingerprint(), other.versions()));
        for i in 0..one.len().max(other.len()) {
            assert_eq!((one.name(i), one.file(i), one.image(i).ok()), (other.name(i), other.file(i), other.image(i).ok()));
        }
    }

    #[test]
    fn pictures_that_are_no_files_are_written() {
        let set = Dataset::new(Scenes::new(Domain::Target, 20, 1)).subset(&[7, 3, 3, 19]).unwrap();
        same(&twice(&set).unwrap(), &set);
        same(&twice(&set.unlabeled()).unwrap(), &set.unlabeled());
        same(&twice(&set.take(0)).unwrap(), &set.take(0));
    }

    #[test]
    fn files_stay_where_they_are() {
        let folder = tempfile::tempdir().unwrap();
        for (class, name) in [("fish", "a.png"), ("boat", "b.png"), ("boat", "c.png")] {
            std::fs::create_dir_all(folder.path().join(class)).unwrap();
            RgbImage::from_pixel(4, 3, image::Rgb([name.as_bytes()[0]; 3])).save(folder.path().join(class).join(name)).unwrap();
        }
        let set = crate::data::open(&folder.path().display().to_string(), &OpenOptions::default()).unwrap();
        let again = twice(&set).unwrap();
        same(&again, &set);
        std::fs::write(folder.path().join("boat/b.png"), "").unwrap();
        same(&twice(&again).unwrap(), &again);
        assert!(again.image(0).is_err() && again.image(1).is_ok(), "read when it is asked for");
    }

    #[test]
    fn too_many_pixels_are_refused_in_one_line() {
        let set = Dataset::new(Scenes::new(Domain::Target, 2, 1));
        let bytes = set.images(&[0, 1]).unwrap().iter().map(|picture| picture.as_raw().len()).sum();
        write(&set, bytes, &mut Vec::new()).unwrap();
        let error = write(&set, bytes - 1, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("1 GiB") && error.lines().count() == 1, "{error}");
    }
}
