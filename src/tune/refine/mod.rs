//! What happens to pseudo-labels between teacher and loss: one file a rule.
//!
//! # A rule of your own
//! [`threshold.rs`](Threshold) is the pattern. Write one file next to it with
//! 1. a struct of the rule's settings, and its method `check`, which refuses values that cannot work;
//! 2. `impl Refine for` it: the rule itself, from [`Targets`] to [`Targets`]: other
//!    [probabilities](Targets::with_probabilities), other [weights](Targets::weighted);
//! 3. `impl Stateful for` it: its name, and what it remembers from step to step, if anything;
//! 4. its method `block`, which makes the rule out of its settings: `Ok(Box::new(self.clone()))`.
//!
//! Then give it a line in [`RefineKind`], below its `mod`. Settings (`--set 'tune.refine=[{"your_rule": {}}]'`), ablations, checkpoints
//! and reports follow from that line. In a script or a cell not even that is needed: `tuner.refine.push(Box::new(YourRule))`.

mod threshold;

use candle_core::Result;

pub use threshold::{Over, Threshold};

use super::role::role;
use super::targets::{Stateful, Targets, Views};

/// One rule on the way from the teacher's answer to the loss. Rules stand in a list and act in its order.
pub trait Refine: Stateful {
    /// What becomes of the targets of this batch. Nothing is read back to the host here: a GPU would have to wait.
    ///
    /// # Errors
    /// Where the targets lack what it needs (Candle's).
    fn refine(&mut self, views: &Views, targets: Targets) -> Result<Targets>;
}

role! {
    /// A rule in the settings, as JSON: `{"threshold": {"above": 0.7}}`.
    pub enum RefineKind: Refine {
        /// Leaves out pseudo-labels that are not sure.
        Threshold(Threshold),
    }
}
