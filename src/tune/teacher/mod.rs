//! Who answers for a batch (eq. 3): one file a teacher. It sees the weak views, and its answer has no graph.

mod bank;
mod ema;
mod labeler;
mod tower;
mod transductive;

use candle_core::Result;
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
