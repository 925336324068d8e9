//! A loaded CLIP: both towers, tokenizer, preprocessing, logit scale.

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use sha2::{Digest, Sha256};

use super::text_slot::TextSlot;
use super::{ClipConfig, ClipLoader, ClipSummary, TextTower, Tokenizer, VisionTower};
use crate::augment::Preprocess;
use crate::error::{Error, Result};
use crate::nn::Precision;
use crate::progress::{Event, silent, watched};
use crate::ranks::{self, Alone, Ranks};

/// Texts per batch; texts are sorted by length first, so short ones do not pay for long ones.
const TEXT_BATCH: usize = 64;

/// CLIP with everything needed to turn pictures and texts into features of one space. Cloning shares the weights.
///
/// ```
/// use lafter::clip::Clip;
/// let clip = Clip::demo()?;
/// let features = clip.encode_text(&["a photo of a house", "a photo of a fish"])?;
/// assert_eq!(features.dims(), [2, clip.config().projection]);
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone)]
pub struct Clip {
    pub(super) config: Arc<ClipConfig>,
    pub(super) vision: VisionTower,
    pub(super) text: TextSlot,
    pub(super) tokenizer: Tokenizer,
    pub(super) preprocess: Preprocess,
    /// ln(1/τ), as the checkpoint holds it.
    pub(super) log_scale: f64,
    pub(super) parameters: usize,
    pub(super) weights_hash: Arc<str>,
    pub(super) id: Arc<str>,
    pub(super) notices: Arc<[String]>,
    pub(super) summary: Arc<ClipSummary>,
    pub(super) device: Device,
    pub(super) dtype: DType,
    pub(super) precision: Precision,
}

impl Clip {
    /// Loads a hub id ("openai/clip-vit-base-patch32"): downloaded once, then from the hub's standard cache.
    ///
    /// # Errors
    /// As [`ClipLoader::load`].
    pub fn from_hub(id: &str) -> Result<Self> {
        ClipLoader::new(id).load(silent)
    }

    /// Loads a directory in the layout of transformers or of open_clip.
    ///
    /// # Errors
    /// As [`ClipLoader::load`].
    pub fn from_dir(directory: impl AsRef<Path>) -> Result<Self> {
        ClipLoader::from_dir(directory).load(silent)
    }

    /// The tiny CLIP inside this crate, trained by it on rendered scenes (`lafter::pretrain`): for lessons and tests.
    ///
    /// # Errors
    /// None in practice: the files are part of the binary.
    pub fn demo() -> Result<Self> {
        ClipLoader::new("demo").load(silent)
    }

    /// pixels `[batch, 3, side, side]` → features `[batch, d]`, not normalized.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) if the pixels do not fit the tower.
    pub fn encode_image(&self, pixels: &Tensor) -> Result<Tensor> {
        Ok(self.vision.forward(&pixels.to_device(&self.device)?.to_dtype(self.dtype)?)?)
    }

    /// n texts → features `[n, d]`, not normalized, in input order. Texts longer than the context are cut.
    ///
    /// # Errors
    /// [`Error::Tokenizer`](crate::Error::Tokenizer) for a text that cannot be tokenized,
    /// [`Error::Interrupted`](crate::Error::Interrupted) between two batches.
    pub fn encode_text(&self, texts: &[impl AsRef<str>]) -> Result<Tensor> {
        self.encode_text_with(texts, silent)
    }

    /// [`encode_text`](Self::encode_text) with progress events; texts that had to be cut are counted in a notice.
    ///
    /// # Errors
    /// As [`encode_text`](Self::encode_text).
    pub fn encode_text_with(&self, texts: &[impl AsRef<str>], events: impl FnMut(&Event)) -> Result<Tensor> {
        self.encode_text_among(&Alone, texts, events)
    }

    /// [`encode_text_with`](Self::encode_text_with) shared among ranks.
    ///
    /// # Errors
    /// As [`encode_text`](Self::encode_text); if a rank is gone.
    pub(crate) fn encode_text_among(&self, ranks: &dyn Ranks, texts: &[impl AsRef<str>], events: impl FnMut(&Event)) -> Result<Tensor> {
        let (mut rows, mut order) = (Vec::new(), Vec::with_capacity(texts.len()));
        self.encode_text_each(ranks, texts, events, |batch, features| {
            rows.push(features);
            order.extend_from_slice(batch);
            Ok(())
        })?;
        if rows.is_empty() {
            return Ok(Tensor::zeros((0, self.config.projection), self.dtype, &self.device)?);
        }
        let mut back = vec![0u32; order.len()];
        order.iter().enumerate().for_each(|(row, text)| back[*text] = row as u32);
        Ok(Tensor::cat(&rows, 0)?.index_select(&Tensor::from_vec(back, order.len(), &self.device)?, 0)?)
    }

    /// That texts are too long.
    pub(crate) fn cut_notice(&self, cut: usize, all: usize) -> String {
        let context = self.config.text.context;
        format!("{cut} of {all} texts are longer than this CLIP's context of {context} tokens and were cut")
    }

