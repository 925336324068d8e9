//! The stages composed: class names and texts in, a tuned classifier of pictures out.

use std::path::Path;

use candle_core::{D, Device, Tensor};
use image::RgbImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::augment::{Form, Transfer};
use crate::classify::{TextClassifier, TextEpoch, TextTrainer};
use crate::clip::Clip;
use crate::data::Dataset;
use crate::describe::TextSet;
use crate::embed::{self, FeatureCache, Pass};
use crate::error::{Error, Result, cut};
use crate::eval::Evaluation;
use crate::hub::folder_name;
use crate::nn::softmax;
use crate::progress::{Event, check_interrupt, silent};
use crate::ranks::{Alone, Ranks};
use crate::settings::{LafterConfig, Preset};
use crate::tune::{EpochRecord, Finetuner, HeadForm, Run, Tuned, WeightsInfo};

/// One picture's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Index of the most probable class.
    pub index: usize,
    /// Name of that class.
    pub class: String,
    /// Softmax probability of that class, 0 to 1.
    pub confidence: f32,
    /// Softmax probabilities of all classes, in their order.
    pub probabilities: Vec<f32>,
}

/// LaFTer on one CLIP and one set of classes.
///
/// ```
/// use lafter::{LaFTer, Preset, clip::Clip, data::{Dataset, scenes::{Domain, Scenes}}, describe::{Templates, TextSet}};
/// let classes = lafter::data::scenes::class_names();
/// let mut lafter = LaFTer::new(Clip::demo()?, &classes).preset(Preset::Demo);
/// lafter.config.text.epochs = 20;
/// lafter.config.tune.epochs = 1;
/// let texts = TextSet::new(&classes)?.with_templates(&Templates::clip_ensemble());
/// lafter.fit_text(&texts)?; // eq. 2
/// let pictures = Dataset::new(Scenes::new(Domain::Target, 50, 1));
/// lafter.fit_images(&pictures, |_| {})?; // eq. 3 and 4
/// let answer = &lafter.predict(&[pictures.image(0)?])?[0];
/// assert!(classes.contains(&answer.class));
/// # Ok::<(), lafter::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LaFTer {
    /// The settings; change them before a stage is run.
    pub config: LafterConfig,
    clip: Clip,
    classes: Vec<String>,
    classifier: Option<TextClassifier>,
    tuned: Option<Tuned>,
}

impl LaFTer {
    /// An untrained LaFTer with the official settings; `classes` in the order of the logits.
    pub fn new(clip: Clip, classes: &[impl AsRef<str>]) -> Self {
        let classes = classes.iter().map(|class| class.as_ref().to_string()).collect();
        Self { config: LafterConfig::default(), clip, classes, classifier: None, tuned: None }
    }

    /// Replaces the settings by a preset's, keeping the seed.
    pub fn preset(mut self, preset: Preset) -> Self {
        self.config = LafterConfig { seed: self.config.seed, ..LafterConfig::new(preset) };
        self
    }

    /// Stage one: trains the text classifier (eq. 2). A later call forgets an earlier tuning.
    ///
    /// # Errors
    /// [`Error::Text`] if the texts belong to other classes or a class has none; [`Error::Usage`] for settings that cannot
    /// work; [`Error::Diverged`]; [`Error::Interrupted`].
    pub fn fit_text(&mut self, texts: &TextSet) -> Result<Vec<TextEpoch>> {
        self.fit_text_with(texts, None, silent)
    }

    /// [`fit_text`](Self::fit_text) with a cache of text features and progress events.
    ///
    /// # Errors
    /// As [`fit_text`](Self::fit_text).
    pub fn fit_text_with(&mut self, texts: &TextSet, cache: Option<&FeatureCache>, events: impl FnMut(&Event)) -> Result<Vec<TextEpoch>> {
        self.fit_text_among(&Alone, texts, cache, events)
    }

    /// [`fit_text_with`](Self::fit_text_with) shared among ranks: each embeds some of the texts, the first trains, and all get the
    /// classifier of one process.
    ///
    /// # Errors
    /// As [`fit_text`](Self::fit_text); if a rank is gone.
    pub fn fit_text_among(
        &mut self,
        ranks: &dyn Ranks,
        texts: &TextSet,
        cache: Option<&FeatureCache>,
        mut events: impl FnMut(&Event),
    ) -> Result<Vec<TextEpoch>> {
        let mut trainer = self.text_trainer_among(ranks, texts, cache, &mut events)?;
        self.set_text_classifier(trainer.fit_among(ranks, |trainer| trainer.fit(&mut events))?);
        Ok(trainer.history().to_vec())
    }

    /// A trainer of stage one as configured, not yet run.
    ///
    /// # Errors
    /// [`Error::Text`] if the texts belong to other classes or a class has none; [`Error::Usage`] for settings that cannot
    /// work; [`Error::Interrupted`].
    pub fn text_trainer(&self, texts: &TextSet, cache: Option<&FeatureCache>, events: impl FnMut(&Event)) -> Result<TextTrainer> {
        self.text_trainer_among(&Alone, texts, cache, events)
    }

