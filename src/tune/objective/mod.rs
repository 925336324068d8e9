//! What the student learns from (eq. 4 and its companions): a weighted sum of terms, one file a term.
//!
//! A term of your own is one file with its settings, `impl Term` and `impl Stateful`, and a line in [`TermKind`]; the rules next
//! door ([`RefineKind`](super::RefineKind)) are made the same way, and [their module](super::refine) says it step by step.

mod alignment;
mod candidates;
mod cross_entropy;
mod distillation;
mod fairness;
mod information;

use candle_core::{Result, Tensor};

pub use distillation::distillation;

use super::role::role;
use super::setup::Setup;
use super::targets::{Stateful, Targets, Views};
use super::tuned::Tuned;
use crate::data::Dataset;

/// One term of the loss.
pub trait Term: Stateful {
    /// The student's logits `[b, C]` on the strong views, with their graph → scalar. Nothing is read back to the host here.
    ///
    /// # Errors
    /// If logits and targets do not fit (Candle's).
    fn loss(&mut self, views: &Views, student: &Tuned, logits: &Tensor, targets: &Targets) -> Result<Tensor>;

    /// Whether it is the mean over the batch of what each picture gives by itself, and keeps nothing: a step in
    /// [parts](super::FinetuneConfig::micro_batch) is cheaper then. By default no, which is never wrong.
    fn by_picture(&self) -> bool {
        false
    }

    /// As [`Teacher::open`](super::Teacher::open).
    ///
    /// # Errors
    /// If it lacks something about them.
    fn open(&mut self, pictures: &Dataset) -> crate::error::Result<Vec<String>> {
        let _ = pictures;
        Ok(Vec::new())
    }
}

role! {
    /// A term in the settings, as JSON: `"cross_entropy"`, `{"fairness": {"averaged": true}}`.
    pub enum TermKind: Term {
        /// Smoothed cross entropy with the pseudo-labels.
        CrossEntropy(cross_entropy::CrossEntropy),
        /// All classes should be answered about equally often.
        Fairness(fairness::Fairness),
        /// The head's rows should name the image prototypes.
        Alignment(alignment::Alignment),
        /// One of the candidate classes is right.
        Candidates(candidates::CandidateClasses),
        /// Each answer should be sure, all together should name every class.
        Information(information::Information),
        /// The answers of another encoder, from a file.
        Distillation(distillation::Distillation),
    }
}

/// Σ weight · term.
pub struct Objective {
    /// Weight and term, in the order of the settings.
    pub terms: Vec<(f64, Box<dyn Term>)>,
}

impl Objective {
    /// The terms of the settings, before the first step.
    ///
    /// # Errors
    /// If the device has no memory left (Candle's).
    pub fn new(terms: &[(f64, TermKind)], setup: &Setup) -> Result<Self> {
        Ok(Self { terms: terms.iter().map(|(weight, kind)| Ok((*weight, kind.block(setup)?))).collect::<Result<_>>()? })
    }

    /// The sum, with its graph.
    ///
    /// # Errors
    /// If there is no term, or one fails.
    pub fn loss(&mut self, views: &Views, student: &Tuned, logits: &Tensor, targets: &Targets) -> Result<Tensor> {
        let terms = self.each(views, student, logits, targets)?;
        self.sum(&terms)
    }

    /// The loss of each term, before its weight.
    pub(super) fn each(&mut self, views: &Views, student: &Tuned, logits: &Tensor, targets: &Targets) -> Result<Vec<Tensor>> {
        self.terms.iter_mut().map(|(_, term)| term.loss(views, student, logits, targets)).collect()
    }

    /// Whether all terms are means over the pictures.
    pub(super) fn by_picture(&self) -> bool {
        self.terms.iter().all(|(_, term)| term.by_picture())
    }

    /// Σ weight · loss.
    pub(super) fn sum(&self, losses: &[Tensor]) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        for ((weight, _), loss) in self.terms.iter().zip(losses) {
            let loss = if *weight == 1.0 { loss.clone() } else { (loss * *weight)? };
            sum = Some(match sum {
                None => loss,
                Some(sum) => (sum + loss)?,
            });
        }
        sum.ok_or_else(|| candle_core::Error::msg("the objective has no term: give it at least cross_entropy"))
    }

    /// The name of each term; a further one of a kind has its number.
    pub(super) fn names(&self) -> Vec<String> {
        let kinds: Vec<&str> = self.terms.iter().map(|(_, term)| term.kind()).collect();
        let number = |i: usize| kinds[..=i].iter().filter(|kind| **kind == kinds[i]).count();
        (0..kinds.len()).map(|i| if number(i) > 1 { format!("{} {}", kinds[i], number(i)) } else { kinds[i].into() }).collect()
    }
}
