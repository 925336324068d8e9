//! A feature labeler: a small classifier on another encoder's features, trained on the surest pictures of each class, answers for all
//! (NoLA, Imam et al. 2024).

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::{Teacher, TowerTeacher, check_file, unit_features};
use crate::checkpoint::all;
use crate::classify::{Head, normalize, smoothed_cross_entropy};
use crate::data::Dataset;
use crate::error::{self, Error};
use crate::nn::{AdamW, AdamWConfig, ParamGroup};
use crate::progress::check_interrupt;
use crate::rng::Rng;
use crate::tune::bank::{Bank, Stored};
use crate::tune::refine::top_k;
use crate::tune::{Pass, Setup, Stateful, Targets, TopK, TopKRule, Views};

/// Before training, the text classifier names the pictures by the untuned tower; the surest of each class train two layers
/// d → hidden → C with a ReLU between on the features of a [file](crate::tune::Bank), by Adam and plain cross entropy. These layers
/// then are the teacher.
///
/// NoLA's second encoder is DINO's ViT-B/16. Without a file the features are those of the CLIP itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Labeler {
    /// The file with the features of all pictures; default null, the CLIP's own.
    pub file: Option<PathBuf>,
    /// Width of the hidden layer, at least 1; default 256.
    pub hidden: usize,
    /// Passes over the pictures chosen, at least 1; default 50.
    pub epochs: usize,
    /// Pictures per step, at least 1; default 32.
    pub batch_size: usize,
    /// η of Adam, above 0; default 1e-3.
    pub learning_rate: f64,
    /// Which pictures are chosen: `upl` or `nola`; default nola.
    pub rule: TopKRule,
    /// k, the pictures of each class, at least 1; default 16.
    pub k: usize,
    /// With `nola`, k is at least this share of n/C, 0 to 1; default 0.2.
    pub share: f64,
}

impl Default for Labeler {
    fn default() -> Self {
        let (file, hidden, epochs, batch_size, learning_rate) = (None, 256, 50, 32, 1e-3);
        Self { file, hidden, epochs, batch_size, learning_rate, rule: TopKRule::Nola, k: 16, share: 0.2 }
    }
}

impl Labeler {
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        if let Some(file) = &self.file {
            check_file(file, "labeler")?;
        }
        for (field, value) in [("hidden", self.hidden), ("epochs", self.epochs), ("batch_size", self.batch_size), ("k", self.k)] {
            if !(1..=1_000_000).contains(&value) {
                return Err(format!("labeler: {field} must be 1 to 1000000, got {value}"));
            }
        }
        if !(self.learning_rate > 0.0 && self.learning_rate <= 100.0) {
            return Err(format!("labeler: learning_rate must be above 0 and up to 100, got {}", self.learning_rate));
        }
        if !(0.0..=1.0).contains(&self.share) {
            return Err(format!("labeler: share must lie in [0, 1], got {}", self.share));
        }
        Ok(())
    }

    pub(super) fn block(&self, setup: &Setup) -> Result<Box<dyn Teacher>> {
        let (head, temperature) = (setup.head.copy()?, setup.config.temperature);
        let tower = TowerTeacher { tower: setup.clip.vision().detached(), head, temperature };
        let rng = setup.rng.fork(0x6c61_6265);
        Ok(Box::new(Labeling { settings: self.clone(), tower, rng, features: None, layers: None }))
    }

    /// Trains the two layers on features `[m, d]` with labels `[m]`.
    ///
    /// # Errors
    /// If there is not one label per row (Candle's); [`Error::Diverged`] if a loss is not finite.
    pub fn train(&self, features: &Tensor, labels: &Tensor, classes: usize, rng: &mut Rng) -> error::Result<Head> {
        let ((rows, width), device) = (features.dims2()?, features.device().clone());
        let (head, params) = Head::mlp(width, self.hidden, classes, rng, &device)?.trainable()?;
        let config = AdamWConfig { learning_rate: self.learning_rate, ..AdamWConfig::default() };
        let mut optimizer = AdamW::new(ParamGroup::decay_weights(&params, 0.0), config)?;
        let mut order: Vec<u32> = (0..rows as u32).collect();
        for _ in 0..self.epochs {
            check_interrupt("labeler")?;
            rng.shuffle(&mut order);
            for batch in order.chunks(self.batch_size) {
                let batch = Tensor::new(batch, &device)?;
                let logits = head.forward(&features.index_select(&batch, 0)?)?;
                let loss = smoothed_cross_entropy(&logits, &labels.index_select(&batch, 0)?, 0.0)?;
                optimizer.step(&loss.backward()?, 1.0)?;
            }
        }
        for param in &params {
            if !all(&param.var, f32::is_finite)? {
                let rate = self.learning_rate;
                return Err(Error::Diverged(format!("labeler: its layers are no longer finite: lower its learning_rate, now {rate}")));
            }
        }
        Ok(head.copy()?)
    }
}