    /// [`text_trainer`](Self::text_trainer) of a process that shares the texts with others; the trainer is the same on each.
    pub(crate) fn text_trainer_among(
        &self,
        ranks: &dyn Ranks,
        texts: &TextSet,
        cache: Option<&FeatureCache>,
        events: impl FnMut(&Event),
    ) -> Result<TextTrainer> {
        if texts.classes() != self.classes {
            return Err(Error::Text(
                "the text set was made for other classes: build it from the same class names, in the same order".into(),
            ));
        }
        let mut named = vec![false; self.classes.len()];
        texts.labels().iter().for_each(|class| named[*class] = true);
        if let Some(class) = named.iter().position(|named| !named) {
            let name = &self.classes[class];
            return Err(Error::Text(format!("class \"{name}\" has no text to learn from: give every class a template or a description")));
        }
        let features = embed::texts_among(ranks, &self.clip, texts.sentences(), cache, events)?;
        TextTrainer::new(&features, texts.labels(), self.config.text.clone(), &mut self.config.text_rng())
    }

    /// Takes a classifier as the result of stage one and forgets an earlier tuning.
    pub fn set_text_classifier(&mut self, classifier: TextClassifier) {
        self.classifier = Some(classifier);
        self.tuned = None;
    }

    /// Stage two: tunes on unlabeled images (eq. 3 and 4). With 0 epochs there is no stage two, and the text classifier is the result.
    /// [`finetuner`](Self::finetuner) puts the loop into your own hands.
    ///
    /// # Errors
    /// [`Error::Usage`] before stage one or for settings that cannot work; [`Error::Data`] if the images have labels of other classes;
    /// otherwise as [`Run::fit_epoch`].
    pub fn fit_images(&mut self, unlabeled: &Dataset, events: impl FnMut(&Event)) -> Result<Vec<EpochRecord>> {
        if unlabeled.has_labels() {
            same_classes("the training set", unlabeled.classes(), &self.classes)?;
        }
        let mut run = Run::new(self.finetuner()?);
        let history = run.fit(unlabeled, events)?;
        self.tuned = (!history.is_empty()).then(|| run.tuner.tuned()); // without a step, visual prompts are noise
        Ok(history)
    }

    /// A tuner of stage two as configured, not yet run.
    ///
    /// # Errors
    /// [`Error::Usage`] before stage one or for settings that cannot work; [`Error::Shape`] if the text classifier
    /// expects features of another width.
    pub fn finetuner(&self) -> Result<Finetuner> {
        Finetuner::new(&self.clip, self.text_classifier()?, self.config.tune.clone(), &mut self.config.tune_rng())
    }

    /// The classifier of stage one.
    ///
    /// # Errors
    /// [`Error::Usage`] before stage one.
    pub fn text_classifier(&self) -> Result<&TextClassifier> {
        self.classifier.as_ref().ok_or_else(|| Error::Usage("there is no text classifier yet: call fit_text first".into()))
    }

    /// The classifier of stage one in the [form](crate::tune::FinetuneConfig::head_form) in which it is tuned, and answers until then: a
    /// temperature is part of a probability.
    pub(crate) fn answering_classifier(&self) -> Result<TextClassifier> {
        Ok(TextClassifier { head: self.config.tune.head_form.of(&self.text_classifier()?.head)? })
    }

    /// The result of stage two.
    pub fn tuned(&self) -> Option<&Tuned> {
        self.tuned.as_ref()
    }

    /// The CLIP underneath, untouched by tuning.
    pub fn clip(&self) -> &Clip {
        &self.clip
    }

    /// The class names, in the order of the logits.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Takes a tuner's state as the result of stage two.
    pub fn set_tuned(&mut self, tuned: Tuned) {
        self.tuned = Some(tuned);
    }

    /// Logits of pixels `[batch, 3, side, side]` → `[batch, C]`: of the tuned tower, or of the text classifier before stage two, in
    /// the form of the head that is tuned.
    ///
    /// # Errors
    /// [`Error::Usage`] before stage one or for a cosine head of an MLP, [`Error::Candle`] if the pixels do not fit the tower.
    pub fn logits(&self, pixels: &Tensor) -> Result<Tensor> {
        match &self.tuned {
            Some(tuned) => Ok(tuned.logits(pixels)?),
            None => Ok(self.answering_classifier()?.logits(&self.clip.encode_image(pixels)?)?),
        }
    }

    /// Classifies pictures.
    ///
    /// # Errors
    /// [`Error::Usage`] before stage one, [`Error::Shape`] if the head has another number of classes, [`Error::Weights`] for
    /// logits that are not finite.
    pub fn predict(&self, pictures: &[RgbImage]) -> Result<Vec<Prediction>> {
        let mut predictions = Vec::with_capacity(pictures.len());
        let (weak, device) = (self.clip.preprocess(), self.clip.device());
        let (mut pixels, form) = (Transfer::new(weak, device)?, Form::new(device));
        for batch in pictures.chunks(embed::BATCH) {
            check_interrupt("predicting")?;
            let views = batch.par_iter().map(|picture| form.view(weak.image(picture))).collect();
            predictions.extend(read_logits(&self.logits(&pixels.batch(views)?)?, &self.classes)?);
        }
        Ok(predictions)
    }

