//! Passes and texts that ranks share: the rows of one process, bit for bit, also where another number goes on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use image::RgbImage;

use super::*;
use crate::data::ImageSource;
use crate::data::scenes::{Domain, Scenes};
use crate::ranks::threads;

fn values(rows: &Tensor) -> Vec<Vec<f32>> {
    rows.to_vec2().unwrap()
}

fn pictures() -> Dataset {
    Dataset::new(Scenes::new(Domain::Source, 11, 1))
}

#[test]
fn every_rank_has_the_rows_of_one_process() {
    let (clip, pictures) = (Clip::demo().unwrap(), pictures());
    // more than one batch, of several lengths
    let sentences: Vec<String> = (0..150).map(|i| format!("a photo of{} a house {i}", " a very large".repeat(i % 3))).collect();
    let pass = || Pass { batch_size: 4, ..Pass::new(&pictures, &clip, "test") };
    let alone = pass().run(silent, |pixels| clip.encode_image(pixels)).unwrap();
    let of_texts = texts(&clip, &sentences, None, silent).unwrap();
    for size in [2, 5] {
        let folder = tempfile::tempdir().unwrap();
        let cache = FeatureCache::new(folder.path());
        let shared = threads::run(size, |ranks| {
            let encoded = pass().run_among(ranks, silent, |pixels| clip.encode_image(pixels)).unwrap();
            let cached = texts_among(ranks, &clip, &sentences, Some(&cache), silent).unwrap();
            (encoded, texts_among(ranks, &clip, &sentences, None, silent).unwrap(), cached)
        });
        for (encoded, features, cached) in shared {
            assert_eq!((values(&encoded.rows), &encoded.indices), (values(&alone.rows), &alone.indices));
            assert!(values(&features) == values(&of_texts) && values(&cached) == values(&of_texts), "{size}");
        }
        // one process finds all of them
        let mut computed = 0;
        let count = |event: &Event| computed += usize::from(matches!(event, Event::Started { .. }));
        assert!(values(&texts(&clip, &sentences, Some(&cache), count).unwrap()) == values(&of_texts) && computed == 0);
    }
}

#[test]
fn another_number_of_ranks_goes_on_with_the_rows_that_were_kept() {
    let (clip, pictures) = (Clip::demo().unwrap(), pictures());
    let alone = Pass { batch_size: 2, ..Pass::new(&pictures, &clip, "test") }.run(silent, |pixels| clip.encode_image(pixels)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let keep = Keep::new(folder.path().join("rows"), "test", Duration::ZERO);
    let (asked, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let shared = |size: usize, most: usize| {
        threads::run(size, |ranks| {
            let pass = Pass { batch_size: 2, keep: Some(&keep), ..Pass::new(&pictures, &clip, "test") };
            pass.run_among(ranks, silent, |pixels| match asked.fetch_add(1, Ordering::SeqCst) < most {
                true => clip.encode_image(pixels),
                false => Err(Error::Data("killed".into())),
            })
        })
    };
    // two rounds of two batches are done, the third one not
    assert!(shared(2, 4).iter().all(|result| result.is_err()));
    done.store(asked.swap(0, Ordering::SeqCst), Ordering::SeqCst);
    for encoded in shared(3, usize::MAX) {
        let encoded = encoded.unwrap();
        assert_eq!((values(&encoded.rows), &encoded.indices), (values(&alone.rows), &alone.indices));
    }
    assert_eq!((done.load(Ordering::SeqCst), asked.load(Ordering::SeqCst)), (6, 2), "two batches of six were left");
}

#[test]
fn a_rank_none_of_whose_pictures_can_be_read_is_no_fault() {
    struct LastBroken(Scenes);
    impl ImageSource for LastBroken {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn classes(&self) -> &[String] {
            self.0.classes()
        }
        fn label(&self, i: usize) -> Option<usize> {
            self.0.label(i)
        }
        fn name(&self, i: usize) -> String {
            self.0.name(i)
        }
        fn image(&self, i: usize) -> Result<RgbImage> {
            if i + 1 == self.len() { Err(Error::Image("broken".into())) } else { self.0.image(i) }
        }
    }
    let (clip, pictures) = (Clip::demo().unwrap(), Dataset::new(LastBroken(Scenes::new(Domain::Source, 9, 1))));
    let pass = Pass { batch_size: 8, max_unreadable: 0.2, ..Pass::new(&pictures, &clip, "test") };
    for encoded in threads::run(2, |ranks| pass.run_among(ranks, silent, |pixels| clip.encode_image(pixels)).unwrap()) {
        assert_eq!((encoded.indices.len(), encoded.skipped.len()), (8, 1));
    }
}
