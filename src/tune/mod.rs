//! Stage two: visual prompts, layer-norm affines and the head learn from the tower's own pseudo-labels (eq. 3, eq. 4).
//!
//! | | |
//! |---|---|
//! | [`ParameterSet`] | what learns, a list: prompts, norms, head; biases and low-rank updates if asked for |
//! | [`Teacher`] | who answers for the weak views (eq. 3) |
//! | [`Refine`] | rules on the answer, in the order of the settings; none in LaFTer. A rule of your own: [`refine`] |
//! | [`Term`] | the loss on the strong views, a weighted sum (eq. 4) |
//! | [`Finetuner`] | the step out of these: `targets`, `loss`, `apply` |
//! | [`Run`] | the step on a data set: epochs, views made ahead, progress, unreadable pictures, history, checkpoints |
//! | [`Tuned`] | the result: it predicts, and is saved as a LaFTer file |

mod bank;
mod biases;
mod checkpoint;
mod config;
mod finetuner;
mod head_form;
mod low_rank;
mod memory;
pub mod objective;
mod older;
mod parts;
mod pass;
mod prompted;
mod prompts;
mod records;
pub mod refine;
mod role;
mod rows;
mod run;
mod sets;
mod setup;
mod state;
mod strong;
mod targets;
pub mod teacher;
mod trainable;
mod tuned;
mod weak_crop;
mod weights;

pub use bank::Bank;
pub use biases::Biases;
pub use config::{FinetuneConfig, TeacherHead};
pub use finetuner::Finetuner;
pub use head_form::HeadForm;
pub use low_rank::{LowRankConfig, LowRankUpdates, Projection};
pub use memory::StepMemory;
pub use objective::*;
pub(crate) use older::MOVED;
pub use pass::Pass;
pub use prompts::VisualPrompts;
pub use records::{EpochRecord, StepRecord};
pub use refine::*;
pub use run::Run;
pub use sets::{HeadWeights, Norms, ParameterSet, Prompts, known, standard};
pub use setup::Setup;
pub use strong::StrongConfig;
pub use targets::{Stateful, Targets, Views};
pub use teacher::{BankTeacher, Ema, Labeler, Teacher, TeacherKind, TowerTeacher, Transductive};
pub use trainable::Trainable;
pub use tuned::Tuned;
pub use weak_crop::WeakCrop;
pub use weights::WeightsInfo;
