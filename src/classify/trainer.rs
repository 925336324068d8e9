//! The loop of eq. 2 as a value: an epoch at a time, saved and resumed at any step.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Instant;

use candle_core::{D, DType, Tensor};
use serde::{Deserialize, Serialize};

use super::{Head, NoisyTexts, TextClassifier, TextClassifierConfig, TextEpoch, TextStart, ZeroShotClassifier};
use crate::checkpoint::{self, Autosave, Saved, is_loss};
use crate::error::{Error, Result};
use crate::nn::{AdamW, AdamWConfig, Linear, Param, ParamGroup};
use crate::progress::{Event, Stage, check_interrupt, watched};
use crate::ranks::{Ranks, file_of_first};
use crate::rng::Rng;

/// Running sums of the epoch under way; part of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct EpochSums {
    steps: usize,
    loss: f64,
    correct: usize,
}

/// Steps between two reads of their results from the device.
const READ_EVERY: usize = 16;

/// Trains a head on noisy text features; [`TextClassifier::fit`] is this with nothing between the epochs.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use lafter::{classify::{TextClassifierConfig, TextTrainer}, rng::Rng};
/// let features = Tensor::new(&[[1f32, 0.], [0.9, 0.1], [0., 1.]], &Device::Cpu)?;
/// let config = TextClassifierConfig { learning_rate: 0.05, ..TextClassifierConfig::official() };
/// let mut trainer = TextTrainer::new(&features, &[0, 0, 1], config, &mut Rng::new(1))?;
/// for _ in 0..50 {
///     let epoch = trainer.epoch()?; // look at it, stop early, save: the loop is yours
///     assert!(epoch.loss.is_finite());
/// }
/// assert_eq!(trainer.classifier()?.predict(&features)?, [0, 0, 1]);
/// # Ok::<(), lafter::Error>(())
/// ```
pub struct TextTrainer {
    config: TextClassifierConfig,
    texts: NoisyTexts,
    held_out: Option<HeldOut>,
    /// A hash of the text features and their classes, made when the first checkpoint needs it.
    fingerprint: OnceLock<String>,
    head: Head,
    params: Vec<Param>,
    optimizer: AdamW,
    /// The stream of order and noise; forked by epoch and step, so it never moves.
    rng: Rng,
    /// Steps taken, also those that were not read yet.
    done: usize,
    sums: EpochSums,
    history: Vec<TextEpoch>,
    /// Loss, number right and size of the steps whose results still lie on the device: reading them would make the host wait.
    unread: Vec<(Tensor, Tensor, usize)>,
    autosave: Option<Autosave>,
}

impl TextTrainer {
    /// A fresh head, drawn from `rng`, which also seeds order and noise; or the class means.
    ///
    /// # Shapes
    /// features `[n, d]` as the text tower gives them, labels n class indices.
    ///
    /// # Errors
    /// [`Error::Usage`] for settings that cannot work, [`Error::Shape`] if there is no text, not one label per text or a class without texts,
    /// [`Error::Weights`] for features that are not finite.
    pub fn new(features: &Tensor, labels: &[usize], config: TextClassifierConfig, rng: &mut Rng) -> Result<Self> {
        config.validate()?;
        let (n, width) = features.dims2()?;
        if n != labels.len() || n == 0 {
            return Err(Error::Shape(format!("{n} text features but {} labels: one label per text, and at least one text", labels.len())));
        }
        if !features.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?.is_finite() {
            return Err(Error::Weights(
                "text features hold values that are not finite: the text tower's weights or the cache of its features are damaged".into(),
            ));
        }
        let norms = features.to_dtype(DType::F32)?.sqr()?.sum(D::Minus1)?;
        if norms.min(0)?.to_scalar::<f32>()? == 0.0 {
            return Err(Error::Weights("a text feature is all zeros, which has no direction: the text tower's weights are damaged".into()));
        }
        let classes = classes_of(labels)?;
        let (features, labels, held_out) = keep_out(features, labels, config.hold_out, &rng.fork(0x686f_6c64))?;
        let (device, labels) = (features.device(), &labels[..]);
        let head = match (config.start, config.hidden) {
            (TextStart::ClassMeans, _) => {
                let means = ZeroShotClassifier::from_features(&features, labels, 1.0)?.weights; // [C, d]
                Head::new(vec![Linear::new(means, None)])
            }
            (TextStart::Random, None) => Head::linear(width, classes, rng, device)?,
            (TextStart::Random, Some(hidden)) => Head::mlp(width, hidden, classes, rng, device)?,
        };
        let (head, params) = head.trainable()?;
        let adamw = AdamWConfig { learning_rate: config.learning_rate, ..AdamWConfig::default() };
        Ok(Self {
            optimizer: AdamW::new(ParamGroup::decay_weights(&params, config.weight_decay), adamw)?,
            fingerprint: OnceLock::new(),
            held_out,
            texts: NoisyTexts::new(features.clone(), labels, config.noise, config.label_smoothing)?,
            rng: rng.fork(0x7465_7874),
            done: 0,
            sums: EpochSums::default(),
            history: Vec::new(),
            unread: Vec::new(),
            autosave: None,
            head,
            params,
            config,
        })
    }

