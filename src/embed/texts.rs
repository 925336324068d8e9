//! Features of sentences, of which a cache keeps what was computed.

use std::collections::HashSet;
use std::time::Instant;

use candle_core::{DType, Tensor};

use super::FeatureCache;
use super::cache::{Known, short_hash};
use crate::clip::Clip;
use crate::error::{Error, Result};
use crate::progress::Event;
use crate::ranks::{Alone, Ranks, one_each, told};

/// Features of sentences, `[n, d]` f32, not normalized, in input order; only what the cache does not hold is computed. What is
/// computed goes to the cache once a minute (see [`FeatureCache::every`]), so a kill loses little, and an interrupt nothing.
///
/// # Errors
/// [`Error::Tokenizer`] for a text that cannot be tokenized, [`Error::Interrupted`] between two batches; a cache that cannot be
/// read or written is not an error.
pub fn texts(clip: &Clip, sentences: &[String], cache: Option<&FeatureCache>, events: impl FnMut(&Event)) -> Result<Tensor> {
    texts_among(&Alone, clip, sentences, cache, events)
}

/// [`texts`] shared among ranks: each takes some of the batches of one process, and gets all features, with the same bits. The cache is the
/// first rank's: the others look at none.
///
/// # Errors
/// As [`texts`]; if a rank is gone.
pub fn texts_among(
    ranks: &dyn Ranks,
    clip: &Clip,
    sentences: &[String],
    cache: Option<&FeatureCache>,
    mut events: impl FnMut(&Event),
) -> Result<Tensor> {
    let Some(cache) = cache else { return Ok(clip.encode_text_among(ranks, sentences, events)?.to_dtype(DType::F32)?) };
    let (first, width) = (ranks.rank() == 0, clip.config().projection);
    let (mut known, damage) = if first { cache.read(clip) } else { (Known::new(width), None) };
    if let Some(damage) = damage {
        events(&Event::Notice(damage));
    }
    let tokens = clip.tokenizer().encode(sentences)?;
    let (cut, tokens) = (tokens.cut, tokens.ids);
    let keys: Vec<String> = tokens.iter().map(|ids| short_hash(&ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>())).collect();
    let mut missing: Vec<usize> = (0..sentences.len()).filter(|i| !known.holds(&keys[*i])).collect();
    let mut seen = HashSet::new();
    missing.retain(|i| seen.insert(&keys[*i]));
    if ranks.size() > 1 {
        missing = told(ranks, &missing)?.swap_remove(0);
    }
    if cut > 0 {
        events(&Event::Notice(clip.cut_notice(cut, sentences.len())));
    }
    if !missing.is_empty() {
        let wanted: Vec<&String> = missing.iter().map(|i| &sentences[*i]).collect();
        let mut saved = Instant::now();
        // its only notice counts those that are missing, each once
        let progress = |event: &Event| {
            if !matches!(event, Event::Notice(_)) {
                events(event);
            }
        };
        let encoded = clip.encode_text_each(ranks, &wanted, progress, |batch, rows| {
            if !first {
                return Ok(());
            }
            let rows = rows.to_dtype(DType::F32)?.to_vec2::<f32>()?;
            batch.iter().zip(&rows).for_each(|(i, row)| known.add(&keys[missing[*i]], row));
            if saved.elapsed() >= cache.every {
                let _ = cache.write(clip, &mut known); // the last write says what is wrong
                saved = Instant::now();
            }
            Ok(())
        });
        if first && let Err(error) = cache.write(clip, &mut known) {
            events(&Event::Notice(format!("text features could not be cached: {error}")));
        }
        encoded?;
    }
    let own = match first {
        true => {
            let mut rows = Vec::with_capacity(sentences.len() * width);
            keys.iter().filter_map(|key| known.get(key)).for_each(|row| rows.extend_from_slice(row));
            drop(known);
            Some(Tensor::from_vec(rows, (sentences.len(), width), clip.device())?)
        }
        false => None,
    };
    one_each(ranks, own, clip.device())?.into_iter().next().ok_or_else(|| Error::Text("there is no text to encode".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::ClipLoader;
    use crate::progress::silent;

    /// Whatever the cache holds, and also where texts that differ by a blank are embedded once.
    #[test]
    fn what_is_cut_is_told_of_all_texts() {
        let (clip, folder) = (Clip::demo().unwrap(), tempfile::tempdir().unwrap());
        let long = "a house ".repeat(80);
        let sentences = ["a fish", "a fish ", &long, &format!("{long}on a hill")].map(String::from);
        for held in [1, 3, 4, 4] {
            let mut notices = Vec::new();
            let note = |event: &Event| {
                if let Event::Notice(text) = event {
                    notices.push(text.clone());
                }
            };
            texts(&clip, &sentences[..held], Some(&FeatureCache::new(folder.path())), note).unwrap();
            let cut = held.saturating_sub(2);
            assert!(
                notices.len() == cut.min(1) && notices.iter().all(|said| said.starts_with(&format!("{cut} of {held} texts"))),
                "{notices:?}"
            );
        }
    }

    #[test]
    fn features_are_f32_whatever_the_type_of_the_clip() {
        let clip = ClipLoader::new("demo").dtype(DType::F16).load(silent).unwrap();
        assert_eq!(texts(&clip, &["a house".into()], None, silent).unwrap().dtype(), DType::F32);
    }
}
