//! Stage two: visual prompts, layer-norm affines and the head learn from the tower's own pseudo-labels (eq. 3, eq. 4).

mod adapter;
mod checkpoint;
mod config;
mod finetuner;
mod older;
mod prompts;
mod records;
mod run;
mod sets;
mod strong;
mod trainable;
mod tuned;

pub use adapter::AdapterInfo;
pub use config::{FinetuneConfig, TeacherHead};
pub use finetuner::Finetuner;
pub(crate) use older::MOVED;
pub use prompts::VisualPrompts;
pub use records::{EpochRecord, StepRecord};
pub use run::Run;
pub use sets::{HeadWeights, Norms, ParameterSet, Prompts, standard};
pub use strong::StrongConfig;
pub use trainable::Trainable;
pub use tuned::Tuned;
