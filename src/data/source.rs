//! [`ImageSource`]: what a format must provide.

use std::path::PathBuf;

use image::RgbImage;

use crate::data::findings::Findings;
use crate::error::Result;

/// Pictures that can be had by index, in any order, from several threads.
pub trait ImageSource: Send + Sync {
    /// How many pictures there are.
    fn len(&self) -> usize;

    /// True if there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class names, in label order; empty if nothing is labeled.
    fn classes(&self) -> &[String];

    /// The class of picture `i`, an index into [`ImageSource::classes`]; `None` if it is not known.
    fn label(&self, i: usize) -> Option<usize>;

    /// A name that leads the user to picture `i`: a path, or a file and a row.
    fn name(&self, i: usize) -> String;

    /// The file of picture `i`, if it has one of its own.
    fn file(&self, i: usize) -> Option<PathBuf> {
        let _ = i;
        None
    }

    /// Picture `i`, decoded.
    ///
    /// # Errors
    /// [`Error::Image`](crate::Error::Image) if it cannot be decoded, [`Error::Io`](crate::Error::Io) if its file
    /// cannot be read.
    fn image(&self, i: usize) -> Result<RgbImage>;

    /// `make` of picture `i`; `kind` names what is made; `picture` is picture `i`, if the caller has it already.
    ///
    /// A source that keeps views gives back one of the same kind. Others make it each time.
    ///
    /// # Errors
    /// As [`image`](Self::image), if the picture has to be decoded.
    fn view(&self, i: usize, kind: u64, picture: Option<&RgbImage>, make: &dyn Fn(&RgbImage) -> RgbImage) -> Result<RgbImage> {
        let _ = kind;
        match picture {
            Some(picture) => Ok(make(picture)),
            None => Ok(make(&self.image(i)?)),
        }
    }

    /// Where the pictures come from, for messages.
    fn origin(&self) -> String {
        "pictures".to_string()
    }

    /// A number that is another once picture `i` is replaced, as far as that can be told without decoding it: from its name and
    /// size, or its bytes. 0 if nothing can be told.
    fn stamp(&self, i: usize) -> u64 {
        let _ = i;
        0
    }

    /// A number that is another once the content of picture `i` has changed, as far as the time of its file tells: what was computed
    /// from pictures is kept for later runs by it. 0 if that is not known; then nothing is kept.
    fn version(&self, i: usize) -> u64 {
        let _ = i;
        0
    }

    /// What was found beyond the pictures: the split rule, files left out, what is unusual.
    fn findings(&self) -> Findings {
        Findings::default()
    }
}