struct Labeling {
    settings: Labeler,
    /// Who answers until the layers are trained, and whose features are read without a file.
    tower: TowerTeacher,
    rng: Rng,
    /// Features of all pictures `[n, d]`, on the CPU.
    features: Option<Stored>,
    layers: Option<Head>,
}

impl Teacher for Labeling {
    fn targets(&self, views: &Views) -> Result<Targets> {
        let Some(layers) = &self.layers else { return self.tower.targets(views) };
        if self.settings.file.is_some() && self.features.is_none() {
            candle_core::bail!("labeler reads features by picture: let a Run lead the tuner through a data set");
        }
        let (features, seen) = match &self.features {
            None => normalize(&self.tower.tower.forward(&views.weak)?).map(|own| (own.clone(), own))?, // [b, d]
            Some(stored) => {
                let seen = stored.of_batch(views)?;
                (unit_features(&self.tower.tower, views)?, seen)
            }
        };
        let logits = layers.forward(&seen)?; // [b, C]
        Targets::of_logits(features, &logits, self.tower.temperature)
    }

    fn open(&mut self, pictures: &Dataset) -> error::Result<Vec<String>> {
        let Some(file) = &self.settings.file else { return Ok(Vec::new()) };
        let (features, notices) = Bank::read(file)?.features(pictures)?;
        self.features = Some(Stored::new(features)?);
        Ok(notices)
    }

    fn learns(&self) -> bool {
        self.layers.is_none()
    }

    fn learn(&mut self, images: usize, pass: &Pass) -> error::Result<Vec<String>> {
        let Labeler { rule, k, share, .. } = self.settings;
        let (classes, k) = (self.tower.head.classes(), TopK { rule, k, share }.per_class(images, self.tower.head.classes()));
        let p = pass.probabilities.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
        let (chosen, labels) = top_k(&p, classes, k, rule == TopKRule::Nola);
        let device = pass.features.device();
        let features = match &self.features {
            None => pass.features.index_select(&Tensor::new(&chosen[..], device)?, 0)?,
            Some(stored) => {
                let pictures: Vec<u32> = chosen.iter().map(|row| pass.indices[*row as usize]).collect();
                stored.rows.index_select(&Tensor::new(pictures, &Device::Cpu)?, 0)?.to_device(device)?
            }
        };
        let labels = Tensor::new(&labels[..], device)?;
        self.layers = Some(self.settings.train(&features, &labels, classes, &mut self.rng.clone())?);
        Ok(vec![format!("labeler: trained on {} of {images} pictures, at most {k} a class", chosen.len())])
    }
}