    /// Calls `each` batch by batch, from short texts to long, with the texts' indices and their features `[batch, d]`. Each rank takes
    /// every so many-th batch, and is called with the features of all: the batches, and so the bits, are those of one process.
    pub(crate) fn encode_text_each(
        &self,
        ranks: &dyn Ranks,
        texts: &[impl AsRef<str>],
        mut events: impl FnMut(&Event),
        mut each: impl FnMut(&[usize], Tensor) -> Result<()>,
    ) -> Result<()> {
        let mut events = watched(&mut events);
        let tokens = self.tokenizer.encode(texts)?;
        let stage = "embedding texts";
        let started = std::time::Instant::now();
        events(&Event::Started { stage: stage.into(), total: texts.len(), unit: "texts".into() });
        if tokens.cut > 0 {
            events(&Event::Notice(self.cut_notice(tokens.cut, texts.len())));
        }
        let mut order: Vec<usize> = (0..tokens.ids.len()).collect();
        order.sort_by_key(|i| tokens.ids[*i].len());
        let batches: Vec<&[usize]> = order.chunks(TEXT_BATCH).collect();
        let mut done = 0;
        for round in batches.chunks(ranks.size()) {
            ranks::check_interrupt(ranks, stage)?;
            let own = round.get(ranks.rank()).map(|batch| self.text_features(&tokens.ids, batch)).transpose()?;
            let mut features = ranks::one_each(ranks, own, &self.device)?.into_iter();
            for batch in round {
                each(batch, features.next().ok_or_else(|| Error::Data("a process gave no text features".into()))?)?;
                done += batch.len();
            }
            events(&Event::Advanced { stage: stage.into(), done, total: texts.len(), loss: None, accuracy: None });
        }
        events(&Event::Finished { stage: stage.into(), seconds: started.elapsed().as_secs_f64() });
        Ok(())
    }

    /// Features of the texts with these indices, `[batch, d]`.
    fn text_features(&self, tokens: &[Vec<u32>], batch: &[usize]) -> Result<Tensor> {
        let longest = batch.iter().map(|i| tokens[*i].len()).max().unwrap_or(0);
        let ends: Vec<usize> = batch.iter().map(|i| self.config.text.end_of_text.position(&tokens[*i])).collect();
        // what follows the end is never read, so 0 pads as well as any id
        let padded = batch.iter().flat_map(|i| tokens[*i].iter().copied().chain(std::iter::repeat(0)).take(longest));
        let ids = Tensor::from_vec(padded.collect::<Vec<u32>>(), (batch.len(), longest), &self.device)?;
        Ok(self.text()?.forward(&ids, &ends)?)
    }

    /// The sizes of both towers.
    pub fn config(&self) -> &ClipConfig {
        &self.config
    }

    /// The vision tower, v.
    pub fn vision(&self) -> &VisionTower {
        &self.vision
    }

    /// The text tower, u; read again if it was [put aside](Self::without_texts).
    ///
    /// # Errors
    /// [`Error::Weights`] if its file was changed or removed since then.
    pub fn text(&self) -> Result<TextTower> {
        self.text.get()
    }

    /// Frees the text tower's memory, also that of all clones, until one encodes a text again: then it is read from its file. A tower that
    /// came from no file, or whose file was changed, stays.
    pub fn without_texts(&self) {
        self.text.put_aside();
    }

    /// The tokenizer of the text tower.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The weak view of this CLIP.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// 1/τ of eq. 1: the learned factor on cosine similarities.
    pub fn logit_scale(&self) -> f64 {
        self.log_scale.exp()
    }

    /// Number of scalars in the checkpoint.
    pub fn parameter_count(&self) -> usize {
        self.parameters
    }

    /// Identifies the weights: equal for equal values, whatever file they came from.
    pub fn weights_hash(&self) -> &str {
        &self.weights_hash
    }

    /// Identifies all but the weights that features depend on: sizes and activations, how pictures are prepared, the tokenizer.
    pub fn settings_hash(&self) -> String {
        let settings = serde_json::json!([*self.config, self.preprocess, self.tokenizer.hash()]).to_string();
        Sha256::digest(settings).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The directory or hub id it was loaded from.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What was unusual when it was loaded, one line each: settings from defaults because a file lacked them, an end of text
    /// that had to be guessed.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// What was understood when it was loaded: layout, files, where a text's feature is read.
    pub fn summary(&self) -> &ClipSummary {
        &self.summary
    }

    /// Where weights and features lie.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The number type of weights and features.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The numbers in which the towers' frozen layers multiply.
    pub fn precision(&self) -> Precision {
        self.precision
    }
}

impl std::fmt::Debug for Clip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.config.text.shown();
        write!(f, "Clip({}, {:?}, {text}, {:.1} M parameters)", self.id, self.vision, self.parameters as f64 / 1e6)
    }
}