    /// Trains the epochs that are left.
    ///
    /// # Errors
    /// As [`epoch`](Self::epoch).
    pub fn fit(&mut self, mut events: impl FnMut(&Event)) -> Result<TextClassifier> {
        let mut events = watched(&mut events);
        let (stage, total, started) = (Stage::from("text classifier"), self.config.epochs, Instant::now());
        let share = self.config.hold_out;
        if share > 0.0 && self.held_out.is_none() {
            let least = (1.0 / share).ceil();
            events(&Event::Notice(format!("hold_out {share} keeps no text out: no class has {least} texts")));
        }
        events(&Event::Started { stage: stage.clone(), total, unit: "epochs".into() });
        while self.history.len() < total {
            let known = self.history.len();
            self.run_epoch()?;
            // a GPU goes on with the next epochs while the host has not asked for results
            if self.texts.device().is_cpu() || self.unread.len() >= READ_EVERY || self.done >= total * self.steps() {
                self.read()?;
            }
            for TextEpoch { epoch, loss, accuracy } in &self.history[known..] {
                let (loss, accuracy) = (Some(*loss), Some(*accuracy));
                events(&Event::Advanced { stage: stage.clone(), done: *epoch, total, loss, accuracy });
            }
        }
        events(&Event::Finished { stage, seconds: started.elapsed().as_secs_f64() });
        self.classifier()
    }

    /// Lets the first rank train by `fit`; the others, whose trainers were made alike, take its end.
    ///
    /// # Errors
    /// As [`fit`](Self::fit); [`Error::Io`] if a temporary file cannot be written; if a rank is gone.
    pub(crate) fn fit_among(&mut self, ranks: &dyn Ranks, fit: impl FnOnce(&mut Self) -> Result<TextClassifier>) -> Result<TextClassifier> {
        if ranks.size() == 1 {
            return fit(self);
        }
        let scratch = tempfile::tempdir().map_err(|e| Error::io(std::env::temp_dir(), e))?;
        let end = scratch.path().join("end.safetensors");
        if ranks.rank() == 0 {
            fit(self)?;
            self.checkpoint(&end)?;
        }
        if let Some(copy) = file_of_first(ranks, Some(&end))? {
            self.resume(&copy)?;
        }
        self.classifier()
    }

    /// One pass over the texts. Interrupted, it stops between two steps: the trainer can be saved and goes on from there.
    ///
    /// # Errors
    /// [`Error::Interrupted`] between two steps; [`Error::Diverged`] if the epoch's loss is not finite; [`Error::Io`] if an
    /// autosave cannot be written.
    pub fn epoch(&mut self) -> Result<TextEpoch> {
        self.run_epoch()?;
        self.read()?;
        self.history.last().copied().ok_or_else(|| Error::Usage("no epoch was run".into()))
    }

    /// How many texts a step takes, and how many steps an epoch.
    fn sizes(&self) -> (usize, usize) {
        let n = self.texts.len();
        let batch_size = self.config.batch_size.unwrap_or(n).min(n);
        (batch_size, n.div_ceil(batch_size))
    }

    fn steps(&self) -> usize {
        self.sizes().1
    }

    /// The steps that are left of the epoch under way; results stay on the device but for every sixteenth step.
    fn run_epoch(&mut self) -> Result<()> {
        let (n, (batch_size, steps)) = (self.texts.len(), self.sizes());
        let epoch = self.done / steps;
        let rng = self.rng.fork(epoch as u64);
        let order = (steps > 1).then(|| shuffled(n, &mut rng.fork(u64::MAX)));
        while self.done < (epoch + 1) * steps {
            if let Err(stopped) = check_interrupt("the text classifier stopped between two steps") {
                self.read()?;
                return Err(stopped);
            }
            let step = self.done % steps;
            let rows = order.as_ref().map(|order| &order[step * batch_size..(step * batch_size + batch_size).min(n)]);
            self.step(rows, epoch * steps + step, self.config.epochs * steps, &mut rng.fork(step as u64))?;
            self.done += 1;
            if self.unread.len() == READ_EVERY {
                self.read()?;
            }
            if let Some(path) = self.autosave.as_ref().and_then(Autosave::due) {
                self.read()?;
                self.checkpoint(path)?;
                self.autosave.iter_mut().for_each(Autosave::saved);
            }
        }
        Ok(())
    }

