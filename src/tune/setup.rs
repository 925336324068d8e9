//! What the blocks of a step are made from: CLIP, text classifier, student, settings.

use super::config::FinetuneConfig;
use super::sets::ParameterSet;
use super::tuned::Tuned;
use crate::classify::Head;
use crate::clip::Clip;
use crate::nn::Param;
use crate::rng::Rng;

/// What the blocks of a step may be made from.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    /// The CLIP as it came.
    pub clip: &'a Clip,
    /// The text classifier's head, in the [form](FinetuneConfig::head_form) of the settings.
    pub head: &'a Head,
    /// What learns, with its graph; blocks that keep a part of it share its storage.
    pub student: &'a Tuned,
    /// The settings.
    pub config: &'a FinetuneConfig,
    /// What learns, as sets.
    pub sets: &'a [Box<dyn ParameterSet>],
    /// What learns: the variables that the sets made of the student's tensors, in their order.
    pub params: &'a [Param],
    /// Randomness, to be forked: it does not move.
    pub rng: &'a Rng,
}
