//! Passes that several processes share: each takes some of the batches, and all get every row.

use candle_core::{Device, Tensor};

use super::{Encoded, FeatureCache, Pass, texts};
use crate::clip::Clip;
use crate::error::{Error, Result};
use crate::progress::Event;
use crate::ranks::{Ranks, own, rows, told};

const ROWS: &str = "rows";

impl Pass<'_> {
    /// [`run`](Self::run) shared among ranks: each takes some of the batches, whose pictures stay what they are. Nothing is
    /// [kept](Self::keep) on the way then.
    ///
    /// # Errors
    /// As [`run`](Self::run); if a rank is gone.
    pub fn run_among(
        &self,
        ranks: &dyn Ranks,
        mut events: impl FnMut(&Event),
        f: impl FnMut(&Tensor) -> Result<Tensor>,
    ) -> Result<Encoded> {
        if ranks.size() == 1 {
            return self.run(events, f);
        }
        let (total, size) = (self.dataset.len(), self.batch_size.max(1));
        let batches = own(total.div_ceil(size), ranks);
        let pictures: Vec<usize> = (batches.start * size..(batches.end * size).min(total)).collect();
        let first = pictures.first().copied().unwrap_or_default();
        let part = match pictures.is_empty() {
            true => None,
            false => {
                let dataset = self.dataset.subset(&pictures)?;
                // a rank whose few pictures cannot be read is no fault yet
                Some(Pass { dataset: &dataset, keep: None, max_unreadable: 1.0, ..*self }.all(&mut events, f)?)
            }
        };
        let named = part.iter().filter_map(|part| Some((ROWS.to_string(), part.rows.clone()?))).collect();
        let mut all = rows(ranks, named, &Device::Cpu)?;
        let told = told(ranks, &part.as_ref().map(|part| (first, part.indices.clone(), part.skipped.clone(), part.seconds)))?;
        let (mut indices, mut skipped, mut seconds) = (Vec::new(), Vec::new(), 0f64);
        for (first, read, unread, took) in told.into_iter().flatten() {
            indices.extend(read.into_iter().map(|index: usize| first + index));
            skipped.extend(unread);
            seconds = seconds.max(took);
        }
        let origin = self.dataset.origin();
        let Some(rows) = all.remove(ROWS) else { return Err(Error::Data(format!("no image of {origin} could be read"))) };
        if skipped.len() as f64 > self.max_unreadable * total as f64 {
            let (count, most) = (skipped.len(), self.max_unreadable * 100.0);
            return Err(Error::Data(format!(
                "{origin}: {count} of {total} pictures cannot be read, more than the {most} % allowed: repair or remove them, or allow a larger share"
            )));
        }
        Ok(Encoded { rows, indices, skipped, seconds })
    }
}

/// [`texts`] shared among ranks: each takes some of the sentences. The cache is the first rank's alone.
///
/// # Errors
/// As [`texts`]; if a rank is gone.
pub fn texts_among(
    ranks: &dyn Ranks,
    clip: &Clip,
    sentences: &[String],
    cache: Option<&FeatureCache>,
    events: impl FnMut(&Event),
) -> Result<Tensor> {
    if ranks.size() == 1 {
        return texts(clip, sentences, cache, events);
    }
    let part = &sentences[own(sentences.len(), ranks)];
    let features = match part.is_empty() {
        true => Vec::new(),
        false => vec![(ROWS.to_string(), texts(clip, part, cache.filter(|_| ranks.rank() == 0), events)?)],
    };
    rows(ranks, features, clip.device())?.remove(ROWS).ok_or_else(|| Error::Text("there is no text to encode".into()))
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;
    use crate::data::scenes::{Domain, Scenes};
    use crate::data::{Dataset, ImageSource};
    use crate::progress::silent;
    use crate::ranks::threads;

    #[test]
    fn every_rank_has_the_rows_of_one_process() {
        let (clip, pictures) = (Clip::demo().unwrap(), Dataset::new(Scenes::new(Domain::Source, 11, 1)));
        let sentences: Vec<String> = ["a house", "a fish", "a boat"].map(String::from).into();
        let alone = Pass { batch_size: 4, ..Pass::new(&pictures, &clip, "test") }.run(silent, |pixels| clip.encode_image(pixels)).unwrap();
        let of_texts = texts(&clip, &sentences, None, silent).unwrap();
        let values = |rows: &Tensor| rows.to_vec2::<f32>().unwrap();
        for size in [2, 5] {
            let shared = threads::run(size, |ranks| {
                let pass = Pass { batch_size: 4, ..Pass::new(&pictures, &clip, "test") };
                let encoded = pass.run_among(ranks, silent, |pixels| clip.encode_image(pixels)).unwrap();
                (encoded, texts_among(ranks, &clip, &sentences, None, silent).unwrap())
            });
            for (encoded, features) in shared {
                assert_eq!((values(&encoded.rows), &encoded.indices), (values(&alone.rows), &alone.indices));
                let far = (features - &of_texts).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
                assert!(far < 1e-5, "{far}");
            }
        }
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
}