impl Stateful for Labeling {
    fn kind(&self) -> &'static str {
        "labeler"
    }

    fn reads(&self) -> Option<String> {
        self.features.as_ref().map(|features| features.hash.clone())
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        self.layers.as_ref().map(Head::tensors).unwrap_or_default()
    }

    fn restore(&mut self, saved: &HashMap<String, Tensor>) -> Result<()> {
        if saved.is_empty() {
            self.layers = None;
            return Ok(());
        }
        let layers = Head::from_tensors(saved)?;
        let classes = self.tower.head.classes();
        if layers.classes() != classes || layers.layers.len() != 2 {
            candle_core::bail!("expected two layers that answer {classes} classes");
        }
        self.layers = Some(layers);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two layers learn what one cannot: which of two signs agree.
    #[test]
    fn the_layers_learn_and_the_seed_decides() {
        let corners = [[1f32, 1.], [1., -1.], [-1., 1.], [-1., -1.]];
        let features = Tensor::from_vec((0..64).flat_map(|i| corners[i % 4]).collect::<Vec<_>>(), (64, 2), &Device::Cpu).unwrap();
        let labels = Tensor::from_vec((0..64).map(|i| u32::from(matches!(i % 4, 1 | 2))).collect::<Vec<_>>(), 64, &Device::Cpu).unwrap();
        let settings = Labeler { hidden: 16, epochs: 100, batch_size: 16, learning_rate: 1e-2, ..Labeler::default() };
        let train = |seed| settings.train(&features, &labels, 2, &mut Rng::new(seed)).unwrap().forward(&features).unwrap();
        let answers = train(1);
        assert_eq!(answers.argmax(1).unwrap().to_vec1::<u32>().unwrap(), labels.to_vec1::<u32>().unwrap());
        assert_eq!(answers.to_vec2::<f32>().unwrap(), train(1).to_vec2::<f32>().unwrap());
        assert_ne!(answers.to_vec2::<f32>().unwrap(), train(2).to_vec2::<f32>().unwrap());
    }

    /// A step that f32 does not hold.
    #[test]
    fn layers_that_are_not_finite_are_refused() {
        let features = Tensor::new(&[[1f32, 0.5], [0.5, 1.0]], &Device::Cpu).unwrap();
        let settings = Labeler { hidden: 3, epochs: 1, learning_rate: 1e39, ..Labeler::default() };
        let error = settings.train(&features, &Tensor::new(&[0u32, 1], &Device::Cpu).unwrap(), 2, &mut Rng::new(1)).unwrap_err();
        assert!(matches!(&error, Error::Diverged(what) if what.contains("learning_rate")), "{error}");
    }

    /// A run that was resumed knows the layers before the pictures: the CLIP's own features, which may be as wide, are not the file's.
    #[test]
    fn layers_on_a_file_do_not_answer_before_it_is_read() {
        let clip = crate::Clip::demo().unwrap();
        let (width, side) = (clip.config().projection, clip.config().vision.image_size);
        let head = Head::linear(width, 3, &mut Rng::new(1), &Device::Cpu).unwrap();
        let layers = Some(Head::mlp(width, 4, 3, &mut Rng::new(2), &Device::Cpu).unwrap());
        let tower = TowerTeacher { tower: clip.vision().clone(), head, temperature: 1.0 };
        let mut labeling = Labeling { settings: Labeler::default(), tower, rng: Rng::new(3), features: None, layers };
        let weak = Tensor::zeros((1, 3, side, side), candle_core::DType::F32, &Device::Cpu).unwrap();
        let views = Views::new(weak.clone(), weak);
        assert!(labeling.targets(&views).is_ok());
        labeling.settings.file = Some("features.safetensors".into());
        assert!(labeling.targets(&views).unwrap_err().to_string().contains("labeler reads features by picture"));
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let good = Labeler::default;
        assert!(good().check().is_ok());
        for (bad, word) in [
            (Labeler { hidden: 0, ..good() }, "hidden"),
            (Labeler { learning_rate: f64::NAN, ..good() }, "learning_rate"),
            (Labeler { share: 1.5, ..good() }, "share"),
            (Labeler { file: Some(PathBuf::new()), ..good() }, "file"),
        ] {
            assert!(bad.check().unwrap_err().contains(word));
        }
    }
}
