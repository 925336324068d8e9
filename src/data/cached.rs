//! A data set whose pictures, and the views made of them, are cached.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use image::RgbImage;

use crate::data::dataset::Dataset;
use crate::data::findings::Findings;
use crate::data::picture_cache::{PictureCache, Slot};
use crate::data::source::ImageSource;
use crate::error::Result;

impl Dataset {
    /// The same pictures, cached: their views first, then the pictures themselves as far as there is room, up to
    /// `limit_bytes` of pixels in a memory-mapped temporary file.
    ///
    /// Results are the same with and without, bit for bit; beyond the limit pictures are decoded at each access as before.
    pub fn cached(&self, limit_bytes: usize) -> Self {
        self.cached_in(&PictureCache::new(limit_bytes))
    }

    /// [`cached`](Self::cached) in a cache that several data sets share.
    pub fn cached_in(&self, cache: &PictureCache) -> Self {
        Self::new(Cached::new(self.clone(), cache.clone()))
    }
}

/// Keeps pixels in a [`PictureCache`]. Failures are not kept: they fail again, with their reason.
///
/// Views come first, because they are small and save decoding and resizing; pictures leave room for a view of each.
struct Cached {
    inner: Dataset,
    cache: PictureCache,
    pictures: Vec<Slot>,
    /// The views of one kind, the first that was asked for.
    views: OnceLock<(u64, Vec<Slot>)>,
    /// Bytes of one view, once there is one.
    size: OnceLock<usize>,
    /// Bytes that views may still need.
    wanted: AtomicUsize,
}

impl Cached {
    fn new(inner: Dataset, cache: PictureCache) -> Self {
        let pictures = slots(inner.len());
        Self { inner, cache, pictures, views: OnceLock::new(), size: OnceLock::new(), wanted: AtomicUsize::new(0) }
    }
}

fn slots(n: usize) -> Vec<Slot> {
    (0..n).map(|_| Slot::default()).collect()
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

    fn file(&self, i: usize) -> Option<PathBuf> {
        self.inner.file(i)
    }

    fn image(&self, i: usize) -> Result<RgbImage> {
        let slot = self.pictures.get(i);
        if let Some(picture) = slot.and_then(|slot| self.cache.get(slot)) {
            return Ok(picture);
        }
        let picture = self.inner.image(i)?;
        if let Some(slot) = slot {
            self.cache.keep(slot, &picture, self.wanted.load(Ordering::Relaxed));
        }
        Ok(picture)
    }

    fn view(&self, i: usize, kind: u64, picture: Option<&RgbImage>, make: &dyn Fn(&RgbImage) -> RgbImage) -> Result<RgbImage> {
        let (kept, views) = self.views.get_or_init(|| (kind, slots(self.inner.len())));
        let slot = views.get(i).filter(|_| *kept == kind);
        if let Some(view) = slot.and_then(|slot| self.cache.get(slot)) {
            return Ok(view);
        }
        let view = match (picture, self.pictures.get(i).and_then(|slot| self.cache.get(slot))) {
            (Some(picture), _) => make(picture),
            (None, Some(picture)) => make(&picture),
            // not kept: nobody asks for a picture whose view is known
            (None, None) => make(&self.inner.image(i)?),
        };
        if let Some(slot) = slot {
            let size = view.as_raw().len();
            if self.size.set(size).is_ok() {
                self.wanted.store(size * self.inner.len(), Ordering::Relaxed);
            }
            self.cache.keep(slot, &view, 0);
            let less = |wanted: usize| Some(wanted.saturating_sub(size));
            let _ = self.wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
        Ok(view)
    }

    fn origin(&self) -> String {
        self.inner.origin()
    }

    fn stamp(&self, i: usize) -> u64 {
        self.inner.stamp(i)
    }

    fn version(&self, i: usize) -> u64 {
        self.inner.version(i)
    }

    fn findings(&self) -> Findings {
        self.inner.findings()
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
        fn image(&self, i: usize) -> Result<RgbImage> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(RgbImage::from_pixel(10, 10, image::Rgb([i as u8; 3])))
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

    #[test]
    fn views_are_made_once_and_leave_less_room_for_pictures() {
        let decoded = Arc::new(AtomicUsize::new(0));
        let half = |picture: &RgbImage| RgbImage::from_pixel(5, 5, *picture.get_pixel(0, 0));
        let set = Dataset::new(Counting(decoded.clone())).cached(4 * 75 + 2 * 300);
        for _ in 0..3 {
            for i in 0..4 {
                assert_eq!(set.view(i, 1, None, &half).unwrap(), RgbImage::from_pixel(5, 5, image::Rgb([i as u8; 3])));
            }
        }
        assert_eq!(decoded.load(Ordering::Relaxed), 4);
        // another kind of view is made anew each time, never taken for the first
        let other = |_: &RgbImage| RgbImage::new(1, 1);
        assert_eq!(set.view(0, 2, None, &other).unwrap().dimensions(), (1, 1));
        assert_eq!(set.view(0, 1, None, &other).unwrap().dimensions(), (5, 5));
        decoded.store(0, Ordering::Relaxed);
        (0..8).for_each(|i| assert_eq!(set.image(i % 4).unwrap().get_pixel(9, 9).0[0], (i % 4) as u8));
        assert_eq!(decoded.load(Ordering::Relaxed), 2 + 2 * 2);
        // through a subset and for a set without a cache the result is the same
        let view = set.subset(&[3]).unwrap().view(0, 1, None, &half).unwrap();
        assert_eq!(view, Dataset::new(Counting::default()).view(3, 1, None, &half).unwrap());
    }
}
