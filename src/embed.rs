//! Features of whole data sets and text sets: batches, prefetching, the cache of text features.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use sha2::{Digest, Sha256};

use crate::augment::Preprocess;
use crate::clip::{Clip, read_tensors, save_tensors};
use crate::data::{Dataset, epoch_batches, prefetch_with};
use crate::describe::TextSet;
use crate::error::{Error, Result};
use crate::eval::Evaluation;
use crate::progress::{Event, check_interrupt, silent, watched};

/// Images per batch unless stated otherwise; the released code evaluates in batches of 50.
pub const BATCH: usize = 50;

/// Time between two writes of the text cache while texts are embedded.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// Rows for the images of a data set that could be read, in input order.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// `[n, width]` f32: features or logits.
    pub rows: Tensor,
    /// Which image of the data set each row belongs to.
    pub indices: Vec<usize>,
    /// Images left out because they could not be read, with the reason.
    pub skipped: Vec<(String, String)>,
    /// Time that it took, decoding included, in seconds.
    pub seconds: f64,
}

impl Outputs {
    /// Other rows for the same images: features become logits.
    ///
    /// # Shapes
    /// `f`: rows `[n, width]` → `[n, any width]`.
    ///
    /// # Errors
    /// [`Error::Shape`] where `f` does not keep the number of rows, and the errors of `f`.
    ///
    /// ```
    /// use lafter::prelude::*;
    /// use lafter::data::scenes::{self, Domain, Scenes};
    /// let (clip, pictures) = (Clip::demo()?, Dataset::new(Scenes::new(Domain::Source, 24, 1)));
    /// let zero_shot = ZeroShotClassifier::fit(&clip, pictures.classes(), &Templates::single())?;
    /// let features = pictures.embed(&clip)?;
    /// let evaluation = features.map(|features| zero_shot.logits(features))?.evaluate(&pictures)?;
    /// assert!(evaluation.top1 > 50.0);
    /// # Ok::<(), lafter::Error>(())
    /// ```
    pub fn map(&self, f: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let rows = f(&self.rows)?;
        if rows.dim(0)? != self.indices.len() {
            let (images, dims) = (self.indices.len(), rows.dims().to_vec());
            return Err(Error::Shape(format!("expected a row for each of {images} images, got {dims:?}: do not drop or add rows")));
        }
        Ok(Self { rows, ..self.clone() })
    }

    /// Reads the rows as logits and compares them with the data set's labels.
    ///
    /// # Errors
    /// [`Error::Data`] where the images have no labels, [`Error::Usage`] where there is not one logit per class, [`Error::Shape`]
    /// for logits that are not finite.
    pub fn evaluate(&self, dataset: &Dataset) -> Result<Evaluation> {
        let labels = self.labels(dataset)?;
        Evaluation::from_logits(&self.rows.flatten_all()?.to_vec1::<f32>()?, &labels, dataset.classes())
    }

    fn labels(&self, dataset: &Dataset) -> Result<Vec<usize>> {
        let label = |index: &usize| dataset.label(*index);
        self.indices.iter().map(label).collect::<Option<_>>().ok_or_else(|| {
            Error::Data(
                "these images have no labels, so there is nothing to evaluate against: use `lafter predict`, or a labeled --test".into(),
            )
        })
    }

    /// Images per second.
    pub fn rate(&self) -> f64 {
        self.indices.len() as f64 / self.seconds.max(1e-9)
    }
}

/// Applies `f` to the weak views of a data set, batch by batch, in input order; decoding runs ahead in the background.
///
/// # Shapes
/// `f`: pixels `[batch, 3, side, side]` → `[batch, width]`.
///
/// # Errors
/// [`Error::Data`] where more than 5 % of the images cannot be read, [`Error::Interrupted`] between two batches, and the
/// errors of `f`.
pub fn images(
    dataset: &Dataset,
    preprocess: &Preprocess,
    device: &Device,
    batch_size: usize,
    stage: &str,
    mut events: impl FnMut(&Event),
    mut f: impl FnMut(&Tensor) -> Result<Tensor>,
) -> Result<Outputs> {
    let mut events = watched(&mut events);
    let started = Instant::now();
    events(&Event::Started { stage: stage.into(), total: dataset.len(), unit: "images".into() });
    let view = preprocess.clone();
    let side = preprocess.side();
    let batches = prefetch_with(dataset, epoch_batches(dataset.len(), batch_size, false, None), 2, move |pictures, index| {
        Ok(view.planes(&pictures.view(index, view.kind(), None, &|picture| view.image(picture))?))
    });
    let skipped = batches.skipped();
    let (mut rows, mut indices, mut done) = (Vec::new(), Vec::new(), 0);
    for batch in batches {
        check_interrupt(stage)?;
        let batch = batch?;
        done += batch_size;
        if !batch.items.is_empty() {
            let pixels = Tensor::from_vec(batch.items.concat(), (batch.items.len(), 3, side, side), device)?;
            rows.push(f(&pixels)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?);
            indices.extend(batch.indices);
        }
        let done = done.min(dataset.len());
        events(&Event::Advanced { stage: stage.into(), done, total: dataset.len(), loss: None, accuracy: None });
    }
    if let Some(notice) = skipped.summary() {
        events(&Event::Notice(notice));
    }
    if rows.is_empty() {
        return Err(Error::Data(format!("no image of {} could be read", dataset.origin())));
    }
    let seconds = started.elapsed().as_secs_f64();
    events(&Event::Finished { stage: stage.into(), seconds });
    Ok(Outputs { rows: Tensor::cat(&rows, 0)?, indices, skipped: skipped.entries(), seconds })
}