    /// One step on the given rows, or on all; `step` of `total` places it in the schedule.
    fn step(&mut self, rows: Option<&[u32]>, step: usize, total: usize, rng: &mut Rng) -> Result<()> {
        let (loss, right) = self.texts.loss(&self.head, rows, rng)?;
        self.optimizer.step(&loss.backward()?, self.config.schedule.factor(step, total))?;
        self.unread.push((loss.detach(), right, rows.map_or(self.texts.len(), <[u32]>::len)));
        Ok(())
    }

    /// Adds the results of finished steps to the epoch's sums, and epochs that are over to the history.
    fn read(&mut self) -> Result<()> {
        for (loss, right, size) in std::mem::take(&mut self.unread) {
            self.sums.loss += f64::from(loss.to_scalar::<f32>()?) * size as f64;
            self.sums.correct += right.to_scalar::<f32>()? as usize;
            self.sums.steps += 1;
            self.close_epoch()?;
        }
        Ok(())
    }

    /// Notes the epoch if all its steps were read.
    fn close_epoch(&mut self) -> Result<()> {
        if self.sums.steps < self.steps() {
            return Ok(());
        }
        let (sums, n, epoch) = (std::mem::take(&mut self.sums), self.texts.len(), self.history.len() + 1);
        let record = TextEpoch { epoch, loss: (sums.loss / n as f64) as f32, accuracy: 100.0 * sums.correct as f32 / n as f32 };
        if !record.loss.is_finite() {
            let (loss, rate) = (record.loss, self.config.learning_rate);
            return Err(Error::Diverged(format!(
                "the text classifier's loss is {loss} in epoch {epoch}: lower its learning rate, now {rate}"
            )));
        }
        self.history.push(record);
        Ok(())
    }

    /// The classifier as it stands; later steps do not reach it.
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    pub fn classifier(&self) -> Result<TextClassifier> {
        Ok(TextClassifier { head: self.head.copy()? })
    }

    /// The texts that were [kept out](TextClassifierConfig::hold_out) of training.
    pub fn held_out(&self) -> Option<&HeldOut> {
        self.held_out.as_ref()
    }

    /// The epochs done so far.
    pub fn history(&self) -> &[TextEpoch] {
        &self.history
    }

    /// From now on, it saves checkpoints by itself while it trains.
    pub fn autosave(&mut self, autosave: Autosave) {
        self.autosave = Some(autosave);
    }

    /// Writes everything that a later [`resume`](Self::resume) needs to go on bit for bit (atomically).
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn checkpoint(&self, path: impl AsRef<Path>) -> Result<()> {
        let state = State {
            config: self.config.clone(),
            texts: self.fingerprint()?.to_string(),
            rng: self.rng.clone(),
            sums: self.sums.clone(),
            history: self.history.clone(),
        };
        checkpoint::save(path.as_ref(), KIND, state, &self.params, &self.optimizer, Vec::new())
    }

    fn fingerprint(&self) -> Result<&str> {
        match self.fingerprint.get() {
            Some(known) => Ok(known),
            None => {
                let hash = self.texts.fingerprint()?;
                Ok(self.fingerprint.get_or_init(|| hash))
            }
        }
    }

    /// Goes on where [`checkpoint`](Self::checkpoint) stopped; the trainer must have been made from the same texts and settings.
    ///
    /// # Errors
    /// [`Error::Usage`] for a checkpoint of another run, [`Error::Checkpoint`] for one of another stage or without its
    /// parameters, [`Error::Io`] or [`Error::Weights`] for a file that cannot be read.
    pub fn resume(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let saved = Saved::<State>::read(path.as_ref(), KIND, self.texts.device())?;
        let State { config, texts, rng, sums, history } = &saved.state;
        // the number of epochs changes nothing if the schedule is constant, unless more were begun already
        let (epochs, begun) = (self.config.epochs, history.len() + usize::from(sums.steps > 0));
        let other_length = TextClassifierConfig { epochs, ..config.clone() } == self.config && !self.config.schedule.depends_on_length();
        if !(*config == self.config || other_length) || *rng != self.rng || *texts != self.fingerprint()? {
            return Err(saved.foreign());
        }
        if epochs < begun {
            return Err(saved.longer(begun, "--text-epochs"));
        }
        if let Some(what) = self.impossible(&saved.state, saved.optimizer_steps()) {
            return Err(saved.broken(what));
        }
        let state = saved.restore(&self.params, &mut self.optimizer)?;
        self.done = state.history.len() * self.steps() + state.sums.steps;
        (self.sums, self.history) = (state.sums, state.history);
        self.unread.clear();
        self.close_epoch()
    }
}

