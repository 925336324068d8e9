//! Decoded pictures kept in memory under a limit, so that fifty epochs do not decode fifty times.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use image::RgbImage;

use crate::data::dataset::{Dataset, ImageSource};
use crate::error::Result;

/// A data set whose pictures are kept once decoded. Failures are not kept: they fail again, with their reason.
pub(crate) struct Cached {
    inner: Dataset,
    images: Vec<OnceLock<RgbImage>>,
    used: AtomicUsize,
    limit: usize,
}

impl Cached {
    pub(crate) fn new(inner: Dataset, limit: usize) -> Self {
        let images = (0..inner.len()).map(|_| OnceLock::new()).collect();
        Self { inner, images, used: AtomicUsize::new(0), limit }
    }
}

impl ImageSource for Cached {
    fn len(&self) -> usize {
        self.inner.len()
    }

    fn classes(&self) -> &[String] {
        self.inner.classes()
    }

    fn label(&self, i: usize) -> Option<usize> {
        self.inner.label(i)
    }

    fn name(&self, i: usize) -> String {
        self.inner.name(i)
    }

    fn image(&self, i: usize) -> Result<RgbImage> {
        let cell = self.images.get(i);
        if let Some(image) = cell.and_then(OnceLock::get) {
            return Ok(image.clone());
        }
        let image = self.inner.image(i)?;
        let bytes = image.as_raw().len();
        // Reserve first, so that threads together stay under the limit.
        if self.used.fetch_add(bytes, Ordering::Relaxed) + bytes > self.limit || cell.is_none_or(|cell| cell.set(image.clone()).is_err()) {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        Ok(image)
    }

    fn origin(&self) -> String {
        self.inner.origin()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Default)]
    struct Counting(Arc<AtomicUsize>);
    impl ImageSource for Counting {
        fn len(&self) -> usize {
            4
        }
        fn classes(&self) -> &[String] {
            &[]
        }
        fn label(&self, _: usize) -> Option<usize> {
            None
        }
        fn name(&self, i: usize) -> String {
            i.to_string()
        }
        fn image(&self, _: usize) -> Result<RgbImage> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(RgbImage::new(10, 10))
        }
    }

    #[test]
    fn pictures_are_decoded_once_up_to_the_limit() {
        let decoded = Arc::new(AtomicUsize::new(0));
        let set = Dataset::new(Counting(decoded.clone())).cached(600); // two of 300 bytes
        for _ in 0..3 {
            (0..4).for_each(|i| assert_eq!(set.image(i).unwrap().dimensions(), (10, 10)));
        }
        assert_eq!(decoded.load(Ordering::Relaxed), 2 + 3 * 2);
        // A subset shares what is kept.
        set.subset(&[1]).unwrap().image(0).unwrap();
        assert_eq!(decoded.load(Ordering::Relaxed), 8);
    }
}
