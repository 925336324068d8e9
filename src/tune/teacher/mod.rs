//! Who answers for a batch (eq. 3): one file a teacher. It sees the weak views, and its answer has no graph.

mod bank;
mod ema;
mod labeler;
mod tower;
mod transductive;

use candle_core::{DType, Result, Tensor};
use serde::{Deserialize, Serialize};

pub use bank::BankTeacher;
pub(in crate::tune) use bank::check_file;
pub use ema::Ema;
pub use labeler::Labeler;
pub use tower::TowerTeacher;
pub use transductive::Transductive;

use super::config::TeacherHead;
use super::pass::Pass;
use super::setup::Setup;
use super::targets::{Stateful, Targets, Views};
use super::tuned::Tuned;
use crate::classify::normalize;
use crate::clip::VisionTower;
use crate::data::Dataset;

/// Gives the pseudo-labels of a batch.
pub trait Teacher: Stateful {
    /// The answer to the weak views, with no graph.
    ///
    /// # Errors
    /// If the pixels do not fit (Candle's).
    fn targets(&self, views: &Views) -> Result<Targets>;

    /// Follows the student after its step, `step` counted from 0 over all epochs; by default it does nothing, since a teacher
    /// that shares the student's storage has followed already.
    ///
    /// # Errors
    /// Candle's.
    fn after_step(&mut self, student: &Tuned, step: usize) -> Result<()> {
        let _ = (student, step);
        Ok(())
    }

    /// Says which pictures a run is on, once for each run, also for one that is resumed; by default nothing. Gives what the user
    /// should know.
    ///
    /// # Errors
    /// If it cannot answer for them.
    fn open(&mut self, pictures: &Dataset) -> crate::error::Result<Vec<String>> {
        let _ = pictures;
        Ok(Vec::new())
    }

    /// Whether it has to [learn](Self::learn) before it is a teacher; by default no.
    fn learns(&self) -> bool {
        false
    }

    /// Learns from its own answers so far to all pictures of a run on `images` of them, before the first step and before the rules
    /// look at them. Gives what the user should know.
    ///
    /// # Errors
    /// Candle's.
    fn learn(&mut self, images: usize, pass: &Pass) -> crate::error::Result<Vec<String>> {
        let _ = (images, pass);
        Ok(Vec::new())
    }
}

/// Unit features of the weak views `[b, d]` for rules alone: zeros `[b, 1]` where none reads them.
fn unit_features(tower: &VisionTower, views: &Views) -> Result<Tensor> {
    match views.features {
        true => normalize(&tower.forward(&views.weak)?),
        false => Tensor::zeros((views.weak.dim(0)?, 1), DType::F32, views.weak.device()),
    }
}

/// A teacher in the settings. Its head is [`teacher_head`](super::FinetuneConfig::teacher_head).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TeacherKind {
    /// The student's tower without prompts: it gets better as the student's norms do (LaFTer).
    #[default]
    Tower,
    /// The tower as the CLIP came: what tuned norms do to the pseudo-labels is seen by comparing with it.
    Untuned,
    /// An average of the student over its steps (MUST).
    Ema(Ema),
    /// Another encoder's answers, from a file.
    Bank(BankTeacher),
    /// A small classifier on features, trained on the surest pictures (NoLA).
    Labeler(Labeler),
    /// A transductive method that answers for all pictures before training (StatA).
    Transduct(Transductive),
}