    /// Compares with the labels of a data set of the same classes.
    ///
    /// # Errors
    /// [`Error::Usage`] before stage one; [`Error::Data`] if the images have no labels or other classes, or too many cannot be read;
    /// [`Error::Interrupted`].
    pub fn evaluate(&self, test: &Dataset, events: impl FnMut(&Event)) -> Result<Evaluation> {
        test.require_labels()?;
        same_classes("the test set", test.classes(), &self.classes)?;
        Pass::new(test, &self.clip, "evaluating").run(events, |pixels| self.logits(pixels))?.evaluate(test)
    }

    /// What a saved file says about this run.
    pub fn info(&self) -> WeightsInfo {
        WeightsInfo {
            base_model: self.base_model(),
            base_commit: self.clip.summary().commit.clone(),
            weights_hash: self.clip.weights_hash().to_string(),
            classes: self.classes.clone(),
            preset: self.config.preset.name().to_string(),
            seed: self.config.seed,
            normalize: self.tuned.as_ref().map_or(self.config.tune.normalize_student, |tuned| tuned.normalize),
            scale: self.tuned.as_ref().map_or(self.config.tune.head_form.scale(), |tuned| tuned.head.scale),
            precision: self.tuned.as_ref().and_then(|tuned| tuned.vision.precision()),
            vision: Some(self.clip.config().vision.clone()),
            preprocess: Some(self.clip.preprocess().clone()),
            version: env!("CARGO_PKG_VERSION").to_string(),
        }
    }

    /// The CLIP's name, which says by `./` where it is that of a folder.
    fn base_model(&self) -> String {
        let id = self.clip.id();
        if Path::new(id).exists() { folder_name(id) } else { id.to_string() }
    }

    /// Reads LaFTer weights over the CLIP that they were trained on. Of the settings, the file knows preset, seed, precision and
    /// whether features are normalized.
    ///
    /// # Errors
    /// [`Error::LafterWeights`] if it holds no LaFTer weights, or those of another CLIP.
    pub fn load(path: impl AsRef<Path>, clip: Clip) -> Result<Self> {
        let (tuned, info) = Tuned::load(path, &clip)?;
        let mut lafter = Self::new(clip, &info.classes).preset(Preset::from_name(&info.preset).unwrap_or_default());
        lafter.config.seed = info.seed;
        lafter.config.tune.normalize_student = tuned.normalize;
        lafter.config.tune.head_form = tuned.head.scale.map_or(HeadForm::Plain, |scale| HeadForm::Cosine { scale });
        lafter.config.tune.precision = info.precision.unwrap_or_default();
        lafter.tuned = Some(tuned);
        Ok(lafter)
    }

    /// Writes prompts, norms and head, a few hundred kB on top of the user's own CLIP: what [`Tuned::save`] writes.
    ///
    /// # Errors
    /// [`Error::Usage`] before stage two, [`Error::Io`] if the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let tuned = self.tuned.as_ref().ok_or_else(|| Error::Usage("there is nothing to save yet: call fit_images first".into()))?;
        tuned.save(path, &self.info())
    }
}

/// Refuses labels that number other classes, or the same in another order.
pub(crate) fn same_classes(set: &str, found: &[String], wanted: &[String]) -> Result<()> {
    let remedy = "give both the same list (--classes; in code, Dataset::with_classes)";
    if found.len() != wanted.len() {
        return Err(Error::Data(format!("{set} has {} classes, and there are {}: {remedy}", found.len(), wanted.len())));
    }
    match found.iter().zip(wanted).position(|(found, wanted)| found != wanted) {
        Some(at) => {
            let (found, wanted) = (cut(&found[at]), cut(&wanted[at]));
            Err(Error::Data(format!("{set} calls class {at} \"{found}\", and it is \"{wanted}\": {remedy}")))
        }
        None => Ok(()),
    }
}

/// Softmax over logits `[n, C]`, read out.
pub(crate) fn read_logits(logits: &Tensor, classes: &[String]) -> Result<Vec<Prediction>> {
    let width = logits.dim(D::Minus1)?;
    if width != classes.len() {
        let names = classes.len();
        return Err(Error::Shape(format!("{width} logits for {names} class names: take those that the head was trained with")));
    }
    let rows = softmax(&logits.to_device(&Device::Cpu)?)?.to_vec2::<f32>()?;
    if rows.iter().flatten().any(|probability| !probability.is_finite()) {
        return Err(Error::Weights(
            "a picture's logits are not finite: the weights are damaged or overflow in their number type: load them in f32, or copy them again".into(),
        ));
    }
    let read = |probabilities: Vec<f32>| {
        let best = |best: usize, i: usize| if probabilities[i] > probabilities[best] { i } else { best };
        let index = (0..probabilities.len()).fold(0, best);
        Prediction { index, class: classes[index].clone(), confidence: probabilities[index], probabilities }
    };
    Ok(rows.into_iter().map(read).collect())
}