impl TextClassifier {
    /// min_θ Σ_(t,c)∈T L_SCE( f_θ( u(t)/‖u(t)‖ + n ), c ), n ~ N(0, σ²I), drawn anew for every text at every step. (eq. 2)
    ///
    /// # Shapes
    /// features `[n, d]` as the text tower gives them, labels n class indices.
    ///
    /// # Errors
    /// [`Error::Usage`] for settings that cannot work, [`Error::Shape`] if there is no text or not one label per text,
    /// [`Error::Diverged`], [`Error::Interrupted`].
    pub fn fit(features: &Tensor, labels: &[usize], config: &TextClassifierConfig, rng: &mut Rng) -> Result<(Self, Vec<TextEpoch>)> {
        Self::fit_with(features, labels, config, rng, |_| {})
    }

    /// [`fit`](Self::fit) with progress events.
    ///
    /// # Errors
    /// As [`fit`](Self::fit).
    pub fn fit_with(
        features: &Tensor,
        labels: &[usize],
        config: &TextClassifierConfig,
        rng: &mut Rng,
        events: impl FnMut(&Event),
    ) -> Result<(Self, Vec<TextEpoch>)> {
        let mut trainer = TextTrainer::new(features, labels, config.clone(), rng)?;
        let classifier = trainer.fit(events)?;
        Ok((classifier, trainer.history().to_vec()))
    }
}

impl TextTrainer {
    /// What no training can have left behind.
    fn impossible(&self, State { sums, history, .. }: &State, optimizer_steps: usize) -> Option<String> {
        let (n, (batch_size, steps)) = (self.texts.len(), self.sizes());
        let seen = sums.steps.saturating_mul(batch_size).min(n);
        let done = history.len().checked_mul(steps).and_then(|done| done.checked_add(sums.steps));
        for (i, epoch) in history.iter().enumerate() {
            let TextEpoch { epoch: number, loss, accuracy } = *epoch;
            if number != i + 1 || !is_loss(loss.into()) || !(0.0..=100.0).contains(&accuracy) {
                return Some(format!("entry {} of its history cannot be: epoch {number}, loss {loss}, accuracy {accuracy} %", i + 1));
            }
        }
        let fits = sums.steps <= steps && sums.correct <= seen && is_loss(sums.loss);
        if !fits || done != Some(optimizer_steps) {
            return Some(format!(
                "its sums cannot be: {} epochs, then {} of {steps} steps, {} of {seen} texts right, loss {}, {optimizer_steps} steps in all",
                history.len(),
                sums.steps,
                sums.correct,
                sums.loss
            ));
        }
        None
    }
}

/// What a checkpoint keeps in addition to the tensors.
#[derive(Serialize, Deserialize)]
struct State {
    config: TextClassifierConfig,
    /// A hash of the text features and their classes.
    texts: String,
    rng: Rng,
    sums: EpochSums,
    history: Vec<TextEpoch>,
}

const KIND: &str = "text_classifier";

impl std::fmt::Debug for TextTrainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TextTrainer(epoch {}/{}, {} texts)", self.history.len(), self.config.epochs, self.texts.len())
    }
}

/// Texts that no training has seen.
#[derive(Clone, Debug)]
pub struct HeldOut {
    /// Their features `[n, d]`.
    pub features: Tensor,
    /// Their classes.
    pub labels: Vec<usize>,
}

impl HeldOut {
    /// The share of them whose class `head` names, 0 to 1.
    ///
    /// # Errors
    /// If the head expects features of another width (Candle's).
    pub fn right(&self, head: &Head) -> Result<f64> {
        let answers = TextClassifier { head: head.clone() }.predict(&self.features)?;
        Ok(answers.iter().zip(&self.labels).filter(|(answer, label)| answer == label).count() as f64 / self.labels.len() as f64)
    }
}

