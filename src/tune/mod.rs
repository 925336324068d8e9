//! Stage two: visual prompts, layer-norm affines and the head learn from the tower's own pseudo-labels (eq. 3, eq. 4).

mod checkpoint;
mod config;
mod finetuner;
pub mod objective;
mod older;
mod prompted;
mod prompts;
mod records;
pub mod refine;
mod role;
mod run;
mod sets;
mod setup;
mod state;
mod strong;
mod targets;
pub mod teacher;
mod trainable;
mod tuned;
mod weights;

pub use config::{FinetuneConfig, TeacherHead};
pub use finetuner::Finetuner;
pub use objective::{CrossEntropy, Fairness, Objective, Term, TermKind};
pub(crate) use older::MOVED;
pub use prompts::VisualPrompts;
pub use records::{EpochRecord, StepRecord};
pub use refine::{Over, Refine, RefineKind, Threshold};
pub use run::Run;
pub use sets::{HeadWeights, Norms, ParameterSet, Prompts, standard};
pub use setup::Setup;
pub use strong::StrongConfig;
pub use targets::{Stateful, Targets, Views};
pub use teacher::{Teacher, TeacherKind, TowerTeacher};
pub use trainable::Trainable;
pub use tuned::Tuned;
pub use weights::WeightsInfo;