impl TeacherKind {
    /// What cannot work, in one line.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        match self {
            Self::Ema(settings) => settings.check(),
            Self::Bank(settings) => settings.check(),
            Self::Labeler(settings) => settings.check(),
            Self::Transduct(settings) => settings.0.check(),
            Self::Tower | Self::Untuned => Ok(()),
        }
    }

    /// The teacher, before the first step.
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    pub fn block(&self, setup: &Setup) -> Result<Box<dyn Teacher>> {
        let tower = match self {
            Self::Tower => setup.student.vision.detached(),
            Self::Untuned => setup.clip.vision().detached(),
            Self::Ema(settings) => return settings.block(setup),
            Self::Bank(settings) => return settings.block(setup),
            Self::Labeler(settings) => return settings.block(setup),
            Self::Transduct(settings) => return settings.block(setup),
        };
        let head = match setup.config.teacher_head {
            TeacherHead::Frozen => setup.head.copy()?,
            TeacherHead::Shared => setup.student.head.detached(),
        };
        Ok(Box::new(TowerTeacher { tower, head, temperature: setup.config.temperature }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::classify::{Head, TextClassifier};
    use crate::clip::Clip;
    use crate::data::scenes::{Domain, Scenes};
    use crate::rng::Rng;
    use crate::transduct::Transduct;
    use crate::tune::{Bank, FinetuneConfig, Finetuner, PassFn, Refine, Run};

    /// Keeps the features of all pictures and of each batch.
    struct Looks(Arc<Mutex<Vec<Tensor>>>);

    impl Stateful for Looks {
        fn kind(&self) -> &'static str {
            "looks"
        }
    }

    impl Refine for Looks {
        fn refine(&mut self, _: &Views, targets: Targets) -> Result<Targets> {
            self.0.lock().unwrap().push(targets.features.clone());
            Ok(targets)
        }

        fn prepare(&mut self, _: usize, pass: &mut PassFn) -> crate::error::Result<()> {
            self.0.lock().unwrap().push(pass()?.features);
            Ok(())
        }
    }

    /// Teachers that answer without a tower ask one as soon as there is a rule, also one that the settings do not name.
    #[test]
    fn a_rule_of_a_script_sees_unit_features_whoever_teaches() {
        let (clip, set, folder) = (Clip::demo().unwrap(), Dataset::new(Scenes::new(Domain::Target, 6, 3)), tempfile::tempdir().unwrap());
        let (classes, side, file) = (set.classes().len(), clip.config().vision.image_size, folder.path().join("answers.safetensors"));
        let names: Vec<String> = (0..set.len()).map(|i| set.name(i)).collect();
        let rows = Rng::new(1).normal_tensor((names.len(), classes), 1.0, clip.device()).unwrap();
        Bank::save(&file, &names, None, &[("logits".into(), rows.clone()), ("features".into(), rows)], HashMap::new()).unwrap();
        let labeler = Labeler { file: Some(file.clone()), epochs: 1, ..Labeler::default() };
        let transductive = TeacherKind::Transduct(Transductive(Transduct::default()));
        for teacher in [TeacherKind::Bank(BankTeacher { file }), TeacherKind::Labeler(labeler), transductive] {
            let shown = format!("{teacher:?}");
            let config = FinetuneConfig { epochs: 1, batch_size: 3, prompts: 1, teacher, ..FinetuneConfig::official() };
            let head = Head::linear(clip.config().projection, classes, &mut Rng::new(5), clip.device()).unwrap();
            let mut tuner = Finetuner::new(&clip, &TextClassifier { head }, config, &mut Rng::new(7)).unwrap();
            let seen = Arc::new(Mutex::new(Vec::new()));
            tuner.refine.push(Box::new(Looks(seen.clone())));
            let mut run = Run::new(tuner);
            run.fit(&set, |_| {}).unwrap();
            let seen = seen.lock().unwrap();
            assert_eq!(seen.len(), 3, "all pictures, then two batches");
            for features in seen.iter() {
                assert_eq!(features.dim(1).unwrap(), clip.config().projection, "{shown}");
                let lengths = features.sqr().unwrap().sum(1).unwrap().to_vec1::<f32>().unwrap();
                assert!(lengths.iter().all(|length| (length - 1.0).abs() < 1e-5), "{shown}: {lengths:?}");
            }
            let weak = Tensor::zeros((1, 3, side, side), DType::F32, clip.device()).unwrap();
            let unread = Views { indices: vec![0], features: false, ..Views::new(weak.clone(), weak) };
            assert_eq!(run.tuner.teacher.targets(&unread).unwrap().features.dims(), [1, 1], "{shown}: no tower without need");
        }
    }
}