/// How many classes there are, each of which has a text.
fn classes_of(labels: &[usize]) -> Result<usize> {
    let mut classes = labels.to_vec();
    classes.sort_unstable();
    classes.dedup();
    match classes.iter().enumerate().find(|(place, class)| place != *class) {
        Some((place, class)) => {
            Err(Error::Shape(format!("class {place} has no text, and there is a class {class}: give each at least one")))
        }
        None => Ok(classes.len()),
    }
}

/// Features and labels to train on, and those kept out: of each class, `share` of its texts rounded down, drawn from `rng`.
fn keep_out(features: &Tensor, labels: &[usize], share: f64, rng: &Rng) -> Result<(Tensor, Vec<usize>, Option<HeldOut>)> {
    let mut out = vec![false; labels.len()];
    let mut by_class: Vec<Vec<usize>> = vec![Vec::new(); labels.iter().max().map_or(0, |max| max + 1)];
    labels.iter().enumerate().for_each(|(text, class)| by_class[*class].push(text));
    for (class, mut texts) in by_class.into_iter().enumerate() {
        rng.fork(class as u64).shuffle(&mut texts);
        let count = (share * texts.len() as f64) as usize; // below all of them, since the share is at most a half
        texts[..count].iter().for_each(|text| out[*text] = true);
    }
    if !out.contains(&true) {
        return Ok((features.clone(), labels.to_vec(), None));
    }
    let part = |kept_out: bool| {
        let rows: Vec<u32> = (0..labels.len() as u32).filter(|row| out[*row as usize] == kept_out).collect();
        let classes = rows.iter().map(|row| labels[*row as usize]).collect::<Vec<_>>();
        let rows = Tensor::new(rows, features.device())?;
        Ok::<_, Error>((features.index_select(&rows, 0)?, classes))
    };
    let ((features, labels), (held_out, classes)) = (part(false)?, part(true)?);
    Ok((features, labels, Some(HeldOut { features: held_out, labels: classes })))
}

fn shuffled(n: usize, rng: &mut Rng) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    rng.shuffle(&mut order);
    order
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::progress::with_notices;

    #[test]
    fn texts_kept_out_are_of_every_class_and_are_not_trained_on() {
        let labels: Vec<usize> = (0..30).map(|text| if text < 20 { 0 } else { text % 3 }).collect(); // 23 or 24, 3 and 4
        let values: Vec<f32> = labels.iter().enumerate().flat_map(|(text, class)| [1.0 + text as f32, *class as f32]).collect();
        let features = Tensor::from_vec(values, (30, 2), &Device::Cpu).unwrap();
        let keep = |share| keep_out(&features, &labels, share, &Rng::new(1)).unwrap();
        let (all, classes, none) = keep(0.0);
        assert!(all.dims() == [30, 2] && classes == labels && none.is_none());
        let (kept, classes, held_out) = keep(0.5);
        let held_out = held_out.unwrap();
        assert_eq!(kept.dim(0).unwrap() + held_out.features.dim(0).unwrap(), 30);
        for class in 0..3 {
            let of = |labels: &[usize]| labels.iter().filter(|label| **label == class).count();
            assert_eq!(of(&held_out.labels), of(&labels) / 2, "class {class}");
            assert!(of(&classes) > 0);
        }
        let rows = |tensor: &Tensor| tensor.to_vec2::<f32>().unwrap();
        assert!(rows(&kept).iter().all(|row| !rows(&held_out.features).contains(row)));
        assert!(rows(&held_out.features).iter().zip(&held_out.labels).all(|(row, label)| row[1] == *label as f32));

        let config = TextClassifierConfig { hold_out: 0.5, epochs: 1, ..TextClassifierConfig::official() };
        let trainer = TextTrainer::new(&features, &labels, config, &mut Rng::new(1)).unwrap();
        assert_eq!(trainer.texts.len(), kept.dim(0).unwrap());
        let right = trainer.held_out().unwrap().right(&trainer.head).unwrap();
        assert!((0.0..=1.0).contains(&right));

        // too few texts to keep one of a class
        let few = |hold_out| {
            let config = TextClassifierConfig { hold_out, epochs: 1, ..TextClassifierConfig::official() };
            with_notices(|events| TextClassifier::fit_with(&features, &labels, &config, &mut Rng::new(1), events).unwrap()).1
        };
        assert_eq!(few(0.04), ["hold_out 0.04 keeps no text out: no class has 25 texts"]);
        assert!(few(0.0).is_empty() && few(0.1).is_empty());
    }
}
