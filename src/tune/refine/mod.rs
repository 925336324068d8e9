//! What happens to pseudo-labels between teacher and loss: one file a rule.
//!
//! # A rule of your own
//! [`threshold.rs`](Threshold) is the pattern. Write one file next to it with
//! 1. a struct of the rule's settings, and its method `check`, which refuses values that cannot work;
//! 2. `impl Refine for` it: the rule itself, from [`Targets`] to [`Targets`]: other
//!    [probabilities](Targets::with_probabilities), other [weights](Targets::weighted);
//! 3. `impl Stateful for` it: its name, and what it remembers from step to step, if anything;
//! 4. its method `block`, which makes the rule out of its settings: `Ok(Box::new(self.clone()))`;
//! 5. `impl Flow for` it: what it reads, and what it changes; settings in which nothing after a rule reads what it changes are refused.
//!
//! A rule that looks at all pictures before training does so in [`prepare`](Refine::prepare), one that looks again after an epoch
//! in [`after_epoch`](Refine::after_epoch).
//!
//! Then give it a line in [`RefineKind`], below its `mod`. Settings (`--set 'tune.refine=[{"your_rule": {}}]'`) and their list,
//! ablations, checkpoints, reports and the public name of its settings follow from that line. In a script or a cell not even that is
//! needed: `tuner.refine.push(Box::new(YourRule))`.

mod align;
mod candidates;
mod flex_match;
mod free_match;
mod prototypes;
mod relative;
mod threshold;
mod top_k;
mod top_share;

use candle_core::Result;

pub use candidates::candidates;
pub use prototypes::prototypes;
pub use relative::relative;
pub use threshold::Over;
pub use top_k::{TopKRule, top_k};

use super::pass::Pass;
use super::role::role;
use super::targets::{Stateful, Targets, Views};

/// One rule on the way from the teacher's answer to the loss. Rules stand in a list and act in its order.
pub trait Refine: Stateful {
    /// What becomes of the targets of this batch. Nothing is read back to the host here: a GPU would have to wait.
    ///
    /// # Errors
    /// If the targets lack what it needs (Candle's).
    fn refine(&mut self, views: &Views, targets: Targets) -> Result<Targets>;

    /// Before the first step of a run on `images` pictures; by default nothing. `pass` is the teacher's answer to all of them, made
    /// when it is first asked for: it takes as long as the pictures take to pass the tower. A run that is resumed does not call it
    /// again.
    ///
    /// # Errors
    /// Those of `pass`, [`Error::Interrupted`](crate::Error::Interrupted) among them, which leave the rule as it was.
    fn prepare(&mut self, images: usize, pass: &mut PassFn) -> crate::error::Result<()> {
        let _ = (images, pass);
        Ok(())
    }

    /// After the last step of an epoch, counted from 0; by default nothing. `pass` is as in [`prepare`](Self::prepare), by the
    /// teacher as it is now. A run that is stopped here calls it again, which must then give the same.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare).
    fn after_epoch(&mut self, epoch: usize, pass: &mut PassFn) -> crate::error::Result<()> {
        let _ = (epoch, pass);
        Ok(())
    }

    /// The pictures worth training on, in ascending order: the epoch runs over these alone. `None`, the default: all.
    fn images(&self) -> Option<&[u32]> {
        None
    }

    /// What the user should know after [`prepare`](Self::prepare) or [`after_epoch`](Self::after_epoch), each told once.
    fn notices(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// Gives the teacher's answer to all pictures of a run.
pub type PassFn<'a> = dyn FnMut() -> crate::error::Result<Pass> + 'a;

role! {
    /// A rule in the settings, as JSON: `{"threshold": {"above": 0.7}}`.
    pub enum RefineKind: Refine {
        /// Leaves out pseudo-labels that are not sure.
        Threshold(threshold::Threshold),
        /// Keeps the surest share of each batch.
        TopShare(top_share::TopShare),
        /// Leaves out what is less sure than the model usually is of that class.
        FreeMatch(free_match::FreeMatch),
        /// Leaves out what is not sure, with lower thresholds for classes that few pictures were sure of.
        FlexMatch(flex_match::FlexMatch),
        /// Names classes less that were named too often.
        Align(align::Align),
        /// Mixes in the answer of image prototypes.
        Prototypes(prototypes::Prototypes),
        /// Weighs pseudo-labels by how far all sources agree with them.
        Relative(relative::Relative),
        /// Keeps several classes for a picture that is not sure.
        Candidates(candidates::Candidates),
        /// Trains on the surest pictures of each class alone.
        TopK(top_k::TopK),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;

    /// The list of names in the settings' documentation is the enum's own, so that a new rule needs no other line.
    #[test]
    fn the_names_are_those_that_settings_read() {
        let refused = serde_json::from_str::<RefineKind>(r#"{"no_rule": {}}"#).unwrap_err().to_string();
        let known: Vec<&str> = refused.split('`').skip(3).step_by(2).collect();
        assert_eq!(RefineKind::names(), known);
        let listed = crate::settings::list(&crate::LafterConfig::default());
        let rules = &listed.iter().find(|setting| setting.path == "tune.refine").unwrap().meaning;
        assert!(rules.contains(&RefineKind::names().join(", ")), "{rules}");
    }

    /// Whether a tensor's values are these, to what f32 allows.
    pub(crate) fn close(ours: &Tensor, expected: &[f32]) {
        let ours = ours.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let near = ours.len() == expected.len() && ours.iter().zip(expected).all(|(a, b)| (a - b).abs() < 3e-6);
        assert!(near, "{ours:?}, expected {expected:?}");
    }

    /// The first pictures of a data set, and a teacher's answer to them.
    pub(crate) fn batch<const C: usize>(probabilities: &[[f32; C]]) -> (Views, Targets) {
        let pictures = probabilities.len();
        let probabilities = Tensor::from_slice(probabilities.as_flattened(), (pictures, C), &Device::Cpu).unwrap();
        let targets = Targets::new(Tensor::zeros((pictures, 2), DType::F32, &Device::Cpu).unwrap(), probabilities).unwrap();
        let indices = (0..pictures as u32).collect();
        (Views { indices, ..Views::new(targets.features.clone(), targets.features.clone()) }, targets)
    }
}