/// Features of texts, kept on disk by tokens and by text tower: after a change of weights, configuration, tokenizer, device
/// or number type, old features are never reused.
///
/// One safetensors file per tower, named by a hash of all that it computes with; rows are found by the hash of a text's tokens.
#[derive(Clone, Debug)]
pub struct FeatureCache {
    directory: PathBuf,
}

impl FeatureCache {
    /// Files go to `directory`, which is made when the first is written.
    pub fn new(directory: impl AsRef<Path>) -> Self {
        Self { directory: directory.as_ref().to_path_buf() }
    }

    fn file(&self, clip: &Clip) -> PathBuf {
        let tf32 = clip.device().is_cuda() && candle_core::cuda::gemm_reduced_precision_f32();
        let arithmetic = format!("{:?} {:?} {:?} tf32 {tf32}", clip.device().location(), clip.dtype(), clip.precision());
        let tower = serde_json::json!([clip.weights_hash(), clip.config().text, clip.config().projection, arithmetic]);
        self.directory.join(format!("text-{}.safetensors", short_hash(tower.to_string().as_bytes())))
    }

    fn read(&self, clip: &Clip) -> HashMap<String, Vec<f32>> {
        // an unreadable cache is no error: the features are computed again and the file is replaced
        let Ok((tensors, metadata)) = read_tensors(self.file(clip), &Device::Cpu) else { return HashMap::new() };
        let keys: Vec<String> = metadata.get("tokens").and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        let rows = tensors.get("features").and_then(|features| features.to_vec2::<f32>().ok()).unwrap_or_default();
        if keys.len() == rows.len() { keys.into_iter().zip(rows).collect() } else { HashMap::new() }
    }

    fn write(&self, clip: &Clip, known: &HashMap<String, Vec<f32>>) -> Result<()> {
        std::fs::create_dir_all(&self.directory).map_err(|e| Error::io(&self.directory, e))?;
        let mut rows: Vec<_> = known.iter().collect();
        rows.sort_by_key(|(key, _)| *key);
        let keys: Vec<&String> = rows.iter().map(|(key, _)| *key).collect();
        let width = clip.config().projection;
        let features = Tensor::from_vec(rows.iter().flat_map(|(_, row)| row.iter().copied()).collect(), (rows.len(), width), &Device::Cpu)?;
        let metadata = HashMap::from([("tokens".to_string(), serde_json::json!(keys).to_string())]);
        save_tensors(self.file(clip), &[("features".to_string(), features)], metadata)
    }
}

/// Features of sentences, `[n, d]` f32, not normalised, in input order; only what the cache does not hold is computed. What is
/// computed goes to the cache once a minute, so a kill loses little, and an interrupt nothing.
///
/// # Errors
/// [`Error::Tokenizer`] for a text that cannot be tokenized, [`Error::Interrupted`] between two batches; a cache that cannot be
/// read or written is no error.
pub fn texts(clip: &Clip, sentences: &[String], cache: Option<&FeatureCache>, mut events: impl FnMut(&Event)) -> Result<Tensor> {
    let Some(cache) = cache else { return clip.encode_text_with(sentences, events) };
    let mut known = cache.read(clip);
    let tokens = clip.tokenizer().encode(sentences)?.ids;
    let keys: Vec<String> = tokens.iter().map(|ids| short_hash(&ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>())).collect();
    let mut missing: Vec<usize> = (0..sentences.len()).filter(|i| !known.contains_key(&keys[*i])).collect();
    let mut seen = HashSet::new();
    missing.retain(|i| seen.insert(&keys[*i]));
    if !missing.is_empty() {
        let wanted: Vec<&String> = missing.iter().map(|i| &sentences[*i]).collect();
        let mut saved = Instant::now();
        let encoded = clip.encode_text_each(&wanted, &mut events, |batch, rows| {
            let rows = rows.to_dtype(DType::F32)?.to_vec2::<f32>()?;
            known.extend(batch.iter().map(|i| keys[missing[*i]].clone()).zip(rows));
            if saved.elapsed() >= SAVE_EVERY {
                let _ = cache.write(clip, &known); // the last write says what is wrong
                saved = Instant::now();
            }
            Ok(())
        });
        if let Err(error) = cache.write(clip, &known) {
            events(&Event::Notice(format!("text features could not be cached: {error}")));
        }
        encoded?;
    }
    let rows: Vec<f32> = keys.iter().filter_map(|key| known.get(key)).flatten().copied().collect();
    Ok(Tensor::from_vec(rows, (sentences.len(), clip.config().projection), clip.device())?)
}

/// The first half of a SHA-256, in hex.
fn short_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

impl Dataset {
    /// Features of every picture's weak view, not normalised: `[n, d]` f32 in input order. [`images`] also takes
    /// progress events, another batch size or another function.
    ///
    /// # Errors
    /// As [`images`].
    pub fn embed(&self, clip: &Clip) -> Result<Outputs> {
        images(self, clip.preprocess(), clip.device(), BATCH, "embedding pictures", silent, |pixels| clip.encode_image(pixels))
    }
}

impl TextSet {
    /// Features of every sentence, `[n, d]` f32, not normalised, in the order of [`labels`](TextSet::labels).
    ///
    /// # Errors
    /// As [`texts`].
    pub fn embed(&self, clip: &Clip) -> Result<Tensor> {
        texts(clip, self.sentences(), None, |_| {})
    }
}
